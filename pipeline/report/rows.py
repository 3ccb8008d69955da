"""The ledger's rows as distributions and examples see them: who reached which stage, and what became of them.

Invariant: up to MOST rows all are looked at; above, whole row groups spread evenly over the ledger, the same at every
call, and the page says how many. Counts of documents never come from here, always from the whole ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..output import Output, quoted_name

MOST = 5_000_000  # rows that are looked at one by one: a column of them is read and counted in a tenth of a second
GROUPS = 32  # row groups of a larger ledger, of 32,768 rows each
VIEW, REACHED = "report_rows", "report_reached"


@dataclass(frozen=True)
class Rows:
    """`total` rows of the ledger, `seen` of them in the view `report_rows`, which has besides the ledger's columns
    `report_reached`: the index of the last stage that saw the document, -1 for none. In arrays, too, in the ledger's
    order: `kept` (bool), `reached` (int16)."""

    output: Output
    total: int
    seen: int
    kept: np.ndarray
    reached: np.ndarray

    @property
    def whole(self) -> bool:
        return self.seen == self.total

    def at_stage(self, stage: str) -> str:
        """SQL that is true for documents that the stage saw."""
        return f"{REACHED} >= {self._index(stage)}"

    def saw(self, stage: str) -> np.ndarray:
        """The same as an array of bool."""
        return self.reached >= self._index(stage)

    def _index(self, stage: str) -> int:
        return [s["name"] for s in self.output.stages].index(stage)

    def values(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """An expression (see `column_value`) as float64, and as bool whether there is a value; null is 0."""
        found = np.ma.asarray(_numpy(self.output, f"{column}::DOUBLE AS found")["found"])
        return found.filled(0.0), ~np.ma.getmaskarray(found)

    def at(self, positions: Sequence[int], columns: str) -> dict[int, dict[str, Any]]:
        """The rows that stand at these places of the arrays."""
        numbered = f"SELECT {columns}, row_number() OVER () - 1 AS place FROM {VIEW}"
        found = self.output.rows(f"FROM ({numbered}) WHERE place IN (SELECT unnest(?))", [list(positions)])
        return {row.pop("place"): row for row in found}


def open_rows(output: Output, columns: Sequence[str]) -> Rows:
    """Makes the view over the ledger, or over some of its row groups, of which only `columns` are read."""
    total: int = output.rows("SELECT count(*) AS n FROM ledger")[0]["n"]
    source, seen = "ledger", total
    if total > MOST:
        table = _some(output, list(dict.fromkeys([*_IDENTITY, *columns])))
        output.connection.register("report_part", table)
        source, seen = "report_part", len(table)
    output.connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {VIEW} AS SELECT *, {_reached(output)} AS {REACHED} FROM {source}"
    )
    facts = _numpy(output, f"decision = 'keep' AS kept, {REACHED}::SMALLINT AS reached")
    return Rows(output, total, seen, np.asarray(facts["kept"]), np.asarray(facts["reached"]))


def _numpy(output: Output, columns: str) -> dict[str, np.ndarray]:
    """DuckDB returns the rows of a plain scan in the order in which they stand in the files."""
    return output.connection.execute(f"SELECT {columns} FROM {VIEW}").fetchnumpy()


_IDENTITY = ("doc_id", "source_file", "source_row", "source_hash", "url", "bytes_read", "chars_read", "decision")
_IDENTITY += ("stage", "rule", "reason", "out_file", "out_row")


def _reached(output: Output) -> str:
    last = len(output.stages)
    if observing(output):
        return f"CASE WHEN decision = 'quarantine' AND stage IS NULL THEN -1 ELSE {last} END"
    names = " ".join(f"WHEN {quoted(s['name'])} THEN {i}" for i, s in enumerate(output.stages))
    return f"CASE WHEN decision = 'keep' THEN {last} ELSE CASE stage {names or 'WHEN NULL THEN 0'} ELSE -1 END END"


def observing(output: Output) -> bool:
    """Whether nothing was dropped, so that every stage saw every document that could be read."""
    return bool(output.manifest["recipe"].get("observe"))


def quoted(text: str) -> str:
    """A text as SQL takes it."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _some(output: Output, columns: Sequence[str]) -> pa.Table:
    """The columns of GROUPS row groups: of at most GROUPS files, evenly spread, as many from each."""
    paths = [path for path in output.storage.list("ledger") if path.endswith(".parquet")]
    chosen = _spread(len(paths), GROUPS)
    share, tables = -(-GROUPS // len(chosen)), []
    for number in chosen:
        with output.storage.open(paths[number]) as stream:
            parquet = pq.ParquetFile(stream)
            known = [name for name in parquet.schema_arrow.names if name in columns or name.endswith("_changed")]
            tables.append(parquet.read_row_groups(_spread(parquet.num_row_groups, share), columns=known))
    return pa.concat_tables(tables)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []


def column_value(output: Output, column: str, stage: str) -> str | None:
    """SQL for a column as a stage saw it; None where the ledger does not hold it. The size of the text is known of
    documents that no edit had changed before."""
    if column in output.columns:
        return quoted_name(column)
    if column not in ("chars", "bytes"):
        return None
    names = [s["name"] for s in output.stages]
    edits = [s["name"] for s in output.stages[: names.index(stage)] if s["kind"] == "edit"]
    changed = " OR ".join(f"coalesce({quoted_name(f'{name}_changed')}, false)" for name in edits)
    return f"CASE WHEN NOT ({changed}) THEN {column}_read END" if edits else f"{column}_read"


def column_type(output: Output, column: str) -> str:
    """The DuckDB type of a ledger column, BIGINT for chars and bytes."""
    return "BIGINT" if column in ("chars", "bytes") and column not in output.columns else _types(output)[column]


def _types(output: Output) -> dict[str, Any]:
    return {row["column_name"]: row["column_type"] for row in output.rows("DESCRIBE ledger")}
