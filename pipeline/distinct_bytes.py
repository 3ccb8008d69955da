"""How many bytes attributes and ledger of a sample would take if no row were a copy of another.

A draw by doc_id takes all copies of a document together. In the few files of a sample they lie side by side and compress
to nothing; in those of a whole run they are far apart. Invariant: only what is committed is read, and at most `MOST` rows.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import ledger
from .attributes import LAYOUT, Attributes
from .parquet import Layout, ParquetSink
from .plan import Plan
from .receipts import Receipt
from .storage import Storage

MOST = 1 << 15


def step_bytes(plan: Plan, work: Storage, receipts: Sequence[Mapping[str, Receipt]]) -> list[int]:
    """Bytes of the attribute files of every step, its rows distinct."""
    files, hashes = _some_units(plan, work, receipts)
    keep = _first_of_each(hashes)
    found = []
    for index, (step, by_unit) in enumerate(zip(plan.steps, receipts, strict=True)):
        tables = []
        for names in files:
            with work.open(f"{step.folder}/{names[index]}") as file:
                tables.append(pq.read_table(file))
        rows = sum(receipt["rows"] for receipt in by_unit.values())
        found.append(_scaled(pa.concat_tables(tables).filter(keep), LAYOUT, rows, len(by_unit)))
    return found


def ledger_bytes(output: Storage, files: Sequence[Mapping[str, int | str]]) -> int:
    """Bytes of the ledger, its rows distinct. `files`: entries of its files, with `file` and `rows`."""
    with output.open(str(files[0]["file"])) as file:
        parquet = pq.ParquetFile(file)
        groups = range(min(parquet.num_row_groups, max(1, MOST // ledger.LAYOUT.group_rows)))
        table = parquet.read_row_groups(list(groups))
    table = table.filter(_first_of_each(table["source_hash"]))
    layout = replace(
        ledger.LAYOUT, bloom=("doc_id", "url"), group_rows=max(1, min(len(table), ledger.LAYOUT.group_rows))
    )
    return _scaled(table, layout, sum(int(entry["rows"]) for entry in files), len(files))


def _some_units(
    plan: Plan, work: Storage, receipts: Sequence[Mapping[str, Receipt]]
) -> tuple[list[list[str]], pa.ChunkedArray]:
    """Attribute files of the first units, and the source hashes of their rows."""
    files: list[list[str]] = []
    hashes: list[pa.Array] = []
    for unit in plan.units:
        files.append([by_unit[unit.id]["file"] for by_unit in receipts])
        hashes += Attributes(plan, work, files[-1]).read(["source_hash"])["source_hash"].chunks
        if sum(map(len, hashes)) >= MOST:
            break
    return files, pa.chunked_array(hashes, pa.string())


def _first_of_each(hashes: pa.ChunkedArray) -> pa.Array:
    """bool per row: no earlier row has the same value; rows beyond `MOST` are left out."""
    codes = hashes.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    keep = np.zeros(len(codes), np.bool_)
    keep[np.unique(codes, return_index=True)[1]] = True
    keep[MOST:] = False
    return pa.array(keep)


def _scaled(table: pa.Table, layout: Layout, rows: int, files: int) -> int:
    """Bytes of so many rows like these in so many files. What a further row takes is told by the second half of the
    rows: the first ones bring dictionaries along, and the file its footer."""
    half, whole = len(table) // 2, _written(table, layout)
    if not half:
        return whole
    row = (whole - _written(table.slice(0, half), layout)) / (len(table) - half)
    return round(row * rows + max(whole - row * len(table), 0) * files)


def _written(table: pa.Table, layout: Layout) -> int:
    with ParquetSink(io.BytesIO(), table.schema, layout) as sink:
        sink.write(table)
    return sink.bytes
