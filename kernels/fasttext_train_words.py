"""Words of texts as fastText trains on them, and how often each occurs.

Invariant: a text cannot add a label or end a line. A token that begins with `__label__`, and a literal `</s>`, is no word
and no neighbour of one; every text counts `</s>` once, behind its last word. Memory follows the distinct words, never
the tokens. Two words are one if their 64-bit hashes are equal, which among ten million words happens once in 400,000 runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numba import types

from .byte_hash import hash_bytes

SPACE = np.zeros(256, np.bool_)
SPACE[list(b" \n\r\t\v\f\0")] = True
LABEL_PREFIX = b"__label__"
END_OF_LINE = b"</s>"
PREFIX = np.frombuffer(LABEL_PREFIX, np.uint8)
END = np.frombuffer(END_OF_LINE, np.uint8)
FULLEST = 0.6  # of a table's slots
MOST_WORDS = 2**31 - 1  # rows are int32, as in the file format

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
OFFSETS = types.Array(types.int64, 1, "C", readonly=True)
KEYS = types.Array(types.uint64, 1, "C")
SLOTS = types.Array(types.int32, 1, "C")
NUMBERS = types.Array(types.int64, 1, "C")

# places of `state` between two calls of `_count`
TEXT, AT, WORDS, LETTERS, TOKENS = range(5)


class Words(NamedTuple):
    """Distinct words in the order of their first occurrence; word w is letters[starts[w]:starts[w + 1]]."""

    keys: np.ndarray  # uint64
    counts: np.ndarray  # int64
    starts: np.ndarray  # int64, one more than words
    letters: np.ndarray  # uint8
    tokens: int  # sum of counts

    def spelled(self, word: int) -> bytes:
        return self.letters[self.starts[word] : self.starts[word + 1]].tobytes()


@nb.njit(nogil=True, forceinline=True)
def _is(data, start, stop, wanted):
    """Whether data[start:stop] begins with `wanted`."""
    if stop - start < wanted.shape[0]:
        return False
    for k in range(wanted.shape[0]):
        if data[start + k] != wanted[k]:
            return False
    return True


@nb.njit(types.UniTuple(types.int64, 2)(BYTES, types.int64, types.int64), nogil=True, cache=True)
def next_word(data, at, end):
    """(start, stop) of the first word of data[at:end]; start == stop == end where there is none."""
    while True:
        while at < end and SPACE[data[at]]:
            at += 1
        start = at
        while at < end and not SPACE[data[at]]:
            at += 1
        if start == at:
            return end, end
        if _is(data, start, at, PREFIX) or (at - start == END.shape[0] and _is(data, start, at, END)):
            continue
        return start, at


@nb.njit(nogil=True, forceinline=True)
def find(slots, keys, key):
    """The slot of `key`: slots[it] is its place in `keys`, or -1 if it is not there yet."""
    mask = slots.shape[0] - 1
    slot = np.int64(key & np.uint64(mask))
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@nb.njit(types.void(SLOTS, KEYS, types.int64), nogil=True, cache=True)
def _index(slots, keys, count):
    for place in range(count):
        slots[find(slots, keys, keys[place])] = place


@nb.njit(
    types.boolean(BYTES, OFFSETS, SLOTS, KEYS, NUMBERS, NUMBERS, types.Array(types.uint8, 1, "C"), NUMBERS),
    nogil=True,
    cache=True,
)
def _count(data, offsets, slots, keys, counts, starts, letters, state):
    """True when all texts are counted; False when a table is full: enlarge it and call again."""
    words, used = state[WORDS], state[LETTERS]
    for text in range(state[TEXT], offsets.shape[0] - 1):
        at, end = max(offsets[text], state[AT]), offsets[text + 1]
        while at <= end:
            start, stop = next_word(data, at, end)
            last = start == stop
            bytes_, start, stop = (END, 0, END.shape[0]) if last else (data, start, stop)
            key = hash_bytes(bytes_, start, stop)
            slot = find(slots, keys, key)
            word = np.int64(slots[slot])
            if word < 0:
                if words == keys.shape[0] or used + stop - start > letters.shape[0]:
                    state[TEXT], state[AT], state[WORDS], state[LETTERS] = text, at, words, used
                    return False
                word = words
                slots[slot], keys[word], counts[word], starts[word] = word, key, 0, used
                for k in range(start, stop):
                    letters[used] = bytes_[k]
                    used += 1
                words += 1
                starts[words] = used
            counts[word] += 1
            state[TOKENS] += 1
            at = end + 1 if last else stop
        state[AT] = 0
    state[TEXT], state[WORDS], state[LETTERS] = 0, words, used
    return True


def slots_for(keys: np.ndarray, room: int) -> np.ndarray:
    """int32 table for `find` over distinct uint64 keys, with room for `room` of them."""
    slots = np.full(1 << int(np.ceil(np.log2(max(room, 8) / FULLEST))), -1, np.int32)
    _index(slots, keys, len(keys))
    return slots


class Counter:
    """Counts words over any number of calls. `most_bytes`: MemoryError before tables would take more."""

    def __init__(self, most_bytes: int, room: int = 1 << 16) -> None:
        self._most_bytes = most_bytes
        self._keys, self._counts = np.empty(room, np.uint64), np.empty(room, np.int64)
        self._starts = np.zeros(room + 1, np.int64)
        self._letters = np.empty(16 * room, np.uint8)
        self._slots = slots_for(self._keys[:0], room)
        self._state = np.zeros(5, np.int64)

    def add(self, data: np.ndarray, offsets: np.ndarray) -> None:
        """Counts the words of the texts data[offsets[i]:offsets[i + 1]] (uint8; int64)."""
        while not _count(
            data, offsets, self._slots, self._keys, self._counts, self._starts, self._letters, self._state
        ):
            self._enlarge(int(np.diff(offsets).max()))

    def words(self) -> Words:
        """What was counted so far."""
        n = int(self._state[WORDS])
        return Words(
            self._keys[:n],
            self._counts[:n],
            self._starts[: n + 1],
            self._letters[: self._starts[n]],
            int(self._state[TOKENS]),
        )

    def _enlarge(self, longest: int) -> None:
        """Room for twice the words, and for twice their letters or the longest text if that is more."""
        words, used = int(self._state[WORDS]), int(self._state[LETTERS])
        more_words = len(self._keys) * (2 if words == len(self._keys) else 1)
        more_letters = max(len(self._letters), 2 * used + longest + len(END_OF_LINE))
        if more_words > MOST_WORDS or 8 * 6 * more_words + more_letters > self._most_bytes:
            raise MemoryError(f"{words} distinct words")
        if more_words > len(self._keys):
            self._keys, self._counts = _grown(self._keys, more_words), _grown(self._counts, more_words)
            self._starts = _grown(self._starts, more_words + 1)
            self._slots = slots_for(self._keys[:words], more_words)
        self._letters = _grown(self._letters, more_letters)


def _grown(old: np.ndarray, size: int) -> np.ndarray:
    new = np.empty(size, old.dtype)
    new[: len(old)] = old
    return new
