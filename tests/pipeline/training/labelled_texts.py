"""Small labelled sets that a classifier can learn: each label has words of its own beside common ones."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = ["".join(parts) for parts in itertools.product("bcdfglmnprst", "aeiou", "bdgkmnrt")]
SMALL = {"dim": 8, "bucket": 2_000, "word_ngrams": 2, "lr": 0.5, "epoch": 10}
FLAGS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def labelled_texts(
    count: int = 600, *, labels: tuple[str, ...] = ("1", "0"), noise: float = 0.1, seed: int = 0
) -> pa.Table:
    """text, label, and source (two of them, which say nothing of the label). Of every label's texts a share `noise` has
    the words of another label."""
    draw = random.Random(seed)
    own = {label: WORDS[i * 30 : i * 30 + 30] for i, label in enumerate(labels)}
    common = WORDS[len(labels) * 30 :]
    rows = []
    for number in range(count):
        label = labels[number % len(labels)]
        said = draw.choice(labels) if draw.random() < noise else label
        words = draw.choices(common, k=25) + draw.choices(own[said], k=6)
        draw.shuffle(words)
        rows.append((" ".join(words), label, f"site{draw.randrange(2)}"))
    texts, given, sources = zip(*rows)
    return pa.table(
        {
            "text": pa.chunked_array([texts], pa.large_string()),
            "label": pa.chunked_array([given], pa.string()),
            "source": pa.chunked_array([sources], pa.string()),
        }
    )


def written(folder: Path, name: str = "labelled.parquet", **options) -> Path:
    """The same in a file."""
    pq.write_table(labelled_texts(**options), folder / name)
    return folder / name
