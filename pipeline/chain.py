"""One batch through a chain of per-unit stages: edits, measures, decisions; and the replay of edits later on.

Invariant: what a stage returns is checked for its shape before it counts, and whatever goes wrong inside a stage is an
error that names it.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ..scorers.base import BrokenDeviceError
from ..stages import sql
from ..stages.errors import StageError, TamisError
from .batch import TEXT, Batch, scatter
from .graph import Added, BoundStage
from .plan import Part, Plan


def run_parts(plan: Plan, parts: Sequence[Part], batch: Batch, counts: Sequence[dict[str, Any]]) -> None:
    """The parts of a step in order, with the counts of each; see `apply`."""
    at = 0
    while at < len(parts):
        size = _joined(plan, parts[at:])
        apply(plan, parts[at : at + size], batch, counts[at : at + size])
        at += size


def prepare_first(plan: Plan, parts: Sequence[Part], batch: Batch) -> None:
    """What the first stage of a step can do before its turn, possibly in another thread: see `Stage.prepare`."""
    if parts and parts[0].method == "measure" and plan.stage(parts[0]).stage.has("prepare"):
        bound = plan.stage(parts[0])
        with told(bound.name):
            table = _chosen(batch.table(bound.needs), where_mask(bound, batch))
            batch.prepared = bound.stage.prepare(table)


def _joined(plan: Plan, parts: Sequence[Part]) -> int:
    """How many parts from the first on are one call: measures that say so, over the same rows, none of which reads what
    another adds."""
    first = plan.stage(parts[0])
    if parts[0].method != "measure" or first.stage.joins is None:
        return 1
    size, added = 1, {a.name for a in first.added}
    for part in parts[1:]:
        bound = plan.stage(part)
        same = part.method == "measure" and bound.stage.joins == first.stage.joins
        if not same or bound.entry.where != first.entry.where or added & set(bound.needs):
            break
        size, added = size + 1, added | {a.name for a in bound.added}
    return size


def apply(plan: Plan, parts: Sequence[Part], batch: Batch, counts: Sequence[dict[str, Any]]) -> None:
    """Runs one stage method on the living rows, or those of several measures that join, which share the seconds. The
    counts of each part grow: rows in and out, calls, seconds, CPU seconds, rules, changes."""
    bounds = [plan.stage(part) for part in parts]
    started, started_cpu = time.perf_counter(), time.process_time()
    counted = batch.counted()
    with told(*(bound.name for bound in bounds)):
        chosen = where_mask(bounds[0], batch)
        ran = int((counted if chosen is None else counted & chosen).sum())
        if len(bounds) > 1:
            _measure_together(bounds, batch, chosen)
        else:
            method = {"measure": _measure, "edit": _edit, "decide": _decide}[parts[0].method]
            method(bounds[0], batch, chosen, counts[0])
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    numbers = {"in": int(counted.sum()), "ran": ran, "out": int(batch.counted().sum()), "calls": 1}
    numbers |= {"seconds": seconds / len(bounds), "cpu_seconds": cpu_seconds / len(bounds)}
    for count in counts:
        for name, number in numbers.items():
            count[name] = count.get(name, 0) + number


@contextlib.contextmanager
def told(*names: str) -> Iterator[None]:
    """What goes wrong inside a stage is a StageError that names it, unless it says by its kind who must act."""
    try:
        yield
    except (TamisError, BrokenDeviceError):
        raise
    except Exception as error:
        raise StageError(f"stage {', '.join(names)} failed: {error}\n{traceback.format_exc()}") from error


def where_mask(bound: BoundStage, batch: Batch) -> np.ndarray | None:
    """Rows for which `where` is true, or None for all."""
    if bound.entry.where is None:
        return None
    expression = sql.parse(bound.entry.where, where=bound.place)
    table = batch.table(sorted(expression.columns))
    result = sql.evaluate(table, {"where": bound.entry.where}, {})["where"]
    return pc.fill_null(result.combine_chunks(), False).to_numpy(zero_copy_only=False)


def _chosen(table: pa.Table, chosen: np.ndarray | None) -> pa.Table:
    return table if chosen is None else table.filter(pa.array(chosen))


def _spread(values: pa.Array, chosen: np.ndarray | None) -> pa.Array:
    return values if chosen is None else scatter(values, np.flatnonzero(chosen), len(chosen))


def _measure(bound: BoundStage, batch: Batch, chosen: np.ndarray | None, counts: dict[str, Any]) -> None:
    table, ready = _chosen(batch.table(bound.needs), chosen), batch.prepared
    if ready is not None:
        batch.prepared = None
        found = bound.stage.measure_prepared(table, ready)
    else:
        found = bound.stage.measure(table)
    _add_measured(bound, batch, chosen, found, len(table))


def _measure_together(bounds: Sequence[BoundStage], batch: Batch, chosen: np.ndarray | None) -> None:
    needs = dict.fromkeys(name for bound in bounds for name in bound.needs)
    table = _chosen(batch.table(list(needs)), chosen)
    tables = bounds[0].stage.measure_together([bound.stage for bound in bounds], table)
    for bound, found in zip(bounds, tables, strict=True):
        _add_measured(bound, batch, chosen, found, len(table))


def _add_measured(bound: BoundStage, batch: Batch, chosen: np.ndarray | None, found: pa.Table, rows: int) -> None:
    _check_shape(bound, found, rows)
    for added in _measured(bound):
        values = _one(found[added.column.name]).cast(added.column.type)
        if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
            raise StageError(
                f"stage {bound.name}: {added.name} holds NaN; a measure writes null where a value is undefined"
            )
        batch.add(added.name, _spread(values, chosen))
    ran = np.ones(len(batch.live), np.bool_) if chosen is None else chosen
    batch.add(f"{bound.name}_ran", pa.array(ran), readable=False)


def _measured(bound: BoundStage) -> list[Added]:
    names = set(bound.stage.measured)
    return [added for added in bound.added if added.column.name in names]


def _edit(bound: BoundStage, batch: Batch, chosen: np.ndarray | None, counts: dict[str, Any]) -> None:
    table = _chosen(batch.table(bound.needs), chosen)
    found = bound.stage.edit(table)
    _check_shape(bound, found, len(table))
    old, new = _one(table["text"]), _one(found["text"]).cast(TEXT)
    if new.null_count:
        raise StageError(f"stage {bound.name}: an edit must not return null texts")
    changed = np.zeros(len(new), np.bool_) if new is old else pc.not_equal(old, new).to_numpy(zero_copy_only=False)
    counted = batch.counted()
    counts["changed"] = counts.get("changed", 0) + int(
        (changed & (counted if chosen is None else counted[chosen])).sum()
    )
    for added in bound.added:
        batch.add(added.name, _spread(_one(found[added.column.name]).cast(added.column.type), chosen))
    hashes = pa.array(_hashes(new, changed), pa.string())
    batch.add(f"{bound.name}_hash", _spread(hashes, chosen), readable=False)
    if not changed.any():
        return
    if chosen is None:
        batch.replace_text(new)
    else:
        batch.replace_text(pc.replace_with_mask(batch.text(), pa.array(chosen), new))
    emptied = changed & (pc.binary_length(new).to_numpy(zero_copy_only=False) == 0)
    if emptied.any():
        doomed = emptied if chosen is None else _expand(emptied, chosen)
        if (doomed & counted).any():
            counts["empty"] = counts.get("empty", 0) + int((doomed & counted).sum())
        rule = f"{bound.name}.empty"
        batch.failed(batch.live[doomed], [rule], np.ones((int(doomed.sum()), 1), np.bool_))
        batch.kill(np.where(doomed, 0, -1), [(bound.name, rule, None)])


def _decide(bound: BoundStage, batch: Batch, chosen: np.ndarray | None, counts: dict[str, Any]) -> None:
    table = _chosen(batch.table(bound.needs), chosen)
    rules = bound.stage.rules
    found = bound.stage.decide(table)
    _check_shape(bound, found, len(table))
    names = [rule.name for rule in rules]
    failed, unsure = np.zeros((len(table), len(rules)), np.bool_), np.zeros((len(table), len(rules)), np.bool_)
    tallies = counts.setdefault("rules", {name: {"first": 0, "failed": 0, "null": 0} for name in names})
    counted = batch.counted() if chosen is None else batch.counted()[chosen]
    for position, rule in enumerate(rules):
        verdict = _one(found.column(position))
        null = pc.is_null(verdict).to_numpy(zero_copy_only=False)
        failed[:, position] = ~pc.fill_null(verdict, rule.nulls != "fail").to_numpy(zero_copy_only=False)
        unsure[:, position] = null & (rule.nulls == "quarantine")
        tallies[rule.name]["null"] += int((null & counted).sum())
        tallies[rule.name]["failed"] += int((failed[:, position] & counted).sum())
    first = np.where(failed.any(axis=1), failed.argmax(axis=1), -1)
    for position, rule in enumerate(rules):
        tallies[rule.name]["first"] += int(((first == position) & counted).sum())
    if bound.entry.action == "tag":
        passed = pa.array(first < 0, mask=(first < 0) & unsure.any(axis=1))
        batch.add(f"{bound.name}_pass", _spread(passed, chosen))
        return
    # a document that failed a rule is dropped, whatever else is null: the null could not have saved it
    lost = (first < 0) & unsure.any(axis=1)
    first_unsure = np.where(lost, unsure.argmax(axis=1), -1)
    if chosen is not None:
        first, first_unsure = _expand(first, chosen, -1), _expand(first_unsure, chosen, -1)
        wide = np.zeros((len(chosen), len(rules)), np.bool_)
        wide[chosen] = failed
        failed = wide
    dropped = first >= 0
    if dropped.any():
        batch.failed(batch.live[dropped], names, failed[dropped])
    fates: list[tuple[str | None, str | None, str | None]] = [(bound.name, name, None) for name in names]
    fates += [(bound.name, name, f"{bound.name}.null") for name in names]
    counts["quarantined"] = counts.get("quarantined", 0) + int(((first_unsure >= 0) & batch.counted()).sum())
    batch.kill(np.where(dropped, first, np.where(first_unsure >= 0, first_unsure + len(names), -1)), fates)


def _expand(values: np.ndarray, chosen: np.ndarray, other: Any = False) -> np.ndarray:
    wide = np.full(len(chosen), other, values.dtype)
    wide[chosen] = values
    return wide


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _check_shape(bound: BoundStage, found: pa.Table, rows: int) -> None:
    if len(found) != rows:
        raise StageError(f"stage {bound.name} returned {len(found)} rows for {rows}")


# --- edits and hashes ---------------------------------------------------------------------------------------------


def text_hash(data: bytes | memoryview) -> str:
    """xxh3-128 of a text's UTF-8 bytes, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(data)


