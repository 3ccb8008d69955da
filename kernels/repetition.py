"""Repeated words and n-grams of one document, n = 2 to 10, under three published definitions from one search.

Invariant: an n-gram can only be repeated where both (n-1)-grams inside it are, so the search for n looks at the survivors
of n - 1 alone. Words are compared by 64-bit hash, n-grams exactly (as pairs of two numbers from 0 to 2^31): the first
place of the (n-1)-gram and the first place of the last word. Ordinary text costs two table look-ups a word, not nine.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import first_place

DATATROVE, DOLMA, DCLM = 0, 1, 2
# what `repetition` writes: top 2-, 3-, 4-gram, then duplicate 5- to 10-gram, then for DOLMA the
# denominators of the latter
TOP, DUPLICATE, ALL = 0, 3, 9


@nb.njit
def repetition(words, ends, n_words, definition, out, scratch, now):
    """Fills out (int64, 9 entries, 15 for DOLMA) with characters; -1 where there is no n-gram. Returns `now`.

    words: uint64 hashes. ends: int64 of n_words + 1, characters up to the end of each word (ends[0] = 0), white space
    not counted. scratch: (table keys uint64, values int32, stamps int32), then int32 arrays of at least n_words:
    place of first word, place of first n-gram, count, marks, survivors. now: last stamp used in this scratch.

    Definitions of the numerators:

    - DATATROVE: top: characters of the most frequent n-gram joined by spaces, times its count, the first seen of equals,
      even if its count is 1. Duplicate: walking from the left, an n-gram seen before adds its characters and is
      stepped over whole; those stepped over are not remembered.
    - DOLMA: top: as above without the spaces. Duplicate: characters of every occurrence of every repeated n-gram; over
      the characters of all n-grams.
    - DCLM: top: of the most frequent n-grams the longest; 0 where no n-gram is repeated. Duplicate: characters of the
      words that lie in some repeated n-gram, each once.
    """
    slots, values, stamps, first, gram, count, marks, alive = scratch
    now += 1
    capacity = 16
    while capacity < 2 * n_words:
        capacity *= 2
    mask = np.uint64(capacity - 1)

    for j in range(n_words):
        p = first_place(words[j], np.int32(j), slots, values, stamps, mask, now)
        first[j] = p
        gram[j] = p
        if p == j:
            count[j] = 1
        else:
            count[p] += 1
    living = 0
    for j in range(n_words):
        if count[gram[j]] > 1:
            alive[living] = j
            living += 1

    upper, lower = np.int64(0), np.int64(0)
    if definition == DOLMA:
        for j in range(n_words + 1):
            upper += ends[j]
        lower = upper
        upper -= ends[0]
        lower -= ends[n_words]

    for n in range(2, 11):
        if definition == DOLMA and n <= n_words:
            # all n-grams together: the sum of ends[n:] less the sum of ends[:n_words - n + 1]
            upper -= ends[n - 1]
            lower -= ends[n_words - n + 1]
            if n >= 5:
                out[ALL + n - 5] = upper - lower
        # candidates: neighbours that both survived; they overwrite the list that they are read from
        now += 1
        while capacity > 16 and capacity >= 4 * living:
            capacity //= 2
        mask = np.uint64(capacity - 1)
        candidates = 0
        for a in range(living - 1):
            j = alive[a]
            if alive[a + 1] == j + 1 and j + n <= n_words:
                key = (np.uint64(gram[j]) << np.uint64(32)) | np.uint64(first[j + n - 1])
                p = first_place(key, np.int32(j), slots, values, stamps, mask, now)
                gram[j] = p
                if p == j:
                    count[j] = 1
                else:
                    count[p] += 1
                alive[candidates] = j
                candidates += 1

        if n <= 4:
            best, best_chars = np.int64(1), np.int64(0)
            for a in range(candidates):
                j = alive[a]
                if gram[j] == j and count[j] > 1:
                    chars = ends[j + n] - ends[j]
                    if count[j] > best or (definition == DCLM and count[j] == best and chars > best_chars):
                        best, best_chars = np.int64(count[j]), chars
            if n > n_words:
                out[TOP + n - 2] = -1
            else:
                if best == 1 and definition != DCLM:
                    best_chars = ends[n]
                spaces = n - 1 if definition == DATATROVE else 0
                out[TOP + n - 2] = best * (best_chars + spaces)

        survivors = 0
        chars, free = np.int64(0), 0
        for a in range(candidates):
            j = alive[a]
            if count[gram[j]] > 1:
                alive[survivors] = j
                survivors += 1
                if n >= 5:
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
        living = survivors
        if n >= 5:
            absent = n > n_words and definition != DATATROVE
            out[DUPLICATE + n - 5] = -1 if absent else chars
            if absent and definition == DOLMA:
                out[ALL + n - 5] = 0
    return now
