"""The figures of model cards beside scikit-learn, scipy and their own definitions, ties and empty sides included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as theirs

from tamis.pipeline.training.metrics import (
    auc,
    average_precision,
    calibration,
    confusion,
    cut_for_precision,
    precision_recall,
    rank_correlation,
)

PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]), st.booleans()), max_size=40)
NUMBERS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), max_size=40)


def arrays(pairs):
    return np.array([score for score, _ in pairs], float), np.array([ok for _, ok in pairs], bool)


@given(PAIRS)
def test_auc_is_the_share_of_pairs_in_order_with_ties_as_half(pairs):
    scores, positive = arrays(pairs)
    ones, zeros = scores[positive], scores[~positive]
    if not len(ones) or not len(zeros):
        assert auc(scores, positive) is None
        return
    naive = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in ones for b in zeros])
    assert auc(scores, positive) == pytest.approx(naive, abs=1e-12)
    assert auc(scores, positive) == pytest.approx(theirs.roc_auc_score(positive, scores), abs=1e-12)


@given(PAIRS)
def test_average_precision_is_that_of_scikit_learn(pairs):
    scores, positive = arrays(pairs)
    if not positive.any():
        assert average_precision(scores, positive) is None
        return
    expected = theirs.average_precision_score(positive, scores)
    assert average_precision(scores, positive) == pytest.approx(expected, abs=1e-12)


@given(PAIRS, st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]))
def test_precision_recall_and_f1_at_a_cut_are_those_of_scikit_learn(pairs, cut):
    scores, positive = arrays(pairs)
    (found,) = precision_recall(scores, positive, [cut])
    above = scores >= cut
    assert found["taken"] == above.sum()
    assert (found["precision"] is None) == (not above.any())
    assert (found["recall"] is None) == (not positive.any())
    assert (found["false_positive_rate"] is None) == bool(positive.all())
    assert (found["f1"] is None) == (not above.any() and not positive.any())
    if found["precision"] is not None:
        assert found["precision"] == pytest.approx(theirs.precision_score(positive, above))
    if found["recall"] is not None:
        assert found["recall"] == pytest.approx(theirs.recall_score(positive, above))
    if found["f1"] is not None:
        assert found["f1"] == pytest.approx(theirs.f1_score(positive, above))
    if found["false_positive_rate"] is not None:
        assert found["false_positive_rate"] == pytest.approx(above[~positive].mean())


@given(PAIRS, st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_the_cut_for_a_precision_is_the_lowest_of_all_that_have_it(pairs, least):
    scores, positive = arrays(pairs)
    having = [cut for cut in set(scores) if positive[scores >= cut].mean() >= least]
    assert cut_for_precision(scores, positive, least) == (min(having) if having else None)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=50))
def test_the_confusion_matrix_is_that_of_scikit_learn(pairs):
    actual, found = np.array([a for a, _ in pairs], int), np.array([b for _, b in pairs], int)
    matrix = confusion(actual, found, 4)
    assert matrix.shape == (4, 4)
    assert matrix.sum() == len(pairs)
    if pairs:
        np.testing.assert_array_equal(matrix, theirs.confusion_matrix(actual, found, labels=range(4)))


def test_a_label_number_outside_the_matrix_is_an_error():
    with pytest.raises(ValueError, match="outside 0 to 1"):
        confusion(np.array([0, 2]), np.array([0, 0]), 2)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        confusion(np.array([0, 1]), np.array([0, -1]), 2)


@given(PAIRS)
def test_calibration_is_the_mean_and_share_of_each_bin_and_their_weighted_gap(pairs):
    scores, positive = arrays(pairs)
    found = calibration(scores, positive)
    assert len(found["bins"]) == 10
    assert sum(one["n"] for one in found["bins"]) == len(pairs)
    gap = 0.0
    for number, one in enumerate(found["bins"]):
        inside = [(s, p) for s, p in pairs if number / 10 <= s < (number + 1) / 10 or (number == 9 and s == 1)]
        assert one["n"] == len(inside)
        if not inside:
            assert one["mean"] is None
            assert one["share"] is None
            continue
        mean, share = np.mean([s for s, _ in inside]), np.mean([p for _, p in inside])
        assert one["mean"] == pytest.approx(mean)
        assert one["share"] == pytest.approx(share)
        gap += abs(mean - share) * len(inside) / len(pairs)
    assert found["ece"] == (pytest.approx(gap, abs=1e-12) if pairs else None)


def test_a_number_that_is_no_probability_cannot_be_calibrated():
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration(np.array([0.5, 1.5]), np.array([True, False]))


@given(NUMBERS)
@settings(deadline=None)
def test_rank_correlation_is_spearmans_of_scipy(pairs):
    x, y = np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs], float)
    found = rank_correlation(x, y)
    if len(pairs) < 2 or len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@given(PAIRS, st.randoms())
def test_no_figure_depends_on_the_order_of_the_rows(pairs, random):
    mixed = list(pairs)
    random.shuffle(mixed)
    for figure in (
        auc,
        average_precision,
        lambda s, p: precision_recall(s, p, [0.5]),
        lambda s, p: cut_for_precision(s, p, 0.9),
    ):
        assert figure(*arrays(pairs)) == figure(*arrays(mixed))


def test_a_missing_number_is_an_error_not_a_figure():
    for figure in (auc, average_precision, calibration):
        with pytest.raises(ValueError, match="without NaN"):
            figure(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="without NaN"):
        rank_correlation(np.array([0.1, np.nan]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="one bool per score"):
        auc(np.array([0.1, 0.2]), np.array([1, 0]))
