"""Steps over valid UTF-8: characters forward and back, white space off both ends, characters in a range.

Invariant: the bytes are valid UTF-8 and every position given is the start of a character (or the end of the range).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .unicode_classes import SPACE


@nb.njit(forceinline=True)
def decode(data, i):
    """(code point, bytes) of the character that starts at i."""
    c = np.int64(data[i])
    if c < 0x80:
        return c, 1
    if c < 0xE0:
        return ((c & 0x1F) << 6) | (np.int64(data[i + 1]) & 0x3F), 2
    if c < 0xF0:
        return ((c & 0x0F) << 12) | ((np.int64(data[i + 1]) & 0x3F) << 6) | (np.int64(data[i + 2]) & 0x3F), 3
    high = ((c & 0x07) << 18) | ((np.int64(data[i + 1]) & 0x3F) << 12)
    return high | ((np.int64(data[i + 2]) & 0x3F) << 6) | (np.int64(data[i + 3]) & 0x3F), 4


@nb.njit(forceinline=True)
def before(data, end):
    """Start of the character that ends at `end`."""
    i = end - 1
    while data[i] & 0xC0 == 0x80:
        i -= 1
    return i


@nb.njit
def count_chars(data, start, end):
    """Code points in data[start:end]."""
    n = 0
    for i in range(start, end):
        n += np.int64(data[i] & 0xC0 != 0x80)
    return n


@nb.njit
def strip(data, start, end, table):
    """(start, end) without white space at both ends, as str.strip."""
    while start < end:
        point, size = decode(data, start)
        if not table[point] & SPACE:
            break
        start += size
    while end > start:
        i = before(data, end)
        point, _ = decode(data, i)
        if not table[point] & SPACE:
            break
        end = i
    return start, end
