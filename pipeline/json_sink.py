"""The one way Tamis writes JSON Lines: one object a line, keys in column order, in zstd frames that can be read alone.

Invariant: the bytes of a file depend on its rows and schema alone, never on how they arrived: frames are cut by bytes
from the start of the file, at line ends; level and number formats are fixed here.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.arrow import text_array, text_buffers
from .parquet import Hashing

LEVEL = 3
FRAME_BYTES = 16_000_000  # of lines in one frame
TEXT = pa.large_string()


class JsonLinesSink:
    """`with JsonLinesSink(file, schema) as sink:` writes tables to an open binary file; `rows`, `bytes` and `hash`
    describe it afterwards. Where the block fails nothing more goes to the file."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, frame_bytes: int = FRAME_BYTES) -> None:
        self.file = Hashing(file)
        self.schema, self.frame_bytes = schema, frame_bytes
        self.rows = 0
        self._codec = pa.Codec("zstd", compression_level=LEVEL)
        self._held: list[memoryview] = []
        self._size = 0

    def write(self, table: pa.Table) -> None:
        """Adds rows; a frame goes out as soon as it is full."""
        if not len(table):
            return
        data, offsets = text_buffers(json_lines(table.select(self.schema.names).cast(self.schema)))
        start = 0
        while start < len(offsets) - 1:
            room = self.frame_bytes - self._size
            stop = int(np.searchsorted(offsets, offsets[start] + room, side="left"))
            stop = min(max(stop, start + 1), len(offsets) - 1)  # the line that fills the frame belongs to it
            # copied, so that a short piece does not hold the whole batch
            piece = memoryview(data[offsets[start] : offsets[stop]].tobytes())
            self._held.append(piece)
            self._size += len(piece)
            if self._size >= self.frame_bytes:
                self._flush()
            start = stop
        self.rows += len(table)

    def _flush(self) -> None:
        if self._size:
            self.file.write(self._codec.compress(b"".join(self._held), asbytes=True))
        self._held, self._size = [], 0

    def __enter__(self) -> JsonLinesSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()

    @property
    def bytes(self) -> int:
        return self.file.written

    @property
    def hash(self) -> str:
        return self.file.hash.hexdigest()


def warm() -> None:
    """Compiles the kernel, so that workers find it in the cache."""
    _strings(pa.array(["", None], TEXT))


def json_lines(table: pa.Table) -> pa.Array:
    """large_string, one JSON object with its newline per row. NaN and infinities are null; timestamps are ISO 8601."""
    pieces: list[Any] = []
    for field, column in zip(table.schema, table.columns, strict=True):
        head = ("," if pieces else "{") + json.dumps(field.name, ensure_ascii=False) + ":"
        pieces += [pa.scalar(head, TEXT), json_values(column)]
    return pc.binary_join_element_wise(*pieces, pa.scalar("}\n", TEXT), pa.scalar("", TEXT))


def json_values(column: pa.ChunkedArray) -> pa.Array:
    """large_string, each value as JSON, without nulls."""
    values, kind, types = column.combine_chunks(), column.type, pa.types
    if types.is_string(kind) or types.is_large_string(kind):
        return _strings(values.cast(TEXT))
    if types.is_nested(kind):
        texts = [json.dumps(_plain(v, kind), ensure_ascii=False, separators=(",", ":")) for v in values.to_pylist()]
        return pa.array(texts, TEXT)
    if types.is_duration(kind):
        values = values.cast(pa.int64())
    elif types.is_temporal(kind):
        return _strings(pc.replace_substring(values.cast(TEXT), " ", "T"))
    elif types.is_floating(kind):
        values = pc.if_else(pc.is_finite(values), values, None)
        texts = values.cast(TEXT)
        whole = pc.match_substring_regex(texts, r"\A-?[0-9]+\z")
        return pc.fill_null(
            pc.if_else(whole, pc.binary_join_element_wise(texts, pa.scalar(".0", TEXT), pa.scalar("", TEXT)), texts),
            "null",
        )
    elif types.is_null(kind):
        return pa.array(["null"] * len(values), TEXT)
    return pc.fill_null(values.cast(TEXT), "null")


def _strings(values: pa.Array) -> pa.Array:
    from ..kernels.json_strings import json_strings

    found = text_array(*json_strings(*text_buffers(values)))
    return pc.if_else(pc.is_valid(values), found, pa.scalar("null", TEXT)) if values.null_count else found


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A nested value as json.dumps takes it; a map with string keys is an object, another one a list of pairs."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        pairs = [(_plain(k, kind.key_type), _plain(v, kind.item_type)) for k, v in value]
        return dict(pairs) if pa.types.is_string(kind.key_type) else pairs
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if pa.types.is_nested(kind):
        return [_plain(item, kind.value_type) for item in value]
    if isinstance(value, float):
        if not np.isfinite(value):
            return None
        return float(str(np.float32(value))) if kind == pa.float32() else value
    if isinstance(value, int | str):
        return value
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value)


# --- what a reader must be told -----------------------------------------------------------------------------------

_SQL = {
    pa.bool_(): "BOOLEAN",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    **{pa.type_for_alias(f"int{bits}"): name for bits, name in ((8, "TINYINT"), (16, "SMALLINT"), (32, "INTEGER"))},
    **{pa.type_for_alias(f"uint{bits}"): name for bits, name in ((8, "UTINYINT"), (16, "USMALLINT"), (32, "UINTEGER"))},
    pa.int64(): "BIGINT",
    pa.uint64(): "UBIGINT",
}


def sql_type(kind: pa.DataType) -> str:
    """The DuckDB type as which a column of the lines is to be read."""
    types = pa.types
    if types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else "TIMESTAMP"
    if types.is_time(kind):
        return "TIME"
    if types.is_duration(kind):
        return "BIGINT"
    if types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})" if kind.precision <= 38 else "DOUBLE"
    if types.is_map(kind):
        return f"MAP(VARCHAR, {sql_type(kind.item_type)})" if types.is_string(kind.key_type) else "JSON"
    if types.is_struct(kind):
        members = ", ".join(f"{json.dumps(f.name, ensure_ascii=False)} {sql_type(f.type)}" for f in kind)
        return f"STRUCT({members})"
    if types.is_nested(kind):
        return f"{sql_type(kind.value_type)}[]"
    return _SQL.get(kind, "VARCHAR")


def in_json(kind: pa.DataType) -> bool:
    """Whether JSON has values for a type: everything but bytes."""
    types = pa.types
    if types.is_map(kind):
        return in_json(kind.key_type) and in_json(kind.item_type)
    if types.is_struct(kind):
        return all(in_json(field.type) for field in kind)
    if types.is_nested(kind):
        return in_json(kind.value_type)
    return not (types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))
