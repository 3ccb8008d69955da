"""OUT.html beside a scorer: the numbers of OUT.json, whole in itself, and no text of a document in its markup."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from tamis.pipeline.training.preselect import train_preselect
from tamis.pipeline.training.preselect_pool import Question
from tamis.pipeline.training.preselect_report import render
from tamis.scorers.fasttext_train import Params

from ..report.browser import chromium, opened
from ..report.hostile import MARKER, NAMES, TEXTS
from ..report.reading import Reading
from .scored_texts import scored_texts, with_column, write_scored


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Of a training on documents whose texts, sources and domains try to become part of the page."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(folder / "cache"))
        table = scored_texts(60)
        texts = [f"{TEXTS[i % 7 % 6]} {text}" for i, text in enumerate(table["text"].to_pylist())]
        table = with_column(table, "text", texts)
        table = with_column(table, "source", [NAMES[i % 10] + "x" for i in range(len(table))])
        table = table.append_column("domain", pa.array([NAMES[i % 4] + "y" for i in range(len(table))]))
        write_scored(folder / "in", table)
        question = Question((str(folder / "in"),), ("*_bpc",), str(folder / "abilities.yaml"))
        found = train_preselect(question, folder / "m.bin", params=Params(dim=8, bucket=1000))
        assert (folder / "m.bin.html").read_bytes() == render(json.loads((folder / "m.bin.json").read_text("utf-8")))
    return found


@pytest.fixture(scope="module")
def page(facts):
    return Reading(render(facts))


def test_the_page_shows_the_numbers_of_the_json(facts, page):
    strength = next(table for table in page.tables if table.attributes.get("id") == "table-strength")
    levels = facts["preselect"]["strength"]["levels"]
    assert strength.column("documents") == [f"{one['documents']:,}" for one in levels]
    assert strength.column("label 1") == [f"{one['positive']:,}" for one in levels]
    rows = next(table for table in page.tables if table.attributes.get("id") == "table-rows")
    assert [int(number.replace(",", "")) for number in rows.column("rows")] == [n for n in facts["rows"].values() if n]
    bars = {one["name"]: one["y"] for figure in page.figures for one in figure["data"]}
    assert bars["chosen, label 1"] == [one["positive"] for one in levels]
    assert bars["chosen, label 0"] == [one["negative"] for one in levels]
    total = [
        sum(bars[name][i] for name in ("chosen, label 1", "chosen, label 0", "not chosen")) for i in range(len(levels))
    ]
    assert total == [one["documents"] for one in levels]
    for warning in facts["warnings"]:
        assert warning.split("\u2068")[0][:40] in page.texts["warnings"]


def test_nothing_that_a_document_holds_is_markup(page):
    assert MARKER in page.text, "the texts are shown"
    shown = ("title", "aria-label")
    names = "".join(str(v) for _, attrs in page.elements for k, v in attrs.items() if k not in shown)
    assert f"window.{MARKER}" not in names
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "svg", "iframe", "object", "form", "input", "link", "base"}
    assert all(not name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert [
        attrs for tag, attrs in page.elements if tag == "a" and not str(attrs.get("href", "")).startswith("#")
    ] == []
    assert [attrs.get("src") for tag, attrs in page.elements if tag == "script" and attrs.get("src")] == []


@pytest.mark.skipif(chromium() is None, reason="no browser on this machine")
def test_a_browser_draws_it_without_trouble_or_requests(facts, tmp_path):
    (tmp_path / "page.html").write_bytes(render(facts))
    with opened(tmp_path / "page.html", tmp_path / "profile") as found:
        assert found.trouble == []
        assert found.evaluate("document.querySelectorAll('.chart svg').length") >= 2
        assert found.evaluate(f"window.{MARKER} === undefined")
