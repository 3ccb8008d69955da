"""One driver at a time on one output: lock.json, created only if absent, with a heartbeat.

Invariant: a lock is taken over only when its owner cannot be alive: its process is gone on this host (pid and start
time), or, on another host, its heartbeat is older than STALE_SECONDS.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ..stages.errors import SetupError
from .storage import Storage

NAME = "lock.json"
STALE_SECONDS = 60
BEAT_SECONDS = 10


class Lock:
    """`with Lock(storage, run):` holds the output. SetupError names who holds it."""

    def __init__(self, storage: Storage, run: str) -> None:
        self.storage, self.run = storage, run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="tamis-lock")

    def __enter__(self) -> Lock:
        for _ in range(5):
            if self.storage.create(NAME, self._record()):
                self._thread.start()
                return self
            owner = self._owner()
            if owner is not None and (holder := _alive(owner)):
                raise SetupError(
                    f"{self.storage.root}: run {owner.get('run')} holds this output ({holder}); wait for it, or stop it"
                )
            self._clear(owner)
        raise SetupError(f"{self.storage.root}: could not take {NAME}; other drivers keep taking it")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        owner = self._owner()
        if owner is not None and owner.get("run") == self.run:
            self.storage.remove(NAME)

    def _record(self) -> bytes:
        pid = os.getpid()
        record = {
            "run": self.run,
            "host": socket.gethostname(),
            "pid": pid,
            "started": _started(pid),
            "beat": time.time(),
        }
        return json.dumps(record).encode()

    def _owner(self) -> dict[str, Any] | None:
        try:
            record = json.loads(self.storage.read(NAME))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    def _clear(self, owner: dict[str, Any] | None) -> None:
        """Removes a dead owner's lock. On this host one driver at a time may look and remove; the kernel frees the
        guard of one that dies there. On an object store the gap between looking and removing is one request."""
        if owner is None:
            return
        with self._guard():
            if self._owner() == owner:
                self.storage.remove(NAME)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        if not self.storage.local:
            yield
            return
        with open(self.storage.full(".lock-guard"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with contextlib.suppress(SetupError, OSError):  # a full disk is told by the run itself
                self.storage.write(NAME, self._record())


def holder(storage: Storage) -> str:
    """Who holds an output now, in words; empty if nobody can. Reads only."""
    try:
        record = json.loads(storage.read(NAME))
    except (FileNotFoundError, ValueError):
        return ""
    return _alive(record) if isinstance(record, dict) else ""


def _started(pid: int) -> str:
    """The process's start time as the kernel tells it; a pid alone may have been given to another process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _alive(owner: dict[str, Any]) -> str:
    """Who holds the lock, for the message; empty if nobody can."""
    if not owner:
        return ""
    age = time.time() - float(owner.get("beat", 0))
    pid = int(owner.get("pid", 0))
    if owner.get("host") == socket.gethostname():
        started = _started(pid)
        if started:
            return f"pid {pid} on this host" if started == owner.get("started") else ""
        if Path("/proc").is_dir():
            return ""
    return f"pid {pid} on {owner.get('host')}, heartbeat {age:.0f} s ago" if age < STALE_SECONDS else ""
