"""Stages with models, for tests of how the engine treats them: the model is a text file, the number its length."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import xxhash

from tamis.stages.base import Column, Resources, Stage, StageConfig


class MeasuredConfig(StageConfig):
    model: str
    reads: str | None = None


class Measured(Stage):
    """The model's bytes, for every document; joins its neighbours."""

    Config = MeasuredConfig
    config: MeasuredConfig
    not_in_key = frozenset({"model"})
    calls: ClassVar[list[list[str]]] = []

    @property
    def models(self) -> tuple[str, ...]:
        return (self.config.model,)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("text", self.config.reads) if self.config.reads else ("text",)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("bytes_of_model", pa.int64(), "bytes"),)

    @property
    def joins(self) -> str:
        return "measured"

    def measure(self, batch: pa.Table) -> pa.Table:
        return self.measure_together([self], batch)[0]

    @classmethod
    def measure_together(cls, stages, batch):
        cls.calls.append([stage.name for stage in stages])
        sizes = [sum(p.stat().st_size for p in _files(Path(s.local(s.config.model)))) for s in stages]
        return [pa.table({"bytes_of_model": pa.array([size] * len(batch), pa.int64())}) for size in sizes]


def _files(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]


class Here(Stage):
    """The process that measured each document."""

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("process", pa.int64(), "process id"),)

    def measure(self, batch: pa.Table) -> pa.Table:
        return pa.table({"process": pa.array([os.getpid()] * len(batch), pa.int64())})


class Held(Here):
    """The same, in a process that wants to stay."""

    resources = Resources(actors=True)


class ScoredConfig(MeasuredConfig):
    by: str = "source"


class Scored(Stage):
    """A score that sorts sources, or (`by: doc_id`) knows nothing of them; null where the column is."""

    Config = ScoredConfig
    config: ScoredConfig
    not_in_key = frozenset({"model"})

    @property
    def needs(self) -> tuple[str, ...]:
        return ("text", self.config.by)

    @property
    def models(self) -> tuple[str, ...]:
        return (self.config.model,)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("score", pa.float32(), "probability"),)

    def measure(self, batch: pa.Table) -> pa.Table:
        values = batch[self.config.by].to_pylist()
        noise = [xxhash.xxh3_64_intdigest(i.encode()) / 2**64 for i in batch["text"].to_pylist()]
        at = [int(str(v)[-1]) if self.config.by == "source" else 0 for v in values]
        return pa.table({"score": pa.array([(a + n) / 3 for a, n in zip(at, noise)], pa.float32())})
