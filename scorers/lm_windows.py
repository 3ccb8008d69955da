"""Which tokens a causal language model reads together, and which of them it is asked for.

Invariant: every prediction of every document is made exactly once, by the window that reads most of what stands before
it. Windows are rows of token ids filled up on the right, or lie behind one another in one row with positions that begin
again; a causal model never looks to the right, so what fills a row up needs no mask.

A document's tokens t[0], t[1], ... behind the start token, if there is one, are its sequence S. Prediction j, made after S[j],
is of S[j + 1]; a sequence of n has n - 1. The first window makes the first `window` predictions; each further one makes
the next `stride`, and reads the `window` tokens of S that stand before its last target.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Tokens:
    """Documents as tokens: those of document d are ids[offsets[d] : offsets[d + 1]]. No start token among them."""

    ids: np.ndarray  # int32 [tokens]
    offsets: np.ndarray  # int64 [documents + 1]


@dataclass(frozen=True)
class Windows:
    """Per window: its document; first prediction that it reads for (a place in S), how many tokens it reads, and the first
    prediction that counts. int64 [windows]."""

    document: np.ndarray
    first: np.ndarray
    length: np.ndarray
    scored_from: np.ndarray

    def take(self, chosen: np.ndarray) -> Windows:
        return Windows(self.document[chosen], self.first[chosen], self.length[chosen], self.scored_from[chosen])


class Batch(NamedTuple):
    """What goes through the model together."""

    ids: np.ndarray  # int64 [rows, longest], 0 where a row is filled up
    positions: np.ndarray | None  # int64 [1, tokens] where windows lie behind one another
    asked: np.ndarray  # int64 [scored]: places in the flattened ids whose prediction counts
    targets: np.ndarray  # int64 [scored]: the tokens that follow there
    places: np.ndarray  # int64 [scored]: where the numbers belong among all predictions
    longest: int  # tokens of the longest window


def cut(offsets: np.ndarray, *, start: bool, window: int, stride: int) -> tuple[Windows, np.ndarray]:
    """(windows in the order of the documents, int64 [documents + 1] offsets of the documents' predictions)."""
    predictions = np.diff(offsets) if start else np.maximum(np.diff(offsets) - 1, 0)
    further = -(-np.maximum(predictions - window, 0) // stride)
    count = np.where(predictions > 0, 1 + further, 0)
    document = np.repeat(np.arange(len(predictions)), count)
    place = np.arange(len(document)) - np.repeat(np.cumsum(count) - count, count)
    end = np.minimum(window + place * stride, predictions[document])
    first = np.maximum(end - window, 0)
    scored_from = np.where(place == 0, 0, window + (place - 1) * stride)
    return Windows(document, first, end - first, scored_from), np.concatenate([[0], np.cumsum(predictions)])


def shares(windows: Windows, order: np.ndarray, budget: int, *, packed: bool) -> Iterator[np.ndarray]:
    """Pieces of `order` (windows, longest first) of at most `budget` tokens, filling among them, or of one window."""
    if packed:
        ends = np.cumsum(windows.length[order])
    start = 0
    while start < len(order):
        if packed:
            before = int(ends[start - 1]) if start else 0
            stop = max(int(np.searchsorted(ends, before + budget, side="right")), start + 1)
        else:
            stop = start + max(1, budget // int(windows.length[order[start]]))
        yield order[start:stop]
        start = stop


def batch(tokens: Tokens, windows: Windows, predictions: np.ndarray, *, start: int | None, packed: bool) -> Batch:
    """The batch of these windows. predictions: the offsets that `cut` gave; start: id of the start token."""
    length = windows.length
    owner = np.repeat(np.arange(len(length)), length)
    inner = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
    document = windows.document[owner]
    place = windows.first[owner] + inner
    target = tokens.offsets[document] + place + (start is None)
    ids = tokens.ids[np.maximum(target - 1, 0)].astype(np.int64)
    if start is not None:
        ids[place == 0] = start
    longest = int(length.max())
    cell = np.arange(len(owner)) if packed else owner * longest + inner
    rows = np.zeros(len(owner) if packed else len(length) * longest, np.int64)
    rows[cell] = ids
    asked = place >= windows.scored_from[owner]
    return Batch(
        rows.reshape(1 if packed else len(length), -1),
        inner[None] if packed else None,
        cell[asked],
        tokens.ids[target[asked]].astype(np.int64),
        predictions[document[asked]] + place[asked],
        longest,
    )
