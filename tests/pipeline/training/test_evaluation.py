"""Figures over scores and labels beside scikit-learn, and what stands in none of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as theirs

from tamis.pipeline.training.evaluation import NO_GROUP, auc_of_group, by_group, evaluate

LABELS = ("a", "b", "c")


def example(rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three labels, of which the third is rare and mostly missed; and what is true."""
    draw = np.random.default_rng(0)
    actual = draw.choice(3, rows, p=[0.6, 0.3, 0.1])
    raw = draw.random((rows, 3)) + np.eye(3)[actual] * [0.9, 0.6, 0.1]
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32), actual


def test_the_figures_of_each_label_are_those_of_scikit_learn():
    scores, actual = example()
    found = evaluate(scores, actual, LABELS, None)
    top = scores.argmax(axis=1)
    precision, recall, f1, support = theirs.precision_recall_fscore_support(actual, top, labels=range(3))
    for number, one in enumerate(found["labels"]):
        assert one["label"] == LABELS[number]
        assert one["rows"] == np.asarray(support)[number]
        assert one["taken"] == (top == number).sum()
        assert [one[name] for name in ("precision", "recall", "f1")] == pytest.approx(
            [np.asarray(figure)[number] for figure in (precision, recall, f1)]
        )
        assert one["auc"] == pytest.approx(theirs.roc_auc_score(actual == number, scores[:, number]))
    assert found["accuracy"] == pytest.approx((top == actual).mean())
    counts = {(a, b): n for a, b, n in found["confusion"]}
    matrix = theirs.confusion_matrix(actual, top)
    assert counts == {(LABELS[i], LABELS[j]): n for (i, j), n in np.ndenumerate(matrix) if n}
    assert [n for _, _, n in found["confusion"]] == sorted(counts.values(), reverse=True)


def test_a_row_without_scores_is_counted_and_stands_in_no_figure():
    scores, actual = example()
    blank = np.concatenate([scores, np.full((7, 3), np.nan, np.float32)])
    found = evaluate(blank, np.concatenate([actual, np.zeros(7, int)]), LABELS, 0)
    without = evaluate(scores, actual, LABELS, 0)
    assert (found.pop("rows"), found.pop("unscored")) == (207, 7)
    assert (without.pop("rows"), without.pop("unscored")) == (200, 0)
    assert found == without


def test_figures_of_nothing_are_none():
    found = evaluate(np.zeros((0, 3), np.float32), np.zeros(0, int), LABELS, 1)
    assert found["accuracy"] is found["auc"] is found["average_precision"] is found["positive_share"] is None
    assert found["cut_for_precision"]["at"] is None
    assert found["calibration"]["ece"] is None


def test_the_cut_that_keeps_a_precision_does_so_as_it_is_written():
    scores, actual = example()
    at = evaluate(scores, actual, LABELS, 1)["cut_for_precision"]["at"]
    chosen = scores[:, 1] >= np.float64(f"{at['cut']:.9f}")
    assert chosen.sum() == at["taken"]
    assert (actual[chosen] == 1).mean() == pytest.approx(at["precision"])
    assert at["precision"] >= 0.9


def test_groups_hold_all_rows_and_a_null_is_a_group():
    column = pa.chunked_array([["x", None, "x"], ["y", "x"]])
    scores, ones = np.array([0.9, 0.2, 0.4, 0.6, 0.1]), np.array([True, False, False, True, True])
    found = {one["group"]: one for one in by_group(column, scores, ones)}
    assert {name: one["rows"] for name, one in found.items()} == {"x": 3, NO_GROUP: 1, "y": 1}
    assert found["x"]["auc"] == pytest.approx(theirs.roc_auc_score([1, 0, 1], [0.9, 0.4, 0.1]))
    assert found["x"]["mean_score"] == pytest.approx(1.4 / 3)
    assert found["x"]["recall"] == 0.5
    assert found[NO_GROUP]["auc"] is None
    assert found["y"]["false_positive_rate"] is None


def test_a_column_predicts_by_what_its_groups_had_in_training():
    train = pa.chunked_array([["x"] * 10 + ["y"] * 10])
    ones = np.array([True] * 9 + [False] + [False] * 8 + [True] * 2)
    test, truth = pa.chunked_array([["x", "y", "new", "x"]]), np.array([True, False, False, False])
    # shares with one row of the mean: x (9 + 0.55) / 11, y (2 + 0.55) / 11, a new group the mean 0.55
    expected = theirs.roc_auc_score(truth, [0.868, 0.232, 0.55, 0.868])
    assert auc_of_group(train, ones, test, truth) == pytest.approx(expected)
    assert auc_of_group(train, ones, test, np.ones(4, bool)) is None
