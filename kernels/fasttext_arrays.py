"""What the fastText loops hand each other: a model, a window of words, sums so far. Types only.

Invariant: each is a tuple, because a loop is called for every window, and numba looks at every argument of a call.
"""

from __future__ import annotations

import numba as nb

from .fasttext_words import INTS, KEYS, PLACES, SLOTS

FLOATS = nb.types.Array(nb.float32, 1, "C", readonly=True)
BITS = nb.types.Array(nb.uint64, 1, "C", readonly=True)
# A model: its dictionary; how many rows a word's row is the sum of (empty: one); rows; their width; words; of a pruned
# model the buckets left as bits, how many are left before each 64, and their rows (else empty); how many lengths of word
# n-grams there are above 1; minn, maxn, bucket
MODEL = nb.types.Tuple(
    (SLOTS, INTS, FLOATS, nb.int64, nb.int64, BITS, INTS, INTS, nb.int64, nb.int64, nb.int64, nb.int64)
)
_BUCKETS = nb.types.Array(nb.uint32, 2, "C", readonly=True)
# Words of a window: state, keys, begins, lengths, cuts; their rows (-1: none) and values; buckets of word n-grams
WINDOW_ARRAYS = nb.types.Tuple((PLACES, KEYS, PLACES, INTS, INTS, INTS, FLOATS, _BUCKETS))
# Sums so far: count of rows, sums; mean; the memory of words: keys, their counts of rows, rows; areas of
# `add_characters`; areas of `finish`
AREAS = nb.types.Tuple(
    (nb.int64[::1], nb.float64[::1], nb.float64[::1],
     nb.uint64[::1], nb.int32[::1], nb.float32[::1], nb.uint32[::1], nb.int64[::1],
     nb.float64[::1], nb.float64[::1], nb.int32[::1], nb.float64[::1])
)  # fmt: skip
