"""Inputs of several sources through whole runs: path columns, folders, tags, renames, types, Parquet and JSON Lines.

The oracle is the list of documents that the files were written from.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
import zstandard

from tamis.pipeline.driver import run
from tamis.pipeline.listing import Source, list_input
from tamis.pipeline.recipe import parse_recipe
from tamis.pipeline.storage import storage_at
from tamis.pipeline.why import story
from tamis.stages.errors import RecipeError

Row = dict[str, Any]


def sift(output: Path | str, sources: Any, stages: Any = (), **more: Any) -> str:
    recipe = {"name": "t", "input": sources, "output": str(output), "stages": list(stages), **more}
    return run(parse_recipe(recipe)).output


def rows(output: str, folder: str) -> list[Row]:
    return runs.rows(Path(output), folder).to_pylist()


def text(*words: object) -> str:
    return f"The document {' '.join(map(str, words))} has words enough for any rule."


def write_web(folder: Path) -> Iterator[Row]:
    """Parquet: cc/DUMP/lang=LANG/p-N.parquet, with a column that is renamed and one that is widened."""
    for dump in ("2024-10", "2024-18"):
        for lang in ("en", "__null__", "pt%2FBR"):
            names = [text("web", dump, lang, n) for n in range(3)]
            path = folder / f"cc/{dump}/lang={lang}/p-0.parquet"
            path.parent.mkdir(parents=True)
            kind = pa.int32() if dump == "2024-10" else pa.int64()
            table = pa.table({"text": names, "score": pa.array([1, 2, None], kind), "quality": ["a", "b", "c"]})
            pq.write_table(table, path)
            for n, name in enumerate(names):
                yield {
                    "source_file": f"web/{dump}/lang={lang}/p-0.parquet",
                    "source_row": n,
                    "text": name,
                    "source": "web",
                    "dump": dump,
                    "lang": {"__null__": None, "pt%2FBR": "pt/BR"}.get(lang, lang),
                    "score": [1, 2, None][n],
                    "given": "abc"[n],
                    "year": None,
                    "shelf": None,
                    "kind": "crawl",
                    "extra": None,
                }


def write_books(folder: Path) -> Iterator[Row]:
    """JSON Lines, compressed both ways: keys renamed, typed, and left over."""
    for name, pack in (("a.jsonl.gz", gzip.compress), ("b.jsonl.zst", zstandard.compress)):
        lines = []
        for n in range(4):
            line = {"body": text("book", name, n), "section": f"s{n}", "year": 1900 + n, "rest": [n], "quality": "x"}
            lines.append(line if n else {"body": line["body"]})
            yield {
                "source_file": f"books/{name}",
                "source_row": n,
                "text": line["body"],
                "source": "books",
                "dump": None,
                "lang": "en",
                "score": None,
                "given": "x" if n else None,
                "year": 1900 + n if n else None,
                "shelf": f"s{n}" if n else None,
                "kind": "book",
                "extra": json.dumps({"rest": [n]}, separators=(",", ":")) if n else None,
            }
        (folder / "books").mkdir(exist_ok=True, parents=True)
        (folder / f"books/{name}").write_bytes(pack("".join(f"{json.dumps(line)}\n" for line in lines).encode()))


def sources(root: str) -> list[dict[str, Any]]:
    return [
        {
            "name": "web",
            "files": f"{root}/cc/{{dump}}/*/*.parquet",
            "rename": {"quality": "given", "absent": "nothing"},
            "tags": {"kind": "crawl"},
        },
        {
            "name": "books",
            "files": f"{root}/books/*",
            "text": "body",
            "rename": {"section": "shelf", "quality": "given"},
            "columns": {"year": "int32"},
            "tags": {"kind": "book", "lang": "en"},
        },
    ]


def check(output: str, expected: list[Row]) -> None:
    ours = {(row["source_file"], row["source_row"]): row for row in expected}
    data = rows(output, "data")
    assert [(row["source_file"], row["source_row"]) for row in data] == sorted(ours)
    for row in data:
        want = ours[row["source_file"], row["source_row"]]
        assert {name: row[name] for name in want} == want
        assert row["doc_id"] == f"{row['source_file']}#{row['source_row']}"
    for row in rows(output, "ledger"):
        want = ours[row["source_file"], row["source_row"]]
        assert [row[name] for name in ("source", "dump", "lang")] == [want[n] for n in ("source", "dump", "lang")]


def test_parquet_and_json_lines_of_two_sources_come_out_as_they_were_written(tmp_path: Path) -> None:
    expected = [*write_web(tmp_path), *write_books(tmp_path)]
    output = sift(tmp_path / "out", sources(str(tmp_path)), [{"use": "normalize"}])
    check(output, expected)
    types = {field.name: str(field.type) for field in runs.rows(Path(output), "data").schema}
    assert (types["score"], types["year"], types["given"]) == ("int64", "int32", "string")
    runs.check_accounting(Path(output))


def test_the_same_sources_on_an_object_store_give_the_same_documents(tmp_path: Path, s3: str) -> None:
    expected = [*write_web(tmp_path / "in"), *write_books(tmp_path / "in")]
    for path in (tmp_path / "in").rglob("*"):
        if path.is_file():
            storage_at(s3).write(f"in/{path.relative_to(tmp_path / 'in')}", path.read_bytes())
    check(sift(tmp_path / "far", sources(f"{s3}/in")), expected)


def test_rules_and_dedup_read_path_columns_and_tags(tmp_path: Path) -> None:
    expected = [*write_web(tmp_path), *write_books(tmp_path)]
    for path in (tmp_path / "cc").rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        same = [text("same"), *table["text"].to_pylist()[1:]]
        pq.write_table(table.set_column(table.schema.get_field_index("text"), "text", pa.array(same)), path)
    stages = [
        {"use": "rules", "name": "r", "rules": {"en": "lang = 'en' OR source = 'web'"}, "nulls": "fail"},
        {"use": "exact_dedup", "scope": "dump"},
    ]
    output = sift(tmp_path / "out", sources(str(tmp_path)), stages)
    ledger = rows(output, "ledger")
    firsts = [r for r in ledger if r["source"] == "web" and r["source_row"] == 0]
    assert [(r["dump"], r["decision"]) for r in firsts] == [
        *[("2024-10", "keep"), ("2024-10", "drop"), ("2024-10", "drop")],
        *[("2024-18", "keep"), ("2024-18", "drop"), ("2024-18", "drop")],
    ]
    assert len(ledger) == len(expected)


def test_equal_files_of_two_sources_are_told_apart_by_the_name_in_front(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"text": [text(name)]}), tmp_path / name / "a.parquet")
    output = sift(tmp_path / "out", [{"name": n, "files": f"{tmp_path}/{n}/*"} for n in ("one", "two")])
    assert [row["source_file"] for row in rows(output, "ledger")] == ["one/a.parquet", "two/a.parquet"]
    assert "kept" in story(output, key="two/a.parquet#0")


def columns_of(*sources: Source) -> dict[str, str]:
    return {field.name: str(field.type) for field in list_input(sources).columns}


def test_the_name_of_a_source_is_a_column_where_its_files_have_none(tmp_path: Path) -> None:
    for name in ("plain", "own", "number"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "plain/a.parquet")
    pq.write_table(pa.table({"text": ["a", "b"], "source": ["x", None]}), tmp_path / "own/a.parquet")
    pq.write_table(pa.table({"text": ["a"], "source": [1]}), tmp_path / "number/a.parquet")
    plain, own, number = (Source(name=n, files=f"{tmp_path}/{n}/*") for n in ("plain", "own", "number"))
    tagged = Source(name="tagged", files=f"{tmp_path}/plain/*", tags={"source": "t"})
    assert columns_of(plain) == {}
    assert columns_of(plain, number) == {"source": "int64"}
    output = sift(tmp_path / "out", [s.model_dump(exclude_unset=True) for s in (plain, own, tagged)])
    assert [row["source"] for row in rows(output, "ledger")] == ["x", None, "plain", "t"]


def test_columns_of_files_without_rows_are_known(tmp_path: Path) -> None:
    empty = pa.schema([("text", pa.string()), ("lang", pa.string()), ("words", pa.int32())])
    pq.write_table(empty.empty_table(), tmp_path / "a.parquet")
    listing = columns_of(Source(files=f"{tmp_path}/*.parquet"))
    assert listing == {"lang": "string", "words": "int32"}
    output = sift(tmp_path / "out", {"files": f"{tmp_path}/*.parquet"}, [{"use": "rules", "rules": {"r": "words > 3"}}])
    assert rows(output, "ledger") == []


def test_a_file_without_rows_decides_no_type_that_another_file_has(tmp_path: Path) -> None:
    none = pa.table({"text": pa.array([], pa.string()), "x": pa.array([], pa.float64()), "y": pa.array([], pa.int8())})
    pq.write_table(none, tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "x": ["v"]}), tmp_path / "b.parquet")
    assert columns_of(Source(files=f"{tmp_path}/*.parquet")) == {"x": "string", "y": "int8"}
    pq.write_table(pa.table({"z": pa.array([], pa.int8())}), tmp_path / "c.parquet")
    assert columns_of(Source(files=f"{tmp_path}/*.parquet")) == {"x": "string", "y": "int8"}


def test_a_key_of_json_lines_that_is_renamed_to_a_name_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "a": 1}\n')
    with pytest.raises(RecipeError, match="doc_id is a column of Tamis itself"):
        list_input([Source(files=f"{tmp_path}/a.jsonl", rename={"a": "doc_id"})])


def test_a_moved_path_column_is_not_taken_from_work_of_before(tmp_path: Path) -> None:
    """Two recipes share `work:` and differ only in which folder the column means."""
    path = tmp_path / "in/a/b/x.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": [text("x")]}), path)
    found = []
    for number, pattern in enumerate(("{dump}/*/*.parquet", "*/{dump}/*.parquet")):
        source = {"files": f"{tmp_path}/in/{pattern}", "root": f"{tmp_path}/in"}
        output = sift(tmp_path / f"out{number}", source, work=f"{tmp_path}/work")
        found += [(rows(output, "ledger")[0]["dump"], rows(output, "data")[0]["dump"])]
    assert found == [("a", "a"), ("b", "b")]
