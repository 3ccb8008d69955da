"""What the page does where the source is gone, the ledger is large, or a column is odd; and `tamis report`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import load_recipe, parse_recipe
from tamis.pipeline.report import render_report
from tamis.pipeline.report import rows as rows_module
from tamis.pipeline.report import texts as texts_module
from tamis.pipeline.report.distributions import BINS, bin_edges, count_bins
from tamis.pipeline.report.render import existing_page, write_page
from tamis.pipeline.report.rows import open_rows
from tamis.pipeline.report.texts import Head, heads
from tamis.pipeline.report.thresholds import thresholds
from tamis.stages.errors import RecipeError, SetupError

from ...runs import file_hashes, tamis, write_corpus, write_recipe
from ..small_run import small_run
from .reading import Reading


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 600 documents and the source it was made from."""
    folder = tmp_path_factory.mktemp("parts")
    write_corpus(folder / "in", documents=200, group_rows=50)
    run(load_recipe(write_recipe(folder / "recipe.yaml", folder / "in", folder / "out")))
    return folder


def documents(output: Output) -> list[dict[str, object]]:
    return output.rows("SELECT doc_id, source_file, source_row, source_hash, decision, out_file, out_row FROM ledger")


def test_texts_come_from_the_source_without_work(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out", ignore=shutil.ignore_patterns("work"))
    there, here = Output(str(folder / "out")), Output(str(tmp_path / "out"))
    here.manifest["recipe"]["output"] = str(tmp_path / "out")
    found = heads(here, documents(here))
    assert found == heads(there, documents(there))
    assert all(isinstance(head, Head) for head in found.values())
    assert {head.written for head in found.values() if isinstance(head, Head)} == {True, False}


def test_without_the_source_dropped_documents_are_shown_without_text(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out", ignore=shutil.ignore_patterns("work"))
    output = Output(str(tmp_path / "out"))
    output.manifest["recipe"]["output"] = str(tmp_path / "out")
    output.manifest["recipe"]["input"][0]["files"] = [f"{tmp_path}/gone/*.parquet"]
    found = heads(output, documents(output))
    for row in documents(output):
        head = found[row["source_file"], row["source_row"]]  # type: ignore[index]
        assert isinstance(head, Head) == (row["decision"] == "keep")
    page = Reading(render_report(output))
    assert "cannot be read again" in page.texts["near"]
    assert len(page.table("table-stages").rows) > 5


def test_a_source_that_changed_is_not_shown_as_what_was_measured(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out", ignore=shutil.ignore_patterns("work"))
    write_corpus(tmp_path / "in", documents=200, group_rows=50, seed=2)
    output = Output(str(tmp_path / "out"))
    output.manifest["recipe"] |= {"output": str(tmp_path / "out")}
    output.manifest["recipe"]["input"][0]["files"] = [f"{tmp_path}/in/*.parquet"]
    dropped = [row for row in documents(output) if row["decision"] == "drop"]
    assert set(heads(output, dropped).values()) == {"the source has changed since it was measured"}


def test_reading_stops_at_the_budget(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(str(folder / "out"))
    whole = heads(output, documents(output))
    sizes = sum(path.stat().st_size for path in (folder / "in").iterdir())
    monkeypatch.setattr(texts_module, "BUDGET", sizes)
    some = heads(output, documents(output))
    assert some.keys() == whole.keys()
    left_out = [i for i, head in some.items() if isinstance(head, str)]
    assert 0 < len(left_out) < len(some)
    assert {some[i] for i in left_out} == {"too much text to read again for this page"}
    assert all(some[i] == whole[i] for i in some.keys() - set(left_out))


def test_of_a_large_ledger_some_row_groups_are_looked_at_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamis.pipeline import ledger

    monkeypatch.setattr(ledger, "PART_ROWS", 150)
    monkeypatch.setattr(ledger, "LAYOUT", ledger.LAYOUT.__class__(**{**vars(ledger.LAYOUT), "group_rows": 50}))
    write_corpus(tmp_path / "in", documents=200)
    run(load_recipe(write_recipe(tmp_path / "recipe.yaml", tmp_path / "in", tmp_path / "out")))
    output = Output(str(tmp_path / "out"))
    full = Reading(render_report(output))
    monkeypatch.setattr(rows_module, "MOST", 500)
    monkeypatch.setattr(rows_module, "GROUPS", 4)
    seen = open_rows(output, ["words"])
    assert (seen.total, seen.seen) == (600, 200)
    places = output.rows("SELECT source_file, source_row FROM report_rows")
    assert len({place["source_file"] for place in places}) == 3, "spread over the whole"
    page = Reading(render_report(output))
    assert "Drawn from 200 of 600 ledger rows" in page.texts["values"]
    assert "Out of 200 of 600 ledger rows" in page.texts["near"]
    assert page.table("table-rules").rows == full.table("table-rules").rows, "counts are of the whole ledger"
    assert sum(page.figure("words")["data"][0]["y"]) < sum(full.figure("words")["data"][0]["y"])


def test_thresholds_are_the_comparisons_of_a_column_with_a_number(tmp_path: Path) -> None:
    rules = {
        "one": "chars >= $a AND 5000 > chars",
        "ratio": "chars / $b > 1",
        "text": "lang = $c",
        "turned": "$a < bytes OR bytes BETWEEN $b AND 900",
    }
    stage = {"use": "rules", "name": "own", "nulls": "pass", "rules": rules, "params": {"a": 1, "b": 2.5, "c": "en"}}
    result = small_run(tmp_path, stages=[stage, {"use": "c4_lines"}, {**stage, "name": "late"}])
    output = Output(result.output)
    found = {(t.rule, t.column, t.sign, t.value, t.param) for t in thresholds(output) if t.stage == "own"}
    assert found == {
        ("own.one", "chars", ">=", 1, "own.a"),
        ("own.one", "chars", "<", 5000, None),
        ("own.turned", "bytes", ">", 1, "own.a"),
        ("own.turned", "bytes", ">=", 2.5, "own.b"),
        ("own.turned", "bytes", "<=", 900, None),
    }
    page = Reading(render_report(output))
    assert "chars >= 1 own.a" in " ".join(page.texts["near-0"].split())


@given(
    st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=50),
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), max_size=3),
    st.booleans(),
)
def test_bins_ascend_hold_the_marks_and_are_few(values: list[float], marks: list[float], whole: bool) -> None:
    found = np.array([round(v) if whole else v for v in values], np.float64)
    edges, log = bin_edges(found, marks, whole)
    assert (np.diff(edges) > 0).all()
    assert 2 <= len(edges) <= BINS + 4
    for mark in marks:
        assert edges[0] <= mark <= edges[-1]
    if whole:
        assert (edges % 1 == 0.5).all()
    inner = np.quantile(found, (0.25, 0.75), method="inverted_cdf")
    assert edges[0] <= inner[0]
    assert inner[1] <= edges[-1]
    assert not log or edges[0] >= -0.5


@given(st.lists(st.tuples(st.integers(-3, 9), st.booleans())), st.lists(st.integers(0, 6), min_size=2, unique=True))
def test_every_value_is_counted_once(values: list[tuple[int, bool]], bounds: list[int]) -> None:
    edges = sorted(bounds)
    numbers, second = np.array([v for v, _ in values], np.float64), np.array([s for _, s in values], np.bool_)
    expected = [[0] * (len(edges) + 1) for _ in range(2)]
    for value, other in values:
        place = 0 if value < edges[0] else len(edges) if value > edges[-1] else 1
        if place == 1:
            place = min(sum(value >= edge for edge in edges), len(edges) - 1)
        expected[other][place] += 1
    assert count_bins(numbers, second, np.array(edges, np.float64)) == expected


def test_only_documents_that_reached_a_stage_are_shown_for_its_columns(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"text": [f"text {i}" for i in range(60)], "first": range(60), "second": range(60)})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    stages = [
        {"use": "rules", "name": name, "nulls": "pass", "rules": {name: f"{name} >= $low"}, "params": {"low": low}}
        for name, low in (("first", 20), ("second", 30))
    ]
    recipe = {"name": "two", "input": f"{tmp_path}/in/*.parquet", "output": f"{tmp_path}/out", "stages": stages}
    page = Reading(render_report(Output(run(parse_recipe(recipe)).output)))
    for name, seen, low in (("first", 60, 20), ("second", 40, 30)):
        bars = page.figure(name)["data"]
        assert sum(bars[0]["y"]) + sum(bars[1]["y"]) == seen
        near = next(text for i, text in page.texts.items() if i.startswith("near-") and f"{name} >= {low}" in text)
        assert f"30 pass · {seen - 30} do not" in near if name == "second" else f"40 pass · {seen - 40} do not" in near


