from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.driver import Result
from tamis.pipeline.story import summary

from .small_run import PROSE, STAGES, small_recipe, small_run


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return small_run(tmp_path_factory.mktemp("story"))


def section(text: str, title: str) -> list[str]:
    """The indented lines below a title."""
    lines = text.splitlines()
    start = lines.index(title) + 1
    return [line.strip() for line in re.split(r"\n(?! )", "\n".join(lines[start:]))[0].splitlines()]


def numbers(line: str) -> list[int]:
    return [int(found.replace(",", "")) for found in re.findall(r"(?<![.\w])\d[\d,]*(?![.\d])", line)]


def test_what_the_stages_dropped_and_what_was_set_aside_add_up(result: Result) -> None:
    text = summary(result)
    counts = result.manifest["counts"]
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("stage "))
    rows = lines[start + 1 : next(n for n, line in enumerate(lines) if line.startswith("kept "))]
    fell = 0
    for row in rows:
        cells = row.replace("(reading)", "reading").split()
        name, after = cells[0], numbers(row.partition("%")[0]) if "%" in row else numbers(row)[:1]
        fell += after[1] if "%" in row else 0
        assert name in ("reading", "normalize", "size", "late", "c4_lines", "exact_dedup")
    assert fell == counts["dropped"] + counts["quarantined"]
    assert numbers(next(line for line in lines if line.startswith("kept "))) == [counts["kept"]]
    assert f"12 documents read, {counts['kept']} kept" in lines[0]


def test_the_funnel_names_the_rules_that_dropped_most(result: Result) -> None:
    text = summary(result)
    size = next(line for line in text.splitlines() if line.startswith("size "))
    assert size.endswith("size.english 1, size.long 1, set aside 1")
    assert re.search(r"^c4_lines .*changed 3, c4_lines.empty 1$", text, re.MULTILINE)
    assert re.search(r"^exact_dedup .*exact_dedup.duplicate 1$", text, re.MULTILINE)


def test_three_stories_are_told_with_value_survivor_and_difference(result: Result) -> None:
    text = summary(result)
    dropped = "\n".join(section(text, "one that was dropped"))
    assert "german (b.parquet#2)" in dropped, "one failed rule is a clearer case than two"
    assert "lang = de, needs lang = 'en'" in dropped
    duplicate = "\n".join(section(text, "one duplicate"))
    assert "repost (b.parquet#1)" in duplicate
    assert "original (a.parquet#2)" in duplicate
    edited = section(text, "one that was edited and kept")
    assert edited[0] == "who     edited (a.parquet#1)"
    assert "- Home | About | Contact" in edited


def test_a_story_is_absent_where_no_document_fits(tmp_path: Path) -> None:
    text = summary(small_run(tmp_path, stages=[]))
    for title in ("one that was dropped", "one duplicate", "one that was edited and kept"):
        assert title not in text


def test_the_summary_of_the_same_output_is_the_same(result: Result) -> None:
    assert summary(result) == summary(result)


def test_a_run_with_nothing_to_do_says_so_in_one_line_and_shows_the_funnel(result: Result) -> None:
    text = summary(replace(result, fresh=False))
    assert text.startswith("nothing to do: ")
    assert "exact_dedup" in text
    assert "one that was dropped" not in text
    assert "next" not in text.splitlines()


def test_the_commands_to_type_next_work_as_they_stand(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(result.output).parent
    monkeypatch.chdir(folder)
    commands = section(summary(result), "next")
    assert [shlex.split(command)[:2] for command in commands] == [
        ["tamis", "why"],
        ["tamis", "show"],
        ["tamis", "sql"],
        ["tamis", "verify"],
    ]
    for command in commands:
        words = [sys.executable, "-m", "tamis.pipeline.cli", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_silence_is_reported(tmp_path: Path) -> None:
    stages = [
        {"use": "normalize"},
        {"use": "url_tags"},
        {
            "use": "rules",
            "name": "size",
            "rules": {
                "never": "chars >= 0",
                "unsure": {"sql": "length(url) > 0", "nulls": "pass"},
                "en": "lang = 'en'",
            },
        },
    ]
    folder = tmp_path / "in"
    folder.mkdir()
    rows = {
        "id": [f"d{n}" for n in range(40)],
        "text": [f"{PROSE} {n}" for n in range(40)],
        "url": ["https://example.org/x"] * 30 + [None] * 10,
        "lang": ["en"] * 20 + ["de"] * 20,
    }
    pq.write_table(pa.table(rows), folder / "a.parquet")
    text = summary(small_run(tmp_path, stages=stages))
    found = section(text, "silent or suspicious")
    assert "normalize changed no document" in found
    assert "2 rules failed no document: size.never, size.unsure" in found
    assert "size.unsure was null for 10 of 40 documents (25.0 %)" in found
    assert "groups of lang that lost more than 90 %: de (20 of 20)" in found
    assert any(re.search(r"one value only: .*domain = example\.org", line) for line in found)


def test_a_run_in_which_nothing_is_silent_reports_no_silence(tmp_path: Path) -> None:
    stages = [{"use": "rules", "name": "size", "rules": {"long": "chars >= $min"}, "params": {"min": 40}}]
    assert "silent or suspicious" not in summary(small_run(tmp_path, stages=stages, report={"by": []}))


def test_an_input_without_documents_has_a_summary(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    empty = pa.table({name: pa.array([], pa.string()) for name in ("id", "text", "url", "lang")})
    pq.write_table(empty, tmp_path / "in" / "a.parquet")
    result = small_run(tmp_path, stages=[{"use": "normalize"}, {"use": "exact_dedup"}])
    assert json.loads((Path(result.output) / "manifest.json").read_text())["counts"]["rows"] == 0
    assert summary(result).startswith("small: 0 documents read")


def test_the_stages_of_the_small_run_are_those_of_its_recipe(tmp_path: Path, result: Result) -> None:
    names = [stage["name"] for stage in result.manifest["stages"]]
    assert names == [s.get("name") or s["use"] for s in STAGES]
    assert small_recipe(tmp_path).name == "small"
