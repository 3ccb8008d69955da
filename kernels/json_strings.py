"""Texts as JSON strings: quoted, with what JSON does not allow in a string escaped, everything else as it is.

Invariant: the result for every valid UTF-8 text is that of Python's json.dumps(text, ensure_ascii=False).
"""

from __future__ import annotations

import functools

import numba
import numpy as np
from numba import types

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
OFFSETS = types.Array(types.int64, 1, "C", readonly=True)
OUT, OUT_OFFSETS = types.Array(types.uint8, 1, "C"), types.Array(types.int64, 1, "C")
SHORT = {0x22: '"', 0x5C: "\\", 0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r"}


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """uint8[256]: how many bytes a byte becomes; uint8[256]: the letter after its backslash (u: a code in hex)."""
    sizes, letters = np.ones(256, np.uint8), np.zeros(256, np.uint8)
    sizes[:0x20], letters[:0x20] = 6, ord("u")
    for byte, letter in SHORT.items():
        sizes[byte], letters[byte] = 2, ord(letter)
    for table in (sizes, letters):
        table.setflags(write=False)
    return sizes, letters


@numba.njit(types.int64(BYTES, types.int64, types.int64, BYTES), nogil=True, cache=True)
def _size(data, start, end, sizes):
    total = np.int64(0)
    for position in range(start, end):
        total += sizes[data[position]]
    return total


@numba.njit(types.void(BYTES, OFFSETS, BYTES, BYTES, OUT, OUT_OFFSETS), nogil=True, cache=True)
def _escape(data, offsets, sizes, letters, out, out_offsets):
    at = np.int64(0)
    for index in range(len(offsets) - 1):
        out_offsets[index] = at
        out[at] = 0x22
        at += 1
        for position in range(offsets[index], offsets[index + 1]):
            byte = data[position]
            if sizes[byte] == 1:
                out[at] = byte
                at += 1
                continue
            out[at] = 0x5C
            out[at + 1] = letters[byte]
            if sizes[byte] == 6:
                out[at + 2] = 0x30
                out[at + 3] = 0x30
                out[at + 4] = 0x30 + (byte >> 4)  # below U+0020 the first digit is 0 or 1
                low = byte & 0x0F
                out[at + 5] = low + 0x30 if low < 10 else low + 0x57
            at += sizes[byte]
        out[at] = 0x22
        at += 1
    out_offsets[len(offsets) - 1] = at


def json_strings(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(data uint8, offsets int64 from 0) of the texts as JSON strings.

    data: uint8, UTF-8; offsets: int64[n + 1], offsets[0] may be > 0.
    """
    sizes, letters = tables()
    size = _size(data, offsets[0], offsets[-1], sizes) + 2 * (len(offsets) - 1)
    out, out_offsets = np.empty(size, np.uint8), np.empty(len(offsets), np.int64)
    _escape(data, offsets, sizes, letters, out, out_offsets)
    return out, out_offsets
