"""The writing: curated shards in identity order, each document's text checked against the hash of its last version.

Invariant: which document stands in which file and row follows from the committed decisions and sizes alone, neither
from workers nor from units: a document belongs to the shard into which its first byte of kept text falls.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.errors import DataError, StageError
from .attributes import Attributes, Window, holders
from .chain import edit_parts, hashes, last_hash, replay
from .graph import SYSTEM_COLUMNS
from .parquet import Layout, ParquetSink
from .plan import Plan
from .receipts import Receipt, Receipts
from .run_unit import living_rows
from .storage import Storage

DATA_LAYOUT = Layout(
    level=1, group_bytes=32_000_000, dictionary=("source_file", "lang", "source", "license", "host", "domain", "suffix")
)
PROVENANCE = ("doc_id", "source_file", "source_row", "source_hash")


@dataclass(frozen=True)
class WriteTask:
    """Consecutive shards, first <= shard < stop, and the units that may hold their documents. `before[i]`: bytes of
    kept text in front of units[i]."""

    item: str
    first: int
    stop: int
    units: tuple[int, ...]
    before: tuple[int, ...]


def shard_size(plan: Plan, chosen_bytes: int) -> int:
    """The recipe's, else a 64th of the chosen text, at least 16 MB and at most 256 MB."""
    return plan.recipe.write.shard_size or min(max(chosen_bytes // 64, 16_000_000), 256_000_000)


def shard_of(alive: np.ndarray, sizes: np.ndarray, before: int, size: int) -> np.ndarray:
    """int64 shard of each row of a unit; meaningful where `alive`. `before`: bytes of kept text in front of the unit."""
    kept = np.where(alive, sizes, 0)
    return (before + np.cumsum(kept) - kept) // size


def write_tasks(plan: Plan, unit_bytes: Sequence[int], unit_rows: Sequence[int], size: int) -> list[WriteTask]:
    """One task a shard, except where more shards fall into a unit than it has pieces that can be read alone: tasks then
    begin in it no more often than it has pieces, so that on average a piece is read twice at most.

    `unit_bytes`, `unit_rows`: kept text and kept documents of every unit.
    """
    before = np.concatenate([[0], np.cumsum(unit_bytes)]).tolist()
    shards = before[-1] // size + 1
    members: list[list[int]] = [[] for _ in range(shards)]
    joined = [False] * (shards + 1)  # shard k goes with shard k - 1
    for unit, rows in enumerate(unit_rows):
        if rows:
            first, last = before[unit] // size, before[unit + 1] // size
            for shard in range(first, last + 1):
                members[shard].append(unit)
            stride = -(-(last - first) // _pieces(plan, unit))
            for shard in range(first + 1, last + 1):
                joined[shard] |= (shard - first) % stride > 0
    tasks: list[WriteTask] = []
    start = 0
    for stop in range(1, shards + 1):
        if joined[stop]:
            continue
        units = sorted({unit for shard in members[start:stop] for unit in shard})
        tasks.append(WriteTask(f"w{start:06d}", start, stop, tuple(units), tuple(before[u] for u in units)))
        start = stop
    return tasks


def _pieces(plan: Plan, unit: int) -> int:
    """How many pieces of a unit can be read alone: its row groups; JSON Lines are read from the start of the unit."""
    files = [(plan.listing.files[segment.file], segment) for segment in plan.units[unit].segments]
    if any(file.format == "jsonl" for file, _ in files):
        return 1
    return max(1, sum(group.rows > 0 for file, part in files for group in file.groups[part.start : part.stop]))


def data_schema(plan: Plan) -> pa.Schema:
    """Provenance, chosen columns, text last."""
    types = {**SYSTEM_COLUMNS, **plan.graph.input_types, **{a.name: a.column.type for a in plan.graph.measured}}
    fields = [(name, SYSTEM_COLUMNS[name]) for name in PROVENANCE]
    fields += [(name, types[column]) for column, name in plan.graph.data_columns if name not in PROVENANCE]
    return pa.schema([*fields, ("text", pa.large_string())])


def run_write(
    plan: Plan, output: Storage, work: Storage, folder: str, task: WriteTask, files: Sequence[Sequence[str]], size: int
) -> Receipt:
    """Writes the shards of one task and commits them. Raises StageError where a text is not the one that was measured,
    DataError where the source changed."""
    facts: dict[str, Any] = {"data": [], "alive": 0, "text_bytes": 0}
    started, started_cpu = time.time(), time.process_time()
    with contextlib.ExitStack() as stack:
        shards = _Shards(output, data_schema(plan), stack)
        for unit, before, unit_files in zip(task.units, task.before, files, strict=True):
            for table, shard in _chosen_rows(plan, work, task, unit, before, unit_files, size):
                facts["alive"] += len(table)
                facts["text_bytes"] += pc.sum(pc.binary_length(table["text"])).as_py()
                cuts = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(shard)]
                for start, stop in itertools.pairwise(cuts):
                    shards.write(int(shard[start]), table.slice(start, stop - start))
        shards.close()
    facts["data"] = shards.written
    facts["seconds"] = round(time.time() - started, 4)
    facts["cpu_seconds"] = round(time.process_time() - started_cpu, 4)
    return Receipts(work, folder).commit(task.item, facts)


class _Shards:
    """Writes rows that come in order of their shards."""

    def __init__(self, storage: Storage, schema: pa.Schema, stack: contextlib.ExitStack) -> None:
        self.storage, self.schema = storage, schema
        self.stack = stack  # an open file is withdrawn where the task fails
        self.written: list[dict[str, Any]] = []
        self._shard, self._name = -1, ""
        self._sink: ParquetSink | None = None

    def write(self, shard: int, table: pa.Table) -> None:
        if shard != self._shard:
            self.close()
        if self._sink is None:
            self._shard, self._name = shard, f"data/part-{shard:06d}.parquet"
            file = self.stack.enter_context(self.storage.writer(self._name))
            self._sink = self.stack.enter_context(ParquetSink(file, self.schema, DATA_LAYOUT))
        self._sink.write(table)

    def close(self) -> None:
        if self._sink is not None:
            self.stack.close()
            sink, entry = self._sink, {"file": self._name, "shard": self._shard}
            self.written.append(entry | {"rows": sink.rows, "bytes": sink.bytes, "hash": sink.hash})
        self._sink = None


def _chosen_rows(
    plan: Plan, work: Storage, task: WriteTask, unit: int, before: int, files: Sequence[str], size: int
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """The rows of a unit that belong to the task's shards, with the columns of the shards, their text replayed and
    checked; and the shard of each."""
    edits = [bound for _, bound in edit_parts(plan, len(plan.steps))]
    at = holders(plan, len(plan.steps))
    wanted = {column for column, _ in plan.graph.data_columns if column in at}
    needs = {"source_hash", *PROVENANCE, "url", "date", *wanted, *(f"{e.name}_hash" for e in edits)}
    needs |= {name for e in edits for name in e.needs if name in at}
    attributes = Attributes(plan, work, files)
    fates = attributes.read(["alive", "bytes"])
    alive = fates["alive"].to_numpy()
    shard = shard_of(alive, pc.fill_null(fates["bytes"], 0).to_numpy(), before, size)
    mine = alive & (shard >= task.first) & (shard < task.stop)
    left = Window(attributes, sorted(needs))
    from_source = [c for c, _ in plan.graph.data_columns if c not in at]
    source_names = [plan.graph.input_names[c] for c in from_source]
    schema = data_schema(plan)
    for rows, text, source in living_rows(plan, plan.units[unit], mine, read_text=True, columns=source_names):
        if text is None or source is None or not len(text):
            continue
        part = left.slice(rows.start, len(rows)).filter(pa.array(mine[rows.start : rows.stop]))
        if not part["source_hash"].combine_chunks().equals(source["source_hash"].combine_chunks()):
            raise DataError(f"{part['source_file'][0]} changed since it was measured")
        text = replay(edits, text, part)
        _check(plan, text, part, edits)
        columns = {name: part[name] for name in part.schema.names}
        columns |= {c: source[n] for c, n in zip(from_source, source_names, strict=True)}
        named = {name: columns[column] for column, name in plan.graph.data_columns}
        named |= {name: columns[name] for name in PROVENANCE}
        named["text"] = text
        chosen = shard[rows.start : rows.stop][mine[rows.start : rows.stop]]
        yield pa.table({f.name: named[f.name] for f in schema}).cast(schema), chosen


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
