"""Two Ray workers against one, on the corpus many times over.

Invariant: only the per-unit steps are compared, at full speed: the clock starts when every worker has delivered its
first unit, which leaves out Ray's start, and stops at the last receipt, so that the tail counts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import checks
from corpora import Bench
from figures import Row

TARGET = 1.7


def rows(bench: Bench) -> list[Row]:
    """Documents per second of two workers, as a multiple of those of one."""
    if (os.cpu_count() or 1) < 2:
        return []
    pattern = bench.repeated
    speeds: dict[int, float] = {}
    runs: dict[str, Any] = {}
    outputs = []
    for workers in (1, 2):
        output = bench.scratch / f"ray-{workers}"
        outputs.append(output)
        recipe = bench.recipe(pattern, output, unit_size=bench.sizes.unit, keep_work="none")
        runs[f"workers_{workers}"] = bench.run(recipe, executor="ray", workers=workers)
        speeds[workers] = documents_per_second(output / "log.jsonl", workers)
    counts = [run["counts"] for run in runs.values()]
    wrong = checks.all_of(
        [
            *(checks.sums(one, bench.rows * bench.sizes.copies) for one in counts),
            checks.verified(outputs[0]),
            checks.same_results(outputs),
        ]
    )
    for output in outputs:
        bench.forget(output)
    return [
        Row(
            "scaling",
            f"two Ray workers, {bench.text_bytes * bench.sizes.copies / 1e9:.1f} GB: {speeds[2]:,.0f} documents per s",
            speeds[2] / speeds[1],
            "times one worker",
            "more",
            TARGET,
            f"one worker: {speeds[1]:,.0f} documents per s",
            "sums, verify, equal results",
            wrong,
            {**runs, "documents_per_second": speeds},
        )
    ]


def documents_per_second(log: Path, workers: int) -> float:
    """Documents of the units that came after each worker's first, over the seconds that they took."""
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    units = sorted((event["time"], event["rows"]) for event in events if event["event"] == "unit")
    later = units[workers:]
    return sum(rows for _, rows in later) / (later[-1][0] - units[workers - 1][0])
