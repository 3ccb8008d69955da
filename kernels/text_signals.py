"""All heuristic statistics of a batch of texts in one compiled call: integers, whose quotients the stage's columns are.

Invariant: row d of the result depends on text d alone, whatever lies before, after or around it. Work areas are allocated
once per call and hold the longest text; their pages are touched only as far as a text needs them.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .lines import dclm_segments, dolma_lines, edges, line_feeds, plain_lines, plain_paragraphs
from .punct_words import punct_words
from .repetition import DATATROVE, DCLM, DOLMA, repetition
from .unicode_classes import classes
from .utf8 import count_chars
from .words import (
    fasttext_words,
    occurrences,
    occurrences_of_byte,
    space_words,
    spaced_dots,
    symbols,
    unicode_words,
)

# groups of work, one bit each; a group that nobody asks for costs nothing and leaves zeros
SYMBOLS = 1
PHRASES = 2
SPACED_DOTS = 4
EDGES = 8
LINES = 16
PARAGRAPHS = 32
LINES_DOLMA = 64
LINES_DCLM = 128
PARAGRAPHS_DCLM = 256
WORDS = 512  # punct
REPEATS = 1024
SPACE_WORDS = 2048
REPEATS_DOLMA = 4096
FASTTEXT_WORDS = 8192
UNICODE_WORDS = 16384
REPEATS_DCLM = 32768
EVERYTHING = 65535

# where each group's integers begin in a row of the result
AT_SYMBOLS = 0
AT_PHRASES = 6  # lorem ipsum, javascript, {
AT_SPACED_DOTS = 9
AT_EDGES = 10
AT_LINES = 13
AT_PARAGRAPHS = 20
AT_LINES_DOLMA = 23
AT_LINES_DCLM = 28
AT_PARAGRAPHS_DCLM = 34
AT_WORDS = 38
AT_REPEATS = 44
AT_SPACE = 53
AT_REPEATS_DOLMA = 60
AT_FASTTEXT = 75
AT_UNICODE = 76  # words, their characters
AT_REPEATS_DCLM = 78
WIDTH = 87

GROUPS = {  # name -> (bit, place)
    "symbols": (SYMBOLS, AT_SYMBOLS),
    "phrases": (PHRASES, AT_PHRASES),
    "spaced_dots": (SPACED_DOTS, AT_SPACED_DOTS),
    "edges": (EDGES, AT_EDGES),
    "lines": (LINES, AT_LINES),
    "paragraphs": (PARAGRAPHS, AT_PARAGRAPHS),
    "lines_dolma": (LINES_DOLMA, AT_LINES_DOLMA),
    "lines_dclm": (LINES_DCLM, AT_LINES_DCLM),
    "paragraphs_dclm": (PARAGRAPHS_DCLM, AT_PARAGRAPHS_DCLM),
    "words": (WORDS, AT_WORDS),
    "repeats": (REPEATS, AT_REPEATS),
    "space": (SPACE_WORDS, AT_SPACE),
    "repeats_dolma": (REPEATS_DOLMA, AT_REPEATS_DOLMA),
    "fasttext": (FASTTEXT_WORDS, AT_FASTTEXT),
    "unicode": (UNICODE_WORDS, AT_UNICODE),
    "repeats_dclm": (REPEATS_DCLM, AT_REPEATS_DCLM),
}

_LOREM = np.frombuffer(b"lorem ipsum", np.uint8)
_JAVASCRIPT = np.frombuffer(b"javascript", np.uint8)

_bytes = nb.types.Array(nb.uint8, 1, "C", readonly=True)
_offsets = nb.types.Array(nb.int64, 1, "C", readonly=True)
_table = nb.types.Array(nb.uint32, 1, "C", readonly=True)
_scratch = nb.types.Tuple(
    (nb.uint64[::1], nb.int64[::1], nb.uint64[::1], nb.uint8[::1], nb.uint32[:, ::1], nb.int64[:, ::1])
)


# Without reference counts: nothing is allocated in here, and counting those of the arrays cost a third of the time.
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


@nb.njit(nb.void(_bytes, _offsets, nb.int64, nb.int64, _table, _bytes, _bytes, _scratch, nb.int64[:, ::1]), **_OPTIONS)
def _measure(data, offsets, groups, short, table, lorem, javascript, scratch, result):
    words, ends, entries, seen, ints, longs = scratch
    marks = ints[0]  # stamps: never written otherwise, so that they stay valid from text to text
    points, gram, count, alive = ints[1], ints[2], ints[3], ints[4]
    lines_scratch = (entries, count)
    grams_scratch = (entries, seen, marks, gram, count, alive)
    chunk_scratch = (points, gram, longs[0], longs[1])
    cuts = alive
    now = 0
    ends[0] = 0
    feeds = groups & (LINES | PARAGRAPHS | LINES_DOLMA | LINES_DCLM | PARAGRAPHS_DCLM)
    for d in range(offsets.shape[0] - 1):
        start, end = offsets[d], offsets[d + 1]
        out = result[d]
        if groups & SYMBOLS:
            symbols(data, start, end, out[AT_SYMBOLS:])
        else:
            out[AT_SYMBOLS] = count_chars(data, start, end)
        if groups & PHRASES:
            out[AT_PHRASES] = occurrences(data, start, end, lorem)
            out[AT_PHRASES + 1] = occurrences(data, start, end, javascript)
            out[AT_PHRASES + 2] = occurrences_of_byte(data, start, end, 123)
        if groups & SPACED_DOTS:
            out[AT_SPACED_DOTS] = spaced_dots(data, start, end)
        if groups & EDGES:
            edges(data, start, end, table, out[AT_EDGES:])
        if feeds:
            n = line_feeds(data, start, end, cuts)
            if groups & LINES:
                narrow = out[AT_SYMBOLS] == end - start
                area = out[AT_LINES:]
                now = plain_lines(data, start, end, narrow, cuts, n, short, table, area, lines_scratch, now)
            if groups & PARAGRAPHS:
                now = plain_paragraphs(data, start, end, cuts, n, table, out[AT_PARAGRAPHS:], lines_scratch, now)
            if groups & LINES_DOLMA:
                now = dolma_lines(data, start, end, cuts, n, out[AT_LINES_DOLMA:], lines_scratch, now)
            if groups & LINES_DCLM:
                now = dclm_segments(data, start, end, cuts, n, 1, table, out[AT_LINES_DCLM:], lines_scratch, now)
            if groups & PARAGRAPHS_DCLM:
                now = dclm_segments(data, start, end, cuts, n, 2, table, out[AT_PARAGRAPHS_DCLM:], lines_scratch, now)
        if groups & (WORDS | REPEATS):
            n = punct_words(data, start, end, table, words, ends, chunk_scratch, out[AT_WORDS:])
            if groups & REPEATS:
                now = repetition(words, ends, n, DATATROVE, out[AT_REPEATS:], grams_scratch, now)
        if groups & (SPACE_WORDS | REPEATS_DOLMA):
            n = space_words(data, start, end, table, words, ends, out[AT_SPACE:])
            if groups & REPEATS_DOLMA:
                now = repetition(words, ends, n, DOLMA, out[AT_REPEATS_DOLMA:], grams_scratch, now)
        if groups & FASTTEXT_WORDS:
            out[AT_FASTTEXT] = fasttext_words(data, start, end, table)
        if groups & (UNICODE_WORDS | REPEATS_DCLM):
            n = unicode_words(data, start, end, table, words, ends)
            out[AT_UNICODE] = n
            out[AT_UNICODE + 1] = ends[n]
            if groups & REPEATS_DCLM:
                now = repetition(words, ends, n, DCLM, out[AT_REPEATS_DCLM:], grams_scratch, now)


def text_signals(data: np.ndarray, offsets: np.ndarray, groups: int, short: int) -> np.ndarray:
    """int64 of shape (texts, WIDTH): the integers of the groups in the bit set `groups`, at the places AT_*.

    data: uint8, valid UTF-8. offsets: int64, texts + 1. short: a line of at most so many characters is short.
    """
    texts = len(offsets) - 1
    result = np.zeros((texts, WIDTH), np.int64)
    if texts == 0:
        return result
    longest = int(np.diff(offsets).max()) + 3
    capacity = 16
    while capacity < 2 * longest:
        capacity *= 2
    # zeros come from the system page by page as they are touched
    scratch = (
        np.zeros(longest, np.uint64),
        np.zeros(longest + 1, np.int64),
        np.zeros(2 * capacity, np.uint64),
        np.zeros(4 * capacity, np.uint8),
        np.zeros((5, longest), np.uint32),
        np.zeros((2, longest), np.int64),
    )
    _measure(data, offsets, groups, short, classes(), _LOREM, _JAVASCRIPT, scratch, result)
    return result
