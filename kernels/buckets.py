"""Pairs of 64-bit numbers, sorted, spread over partitions, and walked: from (band key, document) to star edges.

Invariant: what comes out depends on the pairs as a set; where it has an order, on the order in which they came in.

Pairs are uint64[m, 2], C order: (key, n), (smaller n, larger n), (child, root).
"""

from __future__ import annotations

import itertools

import numba
import numpy as np
from numba import types

PAIRS = types.Array(types.uint64, 2, "C")
BOUNDS = types.Array(types.int64, 1, "C")
_DIGIT = 11  # bits; 2,048 streams of writes still fit the second-level cache
_PASSES = 6  # 6 * 11 >= 64


@numba.njit(types.uint64(types.uint64), nogil=True, cache=True)
def mix64(value):
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection of 64 bits, so two numbers never share a hash."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(types.boolean(PAIRS, PAIRS, types.int64), nogil=True, cache=True)
def _radix_sort(pairs, other, column):
    """Least significant digit first; passes over digits that are equal in all pairs are left out. True: `other` has it."""
    counts = np.zeros((_PASSES, 1 << _DIGIT), np.int64)
    mask = np.uint64((1 << _DIGIT) - 1)
    for i in range(len(pairs)):
        value = pairs[i, column]
        for digit in range(_PASSES):
            counts[digit, (value >> np.uint64(_DIGIT * digit)) & mask] += 1
    swapped = False
    for digit in range(_PASSES):
        place = counts[digit]
        shift = np.uint64(_DIGIT * digit)
        if len(pairs) == 0 or place[(pairs[0, column] >> shift) & mask] == len(pairs):
            continue
        at = 0
        for value in range(len(place)):
            count = place[value]
            place[value] = at
            at += count
        for i in range(len(pairs)):
            value = (pairs[i, column] >> shift) & mask
            at = place[value]
            place[value] = at + 1
            other[at, 0] = pairs[i, 0]
            other[at, 1] = pairs[i, 1]
        pairs, other = other, pairs
        swapped = not swapped
    return swapped


def sort_pairs(pairs: np.ndarray, column: int) -> np.ndarray:
    """The pairs by `column` (0 or 1), ascending and stable. `pairs` is used as scratch: it is lost."""
    other = np.empty_like(pairs)
    return other if _radix_sort(pairs, other, column) else pairs


@numba.njit(types.void(PAIRS, types.int64, types.uint64, PAIRS, BOUNDS), nogil=True, cache=True)
def _spread(pairs, column, parts, out, bounds):
    for i in range(len(pairs)):
        bounds[((mix64(pairs[i, column]) >> np.uint64(32)) * parts) >> np.uint64(32)] += 1
    at = 0
    for part in range(len(bounds)):
        count = bounds[part]
        bounds[part] = at
        at += count
    for i in range(len(pairs)):
        part = ((mix64(pairs[i, column]) >> np.uint64(32)) * parts) >> np.uint64(32)
        at = bounds[part]
        bounds[part] = at + 1
        out[at, 0] = pairs[i, 0]
        out[at, 1] = pairs[i, 1]


def spread(pairs: np.ndarray, column: int, parts: int) -> list[np.ndarray]:
    """The pairs of each of `parts` (below 2^32) partitions, by a hash of `column`, in their order."""
    if parts == 1:
        return [pairs]
    out = np.empty_like(pairs)
    ends = np.zeros(parts, np.int64)
    _spread(pairs, column, parts, out, ends)
    starts = [0, *ends.tolist()]
    return [out[a:b] for a, b in itertools.pairwise(starts)]


@numba.njit(types.int64(PAIRS, types.uint64, PAIRS), nogil=True, cache=True)
def _stars(pairs, own, largest):
    """Writes the edges over the pairs it has passed: a bucket of k gives at most k - 1. Returns their number."""
    count, start = 0, 0
    while start < len(pairs):
        key, first = pairs[start, 0], pairs[start, 1]
        stop = start + 1
        while stop < len(pairs) and pairs[stop, 0] == key:
            first = min(first, pairs[stop, 1])
            stop += 1
        if stop - start > 1 and first < own:
            for i in range(start, stop):
                n = pairs[i, 1]
                if n != first:
                    pairs[count, 0] = first
                    pairs[count, 1] = n
                    count += 1
            size = np.uint64(stop - start)
            at = len(largest)
            while at > 0 and (largest[at - 1, 0] < size or (largest[at - 1, 0] == size and largest[at - 1, 1] > first)):
                at -= 1
            if at < len(largest):
                for i in range(len(largest) - 1, at, -1):
                    largest[i, 0] = largest[i - 1, 0]
                    largest[i, 1] = largest[i - 1, 1]
                largest[at, 0] = size
                largest[at, 1] = first
        start = stop
    return count


def stars(pairs: np.ndarray, own: int, most: int) -> tuple[np.ndarray, list[list[int]]]:
    """(edges uint64[e, 2], the `most` largest buckets as [documents, first n]) of the pairs (key, n) of one band.

    A bucket, the documents of one key, gives an edge (first n, other n) for every other document: a star, never all
    pairs. A bucket whose documents are all >= own (documents of earlier corpora) gives none. `pairs` is lost.
    """
    pairs = sort_pairs(pairs, 0)
    largest = np.zeros((most, 2), np.uint64)
    count = _stars(pairs, own, largest)
    return pairs[:count].copy(), [[size, first] for size, first in largest.tolist() if size]


@numba.njit(types.int64(PAIRS), nogil=True, cache=True)
def _unique(pairs):
    count = min(1, len(pairs))
    for i in range(1, len(pairs)):
        if pairs[i, 0] != pairs[i - 1, 0] or pairs[i, 1] != pairs[i - 1, 1]:
            pairs[count, 0] = pairs[i, 0]
            pairs[count, 1] = pairs[i, 1]
            count += 1
    return count


def unique_pairs(pairs: np.ndarray) -> np.ndarray:
    """The pairs in order, each once. `pairs` is lost."""
    pairs = sort_pairs(sort_pairs(pairs, 1), 0)
    return pairs[: _unique(pairs)].copy()
