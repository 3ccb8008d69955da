"""Which documents become positives and negatives: perfect order against the least strength, as many of the one as of the
other, no domain more often than it must be.

Invariant: a choice depends on strengths, domains and draws by the text's hash, never on the order of the documents; the
two classes are equally large and every positive is stronger than every negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .preselect_pool import Groups


@dataclass(frozen=True)
class Choice:
    """`positive`, `negative`: int64 positions in the pool, ascending and equally many. `wanted`: documents that could be
    positive; `others`: those that could be negative; `strongest_negative`: strength of the strongest one that was taken;
    `strength`: float64 per document, what the choice went by."""

    positive: np.ndarray
    negative: np.ndarray
    wanted: int
    others: int
    strongest_negative: float
    weakest_positive: float
    strength: np.ndarray


def choose_documents(agreeing: np.ndarray, pairs: int, domain: np.ndarray, draw: np.ndarray, most: int) -> Choice:
    """Positives order all models rightly; negatives are the weakest of the others, level by level, the last level by
    draw. `agreeing`: int32 (n,); `domain`: int32 (n,), -1 for none; `draw`: float64 (n,); `most`: per class."""
    perfect = agreeing == pairs
    wanted, others = int(perfect.sum()), int((~perfect).sum())
    size = min(wanted, others, most)
    return _choice(agreeing / max(pairs, 1), perfect, size, wanted, others, domain, draw)


def choose_domains(
    agreeing: np.ndarray, pairs: int, domain: np.ndarray, draw: np.ndarray, most: int, least: int
) -> Choice:
    """Every document has the mean strength of its domain; positives come from the strongest domains, negatives from the
    weakest, the last domain of either by draw, and no domain gives both.

    As many as documents in perfect order, so that both ways of choosing train on equally much. Documents without a domain,
    or of one with fewer than `least` documents, have no strength (NaN) and are in neither class.
    """
    means, counts = domain_means(agreeing / max(pairs, 1), domain)
    means = np.where(counts >= least, means, np.nan)
    strength = np.append(means, np.nan)[domain]
    known = np.flatnonzero(~np.isnan(strength))
    levels, sizes = np.unique(strength[known], return_counts=True)
    below = np.cumsum(sizes)[:-1]
    if not len(below):
        return _choice(strength, np.zeros(len(strength), bool), 0, len(known), 0, domain, draw)
    balanced = np.minimum(below, len(known) - below)
    wanted = int((agreeing[known] == pairs).sum())
    size = min(wanted, int(balanced.max()), most)
    cut = levels[1 + int(balanced.argmax())]
    upper = strength >= cut
    return _choice(strength, upper, size, wanted, len(known) - wanted, domain, draw)


def domain_means(values: np.ndarray, domain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean float64, documents int64) of each domain by code; documents without one (-1) are in none."""
    inside = domain >= 0
    counts = np.bincount(domain[inside])
    totals = np.bincount(domain[inside], weights=values[inside])
    return totals / np.maximum(counts, 1), counts


def _choice(
    strength: np.ndarray, upper: np.ndarray, size: int, wanted: int, others: int, domain: np.ndarray, draw: np.ndarray
) -> Choice:
    positive = weakest_first(-strength, np.flatnonzero(upper), domain, draw, size)
    lower = np.flatnonzero(~upper & ~np.isnan(strength))
    negative = weakest_first(strength, lower, domain, draw, size)
    return Choice(
        positive,
        negative,
        wanted,
        others,
        float(strength[negative].max()) if size else float("nan"),
        float(strength[positive].min()) if size else float("nan"),
        strength,
    )


def weakest_first(level: np.ndarray, among: np.ndarray, domain: np.ndarray, draw: np.ndarray, size: int) -> np.ndarray:
    """`size` positions of `among`, ascending: whole levels from the lowest; of the level that does not fit, round after
    round one document of every domain that has one left, in order of draws; a domain that the lower levels gave
    documents of waits so many rounds. Documents without a domain count as one."""
    if size == 0:
        return np.zeros(0, np.int64)
    levels = np.unique(level[among], return_counts=True)
    last = levels[0][int(np.searchsorted(np.cumsum(levels[1]), size))]
    whole = among[level[among] < last]
    edge = among[level[among] == last]
    taken = np.bincount(domain[whole] + 1, minlength=int(domain.max(initial=-1)) + 2)
    order = edge[np.lexsort((draw[edge], domain[edge]))]
    code = domain[order] + 1
    begins = np.flatnonzero(np.diff(code, prepend=-1))
    place = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    turns = np.lexsort((draw[order], place + taken[code]))
    return np.sort(np.concatenate([whole, order[turns[: size - len(whole)]]]))


def largest_share(domain: Groups, at: np.ndarray) -> float | None:
    """Share of the documents at these positions that the most frequent domain has; None where none has a domain."""
    codes = domain.codes[at]
    codes = codes[codes >= 0]
    return float(np.bincount(codes).max() / len(at)) if len(codes) else None
