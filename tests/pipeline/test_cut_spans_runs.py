"""Spans in whole runs: measured by one stage, resolved by another, cut by `cut_spans`, replayed, shown and explained."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner

from tamis.pipeline import api
from tamis.pipeline.commands.list import command as list_command
from tamis.pipeline.commands.sql import command as sql_command
from tamis.pipeline.driver import run
from tamis.pipeline.graph import build_graph
from tamis.pipeline.recipe import load_recipe, parse_recipe
from tamis.pipeline.show_documents import Choice, shown
from tamis.pipeline.try_document import try_document
from tamis.pipeline.try_source import found_document, input_plan
from tamis.pipeline.try_text import trial_text
from tamis.pipeline.why import story
from tamis.stages._spans import SPANS
from tamis.stages.base import Column, Stage
from tamis.stages.errors import RecipeError, StageError
from tamis.stages.normalize import Normalize

from ..crashes import Crash, Crasher
from ..runs import check_accounting, file_hashes, query, rows, write_corpus, write_recipe

PEOPLE = re.compile(rb"people|water")


def people(text: str) -> list[dict[str, Any]]:
    """`people` is for cutting, `water` is not."""
    data = text.encode()
    kinds = {b"people": "repeat", b"water": "other"}
    return [
        {"start": m.start(), "end": m.end(), "score": m.start() / len(data), "kind": kinds[m[0]]}
        for m in PEOPLE.finditer(data)
    ]


class Marks(Stage):
    """Finds two words."""

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("marks", SPANS, "people and water"), Column("marked", pa.int32(), "how many"))

    def measure(self, batch: pa.Table) -> pa.Table:
        found = [people(text) for text in batch["text"].to_pylist()]
        return pa.table({"marks": pa.array(found, SPANS), "marked": pa.array([len(f) for f in found], pa.int32())})


class Heads(Stage):
    """The first 25 bytes of every third document, found by a stage that sees all units."""

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("heads", SPANS, "the first bytes"), Column("head", pa.int64(), "bytes in it"))

    def resolve(self, runs: Any, ctx: Any) -> dict[str, Any]:
        ctx.map("find", _find_heads, {f"u{u.index}": u.index for u in runs.units})
        return {}


def _find_heads(task: Any, stage: Stage, unit: int) -> dict[str, Any]:
    found = task.rows(unit, ["source_row", "bytes"])
    ends = [min(25, size) for size in found["bytes"].to_pylist()]
    heads = [
        [{"start": 0, "end": end, "score": 1.0, "kind": "repeat"}] if row % 3 == 0 else []
        for row, end in zip(found["source_row"].to_pylist(), ends, strict=True)
    ]
    task.write(unit, pa.table({"heads": pa.array(heads, SPANS), "head": pa.array(ends, pa.int64())}))
    return {}


class Marker(Marks):
    """Claims a span that is not there."""

    def measure(self, batch: pa.Table) -> pa.Table:
        found = super().measure(batch)
        wrong = [[{"start": 0, "end": 10**6, "score": 1.0, "kind": "other"}]] * len(batch)
        return found.set_column(0, "marks", pa.array(wrong, SPANS))


MARKS, HEADS, MARKER = ({"use": f"{__name__}:{name}"} for name in ("Marks", "Heads", "Marker"))
CUT: dict[str, Any] = {"use": "cut_spans", "spans": ["marks", "heads"], "replace": "\u2026", "min_words": 12}
STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    MARKS,
    HEADS,
    CUT,
    {"use": "text_signals", "name": "post"},
    {"use": "rules", "rules": {"long": "chars > 100", "marked": "marked < 12"}},
    {"use": "exact_dedup"},
    {"use": "copies"},
]


def recipe(corpus: Path, output: Path, **changes: Any) -> Path:
    return write_recipe(corpus.parent / f"{output.name}.yaml", corpus, output, **{"stages": STAGES, **changes})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("spans") / "in", shards=2, documents=120, group_rows=40)


@pytest.fixture(scope="module")
def output(corpus: Path) -> Path:
    run(load_recipe(recipe(corpus, corpus.parent / "out", report={"pages": True})))
    return corpus.parent / "out"


def by_place(table: pa.Table) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["source_file"], row["source_row"]): row for row in table.to_pylist()}


def normal_texts(corpus: Path) -> dict[tuple[str, int], str]:
    """The text version that the spans were measured on."""
    stage = Normalize(Normalize.Config(), name="normalize")
    found = {}
    for path in sorted(corpus.glob("*.parquet")):
        text = pq.read_table(path, columns=["text"])["text"].cast(pa.large_string())
        new = stage.edit(pa.table({"text": text}))["text"].to_pylist()
        found |= {(path.name, row): text for row, text in enumerate(new)}
    return found


def cut(text: str, row: int) -> tuple[str, int]:
    """(text, cuts): what STAGES make of it. Here all characters at the edges of spans are ASCII or whole."""
    data, mask = text.encode(), bytearray(len(text.encode()))
    for span in people(text):
        if span["kind"] == "repeat":
            mask[span["start"] : span["end"]] = b"x" * (span["end"] - span["start"])
    if row % 3 == 0:
        end = min(25, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        mask[:end] = b"x" * end
    new, plain, at, cuts = b"", b"", 0, 0
    for match in re.finditer(b"x+", bytes(mask)):
        new, plain = new + data[at : match.start()] + "\u2026".encode(), plain + data[at : match.start()]
        at, cuts = match.end(), cuts + 1
    new, plain = (new + data[at:]).decode(), (plain + data[at:]).decode()
    return ("" if cuts and len(plain.split()) < 12 else new), cuts


def test_texts_and_ledger_are_what_the_spans_say(corpus, output):
    counts = check_accounting(output)
    ledger, data, texts = by_place(rows(output, "ledger")), by_place(rows(output, "data")), normal_texts(corpus)
    emptied = 0
    for place, row in ledger.items():
        if row["decision"] == "quarantine":
            continue
        expected, cuts = cut(texts[place], place[1])
        assert row["cut_count"] == cuts
        assert row["cut_spans_changed"] == (cuts > 0)
        assert (row["rule"] == "cut_spans.empty") == (expected == "")
        assert [(s["start"], s["end"], s["kind"]) for s in row["marks"]] == [
            (s["start"], s["end"], s["kind"]) for s in people(texts[place])
        ]
        emptied += expected == ""
        if row["decision"] == "keep":
            assert data[place]["text"] == expected
            assert row["post_words"] is not None
    assert emptied >= 5
    assert counts["keep"] > 50
    assert len({row["cut_count"] for row in ledger.values()}) > 4


def test_lists_stay_in_the_ledger_and_come_to_the_data_where_they_are_named(corpus, output, tmp_path):
    assert not {"marks", "heads"} & set(rows(output, "data").column_names)
    assert {"marked", "head", "cut_bytes", "cut_count", "copies"} <= set(rows(output, "data").column_names)
    assert query(f"SELECT count(*), max(marks[1].score) < 1 FROM '{output}/ledger/*.parquet'")[0][1]
    write = {"columns": ["id", "marks", "len(heads) AS found"], "format": "jsonl.zst"}
    run(load_recipe(recipe(corpus, tmp_path / "named", write=write)))
    ledger = by_place(rows(tmp_path / "named", "ledger"))
    [part] = (tmp_path / "named" / "data").glob("*")
    lines = zstandard.ZstdDecompressor().stream_reader(part.open("rb")).read().decode().splitlines()
    assert len(lines) > 50
    for row in map(json.loads, lines):
        told = ledger[row["source_file"], row["source_row"]]
        assert row["found"] == len(told["heads"])
        got = [{**span, "score": pytest.approx(span["score"], rel=1e-6)} for span in row["marks"]]
        assert told["marks"] == got


@pytest.mark.parametrize("how", ["unit_size", pytest.param("ray", marks=pytest.mark.slow)])
def test_units_and_workers_change_nothing(corpus, output, tmp_path, how):
    changed = {"unit_size": "20kB"} if how == "unit_size" else {}
    loaded = load_recipe(recipe(corpus, tmp_path / "other", report={"pages": False}, **changed))
    run(loaded, **({"executor": "ray", "workers": 2} if how == "ray" else {}))
    for folder in ("data", "ledger"):
        assert rows(tmp_path / "other", folder).equals(rows(output, folder))


def test_a_stop_at_any_seventh_commit_is_continued_to_the_same_bytes(tmp_path):
    small = write_corpus(tmp_path / "in", shards=2, documents=30, group_rows=30)
    run(load_recipe(recipe(small, tmp_path / "whole", unit_size="20kB")))
    expected = file_hashes(tmp_path / "whole")
    for at in range(3, 1000, 7):
        loaded = load_recipe(recipe(small, tmp_path / f"out{at}", unit_size="20kB"))
        with pytest.MonkeyPatch.context() as patch:
            crasher = Crasher(patch, at, after=True)
            with contextlib.suppress(Crash):
                run(loaded)
        if crasher.count < at:
            break
        run(loaded)
        assert file_hashes(tmp_path / f"out{at}") == expected, f"stopped at {crasher.where}"
    assert at > 30


def test_an_observing_run_decides_the_same_and_shows_all_spans(corpus, output, tmp_path):
    run(load_recipe(recipe(corpus, tmp_path / "seen"), settings=["observe=true"]))
    fate = "SELECT source_file, source_row, decision, stage, rule, cut_count, cut_bytes"
    found = query(f"{fate} FROM '{tmp_path}/seen/ledger/*.parquet'")
    assert sorted(found) == sorted(query(f"{fate} FROM '{output}/ledger/*.parquet'"))


def test_a_sampled_document_is_treated_as_in_the_whole_run(corpus, output, tmp_path):
    stages = STAGES[:6]
    for name, settings in (("part", ["sample=30%"]), ("all", [])):
        run(load_recipe(recipe(corpus, tmp_path / name, stages=stages), settings=settings))
    part, whole = (by_place(rows(tmp_path / name, "ledger")) for name in ("part", "all"))
    assert 30 < len(part) < 120
    for place, row in part.items():
        told = {name: value for name, value in row.items() if name not in ("out_file", "out_row")}
        assert told == {name: whole[place][name] for name in told}
    assert by_place(rows(tmp_path / "part", "data")).keys() <= by_place(rows(tmp_path / "all", "data")).keys()


def test_moving_the_cut_measures_nothing_again(corpus, tmp_path):
    work = str(tmp_path / "work")
    run(load_recipe(recipe(corpus, tmp_path / "a", work=work)))
    moved = [{**stage, "where": "score > 0.5"} if stage is CUT else stage for stage in STAGES]
    run(load_recipe(recipe(corpus, tmp_path / "b", work=work, stages=moved)))
    events = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    steps = {event["step"].partition("-")[0] for event in events if event["event"] == "unit"}
    assert steps == {"measure"}, "the steps before the cut stand"
    assert not any(event["event"] == "item" and event["phase"].startswith("heads/") for event in events)
    a, b = (by_place(rows(tmp_path / name, "ledger")) for name in ("a", "b"))
    assert [row["marks"] for row in a.values()] == [row["marks"] for row in b.values()]
    assert [row["cut_count"] for row in a.values()] != [row["cut_count"] for row in b.values()]


@pytest.fixture(scope="module")
def changed(output: Path) -> list[dict[str, Any]]:
    """Ledger rows of documents that were cut: by the first stage alone, by both, dropped, emptied."""
    ledger = [row for row in rows(output, "ledger").to_pylist() if row["cut_count"]]
    kept = [row for row in ledger if row["decision"] == "keep"]
    found = [
        next(row for row in kept if not row["heads"]),
        next(row for row in kept if row["heads"] and row["marks"]),
        next(row for row in ledger if row["stage"] == "rules"),
        next(row for row in ledger if row["rule"] == "cut_spans.empty"),
    ]
    return found


def test_stories_and_differences_show_the_cut(output, changed):
    for row in changed:
        key = f"{row['source_file']}#{row['source_row']}"
        told = story(str(output), key=key)
        assert "cut_spans: " in told, told
        assert "cannot be shown" not in told
        assert re.search(r"^ +\+ .*\u2026|^ +- ", told, re.MULTILINE)
        assert f"cut_count = {row['cut_count']}" in told
        where = f"source_file = '{row['source_file']}' AND source_row = {row['source_row']}"
        for diff in (False, True):
            lines = "\n".join(shown(str(output), Choice(where=where, diff=diff)))
            assert "cannot be shown" not in lines
            assert ("\u2026" in lines) or row["rule"] == "cut_spans.empty"


def test_text_of_dropped_documents_is_that_after_the_cut(corpus, output, changed):
    texts = normal_texts(corpus)
    for row in changed[2:]:
        where = f"source_file = '{row['source_file']}' AND source_row = {row['source_row']}"
        lines = list(shown(str(output), Choice(where=where, chars=100_000)))
        body = "\n".join(line.removeprefix("  | ") for line in lines if line.startswith("  | "))
        assert body == cut(texts[row["source_file"], row["source_row"]], row["source_row"])[0]


def test_a_trial_cuts_what_one_document_can_tell(corpus, output, changed):
    loaded = load_recipe(recipe(corpus, output))
    plan = input_plan(loaded)
    for row in changed:
        trial = try_document(found_document(plan, f"{row['source_file']}#{row['source_row']}", lambda line: None))
        stage = next(stage for stage in trial.stages if stage.name == "cut_spans")
        alone = len([span for span in row["marks"] if span["kind"] == "repeat"])
        assert stage.values == {}
        assert set(stage.unknown) == {"cut_bytes", "cut_count"}
        assert stage.after.count("\u2026") == alone or stage.end
        assert stage.blind == ("heads",)
        assert "reads heads, which need the whole corpus" in trial_text(trial)
    simple = [*STAGES[:2], {**CUT, "spans": "marks"}]
    trial = try_document(
        found_document(input_plan(parse_recipe({**loaded_keys(corpus), "stages": simple})), "part-0.parquet#1", print)
    )
    assert trial.stages[-1].values["cut_count"] == trial.stages[-1].after.count("\u2026") > 0


def loaded_keys(corpus: Path) -> dict[str, Any]:
    return {"name": "t", "input": f"{corpus}/*.parquet", "output": "nowhere"}


def test_spans_of_the_input_can_be_cut_and_stages_can_be_tried_in_memory():
    table = pa.table(
        {"text": ["keep cut keep"], "mine": pa.array([[{"start": 5, "end": 9, "score": 1.0, "kind": "repeat"}]], SPANS)}
    )
    found = api.apply("cut_spans", table, spans="mine")
    assert found.to_pylist() == [{"cut_bytes": 4, "cut_count": 1, "text": "keep keep"}]


def test_pages_queries_and_listings_take_list_columns(corpus, output):
    assert (output / "report.html").stat().st_size > 10_000
    assert (output / "README.md").exists()
    assert not [line for line in (output / "log.jsonl").read_text().splitlines() if '"event": "failure"' in line]
    query = "SELECT marks[1].kind AS kind, marks FROM ledger WHERE len(marks) = 1 AND marked = 1 LIMIT 1"
    told = CliRunner().invoke(sql_command, [str(output), query])
    assert told.exit_code == 0, told.output
    assert re.search(
        r"^(repeat|other) +\[\{start \d+, end \d+, score [0-9.e-]+, kind \1\}\]$", told.output, re.MULTILINE
    )
    told = CliRunner().invoke(list_command, ["columns", str(recipe(corpus, output, report={"pages": True}))])
    assert told.exit_code == 0, told.output
    assert re.search(r"marks +list<", told.output)


def graph(*stages: dict[str, Any], **columns: pa.DataType):
    made = parse_recipe({"name": "x", "input": "x.parquet", "output": "out", "stages": list(stages)})
    return build_graph(made, pa.schema(list(columns.items())))


def test_spans_of_another_text_version_are_refused_with_the_way_out():
    one = {"use": "cut_spans", "spans": "marks"}
    graph(MARKS, one)
    graph({"use": "c4_lines"}, MARKS, {"use": "text_signals"}, one)
    graph(one, marks=SPANS)
    with pytest.raises(
        RecipeError,
        match=r"cut_spans\): marks, from .*Marks\), belongs to the text before .*c4_lines\), which changes it: move one",
    ):
        graph(MARKS, {"use": "c4_lines"}, one)
    with pytest.raises(RecipeError, match=r"marks, from the input, belongs to the text before .*c4_lines\)"):
        graph({"use": "c4_lines"}, one, marks=SPANS)


def test_two_cuts_over_one_version_are_refused_and_told_to_be_one():
    second = {"use": "cut_spans", "name": "second", "spans": ["heads"]}
    said = r"second\): heads, from .*Heads\), belongs to the text before .*: give both one stage: `spans: \[marks, heads\]`"
    with pytest.raises(RecipeError, match=said):
        graph(MARKS, HEADS, {"use": "cut_spans", "spans": "marks"}, second)
    graph(MARKS, {"use": "cut_spans", "spans": "marks"}, HEADS, second)


def test_the_condition_picks_spans_not_documents(tmp_path):
    found = graph(MARKS, {"use": "cut_spans", "spans": "marks", "where": "score > 0.5"}).stages[-1]
    assert found.entry.where is None
    assert found.stage.config.where == "score > 0.5"
    assert "kind" not in found.needs
    with pytest.raises(RecipeError, match=r"no such column: scor\. Did you mean: score"):
        graph(MARKS, {"use": "cut_spans", "spans": "marks", "where": "scor > 0.5"})


def test_a_span_beyond_its_text_stops_the_run_and_names_the_document(corpus, tmp_path):
    stages = [MARKER, {"use": "cut_spans", "spans": "marks"}]
    with pytest.raises(
        StageError, match=r"stage cut_spans: document doc-000\d\d\d: a span of marks goes from byte 0 to 1000000"
    ):
        run(load_recipe(recipe(corpus, tmp_path / "out", stages=stages)))


def test_after_paragraph_dedup_every_line_of_the_corpus_is_there_once(corpus, tmp_path):
    stages = [{"use": "normalize"}, {"use": "paragraph_dedup"}, {"use": "cut_spans", "spans": "paragraph_spans"}]
    run(load_recipe(recipe(corpus, tmp_path / "out", stages=stages)))
    check_accounting(tmp_path / "out")

    def lines(texts: list[str]) -> list[str]:
        return sorted(line for text in texts for line in text.split("\n") if line.strip())

    before, after = (
        lines(list(normal_texts(corpus).values())),
        lines(rows(tmp_path / "out", "data")["text"].to_pylist()),
    )
    assert len(before) > len(after) + 50
    assert after == sorted(set(before))
    row = next(row for row in rows(tmp_path / "out", "ledger").to_pylist() if row["cut_count"])
    told = story(str(tmp_path / "out"), key=f"{row['source_file']}#{row['source_row']}")
    assert "cut_spans: " in told
    assert "cannot be shown" not in told
