"""What the benchmark says: one row per target, the table, the JSON.

Invariant: a figure stands beside its baseline and beside what was checked of the result; a row whose result was wrong
is never `met`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

PACKAGES = ("tamis", "pyarrow", "numba", "numpy", "duckdb", "ray")


@dataclass(frozen=True)
class Row:
    """One figure. `baseline`: what it is held against, with its own figure of the same call; `checked`: what was found
    right; `wrong`: what was not; `runs`: the raw measurements behind the figure."""

    part: str
    what: str
    figure: float
    unit: str
    better: Literal["more", "less"]
    target: float
    baseline: str
    checked: str
    wrong: str = ""
    runs: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """The target is reached and the result is right."""
        reached = self.figure >= self.target if self.better == "more" else self.figure <= self.target
        return reached and not self.wrong


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| part | what | figure | target | met | baseline, same call | result |", "|---|---|--:|--:|---|---|---|"]
    for row in rows:
        sign = "at least" if row.better == "more" else "at most"
        figure, target = f"{_short(row.figure)} {row.unit}", f"{sign} {_short(row.target)} {row.unit}"
        result = f"WRONG: {row.wrong}" if row.wrong else f"right: {row.checked}"
        met = "met" if row.met else "NOT MET"
        lines.append(f"| {row.part} | {row.what} | {figure} | {target} | {met} | {row.baseline} | {result} |")
    return "\n".join(lines)


def report(rows: Sequence[Row], notes: dict[str, Any]) -> str:
    """The rows, `notes` and what they were measured on, as JSON."""
    facts = {"machine": machine(), **notes, "rows": [{**asdict(row), "met": row.met} for row in rows]}
    return json.dumps(facts, indent=1) + "\n"


def machine() -> dict[str, Any]:
    """Processor, cores, load, Python and the versions of what does the work."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    load = round(os.getloadavg()[0], 2)
    return {"processor": model, "cores": os.cpu_count(), "load": load, "python": platform.python_version(), **versions}


def exit_code(rows: Sequence[Row]) -> int:
    """1 where a result was wrong. A missed target is a finding, not a failure: machines differ and may be busy."""
    return int(any(row.wrong for row in rows))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
