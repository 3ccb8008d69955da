"""Near duplicates against datatrove and rensa: signatures alone, and a run from the first byte read to the ledger.

Invariant: all sides read the same documents, have word 5-grams, 14 bands of 8 rows and one core, and are timed without
imports and first pass. Which document of a group stays is a matter of taste, so that is no part of the comparison.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checks
import near_checks
from corpora import Bench
from environments import python_of
from figures import Row
from processes import HERE, found, work

NGRAM, BANDS, ROWS = 5, 14, 8
# Share of documents on whose group two tools agree; pairs of a similarity around 0.7 are found by chance. rensa's
# shingling leaves numbers as they are, and it drops what is like a kept document where we take components.
AGREEMENT = {"datatrove": 0.98, "rensa": 0.96}
ALIKE = 0.95  # documents so similar are found together with a probability of 1 - 3e-7


def rows(bench: Bench) -> list[Row]:
    """Signatures per second; the whole of it as a multiple of datatrove's four stages and of rensa."""
    path, size = bench.dedup_slice
    ours, output = _tamis(bench, str(path), "near-slice", bench.sizes.runs)
    theirs, kept = _baseline(bench, "datatrove", [path])
    _, by_rensa = _baseline(bench, "rensa", [path])
    ledger = near_checks.fates(output)
    shares = {name: near_checks.same_groups(ledger, ids) for name, ids in (("datatrove", kept), ("rensa", by_rensa))}
    mine = near_checks.kept_ids(ledger)
    looked_at, pairs = near_checks.missed([path], mine, NGRAM, ALIKE, bench.sizes.sample)
    speed, base = size / 1e6 / ours["cpu_seconds"], size / 1e6 / theirs["cpu_seconds"]
    checked = "; ".join(f"groups as {name} has them for {share:.1%} of the documents" for name, share in shares.items())
    checked += f"; {looked_at} kept documents have no kept copy ({ALIKE:.0%} of the n-grams alike)"
    slice_row = Row(
        "near_dedup",
        f"CPU, {size / 1e6:.1f} MB, {ours['counts']['rows']:,} documents: {speed:.0f} MB per CPU s, after {ours['before']:.1f} s of imports",
        speed / base,
        "times datatrove",
        "more",
        100,
        f"datatrove {theirs['version']}: {base:.3g} MB per CPU s after {theirs['before']:.1f} s of imports",
        checked,
        checks.all_of([*(_too_few(name, share) for name, share in shares.items()), pairs, checks.verified(output)]),
        {"tamis": ours, "datatrove": theirs, "slice_mb": size / 1e6, "agreement": shares},
    )
    return [_signatures(bench), slice_row, _whole(bench)]


def _signatures(bench: Bench) -> Row:
    config = {"ngram": NGRAM, "bands": BANDS, "rows": ROWS}
    sizes = bench.sizes
    measured = work("signatures", files=bench.files, config=config, pairs=sizes.pairs, repeats=sizes.runs)
    errors = measured.pop("errors")
    count = "" if measured["documents"] == bench.rows else f"{measured['documents']} of {bench.rows} were measured"
    return Row(
        "near_dedup",
        f"signatures, {BANDS * ROWS} permutations, whole corpus in memory",
        bench.text_bytes / 1e6 / measured["cpu_seconds"],
        "MB per CPU s",
        "more",
        150,
        "the target",
        f"estimates of {len(errors):,} edited copies are as near to the truth as theory says",
        checks.all_of([near_checks.estimates(errors), count]),
        {**measured, "pairs": len(errors)},
    )


def _whole(bench: Bench) -> Row:
    """Every file, against rensa."""
    ours, output = _tamis(bench, bench.pattern, "near-whole", bench.sizes.runs)
    theirs, kept = _baseline(bench, "rensa", [Path(path) for path in bench.files])
    share = near_checks.same_groups(near_checks.fates(output), kept)
    speed, base = bench.text_bytes / 1e6 / ours["cpu_seconds"], bench.text_bytes / 1e6 / theirs["cpu_seconds"]
    return Row(
        "near_dedup",
        f"CPU, whole corpus, {bench.text_bytes / 1e6:.0f} MB: {speed:.0f} MB per CPU s, after {ours['before']:.1f} s of imports",
        speed / base,
        "times rensa",
        "more",
        5,
        f"rensa {theirs['version']}: {base:.3g} MB per CPU s after {theirs['before']:.1f} s of imports",
        f"sums; groups as rensa has them for {share:.2%} of the documents",
        checks.all_of([_too_few("rensa", share), checks.sums(ours["counts"], bench.rows), checks.verified(output)]),
        {"tamis": ours, "rensa": theirs, "agreement": share},
    )


def _too_few(name: str, share: float) -> str:
    return "" if share >= AGREEMENT[name] else f"{name} agrees about {share:.2%} of the documents only"


def _tamis(bench: Bench, files: str, name: str, runs: int) -> tuple[dict[str, Any], Path]:
    """The run of median CPU time, and the output of the last. It observes: data/ is not written."""
    output = bench.scratch / name
    stages = [{"use": "near_dedup", "ngram": NGRAM, "bands": BANDS, "rows": ROWS}]
    recipe = {"name": "bench", "input": {"files": files}, "output": str(output), "stages": stages, "observe": True}
    measured = []
    for number in range(runs):
        if number:
            bench.forget(name)
        measured.append(bench.run({**recipe, "report": {"pages": False}}))
    measured.sort(key=lambda one: one["cpu_seconds"])
    return measured[runs // 2] | {"runs": [one["cpu_seconds"] for one in measured]}, output


def _baseline(bench: Bench, name: str, files: list[Path]) -> tuple[dict[str, Any], set[str]]:
    """What the script `<name>_dedup.py` says in the environment of that tool, and the ids that it keeps."""
    kept = bench.scratch / f"kept-{name}.txt"
    seed = ["env", "PYTHONHASHSEED=0"]  # rensa's shingles are Python's hashes of words
    return found([*seed, python_of(name), HERE / f"{name}_dedup.py", kept, *files]), checks.listed_ids(kept)
