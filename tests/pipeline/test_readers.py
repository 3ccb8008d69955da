"""Readers: sound input comes out as it is, in every format, at every batch size, piece by piece."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.pipeline.json_lines import extra_json, parse_line
from tamis.pipeline.lines import lines
from tamis.pipeline.listing import Source, list_input
from tamis.pipeline.readers import Batch, GroupEnd, Segment, read_segment
from tamis.pipeline.storage import Storage
from tamis.stages.errors import DataError

from . import broken_files as make
from .reading import read_all

SIZES = (1, 3_000, 100_000, 1 << 24)


def expected(table: pa.Table, file: str) -> list[dict[str, Any]]:
    """What a reader should give for `documents`, row by row, by Python alone."""
    return [
        {
            "doc_id": row["id"] if row["id"] is not None else f"{file}#{i}",
            "source_file": file,
            "source_row": i,
            "source_hash": xxhash.xxh3_128(row["text"].encode()).hexdigest(),
            "text": row["text"],
            "reason": None,
            "url": row["url"],
            "date": row["date"],
            "id": row["id"],
            "score": row["score"],
        }
        for i, row in enumerate(table.to_pylist())
    ]


@pytest.mark.parametrize("batch_bytes", SIZES)
def test_parquet_rows_come_out_as_they_are(tmp_path: Path, batch_bytes: int) -> None:
    out = read_all(make.parquet(tmp_path / "a.parquet"), batch_bytes=batch_bytes)
    assert out.rows == expected(make.documents(1000), "a.parquet")
    assert (out.ends, out.groups, out.files) == (4, [], [])
    assert out.largest <= max(batch_bytes, 3_000)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz", "a.ndjson.zst"])
@pytest.mark.parametrize("batch_bytes", SIZES)
def test_json_lines_come_out_as_they_are(tmp_path: Path, name: str, batch_bytes: int) -> None:
    path = make.json_lines(tmp_path / name)
    if name.endswith(".zst"):
        data = path.read_bytes()
        compress = zstandard.ZstdCompressor().compress
        path.write_bytes(compress(data[:9999]) + compress(data[9999:]))  # two frames
    out = read_all(
        path, batch_bytes=batch_bytes, columns=["id", "score", "extra"], source={"columns": {"score": "double"}}
    )
    want = expected(make.documents(200), name)
    assert [{**row, "extra": json.loads(row["extra"])} for row in out.rows] == [
        {**row, "extra": {"meta": {"n": i}}} for i, row in enumerate(want)
    ]
    assert (out.ends, out.groups, out.files) == (1, [], [])


def test_columns_are_read_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = make.parquet(tmp_path / "a.parquet")
    names = ["doc_id", "source_file", "source_row"]
    assert list(read_all(path, columns=[]).rows[0]) == [*names, "source_hash", "text", "reason", "url", "date"]
    assert list(read_all(path, columns=["score"], text=False).rows[0]) == [*names, "url", "date", "score"]
    lines_path = make.json_lines(tmp_path / "b.jsonl")
    assert list(read_all(lines_path, columns=[], text=False).rows[0]) == [*names, "url", "date"]


def test_a_segment_starts_at_its_row_and_reads_the_groups_asked_for(tmp_path: Path) -> None:
    source = Source(files=str(make.parquet(tmp_path / "a.parquet", group=100)))
    listing = list_input([source])
    items = list(
        read_segment(
            listing, [source], Segment(0, 3, 8, 300), [], max_doc=10**6, batch_bytes=10**6, groups={1, 4, 7, 9}
        )
    )
    assert [item.group for item in items if isinstance(item, GroupEnd)] == [4, 7]
    rows = [row for item in items if isinstance(item, Batch) for row in item.table["source_row"].to_pylist()]
    assert rows == [*range(400, 500), *range(700, 800)]


def test_columns_that_a_file_lacks_are_tags_or_null(tmp_path: Path) -> None:
    for name, more in (("dump=a/1", {"x": [1]}), ("dump=b/2", {"lang": ["en"]})):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir()
        pq.write_table(pa.table({"text": ["t"], **more}), path)
    out = read_all(f"{tmp_path}/*/*.parquet", source={"tags": {"crawl": 7}})
    assert [{key: row[key] for key in ("doc_id", "dump", "crawl", "x", "lang", "url")} for row in out.rows] == [
        {"doc_id": "dump=a/1.parquet#0", "dump": "a", "crawl": 7, "x": 1, "lang": None, "url": None},
        {"doc_id": "dump=b/2.parquet#0", "dump": "b", "crawl": 7, "x": None, "lang": "en", "url": None},
    ]


def test_mapped_and_renamed_columns_and_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "body": pa.array(["t"], pa.large_string()).dictionary_encode(),
            "key": pa.array([17], pa.int32()),
            "when": pa.array([86_400_000], pa.timestamp("ms")),
            "link": ["u"],
            "text": ["other"],
            "n_words": pa.array([3], pa.int8()),
        }
    )
    path = make.parquet(tmp_path / "a.parquet", table)
    named = {"text": "body", "id": "key", "date": "when", "url": "link"}
    out = read_all(path, source={**named, "rename": {"n_words": "words"}, "columns": {"n_words": "string"}})
    (row,) = out.rows
    assert (row["text"], row["doc_id"], row["date"], row["url"]) == ("t", "17", "1970-01-02T00:00:00", "u")
    assert {key: row[key] for key in list(row)[8:]} == {"key": 17, "input_text": "other", "words": "3"}


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_every_kind_of_text_column_is_read_alike(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["a", None, "", "é" * 50, "a"]
    column = pa.array(texts).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(texts).cast(kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    out = read_all(tmp_path / "a.parquet", batch_bytes=10)
    assert [row["text"] for row in out.rows] == ["a", "", "", "é" * 50, "a"]
    assert [row["reason"] for row in out.rows] == [None, "null_text", None, None, None]


def test_shards_of_different_schemas_and_column_orders_give_one_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": pa.array([1], pa.int8()), "text": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "k": pa.array([2**40])}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": ["c"], "z": pa.array(["z"])}), tmp_path / "c.parquet")
    out = read_all(f"{tmp_path}/*.parquet")
    assert [(row["text"], row["k"], row["z"]) for row in out.rows] == [
        ("a", 1, None),
        ("b", 2**40, None),
        ("c", None, "z"),
    ]


def test_a_file_without_row_groups_or_with_empty_ones_gives_what_there_is(tmp_path: Path) -> None:
    make.zero_rows(tmp_path / "0.parquet")
    make.empty_groups(tmp_path / "1.parquet")
    make.zero_bytes(tmp_path / "2.parquet")
    make.zero_bytes(tmp_path / "3.jsonl.gz")
    make.zero_bytes(tmp_path / "4.jsonl.zst")
    pq.write_table(pa.table({"other": pa.array([], pa.int8())}), tmp_path / "5.parquet")
    out = read_all(f"{tmp_path}/*")
    assert [row["source_row"] for row in out.rows] == list(range(20))
    assert (out.groups, out.files) == ([], [])


def test_a_changed_file_stops_the_reading(tmp_path: Path) -> None:
    path = make.parquet(tmp_path / "a.parquet")
    source = Source(files=str(path))
    listing = list_input([source])
    make.parquet(path, make.documents(1000, seed=1))
    with pytest.raises(DataError, match="changed since it was measured"):
        read_all(path, listing=listing)
    path.unlink()
    with pytest.raises(DataError, match="gone"):
        read_all(path, listing=listing)


def test_text_is_not_copied_from_row_group_to_row_group(tmp_path: Path) -> None:
    """A batch has one chunk per column, so that stages take views without combining."""
    source = Source(files=str(make.parquet(tmp_path / "a.parquet")))
    listing = list_input([source])
    for item in read_segment(listing, [source], Segment(0, 0, 4, 0), ["score"], max_doc=10**6, batch_bytes=50_000):
        if isinstance(item, Batch):
            assert {column.num_chunks for column in item.table.columns} == {1}


def test_reading_from_s3_gives_what_local_reading_gives(tmp_path: Path, s3: str) -> None:
    for name in ("a.parquet", "b.jsonl.gz"):
        (make.parquet if name.endswith("parquet") else make.json_lines)(tmp_path / "in" / name)
        Storage(f"{s3}/in").write(name, (tmp_path / "in" / name).read_bytes())
    assert read_all(f"{s3}/in/*").facts() == read_all(f"{tmp_path}/in/*").facts()


def test_real_shards_are_read_as_pyarrow_reads_them(shared_data: Path) -> None:
    path = shared_data / "web/web-00003.parquet"
    good = pq.ParquetFile(path).read()
    out = read_all(path, batch_bytes=1 << 20)
    for name in ("id", "text", "url", "date", "lang", "license"):
        assert [row[name] for row in out.rows] == good[name].to_pylist()
    assert out.largest <= max(1 << 20, 2 * max(len(text.encode()) for text in good["text"].to_pylist()))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_a_line_is_parsed_as_pythons_json_parses_it(
    members: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    line = json.dumps(members, ensure_ascii=ascii_only, indent=indent).replace("\n", " \t")
    found = parse_line(f" {line}\r")
    assert {key: value if value is not None else json.loads(raw) for key, (value, raw) in found.items()} == members
    assert json.loads(extra_json(found, frozenset()) or "{}") == members


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(1, 5), st.integers(3, 20))
def test_lines_are_those_of_split_however_the_blocks_fall(parts: list[bytes], step: int, limit: int) -> None:
    data = b"\n".join(parts)
    cut = (data[i : i + step] for i in range(0, len(data), step))
    want = data.split(b"\n")
    want = want[:-1] if want[-1] == b"" else want
    assert list(lines(cut, limit)) == [line if len(line) <= limit else None for line in want]


def test_gzip_members_and_padding_are_one_stream(tmp_path: Path) -> None:
    parts = [gzip.compress(json.dumps({"text": f"t{i}"}).encode() + b"\n") for i in range(3)]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(parts) + b"\0" * 100)
    out = read_all(tmp_path / "a.jsonl.gz")
    assert [row["text"] for row in out.rows] == ["t0", "t1", "t2"]
    assert out.files == []


def test_typed_json_columns_and_everything_else_in_extra(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "id": 12345678901234567890123, "n_ok": 3, "when": "2024-01-31", "tags": ["x", "y"], "z": 1.50},
        {"text": "b", "id": None, "url": {"odd": 1}, "n_ok": None, "flag": True, "s": 7},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    types = {"n_ok": "int", "when": "date", "tags": "list<string>", "flag": "bool", "s": "string"}
    out = read_all(tmp_path / "a.jsonl", source={"columns": types})
    first, second = out.rows
    assert (first["doc_id"], first["n_ok"], str(first["when"]), first["input_tags"]) == (
        "12345678901234567890123",
        3,
        "2024-01-31",
        ["x", "y"],
    )
    assert (second["doc_id"], second["url"], second["flag"], second["s"]) == ("a.jsonl#1", '{"odd": 1}', True, "7")
    assert (first["extra"], second["extra"]) == ('{"z":1.5}', None)
