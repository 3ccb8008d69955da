"""What is a label of a fastText model whose labels have another prefix than `__label__`, or whose words have that one.

Invariant: an entry of the dictionary is what its entry says; any other word is a label if it begins with `__label__`.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from .fasttext_words import BYTES, COUNT, CUTS, LABEL_ROW, LEAD, SEEN, SLOTS, first_slot, has_prefix, next_slot

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


@nb.njit(
    nb.void(
        BYTES, SLOTS, BYTES, nb.int64[::1], nb.uint64[::1], nb.int64[::1], nb.int32[::1], nb.int32[::1]
    ),
    **_OPTIONS,
)  # fmt: skip
def drop_labels(data, slots, prefix, state, keys, begins, lengths, cuts):
    """Takes out of a window the words that are labels of this model, for one whose labels have another prefix or whose
    words begin with `__label__`: an entry is what the dictionary says, any other word is a label if it has the prefix."""
    n = i = state[LEAD]
    seen = np.int64(0)
    for cut in range(state[CUTS] + 1):
        end = np.int64(cuts[cut]) if cut < state[CUTS] else state[COUNT]
        before = n
        while i < end:
            at = first_slot(keys[i], slots)
            while slots[at]["key"] != keys[i] and slots[at]["key"] != 0:
                at = next_slot(at, slots)
            if slots[at]["key"] == keys[i]:
                label = slots[at]["row"] == LABEL_ROW
            else:
                label = has_prefix(data, begins[i], begins[i] + lengths[i], prefix)
            if not label:
                keys[n], begins[n], lengths[n] = keys[i], begins[i], lengths[i]
                n += 1
            i += 1
        seen = n - before
        if cut < state[CUTS]:
            cuts[cut] = n
    if state[CUTS] == 0:
        seen += state[SEEN] - (state[COUNT] - state[LEAD])
    state[COUNT], state[SEEN] = n, seen
