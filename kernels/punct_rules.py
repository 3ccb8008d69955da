"""Where a chunk is cut into words by the `punct` tokenizer: rules over code points, one function a rule.

Invariant: the words of a chunk partition it. `points` are code points (uint32), or the bytes of an ASCII chunk where they
lie (uint8); a and b bound what is looked at, and `table` is `unicode_classes.classes()`.

Source: spaCy 3.8 `lang/punctuation.py`, `lang/en/tokenizer_exceptions.py` and the prefix, suffix, infix loop of its
tokenizer, reduced to what moves a verdict of datatrove's filters. Left out: emoticons, "dont", "gonna", "10am" and other
exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np

from .unicode_classes import (
    ALNUM,
    ALPHA,
    BEFORE_DOT,
    CURRENCY,
    DIGIT,
    ICON,
    INSIDE,
    LOWER,
    QUOTING,
    STRIP_LEFT,
    STRIP_RIGHT,
    UPPER,
)

# Their dot stays with them; so does that of a single LOWER letter.
ABBREVIATIONS = (
    "Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. "
    "Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Sep. Sept. Tenn. Va. Wash. Wis. "
    "Adm. Bros. co. Co. Corp. Dr. Gen. Gov. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Prof. Rep. Rev. Sen. St. "
    "vs. v.s. a.m. p.m. e.g. i.e. E.g. I.e. Ph.D."
)
# Split off behind a digit.
UNITS = "km m dm cm mm ha nm yd in ft kg g mg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K %"


def _probe_table(words: Sequence[str], factor: int) -> np.ndarray:
    """256 numbers; a word packed into a number x stands at x * factor >> 56, so that one look finds it."""
    table = np.zeros(256, np.uint64)
    for word in words:
        x = int.from_bytes(word.encode(), "little")
        table[x * factor % 2**64 >> 56] = x
    return table


# found by trial: no two words of a table share a place
_WHOLE_FACTOR = np.uint64(0x9BF4270F7A6DB3F9)
_UNITS_FACTOR = np.uint64(0x41FD8F1446A9925F)
_WHOLE = _probe_table([*ABBREVIATIONS.split(), "'s", "''"], int(_WHOLE_FACTOR))
_UNITS = _probe_table(UNITS.split(), int(_UNITS_FACTOR))

_DOT, _APOSTROPHE, _TYPOGRAPHIC = 0x2E, 0x27, 0x2019


@nb.njit(forceinline=True)
def is_fixed(number):
    """Whether the packed word is one that stays whole."""
    return number != 0 and _WHOLE[np.int64((number * _WHOLE_FACTOR) >> np.uint64(56))] == number


@nb.njit(forceinline=True)
def _is_unit(number):
    """Whether the packed word is a unit of measure."""
    return number != 0 and _UNITS[np.int64((number * _UNITS_FACTOR) >> np.uint64(56))] == number


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


@nb.njit(forceinline=True)
def _is_whole(points, table, a, b):
    """Whether the chunk stays one word: an abbreviation, `a.`, `'s`, `''`."""
    last = points[b - 1]
    if b - a > 7 or b - a < 2 or not (last == _DOT or last == 0x73 or last == _APOSTROPHE):
        return False
    if b - a == 2:
        if last == _DOT and table[points[a]] & LOWER:
            return True
        if last == 0x73 and points[a] == _TYPOGRAPHIC:
            return True
    return is_fixed(_pack(points, a, b))


@nb.njit(forceinline=True)
def _left(points, table, a, b):
    """Characters to split off at the start; 0: none."""
    c = points[a]
    if c == _DOT:
        end = a
        while end < b and points[end] == _DOT:
            end += 1
        return end - a if end - a > 1 else 0
    if c == 0x2B:  # +
        return 0 if a + 1 < b and table[points[a + 1]] & DIGIT else 1
    return 1 if table[points[a]] & (STRIP_LEFT | ICON | CURRENCY) else 0


@nb.njit(forceinline=True)
def _right(points, table, a, b):
    """Characters to split off at the end; 0: none."""
    c = points[b - 1]
    previous = np.int64(points[b - 2]) if b - a > 1 else np.int64(32)
    kind = table[points[b - 2]] if b - a > 1 else np.uint32(0)
    if c == _DOT:
        start = b
        while start > a and points[start - 1] == _DOT:
            start -= 1
        if b - start > 1:
            return b - start
        capitals = b - a > 2 and kind & UPPER and table[points[b - 3]] & UPPER
        return 1 if kind & (BEFORE_DOT | LOWER) or capitals else 0
    if (c == 0x73 or c == 0x53) and (previous == _APOSTROPHE or previous == _TYPOGRAPHIC):
        return 2
    if table[points[b - 1]] & (STRIP_RIGHT | ICON):
        return 1
    if kind & DIGIT and (c == 0x2B or table[points[b - 1]] & CURRENCY):
        return 1
    if c == 0x25 or 65 <= c <= 122:
        for n in range(4, 0, -1):
            if b - a > n and table[points[b - n - 1]] & DIGIT and _is_unit(_pack(points, b - n, b)):
                return n
    return 0


@nb.njit(forceinline=True)
def _contraction(points, table, a, b):
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
        return b - 2 if table[points[b - 3]] & ALPHA else 0
    if n >= 4 and (points[b - 3] == _APOSTROPHE or points[b - 3] == _TYPOGRAPHIC):
        c = points[b - 2]
        if (last == 0x6C and c == 0x6C) or (last == 0x65 and (c == 0x76 or c == 0x72)):  # 'll 've 're
            return b - 3 if table[points[b - 4]] & ALPHA else 0
    return 0


@nb.njit(forceinline=True)
def _in_host(points, table, i):
    c = points[i]
    return c >= 0xA1 or (c < 0x80 and table[points[i]] & ALNUM != 0)


@nb.njit
def _host_at(points, table, i, b):
    """Whether points[i:b] is label.label.tld, with :port perhaps, and then nothing or / ? # and anything."""
    dots = 0
    label = i  # start of the current label
    end = i
    while end < b:
        c = points[end]
        if c == _DOT:
            if end == label or not _in_host(points, table, label) or not _in_host(points, table, end - 1):
                return False
            dots += 1
            label = end + 1
        elif not (_in_host(points, table, end) or c == 0x5F or c == 0x2D):
            break
        end += 1
    if dots == 0 or end - label < 2:
        return False
    for k in range(label, end):
        if not table[points[k]] & LOWER:
            return False
    if end < b and points[end] == 0x3A:
        port = end + 1
        while port < b and table[points[port]] & DIGIT:
            port += 1
        if port - end < 3 or port - end > 6:
            return False
        end = port
    return end == b or points[end] == 0x2F or points[end] == 0x3F or points[end] == 0x23


