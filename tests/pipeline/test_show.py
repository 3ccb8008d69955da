"""`tamis show`: the documents that SQL, a draw or a threshold choose, with the text they ended with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import runs
from click.testing import CliRunner

from tamis.pipeline.commands.show import command
from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.show_documents import Choice, chosen_rows, shown, thresholds
from tamis.stages.errors import RecipeError

from .small_run import DOCUMENTS, EVIL, small_run

GOLDEN = Path(__file__).parents[1] / "golden" / "pages.jsonl"
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_run(tmp_path_factory.mktemp("show")).output


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("golden") / "out"
    return run(load_recipe(QUICKSTART, input=[str(GOLDEN)], output=str(folder))).output


def text(folder: str, **choice: Any) -> str:
    return "\n".join(shown(folder, Choice(**choice)))


def bodies(told: str) -> dict[str, str]:
    """Text by file#row, as it was shown."""
    found = {}
    for block in re.split(r"^--- ", told, flags=re.MULTILINE)[1:]:
        place = re.search(r"([ab]\.parquet#\d+)", block.partition("\n")[0])
        assert place is not None
        found[place[1]] = "\n".join(line[4:] for line in block.split("\n") if line.startswith("  | "))
    return found


def test_kept_documents_come_with_the_curated_text_and_dropped_ones_with_that_of_their_last_edit(output: str) -> None:
    curated = {f"{r['source_file']}#{r['source_row']}": r["text"] for r in runs.rows(Path(output), "data").to_pylist()}
    ledger = {f"{r['source_file']}#{r['source_row']}": r for r in runs.rows(Path(output), "ledger").to_pylist()}
    found = bodies(text(output, most=100))
    source = {f"{name}#{n}": row[1] for name, rows in DOCUMENTS.items() for n, row in enumerate(rows)}
    checked = 0
    for place, row in ledger.items():
        if EVIL in (row["doc_id"] or "") or row["source_hash"] is None:
            continue
        wanted = (
            curated[place] if row["decision"] == "keep" else "" if row["rule"] == "c4_lines.empty" else source[place]
        )
        assert found[place] == wanted, place
        checked += 1
    assert checked >= len(ledger) - 2
    assert {row["decision"] for row in ledger.values()} == {"keep", "drop", "quarantine"}


def test_sql_over_the_ledger_chooses_and_its_columns_are_shown(golden: str) -> None:
    ledger = runs.rows(Path(golden), "ledger").to_pylist()
    wanted = [r["doc_id"] for r in ledger if r["decision"] == "drop" and r["words"] is not None and r["words"] < 60]
    assert len(wanted) > 3
    rows, total = chosen_rows(Output(golden), Choice(where="decision = 'drop' AND words < 60", most=3))
    assert ([row["doc_id"] for row in rows], total) == (wanted[:3], len(wanted))
    told = text(golden, where="decision = 'drop' AND words < 60", most=1)
    assert re.search(r"^values  words = \d+$", told, re.MULTILINE)
    assert f"1 of {len(wanted)} documents, in input order" in told


def test_an_order_is_by_column_with_nulls_last(golden: str) -> None:
    ledger = runs.rows(Path(golden), "ledger").to_pylist()
    known = sorted({row["words"] for row in ledger if row["words"] is not None})
    first, _ = chosen_rows(Output(golden), Choice(by="words", most=1))
    last, _ = chosen_rows(Output(golden), Choice(by="words desc", most=1))
    every, _ = chosen_rows(Output(golden), Choice(by="words DESC", most=1000))
    assert (first[0]["words"], last[0]["words"]) == (known[0], known[-1])
    assert every[-1]["words"] is None


def test_a_sample_is_the_same_every_time_and_not_the_head(golden: str) -> None:
    one, _ = chosen_rows(Output(golden), Choice(sample=True, most=20))
    two, _ = chosen_rows(Output(golden), Choice(sample=True, most=20))
    more, _ = chosen_rows(Output(golden), Choice(sample=True, most=40))
    numbers = [row["source_row"] for row in one]
    assert numbers == [row["source_row"] for row in two] == [row["source_row"] for row in more[:20]]
    assert numbers != sorted(numbers)
    assert max(numbers) > 100


