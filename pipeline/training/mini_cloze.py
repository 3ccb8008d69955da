"""A cloze task out of documents: which of four endings follows this beginning? What a model makes of it is its ability.

Invariant: every ending is the true one of one item and a wrong one of exactly three others, and all are equally long in
bytes and from texts of the task's kind. So an ending that is likely by itself helps a model as often as it harms it, and
what is left is what the beginning tells about the ending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from ...scorers.tiny_lm import TinyLM

BEGINNING, ENDING, CHOICES = 112, 16, 4  # bytes, bytes, endings to choose from


@dataclass(frozen=True)
class Item:
    """`endings[0]` is the true one."""

    beginning: bytes
    endings: tuple[bytes, ...]


def make_items(texts: Sequence[str], count: int) -> list[Item]:
    """At most `count` items, one a text, of texts that are long enough, in the order of their hashes. The cut stands before
    a word; where is drawn by the text's hash. Empty where the texts make fewer than CHOICES different endings."""
    cuts: dict[bytes, bytes] = {}  # a beginning by its ending
    for data in sorted((text.encode() for text in texts), key=xxhash.xxh3_64_intdigest):
        if len(cuts) == count:
            break
        places = [i for i in range(BEGINNING, len(data) - ENDING + 1) if data[i : i + 1] == b" "]
        if places:
            at = places[xxhash.xxh3_64_intdigest(data, seed=1) % len(places)]
            cuts.setdefault(data[at : at + ENDING], data[at - BEGINNING : at])
    endings = list(cuts)
    if len(endings) < CHOICES:
        return []
    return [
        Item(cuts[ending], tuple(endings[(i + k) % len(endings)] for k in range(CHOICES)))
        for i, ending in enumerate(endings)
    ]


@dataclass(frozen=True)
class Ability:
    """`margin`: mean over the items of the log2 likelihood of the true ending less the mean of the wrong ones, in bits a
    byte of ending; 0 is chance. Models are ordered by it: it is a mean of real numbers, so two tiny models do not tie in
    it as they easily would in `accuracy`, the share of items whose true ending is the most likely (chance: 0.25)."""

    margin: float
    accuracy: float


def ability(model: TinyLM, items: Sequence[Item]) -> Ability:
    """Of one model over all items."""
    beginnings = [item.beginning for item in items for _ in item.endings]
    endings = [ending for item in items for ending in item.endings]
    likelihood = model.log_likelihoods(beginnings, endings).reshape(len(items), CHOICES) / np.log(2)
    margin = (likelihood[:, 0] - likelihood[:, 1:].mean(axis=1)) / ENDING
    return Ability(float(margin.mean()), float((likelihood.argmax(axis=1) == 0).mean()))
