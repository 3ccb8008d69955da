"""Whether what was measured is right: sums, hashes, kept documents. Each check returns what is wrong, or nothing.

Invariant: expectations come from elsewhere than the run: from footers of the input, from the stages without the
engine, from another run of the same input.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tamis.pipeline.verify import verify


def all_of(problems: Iterable[str]) -> str:
    """The problems as one line."""
    return "; ".join(problem for problem in problems if problem)


def sums(counts: dict[str, int], rows: int) -> str:
    """kept + dropped + quarantined = rows that the footers of the input count."""
    total = counts["kept"] + counts["dropped"] + counts["quarantined"]
    return "" if total == counts["rows"] == rows else f"{total} documents in the ledger, {rows} in the input"


def verified(output: Path) -> str:
    """`tamis verify`."""
    found = verify(str(output))
    return "" if found.ok else "verify: " + "; ".join(found.problems[:3])


def kept_ids(output: Path) -> set[str]:
    """doc_id of every document in data/."""
    paths = sorted((output / "data").rglob("*.parquet"))
    return {one for path in paths for one in pq.read_table(path, columns=["doc_id"])["doc_id"].to_pylist()}


def listed_ids(path: Path) -> set[str]:
    """Ids of a file that holds one a line."""
    return set(path.read_text("utf-8").split())


def same_ids(found: set[str], expected: set[str], what: str) -> str:
    """The two sets of ids are equal, and not empty."""
    if not found:
        return "nothing was kept"
    return "" if found == expected else f"{len(found ^ expected)} documents kept by one only, {what}"


def agreement(found: set[str], expected: set[str], documents: int, least: float) -> tuple[float, str]:
    """(share of documents with one verdict in both, what is wrong where that is below `least` or nobody kept any)."""
    share = 1 - len(found ^ expected) / documents
    wrong = "" if share >= least and found and expected else f"only {share:.2%} of the verdicts agree"
    return share, wrong


def same_results(outputs: list[Path]) -> str:
    """data/ and ledger/ of all outputs are equal, byte for byte, by the hashes that `checksums.txt` records."""
    found = []
    for output in outputs:
        lines = (output / "checksums.txt").read_text().splitlines()
        found.append(
            sorted(line for line in lines if line.partition(" ")[2].partition(" ")[2].startswith(("data/", "ledger/")))
        )
    return "" if found[0] and all(one == found[0] for one in found) else "the results of two runs differ"


def same_counts(counts: list[dict[str, Any]], what: str) -> str:
    """All runs kept, dropped and set aside equally many."""
    names = ("rows", "kept", "dropped", "quarantined")
    return "" if len({tuple(one[name] for name in names) for one in counts}) == 1 else f"counts differ {what}"
