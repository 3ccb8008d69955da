"""Alarms that a stage froze are told first, in the closing lines, in the report and to `strict`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tamis.pipeline.alarms import SHOWN, alarms
from tamis.pipeline.driver import Result
from tamis.pipeline.output import Output
from tamis.pipeline.report import render_report
from tamis.pipeline.silence import silences
from tamis.pipeline.story import summary

from ..runs import tamis, write_recipe
from .known_duplicates import known_run
from .report.reading import Reading
from .small_run import small_run

ROWS = [{"id": f"d{n}", "grp": 1 if n < 4 else None, "sim": 0.9, "source": "s"} for n in range(12)]
CLUSTER = {"kind": "cluster", "cluster": "ab", "documents": 12345, "doc_id": "d0\x1b[31m", "most": 10000}
LOSS = {"kind": "loss", "column": "source", "value": "a b", "documents": 1000, "lost": 980}
TOLD = [
    "near_dedup: a cluster of 12,345 documents, over max_cluster (10,000); first d0\\x1b[31m",
    "near_dedup: source = 'a b' lost 980 of 1,000 documents",
]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Output:
    return known_run(tmp_path_factory.mktemp("alarms"), ROWS, {"alarms": [CLUSTER, LOSS]})


def test_alarms_come_first_among_the_silences(output: Output) -> None:
    assert alarms(output) == TOLD
    assert silences(output)[:2] == TOLD


def test_the_closing_lines_tell_alarms_before_the_funnel_even_when_nothing_was_to_do(output: Output) -> None:
    for fresh in (True, False):
        result = Result(output.storage.root, output.manifest, fresh, output.stages)
        lines = summary(result).splitlines()
        at = lines.index("alarms")
        assert [line.strip() for line in lines[at + 1 : at + 3]] == TOLD
        assert at < next(n for n, line in enumerate(lines) if line.startswith("stage "))
        assert sum(TOLD[0] in line for line in lines) == 1, "told once"


def test_the_report_shows_alarms_above_everything_else(output: Output) -> None:
    page = Reading(render_report(output))
    shown = " ".join(page.texts["alarms"].split())
    assert all(line in shown for line in TOLD)
    assert page.text.index('id="alarms"') < page.text.index('class="tiles"')
    assert TOLD[0] not in page.texts["silent"]


def test_a_run_without_alarms_says_nothing_of_them(tmp_path: Path) -> None:
    result = small_run(tmp_path)
    assert alarms(Output(result.output)) == []
    assert "alarms" not in summary(result).splitlines()
    assert "alarms" not in Reading(render_report(Output(result.output))).texts


def test_strict_makes_an_alarm_an_exit_code(tmp_path: Path) -> None:
    """Over documents among which nothing else is suspicious."""
    known_run(tmp_path, ROWS, {})
    use = f"{known_run.__module__}:Near_Dedup"
    root = str(Path(__file__).resolve().parents[2])
    for number, (raised, code) in enumerate((([], 0), ([LOSS], 1))):
        stage = {"use": use, "facts": {"alarms": raised}}
        recipe = write_recipe(
            tmp_path / f"{number}.yaml", tmp_path / "in", tmp_path / str(number), stages=[stage], strict=True
        )
        said = tamis("run", recipe, code=code, PYTHONPATH=root)
        assert ("tamis: strict" in said) == bool(code)


def test_very_many_alarms_are_counted(tmp_path: Path) -> None:
    told = alarms(known_run(tmp_path, ROWS, {"alarms": [LOSS] * (SHOWN + 90)}))
    assert len(told) == SHOWN + 1
    assert "90 more alarms" in told[-1]


def test_an_alarm_of_another_kind_is_told_by_its_values(tmp_path: Path) -> None:
    [told] = alarms(known_run(tmp_path, ROWS, {"alarms": [{"kind": "mine", "share": 0.5, "who": "a\x07"}]}))
    assert told == "near_dedup: kind = mine, share = 0.5, who = a\\x07"


def test_a_deduplication_that_found_nothing_or_compared_little_is_reported(tmp_path: Path) -> None:
    rows = [{"id": f"d{n}"} for n in range(20)]
    found = silences(known_run(tmp_path / "none", rows, {"documents": 15, "without_text": 5, "unwatched": ["url"]}))
    assert "near_dedup found no duplicate among 15 documents" in found
    assert "near_dedup had nothing to compare 5 of 20 documents (25.0 %) by" in found
    assert "near_dedup does not watch url: it has too many values" in found
    assert not any("failed no document" in line for line in found), "said once"
    found = silences(known_run(tmp_path / "some", ROWS, {"documents": 12, "without_text": 0}))
    assert not any(re.search("near_dedup (found|had|does)", line) for line in found)
