"""run_unit(step, unit) -> receipt: one unit's source rows, streamed through a step's chain into one attribute file.

Invariant: memory depends on the batch and the largest compressed row group, never on the unit or the corpus. A row
group's attributes are held back until its last page is read, so that all its rows are quarantined together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.draws import draws
from . import source_rows
from .ahead import ahead
from .attributes import IDENTITY, LAYOUT, Attributes, Window, attribute_schema, holders
from .batch import Batch
from .chain import edit_parts, prepare_first, replay, run_parts
from .models import place_models
from .parquet import ParquetSink
from .plan import Plan, Unit
from .readers import Batch as ReadBatch
from .readers import FileLost, GroupEnd
from .receipts import Receipt, Receipts
from .source_rows import living_rows, segment_events
from .storage import Storage

SAMPLE = "run.sample"  # names the draw of `--sample`; no stage can have this name


def prepare_process() -> None:
    """To be called once in a process that runs units. The system's allocator gives large buffers back at once: 60 MB
    less resident and half the system time of Arrow's default. ARROW_DEFAULT_MEMORY_POOL says otherwise where it is set."""
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


def run_unit(plan: Plan, storage: Storage, index: int, unit: Unit, files: Sequence[str]) -> Receipt:
    """Runs per-unit step `index` on a unit and commits it. `files`: names of the unit's attribute files so far.

    Raises StageError (a bug), DataError (the source changed), SetupError (no space).
    """
    step = plan.steps[index]
    place_models(plan, storage, step)
    schema = attribute_schema(plan, index)
    facts: dict[str, Any] = {"unit": unit.id, "lost": [], "read_bytes": 0, "alive": 0, "alive_bytes": 0}
    facts["parts"] = [{} for _ in step.parts]
    started, started_cpu = time.time(), time.process_time()

    def tables(sink: ParquetSink) -> Iterator[pa.Table]:
        if index:
            rows = _later_pass(plan, storage, index, unit, files, facts)
        elif plan.recipe.sample is not None:
            rows = _sampled_pass(plan, index, unit, facts, plan.recipe.sample)
        else:
            rows = _first_pass(plan, index, unit, facts)
        writing = 0.0
        for table in rows:
            counted, before = _counted(table, facts), time.process_time()
            yield counted
            writing += time.process_time() - before
        facts["write_cpu"] = round(writing, 4)
        facts["seconds"] = round(time.time() - started, 4)
        facts["cpu_seconds"] = round(time.process_time() - started_cpu, 4)

    return Receipts(storage, step.folder).commit(unit.id, facts, schema, LAYOUT, tables)


def _counted(table: pa.Table, facts: dict[str, Any]) -> pa.Table:
    """Adds to the receipt what the driver wants to know without opening the file."""
    facts["alive"] += pc.sum(table["alive"]).as_py() or 0
    if "bytes" in table.schema.names:
        facts["alive_bytes"] += pc.sum(table["bytes"].filter(table["alive"])).as_py() or 0
    if "bytes_read" in table.schema.names:
        facts["read_bytes"] += pc.sum(table["bytes_read"]).as_py() or 0
    bad = pc.sum(pc.is_valid(table["reason"])).as_py() or 0
    facts["quarantined"] = facts.get("quarantined", 0) + bad
    if bad and "source_file" in table.schema.names:
        names = pc.value_counts(table["source_file"].filter(pc.is_valid(table["reason"])))
        tally = facts.setdefault("bad", {})
        for entry in names.to_pylist():
            tally[entry["values"]] = tally.get(entry["values"], 0) + entry["counts"]
    return table


# --- the first pass -----------------------------------------------------------------------------------------------


def _first_pass(plan: Plan, index: int, unit: Unit, facts: dict[str, Any]) -> Iterator[pa.Table]:
    """Decodes all columns that the run will need, also those first used at writing, so that damage is found now."""
    schema = attribute_schema(plan, index)
    columns = [plan.graph.input_names[name] for name in plan.graph.read_columns]
    for segment in unit.segments:
        file = plan.listing.files[segment.file]
        held: list[pa.Table] = []
        row = segment.first_row
        counts: list[dict[str, Any]] = [{} for _ in plan.steps[index].parts]
        events = (
            _begin(plan, index, event.table) if isinstance(event, ReadBatch) else event
            for event in segment_events(plan, segment, columns)
        )
        for event in ahead(events, wanted=_runs_ahead(plan, index)):
            if isinstance(event, FileLost):
                facts["lost"].append({"file": event.file, "bytes": event.bytes, "error": event.error})
                continue
            if isinstance(event, _Begun):
                held.append(_finish(plan, index, event, schema, counts))
                if file.groups:
                    continue  # its row group may yet turn out to be void; JSON Lines has none, so nothing is held
            elif event.error is not None:
                held = [_lost_rows(schema, file.name, row, event.rows, f"row_group {event.group}: {event.error}")]
                counts = [{} for _ in counts]
            for table in held:
                _add_digest(facts, file.name, table)
            yield from held
            held = []
            if isinstance(event, GroupEnd):
                merge_counts(facts["parts"], counts)
                row, counts = row + event.rows, [{} for _ in counts]


