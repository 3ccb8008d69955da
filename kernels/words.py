"""Words of one document by white space, as fastText reads them, and by UAX #29: hashes and lengths for `repetition`.

Invariant: each function writes `words` (uint64 hash of the bytes) and `ends` (int64, characters up to the end of each
word, ends[0] = 0) and returns the number of words; both arrays have room for one word a byte, and one more.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import equal_bytes, hash_bytes, load, load64, lowest_bytes, sum_of_bytes
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
from .utf8 import decode

# Gopher's list: be to of the and that have with; each in the place that `stop_word` computes, little end first
_STOP_WORDS, _STOP_SIZES = np.zeros(8, np.uint64), np.zeros(8, np.int64)
_STOP_FACTOR = np.uint64(0xC42DDDC22F41F7CD)
for _word in (b"be", b"to", b"of", b"the", b"and", b"that", b"have", b"with"):
    _packed = int.from_bytes(_word, "little")
    _place = (_packed * int(_STOP_FACTOR) % 2**64) >> 61
    _STOP_WORDS[_place], _STOP_SIZES[_place] = _packed, len(_word)
_LOWER_CASE = np.uint64(0x20202020)


@nb.njit(forceinline=True)
def stop_word(word, size):
    """A bit of its own for each of Gopher's eight stop words, 0 for any other; word: its bytes as one number."""
    k = np.int64((word * _STOP_FACTOR) >> np.uint64(61))
    return np.int64((_STOP_WORDS[k] == word) & (_STOP_SIZES[k] == size)) << k


@nb.njit(forceinline=True)
def packed(data, start, end):
    """data[start:end] as one number if it has at most 8 bytes, else 0."""
    n = end - start
    if n > 8:
        return np.uint64(0)
    word = load(data, start)
    return word if n == 8 else lowest_bytes(word, n)


# what `space_words` writes
WORDS, CHARS, WITH_ALPHA, WITH_SYMBOL, STOPS, STOPS_ANY_CASE, TWICE_MEDIAN = range(7)


@nb.njit
def _length_at(ends, n_words, rank):
    """The word length at that rank (0: the shortest), by halving the range of lengths."""
    low, high = np.int64(0), ends[n_words]
    while low < high:
        middle = (low + high) // 2
        reached = np.int64(0)
        for j in range(n_words):
            reached += np.int64(ends[j + 1] - ends[j] <= middle)
        if reached > rank:
            high = middle
        else:
            low = middle + 1
    return low


@nb.njit
def space_words(data, start, end, table, words, ends, out):
    """Words as str.split() gives them (Dolma, and DCLM's word statistics)."""
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
        word = packed(data, s, i)
        stops += np.int64(stop_word(word, i - s) != 0)
        if i - s <= 4:
            stops_any += np.int64(stop_word(word | lowest_bytes(_LOWER_CASE, i - s), i - s) != 0)
        words[n] = hash_bytes(data, s, i)
        n += 1
        ends[n] = chars
    out[WORDS] = n
    out[CHARS] = chars
    out[WITH_ALPHA] = alphas
    out[WITH_SYMBOL] = symbols
    out[STOPS] = stops
    out[STOPS_ANY_CASE] = stops_any
    out[TWICE_MEDIAN] = _length_at(ends, n, (n - 1) // 2) + _length_at(ends, n, n // 2) if n else 0
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


# what `symbols` writes; SOLID: characters that are no line feed
CHARACTERS, HASHES, FEEDS, DOTS, ELLIPSES, SOLID = range(6)


@nb.njit
def symbols(data, start, end, out):
    """Characters, and counts as str.count gives them of `#`, line feed, `...` (not overlapping) and U+2026."""
    hashes = feeds = continued = triples = ellipses = np.int64(0)
    i = start
    seven = np.uint64(7)
    while i + 10 <= end:  # eight bytes a step, counted in the bytes of a word, which hold 255
        last = min(end - 10, i + 8 * 254)
        h = f = c = t = e = np.uint64(0)
        while i <= last:
            here, second, third = load64(data, i), load64(data, i + 1), load64(data, i + 2)
            h += equal_bytes(here, np.uint64(0x23)) >> seven
            f += equal_bytes(here, np.uint64(0x0A)) >> seven
            c += (here & ~(here << np.uint64(1)) & np.uint64(0x8080808080808080)) >> seven
            dot = np.uint64(0x2E)
            t += (equal_bytes(here, dot) & equal_bytes(second, dot) & equal_bytes(third, dot)) >> seven
            wide = equal_bytes(second, np.uint64(0x80)) & equal_bytes(third, np.uint64(0xA6))
            e += (equal_bytes(here, np.uint64(0xE2)) & wide) >> seven
            i += 8
        hashes += sum_of_bytes(h)
        feeds += sum_of_bytes(f)
        continued += sum_of_bytes(c)
        triples += sum_of_bytes(t)
        ellipses += sum_of_bytes(e)
    for k in range(i, end):
        hashes += np.int64(data[k] == 0x23)
        feeds += np.int64(data[k] == 0x0A)
        continued += np.int64(data[k] & 0xC0 == 0x80)
        if k + 3 <= end:
            triples += np.int64(data[k] == 0x2E and data[k + 1] == 0x2E and data[k + 2] == 0x2E)
            ellipses += np.int64(data[k] == 0xE2 and data[k + 1] == 0x80 and data[k + 2] == 0xA6)
    dots = np.int64(0)
    if triples:
        run = 0
        for i in range(start, end):
            run = run + 1 if data[i] == 46 else 0
            if run == 3:
                dots += 1
                run = 0
    out[CHARACTERS] = end - start - continued
    out[HASHES] = hashes
    out[FEEDS] = feeds
    out[DOTS] = dots
    out[ELLIPSES] = ellipses
    out[SOLID] = end - start - continued - feeds


@nb.njit
def spaced_dots(data, start, end):
    """Occurrences of `. . .`, not overlapping."""
    n = np.int64(0)
    i = start
    while i + 5 <= end:
        if data[i] == 46 and data[i + 1] == 32 and data[i + 2] == 46 and data[i + 3] == 32 and data[i + 4] == 46:
            n += 1
            i += 5
        else:
            i += 1
    return n


@nb.njit
def occurrences_of_byte(data, start, end, byte):
    """How often the byte stands in the text."""
    n = np.int64(0)
    for i in range(start, end):
        n += np.int64(data[i] == byte)
    return n


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
