"""The golden pages through the quickstart recipe: each meets the fate that its `why` names, and every part acts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

from .test_pages import FILE, PAGES

RECIPE = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    # the pages were written for rules about one document: many are edits of one another
    (folder / "recipe.yaml").write_text(f"base: {RECIPE}\nchange: {{near_dedup: off}}\n")
    run(load_recipe(folder / "recipe.yaml", input=[str(FILE)], output=str(folder / "out")), executor="inline")
    return folder / "out"


@pytest.fixture(scope="module")
def ledger(output) -> list[dict]:
    return list(rows(output / "ledger"))


def rows(folder: Path) -> Iterator[dict]:
    for path in sorted(folder.glob("*.parquet")):
        yield from pq.read_table(path).to_pylist()


def test_every_page_meets_the_fate_that_it_was_written_for(ledger):
    assert [row["doc_id"] for row in ledger] == [page["id"] for page in PAGES]
    wrong = []
    for page, row in zip(PAGES, ledger):
        wanted = page["why"].partition(": ")[0]
        fate = {"keep": ["kept"], "quarantine": ["quarantine"]}.get(row["decision"]) or [
            row["rule"],
            *(row["failed"] or []),
        ]
        if wanted not in fate:
            wrong.append((page["id"], wanted, fate))
    assert wrong == []


def test_every_rule_of_the_recipe_fails_a_page(ledger, output):
    rules = {
        rule
        for stage in json.loads((output / "manifest.json").read_text())["stages"]
        for rule in stage.get("rules", ())
    }
    failed = {name for row in ledger for name in row["failed"] or []}
    assert len(rules) > 25
    # a text without lines has been dropped by the rules before it
    assert rules - failed == {"fineweb.empty"}


def test_every_edit_changes_pages_and_every_measured_column_varies(ledger):
    for edit in ("normalize", "c4_lines"):
        assert any(row[f"{edit}_changed"] for row in ledger)
    names = [name for name in ledger[0] if name not in ("reason", "out_file", "source_file")]
    constant = [name for name in names if len({str(row[name]) for row in ledger}) < 2]
    assert constant == []


def test_a_plain_article_loses_its_blank_lines_and_nothing_else(output):
    texts = {row["source_row"]: row["text"] for row in rows(output / "data")}
    plain = [i for i, page in enumerate(PAGES) if page["why"] == "kept: a plain article"]
    assert len(plain) > 20
    for i in plain:
        lines = PAGES[i]["text"].split("\n")
        assert texts[i] == "\n".join(line for line in lines if len(line.split()) >= 3)
