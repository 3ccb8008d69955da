"""Stages with models, for tests of how the engine treats them: the model is a text file, the number its length."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

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


class Held(Stage):
    """The process that measured each document, which wants to stay."""

    resources = Resources(actors=True)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("process", pa.int64(), "process id"),)

    def measure(self, batch: pa.Table) -> pa.Table:
        return pa.table({"process": pa.array([os.getpid()] * len(batch), pa.int64())})
