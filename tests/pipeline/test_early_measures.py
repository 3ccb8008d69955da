"""Deduplications in a row measure in one pass over the text, and decide as if each had had its own."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from near_documents import families

from tamis.pipeline.driver import run
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import Recipe, parse_recipe

EXACT: dict[str, Any] = {"use": "exact_dedup"}
NEAR: dict[str, Any] = {"use": "near_dedup", "prefer": ["longest"]}
CUT: dict[str, Any] = {"use": "c4_lines", "terminal_punct": False}


@pytest.fixture
def corpus(tmp_path):
    rows = families(100, seed=4)
    rows = pa.concat_tables([rows, rows.slice(0, 60)])  # exact copies too
    pq.write_table(rows.select(["text", "source"]), tmp_path / "in.parquet", row_group_size=50)
    return tmp_path


def recipe(corpus, *stages: dict[str, Any], output: str = "out", **more: Any) -> Recipe:
    files = {"files": f"{corpus}/in.parquet"}
    return parse_recipe(
        {"name": "early", "input": files, "output": f"{corpus}/{output}", "stages": list(stages), **more}
    )


def steps(made: Recipe) -> list[list[tuple[str, str]]]:
    plan = plan_recipe(made)
    return [[(plan.stage(part).name, part.method) for part in step.parts] for step in plan.steps]


def test_what_reads_the_text_reads_it_in_the_pass_before(corpus):
    made = recipe(corpus, EXACT, NEAR)
    first = [("exact_dedup", "measure"), ("near_dedup", "measure")]
    assert steps(made) == [first, [("exact_dedup", "resolve")], [("near_dedup", "resolve")]]
    assert plan_recipe(made).text_passes == 2


@pytest.mark.parametrize(
    ("between", "near"),
    [
        ([CUT], {}),  # another text
        ([], {"where": "exact_cluster_size IS NULL"}),
        ([], {"prefer": ["exact_cluster_size desc"]}),
    ],
)
def test_a_measure_that_needs_what_comes_between_waits(corpus, between, near):
    found = steps(recipe(corpus, EXACT, *between, {**NEAR, **near}))
    assert found[0] == [("exact_dedup", "measure")]
    assert found[2][-1] == ("near_dedup", "measure")


def test_a_tag_between_is_a_column_that_comes_later(corpus):
    found = steps(recipe(corpus, {**EXACT, "action": "tag"}, {**NEAR, "where": "exact_dedup_pass"}))
    assert found[0] == [("exact_dedup", "measure")]
    assert found[2] == [("near_dedup", "measure")]


@pytest.mark.parametrize("observe", [False, True])
def test_the_pass_decides_nothing(corpus, observe):
    """The same stages with a `where` that is always true, but which only later columns can tell."""
    always = "exact_cluster_size IS NULL OR exact_cluster_size > 0"
    early = recipe(corpus, EXACT, NEAR, output="early", observe=observe)
    late = recipe(corpus, EXACT, {**NEAR, "where": always}, output="late", observe=observe)
    assert len(steps(early)) == 3
    assert len(steps(late)) == 4
    for made in early, late:
        run(made)
    assert runs.rows(corpus / "early", "ledger").equals(runs.rows(corpus / "late", "ledger"))
    counts = dict(runs.query(f"SELECT rule, count(*) FROM '{corpus}/early/ledger/*.parquet' GROUP BY 1"))
    assert counts["exact_dedup.duplicate"] >= 60
    assert counts["near_dedup.duplicate"] > 20
