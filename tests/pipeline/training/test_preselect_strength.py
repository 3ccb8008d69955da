"""Predictive strength: PreSelect's published vectors, the definition pair by pair, and Kendall's tau where it is the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from tamis.pipeline.training import strength
from tamis.pipeline.training.strength import concordant, pairs, tied

PUBLISHED = [75.38, 76.30, 77.27, 79.46, 80.47, 81.19]  # benchmark averages in the released code, in its models' order

numbers = st.one_of(st.integers(0, 3).map(float), st.floats(0, 9, width=16), st.just(-0.0))


def by_definition(losses, abilities):
    """Pairs in which the abler model has the lower loss, one by one."""
    found = 0
    for i, j in itertools.combinations(range(len(abilities)), 2):
        found += (abilities[i] > abilities[j] and losses[i] < losses[j]) or (
            abilities[i] < abilities[j] and losses[i] > losses[j]
        )
    return found


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([6, 5, 4, 3, 2, 1], 15),
        ([1, 2, 3, 4, 5, 6], 0),
        ([6, 5, 4, 3, 1, 2], 14),
        ([2, 2, 2, 2, 2, 2], 0),
        ([5, 6, 4, 3, 1, 2], 13),
    ],
)
def test_the_published_vectors(losses, expected):
    assert concordant(np.array([losses], np.float64), np.array(PUBLISHED)).tolist() == [expected]


@given(
    st.integers(2, 7).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=2, max_size=20))
)
def test_strength_is_the_count_of_pairs_that_the_definition_gives(rows):
    abilities, losses = np.array(rows[0]), np.array(rows[1:])
    assert concordant(losses, abilities).tolist() == [by_definition(row, rows[0]) for row in rows[1:]]


@given(
    st.integers(2, 7).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=2, max_size=20))
)
def test_ties_are_the_pairs_of_unequal_ability_with_equal_loss(rows):
    abilities, losses = np.array(rows[0]), np.array(rows[1:])
    expected = [
        sum(rows[0][i] != rows[0][j] and row[i] == row[j] for i, j in itertools.combinations(range(len(rows[0])), 2))
        for row in rows[1:]
    ]
    assert tied(losses, abilities).tolist() == expected


def test_without_ties_strength_is_kendalls_tau_scaled_to_pairs():
    rng = np.random.default_rng(3)
    abilities, losses = rng.random(8), rng.random((50, 8))
    taus = np.array([kendalltau(-row, abilities).statistic for row in losses])
    np.testing.assert_allclose(concordant(losses, abilities) / pairs(8), (taus + 1) / 2, atol=1e-12)


def test_the_order_of_the_models_changes_nothing():
    rng = np.random.default_rng(4)
    abilities, losses = rng.permutation(6) / 7, rng.integers(0, 5, (300, 6)) / 4
    shuffled = rng.permutation(6)
    assert (concordant(losses, abilities) == concordant(losses[:, shuffled], abilities[shuffled])).all()


def test_documents_beyond_one_chunk_are_counted_like_the_first(monkeypatch):
    rng = np.random.default_rng(5)
    abilities, losses = rng.random(4), rng.integers(0, 4, (101, 4)).astype(float)
    whole = concordant(losses, abilities)
    monkeypatch.setattr(strength, "CHUNK", 10)
    assert (concordant(losses, abilities) == whole).all()
    assert len(set(whole.tolist())) > 2


def test_pairs():
    assert [pairs(n) for n in (1, 2, 3, 6)] == [0, 1, 3, 15]
