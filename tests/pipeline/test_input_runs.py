"""Outputs of earlier runs as input: two dumps filtered apart, deduplicated together, and every document's whole story."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.listing import Source, list_input
from tamis.pipeline.recipe import parse_recipe
from tamis.pipeline.storage import storage_at
from tamis.pipeline.why import story
from tamis.stages.errors import RecipeError

MIN = 40
FILTER: list[dict[str, Any]] = [
    {"use": "normalize"},
    {"use": "rules", "name": "size", "rules": {"long": "chars >= $min"}, "params": {"min": MIN}},
]
DEDUP: list[dict[str, Any]] = [{"use": "exact_dedup", "prefer": ["longest"]}]


def texts(dump: str) -> list[str]:
    """Every third too short; every fourth the same in both dumps."""
    own = [f"Page {n} of dump {dump}, with words enough to be kept by the rule." for n in range(30)]
    shared = [f"Page {n} that both dumps have, with words enough to be kept by the rule." for n in range(30)]
    return [f"Short {n}." if n % 3 == 0 else shared[n] if n % 4 == 0 else own[n] for n in range(30)]


def write_dump(folder: Path, dump: str) -> None:
    folder.mkdir(parents=True)
    for part in (0, 1):
        rows = range(part * 15, part * 15 + 15)
        table = pa.table(
            {
                "id": [f"{dump}-{n}" for n in rows],
                "text": [texts(dump)[n] for n in rows],
                "url": [f"https://{dump}.example.org/{n}" for n in rows],
            }
        )
        pq.write_table(table, folder / f"{dump}{part}.parquet", row_group_size=4)


def sift(folder: Path, name: str, files: Any, stages: Any, **more: Any) -> Path:
    recipe = {"name": name, "input": {"files": files}, "output": f"{folder}/out/{name}", "stages": stages, **more}
    run(parse_recipe(recipe))
    return folder / "out" / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/ and the outputs a, b of two dumps, and both: deduplicated together."""
    folder = tmp_path_factory.mktemp("runs")
    for dump in ("a", "b"):
        write_dump(folder / "in" / dump, dump)
        sift(folder, dump, f"{folder}/in/{dump}/*.parquet", FILTER)
    sift(folder, "both", [f"{folder}/out/a", f"{folder}/out/b"], DEDUP)
    return folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The outputs of `folder`, to be damaged."""
    shutil.copytree(folder / "out", tmp_path / "out")
    return tmp_path


def manifest(output: Path) -> dict[str, Any]:
    return json.loads((output / "manifest.json").read_text())


def line(text: str, head: str) -> str:
    return next(found.strip() for found in text.splitlines() if found.strip().startswith(head))


def test_the_rows_of_a_run_that_reads_others_are_what_those_kept(folder: Path) -> None:
    expected = sum(len(text) >= MIN for dump in "ab" for text in texts(dump))
    both = manifest(folder / "out/both")
    assert both["counts"]["rows"] == expected
    assert both["counts"]["rows"] == sum(manifest(folder / "out" / dump)["counts"]["kept"] for dump in "ab")
    assert runs.check_accounting(folder / "out/both")["keep"] == len(
        {text for dump in "ab" for text in texts(dump) if len(text) >= MIN}
    )
    assert "OK" in runs.tamis("verify", folder / "out/both")


def test_the_manifest_names_the_runs_that_were_read(folder: Path) -> None:
    told = manifest(folder / "out/both")
    assert [
        {"name": r["name"], "root": r["root"], "plan": r["plan"], "checksum": r["checksum"]} for r in told["input_runs"]
    ] == [
        {
            "name": dump,
            "root": f"{folder}/out/{dump}",
            "plan": manifest(folder / "out" / dump)["plan"],
            "checksum": (folder / "out" / dump / "checksums.txt").read_text().splitlines()[-1],
        }
        for dump in "ab"
    ]
    assert [(f["name"], f["run"], f["run_file"]) for f in told["input"]] == [
        ("a/data/part-000000.parquet", 0, "data/part-000000.parquet"),
        ("b/data/part-000000.parquet", 1, "data/part-000000.parquet"),
    ]


def test_origin_is_kept_and_via_names_the_nearest_run_through_any_number_of_runs(folder: Path, tmp_path: Path) -> None:
    third = sift(tmp_path, "third", f"{folder}/out/both/data/*.parquet", [])
    for output, via in ((folder / "out/both", {"a", "b"}), (third, {"both"})):
        data = runs.rows(output, "data").to_pylist()
        assert {row["via"] for row in data} == via
        for row in data:
            dump, number = row["doc_id"].split("-")
            part, at = divmod(int(number), 15)
            assert (row["origin_file"], row["origin_row"]) == (f"{dump}{part}.parquet", at)
            assert row["text"] == texts(dump)[int(number)]


def test_a_rule_reads_the_scores_and_the_run_of_earlier_runs(folder: Path, tmp_path: Path) -> None:
    stages = [{"use": "rules", "name": "r", "rules": {"ours": "via = 'a' AND normalize_controls = 0"}}]
    output = sift(tmp_path, "rules", [f"{folder}/out/a", f"{folder}/out/b"], stages)
    assert {row["doc_id"][0] for row in runs.rows(output, "data").to_pylist()} == {"a"}
    told = story(str(output), key="b-1")
    assert "via = b" in line(told, "fate")


@pytest.mark.parametrize("files", ["out/a", "out/a/", "out/a/data", "out/a/data/**/*.parquet", "out/{x}/data/part-*"])
def test_folders_and_patterns_are_recognised_as_a_run(folder: Path, files: str) -> None:
    listing = list_input([Source(files=f"{folder}/{files}")])
    assert {r.name for r in listing.runs} == ({"a", "b", "both"} if "{x}" in files else {"a"})
    assert all(file.run_file == "data/part-000000.parquet" for file in listing.files)


def test_the_first_set_is_read_unless_another_is_named(folder: Path, tmp_path: Path) -> None:
    write = {"sets": {"main": {}, "short": {"where": "rule = 'size.long'"}}, "format": "jsonl.zst"}
    sets = sift(tmp_path, "sets", f"{folder}/in/a/*.parquet", FILTER, write=write)
    found = {}
    for name, files in {"first": str(sets), "short": f"{sets}/data/short/*"}.items():
        output = sift(tmp_path, name, files, DEDUP)
        found[name] = {row["doc_id"] for row in runs.rows(output, "ledger").to_pylist()}
        for key in found[name]:
            told = story(str(output), key=key)
            assert f"who     {key} (a" in told.partition("came through sets (")[2]
    long = {f"a-{n}" for n, text in enumerate(texts("a")) if len(text) >= MIN}
    assert found == {"first": long, "short": {f"a-{n}" for n in range(30)} - long}
    told = story(f"{tmp_path}/out/first", key="a-3").splitlines()[0]
    assert told.startswith("not in first (")
    assert "dropped in sets (" in told


def rewrite(output: Path, change: Callable[[dict[str, Any]], Any] = lambda told: None) -> None:
    """The manifest changed, and checksums that agree with all files again."""
    import xxhash

    told = manifest(output)
    change(told)
    (output / "manifest.json").write_text(json.dumps(told))
    paths = [p for p in output.rglob("*") if p.is_file() and p.relative_to(output).parts[0] in ("data", "ledger")]
    lines = sorted(
        f"{xxhash.xxh3_128_hexdigest(p.read_bytes())} {p.stat().st_size} {p.relative_to(output)}"
        for p in [*paths, output / "manifest.json"]
    )
    text = "".join(f"{line}\n" for line in lines)
    (output / "checksums.txt").write_text(f"{text}{xxhash.xxh3_128_hexdigest(text.encode())}\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda out: (out / "manifest.json").unlink(), "not finished"),
        (lambda out: (out / "manifest.json").write_text("{"), "damaged: manifest.json cannot be read"),
        (lambda out: (out / "checksums.txt").unlink(), "damaged: checksums.txt is missing"),
        (lambda out: (out / "checksums.txt").write_text("x 1 y\nz\n"), "own last line"),
        (lambda out: (out / "data/part-000000.parquet").unlink(), "part-000000.parquet is missing"),
        (lambda out: (out / "data/part-000000.parquet").write_bytes(b"x"), "has 1 bytes instead of"),
        (lambda out: shutil.copy(out / "data/part-000000.parquet", out / "data/more.parquet"), "none of its files"),
        (lambda out: rewrite(out, lambda told: told["recipe"].update(observe=True)), "observing run"),
    ],
)
def test_an_output_that_is_not_whole_is_refused(copied: Path, damage: Callable[[Path], Any], says: str) -> None:
    damage(copied / "out/a")
    with pytest.raises(RecipeError, match=says):
        list_input([Source(files=f"{copied}/out/a")])


def test_a_manifest_of_another_tool_is_no_run(tmp_path: Path) -> None:
    write_dump(tmp_path / "set/data", "a")
    (tmp_path / "set/manifest.json").write_text('{"version": 3}')
    listing = list_input([Source(files=f"{tmp_path}/set/data")])
    assert (len(listing.files), listing.runs) == (2, ())
    assert "via" not in listing.columns.names


def test_json_lines_of_a_run_keep_types_and_origin(folder: Path, tmp_path: Path) -> None:
    """The same two runs, with JSON Lines and with Parquet between them."""
    stages = [*FILTER, {"use": "url_tags"}, {"use": "text_signals"}]
    found = {}
    for form in ("jsonl.zst", "parquet"):
        first = sift(tmp_path, "first", f"{folder}/in/a/*.parquet", stages, write={"format": form})
        (path,) = (first / "data").iterdir()
        assert path.name.endswith(form)
        found[form] = runs.rows(sift(tmp_path, "second", str(first), []), "data")
        shutil.rmtree(tmp_path / "out")
    lines, parquet = found["jsonl.zst"], found["parquet"]
    assert lines["extra"].null_count == len(lines)
    assert lines.drop_columns(["source_file", "extra"]).equals(
        parquet.drop_columns("source_file").select(lines.drop_columns(["source_file", "extra"]).schema.names)
    )
    assert set(parquet.schema.names) == set(lines.schema.names) - {"extra"}
    assert set(lines["via"].to_pylist()) == {"first"}
    assert lines["origin_file"].to_pylist() == [
        f"a{int(i.split('-')[1]) // 15}.parquet" for i in lines["doc_id"].to_pylist()
    ]


# --- why ----------------------------------------------------------------------------------------------------------


def test_why_follows_a_kept_document_to_where_it_was_first_read(folder: Path) -> None:
    told = story(str(folder / "out/both"), key="a-1")
    assert line(told, "fate").startswith("fate    kept: written to data/part-000000.parquet")
    assert "came through a (" in told
    further = told.partition("came through a (")[2]
    assert "who     a-1 (a0.parquet#1)" in further
    assert "size " in further


def test_why_tells_both_sides_of_a_duplicate_from_the_other_dump(folder: Path) -> None:
    told = story(str(folder / "out/both"), key="b-4")
    assert "a-4 (a/data/part-000000.parquet#" in line(told, "fate")
    assert "the kept one came through a (" in told
    assert "there a-4 (a0.parquet#4)" in line(told, "the kept one")
    assert "who     b-4 (b0.parquet#4)" in told.partition("came through b (")[2]


@pytest.mark.parametrize("key", ["b-3", "b0.parquet#3", "https://b.example.org/3"])
def test_why_tells_of_a_document_that_the_first_run_dropped(folder: Path, key: str) -> None:
    told = story(str(folder / "out/both"), key=key)
    first = told.splitlines()[0]
    assert first.startswith("not in both (")
    assert "dropped in b (" in first
    assert "by size.long: chars = 8, needs chars >= 40" in first
    assert "who     b-3 (b0.parquet#3)" in told


def test_a_key_of_the_first_run_means_the_document_here(folder: Path) -> None:
    assert story(str(folder / "out/both"), key="a0.parquet#1") == story(str(folder / "out/both"), key="a-1")


def test_every_document_of_the_first_runs_has_a_story(folder: Path) -> None:
    """Of all 60: which run ended it, by the texts alone."""
    chosen = random.Random(1).sample([(dump, n) for dump in "ab" for n in range(30)], 20)
    seen = [text for text in texts("a") if len(text) >= MIN]
    for dump, number in chosen:
        text = texts(dump)[number]
        told = story(str(folder / "out/both"), key=f"{dump}-{number}")
        if len(text) < MIN:
            assert told.startswith("not in both"), (dump, number)
        elif dump == "b" and text in seen:
            assert "dropped by exact_dedup" in line(told, "fate")
        else:
            assert line(told, "fate").startswith("fate    kept")


def test_stories_go_through_three_runs(folder: Path, tmp_path: Path) -> None:
    third = sift(tmp_path, "third", str(folder / "out/both"), [])
    told = story(str(third), key="b-1")
    assert told.index("came through both (") < told.index("came through b (")
    told = story(str(third), key="b-3")
    assert told.startswith("not in third (")
    assert "dropped in b (" in told.splitlines()[0]
    told = story(str(third), key="b-4")
    assert "dropped in both (" in told.splitlines()[0]
    assert "the kept one came through a (" in told


def test_a_run_that_is_gone_or_changed_is_said_to_be_so(copied: Path) -> None:
    both = sift(copied, "again", [f"{copied}/out/a", f"{copied}/out/b"], DEDUP)
    rewrite(copied / "out/b", lambda told: told.update(seconds=0))
    shutil.rmtree(copied / "out/a")
    told = story(str(both), key="a-1")
    assert f"came through a ({copied}/out/a), which is gone" in told
    assert "which changed since it was read" in line(story(str(both), key="b-1"), "came through b")
    assert "which is gone" in line(story(str(both), key="b-4"), "the kept one")
    with pytest.raises(RecipeError, match=r"nor in the runs that it read: a .*which is gone, b .*which changed"):
        story(str(both), key="b-3")
    assert "who     a-1 (" in story(str(both), key="a0.parquet#1"), "its shard still names the first place"


def test_a_document_that_was_kept_but_not_read_is_told_apart(folder: Path, tmp_path: Path) -> None:
    some = folder / "out/a/data"
    with pytest.raises(RecipeError, match="nothing matches"):
        list_input([Source(files=f"{some}/none-*.parquet")])
    parts = sift(tmp_path, "parts", f"{folder}/in/a/*.parquet", FILTER, write={"shard_size": "500"})
    names = sorted(path.name for path in (parts / "data").iterdir())
    assert len(names) > 2
    output = sift(tmp_path, "few", f"{parts}/data/{names[0]}", [])
    told = story(str(output), key="a-29").splitlines()[0]
    assert told.startswith("not in few (")
    assert "kept in parts (" in told
    assert told.endswith("and was not read from there")


def test_a_run_on_an_object_store_is_read_and_followed(folder: Path, tmp_path: Path, s3: str) -> None:
    for path in (folder / "out/a").rglob("*"):
        if path.is_file() and "work" not in path.parts:
            storage_at(s3).write(f"runs/a/{path.relative_to(folder / 'out/a')}", path.read_bytes())
    output = sift(tmp_path, "s3", f"{s3}/runs/a", DEDUP)
    told = story(str(output), key="a-1")
    assert f"came through a ({s3}/runs/a)" in told
    assert story(str(output), key="a-3").startswith("not in s3 (")
