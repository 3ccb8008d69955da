"""One batch on its way through a chain: what stages see of it, what they add, and who is still alive.

Invariant: rows never move. Every column that comes out has one entry per source row of the batch, null where the row
was dead or `where` left it out, so that attributes are joined by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pa.large_string()
VERDICT = [
    ("alive", pa.bool_()),
    ("stage", pa.string()),
    ("rule", pa.string()),
    ("failed", pa.list_(pa.string())),
    ("reason", pa.string()),
]
SIZE = [("bytes", pa.int64()), ("chars", pa.int64())]


class Batch:
    """Rows of one batch on their way through the chain. `live`: int64 positions of the rows that stages see, ascending.

    A row that is dropped leaves `live`, except in an observing run: there `alive` says which rows would be left, and
    what is recorded of the others changes nobody's fate.
    """

    def __init__(
        self,
        rows: int,
        live: np.ndarray,
        text: pa.Array | None,
        columns: dict[str, pa.Array],
        alive: np.ndarray | None = None,
    ) -> None:
        """`alive`: bool per row, given in an observing run only."""
        self.rows, self.live = rows, live
        self.observing = alive is not None
        self.alive = np.zeros(rows, np.bool_)
        self.alive[live] = True if alive is None else alive[live]
        self._text, self._text_live = text, live
        self._columns, self._columns_live = columns, live  # what stages may read, aligned with _columns_live
        self._outputs: list[tuple[str, np.ndarray, pa.Array]] = []
        self.prepared: Any = None  # by the first stage of the step, see `chain.prepare_first`
        self._dead = np.full(rows, -1, np.int64)  # index in _fates
        self._fates: list[tuple[str | None, str | None, str | None]] = []  # stage, rule, reason
        self._failed: list[tuple[np.ndarray, pa.Array]] = []

    # --- what stages see

    def text(self) -> pa.Array:
        """Text of the living rows; rows that died since it was last read are left behind only now."""
        assert self._text is not None, "this step was planned without the text"
        if len(self._text_live) != len(self.live):
            self._text = self._text.take(pa.array(np.searchsorted(self._text_live, self.live)))
            self._text_live = self.live
        return self._text

    def column(self, name: str) -> pa.Array:
        """One column of the living rows."""
        if name == "text":
            return self.text()
        if name == "bytes" and self._text is not None:
            return pc.cast(pc.binary_length(self.text()), pa.int64())
        if name == "chars" and self._text is not None:
            return pc.cast(pc.utf8_length(self.text()), pa.int64())
        if len(self._columns_live) != len(self.live):
            positions = pa.array(np.searchsorted(self._columns_live, self.live))
            self._columns = {k: v.take(positions) for k, v in self._columns.items()}
            self._columns_live = self.live
        return self._columns[name]

    def table(self, names: Sequence[str]) -> pa.Table:
        return pa.table({name: self.column(name) for name in names}) if names else _no_columns(len(self.live))

    # --- what stages do

    def add(self, name: str, values: pa.Array, *, readable: bool = True) -> None:
        """A new column, aligned with the living rows."""
        self._outputs.append((name, self.live, values))
        if readable:
            if len(self._columns_live) != len(self.live) and self._columns:
                self.column(next(iter(self._columns)))  # aligns the others first
            self._columns[name], self._columns_live = values, self.live

    def replace_text(self, text: pa.Array) -> None:
        self._text, self._text_live = text, self.live

    def kill(self, fate_of: np.ndarray, fates: Sequence[tuple[str | None, str | None, str | None]]) -> None:
        """Rows of `live` whose `fate_of` is not -1 end here, with fates[fate_of] = (stage, rule, reason)."""
        doomed = (fate_of >= 0) & self.counted()
        self._dead[self.live[doomed]] = fate_of[doomed] + len(self._fates)
        self._fates.extend(fates)
        self.alive[self.live[doomed]] = False
        if not self.observing:
            self.live = self.live[~doomed]

    def counted(self) -> np.ndarray:
        """bool per row of `live`: those that a normal run would see, and that counts are made of."""
        return self.alive[self.live]

    def failed(self, live: np.ndarray, names: Sequence[str], failed: np.ndarray) -> None:
        """All rules that failed (rows of `live` x rules) for the rows that a decision dropped."""
        at = np.nonzero(failed)[1]
        offsets = np.concatenate([[0], np.cumsum(failed.sum(axis=1))]).astype(np.int32)
        values = pa.array(np.array(names, object)[at].tolist(), pa.string())
        self._failed.append((live, pa.ListArray.from_arrays(pa.array(offsets), values)))

    # --- what comes out

    def result(self, schema: pa.Schema, left: dict[str, pa.Array]) -> pa.Table:
        """The attribute rows of this batch: `left` (full length) and everything added, by the schema."""
        columns = {**left, **self._verdict()}
        for name, live, values in self._outputs:
            columns[name] = scatter(values, live, self.rows)
        if self._text is not None:
            for name, _ in SIZE:
                columns[name] = scatter(self.column(name), self.live, self.rows)
        arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(self.rows, f.type) for f in schema]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _verdict(self) -> dict[str, pa.Array]:
        codes = pa.array(self._dead, mask=self._dead < 0)
        fates = self._fates or [(None, None, None)]
        found: dict[str, pa.Array] = {"alive": pa.array(self.alive)}
        for position, name in enumerate(("stage", "rule", "reason")):
            found[name] = pa.array([fate[position] for fate in fates], pa.string()).take(codes)
        if self._failed:
            found["failed"] = _lists(self._failed, self.rows)
        return found


def joined_lists(columns: Sequence[pa.ListArray], rows: int) -> pa.ListArray:
    """One list a row: the lists that it has in the columns, one after the other; null where it has none."""
    present = [np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False)) for column in columns]
    return _lists([(at, column.take(pa.array(at))) for at, column in zip(present, columns, strict=True)], rows)


def _lists(found: Sequence[tuple[np.ndarray, pa.ListArray]], rows: int) -> pa.ListArray:
    """The same of lists that come with the rows they belong to."""
    at = np.concatenate([at for at, _ in found])
    order = np.argsort(at, kind="stable")
    lists = pa.concat_arrays([lists for _, lists in found]).take(pa.array(order))
    lengths = np.zeros(rows, np.int64)
    np.add.at(lengths, at[order], pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    null = np.ones(rows + 1, np.bool_)
    null[at] = null[-1] = False  # the last offset belongs to no row
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), mask=null)
    return pa.ListArray.from_arrays(offsets, lists.flatten())


def _no_columns(rows: int) -> pa.Table:
    return pa.table({"row": pa.nulls(rows)})


def scatter(values: pa.Array, live: np.ndarray, rows: int) -> pa.Array:
    """The values of the rows `live` in an array of all rows, null elsewhere."""
    if len(live) == rows:
        return values
    positions = np.full(rows, -1, np.int64)
    positions[live] = np.arange(len(live))
    return values.take(pa.array(positions, mask=positions < 0))
