"""Text as exact deduplication compares it: white space collapsed and trimmed, letters in lower case.

Invariant: the result is valid UTF-8 for valid UTF-8, depends on each text alone, and squash(squash(x)) == squash(x).
"""

from __future__ import annotations

import functools
import unicodedata

import numba
import numpy as np
from numba import types

UNICODE_VERSION = unicodedata.unidata_version
# Unicode property White_Space: 25 code points. Unlike str.split, U+001C..U+001F are no white space.
WHITE_SPACE = (
    *range(0x9, 0xE),
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
)
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
OFFSETS = types.Array(types.int64, 1, "C", readonly=True)
TABLE = types.Array(types.uint32, 1, "C", readonly=True)
TABLE_SIZE = 0x20000  # no code point at or above it has a lower case or is white space; `lower_table` checks


@functools.cache
def lower_table() -> np.ndarray:
    """uint32[0x20000]: for each code point its simple lower case, 0x20 for white space, itself otherwise.

    Simple case mapping: one code point to one, without context. So U+0130 becomes i (str.lower gives two code points),
    and capital sigma always the non-final one.
    """
    table = np.arange(TABLE_SIZE, dtype=np.uint32)
    for code in range(TABLE_SIZE):
        if not 0xD800 <= code < 0xE000:
            table[code] = ord(chr(code).lower()[0])
    if any(chr(code).lower() != chr(code) for code in range(TABLE_SIZE, 0x40000)):
        raise RuntimeError("this Python's Unicode has lower case beyond U+1FFFF: raise TABLE_SIZE in kernels/squash.py")
    table[list(WHITE_SPACE)] = 0x20
    table.setflags(write=False)
    return table


@numba.njit(types.int64(types.Array(types.uint8, 1, "C"), types.int64, types.int64), nogil=True, cache=True)
def _put(out, at, code):
    """Writes one code point as UTF-8 and returns the position after it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | (code >> 6)
        out[at + 1] = 0x80 | (code & 0x3F)
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | (code >> 12)
        out[at + 1] = 0x80 | ((code >> 6) & 0x3F)
        out[at + 2] = 0x80 | (code & 0x3F)
        return at + 3
    out[at] = 0xF0 | (code >> 18)
    out[at + 1] = 0x80 | ((code >> 12) & 0x3F)
    out[at + 2] = 0x80 | ((code >> 6) & 0x3F)
    out[at + 3] = 0x80 | (code & 0x3F)
    return at + 4


@numba.njit(
    types.int64(BYTES, OFFSETS, TABLE, types.Array(types.uint8, 1, "C"), types.Array(types.int64, 1, "C")),
    nogil=True,
    cache=True,
)
def _squash(data, offsets, table, out, out_offsets):
    at = 0
    for index in range(len(offsets) - 1):
        position, end = offsets[index], offsets[index + 1]
        out_offsets[index] = at
        # Every character is written and kept unless it is a space after a space: no branch on ASCII text
        last = np.int64(0x20)
        while position < end:
            byte = np.int64(data[position])
            if byte < 0x80:
                code = np.int64(table[byte])
                out[at] = code
                at += (code != 0x20) | (last != 0x20)
                last = code
                position += 1
                continue
            if byte < 0xE0:
                size, code = 2, byte & 0x1F
            elif byte < 0xF0:
                size, code = 3, byte & 0x0F
            else:
                size, code = 4, byte & 0x07
            if position + size > end:  # not UTF-8: the rest as it is
                size, code = 1, 0xFFFFFFFF
            for k in range(1, size):
                code = (code << 6) | (np.int64(data[position + k]) & 0x3F)
            lower = np.int64(table[code]) if code < len(table) else code
            if lower == 0x20:
                out[at] = 0x20
                at += last != 0x20
            elif lower == code:
                for k in range(size):
                    out[at + k] = data[position + k]
                at += size
            else:
                at = _put(out, at, lower)
            last = lower
            position += size
        if last == 0x20 and at > out_offsets[index]:
            at -= 1
    out_offsets[len(offsets) - 1] = at
    return at


def squash(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(data uint8, offsets int64 from 0) of the texts with every run of Unicode White_Space as one space, none at the
    ends, and each letter in its simple lower case.

    data: uint8, UTF-8; offsets: int64[n + 1], offsets[0] may be > 0. Bytes that are no UTF-8 never fail.
    """
    size = int(offsets[-1] - offsets[0])
    # a lower case is at most one byte longer than its upper case, and those have at least two bytes (U+023A)
    out = np.empty(size + size // 2 + 1, np.uint8)
    out_offsets = np.empty(len(offsets), np.int64)
    used = _squash(data, offsets, lower_table(), out, out_offsets)
    return out[:used], out_offsets
