"""The writing: curated shards in identity order, each document's text checked against the hash of its last version.

Invariant: which document stands in which file and row follows from the committed decisions and sizes alone. A write
task takes consecutive units until its file reaches `shard_size` and starts a further part whenever one is full.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.errors import DataError, StageError
from .attributes import LAYOUT as ATTRIBUTE_LAYOUT
from .attributes import Attributes, holders
from .chain import edit_parts, hashes, last_hash, replay
from .graph import SYSTEM_COLUMNS
from .parquet import Layout, ParquetSink, row_bytes
from .plan import Plan
from .receipts import Receipt, Receipts
from .run_unit import living_rows
from .storage import Storage

DATA_LAYOUT = Layout(level=3, dictionary=("source_file", "lang", "source", "license", "host", "domain", "suffix"))
PROVENANCE = ("doc_id", "source_file", "source_row", "source_hash")
PLACE = pa.schema([("out_file", pa.int32()), ("out_row", pa.int64())])


@dataclass(frozen=True)
class WriteTask:
    """One task of the writing: consecutive units, and the stem of its files' names."""

    item: str
    units: tuple[int, ...]


def shard_size(plan: Plan, chosen_bytes: int) -> int:
    """The recipe's, else a 64th of the chosen text, at least 16 MB and at most 256 MB."""
    return plan.recipe.write.shard_size or min(max(chosen_bytes // 64, 16_000_000), 256_000_000)


def write_tasks(unit_bytes: Sequence[int], size: int) -> list[WriteTask]:
    """Consecutive units until a file's worth of text is reached; units without text ride along."""
    tasks: list[WriteTask] = []
    held: list[int] = []
    total = 0
    for unit, count in enumerate(unit_bytes):
        held.append(unit)
        total += count
        if total >= size:
            tasks.append(WriteTask(f"w{len(tasks):06d}", tuple(held)))
            held, total = [], 0
    if held:
        tasks.append(WriteTask(f"w{len(tasks):06d}", tuple(held)))
    return tasks


def data_schema(plan: Plan) -> pa.Schema:
    """Provenance, chosen columns, text last."""
    types = {**SYSTEM_COLUMNS, **plan.graph.input_types, **{a.name: a.column.type for a in plan.graph.measured}}
    fields = [(name, SYSTEM_COLUMNS[name]) for name in PROVENANCE]
    fields += [(name, types[column]) for column, name in plan.graph.data_columns if name not in PROVENANCE]
    return pa.schema([*fields, ("text", pa.large_string())])


def run_write(
    plan: Plan, output: Storage, work: Storage, folder: str, task: WriteTask, files: Sequence[Sequence[str]], size: int
) -> Receipt:
    """Writes the shards of one task and commits where each document went. Raises StageError where a text is not the
    one that was measured, DataError where the source changed."""
    facts: dict[str, Any] = {"data": [], "units": [], "alive": 0, "text_bytes": 0}
    started, started_cpu = time.time(), time.process_time()

    def places(_: ParquetSink) -> Iterator[pa.Table]:
        with contextlib.ExitStack() as stack:
            shards = _Shards(plan, output, task.item, size, stack)
            for unit, unit_files in zip(task.units, files, strict=True):
                rows = 0
                for table in _chosen_rows(plan, work, unit, unit_files):
                    rows += len(table)
                    yield from shards.write(table)
                facts["units"].append(rows)
            shards.close()
        facts["data"] = shards.written
        facts["alive"] = sum(facts["units"])
        facts["text_bytes"] = shards.text_bytes
        facts["seconds"] = round(time.time() - started, 4)
        facts["cpu_seconds"] = round(time.process_time() - started_cpu, 4)

    return Receipts(work, folder).commit(task.item, facts, PLACE, ATTRIBUTE_LAYOUT, places)


class _Shards:
    """Writes rows into parts of at most `size` bytes of text (one row more where a row is larger)."""

    def __init__(self, plan: Plan, storage: Storage, stem: str, size: int, stack: contextlib.ExitStack) -> None:
        self.stack = stack  # an open part is withdrawn where the task fails
        self.storage, self.schema, self.stem, self.size = storage, data_schema(plan), stem, size
        self.written: list[dict[str, Any]] = []
        self.text_bytes = 0
        self._sink: ParquetSink | None = None
        self._rows = self._bytes = 0

    def write(self, table: pa.Table) -> Iterator[pa.Table]:
        """Adds rows; yields for each its part number and row in that part."""
        sizes = row_bytes(table)
        self.text_bytes += int(sizes.sum())
        start = 0
        while start < len(table):
            if self._bytes >= self.size:
                self.close()
            if self._sink is None:
                self._open()
            ends = np.cumsum(sizes[start:])
            count = (
                int(np.searchsorted(ends, self.size - self._bytes, side="left")) + 1
            )  # the row that fills the part stays
            count = min(count, len(table) - start)
            assert self._sink is not None
            self._sink.write(table.slice(start, count))
            part, rows = len(self.written), np.arange(self._rows, self._rows + count)
            yield pa.table({"out_file": pa.array(np.full(count, part, np.int32)), "out_row": pa.array(rows)})
            self._rows += count
            self._bytes += int(ends[count - 1])
            start += count

    def _open(self) -> None:
        name = f"data/part-{self.stem[1:]}-{len(self.written):03d}.parquet"
        file = self.stack.enter_context(self.storage.writer(name))
        self._sink = self.stack.enter_context(ParquetSink(file, self.schema, DATA_LAYOUT))
        self._name = name

    def close(self) -> None:
        if self._sink is not None:
            self.stack.close()
            self.written.append(
                {"file": self._name, "rows": self._sink.rows, "bytes": self._sink.bytes, "hash": self._sink.hash}
            )
        self._sink, self._rows, self._bytes = None, 0, 0


def _chosen_rows(plan: Plan, work: Storage, unit: int, files: Sequence[str]) -> Iterator[pa.Table]:
    """The kept rows of a unit with the columns of the shards, their text replayed and checked."""
    edits = [bound for _, bound in edit_parts(plan, len(plan.steps))]
    at = holders(plan, len(plan.steps))
    wanted = {column for column, _ in plan.graph.data_columns if column in at}
    needs = {"alive", "source_hash", *PROVENANCE, "url", "date", *wanted, *(f"{e.name}_hash" for e in edits)}
    needs |= {name for e in edits for name in e.needs if name in at}
    attributes = Attributes(plan, work, files)
    left = attributes.read(sorted(needs))
    from_source = [c for c, _ in plan.graph.data_columns if c not in at]
    source_names = [plan.graph.input_names[c] for c in from_source]
    schema = data_schema(plan)
    for rows, text, source in living_rows(plan, plan.units[unit], left, read_text=True, columns=source_names):
        if text is None or source is None or not len(text):
            continue
        part = left.slice(rows.start, len(rows))
        part = part.filter(part["alive"])
        if not part["source_hash"].combine_chunks().equals(source["source_hash"].combine_chunks()):
            raise DataError(f"{part['source_file'][0]} changed since it was measured")
        text = replay(edits, text, part)
        _check(plan, text, part, edits)
        columns = {name: part[name] for name in part.schema.names}
        columns |= {c: source[n] for c, n in zip(from_source, source_names, strict=True)}
        named = {name: columns[column] for column, name in plan.graph.data_columns}
        named |= {name: columns[name] for name in PROVENANCE}
        named["text"] = text
        yield pa.table({f.name: named[f.name] for f in schema}).cast(schema)


def _check(plan: Plan, text: pa.Array, part: pa.Table, edits: Sequence[Any]) -> None:
    expected = last_hash(edits, part)
    wrong = pc.not_equal(pa.array(hashes(text), pa.string()), expected)
    if pc.any(wrong).as_py():
        row = part.slice(pc.index(wrong, True).as_py(), 1)
        changed = [e.name for e in edits if row[f"{e.name}_hash"][0].is_valid]
        raise StageError(
            f"{row['doc_id'][0]}: its text is not the one that was measured; the edit "
            f"{changed[-1] if changed else '(none)'} does not replay to the same text"
        )
