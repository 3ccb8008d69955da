"""What a person watches while a run goes: one line a step on a terminal, plain lines elsewhere.

Invariant: telling costs a few additions a unit, whatever the number of units; what is drawn is drawn by the clock.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from .progress import Progress
from .terminal import plural, seconds, share, size, visible

BAR, BAR_FROM = 20, 110  # characters; left out on a terminal narrower than that
REFRESHES = 4  # a second
COUNTED = ("kept", "dropped", "quarantined")  # in the receipts of the ledger
PLAIN_SHARE = 0.1  # a plain line for each tenth of a step,
PLAIN_LEAST, PLAIN_MOST = 1.0, 30.0  # but none sooner than so many seconds after the last, and one at least so often


@dataclass
class Step:
    """A step as it is known here. `done` counts the units committed before; rates are of what this process saw."""

    name: str
    units: int
    before: int
    began: float
    done: int
    ended: float | None = None
    rows: int = 0
    bytes: int = 0
    judged: int = 0  # rows of receipts that say how many of them are kept
    alive: int = 0
    phase: str = ""  # of a resolve step: 'choose 3 of 14'

    def took(self, now: float) -> float:
        return (self.ended if self.ended is not None else now) - self.began

    def add(self, receipt: dict[str, Any]) -> None:
        """One more unit. A task that writes tells the rows it wrote, one of the ledger what it counted."""
        self.done += 1
        judged = receipt.get("rows", 0) if "unit" in receipt else sum(receipt.get(name, 0) for name in COUNTED)
        self.rows += judged or receipt.get("rows", 0)
        self.bytes += receipt.get("read_bytes") or receipt.get("text_bytes") or 0
        self.judged += judged
        self.alive += receipt.get("alive", 0) if "unit" in receipt else receipt.get("kept", 0)

    def figures(self, now: float) -> dict[str, str]:
        """'docs/s', 'MB/s', 'kept', 'left': what can be said so far, in words; absent where nothing can."""
        found: dict[str, str] = {}
        took, told = self.took(now), self.done - self.before
        if took > 0 and self.rows:
            found["docs/s"] = f"{self.rows / took:,.0f} docs/s"
        if took > 0 and self.bytes:
            found["MB/s"] = f"{self.bytes / took / 1e6:,.1f} MB/s"
        if self.judged:
            found["kept"] = f"{share(self.alive, self.judged)} kept"
        if told and self.done < self.units and self.ended is None:
            found["left"] = f"{seconds((self.units - self.done) * took / told)} left"
        return found


class Display(Progress):
    """Shows a run on `file` (default: standard error, so that standard output holds the summary alone).

    `terminal`: draw and redraw (default: whether `file` is a terminal that can); else plain lines are written, without
    control characters: when a step begins, about every tenth of it or 30 s, when it ends.
    """

    def __init__(
        self, file: TextIO | None = None, *, terminal: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.file = file if file is not None else sys.stderr
        able = self.file.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.terminal = able if terminal is None else terminal
        self.clock = clock
        self.steps: list[Step] = []
        self._live: Any = None
        self._console: Any = None
        self._said = 0.0  # when the last plain line of the step was written
        self._tenths = 0

    def begin(self, step: str, units: int, done: int) -> None:
        now = self.clock()
        self.steps.append(Step(visible(step), units, done, now, done))
        if self.terminal:
            self._draw()
            return
        self._said, self._tenths = now, int(done / units / PLAIN_SHARE) if units else 0
        before = f", {done:,} done before" if done else ""
        self._line(f"{visible(step)}: begins, {plural(units, 'unit')}{before}")

    def unit(self, step: str, receipt: dict[str, Any]) -> None:
        now, current = self.clock(), self.steps[-1]
        current.add(receipt)
        if self.terminal or now - self._said < PLAIN_LEAST:
            return
        tenths = int(current.done / current.units / PLAIN_SHARE) if current.units else 0
        if tenths > self._tenths or now - self._said >= PLAIN_MOST:
            self._said, self._tenths = now, tenths
            self._line(_progress(current, now))

    def phase(self, name: str, done: int, items: int) -> None:
        now, current = self.clock(), self.steps[-1]
        current.phase = f"{visible(name)} {done:,} of {items:,}"
        if not self.terminal and items and now - self._said >= PLAIN_MOST:
            self._said = now
            self._line(f"{current.name}: {current.phase}, after {seconds(current.took(now))}")

    def end(self, step: str) -> None:
        current = self.steps[-1]
        current.ended = self.clock()
        if not self.terminal:
            self._line(_ended(current))

    def say(self, text: str) -> None:
        for line in map(visible, text.splitlines()):
            if self._live is not None:
                self._console.print(line, markup=False, highlight=False)
            else:
                self._line(line)

    def close(self) -> None:
        """Leaves the last picture standing. May be called twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self, text: str) -> None:
        print(text, file=self.file, flush=True)

    # --- drawing

    def _draw(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=self.file, force_terminal=True, highlight=False)
            self._live = Live(console=self._console, get_renderable=self._picture, refresh_per_second=REFRESHES)
            self._live.start()

    def _picture(self) -> Any:
        """A row a step: name, bar, units, figures."""
        from rich.table import Table
        from rich.text import Text

        now = self.clock()
        console = self._console
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "left", "right", "right", "right", "right", "right", "right"):
            table.add_column(justify=justify, no_wrap=True)
        for step in self.steps[-max(1, console.height - 2) :]:  # what is above the window cannot be redrawn
            figures = step.figures(now)
            whole = step.ended is not None and step.done in (step.before, step.units)  # resolve steps tell no units
            full = BAR if whole else round(BAR * step.done / step.units) if step.units else 0
            bar = Text("━" * full, "green" if step.ended is not None else "cyan") + Text("━" * (BAR - full), "dim")
            units = f"{step.units if whole else step.done:,} of {step.units:,}"
            units = step.phase if step.phase and step.ended is None else units
            cells = [figures.get(name, "") for name in ("docs/s", "MB/s", "kept")]
            took = seconds(step.took(now))
            shown = bar if console.width >= BAR_FROM else ""
            table.add_row(Text(step.name), shown, units, *cells, took, figures.get("left", ""))
        return table


def _progress(step: Step, now: float) -> str:
    about = ", ".join(step.figures(now).values())
    return f"{step.name}: {share(step.done, step.units)}, {step.done:,} of {plural(step.units, 'unit')}{', ' if about else ''}{about}"


def _ended(step: Step) -> str:
    parts = [f"{step.name}: ended after {seconds(step.took(0.0))}"]
    told = step.done - step.before
    if told and step.done < step.units:
        parts.append(f"{step.done:,} of {plural(step.units, 'unit')}")
    if step.rows:
        parts.append(plural(step.rows, "document"))
    if step.bytes:
        parts.append(size(step.bytes))
    return ", ".join([*parts, *step.figures(0.0).values()])
