"""Labelled texts made ready: one row per text, what is held out, and what is trained on.

Invariant: every row that was read is trained on, held out, or counted under one reason; the order of the rows to train on
is that of the texts' hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...stages.draws import draws
from .labelled import UNUSABLE, deduplicate, near_duplicates, split

Cap: TypeAlias = (
    int | Literal["down"] | None
)  # texts of a label that are trained on at most; down: as many as the rarest has


@dataclass(frozen=True)
class Parts:
    """Texts to train on and held out, with `rows`: what became of every row that came in, by reason."""

    train: pa.Table
    test: pa.Table
    rows: dict[str, int]


def prepare(table: pa.Table, test_share: float, cap: Cap, left_out: Mapping[str, int]) -> Parts:
    """One row per text, split by hash; then what is held out loses what is nearly a training text."""
    unique, gone = deduplicate(table)
    training, test = split(unique, test_share)
    balanced = training.filter(pa.array(_within_cap(training, cap)))
    untrained = ~np.asarray(pc.is_in(test["label"], pc.unique(balanced["label"])))
    near = near_duplicates(test["text"], balanced["text"]) & ~untrained
    held = test.filter(pa.array(~near & ~untrained))
    rows = {
        "read": len(table) + sum(left_out.values()),
        "train": len(balanced),
        "held_out": len(held),
        **dict.fromkeys(UNUSABLE, 0),
        **left_out,
        **gone,
        "near_duplicates": int(near.sum()),
        "over_cap": len(training) - len(balanced),
        "label_not_trained": int(untrained.sum()),
    }
    return Parts(balanced, held, rows)


def _within_cap(training: pa.Table, cap: Cap) -> np.ndarray:
    """bool[n]: the texts of each label with the smallest draws, as many as the cap allows."""
    chosen = np.ones(len(training), bool)
    if cap is None or not len(training):
        return chosen
    codes = pc.index_in(training["label"], pc.unique(training["label"])).to_numpy()
    most = int(np.bincount(codes).min()) if cap == "down" else int(cap)
    order = np.lexsort((draws(training["hash"], seed=0, name="balance"), codes))
    starts = np.searchsorted(codes[order], codes[order])
    chosen[order] = np.arange(len(order)) - starts < most
    return chosen