def _hashes(text: pa.Array, chosen: np.ndarray) -> list[str | None]:
    """Hash of each chosen text, None elsewhere. One C call a document (0.4 us): far below the cost of reading it."""
    _, offset_buffer, data_buffer = text.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[text.offset : text.offset + len(text) + 1].tolist()
    data = memoryview(data_buffer) if data_buffer is not None else memoryview(b"")
    digest = xxhash.xxh3_128_hexdigest
    return [digest(data[offsets[i] : offsets[i + 1]]) if c else None for i, c in enumerate(chosen.tolist())]


def hashes(text: pa.Array) -> list[str]:
    """Hash of every text."""
    return _hashes(text, np.ones(len(text), np.bool_))  # type: ignore[return-value]


def edit_parts(plan: Plan, before: int) -> list[tuple[int, BoundStage]]:
    """(step, stage) of every edit in the steps before `before`, in order."""
    return [(i, plan.stage(p)) for i, step in enumerate(plan.steps[:before]) for p in step.parts if p.method == "edit"]


def replay(edits: Sequence[BoundStage], text: pa.Array, columns: pa.Table) -> pa.Array:
    """Text with the edits applied where they changed something (`<edit>_hash` in `columns` is not null)."""
    for bound in edits:
        changed = pc.is_valid(_one(columns[f"{bound.name}_hash"]))
        if not pc.any(changed).as_py():
            continue
        at_hand = {"text": text, "bytes": pc.binary_length(text), "chars": pc.utf8_length(text)}
        rows = pa.table({name: at_hand[name] if name in at_hand else columns[name] for name in bound.needs})
        new = _one(bound.stage.edit(rows.filter(changed))["text"]).cast(TEXT)
        text = new if len(new) == len(text) else pc.replace_with_mask(text, changed, new)
    return text


def last_hash(edits: Sequence[BoundStage], columns: pa.Table) -> pa.Array:
    """The hash of each row's last text version."""
    found = _one(columns["source_hash"])
    for bound in edits:
        found = pc.coalesce(_one(columns[f"{bound.name}_hash"]), found)
    return found
