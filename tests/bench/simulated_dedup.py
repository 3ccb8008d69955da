"""`near_dedup` over documents that are numbers: their text says which, and the band keys are drawn for it.

Invariant: the keys are a pure function of a document's number and of how many documents there are, so they can be drawn
again to check a result.

Six of ten documents belong to clusters: most to small ones of about three, every fiftieth document to large ones with
a heavy tail, the largest a thousandth of ten million (a boilerplate page). Members of a cluster have a Jaccard
similarity s from 0.7 to 0.95 and share a band with the cluster with probability s^8. About 40 % of all documents end up
with an edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from tamis.stages.near_dedup import NearDedup, NearDedupConfig

LARGE = 0.02  # of all documents
SMALL = 0.6
DOCUMENTS_PER_SMALL = 3
DOCUMENTS_PER_LARGE = 1000  # of the corpus, for each large cluster: the tail decides their sizes


class SimulatedConfig(NearDedupConfig):
    documents: int = Field(ge=1, description="of the whole corpus")


class Simulated(NearDedup):
    """Near duplicates among documents that are numbers."""

    Config = SimulatedConfig

    def warm(self) -> None:
        """Nothing of `measure` is compiled here."""

    def measure(self, batch: pa.Table) -> pa.Table:
        numbers = batch["text"].combine_chunks().cast(pa.uint64()).to_numpy()
        keys = band_keys(numbers, self.config.documents, self.bands)  # type: ignore[attr-defined]
        sketch = np.repeat(keys.view(np.uint8), -(-self.rows // 8), axis=1)[:, : self.bands * self.rows]
        return pa.table(
            {
                "near_bands": _fixed(keys.view(np.uint8)),
                "near_sketch": _fixed(sketch),
                "near_shingles": pa.array(np.full(len(numbers), 100, np.int32)),
            }
        )


def band_keys(numbers: np.ndarray, documents: int, bands: int, only: int | None = None) -> np.ndarray:
    """uint64[m, bands]: the keys of the documents with these numbers (uint64[m]), of so many documents. only: a band,
    then uint64[m]."""
    kind = _draw(numbers, 1)
    small = _draw(numbers, 2) * max(1.0, SMALL * documents / DOCUMENTS_PER_SMALL)
    large = _draw(numbers, 2) ** 3 * max(1.0, documents / DOCUMENTS_PER_LARGE)
    cluster = np.where(kind < LARGE, large, small).astype(np.uint64) * np.uint64(2) + (kind < LARGE)
    shared = (0.7 + 0.25 * _draw(cluster, 3)) ** 8

    def of(band: int) -> np.ndarray:
        inside = (kind < LARGE + SMALL) & (_draw(numbers, 10 + band) < shared)
        return np.where(inside, _hash(cluster, 100 + band), _hash(numbers, 1100 + band))

    return np.stack([of(band) for band in range(bands)], axis=1) if only is None else of(only)


def _hash(numbers: np.ndarray, seed: int) -> np.ndarray:
    """The finaliser of splitmix64 over number and seed."""
    value = numbers + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _draw(numbers: np.ndarray, seed: int) -> np.ndarray:
    return (_hash(numbers, seed) >> np.uint64(11)).astype(np.float64) / 2**53


def _fixed(rows: np.ndarray) -> Any:
    data = np.ascontiguousarray(rows)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(data.shape[1]), len(data), [None, pa.py_buffer(data)])
