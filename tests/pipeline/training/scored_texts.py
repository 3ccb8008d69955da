"""Documents with losses of four models whose structure is known: what domain orders the models how.

Invariant: the texts of a domain share words of their own, so that a scorer can learn what the losses say of them.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ABILITIES = {"tiny": 25.0, "small": 31.5, "medium": 40.0, "large": 55.25}
PAIRS = 6
PERFECT, NOISE, REVERSED, MIXED = "perfect.example.org", "noise.example.com", "reversed.example.net", "mixed.example.de"
WORDS = ["".join(parts) for parts in itertools.product("bcdfglmnprst", "aeiou", "bdgkmnrt")]
SMALL = ["--dim", "8", "--bucket", "2000", "--lr", "0.5", "--epoch", "10"]


def scored_texts(each: int = 150, *, seed: int = 0, suffix: str = "_bpc") -> pa.Table:
    """id, text, url, source, lang and a loss of every model: `each` documents of four domains. PERFECT orders all models as
    they are able, REVERSED the other way round, in NOISE the losses are a shuffle, and in MIXED the two ablest change
    places in every second document. About 300 characters a text."""
    draw = random.Random(seed)
    ordered = sorted(ABILITIES, key=lambda name: ABILITIES[name])
    rows = []
    for number in range(4 * each):
        domain = (PERFECT, NOISE, REVERSED, MIXED)[number % 4]
        own = WORDS[(number % 4) * 40 : (number % 4) * 40 + 40]
        words = draw.choices(WORDS[160:], k=60) + draw.choices(own, k=draw.randrange(15, 36))
        draw.shuffle(words)
        losses = [2.0 - 0.25 * place + draw.random() / 10 for place in range(4)]  # the ablest last and lowest
        if domain == NOISE:
            draw.shuffle(losses)
        elif domain == REVERSED:
            losses.reverse()
        elif domain == MIXED and number % 8 == 3:
            losses[2], losses[3] = losses[3], losses[2]
        rows.append(
            {
                "id": f"doc-{number:05d}",
                "text": " ".join(words),
                "url": f"https://www.{domain}/{number}",
                "source": f"source-{number % 2}",
                "lang": "en" if number % 3 else "de",
                **{f"{name}{suffix}": loss for name, loss in zip(ordered, losses)},
            }
        )
    return pa.Table.from_pylist(rows)


def with_column(table: pa.Table, name: str, values) -> pa.Table:
    """The table with one column in place of another."""
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


def write_scored(folder: Path, table: pa.Table | None = None, *, files: int = 2, group: int = 100) -> Path:
    """The documents in Parquet files below the folder, and abilities.yaml beside it; returns the folder."""
    written = scored_texts() if table is None else table
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(written)), files)):
        pq.write_table(written.take(rows), folder / f"scored-{number}.parquet", row_group_size=group)
    write_abilities(folder.parent)
    return folder


def write_abilities(folder: Path, abilities: dict[str, float] = ABILITIES) -> Path:
    path = folder / "abilities.yaml"
    path.write_text("".join(f"{name}: {ability}\n" for name, ability in abilities.items()))
    return path
