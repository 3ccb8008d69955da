"""How well numbers agree with labels, or with other numbers: ranking, cuts, calibration, correlation.

Invariant: a figure depends on the pairs alone, never on their order (sums of floats: within rounding); equal scores count
half, or are one step. What a definition leaves undefined (one class, a constant column, no rows) is None, not 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 10  # of the calibration table


def auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, equal scores counting half (Mann and
    Whitney 1947). scores: numbers without NaN; positive: bool, as long. None without both classes."""
    scores, positive = _pairs(scores, positive)
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return None
    return float((ranks(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The sum over all distinct scores, from the highest, of precision times the recall gained there (not interpolated,
    as scikit-learn). None without a positive."""
    _, hits, taken = _steps(scores, positive)
    if not len(hits) or not hits[-1]:
        return None
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * (hits / taken)))


def precision_recall(scores: np.ndarray, positive: np.ndarray, cuts: Sequence[float]) -> list[dict[str, Any]]:
    """For each cut, with what scores at least the cut taken as positive: cut, taken (rows), precision, recall, f1, and
    false_positive_rate. Precision is None where nothing is taken, recall without positives, the rate without negatives."""
    scores, positive = _pairs(scores, positive)
    found = []
    for cut in cuts:
        above = scores >= cut
        taken, hits, ones = int(above.sum()), int((above & positive).sum()), int(positive.sum())
        rates = precision_recall_f1(hits, taken, ones)
        false_rate = _ratio(taken - hits, len(scores) - ones)
        found.append({"cut": float(cut), "taken": taken, **rates, "false_positive_rate": false_rate})
    return found


def precision_recall_f1(hits: int, taken: int, ones: int) -> dict[str, float | None]:
    """precision = hits / taken, recall = hits / ones, f1 = 2 hits / (taken + ones), each None where it divides by 0."""
    return {"precision": _ratio(hits, taken), "recall": _ratio(hits, ones), "f1": _ratio(2 * hits, taken + ones)}


def cut_for_precision(scores: np.ndarray, positive: np.ndarray, least: float) -> float | None:
    """The lowest score at which what scores as much or more has at least this precision: of all such cuts the one with
    the highest recall. None where no cut has it."""
    cuts, hits, taken = _steps(scores, positive)
    good = np.flatnonzero(hits >= least * taken)
    return float(cuts[good[-1]]) if len(good) else None


def confusion(actual: np.ndarray, taken_for: np.ndarray, labels: int) -> np.ndarray:
    """int64[labels, labels]: rows of label i that were taken for label j. Both inputs: label numbers, 0 to labels - 1."""
    if (
        labels
        and len(actual)
        and (min(actual.min(), taken_for.min()) < 0 or max(actual.max(), taken_for.max()) >= labels)
    ):
        raise ValueError(f"label numbers outside 0 to {labels - 1}")
    pairs = np.asarray(actual, np.int64) * labels + np.asarray(taken_for, np.int64)
    return np.bincount(pairs, minlength=labels * labels).reshape(labels, labels)


def calibration(scores: np.ndarray, positive: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """Probabilities beside what came true, in bins of equal width, the last closed at 1: for each n, mean (of the
    scores), share (of positives), both None in an empty bin; and `ece`, the mean of |mean - share| over the rows
    (Naeini et al. 2015), None without rows. ValueError for scores outside 0 to 1."""
    scores, positive = _pairs(scores, positive)
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError("probabilities lie between 0 and 1")
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    total = np.bincount(place, weights=scores, minlength=bins)
    ones = np.bincount(place, weights=positive, minlength=bins)
    table = [
        {"from": i / bins, "to": (i + 1) / bins, "n": int(n), "mean": _ratio(total[i], n), "share": _ratio(ones[i], n)}
        for i, n in enumerate(count)
    ]
    return {"bins": table, "ece": _ratio(np.abs(total - ones).sum(), len(scores))}


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rho: the correlation of the ranks, equal values sharing the mean of theirs. None for fewer than two
    pairs or where a side is constant."""
    x, y = _numbers(x), _numbers(y)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} numbers beside {len(y)}")
    if len(x) < 2:
        return None
    left, right = ranks(x), ranks(y)
    left, right = left - left.mean(), right - right.mean()
    size = np.sqrt((left @ left) * (right @ right))
    return float(np.clip(left @ right / size, -1, 1)) if size else None


def ranks(values: np.ndarray) -> np.ndarray:
    """float64, from 1: the rank of each value, equal ones sharing the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place.reshape(-1)]


def _steps(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distinct scores from the highest; positives, and rows, that score as much or more)."""
    scores, positive = _pairs(scores, positive)
    values, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ones = np.bincount(place.reshape(-1), weights=positive, minlength=len(values)).astype(np.int64)
    return values[::-1], np.cumsum(ones[::-1]), np.cumsum(count[::-1])


def _pairs(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = _numbers(scores), np.asarray(positive)
    if positive.dtype != bool or positive.shape != scores.shape:
        raise ValueError(f"positive: one bool per score, not {positive.dtype}{list(positive.shape)} for {len(scores)}")
    return scores, positive


def _numbers(values: np.ndarray) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or np.isnan(found).any():
        raise ValueError("a list of numbers without NaN is expected; leave out the rows that have none")
    return found


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
