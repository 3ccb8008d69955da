"""Whether a run of `near_dedup` found what it should: held against other tools, and against every pair by hand.

Invariant: shingles come from Python's own `\\w+`, not from the kernels.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from near_pairs import grams, jaccard

WORDS = re.compile(r"\w+").findall


def fates(output: Path) -> pa.Table:
    """doc_id, decision and near_cluster of every document in the ledger."""
    paths = sorted((output / "ledger").rglob("*.parquet"))
    return pa.concat_tables([pq.read_table(path, columns=["doc_id", "decision", "near_cluster"]) for path in paths])


def kept_ids(ledger: pa.Table) -> set[str]:
    """Documents that are kept, or would be."""
    decided = zip(ledger["doc_id"].to_pylist(), ledger["decision"].to_pylist(), strict=True)
    return {one for one, decision in decided if decision == "keep"}


def same_groups(ledger: pa.Table, kept: set[str]) -> float:
    """How far another tool found our groups, whichever document it keeps of each: share of documents that it neither
    keeps beside another of their group nor drops though their group has none left."""
    left: Counter[str] = Counter()
    for one, cluster in zip(ledger["doc_id"].to_pylist(), ledger["near_cluster"].to_pylist(), strict=True):
        left[cluster or one] += one in kept
    return 1 - sum(abs(count - 1) for count in left.values()) / len(ledger)


def missed(files: Iterable[Path], kept: set[str], ngram: int, least: float, sample: int) -> tuple[int, str]:
    """(documents looked at, what is wrong where one of them has a kept one of the similarity `least` beside it).

    The `sample` kept documents that come first by the SHA-1 of their ids are compared with all kept ones.
    """
    chosen = set(sorted(kept, key=lambda one: hashlib.sha1(one.encode()).digest())[:sample])
    of_chosen = dict(_shingles(files, chosen, ngram))
    holders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for one, found in of_chosen.items():
        for gram in found:
            holders[gram].append(one)
    pairs = []
    for other, found in _shingles(files, kept, ngram):
        shared = Counter(one for gram in found for one in holders.get(gram, ()) if one != other)
        likely = [one for one, count in shared.items() if count >= least * len(of_chosen[one])]
        pairs += [(one, other) for one in likely if jaccard(found, of_chosen[one]) >= least]
    told = f"both kept though {least:.0%} of their n-grams are the same: {', '.join(map(' and '.join, pairs[:3]))}"
    return len(of_chosen), told if pairs else ""


def _shingles(files: Iterable[Path], ids: set[str], ngram: int) -> Iterator[tuple[str, frozenset[tuple[str, ...]]]]:
    for path in files:
        table = pq.read_table(path, columns=["id", "text"])
        for one, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
            if one in ids:
                yield one, grams(WORDS(text.lower()), ngram)


def estimates(errors: Sequence[float]) -> str:
    """Estimates of independent pairs, in standard errors from the truth: without bias, and as wide as theory says."""
    if not errors:
        return "no pair was measured"
    mean = sum(errors) / len(errors)
    square = sum(error * error for error in errors) / len(errors)
    most = 5 / len(errors) ** 0.5  # of a mean; twice that for a mean square, whose spread is sqrt(2)
    wrong = abs(mean) > most or abs(square - 1) > 2 * most or max(map(abs, errors)) > 6
    return f"estimates are {mean:+.3f} standard errors off, their mean square is {square:.3f}" if wrong else ""
