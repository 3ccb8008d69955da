"""Heuristic rules against datatrove: the same documents, the same four filters, in the same call.

Invariant: both sides are timed from the first byte read to the last id written, models and compiled code loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checks
import pyarrow.parquet as pq
from corpora import Bench
from environments import python_of
from figures import Row
from processes import HERE, found, work

AGREEMENT = 0.95  # of verdicts, as docs/agreement.md promises for each filter


def rows(bench: Bench) -> list[Row]:
    """Speed over the slice as a multiple of datatrove's, and speed over the whole corpus."""
    path, size = bench.slice
    ours, kept = _stages(bench, [str(path)], "slice", bench.sizes.repeats)
    theirs, expected = _datatrove(bench, path)
    whole, kept_of_all = _stages(bench, bench.files, "whole", 1)
    speed = {
        "tamis": size / 1e6 / ours["cpu_seconds"],
        "datatrove": size / 1e6 / theirs["cpu_seconds"],
        "whole": bench.text_bytes / 1e6 / whole["cpu_seconds"],
    }
    share, wrong = checks.agreement(kept, expected, ours["documents"], AGREEMENT)
    baseline = f"datatrove {theirs['version']}: {speed['datatrove']:.3g} MB per CPU s"
    other = checks.same_ids(kept_of_all & _ids(path), kept, "slice alone and in the corpus")
    count = "" if whole["documents"] == bench.rows else f"{whole['documents']} of {bench.rows} documents were read"
    raw = {"slice": ours, "datatrove": theirs, "corpus": whole, "slice_mb": size / 1e6, "mb_per_cpu_second": speed}
    raw |= {"kept": len(kept), "datatrove_kept": len(expected), "agreement": share}
    return [
        Row(
            "heuristics",
            f"CPU, {size / 1e6:.1f} MB, {ours['documents']:,} documents: {speed['tamis']:.0f} MB per CPU s",
            speed["tamis"] / speed["datatrove"],
            "times datatrove",
            "more",
            100,
            baseline,
            f"{share:.1%} of the verdicts are datatrove's ({len(kept):,} kept, {len(expected):,})",
            wrong,
            raw,
        ),
        Row(
            "heuristics",
            f"CPU, whole corpus, {bench.text_bytes / 1e6:.0f} MB",
            speed["whole"],
            "MB per CPU s",
            "more",
            60,
            f"{baseline} on the slice",
            "all documents; the slice's are kept as in the run over the slice alone",
            checks.all_of([other, count]),
        ),
    ]


def _stages(bench: Bench, files: list[str], name: str, repeats: int) -> tuple[dict[str, Any], set[str]]:
    kept = bench.scratch / f"kept-{name}.txt"
    recipe = bench.recipe(bench.pattern, bench.scratch / "none", normalize=False)
    measured = work("stages", files=files, recipe=recipe, kept=str(kept), repeats=repeats)
    return measured, checks.listed_ids(kept)


def _datatrove(bench: Bench, path: Path) -> tuple[dict[str, Any], set[str]]:
    kept = bench.scratch / "kept-datatrove.txt"
    measured = found([python_of("datatrove"), HERE / "datatrove_recipe.py", path, kept])
    return measured, checks.listed_ids(kept)


def _ids(path: Path) -> set[str]:
    return set(pq.read_table(path, columns=["id"])["id"].to_pylist())
