"""RefinedWeb's line-wise corrections over UTF-8 bytes, as DCLM rebuilt them.

Invariant: the rules run in DCLM's order, each over the lines that the ones before left, and the text is stripped between
them where DCLM strips it; cuts are at character boundaries, so the output is valid UTF-8 wherever the input is.

Definition: DCLM, baselines/mappers/modifiers.py and baselines_configs/dclm_baseline_refinedweb.yaml. Lines end at \\n.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .str_classes import ALNUM, BYTES, DECIMAL, DIGIT, OFFSETS, SEPARATOR, SPACE, UPPER
from .utf8 import before, decode

U64 = np.uint64  # hot loops index by it: a signed index is first tested for < 0

# rules, to be added up
UPPERCASE, NUMERIC, COUNTER, ONE_WORD, CART, READ_MORE, SIGN_IN = 1, 2, 4, 8, 16, 32, 64
# rows of the counts
(
    UPPERCASE_LINES,
    NUMERIC_LINES,
    COUNTER_LINES,
    ONE_WORD_LINES,
    EDITED_LINES,
    REMOVED_LINES,
    WORDS_BEFORE,
    WORDS_AFTER,
) = range(8)

# what is known of a line
_START, _STOP, _CHARS, _UPPERS, _DIGITS, _WORDS, _TOKENS, _EDITED = range(8)


def _needle(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_ITEMS_IN_CART, _READ, _SIGN = _needle("items in cart"), _needle("read more"), _needle("sign-in")
_COUNTED = _needle(
    "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers|"
)


@njit(nogil=True, cache=True)
def _copy(source, start, stop, out, w):
    """Copies source[start:stop] to out[w:] and gives the end; upwards, so it may move bytes down within one buffer."""
    a, b = U64(start), U64(w)
    for j in range(U64(stop - start)):
        out[b + j] = source[a + j]
    return w + stop - start


@njit(nogil=True, cache=True)
def _measure(text, start, end, table, line):
    """Fills `line` for the line at `start`, which ends before the next \\n or at `end`; gives where it ends.

    _WORDS: words of str.split. _TOKENS: tokens of fastText's tokenizer that begin with a letter or digit, which is how
    DCLM counts the words of a page.
    """
    chars = uppers = digits = words = tokens = 0
    outside = separated = True  # before a word, before a token
    i = start
    while i < end:
        b = text[U64(i)]
        if b == 10:
            break
        if b < 0x80:
            flags = table[b]
            i += 1
        else:
            code, width = decode(text, i)
            flags = table[U64(code)]
            i += width
        space = flags & SPACE != 0
        separator = flags & SEPARATOR != 0
        chars += 1
        uppers += flags & UPPER != 0
        digits += flags & DIGIT != 0
        words += outside and not space
        tokens += separated and flags & ALNUM != 0
        outside = space
        separated = separator
    line[_START] = start
    line[_STOP] = i
    line[_CHARS] = chars
    line[_UPPERS] = uppers
    line[_DIGITS] = digits
    line[_WORDS] = words
    line[_TOKENS] = tokens
    return i


@njit(nogil=True, cache=True)
def _strip(text, lines, low, high, table):
    """(low, high): the lines that str.strip of the joined text leaves; the first and the last are trimmed in place."""
    while low < high and lines[low, _WORDS] == 0:
        low += 1
    while low < high and lines[high - 1, _WORDS] == 0:
        high -= 1
    if low == high:
        return low, high
    start, stop = lines[low, _START], lines[high - 1, _STOP]
    code, width = decode(text, start)
    while table[code] & SPACE:
        start += width
        code, width = decode(text, start)
    i = before(text, stop)
    while table[decode(text, i)[0]] & SPACE:
        stop = i
        i = before(text, stop)
    if start != lines[low, _START]:
        _measure(text, start, lines[low, _STOP], table, lines[low])
    if stop != lines[high - 1, _STOP]:
        _measure(text, lines[high - 1, _START], stop, table, lines[high - 1])
    return low, high


@njit(nogil=True, cache=True)
def _match(text, i, stop, needle, low, high, ignore_case):
    """Where needle[low:high] (lower case) ends if it stands at text[i:stop], else -1.

    Letters match as in text.lower(), by which the KELVIN SIGN is a k; with `ignore_case` as under re.IGNORECASE, by
    which also the dotted capital and the dotless small i are an i and the long s is an s.
    """
    for j in range(low, high):
        if i >= stop:
            return -1
        wanted = needle[U64(j)]
        b = text[U64(i)]
        if b < 0x80:
            if 65 <= b <= 90:
                b |= 32
            if b != wanted:
                return -1
            i += 1
        elif wanted == 107 and b == 0xE2:  # k
            if decode(text, i)[0] != 0x212A:
                return -1
            i += 3
        elif ignore_case and (wanted == 105 or wanted == 115) and (b == 0xC4 or b == 0xC5):  # i, s
            code, width = decode(text, i)
            long_s = wanted == 115 and code == 0x17F
            if not long_s and not (wanted == 105 and (code == 0x130 or code == 0x131)):
                return -1
            i += width
        else:
            return -1
    return i


@njit(nogil=True, cache=True)
def _is_counter(text, i, stop, table):
    """Whether text[i:stop] is `1,234 likes`, `5K followers` and such, with anything but letters and digits around."""
    seen = 0
    while i < stop:  # \W* and the digits, commas and full stops
        code, width = decode(text, i)
        if table[code] & DECIMAL:
            seen = 1
        elif seen and (code == 44 or code == 46):
            pass
        elif seen or code == 95 or table[code] & ALNUM:
            break
        i += width
    if not seen or i >= stop:
        return False
    code, width = decode(text, i)
    if code in (75, 107, 77, 109, 66, 98, 0x212A):
        i += width
    spaces = 0
    while i < stop:
        code, width = decode(text, i)
        if not table[code] & SPACE:
            break
        spaces += 1
        i += width
    if spaces == 0:
        return False
    first = 0
    for j in range(len(_COUNTED)):
        if _COUNTED[j] == 124:  # |
            end = _match(text, i, stop, _COUNTED, first, j, False)
            if end >= 0:
                while end < stop:
                    code, width = decode(text, end)
                    if code == 95 or table[code] & ALNUM:
                        return False
                    end += width
                return True
            first = j + 1
    return False


@njit(nogil=True, cache=True)
def _space_before(text, low, i, table):
    """Start of the white-space character that ends at i, or i if there is none at or after `low`."""
    if i > low:
        j = before(text, i)
        if table[decode(text, j)[0]] & SPACE:
            return j
    return i


@njit(nogil=True, cache=True)
def _cut_phrase(text, start, stop, rule, table):
    """(start, stop) of the line text[start:stop] after its phrase was cut: `items in cart` anywhere (the rest moves
    up), `Read more` and three characters at the end, `Sign-in` at the start; one white-space character beside it too.

    DCLM writes the second as the regular expression `Read more...`, whose dots stand for any characters.
    """
    if rule == SIGN_IN:
        end = _match(text, start, stop, _SIGN, 0, len(_SIGN), True)
        if end < 0:
            return start, stop
        if end < stop:
            code, width = decode(text, end)
            if table[code] & SPACE:
                end += width
        return end, stop
    if rule == READ_MORE:
        i = stop
        for _ in range(3):
            if i <= start:
                return start, stop
            i = before(text, i)
        first = i - len(_READ)
        if first < start or _match(text, first, i, _READ, 0, len(_READ), True) < 0:
            return start, stop
        return start, _space_before(text, start, first, table)
    floor = w = start  # what lies between `floor` and `w` was written since the last cut
    i = start
    while i < stop:
        b = text[U64(i)]
        end = -1
        if b == 105 or b == 73 or b == 0xC4:
            end = _match(text, i, stop, _ITEMS_IN_CART, 0, len(_ITEMS_IN_CART), True)
        if end >= 0:
            floor = w = _space_before(text, floor, w, table)
            i = end
        else:
            text[U64(w)] = b
            w += 1
            i += 1
    return start, w


@njit(nogil=True, cache=True)
def _apply(text, lines, low, high, rule, limit, max_words, table):
    """(low, high, lines removed): one rule over the lines [low, high), those that stay moved together.

    `limit`: the ratio or the number of words of the rule; `max_words`: lines with more keep their phrases.
    """
    keep = low
    for r in range(low, high):
        line = lines[r]
        size = line[_STOP] - line[_START]
        if size == 0:
            fails = False
        elif rule == UPPERCASE:
            fails = line[_UPPERS] / line[_CHARS] > limit
        elif rule == NUMERIC:
            fails = line[_DIGITS] / line[_CHARS] > limit
        elif rule == COUNTER:
            fails = line[_DIGITS] > 0 and _is_counter(text, line[_START], line[_STOP], table)
        elif rule == ONE_WORD:
            fails = line[_WORDS] < limit
        elif line[_WORDS] > max_words:
            fails = False
        else:
            start, stop = _cut_phrase(text, line[_START], line[_STOP], rule, table)
            if stop - start != size:
                _measure(text, start, stop, table, line)
                line[_EDITED] = 1
            fails = line[_WORDS] == 0
        if not fails:
            if keep != r:
                lines[keep] = line
            keep += 1
    removed = high - keep
    if rule != ONE_WORD:  # the one rule after which DCLM does not strip
        low, keep = _strip(text, lines, low, keep, table)
    return low, keep, removed


@njit(
    types.Tuple((types.uint8[::1], types.int64[::1], types.int32[:, ::1]))(
        BYTES, OFFSETS, BYTES, types.int64, types.float64, types.float64, types.int64, types.int64
    ),
    nogil=True,
    cache=True,
)
def refinedweb_lines(data, offsets, table, rules, uppercase, numeric, min_words, phrase_max_words):
    """(data, offsets from 0, int32[8, n] counts) of the corrected texts.

    table: `str_classes.str_classes()`. rules: sum of the rules that are on. uppercase, numeric: a line fails above this share of
    its characters. A line counts for the rule that removed it; EDITED_LINES lost a phrase and stay; REMOVED_LINES are
    the four reasons and lines that were nothing but a phrase or white space; lines that strip takes count nowhere.
    """
    n = len(offsets) - 1
    out = np.empty(offsets[n] - offsets[0], np.uint8)
    ends = np.zeros(n + 1, np.int64)
    counts = np.zeros((8, n), np.int32)
    lines = np.empty((1024, 8), np.int64)
    w = 0
    for t in range(n):
        begin = w
        end = _copy(data, offsets[t], offsets[t + 1], out, w)  # corrected in place, then moved together
        size = 1
        for i in range(U64(begin), U64(end)):
            size += out[i] == 10
        if size > len(lines):
            lines = np.empty((2 * size, 8), np.int64)
        i = begin
        for r in range(size):
            i = _measure(out, i, end, table, lines[r]) + 1
            lines[r, _EDITED] = 0
            counts[WORDS_BEFORE, t] += lines[r, _TOKENS]
        low, high = 0, size
        for rule, limit, row in (
            (UPPERCASE, uppercase, UPPERCASE_LINES),
            (NUMERIC, numeric, NUMERIC_LINES),
            (COUNTER, 0.0, COUNTER_LINES),
            (ONE_WORD, float(min_words), ONE_WORD_LINES),
            (CART, 0.0, REMOVED_LINES),
            (READ_MORE, 0.0, REMOVED_LINES),
            (SIGN_IN, 0.0, REMOVED_LINES),
        ):
            if rules & rule:
                low, high, removed = _apply(out, lines, low, high, rule, limit, phrase_max_words, table)
                counts[row, t] += removed
                if row != REMOVED_LINES:
                    counts[REMOVED_LINES, t] += removed
        for r in range(low, high):
            if r > low:
                out[w] = 10
                w += 1
            w = _copy(out, lines[r, _START], lines[r, _STOP], out, w)
            counts[EDITED_LINES, t] += lines[r, _EDITED]
            counts[WORDS_AFTER, t] += lines[r, _TOKENS]
        ends[t + 1] = w
    return out[:w], ends, counts