def _sampled_pass(plan: Plan, index: int, unit: Unit, facts: dict[str, Any], sample: float) -> Iterator[pa.Table]:
    """The same for a sample: only its rows get attributes. The chain gets batches as large as those of a whole run,
    gathered from many row groups, so that its seconds tell what a whole run will take."""
    schema = attribute_schema(plan, index)
    columns = [plan.graph.input_names[name] for name in plan.graph.read_columns]
    held: list[pa.Table] = []  # sound rows of the sample on their way to the chain
    seen = taken = size = 0
    facts["outside_bytes"] = 0

    def chosen(table: pa.Table) -> pa.Table:
        nonlocal seen
        inside = draws(table["doc_id"], seed=plan.recipe.seed, name=SAMPLE) < sample
        positions = pa.array(seen + np.flatnonzero(inside))
        seen += len(table)
        if "text" in table.schema.names:
            outside = table["text"].filter(pa.array(~inside))
            facts["outside_bytes"] += pc.sum(pc.binary_length(outside)).as_py() or 0
        return table.filter(pa.array(inside)).append_column("position", positions)

    def flush() -> Iterator[pa.Table]:
        nonlocal size
        if held:
            source = pa.concat_tables(held).combine_chunks()
            yield _finish(plan, index, _begin(plan, index, source), schema, facts["parts"])
            _time_calls(plan, index, source, schema, facts["parts"])
            held.clear()
            size = 0

    for segment in unit.segments:
        file = plan.listing.files[segment.file]
        group: list[pa.Table] = []
        row, start = segment.first_row, seen
        for event in segment_events(plan, segment, columns):
            if isinstance(event, FileLost):
                facts["lost"].append({"file": event.file, "bytes": event.bytes, "error": event.error})
                continue
            if isinstance(event, ReadBatch):
                group.append(chosen(event.table))
                if file.groups:
                    continue
            elif event.error is not None:
                yield from flush()
                seen, group = start, []
                lost = _lost_rows(schema, file.name, row, event.rows, f"row_group {event.group}: {event.error}")
                table = chosen(lost.drop_columns("position")).select(schema.names)
                taken += len(table)
                yield table
            for table in group:
                _add_digest(facts, file.name, table)
                size += table.nbytes
                taken += len(table)
            held += group
            group = []
            if size >= source_rows.BATCH_BYTES:
                yield from flush()
            if isinstance(event, GroupEnd):
                row, start = row + event.rows, seen
    yield from flush()
    facts["outside"] = seen - taken


def _time_calls(plan: Plan, index: int, source: pa.Table, schema: pa.Schema, counts: Sequence[dict[str, Any]]) -> None:
    """What a call costs however few rows it gets, measured with one row, beside the calls that were made: a whole run
    makes as many calls for many more rows, and an estimate from a sample must tell the two apart."""
    again: list[dict[str, Any]] = [{} for _ in counts]
    _finish(plan, index, _begin(plan, index, source.slice(0, 1)), schema, again)
    for count, once in zip(counts, again, strict=True):
        count["call_cpu"] = count.get("call_cpu", 0.0) + once["cpu_seconds"]
        count["call_tries"] = count.get("call_tries", 0) + 1


def _add_digest(facts: dict[str, Any], file: str, table: pa.Table) -> None:
    """Per input file, the sum over its rows of (first half of source_hash) * (2 * row + 1), modulo 2^64: says which
    texts stood in which rows, and does not depend on how the file was cut into units."""
    hexes = _one(table["source_hash"]).drop_null()
    rows = _one(table["source_row"]).filter(pc.is_valid(table["source_hash"])).to_numpy()
    if not len(hexes):
        return
    digits = (
        np.frombuffer("".join(hexes.to_pylist()).encode(), np.uint8).reshape(len(hexes), 32)[:, :16].astype(np.uint64)
    )
    nibbles = np.where(digits >= 97, digits - np.uint64(87), digits - np.uint64(48))
    values = np.zeros(len(hexes), np.uint64)
    for column in range(16):
        values = (values << np.uint64(4)) | nibbles[:, column]
    total = int((values * (2 * rows.astype(np.uint64) + np.uint64(1))).sum())
    digests = facts.setdefault("digests", {})
    digests[file] = f"{(int(digests.get(file, '0'), 16) + total) % 2**64:016x}"


def merge_counts(into: list[dict[str, Any]], counts: Sequence[dict[str, Any]]) -> None:
    """Adds numbers and nested numbers, part by part."""
    for total, more in zip(into, counts, strict=True):
        for key, value in more.items():
            if isinstance(value, dict):
                merge_counts([total.setdefault(key, {})], [value])
            else:
                total[key] = total.get(key, 0) + value


