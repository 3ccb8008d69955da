"""datatrove's four MinHash stages with FineWeb's settings, from the first byte read to the last id written: a baseline.

Invariant: it knows nothing of Tamis, runs in datatrove's own environment, and imports, models and a first pass over a
few texts are over before the clock starts. `python datatrove_dedup.py KEPT FILE...` reads columns id and text of the
Parquet files, writes the ids that stage four keeps to KEPT, one a line, and prints JSON (`before`: CPU
seconds of imports and first pass). One file is one datatrove
task, and documents go to it straight from Arrow, without its reader.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.dedup import minhash
from datatrove.utils.logging import logger

BANDS, ROWS, NGRAM = 14, 8, 5


def read(file: str) -> Iterator[Document]:
    """The documents of a file; datatrove's stages look at nothing but their text."""
    table = pq.read_table(file, columns=["id", "text"])
    for one, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        yield Document(text=text, id=one)


def dedup(files: list[str], kept: Path, folder: Path, seconds: dict[str, float]) -> int:
    """The four stages one after the other; returns the documents read."""
    config = minhash.MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)
    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    documents = 0

    def took(stage: str, started: float) -> float:
        seconds[stage] = time.process_time() - started
        return time.process_time()

    clock = time.process_time()
    for rank, file in enumerate(files):
        stage = minhash.MinhashDedupSignature(signatures, config=config, language="eng")
        stage.run(read(file), rank=rank, world_size=len(files))
        documents += pq.read_metadata(file).num_rows
    clock = took("signature", clock)
    for bucket in range(BANDS):
        minhash.MinhashDedupBuckets(signatures, buckets, config=config).run(None, rank=bucket, world_size=BANDS)
    clock = took("buckets", clock)
    minhash.MinhashDedupCluster(buckets, removed, config=config).run(None, 0, 1)
    clock = took("cluster", clock)
    with kept.open("w", encoding="utf-8") as out:
        for rank, file in enumerate(files):
            out.writelines(f"{doc.id}\n" for doc in minhash.MinhashDedupFilter(removed).run(read(file), rank=rank))
    took("filter", clock)
    return documents


def main(kept: str, *files: str) -> None:
    logger.remove()
    with tempfile.TemporaryDirectory(dir=Path(kept).parent) as folder:
        warm = Path(folder) / "warm.parquet"
        pq.write_table(pq.read_table(files[0], columns=["id", "text"]).slice(0, 3), warm)
        dedup([str(warm)], Path(folder) / "warm.txt", Path(folder) / "first", {})
        seconds: dict[str, float] = {}
        started = time.process_time()
        documents = dedup(list(files), Path(kept), Path(folder) / "second", seconds)
        spent = time.process_time() - started
    found = {"cpu_seconds": spent, "before": started, "stages": seconds, "documents": documents}
    print(json.dumps({**found, "version": version("datatrove")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
