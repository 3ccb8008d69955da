"""C4's line removal over UTF-8 bytes: which lines stay, what was cut, and why.

Invariant: output is the kept lines, stripped, joined by one newline; every cut is at a character boundary, so the output
is valid UTF-8 wherever the input is.

Definition: C4QualityFilter of datatrove 0.10.1 (after tensorflow_datasets' c4_utils.py), whose tests run in this order.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .str_classes import BREAK, BYTES, DECIMAL, OFFSETS, SPACE
from .utf8 import count_chars, decode, strip

U64 = np.uint64  # hot loops index by it: a signed index is first tested for < 0 (copying: 0.8 against 15 GB/s)

# columns of the counts
LONG_WORD, NO_PUNCT, SHORT, JAVASCRIPT, POLICY, CITATIONS, CURLY, LOREM = range(8)
COUNTS = 8

_WHITE, _ENDS_LINE, _MAYBE_WHITE, _BRACKET = 1, 2, 3, 4
_KIND = np.zeros(256, np.uint8)  # what a byte outside a word's plain run may be
_KIND[[0x09, 0x1F, 0x20]] = _WHITE
_KIND[[0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E]] = _ENDS_LINE
_KIND[[0xC2, 0xE1, 0xE2, 0xE3]] = _MAYBE_WHITE  # all white space beyond ASCII begins with one of these
_KIND[ord("[")] = _BRACKET

# A phrase is searched at its rarest letter: (text before it, text after it) are compared only there.
_ANCHOR = np.zeros(256, np.uint8)
for _letter in "jpvfk":
    _ANCHOR[[ord(_letter), ord(_letter.upper())]] = ord(_letter)
_ANCHOR[ord("{")] = ord("{")
_ANCHOR[0xE2] = 0xE2  # KELVIN SIGN, E2 84 AA: the one character beyond ASCII whose lower() is an ASCII letter (k).
# U+0130 lowers to i and a combining dot, which no phrase continues with.


def _needle(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_AVASCRIPT = _needle("avascript")
_LOREM_I, _SUM = _needle("lorem i"), _needle("sum")
_PRI, _ACY_POLICY = _needle("pri"), _needle("acy policy")
_TERMS_O, _USE = _needle("terms o"), _needle(" use")
_COO, _IE_POLICY, _IES = _needle("coo"), _needle("ie policy"), _needle("ies")
_USES, _USE_OF, _USE_ = _needle("uses coo"), _needle("use of coo"), _needle("use coo")
_EDIT, _CITATION_NEEDED = _needle("[edit]"), _needle("[citation needed]")


@njit(nogil=True, cache=True)
def _copy(source, start, stop, out, w):
    """Copies source[start:stop] to out[w:] and gives the end; upwards, so it may move bytes down within one buffer."""
    a, b = U64(start), U64(w)
    for j in range(U64(stop - start)):
        out[b + j] = source[a + j]
    return w + stop - start


@njit(nogil=True, cache=True)
def _is(data, at, low, high, needle, fold):
    """Whether `needle` (lower case) stands at data[at:] within [low, high); `fold`: ASCII letters of either case."""
    if at < low or at + len(needle) > high:
        return False
    for j in range(len(needle)):
        b = data[U64(at + j)]
        if fold and 65 <= b <= 90:
            b |= 32
        if b != needle[j]:
            return False
    return True


@njit(nogil=True, cache=True)
def _too_long(data, start, stop, max_length):
    """Whether data[start:stop] has more than `max_length` characters; 0 means no limit."""
    if max_length <= 0 or stop - start <= max_length:
        return False
    return count_chars(data, start, stop) > max_length


@njit(nogil=True, cache=True)
def _read_line(data, i, end, chars, max_word):
    """(first, last, words, a word is too long, has a bracket, start of the next line) of the line at i.

    data[first:last] is the line stripped; a line ends where str.splitlines says.
    """
    first = last = i
    words = 0
    too_long = bracket = False
    word = -1  # start of the current word
    while i < end:
        kind = _KIND[data[U64(i)]]
        if kind == 0 or kind == _BRACKET:
            bracket |= kind == _BRACKET
            if word < 0:
                word = i
            i += 1
            while i < end and _KIND[data[U64(i)]] == 0:
                i += 1
            continue
        width = 1
        ends_line = kind == _ENDS_LINE
        if kind == _MAYBE_WHITE:
            code, width = decode(data, i)
            if not chars[code] & SPACE:
                if word < 0:
                    word = i
                i += width
                continue
            ends_line = chars[code] & BREAK != 0
        if word >= 0:
            if words == 0:
                first = word
            words += 1
            last = i
            too_long |= _too_long(data, word, i, max_word)
            word = -1
        if ends_line:
            if data[i] == 13 and i + 1 < end and data[i + 1] == 10:
                width = 2
            return first, last, words, too_long, bracket, i + width
        i += width
    if word >= 0:
        if words == 0:
            first = word
        words += 1
        last = i
        too_long |= _too_long(data, word, i, max_word)
    return first, last, words, too_long, bracket, i


@njit(nogil=True, cache=True)
def _citation(data, i, stop, chars):
    """Length of the citation mark at i, or 0: `[`, any decimal digits, `]`; `[edit]`; `[citation needed]`."""
    if _is(data, i, i, stop, _EDIT, False):
        return len(_EDIT)
    if _is(data, i, i, stop, _CITATION_NEEDED, False):
        return len(_CITATION_NEEDED)
    j = i + 1
    while j < stop:
        code, width = decode(data, j)
        if code == 93:
            return j + 1 - i
        if not chars[code] & DECIMAL:
            break
        j += width
    return 0


@njit(nogil=True, cache=True)
def _copy_without_citations(data, start, stop, out, w, chars):
    """(end of what was written at out[w:], marks left out)."""
    marks = 0
    i = start
    while i < stop:
        if data[U64(i)] == 91:
            length = _citation(data, i, stop, chars)
            if length:
                marks += 1
                i += length
                continue
        out[U64(w)] = data[U64(i)]
        w += 1
        i += 1
    return w, marks


@njit(nogil=True, cache=True)
def _phrases(out, low, high):
    """(lorem ipsum, javascript, {, a phrase of a cookie or terms notice): which of them out[low:high] holds."""
    lorem = javascript = curly = policy = False
    for i in range(low, high):
        anchor = _ANCHOR[out[U64(i)]]
        if anchor == 0:
            continue
        after = i + 1
        if anchor == 0xE2:
            if i + 2 >= high or out[i + 1] != 0x84 or out[i + 2] != 0xAA:
                continue
            after = i + 3
            anchor = 107
        if anchor == 107:  # k
            if _is(out, i - 3, low, high, _COO, True):
                policy |= _is(out, after, low, high, _IE_POLICY, True) or (
                    _is(out, after, low, high, _IES, True)
                    and (
                        _is(out, i - 8, low, high, _USES, True)
                        or _is(out, i - 10, low, high, _USE_OF, True)
                        or _is(out, i - 7, low, high, _USE_, True)
                    )
                )
        elif anchor == 112:  # p
            lorem |= _is(out, i - 7, low, high, _LOREM_I, True) and _is(out, after, low, high, _SUM, True)
        elif anchor == 118:  # v
            policy |= _is(out, i - 3, low, high, _PRI, True) and _is(out, after, low, high, _ACY_POLICY, True)
        elif anchor == 102:  # f
            policy |= _is(out, i - 7, low, high, _TERMS_O, True) and _is(out, after, low, high, _USE, True)
        elif anchor == 106:  # j
            javascript |= _is(out, after, low, high, _AVASCRIPT, True)
        else:
            curly = True
    return lorem, javascript, curly, policy


@njit(nogil=True, cache=True)
def _ends_sentence(out, low, high):
    """Whether out[low:high] ends in . ? ! \" ' and not in three dots."""
    if low == high:
        return False
    b = out[high - 1]
    if b == 46:
        return not (high - low >= 3 and out[high - 2] == 46 and out[high - 3] == 46)
    return b == 63 or b == 33 or b == 34 or b == 39


@njit(nogil=True, cache=True)
def _judge(text, low, high, words, min_words, terminal_punct, javascript, policy):
    """(count of the test that removes the line text[low:high] or -1, lorem ipsum seen, { seen)."""
    if terminal_punct and not _ends_sentence(text, low, high):
        return NO_PUNCT, False, False
    if words < min_words:
        return SHORT, False, False
    has_lorem, has_javascript, has_curly, has_policy = _phrases(text, low, high)
    if javascript and has_javascript:
        return JAVASCRIPT, has_lorem, False
    if policy and has_policy:
        return POLICY, has_lorem, has_curly
    return -1, has_lorem, has_curly


@njit(
    types.Tuple((types.uint8[::1], types.int64[::1], types.int32[:, ::1]))(
        BYTES,
        OFFSETS,
        BYTES,
        types.boolean,
        types.int64,
        types.int64,
        types.boolean,
        types.boolean,
        types.boolean,
    ),
    nogil=True,
    cache=True,
)
def c4_lines(data, offsets, chars, terminal_punct, min_words, max_word, javascript, policy, citations):
    """(data, offsets from 0, int32[COUNTS, n]) of the lines that stay.

    chars: `str_classes.str_classes()`. min_words, max_word: 0 switches the test off, like False the others.
    Counts: lines removed by each test (a line counts for the first that fails, blank lines too), citation marks cut
    from lines that stay, and lines with `{` and with "lorem ipsum" among those that passed the tests before.
    """
    n = len(offsets) - 1
    out = np.empty(offsets[n] - offsets[0], np.uint8)  # a kept line and its newline never exceed the line and its break
    ends = np.zeros(n + 1, np.int64)
    counts = np.zeros((COUNTS, n), np.int32)
    w = 0
    for t in range(n):
        i, end = offsets[t], offsets[t + 1]
        begin = w
        while i < end:
            first, last, words, too_long, bracket, i = _read_line(data, i, end, chars, max_word)
            if too_long:
                counts[LONG_WORD, t] += 1
                continue
            if citations and bracket:
                stop, marks = _copy_without_citations(data, first, last, out, w, chars)
                reason, lorem, curly = _judge(out, w, stop, words, min_words, terminal_punct, javascript, policy)
            else:
                stop, marks = w + last - first, 0
                reason, lorem, curly = _judge(data, first, last, words, min_words, terminal_punct, javascript, policy)
                if reason < 0:
                    _copy(data, first, last, out, w)
            counts[LOREM, t] += lorem
            counts[CURLY, t] += curly
            if reason >= 0:
                counts[reason, t] += 1
                continue
            counts[CITATIONS, t] += marks
            w = stop
            if w < begin + end - offsets[t]:  # no room only behind the last line, where it would be trimmed
                out[w] = 10
                w += 1
        # cutting citations can leave white space at the ends of the text, as do blank lines where they stay
        low, high = strip(out, begin, w, chars)
        w = _copy(out, low, high, out, begin)
        ends[t + 1] = w
    return out[:w], ends, counts
