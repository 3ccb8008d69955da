"""What a run tells while it goes: an interface, and the silent version."""

from __future__ import annotations

from typing import Any


class Progress:
    """Told by the driver; shows nothing. `display.Display` is the one people see.

    `begin(step, units, done)`: a step starts, so many units, so many committed before. `unit(step, receipt)`: one more.
    `end(step)`. `say(text)`: a line worth keeping.
    """

    def begin(self, step: str, units: int, done: int) -> None: ...

    def unit(self, step: str, receipt: dict[str, Any]) -> None: ...

    def end(self, step: str) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...
