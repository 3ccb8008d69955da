from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import xxhash

from tamis.pipeline.json_sink import JsonLinesSink, json_lines, sql_type

NESTED = pa.struct([("a", pa.list_(pa.float32())), ("b", pa.map_(pa.string(), pa.int64())), ("c", pa.timestamp("us"))])
# type, value, what the line says
VALUES: list[tuple[pa.DataType, Any, str]] = [
    (pa.string(), 'é"\n\x01\u2028', '"é\\"\\n\\u0001\u2028"'),
    (pa.large_string(), "", '""'),
    (pa.int64(), 2**62, str(2**62)),
    (pa.uint64(), 2**64 - 1, str(2**64 - 1)),
    (pa.bool_(), True, "true"),
    (pa.float32(), np.float32(0.1), "0.1"),
    (pa.float64(), 0.1 + 0.2, "0.30000000000000004"),
    (pa.float64(), 3.0, "3.0"),
    (pa.float64(), 1e300, "1e+300"),
    (pa.float64(), float("nan"), "null"),
    (pa.float32(), float("-inf"), "null"),
    (pa.date32(), date(2024, 1, 31), '"2024-01-31"'),
    (pa.timestamp("s"), datetime(2024, 1, 31, 12), '"2024-01-31T12:00:00"'),
    (pa.timestamp("ms", "UTC"), datetime(2024, 1, 31, 12, tzinfo=UTC), '"2024-01-31T12:00:00.000Z"'),
    (pa.time64("us"), time(1, 2, 3), '"01:02:03.000000"'),
    (pa.decimal128(10, 2), Decimal("1.50"), "1.50"),
    (pa.null(), None, "null"),
    (
        NESTED,
        {"a": [np.float32(0.1), float("nan"), None], "b": [("x", 1)], "c": datetime(2024, 1, 1)},
        '{"a":[0.1,null,null],"b":{"x":1},"c":"2024-01-01T00:00:00"}',
    ),
]


@pytest.mark.parametrize(("kind", "value", "line"), VALUES, ids=lambda x: str(x) if isinstance(x, pa.DataType) else "")
def test_values_are_json_that_reads_back_as_the_same(kind: pa.DataType, value: Any, line: str) -> None:
    table = pa.table({"x": pa.array([value, None], kind)})
    lines = json_lines(table).to_pylist()
    assert lines == [f'{{"x":{line}}}\n', '{"x":null}\n']
    assert all(json.loads(one) for one in lines)
    if line != "null" and sql_type(kind) != "JSON":
        text = line if line.startswith(("{", "[")) else json.dumps(json.loads(line))
        connection: Any = duckdb.connect(":memory:")
        query = f"SELECT CAST('{text.replace(chr(39), chr(39) * 2)}'::JSON AS {sql_type(kind)})"
        assert len(connection.sql(query).to_arrow_table()) == 1


def frames(data: bytes) -> list[bytes]:
    """The frames of a zstd file, found by their magic number and read alone."""
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"\x28\xb5\x2f\xfd"]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def written(table: pa.Table, pieces: int, frame_bytes: int) -> bytes:
    out = io.BytesIO()
    with JsonLinesSink(out, table.schema, frame_bytes) as sink:
        for at in range(0, len(table), pieces):
            sink.write(table.slice(at, pieces))
    assert sink.rows == len(table)
    assert sink.bytes == len(out.getvalue())
    assert sink.hash == xxhash.xxh3_128_hexdigest(out.getvalue())
    return out.getvalue()


def test_bytes_do_not_depend_on_how_rows_arrive_and_every_frame_holds_whole_lines() -> None:
    rows = 500
    table = pa.table(
        {"n": range(rows), "text": pa.array([f"line {n} " * (n % 40) for n in range(rows)], pa.large_string())}
    )
    whole = written(table, rows, 5000)
    assert all(written(table, pieces, 5000) == whole for pieces in (1, 7, 499))
    held = []
    for frame in frames(whole):
        with pa.input_stream(pa.BufferReader(frame), compression="zstd") as stream:
            found = stream.read()
        assert found.endswith(b"\n")
        lines = found.splitlines(keepends=True)
        assert len(b"".join(lines[:-1])) < 5000  # the last line fills the frame
        held += [json.loads(line)["n"] for line in lines]
    assert held == list(range(rows))
    assert len(frames(whole)) > 5


def test_a_failed_block_ends_no_file() -> None:
    out = io.BytesIO()

    def fail() -> None:
        with JsonLinesSink(out, pa.schema([("n", pa.int64())])) as sink:
            sink.write(pa.table({"n": [1]}))
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert out.getvalue() == b""
