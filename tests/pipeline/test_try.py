"""`tamis try` shows what a run would do: values, verdicts and text equal those of the run's ledger and shards."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from click.testing import CliRunner

from tamis.pipeline.commands.try_ import command
from tamis.pipeline.driver import run
from tamis.pipeline.plan import Plan
from tamis.pipeline.recipe import Recipe, load_recipe, parse_recipe
from tamis.pipeline.try_document import Trial, try_document
from tamis.pipeline.try_source import found_document, given_text, input_plan
from tamis.pipeline.try_text import trial_text
from tamis.stages.errors import RecipeError

from .small_run import DOCUMENTS, EVIL, PROSE, small_recipe, write_documents

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
GOLDEN = ROOT / "tests" / "golden" / "pages.jsonl"


def tried(recipe: Recipe | Plan, key: str) -> Trial:
    plan = input_plan(recipe) if isinstance(recipe, Recipe) else recipe
    return try_document(found_document(plan, key, lambda line: None))


def check_against_ledger(recipe: Recipe, output: Path, keys: list[str]) -> set[str | None]:
    """Fate, values and text of each document are those of the run; returns the rules that it met."""
    ledger = {f"{row['source_file']}#{row['source_row']}": row for row in runs.rows(output, "ledger").to_pylist()}
    texts = {f"{row['source_file']}#{row['source_row']}": row["text"] for row in runs.rows(output, "data").to_pylist()}
    plan = input_plan(recipe)
    resolving = {bound.name for bound in plan.graph.stages if bound.stage.kind == "resolve"}
    for key in keys:
        trial, row = tried(plan, key), ledger[key]
        assert {name: row[name] for name in trial.identity} == dict(trial.identity)
        if row["stage"] in resolving:
            assert trial.end is None, key
        else:
            assert trial.decision == row["decision"], key
            end = trial.end
            assert (end and end.stage, end and end.rule, end and end.reason) == (
                row["stage"],
                row["rule"],
                row["reason"],
            )
            assert list(end.failed if end else ()) == (row["failed"] or []), key
        for stage in trial.stages:
            for name, value in stage.values.items():
                assert value == row[name] or (isinstance(value, float) and math.isclose(value, row[name])), (key, name)
            if stage.kind == "edit":
                assert (stage.before != stage.after) == row[f"{stage.name}_changed"], (key, stage.name)
            if stage.end or stage.name == row["stage"]:
                break
        if key in texts:
            assert trial.stages[-1].after == texts[key], key
    return {ledger[key]["rule"] for key in keys}


def test_every_golden_page_gets_the_verdict_the_values_and_the_text_of_a_run(tmp_path: Path) -> None:
    recipe = load_recipe(QUICKSTART, input=[str(GOLDEN)], output=str(tmp_path / "out"))
    run(recipe)
    pages = [f"pages.jsonl#{number}" for number, line in enumerate(GOLDEN.open(encoding="utf-8"), 1) if line.strip()]
    numbers = [f"pages.jsonl#{row}" for row in runs.rows(tmp_path / "out", "ledger")["source_row"].to_pylist()]
    assert len(numbers) == len(pages) >= 200
    assert len(check_against_ledger(recipe, tmp_path / "out", numbers)) > 20


def test_documents_of_the_web_get_the_verdict_of_a_run(tmp_path: Path, shared_data: Path) -> None:
    file = sorted((shared_data / "web").glob("*.parquet"))[3]
    some = pq.ParquetFile(file).read_row_group(0).slice(0, 400)
    (tmp_path / "in").mkdir()
    pq.write_table(some, tmp_path / "in" / "web.parquet", row_group_size=150)
    recipe = load_recipe(ROOT / "configs" / "fineweb.yaml", input=[f"{tmp_path}/in/*"], output=str(tmp_path / "out"))
    run(recipe)
    rules = check_against_ledger(recipe, tmp_path / "out", [f"web.parquet#{row}" for row in range(0, len(some), 8)])
    assert len(rules) > 5


def test_a_plain_text_is_treated_as_the_same_text_in_the_input(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    recipe = small_recipe(tmp_path)
    for name, rows in DOCUMENTS.items():
        for number, (doc_id, text, url, lang) in enumerate(rows):
            if text is None:
                continue
            given = {"doc_id": doc_id, "url": url, "lang": lang}
            columns = {column: value for column, value in given.items() if value is not None}
            trial = try_document(given_text(recipe, "x.txt", text.encode(), columns))
            same = tried(recipe, f"{name}#{number}")
            assert (trial.stages, trial.end, trial.text) == (same.stages, same.end, same.text)


def test_it_goes_on_behind_the_rule_that_drops_and_says_what_else_would(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    recipe = small_recipe(tmp_path, stages=STAGES)
    trial = try_document(given_text(recipe, "x.txt", b"Too short.", {"lang": "de", "url": "http://x.example"}))
    assert [stage.end and stage.end.rule for stage in trial.stages] == ["size.long", "late.web", None]
    assert trial.end is not None
    assert trial.end.failed == ("size.long", "size.english")
    told = trial_text(trial)
    assert "fate    dropped by size.long: chars = 10, needs chars >= 40" in told
    assert "later stages would end it too: late (late.web)" in told
    assert told.count("a run does not come so far") == 2
    assert "FAIL  size.english  lang = de  needs lang = 'en'" in " ".join(told.split("\n")).replace("   ", "  ")


STAGES: list[dict[str, Any]] = [
    {
        "use": "rules",
        "name": "size",
        "rules": {"long": "chars >= $min", "english": "lang = 'en'"},
        "params": {"min": 40},
    },
    {"use": "rules", "name": "late", "where": "url IS NOT NULL", "rules": {"web": "starts_with(url, 'https')"}},
    {"use": "normalize"},
]


def test_what_needs_the_whole_corpus_is_open_and_decides_nothing(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    after = {
        "first": "exact_kept_row > 0",
        "alone": "exact_cluster_size < 9",
        "tag": "exact_dedup_pass",
        "long": "chars > 1",
    }
    stages = [{"use": "exact_dedup", "action": "tag"}, {"use": "rules", "name": "late", "rules": after}]
    trial = tried(small_recipe(tmp_path, stages=stages), "b.parquet#1")
    dedup, late = trial.stages
    assert dedup.values == {}
    assert "exact_dedup_pass" in dedup.unknown
    assert [rule.outcome for rule in late.rules] == ["unknown", "unknown", "unknown", "pass"]
    assert trial.end is None
    assert "open    exact_dedup: needs the whole corpus" in trial_text(trial)


def test_a_null_says_what_follows_from_it(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    for nulls, decision in (("pass", "keep"), ("fail", "drop"), ("quarantine", "quarantine")):
        stages = [{"use": "rules", "rules": {"english": {"sql": "lang = 'en'", "nulls": nulls}}}]
        trial = tried(small_recipe(tmp_path, stages=stages), "unknown")
        assert trial.decision == decision
        assert trial.stages[0].rules[0].outcome == "null"
    assert "set aside by rules.english: lang = null" in trial_text(trial)


# --- where the document comes from --------------------------------------------------------------------------------


def test_a_document_is_found_by_place_id_and_url(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    recipe = small_recipe(tmp_path)
    for key in ("b.parquet#2", "german", "https://example.org/german"):
        assert tried(recipe, key).identity["url"] == "https://example.org/german"


def test_the_search_for_an_id_stops_at_the_first_hit_and_tells_how_far_it_is(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    broken = tmp_path / "in" / "c.parquet"
    broken.write_bytes((tmp_path / "in" / "b.parquet").read_bytes())
    recipe = small_recipe(tmp_path)
    said: list[str] = []
    assert found_document(input_plan(recipe), "repost", said.append).row["source_file"][0].as_py() == "b.parquet"
    assert said == ["looked through 1 of 3 files, 7 documents"]
    with pytest.raises(RecipeError, match="no document of the input has this doc_id"):
        found_document(input_plan(recipe), "nowhere", said.append)


def test_mistakes_in_a_key_name_the_file_or_row(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    recipe = small_recipe(tmp_path)
    with pytest.raises(RecipeError, match=r"a\.parquet has no document in row 99"):
        tried(recipe, "a.parquet#99")
    with pytest.raises(RecipeError, match=r"Did you mean: a\.parquet"):
        tried(recipe, "aa.parquet#1")


def test_a_text_that_cannot_be_read_is_set_aside_as_in_a_run(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    recipe = small_recipe(tmp_path)
    trial = tried(recipe, "nothing")
    assert (trial.decision, trial.stages) == ("quarantine", ())
    assert "set aside: its text is null" in trial_text(trial)
    trial = try_document(given_text(recipe, "x", b"caf\xe9", {}))
    assert trial.end is not None
    assert trial.end.reason == "invalid_utf8"


def test_without_the_input_a_text_has_the_columns_that_are_given(tmp_path: Path) -> None:
    recipe = parse_recipe(
        {
            "name": "x",
            "input": f"{tmp_path}/nothing/*.parquet",
            "output": f"{tmp_path}/out",
            "stages": [{"use": "rules", "rules": {"good": "score >= 0.5 AND lang = 'en' AND flag"}}],
        }
    )
    given = {"score": "0.75", "lang": "en", "flag": "true"}
    trial = try_document(given_text(recipe, "x", PROSE.encode(), given))
    assert trial.decision == "keep"
    assert "nothing matches" in trial.notes[0]
    with pytest.raises(RecipeError, match=r"no column flag.*--column NAME=VALUE"):
        given_text(recipe, "x", b"text", {"score": "0.75", "lang": "en"})


def test_columns_are_typed_by_the_input(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = {"text": ["a"], "score": pa.array([1], pa.int32()), "topics": [["x", "y"]]}
    pq.write_table(pa.table(table), tmp_path / "in" / "a.parquet")
    stages = [{"use": "rules", "rules": {"a": "score = 7", "b": "list_contains(topics, 'z')"}}]
    recipe = small_recipe(tmp_path, stages=stages)
    assert try_document(given_text(recipe, "x", b"a", {"score": "7", "topics": '["z"]'})).decision == "keep"
    with pytest.raises(RecipeError, match="--column score=seven: is no int32"):
        given_text(recipe, "x", b"a", {"score": "seven"})
    with pytest.raises(RecipeError, match=r"no such column\. Did you mean: score"):
        given_text(recipe, "x", b"a", {"scores": "7"})


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_takes_standard_input_and_writes_nothing(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(
        json.dumps({"name": "x", "input": f"{tmp_path}/in/*", "output": f"{tmp_path}/out", "stages": STAGES})
    )
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(
        command, [str(recipe), "-", "--column", "lang=en", "--set", "size.params.min=3"], input=PROSE
    )
    assert done.exit_code == 0, done.output
    assert "fate    kept" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before
    for wrong in ([str(recipe)], [str(recipe), "-", "--doc", "x"], [str(recipe), "--doc", "x", "--column", "a=b"]):
        assert CliRunner().invoke(command, wrong).exit_code == 2


def test_no_character_of_a_document_acts_on_the_terminal(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    recipe = small_recipe(tmp_path)
    told = trial_text(tried(recipe, EVIL)) + trial_text(
        try_document(given_text(recipe, EVIL, EVIL.encode(), {"url": EVIL}))
    )
    assert "\\x1b[31m" in told
    assert all(character == "\n" or character.isprintable() for character in told)
