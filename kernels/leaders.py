"""Leaders among sets of hashes: each set goes to the first one before it that it is similar enough to, or leads itself.

Invariant: the result depends on the order of the sets and on nothing else; similarity is exact.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numba import types

_VALUES = types.Array(types.uint64, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C", readonly=True)


@nb.njit(
    types.int64(_VALUES, types.int64, types.int64, types.int64, types.int64, types.float64), nogil=True, cache=True
)
def _common(values, a, a_end, b, b_end, least):
    """How many values two sorted distinct ranges share; any number below `least` where they share fewer than that."""
    found = np.int64(0)
    while a < a_end and b < b_end:
        if found + min(a_end - a, b_end - b) < least:
            return np.int64(0)
        x, y = values[a], values[b]
        found += np.int64(x == y)
        a += np.int64(x <= y)
        b += np.int64(y <= x)
    return found


@nb.njit(
    types.void(
        _VALUES,
        _PLACES,
        _PLACES,
        types.float64,
        types.int64,
        types.Array(types.int64, 1, "C"),
        types.Array(types.float32, 1, "C"),
    ),
    nogil=True,
    cache=True,
)
def _leaders(values, offsets, group, threshold, most, leader, similarity):
    count = len(offsets) - 1
    led = np.empty(max(min(most, count), 1), np.int64)
    held = 0
    for i in range(count):
        if i == 0 or group[i] != group[i - 1]:
            held = 0
        size = offsets[i + 1] - offsets[i]
        leader[i] = i
        similarity[i] = 0
        for k in range(held):
            j = led[k]
            other = offsets[j + 1] - offsets[j]
            if min(size, other) < threshold * max(size, other) - 1:
                continue  # even if one held the other they would not be similar enough
            least = threshold * (size + other) / (1 + threshold) - 1  # one less than needed, against rounding
            common = _common(values, offsets[i], offsets[i + 1], offsets[j], offsets[j + 1], least)
            union = size + other - common
            jaccard = common / union if union > 0 else 1.0
            if jaccard >= threshold:
                leader[i] = j
                similarity[i] = jaccard
                break
        if leader[i] == i and held < most:
            led[held] = i
            held += 1


def leaders(
    values: np.ndarray, offsets: np.ndarray, group: np.ndarray, threshold: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """(leader int64[n], similarity float32[n]): for each set the first leader of its group with a Jaccard similarity of
    at least `threshold` to it; itself, with 0, where there is none, and then it leads too while there are fewer than
    `most` leaders in the group.

    values: uint64, set i is values[offsets[i]:offsets[i + 1]], sorted and distinct; group: int64[n], equal ones adjacent.
    """
    count = len(offsets) - 1
    leader, similarity = np.empty(count, np.int64), np.empty(count, np.float32)
    _leaders(
        np.ascontiguousarray(values, np.uint64),
        np.ascontiguousarray(offsets, np.int64),
        np.ascontiguousarray(group, np.int64),
        threshold,
        most,
        leader,
        similarity,
    )
    return leader, similarity
