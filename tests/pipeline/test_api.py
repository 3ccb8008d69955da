"""tamis.pipeline.api gives in Python what the command line gives, and single stages what a run gives."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import runs

from tamis.pipeline import api
from tamis.pipeline.recipe import load_recipe
from tamis.stages.errors import RecipeError, SetupError

ROOT = Path(__file__).parents[2]
GOLDEN = "tests/golden/pages.jsonl"
QUICKSTART = "configs/quickstart.yaml"


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("api") / "out"
    made = api.run(ROOT / QUICKSTART, input=str(ROOT / GOLDEN), output=folder)
    assert made is not None
    return str(folder)


def test_the_examples_in_the_docstrings_hold(finished: str, tmp_path: Path) -> None:
    globs = {"api": api, "finished": finished, "folder": tmp_path}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    tested = 0
    for example in finder.find(api, "api", globs=globs):
        runner.run(example)
        tested += len(example.examples)
    assert runner.summarize(verbose=False).failed == 0
    assert tested >= 10


def test_an_opened_output_has_the_rows_of_its_files(finished: str) -> None:
    opened = api.open(finished)
    for view in ("ledger", "data"):
        assert getattr(opened, view).to_arrow_table().to_pylist() == runs.rows(Path(finished), view).to_pylist()
    assert opened.ledger.filter("decision = 'keep'").count("*").fetchall() == [(opened.manifest["counts"]["kept"],)]
    assert "205 documents read, 53 kept" in repr(opened)
    assert repr(opened.why("chess")) == opened.why("chess") == runs.tamis("why", finished, "chess").rstrip("\n") + "\n"
    with pytest.raises(SetupError):
        api.open(Path(finished) / "data")


def test_a_recipe_may_be_a_path_a_mapping_or_a_recipe(finished: str, tmp_path: Path) -> None:
    written = load_recipe(QUICKSTART, input=[GOLDEN])
    stages = [{"use": "text_signals"}, {"use": "rules", "preset": "gopher"}]
    for number, recipe in enumerate((QUICKSTART, Path(QUICKSTART), written)):
        made = api.run(recipe, input=GOLDEN, output=tmp_path / str(number))
        assert made is not None
        assert runs.file_hashes(tmp_path / str(number)) == runs.file_hashes(Path(finished))
    made = api.run({"name": "x", "input": GOLDEN, "output": str(tmp_path / "x"), "stages": stages})
    assert made is not None
    assert [stage["name"] for stage in made.manifest["stages"]] == ["text_signals", "rules"]


def test_a_dollar_in_a_path_is_a_dollar(tmp_path: Path) -> None:
    made = api.run(load_recipe(QUICKSTART, input=[GOLDEN]).model_copy(update={"output": str(tmp_path / "a$b")}))
    assert made is not None
    assert (tmp_path / "a$b" / "manifest.json").exists()


def test_settings_may_be_a_mapping_or_lines(tmp_path: Path) -> None:
    name = "gopher.set.gopher_quality.words_min"
    kept = []
    for number, settings in enumerate(({name: 200}, [f"{name}=200"], {})):
        made = api.run(QUICKSTART, input=GOLDEN, output=tmp_path / str(number), settings=settings)
        assert made is not None
        kept.append(made.manifest["counts"]["kept"])
    assert kept[0] == kept[1] < kept[2]


def test_until_gives_nothing_to_open_yet(tmp_path: Path) -> None:
    assert api.run(QUICKSTART, input=GOLDEN, output=tmp_path / "out", until="text_signals") is None
    with pytest.raises(SetupError, match="not finished"):
        api.open(tmp_path / "out")


def test_a_stage_applied_gives_the_columns_of_a_run(finished: str) -> None:
    ledger = runs.rows(Path(finished), "ledger")
    texts = pa.chunked_array([runs.rows(Path(finished), "data")["text"]])
    kept = ledger.filter(pa.compute.equal(ledger["decision"], "keep"))
    preset = {
        "use": "rules",
        "preset": ["c4", "fineweb"],
        "set": {"fineweb.char_dup_ratio_max": 0.1},
        "off": ["c4.curly_bracket", "c4.lorem_ipsum"],
    }
    found = api.apply(["text_signals", preset], texts)
    for name in ("sentences", "lines", "line_punct_ratio", "char_dup_ratio", "list_ratio"):
        assert found[name].to_pylist() == kept[f"post_{name}"].to_pylist()
    assert set(found["pass"].to_pylist()) == {True}
    assert {"c4.sentences", "fineweb.list_ratio"} <= set(found.column_names)


def test_edits_give_their_text_and_stages_behind_them_read_it() -> None:
    lines = "A first line that ends well.\nmenu\nA second line that ends well too."
    found = api.apply([{"use": "c4_lines"}, "text_signals"], [lines, "menu", None])
    assert found["text"].to_pylist() == [lines.replace("menu\n", ""), "", None]
    assert found["lines"].to_pylist() == [2, 0, None]


@pytest.mark.parametrize(
    "rows",
    [
        ["Cafe\u0301", None],
        pa.array(["Cafe\u0301", None]),
        pa.chunked_array([["Cafe\u0301"], [None]], pa.string()),
        pd.Series(["Cafe\u0301", None]),
        pd.DataFrame({"text": ["Cafe\u0301", None], "other": [1, 2]}),
        pa.table({"text": pa.array(["Cafe\u0301", None]).dictionary_encode(), "other": [1, 2]}),
        pa.record_batch({"text": ["Cafe\u0301", None]}),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_texts_may_come_in_any_column(rows: object) -> None:
    assert api.apply("normalize", rows)["text"].to_pylist() == ["Caf\u00e9", None]


def test_no_rows_give_no_rows() -> None:
    found = api.apply(["text_signals", {"use": "rules", "preset": "gopher"}], [])
    assert len(found) == 0
    assert {"words", "gopher_quality.words", "pass"} <= set(found.column_names)


def test_rules_read_the_columns_of_the_table_and_null_is_undecided() -> None:
    table = pa.table({"text": ["a", "b", "c", "d"], "score": [0.9, 0.1, None, 0.1]})
    rules = {"use": "rules", "rules": {"good": "score >= 0.5"}, "where": "text <> 'd'"}
    found = api.apply(rules, table)
    assert found["rules.good"].to_pylist() == [True, False, None, None]
    assert found["pass"].to_pylist() == [True, False, None, True]
    assert api.apply(rules, table, nulls="pass")["pass"].to_pylist() == [True, False, True, True]
    assert api.apply(rules, table, nulls="fail")["pass"].to_pylist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("stage", "rows", "words"),
    [
        ({"use": "rules", "preset": "gopher"}, ["x"], "add `- use: text_signals`"),
        ("text_signal", ["x"], "Did you mean: text_signals"),
        ({"use": "normalize", "stripp": True}, ["x"], "Did you mean: strip"),
        ("exact_dedup", ["x"], "needs the whole corpus"),
        ("normalize", pa.table({"texts": ["x"]}), "no column text. Did you mean: texts"),
        ("normalize", [1, 2], "must hold strings"),
        ("normalize", ["a", 2], "these are no texts"),
    ],
)
def test_mistakes_say_what_to_add_or_write(stage: object, rows: object, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        api.apply(stage, rows)  # type: ignore[arg-type]


def test_importing_it_is_light() -> None:
    heavy = ("ray", "torch", "numba", "pandas", "duckdb")
    code = f"import tamis.pipeline.api, sys; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
