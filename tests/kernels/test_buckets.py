"""Pairs: sorting, spreading, star edges, each against its plain definition."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels.buckets import mix64, sort_pairs, spread, stars, unique_pairs

EDGES = [0, 1, 2**11 - 1, 2**11, 2**32, 2**33 - 1, 2**63, 2**64 - 1]
numbers = st.integers(0, 3) | st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)
pair_lists = st.lists(st.tuples(numbers, numbers), max_size=40)


def array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2)


def tuples(pairs: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(pair) for pair in pairs.tolist()]


def naive_stars(pairs: list[tuple[int, int]], own: int) -> tuple[set[tuple[int, int]], list[list[int]]]:
    """The edges, and [documents, first] of all buckets of two and more, largest first."""
    buckets = defaultdict(list)
    for key, n in pairs:
        buckets[key].append(n)
    chosen = [found for found in buckets.values() if len(found) > 1 and min(found) < own]
    edges = {(min(found), n) for found in chosen for n in found if n != min(found)}
    return edges, sorted(([len(found), min(found)] for found in chosen), key=lambda b: (-b[0], b[1]))


def test_mix64_is_the_finaliser_of_splitmix64() -> None:
    # first two outputs of SplitMix64 seeded with 0, as in Vigna's splitmix64.c
    assert int(mix64(np.uint64(0x9E3779B97F4A7C15))) == 0xE220A8397B1DCDAF
    assert int(mix64(np.uint64(2 * 0x9E3779B97F4A7C15 % 2**64))) == 0x6E789E6AA1B965F4


@settings(max_examples=200, deadline=None)
@given(pair_lists, st.sampled_from([0, 1]))
def test_sorting_is_that_of_a_stable_sort(pairs, column) -> None:
    assert tuples(sort_pairs(array(pairs), column)) == sorted(pairs, key=lambda pair: pair[column])
    assert tuples(unique_pairs(array(pairs))) == sorted(set(pairs))


@pytest.mark.parametrize("bits", [1, 12, 34, 64])
def test_sorting_many_pairs_equals_numpy(bits: int) -> None:
    pairs = np.random.default_rng(bits).integers(0, 2**bits, (50_000, 2), np.uint64, endpoint=bits < 64)
    order = np.argsort(pairs[:, 1], kind="stable")
    assert np.array_equal(sort_pairs(pairs.copy(), 1), pairs[order])
    assert np.array_equal(unique_pairs(np.concatenate([pairs, pairs])), np.unique(pairs, axis=0))


@settings(max_examples=100, deadline=None)
@given(pair_lists, st.sampled_from([0, 1]), st.integers(1, 9))
def test_every_pair_goes_to_one_partition_in_order_and_equal_numbers_meet(pairs, column, parts) -> None:
    found = [tuples(part) for part in spread(array(pairs), column, parts)]
    assert len(found) == parts
    assert sorted(pair for part in found for pair in part) == sorted(pairs)
    of = {pair[column]: i for i, part in enumerate(found) for pair in part}
    for i, part in enumerate(found):
        assert part == [pair for pair in pairs if of[pair[column]] == i]


def test_partitions_are_even_for_any_numbers() -> None:
    rows = np.arange(70_000, dtype=np.uint64)
    for numbers_ in (rows, rows << np.uint64(40)):
        pairs = np.stack([numbers_, rows], axis=1)
        sizes = [len(part) for part in spread(pairs, 0, 7)]
        assert sum(sizes) == 70_000
        assert min(sizes) > 9_500


few = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=40, unique_by=lambda pair: pair[1])


@settings(max_examples=300, deadline=None)
@given(few, st.integers(0, 13), st.integers(1, 4))
def test_a_bucket_is_a_star_around_its_first_document(pairs, own, most) -> None:
    edges, largest = stars(array(pairs), own, most)
    expected, buckets = naive_stars(pairs, own)
    assert len(edges) == len(expected)
    assert set(tuples(edges)) == expected
    assert largest == buckets[:most]


def test_a_hub_of_a_million_documents_gives_a_million_edges_less_one() -> None:
    n = np.random.default_rng(0).permutation(1_000_000).astype(np.uint64)
    edges, largest = stars(np.stack([np.full(len(n), 7, np.uint64), n], axis=1), len(n), 10)
    assert edges.shape == (999_999, 2)
    assert not edges[:, 0].any()
    assert np.array_equal(np.sort(edges[:, 1]), np.arange(1, 1_000_000))
    assert largest == [[1_000_000, 0]]


def test_a_document_that_is_twice_in_a_bucket_is_no_edge_to_itself() -> None:
    edges, _ = stars(array([(1, 4), (1, 4), (1, 6)]), 10, 1)
    assert tuples(edges) == [(4, 6)]
