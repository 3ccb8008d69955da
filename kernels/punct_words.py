"""Words with punctuation split off and sentences, close to what spaCy's English tokenizer gives datatrove's filters.

Invariant: white space is no part of a word, and the words of a chunk (what lies between white space) partition it, so the
work is to find cuts. A chunk of letters, the usual case, is one word after one look at each byte; other chunks are decoded
into code points and cut by rules.

Source: spaCy 3.8 `lang/punctuation.py`, `lang/en/tokenizer_exceptions.py` and the prefix, suffix, infix loop of its
tokenizer, reduced to what moves a verdict; `cut_chunk` states the rules. Left out: emoticons, "dont", "gonna", "10am" and
other exceptions. Added: a letter of a script without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar ...) is a word by
itself, with the marks that follow it, where spaCy's English tokenizer takes the whole run for one word.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import hash_bytes
from .unicode_classes import (
    ALNUM,
    ALONE,
    ALPHA,
    BEFORE_DOT,
    BREAK,
    CURRENCY,
    DIGIT,
    EXTEND,
    ICON,
    INSIDE,
    LOWER,
    PUNCT,
    QUOTING,
    SPACE,
    STOP,
    STRIP_LEFT,
    STRIP_RIGHT,
    SYMBOL,
    UPPER,
    WORD_BREAK,
)
from .utf8 import decode
from .words import stop_word

# Their dot stays with them; so does that of a single LOWER letter.
ABBREVIATIONS = """Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul.
Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Sep. Sept. Tenn. Va. Wash.
Wis. Adm. Bros. co. Co. Corp. Dr. Gen. Gov. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Prof. Rep. Rev. Sen. St. vs.
v.s. a.m. p.m. e.g. i.e. E.g. I.e. Ph.D.""".split()
# Split off behind a digit.
UNITS = """km m dm cm mm ha nm yd in ft kg g mg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K
%""".split()


def _packed(words: list[str]) -> np.ndarray:
    return np.array(sorted(int.from_bytes(w.encode(), "little") for w in words), np.uint64)


_WHOLE = _packed([*ABBREVIATIONS, "'s", "''"])
_UNITS = _packed(UNITS)

_DOT, _APOSTROPHE, _TYPOGRAPHIC = 0x2E, 0x27, 0x2019


@nb.njit
def _pack(points, a, b):
    """points[a:b], at most eight ASCII characters, as one number; 0 if it is anything else."""
    if b - a > 8:
        return np.uint64(0)
    packed = np.uint64(0)
    for i in range(a, b):
        if points[i] >= 0x80:
            return np.uint64(0)
        packed |= np.uint64(points[i]) << np.uint64(8 * (i - a))
    return packed


@nb.njit
def _among(packed, sorted_numbers):
    if packed == 0:
        return False
    k = np.searchsorted(sorted_numbers, packed)
    return k < sorted_numbers.shape[0] and sorted_numbers[k] == packed


@nb.njit(forceinline=True)
def _is_whole(points, bits, a, b):
    """Whether the chunk stays one word: an abbreviation, `a.`, `'s`, `''`."""
    last = points[b - 1]
    if b - a > 7 or b - a < 2 or not (last == _DOT or last == 0x73 or last == _APOSTROPHE):
        return False
    if b - a == 2:
        if last == _DOT and bits[a] & LOWER:
            return True
        if last == 0x73 and points[a] == _TYPOGRAPHIC:
            return True
    return _among(_pack(points, a, b), _WHOLE)


@nb.njit(forceinline=True)
def _left(points, bits, a, b):
    """Characters to split off at the start; 0: none."""
    c = points[a]
    if c == _DOT:
        end = a
        while end < b and points[end] == _DOT:
            end += 1
        return end - a if end - a > 1 else 0
    if c == 0x2B:  # +
        return 0 if a + 1 < b and bits[a + 1] & DIGIT else 1
    return 1 if bits[a] & (STRIP_LEFT | ICON | CURRENCY) else 0


@nb.njit(forceinline=True)
def _right(points, bits, a, b):
    """Characters to split off at the end; 0: none."""
    c = points[b - 1]
    previous = np.int64(points[b - 2]) if b - a > 1 else np.int64(32)
    kind = bits[b - 2] if b - a > 1 else np.int32(0)
    if c == _DOT:
        start = b
        while start > a and points[start - 1] == _DOT:
            start -= 1
        if b - start > 1:
            return b - start
        capitals = b - a > 2 and kind & UPPER and bits[b - 3] & UPPER
        return 1 if kind & (BEFORE_DOT | LOWER) or capitals else 0
    if (c == 0x73 or c == 0x53) and (previous == _APOSTROPHE or previous == _TYPOGRAPHIC):
        return 2
    if bits[b - 1] & (STRIP_RIGHT | ICON):
        return 1
    if kind & DIGIT and (c == 0x2B or bits[b - 1] & CURRENCY):
        return 1
    if c == 0x25 or 65 <= c <= 122:
        for n in range(4, 0, -1):
            if b - a > n and bits[b - n - 1] & DIGIT and _among(_pack(points, b - n, b), _UNITS):
                return n
    return 0


@nb.njit(forceinline=True)
def _contraction(points, bits, a, b):
    """Where to cut "don't" (before n't), "we'll" (before the apostrophe), "cannot"; 0: nowhere."""
    last = points[b - 1]
    n = b - a
    if n == 6 and last == 0x74:
        packed = _pack(points, a, b)
        if packed == 0x746F6E6E6163 or packed == 0x746F6E6E6143:  # cannot, Cannot
            return a + 3
    if n < 3:
        return 0
    mark = points[b - 2] == _APOSTROPHE or points[b - 2] == _TYPOGRAPHIC
    if mark and last == 0x74:
        return b - 3 if n > 3 and points[b - 3] == 0x6E else 0
    if mark and (last == 0x6D or last == 0x64):  # 'm 'd
        return b - 2 if bits[b - 3] & ALPHA else 0
    if n >= 4 and (points[b - 3] == _APOSTROPHE or points[b - 3] == _TYPOGRAPHIC):
        c = points[b - 2]
        if (last == 0x6C and c == 0x6C) or (last == 0x65 and (c == 0x76 or c == 0x72)):  # 'll 've 're
            return b - 3 if bits[b - 4] & ALPHA else 0
    return 0


@nb.njit(forceinline=True)
def _in_host(points, bits, i):
    c = points[i]
    return c >= 0xA1 or (c < 0x80 and bits[i] & ALNUM != 0)


@nb.njit
def _host_at(points, bits, i, b):
    """Whether points[i:b] is label.label.tld, with :port perhaps, and then nothing or / ? # and anything."""
    dots = 0
    label = i  # start of the current label
    end = i
    while end < b:
        c = points[end]
        if c == _DOT:
            if end == label or not _in_host(points, bits, label) or not _in_host(points, bits, end - 1):
                return False
            dots += 1
            label = end + 1
        elif not (_in_host(points, bits, end) or c == 0x5F or c == 0x2D):
            break
        end += 1
    if dots == 0 or end - label < 2:
        return False
    for k in range(label, end):
        if not bits[k] & LOWER:
            return False
    if end < b and points[end] == 0x3A:
        port = end + 1
        while port < b and bits[port] & DIGIT:
            port += 1
        if port - end < 3 or port - end > 6:
            return False
        end = port
    return end == b or points[end] == 0x2F or points[end] == 0x3F or points[end] == 0x23


@nb.njit
def _is_address(points, bits, a, b):
    """Whether the chunk is a URL or mail address: a host at the start, after `scheme://`, or after any `@`."""
    start = a
    i = a
    while i < b and (bits[i] & ALNUM or points[i] == 0x5F or points[i] == 0x2B or points[i] == 0x2D or points[i] == _DOT):
        i += 1
    if i - a >= 2 and i + 2 < b and points[i] == 0x3A and points[i + 1] == 0x2F and points[i + 2] == 0x2F:
        start = i + 3
    if _host_at(points, bits, start, b):
        return True
    for k in range(start, b):
        if points[k] == 0x40 and _host_at(points, bits, k + 1, b):
            return True
    return False


@nb.njit(forceinline=True)
def _infix(points, bits, i, b):
    """Characters of the word that begins at i inside a chunk; 0: none. points[i - 1] lies in the same chunk."""
    c = points[i]
    p = bits[i - 1]
    nx = bits[i + 1] if i + 1 < b else np.int32(0)
    if c == _DOT:
        if i + 1 < b and points[i + 1] == _DOT:
            n = 2
            while i + n < b and points[i + n] == _DOT:
                n += 1
            return n
        return 1 if p & (LOWER | QUOTING) and nx & (UPPER | QUOTING) else 0
    if c == 0x2026 or bits[i] & ICON:
        return 1
    if c == 0x2B or c == 0x2D or c == 0x2A or c == 0x5E:  # + - * ^
        if p & DIGIT and (nx & DIGIT or (i + 1 < b and points[i + 1] == 0x2D)):
            return 1
    if c == 0x2C:
        return 1 if p & ALPHA and nx & ALPHA else 0
    if c == 0x3A or c == 0x3C or c == 0x3D or c == 0x3E or c == 0x2F:  # : < = > /
        return 1 if p & (ALPHA | DIGIT) and nx & ALPHA else 0
    if (c == 0x2D or c == 0x2013 or c == 0x2014 or c == 0x7E) and p & (ALPHA | DIGIT):
        most = 3 if c == 0x2D else 2 if c == 0x2014 else 1
        n = 1
        while n < most and i + n < b and points[i + n] == c:
            n += 1
        return n if i + n < b and bits[i + n] & ALPHA else 0
    return 0


@nb.njit
def cut_chunk(points, bits, size, cuts, tail):
    """Cuts a chunk into words: word k is points[cuts[k]:cuts[k + 1]]; returns their number.

    points: int32 code points, bits: int32 classes, size: their number, at least 1. cuts, tail: int32, size + 1 entries.

    1. From the left, while what is left is not WHOLE (an abbreviation, `a.`, `'s`, `''`), pieces are split off: a run of
       full stops, `+` unless a digit follows, STRIP_LEFT, a currency sign, a symbol (So). Each is a word.
    2. From the right likewise: a run of full stops; one full stop behind BEFORE_DOT, a LOWER letter or two UPPER ones;
       `'s`; STRIP_RIGHT or So; behind a digit also `+`, a currency sign or a unit of measure.
    3. What is left is one word if WHOLE, two if a contraction, one if a web or mail address; else it is cut at infixes.
    """
    n = 0
    a, b = 0, size
    cuts[0] = 0
    while a < b and not _is_whole(points, bits, a, b):
        step = _left(points, bits, a, b)
        if step == 0:
            break
        a += step
        n += 1
        cuts[n] = a
    tails = 0
    while a < b and not _is_whole(points, bits, a, b):
        step = _right(points, bits, a, b)
        if step == 0:
            break
        tail[tails] = b
        tails += 1
        b -= step
    if a < b:
        if not _is_whole(points, bits, a, b):
            cut = _contraction(points, bits, a, b)
            if cut:
                n += 1
                cuts[n] = cut
            else:
                i = a + 1
                asked = False
                while i < b:
                    step = _infix(points, bits, i, b) if bits[i] & INSIDE else 0
                    if step == 0:
                        i += 1
                        continue
                    if not asked:  # an address needs a dot or a colon between letters: only such chunks reach this
                        asked = True
                        if _is_address(points, bits, a, b):
                            break
                    if i > cuts[n]:
                        n += 1
                        cuts[n] = i
                    i += step
                    n += 1
                    cuts[n] = i
        if cuts[n] < b:
            n += 1
            cuts[n] = b
    for k in range(tails - 1, -1, -1):
        n += 1
        cuts[n] = tail[k]
    return n


# what `punct_words` writes; PLAIN are words with a character outside datatrove's PUNCTUATION_SET
TOKENS, PLAIN, PLAIN_CHARS, WITH_ALPHA, DISTINCT_STOPS, SENTENCES = range(6)


@nb.njit
def punct_words(data, start, end, table, words, ends, scratch, out):
    """Words and sentences; see the module. Writes words, ends and out (int64); returns the number of words.

    scratch: five int32 arrays as long as the text plus one. Sentences are counted line by line, as datatrove's C4 filter
    does: a word that is one STOP character ends one, and the next begins at the next word that is neither that nor all
    punctuation (category P); a line with any word has at least one.
    """
    points, bits, at, cuts, tail = scratch
    n = 0
    chars = np.int64(0)
    plain = plain_chars = alphas = sentences = np.int64(0)
    stops = 0
    fresh, ended = True, True  # at the start of a line; after the end of a sentence
    i = start
    while i < end:
        c = np.int64(data[i])
        width = 1
        if c >= 0x80:
            c, width = decode(data, i)
        kind = table[c]
        if kind & SPACE:
            if kind & BREAK:
                fresh = True
            i += width
            continue

        # a chunk begins; letters first
        s = i
        length = 0
        if kind & ALONE:
            length = 1
            i += width
            while i < end and data[i] >= 0x80:
                c, width = decode(data, i)
                if table[c] >> WORD_BREAK != EXTEND:
                    break
                length += 1
                i += width
            kind = np.uint32(SPACE)
        else:
            while kind & ALPHA and not kind & ALONE:
                length += 1
                i += width
                if i >= end:
                    kind = np.uint32(SPACE)
                    break
                c = np.int64(data[i])
                width = 1
                if c >= 0x80:
                    c, width = decode(data, i)
                kind = table[c]
        mark = 0  # bytes of the punctuation that ends the chunk, if that is all there is besides letters
        whole = kind & (SPACE | ALONE) != 0
        if length and not whole and i + 1 < end and (c == 0x2C or (c == 0x2E and i - s > 7 and data[i - 1] >= 97)):
            after = data[i + 1]
            whole = after < 0x80 and table[after] & SPACE != 0 and data[i - 1] < 0x80
            mark = 1
        if whole and i - s == 6 and data[i - 1] == 0x74 and data[s + 1] == 0x61:  # perhaps "cannot"
            whole = False
        if whole:
            words[n] = hash_bytes(data, s, i)
            n += 1
            chars += length
            ends[n] = chars
            stops |= stop_word(data, s, i, np.uint8(0))
            alphas += 1
            plain += 1
            plain_chars += length
            sentences += np.int64(fresh or ended)
            fresh = ended = False
            if mark:
                words[n] = hash_bytes(data, i, i + 1)
                n += 1
                chars += 1
                ends[n] = chars
                ended = c == 0x2E
                i += 1
            continue

        # anything else: decode the chunk and cut it
        size = 0
        i = s
        while i < end:
            c = np.int64(data[i])
            width = 1
            if c >= 0x80:
                c, width = decode(data, i)
            kind = table[c]
            if kind & (SPACE | ALONE):
                break
            points[size], bits[size], at[size] = c, kind, i - s
            size += 1
            i += width
        at[size] = i - s
        for w in range(cut_chunk(points, bits, size, cuts, tail)):
            a, b = cuts[w], cuts[w + 1]
            some, every = np.int32(0), np.int32(-1)
            for k in range(a, b):
                some |= bits[k]
                every &= bits[k]
            words[n] = hash_bytes(data, s + at[a], s + at[b])
            n += 1
            chars += b - a
            ends[n] = chars
            stops |= stop_word(data, s + at[a], s + at[b], np.uint8(0))
            alphas += np.int64(some & ALPHA != 0)
            if not every & SYMBOL:
                plain += 1
                plain_chars += b - a
            if b - a == 1 and every & STOP:
                sentences += np.int64(fresh)
                ended = True
                fresh = False
            elif fresh or (ended and not every & PUNCT):
                sentences += 1
                fresh = ended = False
    distinct = np.int64(0)
    while stops:
        distinct += stops & 1
        stops >>= 1
    out[TOKENS] = n
    out[PLAIN] = plain
    out[PLAIN_CHARS] = plain_chars
    out[WITH_ALPHA] = alphas
    out[DISTINCT_STOPS] = distinct
    out[SENTENCES] = sentences
    return n
