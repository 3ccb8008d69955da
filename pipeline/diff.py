"""`tamis diff`: which documents one finished run keeps and another does not, which rule decided it, and what some look like.

Invariant: every document of both ledgers is counted once: as one of both, of the first alone or of the second alone. By
`place` documents are the same where file and row are; by `text` where the original text is, the n-th with a text in the
one being the n-th in the other; so re-sharded inputs can be compared.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..stages.errors import RecipeError
from .document_text import TextOf
from .fate import fate, name_of
from .output import Output, quoted_name, quoted_text
from .terminal import columns, cut, plural, visible

if TYPE_CHECKING:
    import pyarrow as pa

By = Literal["place", "text"]
SIDES = ("left", "entered")
FATES = "decision, stage, rule, reason"
LISTED = 15  # rules of a table, columns whose values moved


@dataclass(frozen=True)
class Difference:
    """Two finished outputs, `old` and `new`, joined document by document. RecipeError where they cannot be compared."""

    old: Output
    new: Output
    by: By

    @staticmethod
    def open(old: str, new: str, by: By | None = None) -> Difference:
        """by: None: by place where the inputs have a file of one name and version in common, else by text."""
        found = Difference(Output(old), Output(new), by or "place")
        if by is None and not found._files_in_common():
            found = Difference(found.old, found.new, "text")
        found._join()
        return found

    def _files_in_common(self) -> bool:
        files = [{(f["name"], f["version"]) for f in output.manifest["input"]} for output in (self.old, self.new)]
        return bool(files[0] & files[1])

    def _join(self) -> None:
        connection = self.old.connection
        connection.execute(f"SET temp_directory = {quoted_text(os.path.join(tempfile.gettempdir(), 'tamis-diff'))}")
        self.new.register(connection)
        sides = {"a": self.old.reading("ledger"), "b": self.new.reading("ledger")}
        if self.by == "place":
            key = "source_file, source_row"
            selects = {side: f"SELECT *, true AS here FROM {reading}" for side, reading in sides.items()}
        else:
            key = "source_hash, nth"
            nth = "row_number() OVER (PARTITION BY source_hash ORDER BY source_file, source_row)"
            # texts that could not be read have no hash: their places tell them apart
            whole = "coalesce(source_hash, source_file || '#' || source_row) AS source_hash"
            selects = {
                side: f"SELECT * REPLACE ({whole}), {nth} AS nth, true AS here FROM {reading}"
                for side, reading in sides.items()
            }
        for side, select in selects.items():
            connection.execute(f"CREATE VIEW {side} AS {select}")
        connection.execute(f"CREATE TABLE pairs AS SELECT {self._pair_columns()} FROM a FULL JOIN b USING ({key})")

    def _pair_columns(self) -> str:
        place = [f"{side}.{name} AS {name}_{side}" for side in "ab" for name in ("source_file", "source_row")]
        if self.by == "place":
            place = [
                f"CASE WHEN {side}.here THEN {name} END AS {name}_{side}"
                for side in "ab"
                for name in ("source_file", "source_row")
            ]
        fates = [f"{side}.{name} AS {name}_{side}" for side in "ab" for name in ("here", "decision", "stage", "rule")]
        chars = "coalesce(b.chars_written, a.chars_written, b.chars_read, a.chars_read) AS chars"
        return ", ".join([*place, *fates, chars])

    # --- counts

    def counts(self) -> dict[str, int]:
        """Documents: in both inputs, of one alone; kept by both, entered (kept by the new run alone), left; and those of
        both that are dropped by both, by different rules (`moved`)."""
        kept = {side: f"(decision_{side} IS NOT DISTINCT FROM 'keep')" for side in "ab"}
        both = "(here_a AND here_b)"
        row = self.old.rows(
            f"""SELECT count(*) FILTER ({both}) AS both, count(*) FILTER (here_b IS NULL) AS old_alone,
            count(*) FILTER (here_a IS NULL) AS new_alone, count(*) FILTER ({kept["a"]} AND {kept["b"]}) AS kept,
            count(*) FILTER ({kept["b"]} AND NOT {kept["a"]}) AS entered,
            count(*) FILTER ({kept["a"]} AND NOT {kept["b"]}) AS left,
            count(*) FILTER ({both} AND NOT {kept["a"]} AND NOT {kept["b"]} AND (rule_a, decision_a, stage_a)
            IS DISTINCT FROM (rule_b, decision_b, stage_b)) AS moved FROM pairs"""
        )[0]
        return {name: int(value) for name, value in row.items()}

    def rules(self, side: str) -> list[dict[str, Any]]:
        """Of the documents that entered, by what the old run decided them; of those that left, by what the new one did:
        rule (None where the other run never saw the document), decision, documents, characters; most documents first."""
        other, condition = _side(side)
        return self.old.rows(
            f"""SELECT rule_{other} AS rule, decision_{other} AS decision, count(*) AS documents,
            sum(chars)::BIGINT AS chars FROM pairs WHERE {condition} GROUP BY ALL
            ORDER BY documents DESC, rule NULLS LAST, decision"""
        )

    def values(self) -> list[dict[str, Any]]:
        """Columns that both ledgers measured, by how many documents of both have another value now (null is a value)."""
        measured = [
            {c["name"] for c in output.manifest["columns"]} & {*output.columns} for output in (self.old, self.new)
        ]
        names = sorted(measured[0] & measured[1])
        if not names:
            return []
        key = "source_file, source_row" if self.by == "place" else "source_hash, nth"
        tallies = ", ".join(
            f"count(*) FILTER (a.{quoted_name(n)} IS DISTINCT FROM b.{quoted_name(n)}) AS {quoted_name(n)}"
            for n in names
        )
        row = self.old.rows(f"SELECT {tallies} FROM a JOIN b USING ({key})")[0]
        moved = [{"column": name, "documents": int(count)} for name, count in row.items() if count]
        return sorted(moved, key=lambda one: (-one["documents"], one["column"]))

    # --- documents

    def places(self, side: str, most: int) -> list[dict[str, Any]]:
        """Some documents that entered or left, by draw: source_file_a, source_row_a, source_file_b, source_row_b (None
        where the run has no such document)."""
        _, condition = _side(side)
        draw = "md5(concat(coalesce(source_file_b, source_file_a), '#', coalesce(source_row_b, source_row_a)))"
        names = ", ".join(f"{name}_{side}" for side in "ab" for name in ("source_file", "source_row"))
        return self.old.rows(f"SELECT {names} FROM pairs WHERE {condition} ORDER BY {draw} LIMIT {most}")

    def table(self) -> pa.Table:
        """Every document that entered or left: change, where it stands in both runs (None where it does not), decision and
        rule of both, characters."""
        return self.old.connection.sql(self._changes()).to_arrow_table()

    def write(self, path: str) -> int:
        """`table` into a Parquet or CSV file, by its ending, row by row. Returns their number. RecipeError for another
        ending."""
        if not path.endswith((".parquet", ".csv")):
            raise RecipeError(f"--to {path}: write to a file that ends in .parquet or .csv")
        form = "PARQUET" if path.endswith(".parquet") else "CSV, HEADER"
        copy = f"COPY ({self._changes()}) TO {quoted_text(path)} (FORMAT {form})"
        return int(self.old.connection.execute(copy).fetchall()[0][0])

    def _changes(self) -> str:
        named = [f"{name}_{side} AS {name}_{label}" for side, label in (("a", "old"), ("b", "new")) for name in _TOLD]
        selects = [
            f"SELECT {quoted_text(side)} AS change, {', '.join(named)}, chars FROM pairs WHERE {_side(side)[1]}"
            for side in SIDES
        ]
        return f"SELECT * FROM ({' UNION ALL '.join(selects)}) ORDER BY ALL"


_TOLD = ("source_file", "source_row", "decision", "rule")


def _side(side: str) -> tuple[str, str]:
    """Which run did not keep them, and the condition over `pairs`."""
    kept, other = ("b", "a") if side == "entered" else ("a", "b")
    return other, f"decision_{kept} IS NOT DISTINCT FROM 'keep' AND decision_{other} IS DISTINCT FROM 'keep'"


# --- as lines -----------------------------------------------------------------------------------------------------


def told(difference: Difference, most: int, chars: int) -> Iterator[str]:
    """The lines that `tamis diff` prints. most: samples of each side."""
    old, new, counts = difference.old, difference.new, difference.counts()
    for label, output in (("old", old), ("new", new)):
        found = output.manifest["counts"]
        observed = " (an observing run: what it would keep)" if output.manifest["recipe"].get("observe") else ""
        yield f"{label}     {output.name}: {found['rows']:,} read, {found['kept']:,} kept{observed}"
    same = "file and row" if difference.by == "place" else "original text"
    yield (
        f"inputs  {plural(counts['both'], 'document')} in both, by {same}; {counts['old_alone']:,} in old alone, "
        f"{counts['new_alone']:,} in new alone"
    )
    yield f"kept    {counts['kept']:,} by both, {counts['left']:,} left, {counts['entered']:,} entered"
    if counts["moved"]:
        yield f"moved   {plural(counts['moved'], 'document')} kept by neither, decided by another rule now"
    for side, heading in (
        ("left", "what the new run decides them by"),
        ("entered", "what the old run decided them by"),
    ):
        if counts[side]:
            yield from ["", f"{side}: {heading}"]
            yield from _table(difference.rules(side))
            yield from _samples(difference, side, most, chars)
    values = difference.values()
    if values:
        yield from ["", "measured otherwise, of the documents in both inputs"]
        yield from columns((f"  {v['column']}", f"{v['documents']:,}") for v in values[:LISTED])
        if len(values) > LISTED:
            yield f"  and {len(values) - LISTED} more columns"


def _table(rules: Sequence[dict[str, Any]]) -> Iterator[str]:
    def name(row: dict[str, Any]) -> str:
        if row["decision"] is None:
            return "(not in its input)"
        return row["rule"] or f"({row['decision']})"

    shown = [("  rule", "documents", "characters")]
    shown += [(f"  {visible(name(r))}", f"{r['documents']:,}", f"{r['chars'] or 0:,}") for r in rules[:LISTED]]
    yield from columns(shown, right=(1, 2))
    if len(rules) > LISTED:
        yield f"  and {len(rules) - LISTED} more rules"


def _samples(difference: Difference, side: str, most: int, chars: int) -> Iterator[str]:
    keeps, label = (difference.new, "b") if side == "entered" else (difference.old, "a")
    other = difference.old if side == "entered" else difference.new
    away = "a" if side == "entered" else "b"
    texts = TextOf(keeps)
    for place in difference.places(side, most):
        row = keeps.row(place[f"source_file_{label}"], place[f"source_row_{label}"])
        assert row is not None
        yield from ["", f"  --- {name_of(row)}"]
        if row["url"]:
            yield f"  url     {cut(visible(row['url']), 200)}"
        there = place[f"source_file_{away}"]
        elsewhere = other.row(there, place[f"source_row_{away}"]) if there is not None else None
        told_there = fate(other, elsewhere) if elsewhere else "not in its input"
        first, second = (fate(keeps, row), told_there) if side == "left" else (told_there, fate(keeps, row))
        yield f"  old     {first}"
        yield f"  new     {second}"
        text, missing = texts(row)
        if text is None:
            yield f"  text    cannot be shown: {visible(missing)}"
        elif chars:
            yield f"  text    {cut(visible(' '.join(text[: 4 * chars].split())), chars)}"
