"""Words with punctuation split off and sentences, close to what spaCy's English tokenizer gives datatrove's filters.

Invariant: white space is no part of a word, and the words of a chunk (what lies between white space) partition it. A chunk
of letters, the usual case, is one word after one look at eight bytes; `punct_rules.cut_chunk` cuts the others.

Beyond spaCy: a letter of a script without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar ...) is a word by itself, with the
marks that follow it, where spaCy's English tokenizer takes the whole run for one word.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import first_byte, hash_bytes, hash_short, load, lowest_bytes, not_letters
from .punct_rules import cut_chunk, is_fixed
from .unicode_classes import ALONE, ALPHA, BREAK, DIGIT, EXTEND, PUNCT, SPACE, STOP, STRIP_RIGHT, SYMBOL, WORD_BREAK
from .utf8 import decode
from .words import packed, stop_word

_DOT = 0x2E
_CANNOT = np.uint64(int.from_bytes(b"cannot", "little"))
_CAPITAL = np.uint64(0x20)


# What `punct_words` writes; PLAIN are words with a character outside datatrove's PUNCTUATION_SET
TOKENS, PLAIN, PLAIN_CHARS, WITH_ALPHA, DISTINCT_STOPS, SENTENCES = range(6)


def punct_scratch(size: int) -> tuple[np.ndarray, ...]:
    """Work areas of `punct_words` for texts of at most size - 1 bytes."""
    return np.zeros(size, np.uint32), np.zeros(size, np.uint32), np.zeros(size, np.int64), np.zeros(size, np.int64)


@nb.njit
def punct_words(data, start, end, table, words, ends, scratch, out):
    """Words and sentences; see the module. Writes words, ends and out (int64); returns the number of words.

    scratch: of `punct_scratch`: code points, byte offsets, cuts, tail cuts. Sentences are counted line by line, as
    datatrove's C4 filter does: a word that is one STOP character ends one, and the next begins at the next word that is
    neither that nor all punctuation (category P); a line with any word has at least one.
    """
    points, at, cuts, tail = scratch
    n = 0
    chars = np.int64(0)
    plain = plain_chars = alphas = sentences = np.int64(0)
    stops = np.int64(0)
    fresh, ended = True, True  # at the start of a line; after the end of a sentence
    i = start
    while i < end:
        # ASCII letters, the usual case: eight bytes a look
        s = i
        word = load(data, i)
        size = first_byte(not_letters(word))
        first = lowest_bytes(word, size) if size < 8 else word
        i += size
        while size == 8:
            word = load(data, i)
            size = first_byte(not_letters(word))
            i += size
        if i > end:  # letters of the next text
            i = end
            if i - s < 8:
                first = lowest_bytes(first, i - s)
        length = i - s
        c = np.int64(data[i]) if i < end else np.int64(32)
        kind = table[c] if c < 0x80 else np.uint32(0)
        if length:
            mark = False  # one mark behind the letters, then white space
            done = kind & SPACE != 0
            if kind & (STRIP_RIGHT | STOP) and i + 1 < end:
                after = data[i + 1]
                mark = after == 32 or after == 10
                if c == _DOT:
                    short = length > 6 or (length > 1 and not is_fixed(first | (np.uint64(c) << np.uint64(8 * length))))
                    mark &= data[i - 1] >= 97 and short
                done = mark
            if done and not (length == 6 and (first | _CAPITAL) == _CANNOT):
                key = hash_short(first, length) if length <= 8 else hash_bytes(data, s, i)
                words[n] = key
                n += 1
                chars += length
                ends[n] = chars
                if length <= 8:
                    stops |= stop_word(first, length)
                alphas += 1
                plain += 1
                plain_chars += length
                sentences += np.int64(fresh | ended)
                fresh = ended = False
                if mark:
                    words[n] = hash_short(np.uint64(c), 1)
                    n += 1
                    chars += 1
                    ends[n] = chars
                    ended = kind & STOP != 0
                    i += 1
                elif i < end:
                    fresh = kind & BREAK != 0
                    i += 1
                continue
        elif kind & SPACE:
            fresh |= kind & BREAK != 0
            i += 1
            continue

        # anything else: find the end of the chunk, decode it if it is not ASCII, cut it
        i = s
        narrow = True
        some, every = np.uint32(0), np.uint32(0xFFFFFFFF)
        while i < end:
            c = np.int64(data[i])
            width = 1
            if c >= 0x80:
                c, width = decode(data, i)
            kind = table[c]
            if kind & (SPACE | ALONE):
                break
            narrow &= c < 0x80
            some |= kind
            every &= kind
            i += width
        if i == s:  # a character that no chunk holds
            i += width
            if kind & SPACE:
                fresh |= kind & BREAK != 0
                continue
            cuts[0], cuts[1] = 0, 1  # a letter that stands alone, with its marks
            points[0], at[0] = c, 0
            while i < end and data[i] >= 0x80:
                c, width = decode(data, i)
                if table[c] >> WORD_BREAK != EXTEND:
                    break
                points[cuts[1]], at[cuts[1]] = c, i - s
                cuts[1] += 1
                i += width
            at[cuts[1]] = i - s
            pieces = 1
            narrow = False
        elif narrow:
            if i - s == 1 or every & DIGIT:
                cuts[0], cuts[1] = s, i
                pieces = 1
            else:
                pieces = cut_chunk(data, table, s, i, some, cuts, tail)
        else:
            k = s
            size = 0
            while k < i:
                c, width = decode(data, k)
                points[size], at[size] = c, k - s
                size += 1
                k += width
            at[size] = i - s
            pieces = cut_chunk(points, table, 0, size, some, cuts, tail)
        for w in range(pieces):
            a, b = cuts[w], cuts[w + 1]
            some, every = np.uint32(0), np.uint32(0xFFFFFFFF)
            for k in range(a, b):
                bits = table[data[k]] if narrow else table[points[k]]
                some |= bits
                every &= bits
                if some & ALPHA and not every & (SYMBOL | PUNCT):  # nothing that follows can change what is asked
                    break
            length = b - a
            if not narrow:
                a, b = s + at[a], s + at[b]
            words[n] = hash_bytes(data, a, b)
            n += 1
            chars += length
            ends[n] = chars
            stops |= stop_word(packed(data, a, b), b - a)
            alphas += np.int64(some & ALPHA != 0)
            if not every & SYMBOL:
                plain += 1
                plain_chars += length
            if length == 1 and every & STOP:
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
