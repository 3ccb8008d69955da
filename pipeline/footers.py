"""Parquet footers: the row-group table and columns of many files, read by a pool of threads.

Invariant: a file whose footer contradicts itself is reported as broken here, so that what a plan counts is what the
reader will deliver or quarantine.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..stages.errors import DataError, SetupError
from .storage import storage_for

THREADS = 32  # a footer is one or two small reads: latency, not bandwidth

# What pyarrow raises for bytes that it cannot make sense of.
BROKEN = (OSError, pa.ArrowException, ValueError, OverflowError, UnicodeDecodeError)


@dataclass(frozen=True)
class RowGroup:
    """A Parquet row group: rows; bytes uncompressed and compressed of all columns; uncompressed bytes of the text."""

    rows: int
    bytes: int
    compressed: int
    text_bytes: int


@dataclass(frozen=True)
class Footer:
    """What is known of a readable file."""

    schema: pa.Schema
    groups: tuple[RowGroup, ...]


def read_footers(files: Iterable[tuple[str, str]]) -> dict[str, Footer | str]:
    """For (URL, name of its text column) each: by URL the footer, or in one line why there is none."""
    wanted = list(files)
    with ThreadPoolExecutor(max(1, min(THREADS, len(wanted)))) as pool:
        return dict(zip((url for url, _ in wanted), pool.map(lambda item: read_footer(*item), wanted)))


def read_footer(url: str, text: str) -> Footer | str:
    """The footer of one file, or why it has none. DataError where the file is gone, SetupError where it cannot be read."""
    storage, path = storage_for(url)
    try:
        stream = storage.open(path)
    except FileNotFoundError as error:
        raise DataError(f"{url} is gone since it was listed") from error
    try:
        parquet = pq.ParquetFile(stream, pre_buffer=False)
        meta, schema = parquet.metadata, parquet.schema_arrow
        groups = tuple(_row_group(meta.row_group(index), text) for index in range(meta.num_row_groups))
    except BROKEN as error:
        if stream.failure is not None:
            raise SetupError(f"{url}: cannot be read: {stream.failure}") from error
        return first_line(error)
    finally:
        stream.close()
    if any(group.rows < 0 for group in groups) or sum(group.rows for group in groups) != meta.num_rows:
        return "the footer's row counts contradict each other"
    names = list(schema.names)
    if len(set(names)) < len(names):
        return f"two columns are called {next(name for name in names if names.count(name) > 1)!r}"
    return Footer(schema, groups)


def first_line(error: BaseException) -> str:
    """What a decoder complained of, in one line for the ledger."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _row_group(group: Any, text: str) -> RowGroup:
    columns = [group.column(index) for index in range(group.num_columns)]
    return RowGroup(
        rows=group.num_rows,
        bytes=sum(column.total_uncompressed_size for column in columns),
        compressed=sum(column.total_compressed_size for column in columns),
        text_bytes=sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text),
    )
