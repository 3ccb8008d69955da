"""What a run tells while it goes: an interface, and the silent version."""

from __future__ import annotations

from typing import Any


class Progress:
    """Told by the driver; shows nothing. `display.Display` is the one people see.

    `begin(step, units, done)`: a step starts, so many units, so many committed before. `unit(step, receipt)`: one more.
    `phase(name, done, items)`: how far a phase of a resolve step is with the items that were left to do. `end(step)`.
    `say(text)`: a line worth keeping.
    """

    def begin(self, step: str, units: int, done: int) -> None: ...

    def unit(self, step: str, receipt: dict[str, Any]) -> None: ...

    def phase(self, name: str, done: int, items: int) -> None: ...

    def end(self, step: str) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...
