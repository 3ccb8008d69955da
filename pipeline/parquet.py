"""The one way Tamis writes Parquet.

Invariant: the bytes of a file depend on its rows and schema alone, never on how they arrived: row groups are cut by
rows and bytes from the start of the file, chunks are combined, and codec, level, page size, dictionary use, statistics,
page checksums and metadata are fixed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

GROUP_BYTES = 64_000_000  # of text in one row group
GROUP_ROWS = 1 << 17
PIECES = 64  # held at most: a table of a few rows and many columns weighs more than its values


@dataclass(frozen=True)
class Layout:
    """How one kind of file is laid out. `dictionary`: columns with few values; `bloom`: columns looked up by value."""

    level: int = 3
    group_rows: int = GROUP_ROWS
    group_bytes: int = GROUP_BYTES
    dictionary: tuple[str, ...] = ()
    bloom: tuple[str, ...] = ()
    page_index: bool = False


class ParquetSink:
    """`with ParquetSink(file, schema, layout) as sink:` writes tables to an open binary file; `rows`, `bytes` and
    `hash` describe it afterwards. Where the block fails nothing more goes to the file, not even a footer."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, layout: Layout) -> None:
        self.file = Hashing(file)
        self.schema, self.layout = schema, layout
        self.rows = 0
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        names = set(schema.names)
        options: dict[str, Any] = {"use_dictionary": [name for name in layout.dictionary if name in names]}
        bloom = [name for name in layout.bloom if name in names]
        if bloom:
            options["bloom_filter_options"] = {name: {"ndv": layout.group_rows, "fpp": 0.01} for name in bloom}
        self._writer = pq.ParquetWriter(
            self.file,
            schema,
            compression="zstd",
            compression_level=layout.level,
            write_statistics=True,
            write_page_checksum=True,
            write_page_index=layout.page_index,
            data_page_size=1 << 20,
            store_schema=True,
            version="2.6",
            **options,
        )

    def write(self, table: pa.Table) -> None:
        """Adds rows; whole row groups go out as soon as their end is known."""
        table = table.select(self.schema.names).cast(self.schema)
        sizes = row_bytes(table)
        start = 0
        while start < len(table):
            room_rows = self.layout.group_rows - self._pending_rows
            ends = np.cumsum(sizes[start : start + room_rows])
            fits = int(np.searchsorted(ends, self.layout.group_bytes - self._pending_bytes, side="right"))
            if self._pending_rows == 0:
                fits = max(fits, 1)  # a row larger than a group is a group of its own
            if fits:
                self._pending.append(table.slice(start, fits))
                if len(self._pending) >= PIECES:
                    self._pending = [pa.concat_tables(self._pending).combine_chunks()]
                self._pending_rows += fits
                self._pending_bytes += int(ends[fits - 1])
            start += fits
            if start < len(table) or self._pending_rows >= self.layout.group_rows:
                self.flush()

    def flush(self) -> None:
        """Ends the row group here."""
        if self._pending_rows:
            table = pa.concat_tables(self._pending).combine_chunks()
            self._writer.write_table(table, row_group_size=self._pending_rows)
            self.rows += self._pending_rows
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
                self._writer.close()
        except BaseException:
            error = error or OSError()
            raise
        finally:
            if error is not None:
                self.file.discard = True
                self._writer.close()

    @property
    def bytes(self) -> int:
        return self.file.written

    @property
    def hash(self) -> str:
        return self.file.hash.hexdigest()


class Hashing:
    """A write-only file that hashes and counts what goes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash, self.written = file, xxhash.xxh3_128(), 0
        self.discard = False  # the file is closed or withdrawn; the Parquet writer does not know

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if self.discard:
            return view.nbytes
        self.hash.update(view)
        self.written += view.nbytes
        self.file.write(view)
        return view.nbytes

    def flush(self) -> None:
        if not self.discard:
            self.file.flush()

    def close(self) -> None:
        """The owner of the file closes it."""

    @property
    def closed(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self.written


def row_bytes(table: pa.Table) -> np.ndarray:
    """int64 bytes of each row's text column (0 where there is none), by which row groups are cut."""
    if "text" not in table.schema.names:
        return np.zeros(len(table), np.int64)
    return pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy().astype(np.int64)


def write_table(storage: Any, path: str, tables: Iterable[pa.Table], schema: pa.Schema, layout: Layout) -> ParquetSink:
    """Writes a whole file; returns the closed sink with rows, bytes and hash."""
    with storage.writer(path) as file, ParquetSink(file, schema, layout) as sink:
        for table in tables:
            sink.write(table)
    return sink
