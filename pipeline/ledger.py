"""The ledger: one row per input document, zipped from the attributes by position.

Invariant: ledger rows = kept + dropped + quarantined, in identity order, cut into files by row number alone; a value
stands only where the recipe's order would have measured it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .attributes import Attributes, holders
from .chain import edit_parts
from .parquet import Layout, ParquetSink
from .plan import Plan
from .receipts import Receipt, Receipts
from .storage import Storage
from .write import shard_of

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
    """A unit, or a row group of its attributes, on the way into the ledger: its first row's number, its rows, and what
    was kept in front of it."""

    unit: int
    n0: int
    rows: int
    kept_before: int
    bytes_before: int


@dataclass(frozen=True)
class Shards:
    """The data files by shard number: name (None where no file was written) and the number of their first kept row."""

    names: tuple[str | None, ...]
    first: tuple[int, ...]
    size: int


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
    fields += [("out_file", pa.string()), ("out_row", pa.int64())]
    return pa.schema(fields)


def shards_of(entries: Sequence[dict[str, Any]], size: int) -> Shards:
    """From the entries of all written files, in order of their shards."""
    count = max((entry["shard"] for entry in entries), default=-1) + 1
    names: list[str | None] = [None] * count
    first = [0] * count
    rows = 0
    for entry in entries:
        names[entry["shard"]], first[entry["shard"]] = entry["file"], rows
        rows += entry["rows"]
    return Shards(tuple(names), tuple(first), size)


def ledger_tasks(rows: Sequence[int], kept: Sequence[int], sizes: Sequence[int]) -> list[LedgerTask]:
    """One task for every PART_ROWS rows. `rows`, `kept`, `sizes`: documents, kept documents and kept bytes per unit."""
    places = []
    n = kept_before = bytes_before = 0
    for unit, count in enumerate(rows):
        places.append(Place(unit, n, count, kept_before, bytes_before))
        n, kept_before, bytes_before = n + count, kept_before + kept[unit], bytes_before + sizes[unit]
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
    shards: Shards,
    folder: str,
    task: LedgerTask,
    files: Sequence[Sequence[str]],
) -> Receipt:
    """Writes one ledger file (fixed name) and commits its hash and counts."""
    schema = ledger_schema(plan)
    name = f"ledger/part-{task.item[1:]}.parquet"
    facts: dict[str, Any] = {"kept": 0, "dropped": 0, "quarantined": 0}
    group_rows = min(LAYOUT.group_rows, max(task.stop - task.first, 1))
    layout = replace(LAYOUT, bloom=("doc_id", "url"), group_rows=group_rows)
    with output.writer(name) as file, ParquetSink(file, schema, layout) as sink:
        for place, unit_files in zip(task.places, files, strict=True):
            for table in _unit_ledger(plan, work, shards, task, place, unit_files, schema):
                for decision, key in (("keep", "kept"), ("drop", "dropped"), ("quarantine", "quarantined")):
                    facts[key] += pc.sum(pc.equal(table["decision"], decision)).as_py() or 0
                sink.write(table)
    facts["data"] = [{"file": name, "rows": sink.rows, "bytes": sink.bytes, "hash": sink.hash}]
    return Receipts(work, folder).commit(task.item, facts)


def _unit_ledger(
    plan: Plan, work: Storage, shards: Shards, task: LedgerTask, place: Place, files: Sequence[str], schema: pa.Schema
) -> Iterator[pa.Table]:
    """The task's rows of one unit, a row group of its attributes at a time."""
    attributes = Attributes(plan, work, files)
    for group, rows in enumerate(attributes.group_rows()):
        fates = attributes.read(["alive", "bytes"], group)
        alive, sizes = fates["alive"].combine_chunks(), fates["bytes"]
        place = replace(place, rows=rows)
        start, stop = max(task.first - place.n0, 0), min(task.stop - place.n0, rows)
        if start < stop:
            found = _columns(plan, attributes, group, alive, schema) | _where_to(shards, place, alive, sizes)
            arrays = [found[f.name].cast(f.type) for f in schema]
            yield pa.Table.from_arrays(arrays, schema=schema).slice(start, stop - start)
        place = Place(
            place.unit,
            place.n0 + rows,
            rows,
            place.kept_before + alive.true_count,
            place.bytes_before + (pc.sum(sizes.filter(alive)).as_py() or 0),
        )


def _columns(plan: Plan, attributes: Attributes, group: int, alive: pa.Array, schema: pa.Schema) -> dict[str, Any]:
    """All that the ledger says of a row group, except where its rows were written to."""
    at = holders(plan, len(plan.steps))
    columns = {name for name in schema.names if name in at and name not in ("stage", "rule", "failed", "reason")}
    edits = [bound for _, bound in edit_parts(plan, len(plan.steps))]
    left = attributes.read([*columns, "bytes", "chars", *(f"{e.name}_hash" for e in edits)], group)
    rows = len(left)
    found: dict[str, Any] = {name: left[name].combine_chunks() for name in columns}
    for edit in edits:
        found[f"{edit.name}_changed"] = pc.is_valid(left[f"{edit.name}_hash"].combine_chunks())
    for name in ("stage", "rule", "failed", "reason"):
        found[name] = pa.nulls(rows, schema.field(name).type)
    for index in range(len(plan.steps)):
        verdict = attributes.verdicts(index, group)
        for name in ("stage", "rule", "failed", "reason"):
            found[name] = pc.coalesce(verdict[name].combine_chunks().cast(schema.field(name).type), found[name])
    bad = pc.is_valid(found["reason"])
    found["decision"] = pc.if_else(alive, "keep", pc.if_else(bad, "quarantine", "drop"))
    for name in ("bytes", "chars"):
        found[f"{name}_written"] = pc.if_else(alive, left[name].combine_chunks(), None)
    return found


def _where_to(shards: Shards, place: Place, alive: pa.Array, sizes: pa.ChunkedArray) -> dict[str, pa.Array]:
    living = alive.to_numpy(zero_copy_only=False)
    if not living.any():
        return {"out_file": pa.nulls(len(living), pa.string()), "out_row": pa.nulls(len(living), pa.int64())}
    shard = np.where(living, shard_of(living, pc.fill_null(sizes, 0).to_numpy(), place.bytes_before, shards.size), 0)
    number = place.kept_before + np.cumsum(living) - 1
    row = number - np.array(shards.first, np.int64)[shard]
    names = pa.array(shards.names, pa.string())
    return {"out_file": names.take(pa.array(shard, mask=~living)), "out_row": pa.array(row, mask=~living)}
