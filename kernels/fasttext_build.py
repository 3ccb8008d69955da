"""A fastText model's rows and words as the scoring loops want them.

Invariant: what is built is a function of the model's bytes alone: sums run in a fixed order in 64 bits, so that two
machines build the same tables.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .fasttext_arrays import MODEL
from .fasttext_characters import add_characters
from .fasttext_words import BYTES, END, LABEL_ROW, PLACES, SLOT, first_slot, key_of, next_slot

_slots = nb.types.Array(nb.from_dtype(SLOT), 1, "C")
_block = nb.types.Array(nb.float32, 2, "C", readonly=True)
_floats = nb.types.Array(nb.float32, 1, "C", readonly=True)
_weights = nb.types.Array(nb.float64, 2, "C", readonly=True)

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


@nb.njit(nb.void(_block, _weights, nb.float64[::1], nb.float32[:, ::1]), **_OPTIONS)
def project(block, weights, sums, out):
    """out = block . weights, in 64 bits. block: float32[n, dim]; weights: float64[dim, outputs]; sums: [outputs]."""
    for i in range(len(block)):
        for k in range(weights.shape[1]):
            sums[k] = 0.0
        for j in range(weights.shape[0]):
            value = np.float64(block[i, j])
            for k in range(weights.shape[1]):
                sums[k] += value * weights[j, k]
        for k in range(weights.shape[1]):
            out[i, k] = sums[k]


@nb.njit(nb.int64(BYTES, PLACES, PLACES, nb.int64, nb.int64, nb.int64, _slots, nb.int32[::1]), **_OPTIONS)
def fill_slots(text, begin, end, first, last, words, slots, owners):
    """Entries first..last of a dictionary into the slots; those from `words` on are labels. Of equal entries the last
    one counts, as in fastText. owners: int32[slots], a work area. Gives the entry that shares its key with a different
    one, or -1."""
    for i in range(first, last):
        key = key_of(text, begin[i], end[i])
        if key == 0:
            return i
        at = first_slot(key, slots)
        while slots[at]["key"] != key and slots[at]["key"] != 0:
            at = next_slot(at, slots)
        if slots[at]["key"] == key:
            old = np.int64(owners[at])
            if end[old] - begin[old] != end[i] - begin[i]:
                return i
            for k in range(end[i] - begin[i]):
                if text[begin[old] + k] != text[begin[i] + k]:
                    return i
        slots[at]["key"] = key
        owners[at] = i
        slots[at]["row"] = i if i < words else LABEL_ROW
    return -1


@nb.njit(nb.void(_slots, _floats), **_OPTIONS)
def put_values(slots, rows):
    """Rows of one number: into the slots of their words, beside the keys."""
    for at in range(len(slots)):
        if slots[at]["row"] >= 0:
            slots[at]["value"] = rows[slots[at]["row"]]


@nb.njit(
    nb.void(
        BYTES, PLACES, PLACES, MODEL, nb.uint32[::1], nb.int64[::1], nb.float64[::1], nb.float32[::1], nb.int32[::1]
    ),
    **_OPTIONS,
)
def add_characters_of_words(text, begin, end, model, work, chosen, sums, rows, counts):
    """Adds to every word's row those of its character n-grams; counts[i]: how many rows it is the sum of. All but
    `</s>` have them (fastText: Dictionary::initNgrams). sums: float64[width]; rows: those of the model, to be changed."""
    _, _, _, width, words, left, ranks, places, _, minn, maxn, buckets = model
    for i in range(words):
        counts[i] = 1
        if key_of(text, begin[i], end[i]) == END:
            continue
        for k in range(width):
            sums[k] = rows[i * width + k]
        counts[i] += add_characters(
            text, begin[i], end[i] - begin[i], rows, width, words, left, ranks, places, minn, maxn, buckets,
            work, chosen, sums,
        )  # fmt: skip
        for k in range(width):
            rows[i * width + k] = sums[k]
