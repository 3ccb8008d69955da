"""The choice of positives and negatives: balance, levels, draws, domains."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.pipeline.training.preselect_choice import (
    choose_documents,
    choose_domains,
    domain_means,
    largest_share,
    weakest_first,
)
from tamis.pipeline.training.preselect_pool import Groups

PAIRS = 15
pools = st.lists(
    st.tuples(st.integers(0, PAIRS), st.integers(-1, 4), st.floats(0, 1, exclude_max=True)), min_size=1, max_size=60
)


def arrays(rows):
    agreeing, domain, draw = (np.array(values) for values in zip(*rows))
    return agreeing.astype(np.int32), domain.astype(np.int32), draw


def in_turns(level, among, domain, draw, size):
    """weakest_first by its definition: level by level, and in the level that does not fit, turn by turn."""
    taken, turns = [], Counter()
    for value in sorted({level[i] for i in among}):
        here = [i for i in among if level[i] == value]
        if len(taken) + len(here) <= size:
            taken += here
            turns.update(domain[i] for i in here)
            continue
        waiting = {d: sorted((i for i in here if domain[i] == d), key=lambda i: draw[i]) for d in set(domain[here])}
        while len(taken) < size:
            least = min(turns[d] for d, left in waiting.items() if left)
            ready = [left[0] for d, left in waiting.items() if left and turns[d] == least]
            chosen = min(ready, key=lambda i: draw[i])
            waiting[domain[chosen]].remove(chosen)
            turns[domain[chosen]] += 1
            taken.append(chosen)
        break
    return sorted(taken)


@given(pools, st.integers(0, 60))
def test_whole_levels_are_taken_and_the_last_one_in_turns_over_domains(rows, size):
    agreeing, domain, draw = arrays(rows)
    draw = np.argsort(np.argsort(draw, kind="stable")) / len(draw)  # no two alike, as draws of texts are
    among = np.flatnonzero(agreeing % 4 != 3)
    size = min(size, len(among))
    found = weakest_first(agreeing, among, domain, draw, size)
    assert found.tolist() == in_turns(agreeing, among.tolist(), domain, draw, size)


@pytest.mark.parametrize("size", [1, 17, 60, 111, 199, 200])
def test_within_a_domain_the_smallest_draws_come_first(size):
    rng = np.random.default_rng(size)
    level, domain, draw = rng.integers(0, 3, 200), rng.integers(-1, 4, 200), rng.random(200)
    found = weakest_first(level, np.arange(200), domain, draw, size)
    assert found.tolist() == in_turns(level, list(range(200)), domain, draw, size)


@given(pools, st.integers(1, 30))
def test_classes_are_equal_disjoint_and_every_positive_is_perfect_and_no_negative(rows, most):
    agreeing, domain, draw = arrays(rows)
    choice = choose_documents(agreeing, PAIRS, domain, draw, most)
    perfect = int((agreeing == PAIRS).sum())
    assert len(choice.positive) == len(choice.negative) == min(perfect, len(rows) - perfect, most)
    assert (agreeing[choice.positive] == PAIRS).all()
    left = np.setdiff1d(np.flatnonzero(agreeing < PAIRS), choice.negative)
    if len(choice.negative) and len(left):
        assert agreeing[choice.negative].max() <= agreeing[left].min(), "negatives are the weakest there are"
    if len(choice.negative):
        assert choice.strongest_negative == agreeing[choice.negative].max() / PAIRS
    assert (choice.wanted, choice.others) == (perfect, len(rows) - perfect)


@given(pools, st.integers(1, 30), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_the_documents_changes_nothing(rows, most, random):
    agreeing, domain, draw = arrays([(a, d, (u + i) / len(rows)) for i, (a, d, u) in enumerate(rows)])
    order = np.array(random.sample(range(len(rows)), len(rows)))
    one = choose_documents(agreeing, PAIRS, domain, draw, most)
    other = choose_documents(agreeing[order], PAIRS, domain[order], draw[order], most)
    for a, b in ((one.positive, other.positive), (one.negative, other.negative)):
        assert set(a.tolist()) == set(order[b].tolist())


def test_no_domain_dominates_where_others_have_documents():
    domain = np.repeat([0, 1, 2], [1000, 30, 30]).astype(np.int32)
    agreeing = np.full(1060, PAIRS, np.int32)
    agreeing[::2] = 0
    draw = np.random.default_rng(0).random(1060)
    choice = choose_documents(agreeing, PAIRS, domain, draw, 45)
    for chosen in (choice.positive, choice.negative):
        assert np.bincount(domain[chosen]).tolist() == [15, 15, 15]


def test_a_domain_with_documents_in_lower_levels_waits():
    agreeing = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 15, 15, 15, 15, 15, 15], np.int32)
    domain = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2], np.int32)
    draw = np.arange(15) / 15  # domain 0 has the smaller draws
    choice = choose_documents(agreeing, PAIRS, domain, draw, 6)
    assert choice.negative.tolist() == [0, 1, 2, 6, 7, 8]


def test_nested_models_shrink_both_classes():
    agreeing = np.array([PAIRS] * 95 + [14] * 5, np.int32)
    choice = choose_documents(agreeing, PAIRS, np.zeros(100, np.int32), np.random.default_rng(1).random(100), 1000)
    assert len(choice.positive) == len(choice.negative) == 5
    assert choice.strongest_negative == pytest.approx(14 / 15)


@given(pools, st.integers(1, 30), st.integers(1, 3))
def test_by_domain_no_domain_gives_both_classes_and_all_documents_of_one_are_equally_strong(rows, most, least):
    agreeing, domain, draw = arrays(rows)
    choice = choose_domains(agreeing, PAIRS, domain, draw, most, least)
    counts = Counter(domain.tolist())
    for code in set(domain.tolist()):
        own = choice.strength[domain == code]
        if code < 0 or counts[code] < least:
            assert np.isnan(own).all()
        else:
            np.testing.assert_allclose(own, (agreeing[domain == code] / PAIRS).mean(), rtol=1e-12)
    assert len(choice.positive) == len(choice.negative) <= most
    if len(choice.positive):
        assert choice.strongest_negative < choice.weakest_positive
        assert not set(domain[choice.positive]) & set(domain[choice.negative])
        known = choice.strength[~np.isnan(choice.strength)]
        assert choice.weakest_positive >= np.sort(known)[::-1][len(choice.positive) - 1]
        assert choice.strongest_negative <= np.sort(known)[len(choice.negative) - 1]


def test_by_domain_as_many_are_chosen_as_are_in_perfect_order():
    agreeing = np.array([15, 15, 9, 15, 3, 3, 2, 1, 0, 0], np.int32)
    domain = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2], np.int32)
    choice = choose_domains(agreeing, PAIRS, domain, np.arange(10) / 10, 100, 1)
    assert choice.positive.tolist() == [0, 1, 2]  # three are perfect; the strongest domain has three
    assert choice.negative.tolist() == [6, 7, 8]


def test_one_domain_alone_gives_no_classes():
    choice = choose_domains(np.array([15, 0], np.int32), PAIRS, np.zeros(2, np.int32), np.zeros(2), 10, 1)
    assert len(choice.positive) == len(choice.negative) == 0


def test_means_and_shares_of_domains():
    domain = np.array([0, 2, 2, -1], np.int32)
    means, counts = domain_means(np.array([1.0, 0.5, 0.0, 9.0]), domain)
    assert means.tolist() == [1.0, 0.0, 0.25]
    assert counts.tolist() == [1, 0, 2]
    groups = Groups(["a", "b", "c"], domain)
    assert largest_share(groups, np.arange(4)) == 0.5
    assert largest_share(groups, np.array([3])) is None
