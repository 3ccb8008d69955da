"""How good a classifier is on texts that it has not seen: figures of the whole, of every label and of groups.

Invariant: pure functions of scores and labels. A figure that cannot be had (one class, no rows) is None; a row without a
score is counted and stands in no figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .metrics import (
    auc,
    average_precision,
    calibration,
    confusion,
    cut_for_precision,
    precision_recall,
    precision_recall_f1,
)

CUTS = tuple(round(0.1 * i, 1) for i in range(1, 10))
PRECISION = 0.9  # the cut that keeps it is named
MOST_CONFUSED = 1_000  # pairs of labels
MOST_RANKED = 100  # labels; with more there is no AUC for each
GROUPS = 30  # of a column; the others are told together
NO_GROUP = "(none)"


def evaluate(scores: np.ndarray, actual: np.ndarray, labels: Sequence[str], positive: int | None) -> dict[str, Any]:
    """Figures over held-out rows. scores: float32 (n, labels), probabilities or NaN; actual: the label numbers.

    `positive`: the label that cuts, calibration and false positives speak of; None (more than two labels, none of them
    named): calibration is that of the most probable label.
    """
    known = ~np.isnan(scores).all(axis=1)
    scored, truth = np.nan_to_num(scores[known], nan=0.0), actual[known]
    top = scored.argmax(axis=1) if len(scored) else np.zeros(0, np.int64)
    matrix = confusion(truth, top, len(labels))
    right = matrix.diagonal()
    found: dict[str, Any] = {
        "rows": len(actual),
        "unscored": int(len(actual) - len(truth)),
        "accuracy": float(right.sum() / len(truth)) if len(truth) else None,
        "labels": [],
        "confusion": _confused(matrix, labels),
    }
    for number, label in enumerate(labels):
        taken, ones = int(matrix[:, number].sum()), int(matrix[number].sum())
        ranked = len(labels) <= MOST_RANKED
        area = auc(scored[:, number], truth == number) if ranked else None
        rates = precision_recall_f1(int(right[number]), taken, ones)
        found["labels"].append({"label": label, "rows": ones, "taken": taken, **rates, "auc": area})
    if positive is None:
        best = scored.max(axis=1) if len(scored) else np.zeros(0, np.float32)
        return found | {"calibration": calibration(best, top == truth)}
    return found | _binary(scored[:, positive], truth == positive)


def _binary(scores: np.ndarray, ones: np.ndarray) -> dict[str, Any]:
    """What is said of one label against all others."""
    cut = cut_for_precision(scores, ones, PRECISION)
    if cut is not None:
        cut = math.floor(cut * 1e9) / 1e9  # as it is written: never above the score that it is to let through
    kept = precision_recall(scores, ones, [cut])[0] if cut is not None else None
    return {
        "auc": auc(scores, ones),
        "average_precision": average_precision(scores, ones),
        "positive_share": float(ones.mean()) if len(ones) else None,
        "cuts": precision_recall(scores, ones, CUTS),
        "cut_for_precision": {"precision": PRECISION, "at": kept},
        "calibration": calibration(scores, ones),
    }


def _confused(matrix: np.ndarray, labels: Sequence[str]) -> list[list[Any]]:
    """[label, taken for, rows] of the pairs that occur, the most frequent first."""
    pairs = np.argwhere(matrix)
    counts = matrix[tuple(pairs.T)]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -counts))[:MOST_CONFUSED]
    return [[labels[pairs[i, 0]], labels[pairs[i, 1]], int(counts[i])] for i in order]


def by_group(column: pa.ChunkedArray, scores: np.ndarray, ones: np.ndarray) -> list[dict[str, Any]]:
    """Figures of each value of a string column: the most frequent first, at most GROUPS; all others are the last entry,
    whose `group` is None. scores: of the positive label, without NaN; ones: whether a row has it."""
    names, members = _members(column)
    order = sorted(range(len(names)), key=lambda i: (-int((members == i).sum()), names[i]))
    groups: list[tuple[str | None, np.ndarray]] = [(names[i], members == i) for i in order[:GROUPS]]
    if len(order) > GROUPS:
        groups.append((None, np.isin(members, order[GROUPS:])))
    return [{"group": name, **_group(scores[chosen], ones[chosen])} for name, chosen in groups]


def _group(scores: np.ndarray, ones: np.ndarray) -> dict[str, Any]:
    at_half = precision_recall(scores, ones, [0.5])[0]
    return {
        "rows": len(ones),
        "positive_share": float(ones.mean()),
        "mean_score": float(scores.mean(dtype=np.float64)),
        "auc": auc(scores, ones),
        **{name: at_half[name] for name in ("precision", "recall", "false_positive_rate")},
    }


def auc_of_group(
    train: pa.ChunkedArray, train_ones: np.ndarray, test: pa.ChunkedArray, test_ones: np.ndarray
) -> float | None:
    """How well the column alone predicts the label: the AUC, on held-out rows, of the share of positives that a row's
    group has among the training rows (with one row of the mean share added to each group)."""
    mean = float(train_ones.mean()) if len(train_ones) else 0.0
    names, members = _members(train)
    rows = np.bincount(members, minlength=len(names))
    hits = np.bincount(members, weights=train_ones, minlength=len(names))
    shares = dict(zip(names, (hits + mean) / (rows + 1), strict=True))
    test_names, test_members = _members(test)
    predicted = np.array([shares.get(name, mean) for name in test_names], np.float64)
    return auc(predicted[test_members], test_ones)


def _members(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """(the values, the number of each row's value); null is a value of its own."""
    filled = pc.fill_null(column, NO_GROUP).combine_chunks().dictionary_encode()
    return filled.dictionary.to_pylist(), filled.indices.to_numpy().astype(np.int64)
