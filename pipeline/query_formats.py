"""The rows of a query as a table for people, or as CSV, JSON Lines or Parquet.

Invariant: a file holds every row and every value exactly; a table says how many rows it leaves out, and nothing in it
can act on the terminal.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..stages.errors import RecipeError
from .storage import storage_for
from .terminal import columns, cut, plural, value, visible

Format = Literal["table", "csv", "json", "parquet"]
ROWS = 40  # of a table
CELL = 60  # characters of a cell, in a table that is not too wide
BATCH_ROWS = 10_000
ENDINGS: dict[str, Format] = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".txt": "table"}


def format_of(asked: Format | None, to: str | None) -> Format:
    """The format that was asked for, else that of the file's name, else a table. RecipeError."""
    if asked == "parquet" and to is None:
        raise RecipeError("--format parquet needs --to FILE")
    if asked is not None or to is None:
        return asked or "table"
    ending = next((e for e in ENDINGS if to.endswith(e)), None)
    if ending is None:
        raise RecipeError(f"--to {to}: cannot tell the format by its name; add --format csv, json, parquet or table")
    return ENDINGS[ending]


def write(relation: Any, form: Format, to: str) -> None:
    """Every row into a file, which appears whole or not at all."""
    storage, name = storage_for(to)
    with storage.writer(name) as file:
        if form == "parquet":
            reader = relation.to_arrow_reader(BATCH_ROWS)
            with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch)
            return
        lines = table(relation, None, None) if form == "table" else texts(relation, form)
        for line in lines:
            file.write(f"{line}\n".encode())


def texts(relation: Any, form: Format) -> Iterator[str]:
    """Lines of CSV (a header first; lists and structs as JSON, null as nothing) or one JSON object per row."""
    reader = relation.to_arrow_reader(BATCH_ROWS)
    names = reader.schema.names
    if form == "csv":
        yield _csv(names)
    for batch in reader:
        for row in batch.to_pylist():
            if form == "csv":
                yield _csv([_cell(found) for found in row.values()])
            else:
                yield json.dumps(row, default=_plain)


def _csv(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _cell(found: Any) -> Any:
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, list | dict):
        return json.dumps(found, default=_plain, ensure_ascii=False)
    return _plain(found) if isinstance(found, datetime.date | bytes) else found


def _plain(found: Any) -> Any:
    """What JSON has no kind for: times as ISO 8601, decimals as numbers, bytes as hex digits."""
    if isinstance(found, datetime.date | datetime.time):
        return found.isoformat()
    if isinstance(found, decimal.Decimal):
        return int(found) if found == found.to_integral_value() else float(found)
    return found.hex() if isinstance(found, bytes) else str(found)


def table(relation: Any, most: int | None, width: int | None) -> Iterator[str]:
    """Aligned columns, or one line per value where these would be wider than `width`; at most `most` rows, and then the
    number of all. None: no bound."""
    found = relation if most is None else relation.limit(most)
    names, types, rows = relation.columns, found.to_arrow_table().schema.types, found.fetchall()
    numeric = [i for i, kind in enumerate(types) if _is_number(kind)]
    cells = [[_shown(one) for one in row] for row in rows]
    lines = columns([[visible(name) for name in names], *cells], right=numeric)
    if width is None or all(len(line) <= width for line in lines):
        yield from lines
    else:
        yield from _upright(names, rows, width)
    total = len(rows) if most is None or len(rows) < most else relation.count("*").fetchall()[0][0]
    if total > len(rows):
        yield f"… {plural(total - len(rows), 'more row')} of {total:,}: --rows N, or --to FILE.csv for all of them"


def _upright(names: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> Iterator[str]:
    left = max(len(visible(name)) for name in names)
    for number, row in enumerate(rows):
        yield f"--- row {number + 1}"
        for name, found in zip(names, row, strict=True):
            yield f"{visible(name):{left}}  {cut(_text(found), max(20, width - left - 2))}".rstrip()


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _shown(found: Any) -> str:
    return cut(_text(found), CELL)


def _text(found: Any) -> str:
    return visible(found) if isinstance(found, str) else value(found)


def safe_for(stream: Any, line: str) -> str:
    """The line as it is for a file or a pipe; for a terminal without characters that act on it."""
    return visible(line) if stream is sys.stdout and stream.isatty() else line