def test_what_a_stage_set_aside_was_not_dropped_by_the_one_rule_that_it_failed_later(tmp_path: Path) -> None:
    stages = [
        {"use": "rules", "name": "size", "rules": {"english": "lang = 'en'"}},
        {"use": "rules", "name": "late", "nulls": "pass", "rules": {"what": "NOT ends_with(doc_id, 'unknown')"}},
    ]
    result = small_run(tmp_path, stages=stages, observe=True)
    output = Output(result.output)
    aside = output.rows("SELECT decision, failed FROM ledger WHERE lang IS NULL")
    assert aside == [{"decision": "quarantine", "failed": ["late.what"]}]
    table = Reading(render_report(output)).table("table-rules")
    only = dict(zip((cell.split(" ")[0] for cell in table.column("rule")), table.column("dropped only by it")))
    assert only == {"size.english": "2", "late.what": "0"}


def test_the_command_renders_elsewhere_and_leaves_the_output_alone(folder: Path, tmp_path: Path) -> None:
    before = file_hashes(folder / "out", ("",))
    assert tamis("report", folder / "out", "--to", tmp_path / "page.html").strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert file_hashes(folder / "out", ("",)) == before


def test_the_command_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="checksums"):
        write_page(str(folder / "out"), folder / "out" / "report.html")
    with pytest.raises(SetupError, match="existing folder"):
        write_page(str(folder / "out"), tmp_path / "none" / "page.html")
    with pytest.raises(SetupError, match="no run of Tamis ended here"):
        existing_page(str(tmp_path))


def test_the_command_names_the_page_that_the_run_wrote(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    page = tmp_path / "out" / "report.html"
    page.unlink(missing_ok=True)
    with pytest.raises(SetupError, match="--to FILE"):
        existing_page(str(tmp_path / "out"))
    page.write_text("")
    assert existing_page(str(tmp_path / "out")) == str(page)