@pytest.mark.parametrize("name", ["gopher_quality.words_min", "gopher_quality.stop_words", "fineweb.list_ratio_max"])
def test_around_a_threshold_stand_the_nearest_documents_of_each_side(golden: str, name: str) -> None:
    (threshold,) = thresholds(Output(golden), name)
    measured = [
        (row[threshold.column], row["source_row"])
        for row in runs.rows(Path(golden), "ledger").to_pylist()
        if row[threshold.column] is not None
    ]
    below = sorted((at for at in measured if at[0] < threshold.at), key=lambda at: (-at[0], at[1]))[:10]
    above = sorted(at for at in measured if at[0] >= threshold.at)[:10]
    told = text(golden, near=name, most=20, chars=0)
    head, _, tail = told.partition("========")
    number = r"^--- .*#(\d+)\)?$"
    assert [int(n) for n in re.findall(number, head, re.MULTILINE)] == [row for _, row in reversed(below)]
    assert [int(n) for n in re.findall(number, tail, re.MULTILINE)] == [row for _, row in above]


def test_a_rule_with_two_thresholds_shows_both(golden: str) -> None:
    assert [t.param for t in thresholds(Output(golden), "gopher_quality.words")] == [
        "gopher_quality.words_max",
        "gopher_quality.words_min",
    ]
    assert text(golden, near="gopher_quality.words", most=2, chars=0).count("======== gopher_quality.words_m") == 2


def test_differences_show_what_each_edit_took(output: str) -> None:
    told = text(output, where="doc_id = 'edited'", diff=True)
    assert "- Home | About | Contact" in told
    assert "  | " not in told
    assert "edits   none changed it" in text(output, where="doc_id = 'plain'", diff=True)


def test_a_long_text_is_cut_and_says_so(output: str) -> None:
    told = text(output, where="doc_id = 'plain'", chars=10)
    assert "  | The lamp s\n" in told
    assert re.search(r"  … \d+ more characters: --chars \d+", told)


@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
def test_documents_of_one_written_set_come_with_their_text(tmp_path: Path, form: str) -> None:
    sets = {"main": {}, "short": {"where": "rule = 'size.long'"}}
    folder = small_run(tmp_path, write={"format": form, "sets": sets}).output
    assert bodies(text(folder, written="short")) == {"a.parquet#0": "Too short."}
    kept = bodies(text(folder, written="main", where="doc_id = 'plain'"))
    assert list(kept) == ["b.parquet#0"]
    assert kept["b.parquet#0"].endswith("Then the door opened.")
    with pytest.raises(RecipeError, match=r"no such written set\. Did you mean: short"):
        text(folder, written="shrt")


def test_a_text_that_is_gone_is_said_to_be_missing(tmp_path: Path) -> None:
    folder = small_run(tmp_path).output
    (tmp_path / "in" / "a.parquet").unlink()
    told = text(folder, where="doc_id IN ('short', 'edited')")
    assert told.count("text    cannot be shown") == 1
    assert "It was a cold morning" in told


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"where": "charz > 2"}, "no column charz. Did you mean: char"),
        ({"where": "sum(chars_read) > 2"}, "--where: .*aggregate"),
        ({"where": "doc_id"}, "--where doc_id"),
        ({"by": "chars_reed desc"}, "Did you mean: chars_read"),
        ({"columns": ("chars_reed",)}, "Did you mean: chars_read"),
        ({"near": "size.minn"}, "Did you mean: size.min"),
        ({"near": "size.english"}, "is no threshold on one numeric column .*reads lang"),
        ({"written": "main"}, "writes one set"),
    ],
)
def test_mistakes_name_what_is_nearest(output: str, choice: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        text(output, **choice)


def test_no_character_of_a_document_acts_on_the_terminal(output: str) -> None:
    told = text(output, most=100, columns=("all",)) + text(output, most=100, diff=True)
    assert "\\x1b[31m" in told
    assert all(character == "\n" or character.isprintable() for character in told)


def test_the_command_prints_the_same(output: str) -> None:
    done = CliRunner().invoke(command, [output, "--where", "decision = 'keep'", "-n", "2", "--chars", "30"])
    assert done.exit_code == 0
    assert done.stdout == text(output, where="decision = 'keep'", most=2, chars=30) + "\n"
    assert CliRunner().invoke(command, [output, "--sample", "--by", "doc_id"]).exit_code == 2
