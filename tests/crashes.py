"""Makes the process stop at one chosen commit: a file written, created, moved or removed, before or after it took effect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest

from tamis.pipeline import replace
from tamis.pipeline.storage import Storage


class Crash(BaseException):
    """Nothing catches it, and what it passes through cleans up no more than a dead process would."""


class Crasher:
    """Counts commits; at number `at` the process stops, before the commit or right after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> None:
        self.at, self.after, self.count, self.where = at, after, 0, ""
        for name in ("write", "create", "remove", "remove_tree"):
            monkeypatch.setattr(Storage, name, self._wrapped(getattr(Storage, name)))
        monkeypatch.setattr(Storage, "writer", self._writer(Storage.writer))
        monkeypatch.setattr(replace, "_move", self._wrapped(replace._move))

    def _step(self, path: str) -> bool:
        if path.startswith(("lock", ".lock")) or path == "log.jsonl":
            return False
        self.count += 1
        if self.count == self.at:
            self.where = path
        return self.count == self.at

    def _wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(storage: Storage, path: str, *arguments: Any) -> Any:
            crash = self._step(path)
            if crash and not self.after:
                raise Crash
            result = method(storage, path, *arguments)
            if crash:
                raise Crash
            return result

        return call

    def _writer(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def call(storage: Storage, path: str) -> Iterator[BinaryIO]:
            crash = self._step(path)
            with method(storage, path) as file:
                yield file
                if crash and not self.after:
                    raise Crash
            if crash:
                raise Crash

        return call
