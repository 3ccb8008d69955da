"""The listing: which files a source means, what they are called, one schema over all, and what is refused."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.pipeline.input_runs import InputRun
from tamis.pipeline.listing import InputFile, Listing, RowGroup, Source, check_version, current_version, list_input
from tamis.pipeline.schema import canonical, conform, widen
from tamis.pipeline.storage import Storage
from tamis.stages.errors import DataError, RecipeError

from . import broken_files as make


def listing_of(files: str | list[str] | Path, **more: Any) -> Listing:
    return list_input([Source(files=str(files) if isinstance(files, Path) else files, **more)])


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": pa.array(["a", "b"]), **columns}), path)
    return path


def test_footers_give_rows_and_bytes_of_every_row_group(tmp_path: Path) -> None:
    path = make.parquet(tmp_path / "a.parquet", group=300)
    (file,) = listing_of(path).files
    meta = pq.read_metadata(path)
    assert [group.rows for group in file.groups] == [300, 300, 300, 100]
    for index, group in enumerate(file.groups):
        chunks = [meta.row_group(index).column(i) for i in range(meta.num_columns)]
        assert group.bytes == meta.row_group(index).total_byte_size
        assert group.compressed == sum(chunk.total_compressed_size for chunk in chunks)
        assert group.text_bytes == chunks[1].total_uncompressed_size
    assert (file.size, file.format, file.error, file.note) == (path.stat().st_size, "parquet", None, None)


def test_the_listing_is_in_order_of_names_whatever_the_order_of_patterns(tmp_path: Path) -> None:
    names = ["b/z.parquet", "a/10.parquet", "a/9.parquet", "b.parquet", "Z.parquet"]
    for name in names:
        write(tmp_path / name)
    patterns = [f"{tmp_path}/{name}" for name in names]
    for _ in range(3):
        random.Random(1).shuffle(patterns)
        listing = listing_of(patterns, root=str(tmp_path))
        assert [file.name for file in listing.files] == sorted(names)
    assert [file.name for file in listing_of(f"{tmp_path}/**/*.parquet").files] == sorted(names)
    two = listing_of([f"{tmp_path}/b/*.parquet", f"{tmp_path}/a/*"])
    assert [file.name for file in two.files] == ["a/10.parquet", "a/9.parquet", "b/z.parquet"]


def test_a_file_that_two_patterns_match_is_listed_once(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    assert len(listing_of([f"{tmp_path}/*.parquet", f"{tmp_path}/a.parquet"]).files) == 1


def test_a_folder_means_the_data_files_below_it(tmp_path: Path) -> None:
    write(tmp_path / "d/x/a.parquet")
    make.json_lines(tmp_path / "d/b.jsonl.gz")
    for other in ("d/_SUCCESS", "d/.a.parquet.tmp", "d/README.md", "d/_old/a.parquet"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("x")
    assert [file.name for file in listing_of(tmp_path / "d").files] == ["b.jsonl.gz", "x/a.parquet"]


def test_relative_paths_and_literal_brackets_in_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in/a[1].parquet")
    monkeypatch.chdir(tmp_path)
    assert [file.name for file in listing_of("in/*.parquet").files] == ["a[1].parquet"]
    assert [file.url for file in listing_of("in/a[1].parquet").files] == [f"{tmp_path}/in/a[1].parquet"]


def test_several_sources_put_their_names_in_front(tmp_path: Path) -> None:
    write(tmp_path / "one/a.parquet")
    write(tmp_path / "two/a.parquet")
    sources = [Source(files=f"{tmp_path}/{name}/*.parquet", name=name) for name in ("two", "one")]
    assert [(file.name, file.source) for file in list_input(sources).files] == [
        ("one/a.parquet", 1),
        ("two/a.parquet", 0),
    ]
    with pytest.raises(RecipeError, match="needs a name"):
        list_input([Source(files=f"{tmp_path}/one/*.parquet"), sources[0]])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "one/a.parquet")
    write(tmp_path / "two/a.parquet")
    sources = [Source(files=f"{tmp_path}/{name}/*.parquet", name="same") for name in ("one", "two")]
    with pytest.raises(RecipeError, match=r"one/a\.parquet.*two/a\.parquet.*same/a\.parquet"):
        list_input(sources)


def test_path_columns_folders_and_tags_become_columns(tmp_path: Path) -> None:
    write(tmp_path / "cc/2024-10/lang=en/p=a%2Fb/x-1.parquet")
    write(tmp_path / "cc/2024-18/lang=__null__/p=c/x-2.parquet")
    listing = listing_of(
        f"{tmp_path}/cc/{{dump}}/*/*/x-{{part}}.parquet", tags={"crawl": "cc", "weight": 2, "web": True}
    )
    tags = {"crawl": "cc", "weight": 2, "web": True}
    assert [file.tags for file in listing.files] == [
        {"lang": "en", "p": "a/b", "dump": "2024-10", "part": "1", **tags},
        {"lang": None, "p": "c", "dump": "2024-18", "part": "2", **tags},
    ]
    assert {name: str(listing.columns.field(name).type) for name in ("dump", "part", "crawl", "weight", "web")} == {
        "dump": "string",
        "part": "string",
        "crawl": "string",
        "weight": "int64",
        "web": "bool",
    }


def test_folders_below_the_root_give_columns_unless_the_file_has_them(tmp_path: Path) -> None:
    write(tmp_path / "d/lang=en/p=a%2Fb/x.parquet")
    write(tmp_path / "d/lang=__null__/p=c/x.parquet", p=pa.array(["own", "own"]))
    listing = listing_of(f"{tmp_path}/d/**/*.parquet")
    assert [file.tags for file in listing.files] == [{"lang": None}, {"lang": "en", "p": "a/b"}]
    assert listing.columns == pa.schema([("p", pa.string()), ("lang", pa.string())])


@pytest.mark.parametrize(
    ("files", "more", "says"),
    [
        ("none/*.parquet", {}, "nothing matches"),
        ("*.parquet", {"text": "txt"}, r"no column 'txt'.*Did you mean: text\?.*Valid: lang, text"),
        ("*.parquet", {"url": "link"}, "url: no file has a column 'link'"),
        ("*.parquet", {"columns": {"lnag": "string"}}, "Did you mean: lang"),
        ("*.parquet", {"columns": {"lang": "strin"}}, "Did you mean: string"),
        ("*.parquet", {"columns": {"lang": "list<int64>"}}, "cannot be made"),
        ("*.parquet", {"tags": {"lang": "x"}}, "has a column 'lang' already"),
        ("*.parquet", {"tags": {"doc_id": "x"}}, "column of Tamis"),
        ("*.parquet", {"rename": {"lang": "text"}}, "column of Tamis"),
        ("*.parquet", {"root": "/elsewhere"}, "below root"),
        ("{a,b}.parquet", {}, "give a list"),
        ("notes.txt", {}, "format"),
        ([], {}, "empty"),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_to_do(tmp_path: Path, files: Any, more: dict[str, Any], says: str) -> None:
    write(tmp_path / "a.parquet", lang=pa.array(["en", "de"]))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RecipeError, match=says):
        listing_of(f"{tmp_path}/{files}" if files else [], **more)


def test_a_text_column_that_is_no_string_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(RecipeError, match=r"a\.parquet: the text column 'text' is int64"):
        listing_of(tmp_path / "a.parquet")


def test_types_that_no_type_holds_are_refused_by_the_names_of_two_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", x=pa.array([1, 2]))
    write(tmp_path / "b.parquet", x=pa.array(["1", "2"]))
    with pytest.raises(
        RecipeError, match=r"'x' is int64 in a\.parquet and string in b\.parquet.*columns: \{x: string\}"
    ):
        listing_of(f"{tmp_path}/*.parquet")
    assert listing_of(f"{tmp_path}/*.parquet", columns={"x": "string"}).columns.field("x").type == pa.string()


def test_columns_of_all_files_are_joined_and_widened(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", k=pa.array([1, 2], pa.int16()), t=pa.array([0, 1], pa.timestamp("ms")))
    write(
        tmp_path / "b.parquet", t=pa.array([0, 1], pa.timestamp("us")), k=pa.array([1, 2], pa.uint32()), z=pa.nulls(2)
    )
    listing = listing_of(f"{tmp_path}/*.parquet", rename={"z": "y", "absent": "w"})
    assert listing.columns == pa.schema([("k", pa.int64()), ("t", pa.timestamp("us")), ("y", pa.null())])


def test_a_column_that_bears_a_name_of_ours_gets_a_prefix(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", body=pa.array(["x", "y"]), reason=pa.array([1, 2]), source_row=pa.array([1, 2]))
    assert listing_of(tmp_path / "a.parquet", text="body").columns.names == [
        "input_text",
        "input_reason",
        "input_source_row",
    ]


def test_a_file_that_tamis_wrote_keeps_its_first_provenance(tmp_path: Path) -> None:
    ours = {name: pa.array(["x", "y"]) for name in ("doc_id", "source_file", "source_row", "source_hash")}
    write(tmp_path / "once.parquet", **ours)
    assert listing_of(tmp_path / "once.parquet").columns.names == ["origin_file", "origin_row", "origin_hash"]
    again = {name: pa.array(["x", "y"]) for name in ("origin_file", "origin_row", "origin_hash")}
    write(tmp_path / "twice.parquet", **ours, **again)
    assert listing_of(tmp_path / "twice.parquet").columns.names == list(again)


def test_files_that_cannot_be_read_are_listed_with_the_reason(tmp_path: Path) -> None:
    make.zero_bytes(tmp_path / "0.parquet")
    make.no_parquet(tmp_path / "1.parquet")
    make.truncated(tmp_path / "2.parquet")
    make.parquet(tmp_path / "3.parquet")
    twice = pa.table([pa.array(["a"])] * 2, names=["text", "text"])
    pq.write_table(twice, tmp_path / "4.parquet")
    files = listing_of(f"{tmp_path}/*.parquet").files
    assert [(bool(file.error), file.note, len(file.groups)) for file in files] == [
        (False, "0 bytes", 0),
        (True, None, 0),
        (True, None, 0),
        (False, None, 4),
        (True, None, 0),
    ]
    assert "text" in (files[4].error or "")


def test_a_limited_listing_reads_that_many_footers_and_marks_the_others(tmp_path: Path) -> None:
    for i in range(9):
        write(tmp_path / f"{i}.parquet")
    listing = list_input([Source(files=f"{tmp_path}/*.parquet")], max_footers=3)
    assert [file.counted for file in listing.files] == [i in (0, 3, 6) for i in range(9)]
    assert [len(file.groups) for file in listing.files] == [int(i in (0, 3, 6)) for i in range(9)]


def test_a_changed_or_vanished_file_is_a_data_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    (file,) = listing_of(path).files
    assert current_version(file) == file.version
    check_version(file)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="changed since it was measured"):
        check_version(file)
    path.unlink()
    with pytest.raises(DataError, match="gone"):
        current_version(file)


def test_the_same_tree_on_s3_gives_the_same_names_columns_and_row_groups(tmp_path: Path, s3: str) -> None:
    store = Storage(f"{s3}/tree")
    for name in ("2024/a.parquet", "2025/b.parquet"):
        make.parquet(tmp_path / "tree" / name)
        store.write(name, (tmp_path / "tree" / name).read_bytes())
    here = listing_of(f"{tmp_path}/tree/{{dump}}/*.parquet")
    there = listing_of(f"{s3}/tree/{{dump}}/*.parquet")
    assert there.columns == here.columns
    for one, other in zip(here.files, there.files, strict=True):
        assert (one.name, one.size, one.groups, one.tags) == (other.name, other.size, other.groups, other.tags)
        assert current_version(other) == other.version
    store.write("2024/a.parquet", b"other")
    with pytest.raises(DataError, match="changed"):
        check_version(there.files[0])


simple = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
groups = st.builds(RowGroup, *[st.integers(0, 2**62)] * 4)
files = st.builds(
    InputFile,
    source=st.integers(0, 9),
    name=st.text(),
    url=st.text(),
    size=st.integers(0),
    version=st.text(),
    format=st.sampled_from(["parquet", "jsonl"]),
    groups=st.lists(groups, max_size=3).map(tuple),
    error=st.none() | st.text(),
    note=st.none() | st.text(),
    tags=st.dictionaries(st.text(), simple, max_size=3),
    counted=st.booleans(),
    run=st.none() | st.integers(0, 9),
    run_file=st.none() | st.text(),
)
read_runs = st.builds(InputRun, *[st.text()] * 5, columns=st.dictionaries(st.text(), st.text(), max_size=2))
types = st.recursive(
    st.sampled_from(
        [
            pa.string(),
            pa.int8(),
            pa.uint32(),
            pa.int64(),
            pa.float32(),
            pa.timestamp("us", "UTC"),
            pa.date32(),
            pa.null(),
        ]
    ),
    lambda inner: (
        inner.map(pa.list_) | st.dictionaries(st.sampled_from("abc"), inner).map(lambda d: pa.struct(list(d.items())))
    ),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(files, max_size=4),
    st.dictionaries(st.text(min_size=1), types, max_size=4),
    st.lists(read_runs, max_size=2),
)
def test_a_listing_survives_json(found: list[InputFile], columns: dict[str, pa.DataType], runs: list[InputRun]) -> None:
    listing = Listing(tuple(found), pa.schema(list(columns.items())), runs=tuple(runs))
    again = Listing.from_json(listing.to_json())
    assert again == listing
    assert again.to_json() == listing.to_json()


@settings(max_examples=100, deadline=None)
@given(types, types)
def test_widening_has_no_order_and_holds_both(a: pa.DataType, b: pa.DataType) -> None:
    both, other = widen(a, b), widen(b, a)
    assert (both is None) == (other is None)
    if both is not None:
        assert widen(both, a) == both
        assert widen(both, b) == both
        for kind in (a, b):
            assert conform(pa.nulls(2, kind), both).type == both


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.binary(),
        pa.large_binary(),
    ],
)
def test_every_kind_of_string_becomes_a_string(kind: pa.DataType) -> None:
    values = ["a", None, "é", "a"]
    column = pa.array(values).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values).cast(kind)
    assert conform(column, pa.string()).to_pylist() == values
    assert canonical(kind) in (pa.string(), pa.binary())


def test_bytes_that_are_no_utf8_are_replaced_in_labels_and_nested_columns() -> None:
    bad = pa.array([b"ok", b"\xff\xfe", None, b"x"]).view(pa.string())
    fixed = ["ok", "\ufffd\ufffd", None, "x"]
    assert conform(bad, pa.string()).to_pylist() == fixed
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), bad)
    assert conform(lists, pa.list_(pa.string())).to_pylist() == [fixed[:2], fixed[2:]]
    structs = pa.StructArray.from_arrays([bad], ["a"])
    assert conform(structs, pa.struct([("a", pa.string()), ("b", pa.int8())]))[1].as_py() == {"a": fixed[1], "b": None}


def test_dates_become_iso_strings_that_sort_as_times() -> None:
    aware = pa.array([1_700_000_000_123_456, None, -5], pa.timestamp("us", "America/New_York"))
    assert conform(aware, pa.string()).to_pylist() == ["2023-11-14T22:13:20", None, "1969-12-31T23:59:59"]
    assert conform(pa.array([19000], pa.date32()), pa.string()).to_pylist() == ["2022-01-08"]


def test_real_shards_are_listed_as_their_footers_say(shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / "web/web-00000.parquet", tmp_path)
    listing = listing_of(f"{shared_data}/web/*.parquet")
    assert len(listing.files) == 12
    assert sum(group.rows for file in listing.files for group in file.groups) == 70_320
    assert listing.columns.names == ["id", "source", "lang", "license"]
    assert listing_of(f"{tmp_path}/*.parquet").files[0].groups == listing.files[0].groups
