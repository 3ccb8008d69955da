"""Runs resolve stages in this process: any split into units, any order of items, a kill between any two receipts.

Invariant: phase functions, stages, values and tables pass through the forms they have on disk and between processes
(pickle, JSON, Arrow IPC), so what works here depends on nothing that a worker would not have.
"""

from __future__ import annotations

import itertools
import json
import pickle
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.stages.base import Stage, UnitRows

VERDICT = "rule"


class Killed(BaseException):
    """The driver dies here; call `resolve` again to resume."""


class LocalRuns:
    def __init__(self, units: Sequence[UnitRows]) -> None:
        self.units = units


class LocalContext:
    """All documents of a run, in identity order, cut into units; what a resolve stage leaves behind is in memory.

    rows: the columns that earlier steps hold; `alive` (bool) marks living rows, all live without it; doc_id,
    source_file and source_row are made up where absent. cuts: row positions where a new unit begins.
    order: seed for the order of items. earlier: outputs for `against`, each a list of tables of kept documents.
    """

    def __init__(
        self,
        stage: Stage,
        rows: pa.Table,
        cuts: Sequence[int] = (),
        order: int | None = None,
        earlier: Mapping[str, Sequence[pa.Table]] | None = None,
    ) -> None:
        self.stage = pickle.loads(pickle.dumps(stage))
        self.rows = with_identity(rows)
        bounds = [0, *sorted(cuts), len(rows)]
        self.units = [UnitRows(i, f"u{i}", a, b - a) for i, (a, b) in enumerate(itertools.pairwise(bounds))]
        self.tables = [_measured(self.stage, self.rows.slice(u.n0, u.rows)) for u in self.units]
        self.earlier = {
            output: {f"part{i}": _measured(self.stage, with_identity(t)) for i, t in enumerate(tables)}
            for output, tables in (earlier or {}).items()
        }
        self.order = None if order is None else random.Random(order)
        self.files: dict[tuple[str, str], list[bytes]] = {}
        self.verdicts: dict[int, pa.Table] = {}
        self.receipts: dict[tuple[str, str], str] = {}
        self.runs: list[tuple[str, str]] = []  # every item that ran, in order
        self.receipts_left: int | None = None  # how many receipts until the kill

    def against(self, output: str) -> dict[str, int]:
        return {part: len(table) for part, table in self.earlier[output].items()}

    def map(
        self, phase: str, function: Callable[[Any, Stage, Any], dict[str, Any]], items: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        names = list(items)
        if self.order:
            self.order.shuffle(names)
        for name in names:
            assert re.fullmatch(r"[A-Za-z0-9_-]+", name), name
            if (phase, name) in self.receipts:
                continue
            task = LocalTask(self)
            run, stage = pickle.loads(pickle.dumps((function, self.stage)))
            facts = json.dumps(run(task, stage, json.loads(json.dumps(items[name]))))
            self.runs.append((phase, name))
            if self.receipts_left == 0:
                raise Killed  # what the item wrote is lost with it: no receipt names it
            if self.receipts_left is not None:
                self.receipts_left -= 1
            if task.parts is not None:
                self.files[phase, name] = task.parts
            self.verdicts |= task.verdicts
            self.receipts[phase, name] = facts
        return {name: json.loads(self.receipts[phase, name]) for name in items}

    def resolve(self) -> dict[str, Any]:
        """The stage's facts, through JSON; the verdicts are in `verdict`."""
        return json.loads(json.dumps(self.stage.resolve(LocalRuns(self.units), self)))

    @property
    def verdict(self) -> pa.Table:
        """`n`, the columns that `resolve` adds, `rule`, and `undecided` if the stage says so, one row per living row, in
        identity order."""
        written = {c.name: c.type for c in self.stage.adds if c.name not in self.stage.measured} | {
            VERDICT: pa.string()
        }
        if any("undecided" in table.column_names for table in self.verdicts.values()):
            written["undecided"] = pa.string()
        assert sorted(self.verdicts) == [u.index for u in self.units]
        tables = []
        for unit in self.units:
            table = self.verdicts[unit.index]
            assert set(table.column_names) <= set(written), table.column_names
            columns = {
                name: table[name].cast(kind) if name in table.column_names else pa.nulls(len(table), kind)
                for name, kind in written.items()
            }
            tables.append(pa.table({"n": LocalTask(self).rows(unit.index, [])["n"], **columns}))
        return pa.concat_tables(tables).combine_chunks()


class LocalTask:
    """One item of one phase; see stages.base.Task."""

    def __init__(self, context: LocalContext) -> None:
        self.context = context
        self.parts: list[bytes] | None = None
        self.verdicts: dict[int, pa.Table] = {}

    def rows(self, unit: int, columns: Sequence[str]) -> pa.Table:
        assert len(set(columns)) == len(columns), f"a column asked for twice: {columns}"
        table, n0 = self.context.tables[unit], self.context.units[unit].n0
        place = np.arange(len(table))
        found = pa.table(
            {"row": pa.array(place), "n": pa.array((place + n0).astype(np.uint64)), **_pick(table, columns)}
        )
        return found.filter(table["alive"]) if "alive" in table.column_names else found

    def against(self, output: str, part: str, columns: Sequence[str]) -> pa.Table:
        return pa.table(_pick(self.context.earlier[output][part], columns))

    def save(self, parts: Sequence[pa.Table]) -> None:
        assert self.parts is None, "an item saves once"
        assert len({part.schema for part in parts}) == 1, [part.schema for part in parts]
        self.parts = []
        for part in parts:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, part.schema) as writer:
                writer.write_table(part)
            self.parts.append(sink.getvalue().to_pybytes())

    def load(self, phase: str, item: str, part: int) -> pa.Table:
        assert (phase, item) in self.context.receipts, f"{phase}/{item} is not committed"
        return pa.ipc.open_file(self.context.files[phase, item][part]).read_all()

    def save_arrays(self, parts: Sequence[np.ndarray]) -> None:
        assert self.parts is None, "an item saves once"
        assert len({part.dtype for part in parts}) == 1, [part.dtype for part in parts]
        assert all(part.ndim == 1 and not part.dtype.hasobject for part in parts)
        self.parts = [pickle.dumps(np.ascontiguousarray(part)) for part in parts]

    def load_array(self, phase: str, item: str, part: int) -> np.ndarray:
        assert (phase, item) in self.context.receipts, f"{phase}/{item} is not committed"
        return pickle.loads(self.context.files[phase, item][part])

    def texts(self, unit: int, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Array]]:
        table = self.rows(unit, ["text"])
        assert "text" in self.context.stage.needs, "a stage that reads texts needs text"
        assert chosen.dtype == np.bool_
        assert len(chosen) == len(table)
        places = np.flatnonzero(chosen)
        for start in range(0, len(places), 3):  # small batches, so that nothing rests on where they end
            at = places[start : start + 3]
            yield at, table["text"].combine_chunks().cast(pa.large_string()).take(pa.array(at))

    def write(self, unit: int, columns: pa.Table) -> None:
        assert len(columns) == len(self.rows(unit, [])), "one verdict per living row"
        assert unit not in self.verdicts | self.context.verdicts, f"unit {unit} written twice"
        self.verdicts[unit] = columns


