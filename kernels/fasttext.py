"""Answers questions to fastText models about pieces of text, window by window; and the sums for the usual models.

Invariant: a text's sums are made in the order of its words, in 64 bits, and of what it has alone: neither windows, nor
other texts, nor other models can change a bit of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numba as nb
import numpy as np

from .fasttext_arrays import AREAS, MODEL, WINDOW_ARRAYS
from .fasttext_scores import HEAD, finish, nothing
from .fasttext_words import (
    BYTES,
    COUNT,
    CUTS,
    KEYS,
    LEAD,
    SLOTS,
    Windows,
    first_slot,
    next_slot,
    ngram_buckets,
)

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


@nb.njit(nb.void(SLOTS, KEYS, nb.int64, nb.int64, nb.int32[::1], nb.float32[::1]), **_OPTIONS)
def find_words(slots, keys, first, count, rows, values):
    """Rows (-1: none) and values of words first..count. The first place that is looked at has the word or is empty for
    most; what is not settled there is kept in the tail of `rows`, so that no branch waits for memory."""
    todo = len(rows)
    for i in range(first, count):
        key = keys[np.uint64(i)]
        slot = slots[first_slot(key, slots)]
        here = slot["key"] == key
        rows[np.uint64(i)] = slot["row"] if here else np.int32(-1)
        values[np.uint64(i)] = slot["value"] if here else np.float32(0)
        rows[np.uint64(todo - 1)] = i
        todo -= np.int64((slot["key"] != key) & (slot["key"] != 0))
    for k in range(todo, len(rows)):
        i = rows[k]
        key = keys[i]
        at = first_slot(key, slots)
        while slots[at]["key"] != key and slots[at]["key"] != 0:
            at = next_slot(at, slots)
        if slots[at]["key"] == key:
            rows[i], values[i] = slots[at]["row"], slots[at]["value"]


@nb.njit(nb.void(BYTES, WINDOW_ARRAYS, MODEL, HEAD, AREAS, nb.int64, nb.int32[:, ::1], nb.float32[:, ::1]), **_OPTIONS)
def sum_values(data, window, model, head, areas, first, names, out):
    """Rows of one number, every bucket has one, no character n-grams: two labels of the usual models."""
    state, _, _, _, cuts, found, values, grams = window
    _, _, rows, _, words, _, _, _, levels, _, _, _ = model
    totals, total, mean, _, _, _, _, _, logits, reach, best, best_values = areas
    start, count, of_words = 0, totals[0], total[0]
    at = state[LEAD]
    for cut in range(state[CUTS] + 1):
        end = np.int64(cuts[cut]) if cut < state[CUTS] else state[COUNT]
        for i in range(at, end):
            of_words += values[np.uint64(i)]
            count += np.int64(found[np.uint64(i)] >= 0)
        for level in range(levels):
            low, of_grams = max(at, start + level + 1), total[level + 1]
            for i in range(low, end):
                of_grams += rows[np.uint64(words + grams[np.uint64(level), np.uint64(i)])]
            count += max(0, end - low)
            total[level + 1] = of_grams
        if cut < state[CUTS]:
            place = first + cut
            if count:
                for level in range(levels):
                    of_words += total[level + 1]
                    total[level + 1] = 0.0
                mean[0] = of_words / count
                finish(mean, head, logits, reach, best, best_values, names[place], out[place])
            else:
                nothing(names[place], out[place])
            count, start, of_words = 0, end, 0.0
        at = end
    totals[0], total[0] = count, of_words


class Answer(Protocol):
    """One question about every piece, for one model: what `walk` needs of it."""

    model: Any  # .model: MODEL
    head: tuple  # HEAD
    areas: tuple
    plain: bool  # `sum_values` may be used
    ngrams: int  # words in the longest word n-gram
    buckets: int
    names: np.ndarray
    values: np.ndarray


def walk(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    answers: Sequence[Answer],
    *,
    strict: bool,
    own: np.ndarray | None = None,
) -> None:
    """Fills `names` and `values` of all answers. own: slots of a model that knows itself what a label is."""
    longest = max(answer.ngrams for answer in answers)
    windows = Windows(data, starts, ends, keep=longest - 1, strict=strict, prefixed=own is not None)
    room = len(windows.keys)
    scratch = np.empty((2, room), np.uint64)
    rows, values = np.empty(2 * room, np.int32), np.empty(room, np.float32)
    grams = {
        buckets: np.empty((max(one.ngrams for one in answers if one.buckets == buckets) - 1, room), np.uint32)
        for buckets in {answer.buckets for answer in answers}
    }
    first = 0
    while windows.next():
        if own is not None:
            windows.drop_labels(own)
        state = windows.state
        for buckets, table in grams.items():
            if len(table):
                ngram_buckets(windows.keys, state[COUNT], buckets, scratch, table)
        words = (state, windows.keys, windows.begins, windows.lengths, windows.cuts, rows, values)
        for one in answers:
            find_words(one.model.slots, windows.keys, state[LEAD], state[COUNT], rows, values)
            window = (*words, grams[one.buckets])
            loop = sum_values
            if not one.plain:
                from .fasttext_rows import sum_rows as loop  # 2 MB of code that the usual models never need
            loop(data, window, one.model.model, one.head, one.areas, first, one.names, one.values)
        first += int(state[CUTS])
