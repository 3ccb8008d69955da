"""Lines or paragraphs of texts: the 128-bit keys and the places of those that count, in one walk over the bytes.

Invariant: equal pieces have equal keys in every text, batch and version (files hold them); two unequal ones share a key
with probability below 2^-48 among 10^12 different pieces. A blank piece never counts.
"""

from __future__ import annotations

import functools

import numba as nb
import numpy as np
from numba import types

from .byte_hash import equal_bytes, first_byte, load
from .siphash import siphash128
from .squash import BYTES, OFFSETS, TABLE, WHITE_SPACE, _squash, lower_table
from .utf8 import decode

_K0, _K1 = np.frombuffer(b"tamis paragraphs", np.dtype("<u8"))
LONGEST = (1 << 32) - 1  # bytes of a text: start and size of a piece have 32 bits each

_STEP = 1 << 24  # bytes in which line feeds are counted at a time

_WORDS = types.Array(types.uint64, 1, "C")


@nb.njit(forceinline=True)
def _line_end(data, start, end):
    """Position of the next line feed, or `end`."""
    i = start
    while i < end:
        marks = equal_bytes(load(data, i), np.uint64(10))
        if marks:
            return min(i + first_byte(marks), end)
        i += 8
    return end


@nb.njit(forceinline=True)
def _blank(data, start, end, table):
    """Whether there is nothing but Unicode White_Space."""
    i = start
    while i < end:
        code, size = decode(data, i)
        if code >= len(table) or table[code] != 0x20:
            return False
        i += size
    return True


@nb.njit(forceinline=True)
def _has_chars(data, start, end, least):
    """Whether there are at least so many characters."""
    count, i = np.int64(0), start
    while i < end and count < least:
        count += np.int64((data[i] & 0xC0) != 0x80)
        i += 1
    return count >= least


@nb.njit(forceinline=True)
def _next_piece(data, start, end, whole, table):
    """(start, end) of the content of the next piece from `start` on, and where the piece after it begins.

    A line (`whole` false) is one with or without content; the content of a blank one is empty. A paragraph is a run of
    lines that are not blank; the blank lines around it are no content. A line feed, or a carriage return and a line
    feed, end a line and are no content at the end of a piece.
    """
    s = start
    first = last = np.int64(0)
    found = gap = False
    while s < end:
        e = _line_end(data, s, end)
        stop = min(e + 1, end)
        if stop > e > s and data[e - 1] == 13:
            e -= 1
        blank = _blank(data, s, e, table)
        if not whole:
            return s, s if blank else e, stop
        if not blank:
            if gap:
                return first, last, s
            if not found:
                found, first = True, s
            last = e
        elif found:
            gap = True
        s = stop
    return first, last, end


@nb.njit(
    types.int64(
        BYTES,
        OFFSETS,
        TABLE,
        types.boolean,
        types.boolean,
        types.int64,
        types.Array(types.uint8, 1, "C"),
        types.Array(types.int64, 1, "C"),
        _WORDS,
        _WORDS,
    ),
    nogil=True,
    cache=True,
)
def _paragraphs(data, offsets, table, whole, normalize, least, scratch, counts, first, rest):
    at = np.int64(0)
    bounds, written = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for text in range(len(offsets) - 1):
        origin, end = offsets[text], offsets[text + 1]
        begin, before = origin, at
        while begin < end:
            a, b, stop = _next_piece(data, begin, end, whole, table)
            if b > a:
                if normalize:
                    bounds[0], bounds[1] = a, b
                    used = _squash(data, bounds, table, scratch, written)
                    if _has_chars(scratch, 0, used, least):
                        first[at], rest[2 * at] = siphash128(scratch, 0, used, _K0, _K1)
                        rest[2 * at + 1] = np.uint64(a - origin) | (np.uint64(stop - a) << np.uint64(32))
                        at += 1
                elif _has_chars(data, a, b, least):
                    first[at], rest[2 * at] = siphash128(data, a, b, _K0, _K1)
                    rest[2 * at + 1] = np.uint64(a - origin) | (np.uint64(stop - a) << np.uint64(32))
                    at += 1
            begin = stop
        counts[text] = at - before
    return at


@functools.cache
def _space_table() -> np.ndarray:
    """As `lower_table`, of white space alone and no longer than that needs: 0.3 s less where nothing is normalized."""
    table = np.arange(max(WHITE_SPACE) + 1, dtype=np.uint32)
    table[list(WHITE_SPACE)] = 0x20
    table.setflags(write=False)
    return table


def paragraphs(
    data: np.ndarray, offsets: np.ndarray, *, whole: bool, normalize: bool, min_chars: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(counts int64[texts], first uint64[pieces], rest uint64[pieces, 2]) of the pieces that count, in order.

    data: uint8, valid UTF-8. offsets: int64[texts + 1], offsets[0] may be > 0. whole: paragraphs, not lines. normalize:
    white space and case do not count, as in `squash`. min_chars: a piece with fewer characters, as it is compared,
    does not count.
    first: the first 64 bits of the key. rest: the other 64 bits; and start + (size << 32) of the piece in bytes of its
    text: a line with its line feed, a paragraph with the blank lines behind it. ValueError for a text above LONGEST.
    """
    sizes = np.diff(offsets)
    longest = int(sizes.max(initial=0))
    if longest > LONGEST:
        raise ValueError(f"a text of {longest} bytes; lines are found in texts of at most {LONGEST}")
    steps = range(int(offsets[0]), int(offsets[-1]), _STEP)
    room = len(sizes) + sum(np.count_nonzero(data[i : min(i + _STEP, int(offsets[-1]))] == 10) for i in steps)
    counts, first, rest = np.empty(len(sizes), np.int64), np.empty(room, np.uint64), np.empty(2 * room, np.uint64)
    # a lower case is at most one byte longer than its upper case, and those have at least two bytes (see squash)
    scratch = np.empty(longest + longest // 2 + 8 if normalize else 8, np.uint8)
    table = lower_table() if normalize else _space_table()
    used = _paragraphs(data, offsets, table, whole, normalize, min_chars, scratch, counts, first, rest)
    return counts, first[:used], rest[: 2 * used].reshape(-1, 2)
