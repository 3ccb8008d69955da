"""fastText scores in whole runs: columns and their names, sentences cut by score, errors at plan time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.driver import run
from tamis.pipeline.graph import build_graph
from tamis.pipeline.recipe import load_recipe, parse_recipe
from tamis.pipeline.why import story
from tamis.stages.errors import RecipeError

from ..kernels import naive_sentences as naive
from ..runs import check_accounting, rows, write_corpus, write_recipe
from ..stages.example_models import made_up, predicted
from .test_cut_spans_runs import by_place

CUTS = (0.2, 0.4, 0.6)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("scored") / "in", shards=2, documents=120, group_rows=40)


@pytest.fixture(scope="module")
def model() -> str:
    return made_up("toxic", "fine")


def scored(path: str, **changes: Any) -> dict[str, Any]:
    return {"use": "fasttext", "name": "tox", "model": path, "label": "toxic"} | changes


SENTENCES: dict[str, Any] = {"unit": "sentence", "spans": True, "over": 0.5}


def graph(*stages: dict[str, Any]) -> Any:
    recipe = parse_recipe({"name": "t", "input": "nowhere/*.parquet", "output": "o", "stages": list(stages)})
    return build_graph(recipe, pa.schema([("text", pa.string())]))


def added(*stages: dict[str, Any]) -> list[str]:
    return [a.name for a in graph(*stages).measured]


def test_columns_bear_the_name_of_their_stage(model):
    one = {"use": "fasttext", "model": model, "label": "toxic"}
    assert added(one) == ["fasttext"]
    assert added({**one, "name": "quality"}) == ["quality"]
    assert added({**one, **SENTENCES}) == ["fasttext_max", "fasttext_mean", "fasttext_over", "fasttext_spans"]
    assert added({**one, "name": "q", "unit": "line"}) == ["q_max", "q_mean"]
    several = {"use": "fasttext", "model": made_up("1", "Web-Page"), "labels": ["1", "Web-Page"]}
    assert added(several) == ["fasttext_1", "fasttext_web_page"]
    language = {"use": "language", "model": made_up("en", "de")}
    assert added(language, {**language, "name": "second"}) == [
        *("lang", "lang_score", "lang_2"),
        *("second_lang", "second_lang_score", "second_lang_2"),
    ]


def test_a_wrong_label_or_model_is_told_at_its_line_before_anything_runs(corpus, model, tmp_path):
    for changes, said in (
        (
            {"label": "toxik"},
            r"wrong\.yaml:LABEL \(tox\): label: .*no label toxik\. Did you mean: toxic\? Its labels: ",
        ),
        ({"model": str(tmp_path / "none.bin")}, r"wrong\.yaml:\d+ \(tox\): .*none\.bin: No such file"),
        ({"label": None}, r"wrong\.yaml:\d+ \(tox\): label: say which label of .*Its labels: fine, toxic|toxic, fine"),
    ):
        path = write_recipe(tmp_path / "wrong.yaml", corpus, tmp_path / "out", stages=[scored(model, **changes)])
        lines = path.read_text().splitlines()
        said = said.replace("LABEL", str(1 + next(i for i, line in enumerate(lines) if line.startswith("  label:"))))
        with pytest.raises(RecipeError, match=said):
            run(load_recipe(path))
    assert not (tmp_path / "out" / "data").exists()


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Bytes of each sentence, by the definition in plain Python."""
    at = 0
    for piece in naive.sentences(text):
        at = text.index(piece, at)
        start = len(text[:at].encode())
        at += len(piece)
        yield start, start + len(piece.encode())


def reference(model: str, text: str, cut: float) -> tuple[str, float]:
    """The text without its sentences that the real fastText scores at `cut` or higher, one at a time; and how near the
    nearest score is to the cut."""
    data, kept, at, nearest = text.encode(), b"", 0, 1.0
    for start, end in sentences(text):
        [score] = predicted(model, data[start:end].decode(), ["toxic"])
        nearest = min(nearest, abs(score - cut))
        if score >= cut:
            kept, at = kept + data[at:start], end
    return (kept + data[at:]).decode(), nearest


@pytest.fixture(scope="module")
def runs(corpus: Path, model: str) -> dict[float, Path]:
    """Three runs in one work folder that differ in where the cut is."""
    outputs = {}
    for cut in CUTS:
        stages = [
            scored(model, **SENTENCES),
            {"use": "exact_dedup", "action": "tag"},
            {"use": "cut_spans", "spans": "tox_spans", "where": f"score >= {cut}"},
        ]
        name = f"cut{cut:.1f}".replace(".", "")
        changes = {"stages": stages, "work": str(corpus.parent / "work")}
        run(load_recipe(write_recipe(corpus.parent / f"{name}.yaml", corpus, corpus.parent / name, **changes)))
        outputs[cut] = corpus.parent / name
    return outputs


