"""Spans cut out of texts, in one pass over the bytes.

Invariant: cuts are at character boundaries, so the output is valid UTF-8 wherever the input is; a text without a span
comes out byte for byte.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .str_classes import BYTES, OFFSETS, SPACE
from .utf8 import decode

U64 = np.uint64  # hot loops index by it: a signed index is first tested for < 0


@njit(nogil=True, cache=True)
def _copy(source, start, stop, out, w):
    """Copies source[start:stop] to out[w:] and gives the end."""
    a, b = U64(start), U64(w)
    for j in range(U64(stop - start)):
        out[b + j] = source[a + j]
    return w + stop - start


@njit(nogil=True, cache=True)
def _words(data, start, stop, table, outside, found, most):
    """(outside, found): words of str.split in data[start:stop] added to `found`, until there are `most`; `outside`: no
    word is open, so that a word goes on over a cut."""
    i = start
    while i < stop and found < most:
        code, width = decode(data, i)
        space = table[code] & SPACE != 0
        found += outside and not space
        outside = space
        i += width
    return outside, found


@njit(
    types.int64(
        BYTES,
        OFFSETS,
        types.Array(types.uint8, 1, "C", readonly=True),
        OFFSETS,
        OFFSETS,
        OFFSETS,
        BYTES,
        types.int64,
        types.Array(types.uint8, 1, "C"),
        types.Array(types.int64, 1, "C"),
        types.Array(types.int64, 1, "C"),
        types.Array(types.int32, 1, "C"),
    ),
    nogil=True,
    cache=True,
)
def _cut(data, offsets, table, spans, starts, ends, replacement, min_words, out, out_offsets, cut_bytes, cut_count):
    w = 0
    for i in range(len(offsets) - 1):
        out_offsets[i] = w
        base, stop = offsets[i], offsets[i + 1]
        k, last = spans[i], spans[i + 1]
        if k == last:
            w = _copy(data, base, stop, out, w)
            continue
        position, removed, count, words, outside = base, 0, 0, 0, True
        while k < last:
            start, end = starts[k], ends[k]
            k += 1
            while k < last and starts[k] <= end:  # what overlaps or touches is one span
                end = max(end, ends[k])
                k += 1
            start += base
            end += base
            while start < end and data[start] & 0xC0 == 0x80:
                start += 1
            while start < end < stop and data[end] & 0xC0 == 0x80:
                end -= 1
            if start == end:
                continue
            outside, words = _words(data, position, start, table, outside, words, min_words)
            w = _copy(data, position, start, out, w)
            w = _copy(replacement, 0, len(replacement), out, w)
            removed += end - start
            count += 1
            position = end
        _, words = _words(data, position, stop, table, outside, words, min_words)
        w = _copy(data, position, stop, out, w)
        if count and words < min_words:
            w = out_offsets[i]
        cut_bytes[i] = removed
        cut_count[i] = count
    out_offsets[len(offsets) - 1] = w
    return w


def cut(
    data: np.ndarray,
    offsets: np.ndarray,
    table: np.ndarray,
    spans: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    replacement: np.ndarray,
    min_words: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The texts without their spans: (data uint8, offsets int64 from 0, bytes cut int64[n], spans cut int32[n]).

    data, offsets: UTF-8 texts as `arrow.text_buffers` gives them; table: `str_classes()`. Text i has the spans
    spans[i] <= k < spans[i + 1] (int64[n + 1]): bytes starts[k] to ends[k] of the text (int64, 0 <= start <= end <= its
    length, ascending by start; nothing here tests it). Spans that overlap or touch are merged; one that begins or ends
    inside a character shrinks to whole ones. replacement: uint8, written in place of each merged span. A text that lost
    a span and keeps fewer than `min_words` words (white space; without the replacements) is empty.
    """
    out = np.empty(int(offsets[-1] - offsets[0]) + len(starts) * len(replacement), np.uint8)
    out_offsets = np.empty(len(offsets), np.int64)
    cut_bytes, cut_count = np.zeros(len(offsets) - 1, np.int64), np.zeros(len(offsets) - 1, np.int32)
    arguments = (spans, starts, ends, replacement, min_words, out, out_offsets, cut_bytes, cut_count)
    used = _cut(data, offsets, table, *arguments)
    return out[:used], out_offsets, cut_bytes, cut_count
