"""A text as fastText reads it: words, their hashes, and the buckets of their word n-grams; window by window.

Invariant: what a piece of text gives does not depend on where windows begin: a window ends between two words, and the
words that n-grams still need are carried over.

The key of a word has 64 bits: the low 32 are fastText's hash (FNV-1a over *signed* bytes), because the low half of a
product depends on the low halves alone; the high 32 tell words of one hash apart.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba.extending import register_jitable

WINDOW = (
    16384  # words; at least 2: one and the `</s>` behind a piece. Smaller ones: models drive each other out of cache
)
NO_LENGTH = 0  # of the `</s>` behind a piece: it has no bytes in the text

BYTES = nb.types.Array(nb.uint8, 1, "C", readonly=True)
PLACES = nb.types.Array(nb.int64, 1, "C", readonly=True)
KEYS = nb.types.Array(nb.uint64, 1, "C", readonly=True)
INTS = nb.types.Array(nb.int32, 1, "C", readonly=True)

# a dictionary: open addressing; row -1: nothing here, LABEL_ROW: a label, no word
SLOT = np.dtype([("key", "<u8"), ("value", "<f4"), ("row", "<i4")])
LABEL_ROW = -2
SLOTS = nb.types.Array(nb.from_dtype(SLOT), 1, "C", readonly=True)

_SEED = np.uint64(0x9E3779B9_811C9DC5)  # low half: FNV's offset basis
_TIMES = np.uint64(0xD6E8FEB8_01000193)  # low half: FNV's prime
# of each byte: the low half is the signed byte in 32 bits, the high half any other number for each. Signed in 64 bits, as
# the hash alone would allow, they leave words of two bytes with one key, such as `.i` and a Cyrillic letter
_SIGNED = np.array([byte if byte < 128 else byte | 0xFFFFFF00 for byte in range(256)], np.uint64)
_MIXED = _SIGNED | (
    (np.arange(256, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32) << np.uint64(32)
)
_NGRAM = np.uint64(116049371)  # of fastText's word n-grams
_PREFIX = np.frombuffer(b"__label__", np.uint8)

# state of a walk over the pieces, int64[6]
PIECE, POSITION, SEEN, COUNT, LEAD, CUTS = range(6)

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


@register_jitable
def _is_space(byte):
    """Space, \\n, \\r, \\t, \\v, \\f and \\0 are white space to fastText, and nothing else is."""
    return (byte == 32) | (byte - np.uint8(9) <= np.uint8(4)) | (byte == 0)


@register_jitable
def first_slot(key, slots):
    """Where the search for a key begins: its high half, which is mixed best, scaled to the number of slots."""
    return ((key >> np.uint64(32)) * np.uint64(len(slots))) >> np.uint64(32)


@register_jitable
def next_slot(at, slots):
    return at + np.uint64(1) if at + np.uint64(1) < np.uint64(len(slots)) else np.uint64(0)


@nb.njit(nb.uint64(BYTES, nb.int64, nb.int64), **_OPTIONS)
def key_of(data, begin, end):
    """The key of the word data[begin:end]."""
    key = _SEED
    for i in range(begin, end):
        key = (key ^ _MIXED[data[i]]) * _TIMES
    return key


END = key_of(np.frombuffer(b"</s>", np.uint8), 0, 4)  # of the word that fastText puts behind every text


@register_jitable
def has_prefix(data, begin, end, prefix):
    """Whether data[begin:end] begins with `prefix`."""
    if end - begin < len(prefix):
        return False
    for i in range(len(prefix)):
        if data[begin + i] != prefix[i]:
            return False
    return True


@nb.njit(
    nb.void(
        BYTES, PLACES, PLACES, nb.int64, nb.boolean, nb.boolean, BYTES,
        nb.int64[::1], nb.uint64[::1], nb.int64[::1], nb.int32[::1], nb.int32[::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def _next_window(data, starts, ends, keep, strict, prefixed, prefix, state, keys, begins, lengths, cuts):
    piece, position, seen = state[PIECE], state[POSITION], state[SEEN]
    lead = min(seen, keep)
    for i in range(lead):  # words of the piece that the last window did not finish
        j = state[COUNT] - lead + i
        keys[i], begins[i], lengths[i] = keys[j], begins[j], lengths[j]
    n, done, room = lead, 0, len(keys)
    while piece < len(starts):
        i, end = position, ends[piece]
        whole = True
        while True:
            while i < end and _is_space(data[i]):
                i += 1
            if i >= end:
                break
            if n >= room - 1:  # `</s>` must still fit
                whole = False
                break
            begin, key, byte = i, _SEED, data[i]
            while True:
                key = (key ^ _MIXED[byte]) * _TIMES
                i += 1
                if i >= end:
                    break
                byte = data[i]
                if _is_space(byte):
                    break
            if key == END and i - begin == 4:
                if strict:
                    break
                continue
            if data[begin] == 95 and not prefixed and has_prefix(data, begin, i, prefix):
                continue
            keys[n], begins[n], lengths[n] = key, begin, i - begin
            n += 1
            seen += 1
        if not whole or n >= room:
            position = i
            break
        keys[n], begins[n], lengths[n] = END, end, NO_LENGTH
        n += 1
        cuts[done] = n
        done += 1
        piece += 1
        seen = 0
        if piece < len(starts):
            position = starts[piece]
    state[PIECE], state[POSITION], state[SEEN] = piece, position, seen
    state[COUNT], state[LEAD], state[CUTS] = n, lead, done


class Windows:
    """A walk over pieces of text: `next()` fills the window, until it says False.

    Then words LEAD..COUNT of `state` are new: `keys`, where they begin in the data, their `lengths` in bytes; words
    0..LEAD are the last ones of the piece that goes on. cuts[:state[CUTS]]: for each piece that ends here, the word
    behind its last one, which is always `</s>`.

    strict: a literal `</s>` ends its piece, as in fastText; else it is no word. prefixed: words that begin with
    `__label__` are given too. keep: how many words before a word its n-grams reach back to.
    """

    def __init__(
        self,
        data: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        *,
        keep: int = 0,
        strict: bool = True,
        prefixed: bool = False,
    ) -> None:
        self._text = (data, starts, ends, keep, strict, prefixed, _PREFIX)
        self.state = np.zeros(6, np.int64)
        self.state[POSITION] = starts[0] if len(starts) else 0
        room = WINDOW + keep
        self.keys, self.begins = np.empty(room, np.uint64), np.empty(room, np.int64)
        self.lengths, self.cuts = np.empty(room, np.int32), np.empty(room, np.int32)
        self.pieces = len(starts)

    def next(self) -> bool:
        if self.state[PIECE] >= self.pieces:
            return False
        _next_window(*self._text, self.state, self.keys, self.begins, self.lengths, self.cuts)
        return True

    def drop_labels(self, slots: np.ndarray) -> None:
        """Takes the labels of a dictionary out of the window."""
        from .fasttext_labels import drop_labels

        drop_labels(self._text[0], slots, _PREFIX, self.state, self.keys, self.begins, self.lengths, self.cuts)


@register_jitable
def _buckets(hashes, out, first, count, buckets):
    if buckets < np.uint64(1 << 16):  # the quotient below would not be exact
        for i in range(first, count):
            out[i] = hashes[i] % buckets
        return
    inverse = 1.0 / np.float64(buckets)
    for i in range(first, count):
        # without a division: the quotient in 53 bits is wrong by one at most
        left = np.int64(hashes[i] - np.uint64(np.int64(np.float64(hashes[i]) * inverse)) * buckets)
        left += np.int64(buckets) if left < 0 else np.int64(0)
        out[i] = left - np.int64(buckets) if left >= np.int64(buckets) else left


@nb.njit(nb.void(KEYS, nb.int64, nb.uint64, nb.uint64[:, ::1], nb.uint32[:, ::1]), **_OPTIONS)
def ngram_buckets(keys, count, buckets, scratch, out):
    """out[m - 2, i]: the bucket of the m words that end with word i, for all m that out has rows for.

    fastText: h = h * 116049371 + next, over 32-bit hashes with their sign, in 64 bits. scratch: uint64[2, window].
    """
    for i in range(count):
        scratch[0, i] = np.uint64(np.int64(np.int32(np.uint32(keys[i]))))
    for level in range(out.shape[0]):
        old, new = scratch[level & 1], scratch[1 - (level & 1)]
        for i in range(level + 1, count):
            new[i] = old[i - 1] * _NGRAM + np.uint64(np.int64(np.int32(np.uint32(keys[i]))))
        _buckets(new, out[level], level + 1, count, buckets)
