"""Every segment between UAX #29 word boundaries that is not white space alone, with a hash that may be written to files.

Invariant: equal segments have equal hashes, on every machine and in every release; unequal ones share theirs with a
chance of about 2^-64.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import first_byte, load, load64, lowest_bytes, not_letters
from .unicode_classes import EXTEND, LETTER, NEWLINE, SPACE, WORD_BREAK
from .utf8 import decode
from .words import _joins

# Extended_Pictographic, as far as assigned or reserved for emoji: what a zero width joiner joins (rule WB3c)
_PICTURES = np.array(
    [
        *(0xA9, 0xA9, 0xAE, 0xAE, 0x203C, 0x203C, 0x2049, 0x2049, 0x2122, 0x2122, 0x2139, 0x2139, 0x2194, 0x2199),
        *(0x21A9, 0x21AA, 0x231A, 0x231B, 0x2328, 0x2328, 0x2388, 0x2388, 0x23CF, 0x23CF, 0x23E9, 0x23F3),
        *(0x23F8, 0x23FA, 0x24C2, 0x24C2, 0x25AA, 0x25AB, 0x25B6, 0x25B6, 0x25C0, 0x25C0, 0x25FB, 0x25FE),
        *(0x2600, 0x2605, 0x2607, 0x2612, 0x2614, 0x2685, 0x2690, 0x2705, 0x2708, 0x2712, 0x2714, 0x2714),
        *(0x2716, 0x2716, 0x271D, 0x271D, 0x2721, 0x2721, 0x2728, 0x2728, 0x2733, 0x2734, 0x2744, 0x2744),
        *(0x2747, 0x2747, 0x274C, 0x274C, 0x274E, 0x274E, 0x2753, 0x2755, 0x2757, 0x2757, 0x2763, 0x2767),
        *(0x2795, 0x2797, 0x27A1, 0x27A1, 0x27B0, 0x27B0, 0x27BF, 0x27BF, 0x2934, 0x2935, 0x2B05, 0x2B07),
        *(0x2B1B, 0x2B1C, 0x2B50, 0x2B50, 0x2B55, 0x2B55, 0x3030, 0x3030, 0x303D, 0x303D, 0x3297, 0x3297),
        *(0x3299, 0x3299, 0x1F000, 0x1F0FF, 0x1F10D, 0x1F10F, 0x1F12F, 0x1F12F, 0x1F16C, 0x1F171, 0x1F17E, 0x1F17F),
        *(0x1F18E, 0x1F18E, 0x1F191, 0x1F19A, 0x1F1AD, 0x1F1E5, 0x1F201, 0x1F20F, 0x1F21A, 0x1F21A),
        *(0x1F22F, 0x1F22F, 0x1F232, 0x1F23A, 0x1F23C, 0x1F23F, 0x1F249, 0x1F3FA, 0x1F400, 0x1F53D, 0x1F546, 0x1F64F),
        *(0x1F680, 0x1F6FF, 0x1F774, 0x1F77F, 0x1F7D5, 0x1F7FF, 0x1F80C, 0x1F80F, 0x1F848, 0x1F84F, 0x1F85A, 0x1F85F),
        *(0x1F888, 0x1F88F, 0x1F8AE, 0x1F8FF, 0x1F90C, 0x1F93A, 0x1F93C, 0x1F945, 0x1F947, 0x1FAFF, 0x1FC00, 0x1FFFD),
    ],
    np.int64,
)
_K0, _K1, _K2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@nb.njit(forceinline=True)
def mixed(x):
    """splitmix64's finish: a bijection that spreads a key over all bits."""
    x = (x ^ (x >> np.uint64(30))) * _K1
    x = (x ^ (x >> np.uint64(27))) * _K2
    return x ^ (x >> np.uint64(31))


@nb.njit(forceinline=True)
def _token_hash(data, start, end):
    """64-bit hash of data[start:end], which is not empty."""
    h = np.uint64(end - start) * _K0
    i = start
    while i + 8 < end:
        h = (h ^ load64(data, i)) * _K0
        h ^= h >> np.uint64(32)
        i += 8
    word, n = load(data, i), end - i
    return mixed(h ^ (word if n == 8 else lowest_bytes(word, n)))


@nb.njit
def _is_picture(point):
    return np.searchsorted(_PICTURES, point) % 2 == 1 or np.searchsorted(_PICTURES, point, side="right") % 2 == 1


@nb.njit(forceinline=True)
def _is_flag(point):
    """A regional indicator: two of them are one flag."""
    return 0x1F1E6 <= point <= 0x1F1FF


@nb.njit
def segments(data, start, end, table, starts, ends, hashes):
    """Writes the segments between UAX #29 word boundaries that are not all white space; returns their number.

    DCLM's tokens (`split_word_bounds` less those of White_Space alone): words, and punctuation and symbols one by one.
    starts, ends: int64, places in data; hashes: uint64. Words as `words.unicode_words`; besides, the rules WB3c (emoji
    joined by ZWJ) and WB15-16 (flags), which only matter outside of words. A run of spaces before a combining mark (WB3d)
    gives the last of them to the mark.
    """
    n = 0
    i = start
    while i < end:
        c = data[i]
        if c == 32 and (i + 1 >= end or data[i + 1] < 0x80):
            i += 1
            continue
        s = i
        if i + 8 <= end and (65 <= (c & 0xDF) <= 90):
            run = first_byte(not_letters(load64(data, i)))
            while run == 8 and i + 16 <= end:
                i += 8
                run = first_byte(not_letters(load64(data, i)))
            i += run
            kind, wanted, after_zwj, half_flag = np.int64(LETTER), True, False, False
        else:
            point, size = decode(data, i)
            bits = table[point]
            kind = np.int64(bits >> WORD_BREAK)
            wanted = bits & SPACE == 0 or 28 <= point <= 31  # U+001C..1F: str.isspace, but not White_Space
            after_zwj, half_flag = point == 0x200D, _is_flag(point)
            i += size
        joined = False  # the last character was a middle one: the next joins whatever it is
        while i < end and kind != NEWLINE:
            size = 1
            point = np.int64(data[i])
            if point >= 0x80:
                point, size = decode(data, i)
            following = np.int64(table[point] >> WORD_BREAK)
            if following == EXTEND:
                after_zwj, wanted = point == 0x200D, True
                i += size
                continue
            if joined:
                joined = False
            elif after_zwj and _is_picture(point):
                pass
            elif half_flag and _is_flag(point):
                half_flag = False
            else:
                how = _joins(kind, following, data, i + size, end, table)
                if how == 0:
                    break
                joined = how == 2
            kind = following if not joined else kind
            after_zwj = False
            i += size
        if wanted:
            starts[n], ends[n], hashes[n] = s, i, _token_hash(data, s, i)
            n += 1
    return n
