"""The writing: curated shards in identity order, each document's text checked against the hash of its last version.

Invariant: which document stands in which file and row follows from the committed decisions and sizes alone, neither
from workers nor from units. With one key (see `sets`) a document belongs to the shard into which its first byte of
chosen text falls. With several, all keys share such spans of the chosen text; in a span each key has parts of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages import sql
from ..stages.errors import DataError, StageError
from .attributes import Window, holders
from .chain import edit_parts, hashes, last_hash, replay
from .counts import text_sizes
from .data_columns import PROVENANCE
from .graph import SYSTEM_COLUMNS, BoundStage
from .json_sink import FRAME_BYTES, JsonLinesSink
from .ledger import LedgerRows, ledger_schema
from .parquet import Layout, ParquetSink
from .plan import Plan
from .receipts import Receipt, Receipts
from .source_rows import living_rows, timed
from .storage import Storage
from .write_tasks import DataLayout, WriteTask

LAYOUT = Layout(
    level=1, group_bytes=32_000_000, dictionary=("source_file", "lang", "source", "license", "host", "domain", "suffix")
)


def data_schema(plan: Plan) -> pa.Schema:
    """Provenance, chosen columns, text last."""
    fields = [(name, SYSTEM_COLUMNS[name]) for name in PROVENANCE]
    fields += [(column.name, column.type) for column in plan.graph.write.columns]
    return pa.schema([*fields, ("text", pa.large_string())])


def run_write(
    plan: Plan,
    output: Storage,
    work: Storage,
    layout: DataLayout,
    folder: str,
    task: WriteTask,
    files: Sequence[Sequence[str]],
) -> Receipt:
    """Writes the files of one task and commits them. Raises StageError where a text is not the one that was measured,
    DataError where the source changed."""
    facts: dict[str, Any] = {"alive": 0, "text_bytes": 0, "read_cpu": 0.0}
    started, started_cpu = time.time(), time.process_time()
    with contextlib.ExitStack() as stack:
        open_files = _Files(output, layout, data_schema(plan), plan.recipe.write.format, stack)
        for unit, before, unit_files in zip(task.units, task.before, files, strict=True):
            rows = _UnitRows(plan, layout, task, LedgerRows(plan, work, unit_files), before)
            for table, at in _chosen_rows(plan, rows, unit, facts):
                facts["alive"] += len(table)
                facts["text_bytes"] += pc.sum(pc.binary_length(table["text"])).as_py()
                open_files.write(table, rows.span[at], [codes[at] for codes in rows.codes], rows.size[at])
        open_files.close()
    facts["data"] = sorted(open_files.written, key=lambda entry: entry["file"])
    facts["seconds"] = round(time.time() - started, 4)
    facts["read_cpu"] = round(facts["read_cpu"], 4)
    facts["cpu_seconds"] = round(time.process_time() - started_cpu, 4)
    return Receipts(work, folder).commit(task.item, facts)


class _UnitRows:
    """All rows of a unit: `codes`, per set the place of each row's key (-1: not this task's), `span` and `size`."""

    def __init__(self, plan: Plan, layout: DataLayout, task: WriteTask, attributes: LedgerRows, before: int) -> None:
        self.attributes = attributes
        self.size = text_sizes(attributes)
        place = {key: index for index, key in enumerate(layout.keys)}
        codes: list[list[np.ndarray]] = [[] for _ in plan.graph.write.sets]
        for group in range(len(attributes.group_rows())):
            chosen = attributes.chosen(group)
            keys = np.array([*(place[name] for name in chosen.names), -1], np.int64)
            for own, found in zip(codes, chosen.codes, strict=True):
                own.append(keys[found])
        self.codes = [np.concatenate(own) if own else np.zeros(0, np.int64) for own in codes]
        text = self.size * sum((own >= 0).astype(np.int64) for own in self.codes)
        self.span = (before + np.cumsum(text) - text) // layout.span
        inside = (self.span >= task.first) & (self.span < task.stop)
        first, stop = task.keys
        self.codes = [np.where(inside & (own >= first) & (own < stop), own, -1) for own in self.codes]
        self.mine = np.logical_or.reduce([own >= 0 for own in self.codes])


class _Files:
    """One open file per key. Rows come in identity order, so a later span closes the files of the one before."""

    def __init__(
        self, storage: Storage, layout: DataLayout, schema: pa.Schema, kind: str, stack: contextlib.ExitStack
    ) -> None:
        self.storage, self.layout, self.schema, self.kind = storage, layout, schema, kind
        self.stack = stack  # an open file is withdrawn where the task fails
        self.written: list[dict[str, Any]] = []
        self._open: dict[int, _File] = {}
        self._filled: dict[int, int] = {}  # text of a key in this span so far
        self._span = -1

    def write(self, table: pa.Table, span: np.ndarray, codes: Sequence[np.ndarray], size: np.ndarray) -> None:
        """Rows with the span of each, per set its key or -1, and its bytes. Spans never go down."""
        cuts = [0, *(np.flatnonzero(np.diff(span)) + 1).tolist(), len(span)]
        for start, stop in itertools.pairwise(cuts):
            if span[start] != self._span:
                self.close()
                self._filled.clear()
                self._span = int(span[start])
            for keys in codes:
                order = np.argsort(keys[start:stop], kind="stable") + start
                ends = [0, *(np.flatnonzero(np.diff(keys[order])) + 1).tolist(), stop - start]
                for first, last in itertools.pairwise(ends):
                    key = int(keys[order[first]])
                    if key >= 0:
                        self._add(key, table, order[first:last], size)

    def _add(self, key: int, table: pa.Table, rows: np.ndarray, size: np.ndarray) -> None:
        """The next rows of a key, into the part in which the first byte of each falls."""
        ends = self._filled.get(key, 0) + np.cumsum(size[rows])
        parts = (ends - size[rows]) // self.layout.shard
        self._filled[key] = int(ends[-1])
        cuts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(rows)]
        for start, stop in itertools.pairwise(cuts):
            own = rows[start:stop]
            whole = 2 * len(own) > len(table) and own[-1] - own[0] + 1 == len(own)
            # rows are copied out of the batch, or a few that wait for their row group would hold all of it
            chosen = table.slice(own[0], len(own)) if whole else table.take(pa.array(own))
            self._file(key, int(parts[start])).write(chosen)

    def _file(self, key: int, part: int) -> ParquetSink | JsonLinesSink:
        found = self._open.get(key)
        if found is not None and found.part != part:
            self._close(key)
            found = None
        if found is None:
            number = f"{self._span:06d}" if self.layout.plain else f"{self._span:06d}-{part:02d}"
            found = self._open[key] = _File(self, f"data/{self.layout.keys[key]}part-{number}.{self.kind}", part)
        return found.sink

    def _close(self, key: int) -> None:
        file = self._open.pop(key)
        file.stack.close()
        entry = {
            "file": file.name,
            "key": key,
            "rows": file.sink.rows,
            "bytes": file.sink.bytes,
            "hash": file.sink.hash,
        }
        self.written.append(entry)

    def close(self) -> None:
        for key in list(self._open):
            self._close(key)


class _File:
    """One open file of data/."""

    def __init__(self, files: _Files, name: str, part: int) -> None:
        self.name, self.part, self.stack = name, part, contextlib.ExitStack()
        files.stack.push(self.stack)
        file = self.stack.enter_context(files.storage.writer(name))
        held = files.layout.open_bytes
        self.sink: ParquetSink | JsonLinesSink
        if files.kind == "parquet":
            layout = replace(LAYOUT, group_bytes=min(LAYOUT.group_bytes, held))
            self.sink = self.stack.enter_context(ParquetSink(file, files.schema, layout))
        else:
            self.sink = self.stack.enter_context(JsonLinesSink(file, files.schema, min(FRAME_BYTES, held)))


def _chosen_rows(
    plan: Plan, rows: _UnitRows, unit: int, facts: dict[str, Any]
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """The rows of a unit that the task writes, with the columns of the shards, their text replayed and checked; and
    their positions in the unit."""
    edits = [bound for _, bound in edit_parts(plan, len(plan.steps))]
    told = {*ledger_schema(plan).names, *holders(plan, len(plan.steps))}
    wanted = plan.graph.write.reads - {"text", "bytes", "chars"}
    needs = {"source_hash", *PROVENANCE, *(wanted & told), *(f"{e.name}_hash" for e in edits)}
    needs |= {name for e in edits for name in e.needs if name in told} - {"text", "bytes", "chars"}
    from_source = sorted(wanted - told)
    source_names = [plan.graph.input_names[name] for name in from_source]
    left = Window(rows.attributes, sorted(needs))
    found = living_rows(plan, plan.units[unit], rows.attributes, rows.mine, columns=source_names)
    for first, count, text, source in timed(found, facts, "read_cpu"):
        if text is None or source is None or not len(text):
            continue
        mine = rows.mine[first : first + count]
        part = left.slice(first, count).filter(pa.array(mine))
        if not part["source_hash"].combine_chunks().equals(source["source_hash"].combine_chunks()):
            raise DataError(f"{part['source_file'][0]} changed since it was measured")
        text = replay(edits, text, part)
        _check(text, part, edits)
        columns = {name: part[name] for name in part.schema.names}
        columns |= {name: source[given] for name, given in zip(from_source, source_names, strict=True)}
        yield _data(plan, columns, text), first + np.flatnonzero(mine)


def _data(plan: Plan, columns: Mapping[str, pa.ChunkedArray], text: pa.Array) -> pa.Table:
    """The rows as data/ shows them. RecipeError where a value of an expression of `write.columns` does not fit."""
    at_hand: dict[str, Any] = {**columns, "text": text}
    if plan.graph.write.reads & {"bytes", "chars"}:
        at_hand |= {"bytes": pc.binary_length(text).cast(pa.int64()), "chars": pc.utf8_length(text).cast(pa.int64())}
    named = {name: at_hand[name] for name in PROVENANCE}
    named |= {c.name: at_hand[c.columns[0]] for c in plan.graph.write.columns if c.plain}
    computed = {c.name: c.sql for c in plan.graph.write.columns if not c.plain}
    if computed:
        names = sorted({name for c in plan.graph.write.columns if not c.plain for name in c.columns} or {"text"})
        found = sql.evaluate(pa.table({name: at_hand[name] for name in names}), computed, {})
        named |= {name: found[name] for name in computed}
    named["text"] = text
    schema = data_schema(plan)
    return pa.table({field.name: named[field.name] for field in schema}).cast(schema)


def _check(text: pa.Array, part: pa.Table, edits: Sequence[BoundStage]) -> None:
    expected = last_hash(edits, part)
    wrong = pc.not_equal(pa.array(hashes(text), pa.string()), expected)
    if pc.any(wrong).as_py():
        row = part.slice(pc.index(wrong, True).as_py(), 1)
        changed = [e.name for e in edits if row[f"{e.name}_hash"][0].is_valid]
        raise StageError(
            f"{row['doc_id'][0]}: its text is not the one that was measured; the edit "
            f"{changed[-1] if changed else '(none)'} does not replay to the same text"
        )
