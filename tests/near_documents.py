"""Families of documents that are edits of one another, for tests of near-duplicate removal, and naive answers."""

from __future__ import annotations

import random
import re

import pyarrow as pa

SOURCES = ["books", "wiki", "forum"]


def families(count: int, seed: int = 1, *, most: int = 6, words: int = 120) -> pa.Table:
    """`count` families of 1 to `most` documents: an original, and copies with a few words replaced; shuffled, with the
    columns text, chars, date, source, quality and family."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(5000)]
    rows = []
    for family in range(count):
        original = rng.choices(vocabulary, k=rng.randint(words // 2, words * 2))
        for _ in range(rng.choice([1, 1, 2, 3, most])):
            copy = list(original)
            for _ in range(rng.choice([0, 0, 1, 2, 5, 12])):
                copy[rng.randrange(len(copy))] = rng.choice(vocabulary)
            text = " ".join(copy) + rng.choice(["", ".", "!\n"])
            rows.append((text, family))
    rng.shuffle(rows)
    return pa.table(
        {
            "text": pa.array([text for text, _ in rows], pa.large_string()),
            "chars": pa.array([len(text) for text, _ in rows], pa.int64()),
            "date": pa.array([rng.choice([None, "2020-01-01", "2021-06-01", "2023-02-03"]) for _ in rows]),
            "source": pa.array([rng.choice(SOURCES) for _ in rows]),
            "quality": pa.array([rng.choice([0.1, 0.5, 0.9, None]) for _ in rows], pa.float32()),
            "family": pa.array([family for _, family in rows], pa.int64()),
        }
    )


def shingles(text: str, ngram: int = 5) -> set[tuple[str, ...]]:
    """The set of n-grams of lower-case ASCII words; of all words where there are fewer."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"[0-9]+", "0", text.lower()))
    return {tuple(words[i : i + ngram]) for i in range(max(len(words) - ngram + 1, 1))}


def jaccard(one: str, other: str, ngram: int = 5) -> float:
    a, b = shingles(one, ngram), shingles(other, ngram)
    return len(a & b) / len(a | b)
