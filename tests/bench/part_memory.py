"""Peak memory of a worker: bounded, and the same for any unit size and any size of the corpus.

Invariant: every run is a process of its own; compiled code comes from the cache, which a first run has filled.
"""

from __future__ import annotations

from typing import Any

import checks
from corpora import Bench
from figures import Row

FIXED = 550e6  # bytes, besides twice the largest compressed row group
SPREAD = 10  # per cent


def rows(bench: Bench) -> list[Row]:
    """The largest peak against its bound; the spread over unit sizes and over corpus sizes."""
    sizes = bench.sizes
    bench.run(bench.recipe(bench.pattern, bench.scratch / "first"))
    bench.forget("first")
    once = {unit: _inline(bench, bench.pattern, unit) for unit in (sizes.unit, sizes.big_unit)}
    many = _inline(bench, bench.repeated, sizes.big_unit)
    ray = {"once": _ray(bench, bench.pattern), f"{sizes.copies} times": _ray(bench, bench.repeated)}
    runs = {f"inline, {unit}": run for unit, run in once.items()}
    runs |= {f"inline, {sizes.big_unit}, {sizes.copies} times": many} | {f"ray, {k}": run for k, run in ray.items()}
    peaks = {name: run["worker_peak_rss"] if "ray" in name else run["peak_rss"] for name, run in runs.items()}
    bound = FIXED + 2 * bench.largest_group
    wrong = _wrong(bench, list(runs.values()), peaks)
    figures = ", ".join(f"{name} {peak / 1e6:.0f}" for name, peak in peaks.items())
    small, big, all_of_it, *of_workers = peaks.values()
    return [
        Row(
            "memory",
            f"largest peak of a worker ({figures} MB)",
            max(peaks.values()) / 1e6,
            "MB",
            "less",
            bound / 1e6,
            f"550 MB and twice the largest row group, {bench.largest_group / 1e6:.1f} MB compressed",
            "sums; kept documents grow with the corpus and not with the unit",
            wrong,
            {"peak_bytes": peaks, "runs": runs},
        ),
        _spread(f"unit_size {sizes.big_unit} for {sizes.unit}, inline", small, big, wrong),
        _spread(f"the corpus {sizes.copies} times, inline", big, all_of_it, wrong),
        _spread(f"the corpus {sizes.copies} times, two Ray workers", of_workers[0], of_workers[1], wrong),
    ]


def _spread(what: str, before: float, after: float, wrong: str) -> Row:
    spread = 100 * abs(after / before - 1) if before else 100.0
    baseline = f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB with it"
    return Row("memory", f"peak moves with {what}", spread, "%", "less", SPREAD, baseline, "as above", wrong)


def _wrong(bench: Bench, runs: list[dict[str, Any]], peaks: dict[str, float]) -> str:
    grown = [run for run in runs if run["counts"]["rows"] != bench.rows]
    same = [run for run in runs if run["counts"]["rows"] == bench.rows]
    scaled = {name: count * bench.sizes.copies for name, count in same[0]["counts"].items()}
    return checks.all_of(
        [
            *(checks.sums(run["counts"], bench.rows * (bench.sizes.copies if run in grown else 1)) for run in runs),
            checks.same_counts([run["counts"] for run in same], "with the unit size or the executor"),
            checks.same_counts([scaled, *(run["counts"] for run in grown)], "between the corpus and its copies"),
            "" if all(peaks.values()) else "no worker's memory was seen",
        ]
    )


def _inline(bench: Bench, pattern: str, unit: str) -> dict[str, Any]:
    return _run(bench, pattern, unit)


def _ray(bench: Bench, pattern: str) -> dict[str, Any]:
    return _run(bench, pattern, bench.sizes.unit, executor="ray", workers=2)


def _run(bench: Bench, pattern: str, unit: str, **arguments: Any) -> dict[str, Any]:
    output = bench.scratch / "memory"
    run = bench.run(bench.recipe(pattern, output, unit_size=unit, keep_work="none"), **arguments)
    bench.forget(output)
    return run
