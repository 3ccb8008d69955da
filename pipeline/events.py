"""log.jsonl: one JSON line per event of a run; no hash covers it.

Invariant: logging never stops a run.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from ..stages.errors import SetupError
from .storage import Storage

NAME = "log.jsonl"


class EventLog:
    """Appends locally; on an object store lines are kept and put as one file at every `flush`."""

    def __init__(self, storage: Storage, run: str) -> None:
        self.storage, self.run = storage, run
        self._lines: list[str] = []
        if not storage.local:
            with contextlib.suppress(FileNotFoundError):
                self._lines = storage.read(NAME).decode("utf-8", "replace").splitlines()

    def __call__(self, event: str, **facts: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "run": self.run, "event": event, **facts}, default=str)
        if not self.storage.local:
            self._lines.append(line)
            return
        with contextlib.suppress(OSError), open(self.storage.full(NAME), "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def flush(self) -> None:
        if not self.storage.local:
            with contextlib.suppress(OSError, SetupError):
                self.storage.write(NAME, "".join(f"{line}\n" for line in self._lines).encode())
