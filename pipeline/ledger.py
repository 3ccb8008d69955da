"""The ledger: one row per input document, zipped from the attributes by position.

Invariant: ledger rows = kept + dropped + quarantined, in identity order, cut into files by row number alone; a value
stands only where the recipe's order would have measured it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .attributes import Attributes, holders
from .batch import joined_lists
from .chain import edit_parts
from .data_columns import FATE
from .parquet import Layout, ParquetSink
from .plan import Plan
from .receipts import Receipt, Receipts
from .sets import Chosen, Counts, choose, key_columns
from .storage import Storage
from .where_to import DataFiles, nowhere, out_columns, where_to

PART_ROWS = 1_000_000
LAYOUT = Layout(
    level=3,
    group_rows=1 << 15,
    dictionary=(
        "source_file",
        "decision",
        "stage",
        "rule",
        "failed.list.element",
        "reason",
        "host",
        "domain",
        "suffix",
        "out_file",
        "source",
        "lang",
    ),
    page_index=True,
)


@dataclass(frozen=True)
class Place:
    """A unit on the way into the ledger: its first row's number, its rows, and how many rows of each of its keys are
    written in front of it."""

    unit: int
    n0: int
    rows: int
    before: Mapping[int, int]


@dataclass(frozen=True)
class LedgerTask:
    """One ledger file: the rows first <= n < stop, and the units that hold them."""

    item: str
    first: int
    stop: int
    places: tuple[Place, ...]


def ledger_schema(plan: Plan) -> pa.Schema:
    """Who, size, fate, edits, dedup and measured columns, where to."""
    graph = plan.graph
    fields: list[tuple[str, pa.DataType]] = [
        ("doc_id", pa.string()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
        ("source_hash", pa.string()),
        ("url", pa.string()),
        ("date", pa.string()),
    ]
    fields += [(name, graph.input_types[name]) for name in graph.carried]
    fields += [(name, pa.int64()) for name in ("bytes_read", "chars_read", "bytes_written", "chars_written")]
    fields += [("decision", pa.string()), ("stage", pa.string()), ("rule", pa.string())]
    fields += [("failed", pa.list_(pa.string())), ("reason", pa.string())]
    fields += [(f"{bound.name}_changed", pa.bool_()) for _, bound in edit_parts(plan, len(plan.steps))]
    fields += [(a.name, a.column.type) for a in graph.measured if a.column.ledger]
    fields += [(f"{b.name}_pass", pa.bool_()) for b in graph.stages if b.entry.action == "tag"]
    fields += out_columns(plan)
    return pa.schema(fields)


def ledger_tasks(rows: Sequence[int], counts: Counts | None) -> list[LedgerTask]:
    """One task for every PART_ROWS rows. `rows`: documents per unit; `counts`: what was written of each, None where
    nothing was."""
    places = []
    n, written = 0, dict.fromkeys(range(len(counts.keys)), 0) if counts else {}
    for unit, count in enumerate(rows):
        own = counts.units[unit] if counts else {}
        places.append(Place(unit, n, count, {key: written[key] for key in own}))
        n += count
        for key, (number, _) in own.items():
            written[key] += number
    tasks, at = [], 0
    for number in range(max(1, -(-n // PART_ROWS))):
        first, stop = number * PART_ROWS, min(n, (number + 1) * PART_ROWS)
        while at < len(places) and places[at].n0 + places[at].rows <= first:
            at += 1
        end = at
        while end < len(places) and places[end].n0 < stop:
            end += 1
        tasks.append(LedgerTask(f"l{number:06d}", first, stop, tuple(places[at:end])))
    return tasks


def run_ledger(
    plan: Plan,
    output: Storage,
    work: Storage,
    written: DataFiles | None,
    folder: str,
    task: LedgerTask,
    files: Sequence[Sequence[str]],
) -> Receipt:
    """Writes one ledger file (fixed name) and commits its hash and counts. `written`: None where nothing was."""
    schema = ledger_schema(plan)
    name = f"ledger/part-{task.item[1:]}.parquet"
    facts: dict[str, Any] = {"kept": 0, "dropped": 0, "quarantined": 0}
    started = time.process_time()
    group_rows = min(LAYOUT.group_rows, max(task.stop - task.first, 1))
    layout = replace(LAYOUT, bloom=("doc_id", "url"), group_rows=group_rows)
    with output.writer(name) as file, ParquetSink(file, schema, layout) as sink:
        for place, unit_files in zip(task.places, files, strict=True):
            for table in _unit_ledger(plan, work, written, task, place, unit_files, schema):
                for decision, key in (("keep", "kept"), ("drop", "dropped"), ("quarantine", "quarantined")):
                    facts[key] += pc.sum(pc.equal(table["decision"], decision)).as_py() or 0
                sink.write(table)
    facts["data"] = [{"file": name, "rows": sink.rows, "bytes": sink.bytes, "hash": sink.hash}]
    facts["cpu_seconds"] = round(time.process_time() - started, 4)
    return Receipts(work, folder).commit(task.item, facts)


def _unit_ledger(
    plan: Plan,
    work: Storage,
    written: DataFiles | None,
    task: LedgerTask,
    place: Place,
    files: Sequence[str],
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """The task's rows of one unit, a row group of its attributes at a time."""
    attributes = LedgerRows(plan, work, files)
    n0, before = place.n0, dict(place.before)
    for group, rows in enumerate(attributes.group_rows()):
        if n0 >= task.stop:
            return
        alive = attributes.read(["alive"], group)["alive"].combine_chunks()
        start, stop = max(task.first - n0, 0), min(task.stop - n0, rows)
        n0 += rows
        if start >= stop:  # in front of the task's rows
            if written is not None:
                where_to(plan, written, attributes.chosen(group), before)
            continue
        found = ledger_columns(plan, attributes, group, alive, schema)
        if written is None:
            found |= nowhere(plan, len(alive))
        else:
            chosen = choose(plan, found, alive.to_numpy(zero_copy_only=False))
            found |= where_to(plan, written, chosen, before)
        table = pa.Table.from_arrays([found[f.name].cast(f.type) for f in schema], schema=schema)
        yield table.slice(start, stop - start)


