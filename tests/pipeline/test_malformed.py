"""Malformed input: nothing crashes, nothing is lost without a trace, and the batch size never shows."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.pipeline import storage
from tamis.pipeline.listing import Source, list_input
from tamis.pipeline.readers import FileLost, Segment, read_segment
from tamis.stages.errors import RecipeError, SetupError

from . import broken_files as make
from .reading import Outcome, read_all

SIZES = (1, 3_000, 100_000, 1 << 24)

MAKERS: dict[str, Callable[[Path], Path]] = {
    "zero.parquet": make.zero_bytes,
    "zero.jsonl.gz": make.zero_bytes,
    "html.parquet": make.no_parquet,
    "truncated.parquet": make.truncated,
    "corrupt.parquet": make.corrupt_page,
    "corrupt-two.parquet": lambda path: make.corrupt_page(path, groups=(0, 3), column="score"),
    "undecodable.parquet": make.undecodable_page,
    "odd.parquet": make.odd_texts,
    "no-rows.parquet": make.zero_rows,
    "empty-groups.parquet": make.empty_groups,
    "broken.jsonl": make.broken_json_lines,
    "broken.jsonl.gz": make.broken_json_lines,
    "truncated.jsonl.gz": make.truncated_gzip,
    "corrupt.jsonl.gz": make.corrupt_gzip,
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_batch_size_gives_the_same_rows_and_the_same_losses(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name)
    first, *others = [read_all(path, batch_bytes=size).facts() for size in SIZES]
    for other in others:
        assert other == first


def test_rows_and_losses_add_up_to_what_footers_and_line_ends_show(tmp_path: Path) -> None:
    make.parquet(tmp_path / "good.parquet")
    for name, maker in MAKERS.items():
        maker(tmp_path / name)
    listing = list_input([Source(files=f"{tmp_path}/*")])
    out = read_all(f"{tmp_path}/*", batch_bytes=5000)
    counted = sum(group.rows for file in listing.files for group in file.groups)
    parquet_rows = [row for row in out.rows if row["source_file"].endswith(".parquet")]
    assert len(parquet_rows) + sum(group[2] for group in out.groups) == counted
    lost = {item.file for item in out.files}
    assert lost == {"html.parquet", "truncated.parquet", "truncated.jsonl.gz", "corrupt.jsonl.gz"}
    assert all(0 < item.bytes <= (tmp_path / item.file).stat().st_size for item in out.files)
    places = [(row["source_file"], row["source_row"]) for row in out.rows]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("maker", "column"),
    [
        (make.corrupt_page, "text"),
        (make.corrupt_page, "url"),
        (make.corrupt_page, "score"),
        (make.undecodable_page, "text"),
        (make.undecodable_page, "url"),
    ],
)
def test_a_bad_page_costs_its_row_group_and_nothing_else(
    tmp_path: Path, maker: Callable[..., Path], column: str
) -> None:
    path = maker(tmp_path / "a.parquet", groups=(1, 3), column=column)
    out = read_all(path, batch_bytes=5000)
    assert [(file, group, rows) for file, group, rows, _ in out.groups] == [
        ("a.parquet", 1, 250),
        ("a.parquet", 3, 250),
    ]
    assert all(error.startswith(f"column {column}: ") for *_, error in out.groups)
    texts = make.documents(1000)["text"].to_pylist()
    assert [row["text"] for row in out.rows] == texts[:250] + texts[500:750]
    assert [row["source_row"] for row in out.rows] == [*range(250), *range(500, 750)]


def test_a_bad_page_of_a_column_that_nobody_asks_for_costs_nothing(tmp_path: Path) -> None:
    path = make.corrupt_page(tmp_path / "a.parquet", column="score")
    assert len(read_all(path, columns=[]).rows) == 1000
    assert read_all(path, columns=["score"]).count == 1000
    assert len(read_all(path, columns=["score"]).rows) == 750


def test_with_bad_pages_in_two_columns_the_error_is_the_same_at_every_batch_size(tmp_path: Path) -> None:
    path = make.corrupt_page(tmp_path / "a.parquet", column="text", at=0.9)
    data = bytearray(path.read_bytes())
    meta = pq.read_metadata(path).row_group(1)
    data[meta.column(2).data_page_offset + 40] ^= 0xFF
    path.write_bytes(data)
    errors = {read_all(path, batch_bytes=size).groups[0] for size in SIZES}
    assert len(errors) == 1


def test_a_value_that_the_asked_type_cannot_hold_costs_its_row_group(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"] * 6, "year": ["1", "2", "3", "x", "5", "6"]})
    path = make.parquet(tmp_path / "a.parquet", table, group=2)
    out = read_all(path, source={"columns": {"year": "int64"}})
    assert [row["year"] for row in out.rows] == [1, 2, 5, 6]
    assert [(group, rows) for _, group, rows, _ in out.groups] == [(1, 2)]
    assert "column year" in out.groups[0][3]


def test_texts_that_cannot_be_used_stay_as_rows_with_a_reason_and_the_hash_of_their_bytes(tmp_path: Path) -> None:
    out = read_all(make.odd_texts(tmp_path / "a.parquet"), max_doc=11)
    assert [row["reason"] for row in out.rows] == [
        None,
        "null_text",
        None,
        "too_long",
        "too_long",
        None,
        "invalid_utf8",
        None,
    ]
    assert [row["text"] for row in out.rows] == ["first", "", "", "", "", "schön", "", "last"]
    assert [row["doc_id"] for row in out.rows] == ["a", "b", "b", "a.parquet#3", "c", "a", "d", "a.parquet#7"]
    assert out.rows[1]["source_hash"] is None
    assert out.rows[6]["source_hash"] == xxhash.xxh3_128(b"\xed\xa0\x80").hexdigest()
    reasons = [row["reason"] for row in read_all(make.odd_texts(tmp_path / "a.parquet")).rows]
    assert reasons == [None, "null_text", None, "invalid_utf8", None, None, "invalid_utf8", None]


def test_one_text_of_20_mb_is_a_row_like_others(tmp_path: Path) -> None:
    path = make.huge_text(tmp_path / "a.parquet")
    for size in (1000, 1 << 24):
        out = read_all(path, batch_bytes=size)
        assert [len(row["text"]) for row in out.rows][17] == 20_000_000
        assert out.count == 40
    assert [row["reason"] for row in read_all(path, max_doc=19_999_999).rows].index("too_long") == 17


def test_a_file_without_the_text_column_is_a_recipe_error_with_its_columns(tmp_path: Path) -> None:
    make.parquet(tmp_path / "a.parquet")
    make.no_text_column(tmp_path / "b.parquet")
    with pytest.raises(RecipeError, match=r"b\.parquet: has no column 'text'.*body, date, id, score, url"):
        list_input([Source(files=f"{tmp_path}/*.parquet")])


def test_a_broken_line_costs_that_line_and_is_counted_by_its_number(tmp_path: Path) -> None:
    path = make.broken_json_lines(tmp_path / "a.jsonl")
    raw = path.read_bytes().split(b"\n")
    out = read_all(path, batch_bytes=50)
    blank = {number for number, line in enumerate(raw) if not line.strip()}
    assert [row["source_row"] for row in out.rows] == [number for number in range(len(raw)) if number not in blank]
    good = [row for row in out.rows if row["reason"] is None]
    assert [row["text"] for row in good] == [*(f"text number {i}" for i in range(13)), "no newline at the end"]
    for row in out.rows:
        if row["reason"] is not None:
            assert row["source_row"] % 2 == 1
            assert row["reason"].startswith(f"bad_line: line {row['source_row'] + 1}: ")
            assert (row["text"], row["source_hash"], row["doc_id"]) == ("", None, f"a.jsonl#{row['source_row']}")
    assert len(good) + sum(row["reason"] is not None for row in out.rows) + len(blank) == len(raw)


@pytest.mark.parametrize("depth", [200, 201, 900, 100_000])
def test_the_depth_that_a_line_may_have_does_not_depend_on_the_caller(tmp_path: Path, depth: int) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "t", "x": ' + "[" * depth + "]" * depth + "}\n")

    def deeper(frames: int) -> Outcome:
        return deeper(frames - 1) if frames else read_all(tmp_path / "a.jsonl")

    for frames in (0, 300):
        (row,) = deeper(frames).rows
        assert (row["reason"] is None) == (depth <= 200)


def test_strings_that_are_no_unicode_are_judged_where_they_are_the_text_and_repaired_elsewhere(tmp_path: Path) -> None:
    lines = [
        rb'{"text": "lone \ud800 surrogate", "id": "1"}',
        rb'{"text": "\udcc3\udca9", "id": "2"}',
        rb'{"text": "pair \ud83d\ude00", "id": "3", "k": "\ud83d\ude00"}',
        b'{"text": "bytes \xff", "id": "4"}',
        rb'{"text": "good", "id": "\ud800", "url": "u", "k": "\ud800", "m": [NaN, -Infinity, {"\udfff": 1}]}',
        b'{"text": "good", "id": "\xff5", "k": "\xff", "b": "raw \x01 control"}',
        b'{"text": "nul \x00 and \\u0000", "id": "6", "huge": ' + b"9" * 5000 + b', "dup": 1, "dup": 2}',
        b'\xef\xbb\xbf{"text": "a mark in the middle"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    out = read_all(tmp_path / "a.jsonl")
    assert [row["reason"] for row in out.rows][:7] == ["invalid_utf8"] * 2 + [None, "invalid_utf8"] + [None] * 3
    assert out.rows[3]["source_hash"] == xxhash.xxh3_128(b"bytes \xff").hexdigest()
    assert [row["doc_id"] for row in out.rows][4:6] == ["\ufffd", "\ufffd5"]
    assert out.rows[6]["text"] == "nul \x00 and \x00"
    assert "line 8" in out.rows[7]["reason"]
    for row in out.rows:
        if row["extra"] is not None:
            json.loads(row["extra"], parse_int=str, parse_constant=pytest.fail)
            assert duckdb.execute("SELECT json_valid(?)", [row["extra"]]).fetchone() == (True,)
    assert json.loads(out.rows[4]["extra"]) == {"k": "\ufffd", "m": [None, None, {"\ufffd": 1}]}
    assert json.loads(out.rows[2]["extra"]) == {"k": "😀"}
    assert out.rows[6]["extra"] == '{"huge":' + "9" * 5000 + ',"dup":2}'


def test_a_value_of_another_type_makes_a_bad_line_whether_or_not_its_column_is_asked_for(tmp_path: Path) -> None:
    values = ["1", "1.5", '"1"', "true", "null", "NaN", "9" * 30, "[1]", "2.0"]
    (tmp_path / "a.jsonl").write_text("\n".join(f'{{"text": "t", "k": {value}}}' for value in values))
    for columns in (["k"], []):
        out = read_all(tmp_path / "a.jsonl", columns=columns, source={"columns": {"k": "int"}})
        assert [row["reason"] is None for row in out.rows] == [
            True,
            False,
            False,
            False,
            True,
            True,
            False,
            False,
            True,
        ]


def test_a_line_over_eight_times_max_doc_is_passed_without_being_held(tmp_path: Path) -> None:
    long = json.dumps({"text": "x" * 1000})
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a"}}\n{long}\n{{"text": "b"}}\n{long}')
    out = read_all(tmp_path / "a.jsonl", max_doc=100)
    assert [(row["source_row"], row["text"]) for row in out.rows] == [(0, "a"), (1, ""), (2, "b"), (3, "")]
    assert out.rows[1]["reason"] == "bad_line: line 2: longer than 800 bytes"


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_line_that_unfolds_without_end_is_read_past_in_bounded_memory(tmp_path: Path, ending: str) -> None:
    """200 MB of one line in a file of 200 kB or less; Arrow's and Python's memory together stay far below that."""
    path = tmp_path / f"bomb.jsonl.{ending}"
    pieces = [b'{"text": "', *[b"x" * 1_000_000] * 200, b'"}\n{"text": "after"}\n']
    if ending == "gz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.writelines(pieces)
    else:
        with zstandard.open(path, "wb") as file:
            for piece in pieces:
                file.write(piece)
    tracemalloc.start()
    out = read_all(path, max_doc=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row["text"] for row in out.rows] == ["", "after"]
    assert peak < 20_000_000
    assert pa.default_memory_pool().bytes_allocated() < 20_000_000


def test_a_gzip_stream_that_breaks_loses_what_is_after_the_break_only(tmp_path: Path) -> None:
    whole = read_all(make.json_lines(tmp_path / "a.jsonl.gz")).rows
    sound = (tmp_path / "a.jsonl.gz").read_bytes()
    for maker in (make.truncated_gzip, make.corrupt_gzip):
        path = maker(tmp_path / "a.jsonl.gz")
        same = [a == b for a, b in zip(sound, path.read_bytes())]
        break_at = same.index(False) if False in same else len(same)
        before = zlib.decompressobj(31).decompress(sound[:break_at]).count(b"\n")
        decoder, readable = zlib.decompressobj(31), b""
        for byte in path.read_bytes():
            try:
                readable += decoder.decompress(bytes([byte]))
            except zlib.error:
                break
        out = read_all(path, batch_bytes=3000)
        # after a wrong byte zlib may go on with wrong text for a while, before it notices
        assert [row["source_row"] for row in out.rows] == list(range(readable.count(b"\n")))
        assert before > 50
        assert out.rows[:before] == whole[:before]
        assert [item.file for item in out.files] == ["a.jsonl.gz"]


def test_a_zstd_stream_that_breaks_is_reported(tmp_path: Path) -> None:
    path = make.json_lines(tmp_path / "a.jsonl")
    frames = [zstandard.ZstdCompressor().compress(line + b"\n") for line in path.read_bytes().splitlines()]
    target = tmp_path / "b.jsonl.zst"
    target.write_bytes(b"".join(frames[:50])[:-3])
    out = read_all(target)
    assert len(out.rows) <= 50
    assert [item.file for item in out.files] == ["b.jsonl.zst"]
    target.write_bytes(b"not zstd at all" * 20)
    assert read_all(target).rows == []
    assert len(read_all(target).files) == 1


def test_a_packed_neighbour_of_a_bad_file_is_whole(tmp_path: Path) -> None:
    make.no_parquet(tmp_path / "a.parquet")
    make.parquet(tmp_path / "b.parquet")
    out = read_all(f"{tmp_path}/*.parquet")
    assert out.count == 1000
    assert [item.file for item in out.files] == ["a.parquet"]


def test_the_write_step_does_not_see_files_lost_before(tmp_path: Path) -> None:
    source = Source(files=str(make.no_parquet(tmp_path / "a.parquet")))
    listing = list_input([source])
    read = partial(read_segment, listing, [source], Segment(0, 0, 0, 0), [], max_doc=10**6, batch_bytes=10**6)
    assert isinstance(next(read()), FileLost)
    assert list(read(groups=())) == []


class Disk(io.BytesIO):
    """A disk that gives the end of a file (its footer) and fails everywhere else."""

    def __init__(self, whole: BinaryIO) -> None:
        super().__init__(whole.read())
        whole.close()

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() < len(self.getbuffer()) // 2:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz"])
def test_a_disk_that_fails_stops_the_run_and_quarantines_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = (make.parquet if name.endswith("parquet") else make.json_lines)(tmp_path / name)
    source = Source(files=str(path))
    listing = list_input([source])

    opened = storage.Storage.open

    def open_failing(self: storage.Storage, path: str) -> storage.InputStream:
        stream = opened(self, path)
        monkeypatch.setattr(stream._watched, "raw", Disk(stream._watched.raw))
        return stream

    monkeypatch.setattr(storage.Storage, "open", open_failing)
    with pytest.raises(SetupError, match="Input/output error"):
        read_all(path, listing=listing)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_to_a_parquet_file_crashes_the_reader_or_loses_a_row(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.parquet"
    compression = data.draw(st.sampled_from(["none", "zstd", "snappy"]))
    make.parquet(
        path, make.documents(60, words=10), group=20, checksums=data.draw(st.booleans()), compression=compression
    )
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        length = data.draw(st.sampled_from([1, 1, 8, 100]))
        damaged[start : start + length] = data.draw(st.binary(min_size=length, max_size=length))
    path.write_bytes(damaged)
    try:
        listing = list_input([Source(files=str(path))])
    except RecipeError:
        return  # the damage renamed the text column or changed its type: the recipe's author is told
    counted = sum(group.rows for group in listing.files[0].groups)
    first = read_all(path, listing=listing, batch_bytes=500)
    again = read_all(path, listing=listing, batch_bytes=1 << 20)
    assert first.facts() == again.facts()
    assert first.count == counted
    assert bool(first.files) == (listing.files[0].error is not None)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_to_json_lines_crashes_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]))
    path = make.json_lines(tmp_path / name, rows=30)
    damaged = bytearray(path.read_bytes())
    if name.endswith(".zst"):
        damaged = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(bytes(damaged)))
    start = data.draw(st.integers(0, len(damaged) - 1))
    damaged[start : start + 4] = data.draw(st.binary(max_size=6))
    path.write_bytes(damaged)
    first = read_all(path, batch_bytes=500)
    assert first.facts() == read_all(path, batch_bytes=1 << 20).facts()
    if name == "a.jsonl":
        assert len(first.rows) == sum(bool(line.strip()) for line in bytes(damaged).split(b"\n"))
        assert first.files == []


def test_row_groups_whose_file_cannot_be_opened_any_more_are_lost_by_the_footers_count(tmp_path: Path) -> None:
    """The listing says what the footer said; if the same version then has none, its rows are quarantined, not forgotten."""
    path = make.parquet(tmp_path / "a.parquet")
    source = Source(files=str(path))
    listing = list_input([source])
    data = bytearray(path.read_bytes())
    stat = path.stat()
    data[-8:] = b"\0" * 8
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    out = read_all(path, listing=listing)
    assert [(group, rows) for _, group, rows, _ in out.groups] == [(i, 250) for i in range(4)]
