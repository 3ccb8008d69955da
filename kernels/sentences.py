"""Lines, paragraphs and sentences of texts, as byte ranges.

Invariant: pieces ascend, do not overlap, are never empty, and have no white space (Unicode White_Space) at their ends;
all bytes outside of them are white space. Time is linear in the bytes, whatever they are.

A *line* lies between line feeds; a blank one is none. A *paragraph* is a run of lines that are not blank, as in
kernels/paragraphs.py. A *sentence* lies within a line. It ends with the line, or behind a run: a terminator, and the
terminators and closing quotes and brackets that follow it directly.

- Terminators: Unicode's Sentence_Terminal, with small differences (`_STOP` in unicode_classes), and the ellipsis.
- Closing: categories Pe and Pf, `"` and `'`; and Pi, which closes in German, in a run without a terminator of `_TIGHT`.
- A run with a terminator of scripts that leave no space behind it (`_TIGHT`: CJK, Burmese, Khmer, danda) ends the
  sentence whatever follows; but not one full-width full stop between two digits.
- Any other run ends it before white space, and there not
  1. if a terminator comes next: `. . .`;
  2. if its terminators are full stops and ellipses, and a lower-case letter comes next: `approx. five` (UAX #29, SB8);
  3. if it is one full stop behind a single letter (`J. Smith`, `e.g. Oslo`), behind two to four ASCII letters without a
     vowel and not all capitals (`Dr. Who`, `Nr. 5`), or behind up to three digits that open the sentence (`1. Peel`).
- A run at the beginning of a sentence does not end it.

What this is not: it knows no language and no list of abbreviations. `Prof. Smith` is cut, `Plan B. Then` is not, and
scripts without terminators (Thai) are cut at line feeds alone. Dolma's taggers take lines for paragraphs, and
sentences from a trained splitter, which may run across lines.
"""

from __future__ import annotations

import functools
import unicodedata

import numba as nb
import numpy as np
from numba import types

from .paragraphs import _line_end
from .squash import BYTES, OFFSETS, WHITE_SPACE
from .unicode_classes import _STOP, SPACE, _ranges
from .utf8 import before, decode, strip

# the other classes, one bit each; `utf8.strip` asks for SPACE, which is 1
TERMINATOR, TIGHT, SOFT, CLOSING, INITIAL, LOWER, LETTER, DIGIT = (1 << bit for bit in range(1, 9))
WORD = 1 << 9  # a letter, digit or mark
_TIGHT = "964-965 104A-104B 17D4-17D5 3002 FE52 FE56-FE57 FF01 FF0E FF1F FF61"
_CLASSES = types.Array(types.uint16, 1, "C", readonly=True)
_PLACES = types.Array(types.int64, 1, "C")
_LINE, _PARAGRAPH, _SENTENCE = range(3)


@nb.njit(forceinline=True)
def _is_letter(byte):
    return 97 <= byte | 0x20 <= 122


@nb.njit
def _abbreviates(data, start, stop, table):
    """Whether the full stop at `stop`, in a sentence that begins at `start` before it, belongs to the word before it."""
    if stop - start <= 3:
        digits = 0
        for k in range(start, stop):
            digits += np.int64(48 <= data[k] <= 57)
        if digits == stop - start:
            return True
    last = before(data, stop)
    point, _ = decode(data, last)
    if not table[point] & LETTER:
        return False
    if last == start:
        return True
    point, _ = decode(data, before(data, last))
    if not table[point] & WORD:
        return True
    k, small = stop, False
    while k > start and stop - k < 4 and _is_letter(data[k - 1]):
        k -= 1
        c = data[k] | 0x20
        if c == 97 or c == 101 or c == 105 or c == 111 or c == 117 or c == 121:  # aeiouy
            return False
        small |= data[k] >= 97
    if not small or stop - k < 2:
        return False
    if k == start:
        return True
    point, _ = decode(data, before(data, k))
    return not table[point] & WORD


@nb.njit
def _run(data, start, at, end, table):
    """(end of the run whose terminator stands at `at`, whether the sentence from `start` ends there); data[end - 1] is no
    white space."""
    j = at
    chars, tight, hard = 0, False, False
    while j < end:
        point, size = decode(data, j)
        kind = table[point]
        if kind & TERMINATOR:
            tight |= kind & TIGHT != 0
            hard |= kind & SOFT == 0
        elif not (kind & CLOSING or (kind & INITIAL and not tight)):
            break
        j += size
        chars += 1
    if at == start:
        return j, False
    if j == end:
        return j, True
    point, _ = decode(data, j)
    kind = table[point]
    if tight:
        if chars == 1 and kind & DIGIT and decode(data, at)[0] == 0xFF0E:
            point, _ = decode(data, before(data, at))
            return j, not table[point] & DIGIT
        return j, True
    if not kind & SPACE:
        return j, False
    k = j
    while kind & SPACE:
        point, size = decode(data, k)
        kind = table[point]
        k += size
    if kind & TERMINATOR or (kind & LOWER and not hard):
        return j, False
    return j, not (chars == 1 and data[at] == 46 and _abbreviates(data, start, at, table))


