"""Exact sets of word n-grams, and their Jaccard similarity: what MinHash estimates, for those pairs that must be certain.

Invariant: words and shingles are those of kernels/minhash.py (one walk makes both), so a signature is the signature of
exactly this set.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .plain_words import SCRATCH, next_shingles, tables

_GALLOP = 16  # times as many values: searching takes fewer steps than merging

_bytes = nb.types.Array(nb.uint8, 1, "C", readonly=True)
_offsets = nb.types.Array(nb.int64, 1, "C", readonly=True)
_table = nb.types.Array(nb.uint32, 1, "C", readonly=True)
_values = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True}


@nb.njit(
    nb.int64(_bytes, _offsets, nb.int64, _table, _table, nb.uint64[:, ::1], nb.uint64[::1], nb.int64[::1]), **_OPTIONS
)
def _sets(data, offsets, ngram, value, more, scratch, out, out_offsets):
    hashes, spare, x = scratch[0], scratch[1], scratch[2]
    at = 0
    for d in range(offsets.shape[0] - 1):
        out_offsets[d] = at
        start, end = offsets[d], offsets[d + 1]
        i, held, total = start, 0, 0
        while i < end:
            i, held, count = next_shingles(data, start, i, end, ngram, True, value, more, hashes, held, spare, x)
            for k in range(count):
                out[at + total + k] = x[k]
            total += count
        found = out[at : at + total]
        found.sort()
        for k in range(total):
            if k == 0 or found[k] != found[k - 1]:
                out[at] = found[k]
                at += 1
    out_offsets[offsets.shape[0] - 1] = at
    return at


@nb.njit(forceinline=True)
def _common_by_merge(values, i, i_end, j, j_end):
    common = 0
    while i < i_end and j < j_end:
        one, other = values[i], values[j]
        common += np.int64(one == other)
        i += np.int64(one <= other)
        j += np.int64(other <= one)
    return common


@nb.njit(forceinline=True)
def _common_by_search(values, i, i_end, j, j_end):
    """For a short first set: steps that double, then halves."""
    common = 0
    while i < i_end and j < j_end:
        wanted = values[i]
        step = 1
        while j + step < j_end and values[j + step] < wanted:
            j += step
            step *= 2
        above = min(j + step, j_end)
        while j < above:
            middle = (j + above) // 2
            if values[middle] < wanted:
                j = middle + 1
            else:
                above = middle
        common += np.int64(j < j_end and values[j] == wanted)
        i += 1
    return common


@nb.njit(nb.void(_values, _offsets, _offsets, _offsets, nb.float64[::1]), **_OPTIONS)
def _jaccard(values, offsets, left, right, out):
    for p in range(left.shape[0]):
        i, i_end = offsets[left[p]], offsets[left[p] + 1]
        j, j_end = offsets[right[p]], offsets[right[p] + 1]
        if i_end - i > j_end - j:
            i, i_end, j, j_end = j, j_end, i, i_end
        if j_end - j > _GALLOP * (i_end - i):
            common = _common_by_search(values, i, i_end, j, j_end)
        else:
            common = _common_by_merge(values, i, i_end, j, j_end)
        union = (i_end - i) + (j_end - j) - common
        out[p] = common / union if union else 0.0


def shingle_sets(data: np.ndarray, offsets: np.ndarray, ngram: int) -> tuple[np.ndarray, np.ndarray]:
    """(values uint64, offsets int64[texts + 1]): the 64-bit hashes of each text's word n-grams, ascending, each once.

    Text d's are values[offsets[d]:offsets[d + 1]]: none for an empty text, at least one for any other; what counts as an
    n-gram (1 to 255 words) of a short text stands in kernels/minhash.py. data: uint8, UTF-8; offsets: int64[texts + 1].
    """
    if not 1 <= ngram <= 255:
        raise ValueError(f"ngram: {ngram} is not among 1 to 255")
    texts = len(offsets) - 1
    # a word and what ends it have two bytes; a word that ends where the next begins, three
    out = np.empty((int(offsets[-1] - offsets[0]) + texts) // 2, np.uint64)
    out_offsets = np.empty(texts + 1, np.int64)
    used = _sets(data, offsets, ngram, *tables(), np.empty((3, SCRATCH), np.uint64), out, out_offsets)
    return out[:used], out_offsets


def jaccard(values: np.ndarray, offsets: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64[pairs]: the Jaccard similarity of sets left[p] and right[p] (int64) of `shingle_sets`; 0 if both are empty."""
    result = np.empty(len(left), np.float64)
    _jaccard(values, offsets, np.ascontiguousarray(left, np.int64), np.ascontiguousarray(right, np.int64), result)
    return result
