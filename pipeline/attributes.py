"""Attributes: the columns that a step wrote for one unit, row-aligned with the unit's source rows.

Invariant: every attribute file of a unit has the same rows in the same order, in row groups of the same sizes, so files
are joined by position, whole or one row group at a time. A file is found through its receipt alone.

In a run over a sample the files hold the rows of the sample alone, and the column `position` says which they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .batch import SIZE, VERDICT
from .parquet import Layout
from .plan import Plan, Step
from .storage import Storage

IDENTITY = [
    ("source_row", pa.int64()),
    ("doc_id", pa.string()),
    ("source_file", pa.string()),
    ("source_hash", pa.string()),
    ("url", pa.string()),
    ("date", pa.string()),
    ("bytes_read", pa.int64()),
    ("chars_read", pa.int64()),
]
LAYOUT = Layout(
    level=1, group_rows=1 << 14, dictionary=("source_file", "stage", "rule", "reason", "failed.list.element", "lang")
)


def attribute_schema(plan: Plan, index: int) -> pa.Schema:
    """What a step's files hold: identity and carried input columns in the first, then the verdict, then its columns."""
    step = plan.steps[index]
    fields: list[tuple[str, pa.DataType]] = []
    if index == 0:
        fields += [("position", pa.int64())] if plan.recipe.sample is not None else []
        fields += IDENTITY + [(name, plan.graph.input_types[name]) for name in plan.graph.carried]
    fields += VERDICT
    if step.reads_text:
        fields += SIZE
    for part in step.parts:
        bound = plan.stage(part)
        measured = set(bound.stage.measured)
        own = [a for a in bound.added if (a.column.name in measured) == (part.method != "resolve")]
        fields += [(a.name, a.column.type) for a in own]
        if part.method == "measure":
            fields.append((f"{bound.name}_ran", pa.bool_()))
        if part.method == "edit":
            fields.append((f"{bound.name}_hash", pa.string()))
        if part.method in ("decide", "resolve") and bound.entry.action == "tag":
            fields.append((f"{bound.name}_pass", pa.bool_()))
    return pa.schema(fields)


def holders(plan: Plan, before: int) -> dict[str, int]:
    """Column -> the step before `before` whose file has its latest value."""
    found: dict[str, int] = {}
    for index in range(before):
        for name in attribute_schema(plan, index).names:
            found[name] = index
    return found


class Attributes:
    """Reads one unit's attribute files. `files[i]` is the file name of step i."""

    def __init__(self, plan: Plan, storage: Storage, files: Sequence[str]) -> None:
        self.plan, self.storage, self.files = plan, storage, files

    def group_rows(self) -> list[int]:
        """Rows of each row group."""
        with self.storage.open(f"{self.plan.steps[0].folder}/{self.files[0]}") as file:
            meta = pq.ParquetFile(file).metadata
            return [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]

    def read(self, columns: Sequence[str], group: int | None = None) -> pa.Table:
        """The latest values of the columns over all the steps whose files are given, one row per source row of the
        unit, or of one row group."""
        at = holders(self.plan, len(self.files))
        by_step: dict[int, list[str]] = {}
        for name in columns:
            by_step.setdefault(at[name], []).append(name)
        found: dict[str, pa.ChunkedArray] = {}
        for index, names in by_step.items():
            table = self._open(self.plan.steps[index], self.files[index], names, group)
            found.update({name: table[name] for name in names})
        return pa.table({name: found[name] for name in columns})

    def readable(self) -> np.ndarray:
        """bool per row: those whose text could be read, dropped or not."""
        first = self._open(self.plan.steps[0], self.files[0], ["stage", "reason"], None)
        return pc.or_(pc.is_null(first["reason"]), pc.is_valid(first["stage"])).to_numpy()

    def verdicts(self, index: int, group: int | None = None) -> pa.Table:
        """The verdict columns of one step."""
        return self._open(self.plan.steps[index], self.files[index], [name for name, _ in VERDICT], group)

    def _open(self, step: Step, name: str, columns: Sequence[str], group: int | None) -> pa.Table:
        with self.storage.open(f"{step.folder}/{name}") as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            if group is None:
                table = parquet.read(columns=list(columns), use_threads=False)
            else:
                table = parquet.read_row_group(group, columns=list(columns), use_threads=False)
            return table.combine_chunks()


class Window:
    """Columns of a unit that are read as one moves through its rows: holds the row groups of the last `slice` only."""

    def __init__(self, attributes: Attributes, columns: Sequence[str]) -> None:
        self.attributes, self.columns = attributes, columns
        self._ends = np.cumsum(attributes.group_rows())
        self._held: dict[int, pa.Table] = {}

    def slice(self, start: int, length: int) -> pa.Table:
        """`length` rows, at least one, from row `start` of the unit."""
        first, last = np.searchsorted(self._ends, [start, start + length - 1], side="right").tolist()
        held, self._held = self._held, {}
        for group in range(first, last + 1):
            self._held[group] = held.pop(group, None) or self.attributes.read(self.columns, group)
        offset = start - (int(self._ends[first - 1]) if first else 0)
        return pa.concat_tables(self._held.values()).slice(offset, length)
