"""Scan and clean for `normalize`: which texts must change, and the bytes of those without their control characters.

Invariant: a text whose flags are 0 is returned byte for byte, and `clean` output has flags without CLEAN.

`nfc` is `nfc.nfc_table()`, `chars` is `str_classes.str_classes()`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .nfc import LINE_BREAK, MAY_COMPOSE, REMOVED
from .str_classes import BYTES, OFFSETS
from .utf8 import decode, strip

CLEAN = 1  # holds something that `clean` changes
COMPOSE = 2  # may not be in NFC once it is clean: unicodedata must look at it

U64 = np.uint64  # hot loops index by it: a signed index is first tested for < 0 (copying: 0.8 against 15 GB/s)
_NEWLINE = 10
_BLOCK = 32


@njit(nogil=True, cache=True)
def _copy(source, start, stop, out, w):
    """Copies source[start:stop] to out[w:] and gives the end; upwards, so it may move bytes down within one buffer."""
    a, b = U64(start), U64(w)
    for j in range(U64(stop - start)):
        out[b + j] = source[a + j]
    return w + stop - start


@njit(nogil=True, cache=True)
def _long_run(data, start, stop, limit):
    """Whether more than `limit` newlines follow each other: looks at every (limit + 1)-th byte first."""
    i = start + limit
    while i < stop:
        if data[U64(i)] == _NEWLINE:
            low = high = i
            while low > start and data[low - 1] == _NEWLINE:
                low -= 1
            while high + 1 < stop and data[high + 1] == _NEWLINE:
                high += 1
            if high - low + 1 > limit:
                return True
        i += limit + 1
    return False


@njit(types.uint8[::1](BYTES, OFFSETS, BYTES, BYTES, types.int64, types.boolean), nogil=True, cache=True)
def scan(data, offsets, nfc, chars, max_newlines, strip_ends):
    """uint8[n]: CLEAN and COMPOSE of each text. `max_newlines` 0 means any number."""
    n = len(offsets) - 1
    flags = np.zeros(n, np.uint8)
    for t in range(n):
        start, stop = offsets[t], offsets[t + 1]
        found = 0
        last = 0  # combining class of the last character that stays
        i = start
        while i < stop and found != CLEAN | COMPOSE:
            while i + _BLOCK <= stop:
                special = False
                for j in range(i, i + _BLOCK):
                    b = data[U64(j)]
                    special |= (b < 32) & (b != 9) & (b != 10) | (b > 126)
                if special:
                    break
                last = 0
                i += _BLOCK
            block = min(stop, i + _BLOCK)
            while i < block:
                code, width = decode(data, i)
                i += width
                kind = nfc[code]
                if kind == 0:
                    last = 0
                elif kind < REMOVED:
                    if last > kind:
                        found |= COMPOSE
                    last = kind
                elif kind == MAY_COMPOSE:
                    found |= COMPOSE
                else:
                    found |= CLEAN
                    if kind == LINE_BREAK:
                        last = 0
        if max_newlines > 0 and not found & CLEAN and _long_run(data, start, stop, max_newlines):
            found |= CLEAN
        if strip_ends and not found & CLEAN:
            low, high = strip(data, start, stop, chars)
            if low != start or high != stop:
                found |= CLEAN
        flags[t] = found
    return flags


@njit(
    types.Tuple((types.uint8[::1], types.int64[::1], types.int32[::1], types.int32[::1]))(
        BYTES, OFFSETS, types.uint8[::1], BYTES, BYTES, types.int64, types.boolean
    ),
    nogil=True,
    cache=True,
)
def clean(data, offsets, flags, nfc, chars, max_newlines, strip_ends):
    """(data, offsets from 0, int32 controls removed, int32 line breaks rewritten) for `flags` from `scan`.

    CR LF, CR, VT, FF, NEL, LS and PS become one newline each; runs of more than `max_newlines` newlines are cut to it
    (0: never); `strip_ends` takes white space (str.isspace) from both ends. Output is never longer than input.
    """
    n = len(offsets) - 1
    out = np.empty(offsets[n] - offsets[0], np.uint8)
    ends = np.zeros(n + 1, np.int64)
    controls = np.zeros(n, np.int32)
    breaks = np.zeros(n, np.int32)
    w = 0
    for t in range(n):
        start, stop = offsets[t], offsets[t + 1]
        first = w
        if not flags[t] & CLEAN:
            ends[t + 1] = w = _copy(data, start, stop, out, w)
            continue
        run = 0
        i = start
        while i < stop:
            b = data[U64(i)]
            if 31 < b < 127:
                out[U64(w)] = b
                w += 1
                i += 1
                run = 0
                continue
            code, width = decode(data, i)
            kind = nfc[code]
            if kind == REMOVED:
                controls[t] += 1
            elif kind == LINE_BREAK or code == _NEWLINE:
                if kind == LINE_BREAK:
                    breaks[t] += 1
                    if code == 13 and i + 1 < stop and data[i + 1] == _NEWLINE:
                        width = 2
                run += 1
                if max_newlines == 0 or run <= max_newlines:
                    out[w] = _NEWLINE
                    w += 1
            else:
                run = 0
                w = _copy(data, i, i + width, out, w)
            i += width
        if strip_ends:
            low, high = strip(out, first, w, chars)
            w = _copy(out, low, high, out, first)
        ends[t + 1] = w
    return out[:w], ends, controls, breaks
