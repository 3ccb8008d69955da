"""What a resolve stage runs on: phases of items over files, each item committed by its own receipt.

Invariant: a phase function sees files and its item only, so it runs anywhere, in any order, and after a kill between
any two receipts; stages never learn which executor runs them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..stages import sql
from ..stages.base import Stage, UnitRows
from ..stages.errors import DataError, StageError
from .array_file import array_dtype, read_array
from .attributes import LAYOUT, Attributes, Window, attribute_schema
from .chain import edit_parts, replay
from .earlier import matching_stage, open_run
from .parquet import Layout, ParquetSink
from .plan import Plan
from .receipts import Receipt, Receipts
from .source_rows import living_rows
from .storage import Storage

ITEM_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
PhaseFunction = Callable[[Any, Stage, Any], dict[str, Any]]


@dataclass(frozen=True)
class Inputs:
    """Where the rows of all units are, for one resolve step. Sent to workers once."""

    plan: Plan
    storage: Storage
    index: int  # of the resolve step
    units: tuple[UnitRows, ...]
    files: tuple[tuple[str, ...], ...]  # per unit: attribute file of every earlier step
    earlier: tuple[tuple[str, str], ...] = ()  # outputs of `against`: as the recipe names them, absolute


class ResolveRuns:
    def __init__(self, units: Sequence[UnitRows]) -> None:
        self.units = units


class ResolveTask:
    """The hands of one phase function; see stages.base.Task."""

    def __init__(self, inputs: Inputs, phase: str, item: str) -> None:
        self.inputs, self.phase, self.item = inputs, phase, item
        self.saved: Sequence[pa.Table] | None = None
        self.arrays: Sequence[np.ndarray] | None = None
        step = inputs.plan.steps[inputs.index]
        self.folder = step.folder
        self.bound = inputs.plan.stage(step.parts[0])
        self.receipts = Receipts(inputs.storage, f"{self.folder}/{phase}")

    def _attributes(self, unit: int) -> Attributes:
        return Attributes(self.inputs.plan, self.inputs.storage, self.inputs.files[unit])

    def rows(self, unit: int, columns: Sequence[str]) -> pa.Table:
        own = {a.column.name: a.name for a in self.bound.added}
        wanted = [c for c in columns if c not in ("row", "n")]
        _, seen = self._living(unit)
        row = np.flatnonzero(seen)
        table = self._attributes(unit).read(list(dict.fromkeys(own.get(c, c) for c in wanted)))
        found = {c: table[own.get(c, c)].filter(pa.array(seen)) for c in wanted}
        found["row"] = pa.array(row, pa.int64())
        found["n"] = pa.array(row.astype(np.uint64) + np.uint64(self.inputs.units[unit].n0))
        return pa.table(found)

    def _living(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """bool per row of the unit: alive, and alive with a true `where`, which are the rows that the stage sees."""
        where = self.bound.entry.where
        columns = sorted(sql.parse(where, where=self.bound.place).columns) if where else []
        table = self._attributes(unit).read(["alive", *columns])
        alive = table["alive"].combine_chunks().to_numpy(zero_copy_only=False)
        if where is None:
            return alive, alive
        chosen = sql.evaluate(table, {"where": where}, {})["where"].combine_chunks()
        return alive, alive & pc.fill_null(chosen, False).to_numpy(zero_copy_only=False)

    def against(self, output: str, part: str, columns: Sequence[str]) -> pa.Table:
        """The documents of one part (unit) that an earlier output kept; measured columns by their plain names."""
        run = open_run(dict(self.inputs.earlier)[output])
        measured = matching_stage(run, self.bound).columns
        names = [measured.get(c, c) for c in columns]
        return run.kept_rows(int(part[1:]), names).rename_columns(list(columns))

    def save(self, parts: Sequence[pa.Table]) -> None:
        self.saved = parts

    def _saved(self, phase: str, item: str) -> tuple[str, Receipt]:
        """Path and receipt of what an earlier phase saved."""
        receipts = Receipts(self.inputs.storage, f"{self.folder}/{phase}")
        receipt = receipts.get(item)
        if receipt is None or receipt["file"] is None:
            raise StageError(f"{self.bound.name}: phase {phase} saved nothing for {item}")
        return receipts.path(receipt["file"]), receipt

    def load(self, phase: str, item: str, part: int) -> pa.Table:
        path, receipt = self._saved(phase, item)
        with self.inputs.storage.open(path) as file:
            first, count = receipt["parts"][part]
            return pq.ParquetFile(file).read_row_groups(list(range(first, first + count)), use_threads=False)

    def save_arrays(self, parts: Sequence[np.ndarray]) -> None:
        self.arrays = parts

    def load_array(self, phase: str, item: str, part: int) -> np.ndarray:
        path, receipt = self._saved(phase, item)
        return read_array(self.inputs.storage, path, part, array_dtype(receipt["dtype"]))

    def texts(self, unit: int, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Array]]:
        plan, attributes = self.inputs.plan, self._attributes(unit)
        _, seen = self._living(unit)
        mask = np.zeros(len(seen), np.bool_)
        mask[np.flatnonzero(seen)[chosen]] = True
        if not mask.any():
            return
        place = np.cumsum(seen) - 1
        edits = [bound for _, bound in edit_parts(plan, self.inputs.index)]
        needs = {name for e in edits for name in e.needs} - {"text", "bytes", "chars"}
        left = Window(attributes, sorted({"source_hash", "source_file", *needs, *(f"{e.name}_hash" for e in edits)}))
        for first, rows, text, source in living_rows(plan, plan.units[unit], attributes, mask):
            if text is None or source is None or not len(text):
                continue
            inside = mask[first : first + rows]
            part = left.slice(first, rows).filter(pa.array(inside))
            if not part["source_hash"].combine_chunks().equals(source["source_hash"].combine_chunks()):
                raise DataError(f"{part['source_file'][0]} changed since it was measured")
            yield place[first + np.flatnonzero(inside)], replay(edits, text, part)

    def write(self, unit: int, columns: pa.Table) -> None:
        """Expands the verdicts of the living rows to all rows of the unit and commits them."""
        plan, index = self.inputs.plan, self.inputs.index
        alive, seen = self._living(unit)
        live = np.flatnonzero(seen)
        if len(columns) != len(live):
            raise StageError(f"{self.bound.name} wrote {len(columns)} verdicts for {len(live)} living rows")
        positions = np.full(len(alive), -1, np.int64)
        positions[live] = np.arange(len(live))
        take = pa.array(positions, mask=positions < 0)
        found = {name: columns[name].combine_chunks().take(take) for name in columns.schema.names}
        rule = found.pop("rule", pa.nulls(len(alive), pa.string())).cast(pa.string())
        undecided = found.pop("undecided", pa.nulls(len(alive), pa.string())).cast(pa.string())
        rule, aside = self._null_means(rule, undecided)
        first, null = _tally(rule), _tally(undecided)
        tallies = {
            name: {"first": first.get(name, 0), "failed": first.get(name, 0), "null": null.get(name, 0)}
            for name in {**first, **null}
        }
        if self.bound.entry.action == "tag":
            passed = pa.array(~_known(rule), mask=~seen | _known(aside))
            found[f"{self.bound.name}_pass"] = passed
            rule = aside = pa.nulls(len(alive), pa.string())
        dropped, lost = _known(rule), _known(aside)
        found = {(self.bound.full(n) if not n.endswith("_pass") else n): v for n, v in found.items()}
        still = alive & ~dropped & ~lost
        lists = pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], np.cumsum(dropped)]), pa.int32()), rule.drop_null()
        )
        found |= {
            "alive": pa.array(still),
            "stage": pc.if_else(pa.array(dropped | lost), self.bound.name, None),
            "rule": pc.coalesce(rule, aside),
            "failed": pc.if_else(pa.array(dropped), lists, pa.nulls(len(alive), lists.type)),
            "reason": pc.if_else(pa.array(lost), f"{self.bound.name}.null", None),
        }
        schema = attribute_schema(plan, index)
        arrays = [found[f.name].cast(f.type) if f.name in found else pa.nulls(len(alive), f.type) for f in schema]
        table = pa.Table.from_arrays(arrays, schema=schema)
        facts: dict[str, Any] = {"unit": plan.units[unit].id, "alive": int(still.sum())}
        if lost.any():
            facts["quarantined"] = int(lost.sum())
        sizes = self._attributes(unit).read(["bytes"])["bytes"]
        facts["alive_bytes"] = pc.sum(sizes.filter(pa.array(still))).as_py() or 0
        facts["parts"] = [
            {
                "in": int(alive.sum()),
                "ran": len(live),
                "out": int(still.sum()),
                "rules": tallies,
                **({"quarantined": int(lost.sum())} if lost.any() else {}),
            }
        ]
        Receipts(self.inputs.storage, self.folder).commit(plan.units[unit].id, facts, schema, LAYOUT, lambda _: [table])

    def _null_means(self, rule: pa.Array, undecided: pa.Array) -> tuple[pa.Array, pa.Array]:
        """(rule, undecided) after what `nulls` of each undecided rule says: failed ones join `rule`, passed ones leave."""
        rules = self.bound.stage.rules
        fails, aside = (
            pc.is_in(undecided, value_set=pa.array([one.name for one in rules if one.nulls == meaning], pa.string()))
            for meaning in ("fail", "quarantine")
        )
        rule = pc.coalesce(rule, pc.if_else(fails, undecided, None))
        return rule, pc.if_else(pc.and_(aside, pc.is_null(rule)), undecided, None)


def _known(values: pa.Array) -> np.ndarray:
    return pc.is_valid(values).to_numpy(zero_copy_only=False)


def _tally(values: pa.Array) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values.drop_null()).to_pylist()}


def run_item(inputs: Inputs, phase: str, function: PhaseFunction, item: str, value: Any) -> Receipt:
    """One item of one phase, anywhere: runs the function and commits what it saved."""
    task = ResolveTask(inputs, phase, item)
    started = time.process_time()
    facts: dict[str, Any] = {"facts": function(task, task.bound.stage, value)}
    if task.arrays is not None:
        facts["cpu_seconds"] = round(time.process_time() - started, 4)
        return task.receipts.commit_arrays(item, facts, task.arrays)
    if task.saved is None:
        facts["cpu_seconds"] = round(time.process_time() - started, 4)
        return task.receipts.commit(item, facts)
    parts = list(task.saved)
    ranges: list[tuple[int, int]] = []
    group_rows = 1 << 20

    def tables(sink: ParquetSink) -> Iterator[pa.Table]:
        groups = 0
        for part in parts:
            count = -(-len(part) // group_rows)
            ranges.append((groups, count))
            groups += count
            yield part
            sink.flush()  # a part starts with a row group of its own, so that it can be read alone
        facts["parts"] = ranges
        facts["cpu_seconds"] = round(time.process_time() - started, 4)

    layout = Layout(level=1, group_rows=group_rows, group_bytes=1 << 62)
    return task.receipts.commit(item, facts, parts[0].schema, layout, tables)


class ResolveContext:
    """The driver's side; see stages.base.Context. `run` is the executor's bounded map over items."""

    def __init__(
        self, inputs: Inputs, run: Callable[[Inputs, str, PhaseFunction, Mapping[str, Any]], Iterator[Receipt]]
    ) -> None:
        self.inputs, self.run = inputs, run
        self.cpu_seconds, self.bytes = 0.0, 0

    @property
    def stage(self) -> Stage:
        return self.inputs.plan.stage(self.inputs.plan.steps[self.inputs.index].parts[0]).stage

    def against(self, output: str) -> dict[str, int]:
        """Parts of an earlier output and the documents kept in each; see stages._groups.AgainstContext."""
        run = open_run(dict(self.inputs.earlier)[output])
        matching_stage(run, self.inputs.plan.stage(self.inputs.plan.steps[self.inputs.index].parts[0]))
        return {f"u{unit}": kept for unit, kept in enumerate(run.kept) if kept}

    def map(self, phase: str, function: PhaseFunction, items: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        for name in items:
            if not ITEM_NAME.match(name):
                raise ValueError(f"item name {name!r} must match [A-Za-z0-9_-]+")
        folder = f"{self.inputs.plan.steps[self.inputs.index].folder}/{phase}"
        done = {k: r for k, r in Receipts(self.inputs.storage, folder).load().items() if k in items}
        missing = {name: value for name, value in items.items() if name not in done}
        for receipt in self.run(self.inputs, phase, function, missing):
            done[receipt["item"]] = receipt
        self.cpu_seconds += sum(r.get("cpu_seconds", 0.0) for r in done.values())
        self.bytes += sum(r.get("size") or 0 for r in done.values())
        return {name: done[name]["facts"] for name in items}