def ledger_columns(
    plan: Plan, attributes: Attributes, group: int | None, alive: pa.Array, schema: pa.Schema
) -> dict[str, Any]:
    """All that the ledger says of a row group, except where its rows were written to."""
    at = holders(plan, len(plan.steps))
    columns = {name for name in schema.names if name in at and name not in ("stage", "rule", "failed", "reason")}
    edits = [bound for _, bound in edit_parts(plan, len(plan.steps))]
    left = attributes.read([*columns, "bytes", "chars", *(f"{e.name}_hash" for e in edits)], group)
    rows = len(left)
    found: dict[str, Any] = {name: left[name].combine_chunks() for name in columns}
    for edit in edits:
        found[f"{edit.name}_changed"] = pc.is_valid(left[f"{edit.name}_hash"].combine_chunks())
    for name in ("stage", "rule", "reason"):
        found[name] = pa.nulls(rows, schema.field(name).type)
    failed: list[pa.Array] = []
    for index in range(len(plan.steps)):
        verdict = attributes.verdicts(index, group)
        failed.append(verdict["failed"].combine_chunks())
        for name in ("stage", "rule", "reason"):  # one step at most decides a row
            found[name] = pc.coalesce(verdict[name].combine_chunks().cast(schema.field(name).type), found[name])
    found["failed"] = joined_lists(failed, rows)  # in an observing run later steps go on judging
    bad = pc.is_valid(found["reason"])
    found["decision"] = pc.if_else(alive, "keep", pc.if_else(bad, "quarantine", "drop"))
    for name in ("bytes", "chars"):
        found[f"{name}_written"] = pc.if_else(alive, left[name].combine_chunks(), None)
    return found


class LedgerRows(Attributes):
    """Attributes, and beside them what the ledger says of fates and edits, under its names."""

    def __init__(self, plan: Plan, storage: Storage, files: Sequence[str]) -> None:
        super().__init__(plan, storage, files)
        self._schema = ledger_schema(plan)
        self._told = {*FATE, *(f"{edit.name}_changed" for _, edit in edit_parts(plan, len(plan.steps)))}
        self._told -= {"bytes_read", "chars_read"}

    def read(self, columns: Sequence[str], group: int | None = None) -> pa.Table:
        told = {name for name in columns if name in self._told}
        if not told:
            return super().read(columns, group)
        alive = super().read(["alive"], group)["alive"].combine_chunks()
        wanted = [*told, "stage", "rule", "failed", "reason"]
        schema = pa.schema([self._schema.field(name) for name in dict.fromkeys(wanted)])
        found = ledger_columns(self.plan, self, group, alive, schema)
        rest = super().read([name for name in columns if name not in told], group)
        return pa.table({name: found[name] if name in told else rest[name] for name in columns})

    def chosen(self, group: int | None = None) -> Chosen:
        """Where the rows are to be written."""
        table = self.read(["alive", *key_columns(self.plan)], group)
        rows = {name: table[name].combine_chunks() for name in table.schema.names}
        return choose(self.plan, rows, rows["alive"].to_numpy(zero_copy_only=False))