@dataclass(frozen=True)
class _Begun:
    """A batch of the first pass before its chain: `left`, columns that the attributes take over from the source."""

    batch: Batch
    left: dict[str, pa.Array]
    reason: pa.Array  # why a row could not be read; null: it could


def _runs_ahead(plan: Plan, index: int) -> bool:
    """Whether reading and preparing go on while the step works: where a device must not wait for the disk."""
    parts = plan.steps[index].parts
    first = plan.stage(parts[0]).stage if parts else None
    return first is not None and first.has("prepare") and first.resources.gpus > 0


def _begin(plan: Plan, index: int, source: pa.Table) -> _Begun:
    reason = _one(source["reason"])
    good = pc.is_null(reason).to_numpy(zero_copy_only=False)
    live = np.flatnonzero(good)
    text = _one(source["text"])
    own = ("position", *(name for name, _ in IDENTITY))
    left: dict[str, pa.Array] = {name: _one(source[name]) for name in own if name in source.schema.names}
    left |= {name: _one(source[plan.graph.input_names[name]]) for name in plan.graph.carried}
    lengths = pc.cast(pc.binary_length(text), pa.int64())
    left["bytes_read"], left["chars_read"] = lengths, pc.cast(pc.utf8_length(text), pa.int64())
    whole = len(live) == len(source)
    positions = pa.array(live)
    columns = left if whole else {name: values.take(positions) for name, values in left.items()}
    observing = good if plan.recipe.observe else None
    batch = Batch(len(source), live, text if whole else text.take(positions), dict(columns), observing)
    if _runs_ahead(plan, index):
        prepare_first(plan, plan.steps[index].parts, batch)
    return _Begun(batch, left, reason)


def _finish(plan: Plan, index: int, begun: _Begun, schema: pa.Schema, counts: list[dict[str, Any]]) -> pa.Table:
    run_parts(plan, plan.steps[index].parts, begun.batch, counts)
    table = begun.batch.result(schema, begun.left)
    if begun.reason.null_count == len(begun.reason):
        return table
    reason = pc.coalesce(begun.reason.cast(pa.string()), _one(table["reason"]))
    return table.set_column(schema.get_field_index("reason"), "reason", reason)


def _lost_rows(schema: pa.Schema, file: str, row: int, rows: int, error: str) -> pa.Table:
    """The ledger rows of a row group that cannot be decoded: identity by count, everything else null."""
    numbers = pa.array(np.arange(row, row + rows))
    known = {
        "source_row": numbers,
        "source_file": pa.array([file] * rows, pa.string()),
        "doc_id": pc.binary_join_element_wise(file, pc.cast(numbers, pa.string()), "#"),
        "alive": pa.array(np.zeros(rows, np.bool_)),
        "reason": pa.array([error] * rows, pa.string()),
    }
    return pa.table(
        {f.name: known[f.name].cast(f.type) if f.name in known else pa.nulls(rows, f.type) for f in schema},
        schema=schema,
    )


# --- later passes -------------------------------------------------------------------------------------------------


def _later_pass(
    plan: Plan, storage: Storage, index: int, unit: Unit, files: Sequence[str], facts: dict[str, Any]
) -> Iterator[pa.Table]:
    """Reads the rows that are still alive, replays the edits so far, and runs this step's chain on them."""
    step, schema = plan.steps[index], attribute_schema(plan, index)
    edits = [bound for _, bound in edit_parts(plan, index)]
    at = holders(plan, index)
    needs = {name for part in step.parts for name in plan.stage(part).needs}
    needs |= {f"{e.name}_hash" for e in edits} | {name for e in edits for name in e.needs}
    known = [name for name in sorted(needs | {"alive", "bytes"}) if name in at]
    attributes = Attributes(plan, storage, files)
    seen = attributes.readable() if plan.recipe.observe else attributes.read(["alive"])["alive"].to_numpy()
    left, early = Window(attributes, known), _runs_ahead(plan, index)

    def batches() -> Iterator[tuple[Batch, pa.Table]]:
        for first, rows, text, _ in living_rows(plan, unit, attributes, seen, read_text=step.reads_text):
            part_left = left.slice(first, rows)
            live = np.flatnonzero(seen[first : first + rows])
            given = [name for name in known if name != "alive" and (text is None or name not in ("bytes", "chars"))]
            columns = {name: _one(part_left[name]).take(pa.array(live)) for name in given}
            if text is not None:
                text = replay(edits, text, pa.table({**columns, "text": text}))
            alive = _one(part_left["alive"]).to_numpy(zero_copy_only=False) if plan.recipe.observe else None
            batch = Batch(rows, live, text, columns, alive)
            if early:
                prepare_first(plan, step.parts, batch)
            yield batch, part_left

    for batch, part_left in ahead(batches(), wanted=early):
        run_parts(plan, step.parts, batch, facts["parts"])
        table = batch.result(schema, {})
        if not step.reads_text:
            facts["alive_bytes"] += pc.sum(part_left["bytes"].filter(table["alive"])).as_py() or 0
        yield table


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
