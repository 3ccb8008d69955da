"""The ledger: one row per input document, zipped from the attributes by position.

Invariant: ledger rows = kept + dropped + quarantined, in identity order; a value stands only where the recipe's order
would have measured it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .attributes import Attributes, holders
from .chain import edit_parts
from .parquet import Layout, ParquetSink
from .plan import Plan
from .receipts import Receipt, Receipts
from .storage import Storage

PART_ROWS = 1_000_000
LAYOUT = Layout(
    level=3,
    group_rows=1 << 17,
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
class LedgerTask:
    """Consecutive units of one ledger file; for each, the write task that holds it and its first row there."""

    item: str
    units: tuple[int, ...]
    rows: int
    placed: tuple[tuple[str, int, int], ...]  # (file of the write task's places, first row, kept rows) per unit
    data: tuple[tuple[str, ...], ...]  # names of the data files of that write task, per unit


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
    fields += [(name, graph.input_types[name]) for name in plan.recipe.report.by if name in graph.carried]
    fields += [(name, pa.int64()) for name in ("bytes_read", "chars_read", "bytes_written", "chars_written")]
    fields += [("decision", pa.string()), ("stage", pa.string()), ("rule", pa.string())]
    fields += [("failed", pa.list_(pa.string())), ("reason", pa.string())]
    fields += [(f"{bound.name}_changed", pa.bool_()) for _, bound in edit_parts(plan, len(plan.steps))]
    fields += [(a.name, a.column.type) for a in graph.measured if a.column.ledger]
    fields += [(f"{b.name}_pass", pa.bool_()) for b in graph.stages if b.entry.action == "tag"]
    fields += [("out_file", pa.string()), ("out_row", pa.int64())]
    return pa.schema(fields)


def ledger_tasks(plan: Plan, unit_rows: Sequence[int], writes: Sequence[tuple[Any, Receipt]]) -> list[LedgerTask]:
    """Consecutive units of about PART_ROWS rows. Files are cut at units, so unit size decides them, workers do not."""
    places: dict[int, tuple[tuple[str, int, int], tuple[str, ...]]] = {}
    for task, receipt in writes:
        first = 0
        names = tuple(entry["file"] for entry in receipt["data"])
        for unit, kept in zip(task.units, receipt["units"], strict=True):
            places[unit] = ((receipt["file"], first, kept), names)
            first += kept
    tasks: list[LedgerTask] = []
    held: list[int] = []
    total = 0
    for unit, rows in enumerate(unit_rows):
        held.append(unit)
        total += rows
        if total >= PART_ROWS or unit == len(unit_rows) - 1:
            placed, data = zip(*(places[u] for u in held), strict=True)
            tasks.append(LedgerTask(f"l{len(tasks):06d}", tuple(held), total, placed, data))
            held, total = [], 0
    return tasks


def run_ledger(
    plan: Plan,
    output: Storage,
    work: Storage,
    folder: str,
    write_folder: str,
    task: LedgerTask,
    files: Sequence[Sequence[str]],
) -> Receipt:
    """Writes one ledger file (fixed name) and commits its hash and counts."""
    schema = ledger_schema(plan)
    name = f"ledger/part-{task.item[1:]}.parquet"
    facts: dict[str, Any] = {"kept": 0, "dropped": 0, "quarantined": 0}
    layout = replace(LAYOUT, bloom=("doc_id", "url"), group_rows=min(LAYOUT.group_rows, max(task.rows, 1)))
    with output.writer(name) as file, ParquetSink(file, schema, layout) as sink:
        for table in _tables(plan, work, write_folder, task, files, schema):
            for decision, key in (("keep", "kept"), ("drop", "dropped"), ("quarantine", "quarantined")):
                facts[key] += pc.sum(pc.equal(table["decision"], decision)).as_py() or 0
            sink.write(table)
    facts["data"] = [{"file": name, "rows": sink.rows, "bytes": sink.bytes, "hash": sink.hash}]
    return Receipts(work, folder).commit(task.item, facts)


def _tables(
    plan: Plan, work: Storage, write_folder: str, task: LedgerTask, files: Sequence[Sequence[str]], schema: pa.Schema
) -> Iterator[pa.Table]:
    for unit_files, placed, data in zip(files, task.placed, task.data, strict=True):
        yield _unit_ledger(plan, work, write_folder, unit_files, placed, data, schema)


def _unit_ledger(
    plan: Plan,
    work: Storage,
    write_folder: str,
    files: Sequence[str],
    placed: tuple[str, int, int],
    data: Sequence[str],
    schema: pa.Schema,
) -> pa.Table:
    attributes = Attributes(plan, work, files)
    at = holders(plan, len(plan.steps))
    columns = {name for name in schema.names if name in at and name not in ("stage", "rule", "failed", "reason")}
    edits = [bound for _, bound in edit_parts(plan, len(plan.steps))]
    left = attributes.read([*columns, "alive", "bytes", "chars", *(f"{e.name}_hash" for e in edits)])
    rows = len(left)
    found: dict[str, Any] = {name: left[name].combine_chunks() for name in columns}
    for edit in edits:
        found[f"{edit.name}_changed"] = pc.is_valid(left[f"{edit.name}_hash"].combine_chunks())
    for name in ("stage", "rule", "failed", "reason"):
        found[name] = pa.nulls(rows, schema.field(name).type)
    for index in range(len(plan.steps)):
        verdict = attributes.verdicts(index)
        for name in ("stage", "rule", "failed", "reason"):
            found[name] = pc.coalesce(verdict[name].combine_chunks().cast(schema.field(name).type), found[name])
    alive = left["alive"].combine_chunks()
    bad = pc.is_valid(found["reason"])
    found["decision"] = pc.if_else(alive, "keep", pc.if_else(bad, "quarantine", "drop"))
    for name in ("bytes", "chars"):
        found[f"{name}_written"] = pc.if_else(alive, left[name].combine_chunks(), None)
    found |= _places(work, write_folder, placed, data, alive)
    return pa.Table.from_arrays([found[f.name].cast(f.type) for f in schema], schema=schema)


def _places(
    work: Storage, folder: str, placed: tuple[str, int, int], data: Sequence[str], alive: pa.Array
) -> dict[str, pa.Array]:
    name, first, kept = placed
    with work.open(f"{folder}/{name}") as file:
        table = pq.ParquetFile(file).read(use_threads=False).slice(first, kept).combine_chunks()
    living = alive.to_numpy(zero_copy_only=False)
    positions = np.full(len(living), -1, np.int64)
    positions[living] = np.arange(kept)
    take = pa.array(positions, mask=positions < 0)
    names = pa.array(list(data), pa.string())
    return {
        "out_file": names.take(table["out_file"].combine_chunks().take(take))
        if kept
        else pa.nulls(len(living), pa.string()),
        "out_row": table["out_row"].combine_chunks().take(take) if kept else pa.nulls(len(living), pa.int64()),
    }
