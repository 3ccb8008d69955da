"""Words of one document by white space, as fastText reads them, and by UAX #29: hashes and lengths for `repetition`.

Invariant: each function writes `words` (uint64 hash of the bytes) and `ends` (int64, characters up to the end of each
word, ends[0] = 0) and returns the number of words; both arrays have room for one word a byte, and one more.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import hash_bytes
from .unicode_classes import (
    ALNUM,
    ALPHA,
    APOSTROPHE,
    EXTEND,
    HEBREW,
    JOIN,
    KATAKANA,
    LETTER,
    MID_BOTH,
    MID_LETTER,
    MID_NUM,
    NEWLINE,
    NUMERIC,
    OTHER,
    QUOTE,
    SPACE,
    WORD_BREAK,
)
from .utf8 import count_chars, decode


@nb.njit(forceinline=True)
def stop_word(data, start, end, fold):
    """1 << k for the k-th of: be to of the and that have with; 0 for any other word. fold = 0x20 ignores ASCII case.

    Gopher's list; every word has two to four letters, so its bytes are compared as one number.
    """
    size = end - start
    if size < 2 or size > 4:
        return 0
    packed = np.int64(0)
    for i in range(size):
        packed |= np.int64(data[start + i] | fold) << (8 * i)
    if size == 2:
        return 1 if packed == 0x6562 else 2 if packed == 0x6F74 else 4 if packed == 0x666F else 0
    if size == 3:
        return 8 if packed == 0x656874 else 16 if packed == 0x646E61 else 0
    return 32 if packed == 0x74616874 else 64 if packed == 0x65766168 else 128 if packed == 0x68746977 else 0


# what `space_words` writes
WORDS, CHARS, WITH_ALPHA, WITH_SYMBOL, STOPS, STOPS_ANY_CASE, TWICE_MEDIAN = range(7)


@nb.njit
def _twice_median(ends, n_words, lengths):
    """Twice the median word length (an integer, also where the median lies between two lengths); 0 without words."""
    if n_words == 0:
        return np.int64(0)
    small = np.zeros(64, np.int64)
    for j in range(n_words):
        small[min(ends[j + 1] - ends[j], 63)] += 1
    total = np.int64(0)
    wanted = ((n_words - 1) // 2, n_words // 2)
    if n_words - small[63] <= wanted[1]:  # words of 63 characters and more reach the middle: sort
        for j in range(n_words):
            lengths[j] = ends[j + 1] - ends[j]
        ordered = np.sort(lengths[:n_words])
        return np.int64(ordered[wanted[0]] + ordered[wanted[1]])
    for w in wanted:
        below = np.int64(0)
        for length in range(63):
            below += small[length]
            if below > w:
                total += length
                break
    return total


@nb.njit
def space_words(data, start, end, table, words, ends, lengths, out):
    """Words as str.split() gives them (Dolma, and DCLM's word statistics). lengths: int32 scratch."""
    n = 0
    alphas = symbols = stops = stops_any = chars = np.int64(0)
    i = start
    while i < end:
        point, size = decode(data, i)
        bits = table[point]
        if bits & SPACE:
            i += size
            continue
        s = i
        alpha = symbol = False
        while not bits & SPACE:
            alpha |= bits & ALPHA != 0
            symbol |= point == 35 or point == 0x2026
            chars += 1
            i += size
            if i >= end:
                break
            point, size = decode(data, i)
            bits = table[point]
        alphas += np.int64(alpha)
        symbols += np.int64(symbol)
        stops += np.int64(stop_word(data, s, i, np.uint8(0)) != 0)
        stops_any += np.int64(stop_word(data, s, i, np.uint8(0x20)) != 0)
        words[n] = hash_bytes(data, s, i)
        n += 1
        ends[n] = chars
    out[WORDS] = n
    out[CHARS] = chars
    out[WITH_ALPHA] = alphas
    out[WITH_SYMBOL] = symbols
    out[STOPS] = stops
    out[STOPS_ANY_CASE] = stops_any
    out[TWICE_MEDIAN] = _twice_median(ends, n, lengths)
    return n


@nb.njit
def fasttext_words(data, start, end, table):
    """Words of fastText's tokenizer (split at NUL, \\t, \\n, \\v, \\f, \\r, space) whose first character is alphanumeric.

    DCLM's length filter counts these; the `</s>` that fastText adds at a line end is no such word.
    """
    n = np.int64(0)
    fresh = True
    for i in range(start, end):
        c = data[i]
        gap = c == 32 or 9 <= c <= 13 or c == 0
        if fresh and not gap:
            point, _ = decode(data, i)
            n += np.int64(table[point] & ALNUM != 0)
        fresh = gap
    return n


@nb.njit(forceinline=True)
def _is_letter(kind):
    return kind == LETTER or kind == HEBREW


@nb.njit
def _after_extend(data, i, end, table):
    """The UAX #29 class of the first character from i on that is not Extend, Format or ZWJ; OTHER at the end."""
    while i < end:
        point, size = decode(data, i)
        kind = table[point] >> WORD_BREAK
        if kind != EXTEND:
            return np.int64(kind)
        i += size
    return np.int64(OTHER)


@nb.njit(forceinline=True)
def _joins(kind, following, data, i, end, table):
    """How a word whose last character has the class `kind` goes on with `following`, whose next character starts at i.

    0: it does not (a boundary). 1: with this character. 2: with this character, which joins it to the one after.
    Rules WB5 to WB13b.
    """
    if _is_letter(kind):
        if _is_letter(following) or following == NUMERIC or following == JOIN:
            return 1
        if following == MID_LETTER or following == MID_BOTH or following == APOSTROPHE:
            if _is_letter(_after_extend(data, i, end, table)):
                return 2
            return 1 if kind == HEBREW and following == APOSTROPHE else 0
        if kind == HEBREW and following == QUOTE and _after_extend(data, i, end, table) == HEBREW:
            return 2
        return 0
    if kind == NUMERIC:
        if _is_letter(following) or following == NUMERIC or following == JOIN:
            return 1
        middle = following == MID_NUM or following == MID_BOTH or following == APOSTROPHE
        return 2 if middle and _after_extend(data, i, end, table) == NUMERIC else 0
    if kind == KATAKANA:
        return 1 if following == KATAKANA or following == JOIN else 0
    if kind == JOIN:
        known = _is_letter(following) or following == NUMERIC or following == KATAKANA or following == JOIN
        return 1 if known else 0
    return 0


@nb.njit
def unicode_words(data, start, end, table, words, ends):
    """Segments between UAX #29 word boundaries that begin with an alphanumeric character.

    What DCLM takes from `uniseg` with punctuation ignored. Han, Kana other than Katakana, Thai and the like give one word
    a character. Rules WB3c (emoji joined by ZWJ) and WB15-16 (flags) are left out: they touch no such segment, except
    where a ZWJ joins a word to an emoji.
    """
    n = 0
    chars = np.int64(0)
    i = start
    while i < end:
        s = i
        point, size = decode(data, i)
        bits = table[point]
        kind = np.int64(bits >> WORD_BREAK)
        wanted = bits & ALNUM != 0
        i += size
        length = np.int64(1)
        joined = False  # the last character was a middle one: the next joins whatever it is
        while i < end and kind != NEWLINE:
            c = data[i]
            size = 1
            point = np.int64(c)
            if c >= 0x80:
                point, size = decode(data, i)
            following = np.int64(table[point] >> WORD_BREAK)
            if following == EXTEND:
                i += size
                length += 1
                continue
            if joined:
                joined = False
            else:
                how = _joins(kind, following, data, i + size, end, table)
                if how == 0:
                    break
                joined = how == 2
            kind = following if not joined else kind
            i += size
            length += 1
        if wanted:
            words[n] = hash_bytes(data, s, i)
            n += 1
            chars += length
            ends[n] = chars
    return n


@nb.njit
def symbols(data, start, end, out):
    """Counts as str.count gives them: `#`, line feeds, `...`, U+2026, `. . .`, `{`; and characters. Nine entries, in that order from 1 on."""
    hashes = feeds = stops = wide = curly = continued = np.int64(0)
    for i in range(start, end):  # no branch: eight to thirty-two bytes a step
        c = data[i]
        hashes += np.int64(c == 35)
        feeds += np.int64(c == 10)
        curly += np.int64(c == 123)
        stops += np.int64(c == 46)
        wide += np.int64(c == 0xA6)
        continued += np.int64(c & 0xC0 == 0x80)
    dots = ellipses = spaced = np.int64(0)
    if stops > 2 or wide:
        run = 0  # full stops so far
        free = start
        for i in range(start, end):
            c = data[i]
            if c == 46:
                run += 1
                if run == 3:
                    dots += 1
                    run = 0
                if i - free >= 4 and data[i - 2] == 46 and data[i - 4] == 46 and data[i - 1] == 32 and data[i - 3] == 32:
                    spaced += 1
                    free = i + 1
            else:
                run = 0
                ellipses += np.int64(c == 0xA6 and i - start >= 2 and data[i - 1] == 0x80 and data[i - 2] == 0xE2)
    out[0] = end - start - continued
    out[1] = hashes
    out[2] = feeds
    out[3] = dots
    out[4] = ellipses
    out[5] = spaced
    out[6] = curly


@nb.njit
def occurrences(data, start, end, phrase):
    """How often the lower-case ASCII phrase (uint8) stands in the text whatever its case, as text.lower().count(phrase).

    Exact for phrases without `k`: no other character beyond ASCII becomes a letter of theirs alone in lower case.
    """
    n = np.int64(0)
    size = phrase.shape[0]
    i = start
    while i + size <= end:
        if data[i] | 0x20 == phrase[0]:
            j = 1
            while j < size:
                c = data[i + j]
                if 65 <= c <= 90:
                    c |= 0x20
                if c != phrase[j]:
                    break
                j += 1
            if j == size:
                n += 1
                i += size
                continue
        i += 1
    return n
