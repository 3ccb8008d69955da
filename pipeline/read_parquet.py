"""Reads row groups of a Parquet file as batches; a row group is used whole or not at all.

Invariant: what is yielded, and the error of a row group that cannot be decoded, are the same at every batch size.
Memory: one batch, one row group's read buffers and its largest page; never the file or a whole row group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .footers import BROKEN, first_line
from .listing import InputFile, Listing, Source, open_listed, stop_if_unreadable
from .rows import Batch, FileLost, GroupEnd, Segment, assemble, in_batches, judge_texts
from .schema import Roles, conform, roles
from .storage import InputStream

READ_BUFFER = 4 << 20  # per column: pages stream through it, so a column chunk is never held whole
MOST_ROWS = 2048  # per step of decoding: the footer's bytes per row say little of texts stored as a dictionary


def read_parquet(
    listing: Listing,
    source: Source,
    segment: Segment,
    columns: Sequence[str],
    *,
    text: bool,
    max_doc: int,
    batch_bytes: int,
    groups: Collection[int] | None,
) -> Iterator[Batch | GroupEnd | FileLost]:
    """See `readers.read_segment`."""
    file = listing.files[segment.file]
    if file.error is not None:
        if groups is None:
            yield FileLost(file.name, max(1, file.size), file.error)
        return
    wanted = [group for group in range(segment.start, segment.stop) if groups is None or group in groups]
    if not wanted:
        return
    stream = open_listed(file)
    try:
        try:
            parquet = pq.ParquetFile(stream, pre_buffer=False, buffer_size=READ_BUFFER, page_checksum_verification=True)
        except BROKEN as error:
            stop_if_unreadable(stream, file, error)
            yield from (GroupEnd(group, file.groups[group].rows, first_line(error)) for group in wanted)
            return
        for group in wanted:
            first = segment.first_row + sum(one.rows for one in file.groups[segment.start : group])
            reader = _Group(parquet, listing, source, file, group, first, columns, text, max_doc)
            error = yield from reader.batches(stream, batch_bytes)
            yield GroupEnd(group, file.groups[group].rows, error)
    finally:
        stream.close()


class _Group:
    """One row group on its way from pages to batches."""

    def __init__(
        self,
        parquet: pq.ParquetFile,
        listing: Listing,
        source: Source,
        file: InputFile,
        group: int,
        first: int,
        columns: Sequence[str],
        text: bool,
        max_doc: int,
    ) -> None:
        self.parquet, self.file, self.group, self.first = parquet, file, group, first
        self.schema, self.columns, self.text, self.max_doc = listing.columns, columns, text, max_doc
        self.rows = file.groups[group].rows
        self.roles: Roles | None = None
        if self.rows:
            self.roles = roles(source, parquet.schema_arrow.names, file.name, through=file.run is not None)

    def batches(self, stream: InputStream, batch_bytes: int) -> Iterator[Batch]:
        """The batches, then (as the generator's value) why they are void, or None."""
        if self.roles is None:
            return None
        done = 0
        batches = in_batches(self._pieces(self.roles, batch_bytes), batch_bytes)
        while True:
            try:
                batch = next(batches, None)
            except MemoryError:
                raise  # the machine's fault, not the file's: another try may fit
            except BROKEN as error:
                stop_if_unreadable(stream, self.file, error)
                return self._diagnosis(self.roles) or first_line(error)
            if batch is None:
                return None if done == self.rows else f"{done} rows where the footer counts {self.rows}"
            done += batch.table.num_rows
            yield batch

    def _inputs(self, found: Roles) -> list[str]:
        """The file's columns to decode, each once, the text first."""
        passed = [found.passed[name] for name in self.columns if name in found.passed]
        names = [found.text if self.text else None, found.id, found.url, found.date, *passed]
        return list(dict.fromkeys(name for name in names if name is not None))

    def _pieces(self, found: Roles, batch_bytes: int) -> Iterator[pa.Table]:
        meta = self.file.groups[self.group]
        step = max(1, min(MOST_ROWS, batch_bytes // 4 // max(1, meta.bytes // meta.rows)))
        inputs = self._inputs(found)
        if not inputs:
            for start in range(0, self.rows, MOST_ROWS):
                yield self._table(found, {}, start, min(MOST_ROWS, self.rows - start))
            return
        start = 0
        for decoded in self.parquet.iter_batches(step, [self.group], inputs, use_threads=False):
            yield self._table(found, {name: decoded.column(name) for name in inputs}, start, decoded.num_rows)
            start += decoded.num_rows

    def _table(self, found: Roles, data: dict[str, pa.Array], start: int, count: int) -> pa.Table:
        return assemble(
            self.file,
            np.arange(self.first + start, self.first + start + count, dtype=np.int64),
            ids=data.get(found.id) if found.id else None,
            texts=judge_texts(_text_bytes(data[found.text]), self.max_doc) if self.text else {},
            url=data.get(found.url) if found.url else None,
            date=data.get(found.date) if found.date else None,
            columns=self.columns,
            values={out: data[name] for out, name in found.passed.items() if name in data},
            schema=self.schema,
        )

    def _diagnosis(self, found: Roles) -> str | None:
        """The first column, in a fixed order, that fails when it is read alone in steps of a fixed size: batches of
        other sizes meet the bad pages of several columns in another order, and the ledger must not show that."""
        targets = {found.passed[out]: self.schema.field(out).type for out in self.columns if out in found.passed}
        for name in self._inputs(found):
            try:
                for decoded in self.parquet.iter_batches(MOST_ROWS, [self.group], [name], use_threads=False):
                    if name in targets:
                        conform(decoded.column(name), targets[name])
            except MemoryError:
                raise
            except BROKEN as error:
                return f"column {name}: {first_line(error)}"
        return None


def _text_bytes(column: pa.Array) -> pa.Array:
    """Any kind of string column as large_binary, unchecked: the original bytes."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.large_binary())
    return column.cast(pa.large_binary())