def resolve(stage: Stage, rows: pa.Table, **how: Any) -> tuple[pa.Table, dict[str, Any]]:
    """(verdicts, facts) of an undisturbed run; `how` as LocalContext takes it."""
    context = LocalContext(stage, rows, **how)
    facts = context.resolve()
    return context.verdict, facts


def resolve_killed_at_every_receipt(stage: Stage, rows: pa.Table, **how: Any) -> tuple[pa.Table, dict[str, Any]]:
    """As `resolve`, with a driver that dies after each receipt and is started again; no item is committed twice."""
    context = LocalContext(stage, rows, **how)
    while True:
        before, context.receipts_left = dict(context.receipts), 1
        try:
            facts = context.resolve()
        except Killed:
            assert len(context.receipts) == len(before) + 1
            assert before.items() <= context.receipts.items()
            continue
        return context.verdict, facts


def with_identity(rows: pa.Table) -> pa.Table:
    """The rows with doc_id, source_file and source_row where they lack them."""
    files = [f"f{i // 7:04d}" for i in range(len(rows))]
    made = {
        "doc_id": pa.array([f"d{i:06d}" for i in range(len(rows))], pa.string()),
        "source_file": pa.array(files, pa.string()),
        "source_row": pa.array([i % 7 for i in range(len(rows))], pa.int64()),
    }
    for name, column in made.items():
        if name not in rows.column_names:
            rows = rows.append_column(name, column)
    return rows


def _measured(stage: Stage, rows: pa.Table) -> pa.Table:
    if stage.measured:
        for name, column in zip(stage.measured, stage.measure(rows).select(list(stage.measured)).columns):
            rows = rows.append_column(name, column)
    return rows


def _pick(table: pa.Table, columns: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    for name in columns:
        if name not in table.column_names:
            raise KeyError(name)
    return {name: table[name] for name in columns}
