"""Sums of rows for any fastText model: of words, of their character n-grams where they are in no dictionary, of word n-grams.

Invariant: as in fasttext.py; and what is added for a word is in 32 bits whether it was remembered or not, so that the
memory of words seen lately changes nothing.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .fasttext_arrays import AREAS, MODEL, WINDOW_ARRAYS
from .fasttext_characters import add_characters, add_row, row_of
from .fasttext_scores import HEAD, finish, nothing
from .fasttext_words import BYTES, COUNT, CUTS, LEAD, NO_LENGTH

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


@nb.njit(nb.void(BYTES, WINDOW_ARRAYS, MODEL, HEAD, AREAS, nb.int64, nb.int32[:, ::1], nb.float32[:, ::1]), **_OPTIONS)
def sum_rows(data, window, model, head, areas, first, names, out):
    """Any model. first: the place in `out` of the first piece of the window."""
    state, keys, begins, lengths, cuts, found, _, grams = window
    _, row_counts, rows, width, words, left, ranks, places, levels, minn, maxn, buckets = model
    totals, total, mean, seen_keys, seen_counts, seen, work, chosen, logits, reach, best, best_values = areas
    # where the piece begins: words before LEAD are summed, but n-grams reach back to them
    start, count = 0, totals[0]
    at = state[LEAD]
    for cut in range(state[CUTS] + 1):
        end = np.int64(cuts[cut]) if cut < state[CUTS] else state[COUNT]
        for i in range(at, end):
            row = np.int64(found[i])
            if row >= 0:
                add_row(total, rows, row, width)
                count += row_counts[row] if len(row_counts) else 1
            elif maxn > 0 and lengths[i] != NO_LENGTH:
                # what is added is in 32 bits, whether the word is remembered or not
                place = np.int64((keys[i] >> np.uint64(32)) & np.uint64(len(seen_keys) - 1))
                if seen_keys[place] != keys[i]:
                    for k in range(width):
                        mean[k] = 0.0
                    seen_keys[place] = keys[i]
                    seen_counts[place] = add_characters(
                        data, begins[i], lengths[i], rows, width, words, left, ranks, places, minn, maxn, buckets,
                        work, chosen, mean,
                    )  # fmt: skip
                    for k in range(width):
                        seen[place * width + k] = mean[k]
                add_row(total, seen, place, width)
                count += seen_counts[place]
            for level in range(min(levels, i - start)):
                row = row_of(np.uint64(grams[level, i]), words, left, ranks, places)
                if row >= 0:
                    add_row(total, rows, row, width)
                    count += 1
        if cut < state[CUTS]:
            place = first + cut
            if count:
                for k in range(width):
                    mean[k] = total[k] / count
                finish(mean, head, logits, reach, best, best_values, names[place], out[place])
            else:
                nothing(names[place], out[place])
            for k in range(width):
                total[k] = 0.0
            count, start = 0, end
        at = end
    totals[0] = count