@nb.njit(forceinline=True)
def _put(rows, starts, ends, at, row, start, end):
    if at < len(rows):
        rows[at], starts[at], ends[at] = row, start, end
    return at + 1


@nb.njit
def _line_sentences(data, start, end, table, leads, row, rows, starts, ends, at):
    """Sentences of a line without white space at its ends; returns the number of pieces so far."""
    i = start
    while i < end:
        if not leads[data[i]]:
            i += 1
            continue
        point, size = decode(data, i)
        if not table[point] & TERMINATOR:
            i += size
            continue
        i, ended = _run(data, start, i, end, table)
        if ended:
            at = _put(rows, starts, ends, at, row, start, i)
            while i < end:
                point, size = decode(data, i)
                if not table[point] & SPACE:
                    break
                i += size
            start = i
    return _put(rows, starts, ends, at, row, start, end) if start < end else at


@nb.njit(
    types.int64(
        BYTES,
        OFFSETS,
        _CLASSES,
        types.Array(types.boolean, 1, "C", readonly=True),
        types.int64,
        _PLACES,
        _PLACES,
        _PLACES,
    ),
    nogil=True,
    cache=True,
)
def _pieces(data, offsets, table, leads, unit, rows, starts, ends):
    """The number of pieces; as many of them as there is room for are written."""
    at = np.int64(0)
    for row in range(len(offsets) - 1):
        s, end = offsets[row], offsets[row + 1]
        first = last = np.int64(-1)
        while s < end:
            e = _line_end(data, s, end)
            a, b = strip(data, s, e, table)
            s = e + 1
            if unit == _PARAGRAPH:
                if b > a:
                    first = a if first < 0 else first
                    last = b
                elif first >= 0:
                    at = _put(rows, starts, ends, at, row, first, last)
                    first = np.int64(-1)
            elif b > a:
                if unit == _LINE:
                    at = _put(rows, starts, ends, at, row, a, b)
                else:
                    at = _line_sentences(data, a, b, table, leads, row, rows, starts, ends, at)
        if first >= 0:
            at = _put(rows, starts, ends, at, row, first, last)
    return at


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """(classes uint16[0x110000] by code point, bool[256]: bytes that may begin a terminator). Built once a process."""
    table = np.zeros(0x110000, np.uint16)
    bits = {"Pe": CLOSING, "Pf": CLOSING, "Pi": INITIAL, "Ll": LOWER, "Nd": DIGIT}
    for point in (*range(0x40000), *range(0xE0000, 0xE0200)):  # what lies between is unassigned
        char = chr(point)
        category = unicodedata.category(char)
        table[point] = bits.get(category, 0)
        if char.isalpha():
            table[point] |= LETTER | WORD
        elif category[0] == "M" or char.isalnum():
            table[point] |= WORD
    table[list(WHITE_SPACE)] |= SPACE
    table[[ord(c) for c in "\"'"]] |= CLOSING
    for text, bit in ((_STOP, TERMINATOR), (_TIGHT, TIGHT)):
        for first, last in _ranges(text):
            table[first:last] |= bit
    table[0x2026] |= TERMINATOR
    table[[ord("."), 0x2026]] |= SOFT
    leads = np.zeros(256, np.bool_)
    leads[[chr(point).encode()[0] for point in np.flatnonzero(table & TERMINATOR)]] = True
    table.setflags(write=False)
    leads.setflags(write=False)
    return table, leads


def _found(data: np.ndarray, offsets: np.ndarray, unit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    room = int(offsets[-1] - offsets[0]) // 64 + 1024  # enough for prose; text of short lines is walked over twice
    while True:
        rows, starts, ends = (np.empty(room, np.int64) for _ in range(3))
        used = _pieces(data, offsets, *_tables(), unit, rows, starts, ends)
        if used <= room:
            return rows[:used], starts[:used], ends[:used]
        room = used


def sentences(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, start, end), int64[sentences] each: the text it belongs to, and its place in `data`, in bytes.

    data: uint8, valid UTF-8. offsets: int64[texts + 1], offsets[0] may be > 0.
    """
    return _found(data, offsets, _SENTENCE)


def paragraphs(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `sentences`, of paragraphs."""
    return _found(data, offsets, _PARAGRAPH)


def lines(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `sentences`, of lines."""
    return _found(data, offsets, _LINE)
