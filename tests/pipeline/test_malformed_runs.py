"""Malformed input through whole runs: everything that can be used is used, everything else is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.stages.errors import DataError

from . import broken_files as make
from . import troubled_input as troubled


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the good neighbours alone."""
    folder = tmp_path_factory.mktemp("good")
    return troubled.run_over(troubled.write_good(folder / "in"), folder / "out")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the input `in` of all kinds of trouble at once, and a run over it in `out`."""
    folder = tmp_path_factory.mktemp("everything")
    troubled.run_over(troubled.write_troubled(folder / "in"), folder / "out", unit_size="200kB")
    return folder


# --- one kind at a time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", troubled.KINDS)
def test_a_bad_file_packed_with_good_neighbours_costs_them_nothing(tmp_path: Path, good: Path, kind: str) -> None:
    folder = troubled.write_good(tmp_path / "in")
    troubled.KINDS[kind](folder / kind)
    output = troubled.run_over(folder, tmp_path / "out", unit_size="1GB")
    assert len(list((output / "work").glob("read-*/*.parquet"))) == 1
    for part in ("ledger", "data"):
        expected, found = troubled.rows(good, part), troubled.rows(output, part)
        assert troubled.of_files(found, troubled.GOOD, expected.schema.names).equals(expected.combine_chunks())


@pytest.mark.parametrize("kind", troubled.KINDS)
def test_a_bad_file_alone_is_a_run_like_others(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    troubled.KINDS[kind](tmp_path / "in" / kind)
    troubled.run_over(tmp_path / "in", tmp_path / "out")


# --- all kinds at once --------------------------------------------------------------------------------------------


def test_every_stage_acts_on_the_troubled_input(everything: Path) -> None:
    ledger = troubled.rows(everything / "out", "ledger")
    assert set(ledger["rule"].to_pylist()) == {
        None,
        "size.long",
        "c4_lines.empty",
        "exact_dedup.duplicate",
        "late.web",
        "sample.out",
    }
    assert "late.null" in ledger["reason"].to_pylist()
    assert pc.any(ledger["normalize_changed"]).as_py()
    assert pc.sum(ledger["c4_lines_changed"]).as_py() > pc.sum(pc.equal(ledger["rule"], "c4_lines.empty")).as_py()
    decided = dict(zip(ledger["source_file"].to_pylist(), ledger["decision"].to_pylist()))
    without = {"m-zero.parquet", "m-zero.jsonl.gz", "m-html.parquet", "m-truncated.parquet", "m-no-rows.parquet"}
    assert set(decided) == (set(troubled.KINDS) | set(troubled.GOOD)) - without
    huge = ledger.filter(pc.greater(ledger["bytes_read"], 20_000_000))
    assert (huge["decision"].to_pylist(), huge["source_file"].to_pylist()) == (["keep"], ["m-huge.parquet"])


@pytest.mark.parametrize("unit_size", ["1B", "128MB"])
def test_unit_size_changes_no_byte_of_a_troubled_input(everything: Path, tmp_path: Path, unit_size: str) -> None:
    found = troubled.run_over(everything / "in", tmp_path / "out", unit_size=unit_size)
    assert runs.file_hashes(found) == runs.file_hashes(everything / "out")


@pytest.mark.parametrize("unit_size", ["1B", "128MB"])
def test_where_nothing_drops_every_text_that_can_be_used_is_in_data(
    everything: Path, tmp_path: Path, unit_size: str
) -> None:
    stages = [{"use": "url_tags"}]
    output = troubled.run_over(everything / "in", tmp_path / "out", stages=stages, unit_size=unit_size)
    data = troubled.rows(output, "data").select(["source_file", "source_row", "text"]).to_pylist()
    found = {(row["source_file"], row["source_row"]): row["text"].encode() for row in data}
    assert len(found) == len(data)
    assert found == {
        (path.name, row): text
        for path in (everything / "in").iterdir()
        for row, text in troubled.truth(path).good.items()
    }
    assert b"" in found.values()


@pytest.mark.ray
def test_ray_writes_the_same_bytes_over_a_troubled_input(everything: Path, tmp_path: Path) -> None:
    recipe = load_recipe(everything / "out.yaml", output=str(tmp_path / "out"))
    run(recipe, executor="ray", workers=2)
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(everything / "out")


def _first_pass(output: Path) -> dict[str, tuple[int, bytes]]:
    """Inode and bytes of every file of the first step, and of its receipts."""
    found = {p.name: (p.stat().st_ino, p.read_bytes()) for p in (output / "work").glob("read-*/*.parquet")}
    return found | {p.name: (0, p.read_bytes()) for p in (output / "work").glob("read-*/receipts.jsonl")}


def test_too_much_bad_input_stops_with_a_whole_quarantine_and_the_same_command_goes_on(
    everything: Path, tmp_path: Path
) -> None:
    full = troubled.run_over(everything / "in", tmp_path / "full", stages=troubled.PASSING, unit_size="200kB")
    recipe = troubled.write(
        everything / "in", tmp_path / "out", stages=troubled.PASSING, unit_size="200kB", max_bad="1%"
    )
    output = tmp_path / "out"
    said = runs.tamis("run", recipe, code=1)
    assert "DataError" in said
    assert "m-all-undecodable.parquet" in said
    assert "m-odd-texts.parquet" not in said, "the worst files are named, not all"
    assert "Traceback" not in said
    assert runs.file_hashes(output) == runs.file_hashes(full, ("quarantine",))
    assert not (output / "manifest.json").exists()
    before = _first_pass(output)
    assert len(before) > 10
    with pytest.raises(DataError):
        run(load_recipe(recipe))
    runs.tamis("run", recipe, "--set", "max_bad=100%")
    assert _first_pass(output) == before
    events = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    measured = [event["unit"] for event in events if event["event"] == "unit" and event["step"].startswith("read-")]
    assert len(measured) == len(set(measured))
    assert runs.file_hashes(output) == runs.file_hashes(full)
    assert "OK" in runs.tamis("verify", output)


# --- how much is too much -----------------------------------------------------------------------------------------


def _texts(folder: Path, name: str, texts: list[str | None], **columns: Any) -> Path:
    """A file of texts, in row groups of 50, with ids and URLs unless told otherwise."""
    ids = {"id": [f"{name}-{i}" for i in range(len(texts))], "url": ["https://example.org/"] * len(texts)}
    make.parquet(
        folder / f"{name}.parquet", pa.table({"text": pa.array(texts, pa.string()), **ids, **columns}), group=50
    )
    return folder


def _plain(count: int) -> list[str | None]:
    return [f"This is the page of number {number}, which is like no other page." for number in range(count)]


@pytest.mark.parametrize(("nulls", "stops"), [(2, False), (3, True)])
def test_the_default_allows_one_row_in_a_hundred(tmp_path: Path, nulls: int, stops: bool) -> None:
    folder = _texts(tmp_path / "in", "few", [*_plain(200), *[None] * nulls])
    recipe = load_recipe(troubled.write(folder, tmp_path / "out", max_bad=0.01))
    if not stops:
        assert run(recipe).manifest["counts"]["quarantined"] == nulls
        return
    with pytest.raises(DataError, match=r"3 of 203 rows .*max_bad \(1\.00%\); worst: few\.parquet"):
        run(recipe)


def test_bytes_that_are_lost_count_as_rows_do(tmp_path: Path) -> None:
    folder = _texts(tmp_path / "in", "whole", _plain(100))
    make.no_parquet(folder / "lost.parquet")
    with pytest.raises(DataError, match=r"0 of 100 rows and 1,350 of .* worst: lost\.parquet"):
        run(load_recipe(troubled.write(folder, tmp_path / "out", max_bad=0.01)))
    assert not (tmp_path / "out" / "data").exists()


def test_no_text_column_names_the_columns_there_are_and_writes_nothing(tmp_path: Path) -> None:
    folder = troubled.write_good(tmp_path / "in")
    make.no_text_column(folder / "m.parquet")
    said = runs.tamis("run", troubled.write(folder, tmp_path / "out"), code=2)
    assert "m.parquet: has no column 'text'" in said
    assert "body, date, id, score, url" in said
    assert not (tmp_path / "out").exists()


# --- few documents, odd values ------------------------------------------------------------------------------------


def test_no_documents_at_all_is_a_finished_run(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make.zero_rows(folder / "a.parquet")
    make.zero_rows(folder / "b.parquet")
    for name, keys in {
        "plain": {},
        "quota": {"stages": [*troubled.STAGES[:-1], {"use": "sample", "per": "url", "top": 2}]},
    }.items():
        output = troubled.run_over(folder, tmp_path / name, **keys)
        assert sorted(p.name for p in output.glob("ledger/*")) == ["part-000000.parquet"]
        assert troubled.rows(output, "data").num_rows == 0
        assert "0 documents" in runs.tamis("verify", output)


def test_a_single_document_is_a_finished_run(tmp_path: Path) -> None:
    folder = _texts(tmp_path / "in", "one", _plain(1))
    output = troubled.run_over(folder, tmp_path / "out", stages=troubled.STAGES[:-1])
    assert troubled.rows(output, "data")["text"].to_pylist() == _plain(1)


def test_documents_with_equal_ids_are_documents_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _texts(tmp_path / "in", name, [f"{text} Of file {name}." for text in _plain(60) if text], id=["same"] * 60)
    output = troubled.run_over(tmp_path / "in", tmp_path / "out", stages=troubled.STAGES[:-1])
    for part in ("ledger", "data"):
        table = troubled.rows(output, part)
        assert table["doc_id"].to_pylist() == ["same"] * 120
        places = list(zip(table["source_file"].to_pylist(), table["source_row"].to_pylist()))
        assert places == [(f"{name}.parquet", row) for name in "ab" for row in range(60)]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_a_column_of_nan_fails_rules_as_null_does_and_passes_into_data_untouched(tmp_path: Path, kind: Any) -> None:
    nan = pa.array([float("nan")] * 60, pa.float64()).cast(kind)
    folder = _texts(tmp_path / "in", "nan", _plain(60), score=nan)
    rule = {"use": "rules", "rules": {"high": "score >= $min"}, "params": {"min": 50}}
    stages = [
        {"use": "normalize"},
        rule | {"name": "tagged", "nulls": "fail", "action": "tag"},
        {"use": "url_tags", "where": "score >= 50"},
        {"use": "exact_dedup", "prefer": ["score desc"]},
    ]
    output = troubled.run_over(folder, tmp_path / "out", stages=stages)
    ledger, data = troubled.rows(output, "ledger"), troubled.rows(output, "data")
    assert ledger["tagged_pass"].to_pylist() == [False] * 60
    assert ledger["host"].null_count == 60
    assert pc.all(pc.is_nan(data["score"])).as_py()
    assert data["score"].null_count == 0
    for nulls, fate in (("fail", "drop"), ("quarantine", "quarantine"), ("pass", "keep")):
        stages = [{"use": "normalize"}, {"use": "c4_lines"}, rule | {"name": "late", "nulls": nulls}]
        output = troubled.run_over(folder, tmp_path / nulls, stages=stages)
        assert troubled.rows(output, "ledger")["decision"].to_pylist() == [fate] * 60
