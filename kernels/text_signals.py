"""All heuristic statistics of a batch of texts in one compiled call: integers, whose quotients the stage's columns are.

Invariant: row d of the result depends on text d alone, whatever lies before, after or around it. Work areas are allocated
once per call and hold the longest text; their pages are touched only as far as a text needs them.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .lines import dclm_segments, dolma_lines, edges, line_feeds, plain_lines, plain_paragraphs
from .punct_words import punct_words
from .repetition import DATATROVE, DCLM, DOLMA, repetition
from .unicode_classes import classes
from .words import fasttext_words, occurrences, space_words, symbols, unicode_words

# groups of work, one bit each; a group that nobody asks for costs nothing and leaves zeros
PHRASES = 1
EDGES = 2
LINES = 4
PARAGRAPHS = 8
LINES_DOLMA = 16
LINES_DCLM = 32
PARAGRAPHS_DCLM = 64
WORDS = 128  # punct
REPEATS = 256
SPACE_WORDS = 512
REPEATS_DOLMA = 1024
FASTTEXT_WORDS = 2048
UNICODE_WORDS = 4096
REPEATS_DCLM = 8192
EVERYTHING = 16383

# where each group's integers begin in a row of the result
AT_SYMBOLS = 0  # characters, #, line feeds, ..., U+2026, ". . .", {
AT_PHRASES = 7  # lorem ipsum, javascript
AT_EDGES = 9
AT_LINES = 12
AT_PARAGRAPHS = 19
AT_LINES_DOLMA = 22
AT_LINES_DCLM = 27
AT_PARAGRAPHS_DCLM = 33
AT_WORDS = 37
AT_REPEATS = 43
AT_SPACE = 52
AT_REPEATS_DOLMA = 59
AT_FASTTEXT = 74
AT_UNICODE = 75  # words, their characters
AT_REPEATS_DCLM = 77
WIDTH = 86

_LOREM = np.frombuffer(b"lorem ipsum", np.uint8)
_JAVASCRIPT = np.frombuffer(b"javascript", np.uint8)

_bytes = nb.types.Array(nb.uint8, 1, "C", readonly=True)
_offsets = nb.types.Array(nb.int64, 1, "C", readonly=True)
_table = nb.types.Array(nb.uint32, 1, "C", readonly=True)
_scratch = nb.types.Tuple((nb.uint64[::1], nb.int64[::1], nb.uint64[::1], nb.int32[:, ::1]))


@nb.njit(
    nb.void(_bytes, _offsets, nb.int64, nb.int64, _table, _bytes, _bytes, _scratch, nb.int64[:, ::1]),
    nogil=True,
    cache=True,
)
def _measure(data, offsets, groups, short, table, lorem, javascript, scratch, result):
    words, ends, slots, ints = scratch
    values, stamps, marks = ints[0], ints[1], ints[2]  # these keep stamps from text to text
    first, gram, count, alive, spare = ints[3], ints[4], ints[5], ints[6], ints[7]
    lines_scratch = (slots, values, stamps, count)
    grams_scratch = (slots, values, stamps, first, gram, count, marks, alive)
    chunk_scratch = (first, gram, count, alive, spare)
    now = 0
    ends[0] = 0
    feeds = groups & (LINES | PARAGRAPHS | LINES_DOLMA | LINES_DCLM | PARAGRAPHS_DCLM)
    for d in range(offsets.shape[0] - 1):
        start, end = offsets[d], offsets[d + 1]
        out = result[d]
        symbols(data, start, end, out[AT_SYMBOLS:])
        if groups & PHRASES:
            out[AT_PHRASES] = occurrences(data, start, end, lorem)
            out[AT_PHRASES + 1] = occurrences(data, start, end, javascript)
        if groups & EDGES:
            edges(data, start, end, table, out[AT_EDGES:])
        if feeds:
            cuts = alive
            n_cuts = line_feeds(data, start, end, cuts)
            if groups & LINES:
                now = plain_lines(data, start, end, cuts, n_cuts, short, table, out[AT_LINES:], lines_scratch, now)
            if groups & PARAGRAPHS:
                now = plain_paragraphs(data, start, end, cuts, n_cuts, table, out[AT_PARAGRAPHS:], lines_scratch, now)
            if groups & LINES_DOLMA:
                now = dolma_lines(data, start, end, cuts, n_cuts, out[AT_LINES_DOLMA:], lines_scratch, now)
            if groups & LINES_DCLM:
                now = dclm_segments(data, start, end, cuts, n_cuts, 1, table, out[AT_LINES_DCLM:], lines_scratch, now)
            if groups & PARAGRAPHS_DCLM:
                area = out[AT_PARAGRAPHS_DCLM:]
                now = dclm_segments(data, start, end, cuts, n_cuts, 2, table, area, lines_scratch, now)
        if groups & (WORDS | REPEATS):
            n = punct_words(data, start, end, table, words, ends, chunk_scratch, out[AT_WORDS:])
            if groups & REPEATS:
                now = repetition(words, ends, n, DATATROVE, out[AT_REPEATS:], grams_scratch, now)
        if groups & (SPACE_WORDS | REPEATS_DOLMA):
            n = space_words(data, start, end, table, words, ends, first, out[AT_SPACE:])
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
    capacity = 32
    while capacity < 2 * longest:
        capacity *= 2
    # zeros come from the system page by page as they are touched
    scratch = (
        np.zeros(longest, np.uint64),
        np.zeros(longest + 1, np.int64),
        np.zeros(capacity, np.uint64),
        np.zeros((8, capacity), np.int32),
    )
    _measure(data, offsets, groups, short, classes(), _LOREM, _JAVASCRIPT, scratch, result)
    return result
