"""Documents and edited copies whose true similarity is known, from Python sets alone.

Invariant: a text made here is lower-case ASCII words joined by single spaces, so every definition of a word gives the
same n-grams, and the Jaccard similarity of the Python sets is the true one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ASCII_WORDS = re.compile("[a-z]+").findall


def grams(words: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    """The word n-grams; fewer words than n are one n-gram, none are none."""
    return frozenset(tuple(words[at : at + n]) for at in range(max(1, len(words) - n + 1))) if words else frozenset()


def jaccard(left: frozenset[T], right: frozenset[T]) -> float:
    """|left and right| / |left or right|; two empty sets are equal."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if left or right else 1.0


def zipf_words(draw: random.Random, vocabulary: Sequence[str]) -> Callable[[int], list[str]]:
    """Draws words as a language does: the word of rank k with a weight of 1/k."""
    weights = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    return lambda count: draw.choices(vocabulary, weights, k=count)


def vocabulary(draw: random.Random, size: int) -> list[str]:
    """Distinct words; short ones are the frequent ones."""
    found: dict[str, None] = {}
    while len(found) < size:
        length = 2 + min(9, len(found) * 10 // size) + draw.randrange(2)
        found["".join(draw.choices(LETTERS, k=length))] = None
    return list(found)


def edited(words: Sequence[str], similarity: float, n: int, draw: random.Random) -> list[str]:
    """A copy with new words in place of old ones, of about `similarity` to the original in n-grams.

    Half of the copies are changed here and there, where a word costs n n-grams, half in one run of words, where it
    costs about one.
    """
    copy, total = list(words), max(1, len(words) - n + 1)
    lost = round(total * (1 - similarity) / (1 + similarity))  # of `total` on either side
    if draw.random() < 0.5:
        places = draw.sample(range(len(copy)), min(len(copy), round(lost / n)))
    else:
        start = draw.randrange(max(1, len(copy) - lost))
        places = list(range(start, min(len(copy), start + max(0, lost - n + 1))))
    for place in places:
        copy[place] = "q" + "".join(draw.choices(LETTERS, k=12))
    return copy


def pairs_of(documents: Iterable[Sequence[str]], count: int, n: int, seed: int) -> list[tuple[str, str, float]]:
    """`count` times (document, edited copy, their true similarity), similarities spread over 0.35 to 1.

    documents: their words; those of fewer than 60 are passed over.
    """
    draw, found = random.Random(seed), []
    for words in documents:
        if len(found) == count:
            break
        if len(words) >= 60:
            copy = edited(words, draw.uniform(0.35, 1), n, draw)
            found.append((" ".join(words), " ".join(copy), jaccard(grams(words, n), grams(copy, n))))
    return found