def test_sentences_cut_at_three_places_are_those_cut_one_by_one(corpus, model, runs):
    texts = {
        (path.name, row): text
        for path in sorted(corpus.glob("*.parquet"))
        for row, text in enumerate(pq.read_table(path, columns=["text"])["text"].to_pylist())
    }
    lengths = []
    for cut, output in runs.items():
        check_accounting(output)
        ledger, data = by_place(rows(output, "ledger")), by_place(rows(output, "data"))
        compared = emptied = 0
        for place, text in texts.items():
            expected, nearest = reference(model, text, cut)
            if nearest < 1e-5:  # rounding may put this score on either side
                continue
            compared += 1
            emptied += not expected
            assert (ledger[place]["rule"] == "cut_spans.empty") == (expected == "")
            if expected:
                assert data[place]["text"] == expected
            assert (ledger[place]["cut_count"] > 0) == (expected != text)
        assert compared >= len(texts) - 2
        changed = sum(row["cut_count"] > 0 for row in ledger.values())
        assert changed > 20
        lengths.append(sum(row["cut_bytes"] for row in ledger.values()))
    assert lengths[0] > lengths[1] > lengths[2] > 0


def test_moving_the_cut_scores_nothing_again(runs):
    steps = []
    for output in runs.values():
        events = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
        steps.append({event["step"] for event in events if event["event"] == "unit"})
    ran = [{step.partition("-")[0] for step in found} for found in steps]
    scores = [{row["tox_mean"] for row in rows(output, "ledger").to_pylist()} for output in runs.values()]
    assert scores[0] == scores[1] == scores[2]
    assert len(steps[0]) == 2, "the step that scores, and the step that cuts"
    assert len(steps[1]) == len(steps[2]) == 1, f"only the step that cuts: {ran}"
    assert not steps[0] & steps[1] & steps[2]


def test_the_scores_of_sentences_are_in_the_ledger_and_the_story_shows_what_was_cut(model, runs):
    output = runs[0.4]
    ledger = rows(output, "ledger")
    assert {"tox_max", "tox_mean", "tox_over", "tox_spans"} <= set(ledger.column_names)
    assert "tox_spans" not in rows(output, "data").column_names
    row = next(row for row in ledger.to_pylist() if row["cut_count"] > 1 and row["decision"] == "keep")
    told = story(str(output), key=f"{row['source_file']}#{row['source_row']}")
    assert "cut_spans: " in told
    assert "cannot be shown" not in told
    assert "tox_max" in told


@pytest.mark.parametrize("how", ["unit_size", pytest.param("ray", marks=pytest.mark.slow)])
def test_units_and_workers_change_no_score_and_no_cut(corpus, model, runs, tmp_path, how):
    stages = [
        scored(model, **SENTENCES),
        {"use": "fasttext", "name": "kinds", "model": model, "labels": ["toxic", "fine"]},
        {"use": "language", "model": made_up("en", "de")},
        {"use": "cut_spans", "spans": "tox_spans", "where": "score >= 0.4"},
    ]
    run(load_recipe(write_recipe(tmp_path / "one.yaml", corpus, tmp_path / "one", stages=stages, unit_size="10MB")))
    other = write_recipe(tmp_path / "two.yaml", corpus, tmp_path / "two", stages=stages, unit_size="20kB")
    run(load_recipe(other), **({"executor": "ray", "workers": 2} if how == "ray" else {}))
    for folder in ("data", "ledger"):
        assert rows(tmp_path / "one", folder).equals(rows(tmp_path / "two", folder))
    same = {place: row["text"] for place, row in by_place(rows(runs[0.4], "data")).items()}
    assert same == {place: row["text"] for place, row in by_place(rows(tmp_path / "one", "data")).items()}
    for row in rows(tmp_path / "one", "ledger").to_pylist():
        assert row["kinds_toxic"] + row["kinds_fine"] == pytest.approx(1, abs=1e-4)


def test_rules_read_scores_and_a_second_stage_may_see_fewer_documents(corpus, model, tmp_path):
    stages = [
        {"use": "language", "model": made_up("en", "de")},
        scored(model),
        scored(model, name="later", where="lang = 'en'"),
        {"use": "rules", "rules": {"clean": "tox < $most"}, "params": {"most": 0.5}},
    ]
    run(load_recipe(write_recipe(tmp_path / "r.yaml", corpus, tmp_path / "out", stages=stages)))
    check_accounting(tmp_path / "out")
    ledger = rows(tmp_path / "out", "ledger").to_pylist()
    assert {row["lang"] for row in ledger} == {"en", "de"}
    for row in ledger:
        assert row["later"] == (row["tox"] if row["lang"] == "en" else None)
        assert (row["decision"] == "drop") == (row["tox"] >= 0.5)
    assert 10 < sum(row["decision"] == "drop" for row in ledger) < len(ledger) - 10
