"""Repeated words and n-grams of one document, n = 2 to 10, under three published definitions from one search.

Invariant: an n-gram can only be repeated where both (n-1)-grams inside it are, so the search for n looks at the survivors
of n - 1 alone. 2-grams are compared by 64-bit hash, longer ones exactly: an n-gram is the pair (first place of its left
(n-1)-gram, first place of its right one). Where these are neighbours p and p + 1, the n-gram stands at p, first of all, and
needs no look-up. A filter of a few bytes a word drops most 2-grams that occur once before any look-up; what it lets
through by chance, the look-up drops.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import first_place

_FACTOR = np.uint64(0x9E3779B97F4A7C15)

DATATROVE, DOLMA, DCLM = 0, 1, 2
# what `repetition` writes: top 2-, 3-, 4-gram, then duplicate 5- to 10-gram, then for DOLMA the
# denominators of the latter
TOP, DUPLICATE, ALL = 0, 3, 9


@nb.njit(forceinline=True)
def _pair(words, j):
    """Hash of the 2-gram at j; as well mixed as the hashes of its words."""
    return words[j] * _FACTOR + words[j + 1]


@nb.njit
def repetition(words, ends, n_words, definition, out, scratch, now):
    """Fills out (int64, 9 entries, 15 for DOLMA) with characters; -1 where there is no n-gram. Returns the last stamp.

    words: uint64 hashes. ends: int64 of n_words + 1, characters up to the end of each word (ends[0] = 0), white space
    not counted. scratch: table entries (uint64, see `first_place`); the filter (uint8, at least 16 * n_words and 16); uint32
    arrays of at least n_words: marks (stamps), first place of the n-gram, count, survivors. now: last stamp used in this
    scratch.

    Definitions of the numerators:

    - DATATROVE: top: characters of the most frequent n-gram joined by spaces, times its count, the first seen of equals,
      even if its count is 1. Duplicate: walking from the left, an n-gram seen before adds its characters and is
      stepped over whole; those stepped over are not remembered. (datatrove joins words without a space there, so it also
      takes "ab c" for "a bc"; here they differ.)
    - DOLMA: top: as above without the spaces. Duplicate: characters of every occurrence of every repeated n-gram; over
      the characters of all n-grams.
    - DCLM: top: of the most frequent n-grams the longest; 0 where no n-gram is repeated. Duplicate: characters of the
      words that lie in some repeated n-gram, each once.
    """
    entries, seen, marks, gram, count, alive = scratch
    capacity = 16
    while capacity < 2 * n_words:
        capacity *= 2

    # 2-grams that may occur again: one byte a slot tells unseen, seen once, seen more often; no branch hangs on the text
    slots = 16
    while slots < 8 * n_words:
        slots *= 2
    seen[:slots] = 0
    slot_mask = np.uint64(slots - 1)
    for j in range(n_words - 1):
        k = _pair(words, j) & slot_mask
        seen[k] = seen[k] << np.uint8(1) | np.uint8(1)
    living = 0
    for j in range(n_words - 1):
        alive[living] = j
        living += np.int64(seen[_pair(words, j) & slot_mask] > 1)

    upper, lower = np.int64(0), np.int64(0)
    if definition == DOLMA:
        for j in range(n_words + 1):
            upper += ends[j]
        lower = upper - ends[n_words]
        upper -= ends[0]

    for n in range(2, 11):
        if definition == DOLMA and n <= n_words:
            # characters of all n-grams: the sum of ends[n:] less the sum of ends[:n_words - n + 1]
            upper -= ends[n - 1]
            lower -= ends[n_words - n + 1]
            if n >= 5:
                out[ALL + n - 5] = upper - lower

        # candidates: survivors whose right neighbour survived too; the list is compacted in place
        candidates = living if n == 2 else 0
        for a in range(living - 1 if n > 2 else 0):
            j = alive[a]
            alive[candidates] = j
            candidates += np.int64((alive[a + 1] == j + 1) & (j + n <= n_words))
        now += 1
        while capacity > 16 and capacity >= 4 * candidates:
            capacity //= 2
        mask = np.uint64(capacity - 1)
        for a in range(candidates if n == 2 else 0):
            j = np.int64(alive[a])
            p = first_place(_pair(words, j), j, entries, mask, now)
            gram[j] = p
            count[j] = 0
            count[p] += 1
        for a in range(candidates if n > 2 else 0):
            j = np.int64(alive[a])
            p = np.int64(gram[j])
            following = np.int64(gram[j + 1])
            if following != p + 1:
                p = first_place(np.uint64(p) << np.uint64(32) | np.uint64(following), j, entries, mask, now)
                gram[j] = p
            count[j] = 0
            count[p] += 1

        if n <= 4:
            best, best_chars = np.int64(1), np.int64(0)
            for a in range(candidates):
                j = alive[a]
                times = np.int64(count[j])
                if times > best or (definition == DCLM and times == best and times > 1):
                    chars = ends[j + n] - ends[j]
                    if times > best or chars > best_chars:
                        best, best_chars = times, chars
            if best == 1 and definition != DCLM and n <= n_words:
                best_chars = ends[n]
            spaces = n - 1 if definition == DATATROVE else 0
            out[TOP + n - 2] = best * (best_chars + spaces) if n <= n_words else -1

        living = 0
        for a in range(candidates):
            j = alive[a]
            alive[living] = j
            living += np.int64(count[gram[j]] > 1)

        if n >= 5:
            chars, free = np.int64(0), np.int64(0)
            for a in range(living):
                j = np.int64(alive[a])
                if definition == DOLMA:
                    chars += ends[j + n] - ends[j]
                elif definition == DCLM:
                    chars += ends[j + n] - ends[max(j, free)]
                    free = j + n
                elif j >= free:
                    p = gram[j]
                    if marks[p] == now:
                        chars += ends[j + n] - ends[j]
                        free = j + n
                    else:
                        marks[p] = now
            absent = n > n_words and definition != DATATROVE
            out[DUPLICATE + n - 5] = -1 if absent else chars
    return now
