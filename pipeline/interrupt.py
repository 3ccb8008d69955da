"""Ctrl-C: the first asks the run to stop after the work at hand, the second stops it at once.

Invariant: an interrupt never breaks into a file that is being written, where libraries would turn it into an error of
their own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """`with Interrupts(say) as stop:` and `stop.check()` between pieces of work, which raises KeyboardInterrupt.
    Outside the main thread Python allows no handlers, and this does nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
        self.say("stopping after the work at hand; Ctrl-C again stops at once")

    def check(self) -> None:
        if self.asked:
            raise KeyboardInterrupt