@nb.njit
def _is_address(points, table, a, b):
    """Whether the chunk is a URL or mail address: a host at the start, after `scheme://`, or after any `@`."""
    start = a
    i = a
    while i < b and (
        table[points[i]] & ALNUM or points[i] == 0x5F or points[i] == 0x2B or points[i] == 0x2D or points[i] == _DOT
    ):
        i += 1
    if i - a >= 2 and i + 2 < b and points[i] == 0x3A and points[i + 1] == 0x2F and points[i + 2] == 0x2F:
        start = i + 3
    if _host_at(points, table, start, b):
        return True
    for k in range(start, b):
        if points[k] == 0x40 and _host_at(points, table, k + 1, b):
            return True
    return False


@nb.njit(forceinline=True)
def _infix(points, table, i, b):
    """Characters of the word that begins at i inside a chunk; 0: none. points[i - 1] lies in the same chunk."""
    c = points[i]
    p = table[points[i - 1]]
    nx = table[points[i + 1]] if i + 1 < b else np.uint32(0)
    if c == _DOT:
        if i + 1 < b and points[i + 1] == _DOT:
            n = 2
            while i + n < b and points[i + n] == _DOT:
                n += 1
            return n
        return 1 if p & (LOWER | QUOTING) and nx & (UPPER | QUOTING) else 0
    if c == 0x2026 or table[points[i]] & ICON:
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
        return n if i + n < b and table[points[i + n]] & ALPHA else 0
    return 0


@nb.njit
def cut_chunk(points, table, a, b, some, cuts, tail):
    """Cuts the chunk points[a:b] into words: word k is points[cuts[k]:cuts[k + 1]]; returns their number.

    points: code points (uint32), or the bytes of an ASCII chunk in place (uint8). a < b. some: the
    classes that occur. cuts, tail: int64, b - a + 1 entries.

    1. From the left, while what is left is not WHOLE (an abbreviation, `a.`, `'s`, `''`), pieces are split off: a run of
       full stops, `+` unless a digit follows, STRIP_LEFT, a currency sign, a symbol (So). Each is a word.
    2. From the right likewise: a run of full stops; one full stop behind BEFORE_DOT, a LOWER letter or two UPPER ones;
       `'s`; STRIP_RIGHT or So; behind a digit also `+`, a currency sign or a unit of measure.
    3. What is left is one word if WHOLE, two if a contraction, one if a web or mail address; else it is cut at infixes.
    """
    n = 0
    cuts[0] = a
    while a < b and not _is_whole(points, table, a, b):
        step = _left(points, table, a, b)
        if step == 0:
            break
        a += step
        n += 1
        cuts[n] = a
    tails = 0
    while a < b and not _is_whole(points, table, a, b):
        step = _right(points, table, a, b)
        if step == 0:
            break
        tail[tails] = b
        tails += 1
        b -= step
    if a < b:
        if not _is_whole(points, table, a, b):
            cut = _contraction(points, table, a, b)
            if cut:
                n += 1
                cuts[n] = cut
            else:
                i = a + 1
                asked = False
                while i < b and some & INSIDE:
                    step = _infix(points, table, i, b) if table[points[i]] & INSIDE else 0
                    if step == 0:
                        i += 1
                        continue
                    if not asked:  # an address needs a dot or a colon between letters: only such chunks reach this
                        asked = True
                        if _is_address(points, table, a, b):
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
