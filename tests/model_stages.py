"""Stages with models, for tests of how the engine treats them: the model is a text file, the number its length."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tamis.scorers.base import BrokenDeviceError
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


class AheadConfig(StageConfig):
    gpus: float = 1
    fallback: bool = False
    breaks: str = ""  # a folder: a process that finds fewer than `times` files in it leaves one and loses its device
    times: int = 1


class Ahead(Stage):
    """Says whether what it prepared was prepared in another thread, on how many GPUs; may lose its device."""

    Config = AheadConfig
    config: AheadConfig

    def __init__(self, config: AheadConfig, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self.resources = Resources(cpus=0.5, gpus=config.gpus, actors=True, fallback=config.fallback)  # type: ignore[misc]

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column("ahead", pa.bool_(), "whether in another thread"),
            Column("size", pa.int64(), "bytes of the text, as prepared"),
            Column("process", pa.int64(), "process id"),
        )

    def without_gpu(self) -> str:
        return "slower by half"

    def prepare(self, batch: pa.Table):
        return threading.get_ident(), pc.binary_length(batch["text"])

    def measure(self, batch: pa.Table) -> pa.Table:
        return self.measure_prepared(batch, self.prepare(batch))

    def measure_prepared(self, batch: pa.Table, prepared) -> pa.Table:
        thread, sizes = prepared
        if self.config.breaks and len(list(Path(self.config.breaks).iterdir())) < self.config.times:
            (Path(self.config.breaks) / str(os.getpid())).touch()
            raise BrokenDeviceError("an illegal memory access was encountered")
        ahead = pa.array([thread != threading.get_ident()] * len(batch))
        pids = pa.array([os.getpid()] * len(batch), pa.int64())
        return pa.table({"ahead": ahead, "size": sizes.cast(pa.int64()), "process": pids})


class ScoredByConfig(StageConfig):
    models: tuple[str, ...]


class ScoredBy(Stage):
    """The columns that published cuts are about, made up: binoculars from 0.7 to 1, n_scored from 50 to 249."""

    Config = ScoredByConfig
    config: ScoredByConfig

    @property
    def scored_by(self) -> tuple[str, ...]:
        return self.config.models

    @property
    def adds(self) -> tuple[Column, ...]:
        scores = ("binoculars", "fast_detect", "min_k_20", "min_k_pp_20")
        return (Column("n_scored", pa.int32(), "tokens"), *(Column(name, pa.float32(), "score") for name in scores))

    def measure(self, batch: pa.Table) -> pa.Table:
        drawn = [xxhash.xxh3_64_intdigest(text.encode()) for text in batch["text"].to_pylist()]
        values = pa.array([0.7 + 0.3 * (number % 1000) / 1000 for number in drawn], pa.float32())
        found = {column.name: values for column in self.adds}
        return pa.table(found | {"n_scored": pa.array([50 + number // 1000 % 200 for number in drawn], pa.int32())})
