"""`tamis plan --from` a 1 % run against the whole run, on the corpus many times over.

Invariant: the sample and the whole run are of the same recipe and input; the truth is the CPU of the whole process, the
bytes that stand on disk at its end, and what was kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checks
from corpora import Bench
from figures import Row
from processes import tamis
from ruamel.yaml import YAML

TARGET = 1.3
SHARE = "1%"


def rows(bench: Bench) -> list[Row]:
    """How far the estimate is off: the larger of it and the truth over the smaller."""
    sample, whole = bench.scratch / "estimate-sample", bench.scratch / "estimate-whole"
    share = SHARE if bench.sizes.copies > 2 else "50%"
    recipe = bench.recipe(bench.repeated, whole)
    bench.run({**recipe, "output": str(sample), "sample": share})
    with open(bench.scratch / "estimate.yaml", "w", encoding="utf-8") as file:
        YAML().dump(recipe, file)
    found = json.loads(tamis("plan", bench.scratch / "estimate.yaml", "--from", sample, "--json").text)
    run = bench.run(recipe)
    truth = {
        "CPU seconds": (found["cpu_seconds"], run["cpu_seconds"]),
        "bytes on disk": (found["peak_disk"], sum(_bytes(whole / part) for part in ("work", "data", "ledger"))),
        "kept share": (found["kept_share"], run["counts"]["kept"] / run["counts"]["rows"]),
    }
    wrong = checks.all_of([checks.sums(run["counts"], bench.rows * bench.sizes.copies), checks.verified(whole)])
    bench.forget(sample)
    bench.forget(whole)
    return [_row(bench, share, what, guess, true, wrong, {"estimate": found}) for what, (guess, true) in truth.items()]


def _row(bench: Bench, share: str, what: str, guess: float, true: float, wrong: str, runs: dict[str, Any]) -> Row:
    return Row(
        "estimate",
        f"{what} of {bench.text_bytes * bench.sizes.copies / 1e9:.1f} GB, from a sample of {share}: {guess:,.4g}",
        max(guess, true) / min(guess, true),
        "times off",
        "less",
        TARGET,
        f"the whole run: {true:,.4g}",
        "sums, verify",
        wrong,
        runs,
    )


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))
