"""What a reader yields: batches of rows with the system columns, and what became of row groups and files.

Invariant: a row's values never depend on the batch it comes in. A text that cannot be used is judged here, for every
format: its row stays, with an empty text and the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .listing import InputFile
from .schema import conform, label


@dataclass(frozen=True)
class Segment:
    """A piece of a unit: `file` indexes the listing; row groups [start, stop), 0 and 0 for a whole JSON Lines file;
    `first_row`: the row in the file at which group `start` begins."""

    file: int
    start: int
    stop: int
    first_row: int


@dataclass(frozen=True)
class Batch:
    """Rows in file order. `table`: doc_id string, source_file string, source_row int64, then, if the text was asked for,
    source_hash string (xxh3-128 of the original text bytes as 32 hex digits, null where the text is null), text
    large_string (no nulls; empty where there is a reason), reason string (null: nothing wrong; null_text, invalid_utf8,
    too_long, `bad_line: line N: why`); then url and date string (ISO 8601) and the columns asked for."""

    table: pa.Table


@dataclass(frozen=True)
class GroupEnd:
    """After the batches of a row group. With an `error` all that was yielded for it is void, and its `rows`, as the
    footer counts them, are to be quarantined. JSON Lines: one at the end, group 0, no error."""

    group: int
    rows: int
    error: str | None = None


@dataclass(frozen=True)
class FileLost:
    """The file, or the rest of it, cannot be read. `bytes`: from the break to the end of the file as stored, at least 1.
    What was yielded before counts."""

    file: str
    bytes: int
    error: str


def judge_texts(raw: pa.Array, max_doc: int) -> dict[str, pa.Array]:
    """source_hash, text and reason of a large_binary column of original text bytes."""
    count = len(raw)
    missing = np.asarray(raw.is_null())
    long = np.asarray(pc.fill_null(pc.greater(pc.binary_length(raw), max_doc), False))
    try:
        raw.cast(pa.large_string())
        broken = np.zeros(count, bool)
    except pa.ArrowInvalid:
        # rare: only a batch that holds such a text pays for a look at each one
        broken = np.array([not missing[i] and not _is_utf8(raw[i].as_buffer()) for i in range(count)])
    reasons = np.full(count, None, object)
    reasons[broken], reasons[long], reasons[missing] = "invalid_utf8", "too_long", "null_text"
    clean = raw
    if (unusable := missing | long | broken).any():
        clean = pc.if_else(pa.array(unusable), pa.scalar(b"", pa.large_binary()), raw)
    return {
        "source_hash": hashes(raw),
        "text": clean.cast(pa.large_string()),
        "reason": pa.array(reasons, pa.string()),
    }


def hashes(raw: pa.Array) -> pa.Array:
    """xxh3-128 of each value of a large_binary array as 32 hex digits; null for null. 8 GB/s on texts of 3.6 kB, so the
    Python loop over documents is a hundredth of the reading."""
    _, offset_buffer, data_buffer = raw.buffers()
    if not len(raw):
        return pa.array([], pa.string())
    ends = np.frombuffer(offset_buffer, np.int64)[raw.offset : raw.offset + len(raw) + 1].tolist()
    data = memoryview(data_buffer if data_buffer is not None else b"")
    digest = xxhash.xxh3_128_hexdigest
    values = [digest(data[start:end]) for start, end in pairwise(ends)]
    return pa.array(values, pa.string(), mask=np.asarray(raw.is_null()))


def assemble(
    file: InputFile,
    rows: np.ndarray,
    *,
    ids: pa.Array | None,
    texts: Mapping[str, pa.Array],
    url: pa.Array | None,
    date: pa.Array | None,
    columns: Sequence[str],
    values: Mapping[str, pa.Array],
    schema: pa.Schema,
) -> pa.Table:
    """A batch's table. `values`: what the file holds of `columns`; the others are the file's tags, or null. All are
    cast to `schema`: ArrowInvalid where a value does not fit."""
    count = len(rows)
    found: dict[str, pa.Array] = {
        "doc_id": _doc_ids(file, rows, ids),
        "source_file": pa.repeat(pa.scalar(file.name, pa.string()), count),
        "source_row": pa.array(rows, pa.int64()),
        **texts,
        "url": pa.nulls(count, pa.string()) if url is None else label(url),
        "date": pa.nulls(count, pa.string()) if date is None else label(date),
    }
    for name in columns:
        kind = schema.field(name).type
        if name in values:
            found[name] = conform(values[name], kind)
        elif file.tags.get(name) is not None:
            found[name] = pa.repeat(pa.scalar(file.tags[name]).cast(kind), count)
        else:
            found[name] = pa.nulls(count, kind)
    return pa.table(found)


def in_batches(pieces: Iterable[pa.Table], batch_bytes: int) -> Iterator[Batch]:
    """Joins small pieces and cuts large ones, so that a batch has at most about `batch_bytes` (one row may have more)."""
    held: list[pa.Table] = []
    size = 0
    for piece in pieces:
        for part in _cut(piece, batch_bytes):
            if held and size + part.nbytes > batch_bytes:
                yield Batch(pa.concat_tables(held).combine_chunks())
                held, size = [], 0
            held.append(part)
            size += part.nbytes
    if held:
        yield Batch(pa.concat_tables(held).combine_chunks())


def _cut(table: pa.Table, batch_bytes: int) -> Iterator[pa.Table]:
    if table.nbytes <= batch_bytes or table.num_rows < 2:
        if table.num_rows:
            yield table
        return
    half = table.num_rows // 2
    yield from _cut(table.slice(0, half), batch_bytes)
    yield from _cut(table.slice(half), batch_bytes)


def _doc_ids(file: InputFile, rows: np.ndarray, ids: pa.Array | None) -> pa.Array:
    labels = None if ids is None else label(ids)
    if labels is not None and not labels.null_count:
        return labels
    places = pc.binary_join_element_wise(file.name, pa.array(rows, pa.int64()).cast(pa.string()), "#")
    return places if labels is None else pc.coalesce(labels, places)


def _is_utf8(value: pa.Buffer) -> bool:
    try:
        str(value, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
