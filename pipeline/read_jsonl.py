"""Reads a JSON Lines file as batches: line ends are counted here, and a line that does not parse is one row.

Invariant: `source_row` is the number of the line, from 0, blank lines included, so a row is found again with any editor;
a line that cannot be parsed costs that line only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .json_lines import as_string, converter, extra_json, parse_line, text_bytes
from .lines import BrokenStream, blocks, lines
from .listing import InputFile, Listing, Source, jsonl_columns, open_listed, stop_if_unreadable
from .rows import Batch, FileLost, GroupEnd, Segment, assemble, in_batches, judge_texts
from .schema import EXTRA

LINE_LIMIT = 8  # times `max_doc`: every byte of a text may be escaped in six
BOM = b"\xef\xbb\xbf"


def read_jsonl(
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
    """See `readers.read_segment`. The whole file is group 0; its GroupEnd comes before a FileLost."""
    file = listing.files[segment.file]
    if groups is not None and 0 not in groups:
        return
    stream = open_listed(file)
    table = _Rows(listing, source, file, columns, text, max_doc)
    lost: BrokenStream | None = None
    count = 0

    def pieces() -> Iterator[pa.Table]:
        nonlocal lost
        size = 0
        try:
            for number, line in enumerate(lines(blocks(stream, file.url), max_doc * LINE_LIMIT)):
                if line is None:
                    table.add_bad(number, f"longer than {max_doc * LINE_LIMIT} bytes")
                    continue
                if number == 0:
                    line = line.removeprefix(BOM)
                if not line or line.isspace():
                    continue
                table.add(number, line)
                size += len(line)
                if size >= batch_bytes:
                    yield table.flush()
                    size = 0
        except BrokenStream as error:
            lost = error
        yield table.flush()

    try:
        for batch in in_batches(pieces(), batch_bytes):
            count += batch.table.num_rows
            yield batch
        if lost is not None:
            stop_if_unreadable(stream, file, lost)
    except Exception as error:
        stop_if_unreadable(stream, file, error)
        raise
    finally:
        stream.close()
    yield GroupEnd(0, count)
    if lost is not None:
        yield FileLost(file.name, max(1, file.size - lost.position), str(lost))


class _Rows:
    """Collects parsed lines column by column. Every typed column is parsed on every line, wanted or not, so that a line
    is good or bad whatever is asked for."""

    def __init__(
        self, listing: Listing, source: Source, file: InputFile, columns: Sequence[str], text: bool, max_doc: int
    ) -> None:
        self.schema, self.file, self.columns, self.text, self.max_doc = listing.columns, file, columns, text, max_doc
        run = listing.run_of(file)
        own_id = "doc_id" if run is not None and "doc_id" in run.columns else "id"
        self.keys = {"id": source.id or own_id, "url": source.url or "url", "date": source.date or "date"}
        self.text_key = source.text
        self.typed = {name: member for name, member in jsonl_columns(source, run, file.name).items() if member[0]}
        self.converters = {name: converter(kind) for name, (_, kind) in self.typed.items()}
        self.taken = frozenset({source.text, *self.keys.values(), *(key for key, _ in self.typed.values())})
        self.want_extra = EXTRA in columns and EXTRA not in self.typed
        self._clear()

    def _clear(self) -> None:
        self.rows: list[int] = []
        self.texts: list[bytes | None] = []
        self.bad: list[str | None] = []
        self.parts: dict[str, list[str | None]] = {part: [] for part in self.keys}
        self.values: dict[str, list[Any]] = {name: [] for name in self.typed}
        self.extra: list[str | None] = []

    def add(self, number: int, line: bytes) -> None:
        try:
            members = parse_line(line.decode("utf-8", "surrogateescape"))
            text = text_bytes(members.get(self.text_key))
            values = {name: self.converters[name](members.get(key)) for name, (key, _) in self.typed.items()}
        except ValueError as error:
            self.add_bad(number, str(error))
            return
        self._append(number, text, None)
        for part, key in self.keys.items():
            self.parts[part].append(as_string(members.get(key)))
        for name, value in values.items():
            self.values[name].append(value)
        if self.want_extra:
            self.extra.append(extra_json(members, self.taken))

    def add_bad(self, number: int, why: str) -> None:
        """A row in place of a line that cannot be used; people count lines from 1."""
        self._append(number, None, f"bad_line: line {number + 1}: {why}")
        for column in (*self.parts.values(), *self.values.values()):
            column.append(None)
        if self.want_extra:
            self.extra.append(None)

    def _append(self, number: int, text: bytes | None, bad: str | None) -> None:
        self.rows.append(number)
        self.texts.append(text)
        self.bad.append(bad)

    def flush(self) -> pa.Table:
        """The rows collected since the last flush."""
        texts: dict[str, pa.Array] = {}
        if self.text:
            texts = judge_texts(pa.array(self.texts, pa.large_binary()), self.max_doc)
            texts["reason"] = pc.coalesce(pa.array(self.bad, pa.string()), texts["reason"])
        parts = {part: pa.array(found, pa.string()) for part, found in self.parts.items()}
        values = {name: pa.array(found, self.typed[name][1]) for name, found in self.values.items()}
        if self.want_extra:
            values[EXTRA] = pa.array(self.extra, pa.string())
        table = assemble(
            self.file,
            np.array(self.rows, np.int64),
            ids=parts["id"],
            texts=texts,
            url=parts["url"],
            date=parts["date"],
            columns=self.columns,
            values=values,
            schema=self.schema,
        )
        self._clear()
        return table
