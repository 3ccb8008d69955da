"""rensa's RMinHash and LSH behind the fastest shingling in Python that we know, first byte read to last id written.

Invariant: it knows nothing of Tamis, runs in rensa's own environment on one thread, and imports and a first pass over
a few texts are over before the clock starts. `python rensa_dedup.py KEPT FILE...` reads columns id and text of the
Parquet files, writes the ids that are kept to KEPT, one a line, and prints JSON (`before`: CPU seconds of imports and
first pass).

What was tried, MB of text per CPU second on one machine: `RMinHashDeduplicator` 14, sets of joined n-grams 17, the
n-grams joined lazily 25, tuples hashed 26, word hashes combined by NumPy 27. The words alone
(`re.findall(r"\\w+", text.lower())`) come to 42: nothing behind them can be faster.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import os

os.environ["RAYON_NUM_THREADS"] = "1"  # one core, like everybody here; read when rensa is imported

import json
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH

BANDS, ROWS, NGRAM, SEED = 14, 8, 5, 1
WORDS = re.compile(r"\w+").findall
MIX, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


def shingles(text: str) -> np.ndarray:
    """uint64 hashes of the word n-grams, or one for the whole text where it has fewer words."""
    words = WORDS(text.lower())
    count = len(words) - NGRAM + 1
    if count < 1:
        return np.array([hash(tuple(words)) & (2**64 - 1)], np.uint64)
    hashes = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
    found = hashes[:count].copy()
    for at in range(1, NGRAM):
        found ^= found >> SHIFT
        found *= MIX
        found ^= hashes[at : at + count]
    found ^= found >> SHIFT
    found *= MIX
    return found


def dedup(files: list[str], kept: str) -> int:
    """Keeps each document that shares no band with one kept before; returns the documents read."""
    index, documents = RMinHashLSH(0.0, BANDS * ROWS, BANDS), 0
    with open(kept, "w", encoding="utf-8") as out:
        for file in files:
            table = pq.read_table(file, columns=["id", "text"])
            for one, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
                grams = shingles(text)
                row = RMinHash.digest_matrix_from_flat_token_hashes(grams, [0, len(grams)], BANDS * ROWS, SEED)
                if not index.query_duplicate_flags_matrix_one_shot(row)[0]:
                    index.insert_matrix(row, documents)
                    out.write(f"{one}\n")
                documents += 1
    return documents


def main(kept: str, *files: str) -> None:
    with tempfile.TemporaryDirectory(dir=Path(kept).parent) as folder:
        warm = f"{folder}/warm.parquet"
        pq.write_table(pq.read_table(files[0], columns=["id", "text"]).slice(0, 3), warm)
        dedup([warm], f"{folder}/warm.txt")
    started = time.process_time()
    documents = dedup(list(files), kept)
    seconds = time.process_time() - started
    found = {"cpu_seconds": seconds, "before": started, "documents": documents, "version": version("rensa")}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
