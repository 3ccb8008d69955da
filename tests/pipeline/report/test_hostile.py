"""Nothing that a document, a name or a recipe holds becomes part of the page's markup, scripts or requests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.pipeline.report import render_report
from tamis.pipeline.report.markup import inline, label, script_json
from tamis.pipeline.terminal import visible

from .browser import chromium, opened
from .hostile import FAMILY, IMAGE, NAMES, RIGHT, SCRIPT, TEXTS, hostile_run
from .reading import Reading

WRITTEN = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "nav",
    "main",
    "section",
    "article",
    "script",
    "details",
}
WRITTEN |= {
    "a",
    "p",
    "div",
    "span",
    "ul",
    "ol",
    "li",
    "h1",
    "h2",
    "h3",
    "h4",
    "pre",
    "code",
    "b",
    "i",
    "em",
    "small",
    "bdi",
}
WRITTEN |= {"table", "thead", "tbody", "tr", "th", "td", "summary"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / "report.html"
    path.write_bytes(render_report(hostile_run(folder)))
    return path


@pytest.fixture(scope="module")
def reading(page: Path) -> Reading:
    return Reading(page.read_bytes())


def test_the_page_is_made_of_its_own_elements_only(reading: Reading) -> None:
    assert {tag for tag, _ in reading.elements} <= WRITTEN
    assert [tag for tag, _ in reading.elements if tag == "script"] == ["script"] * 3
    for tag, attributes in reading.elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes), (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_every_hostile_name_is_shown_as_text(reading: Reading) -> None:
    shown = [row[0] for row in reading.groups("lang").rows[1:]]
    for name in NAMES:
        text = "".join(c if c == "\u200d" else visible(c) for c in name) or "empty"
        assert any(found == text or (found.endswith("…") and text.startswith(found[:-1])) for found in shown), (
            name,
            shown,
        )
    assert SCRIPT in reading.texts["summary"]
    assert any(IMAGE in cell for table in reading.tables for row in table.rows for cell in row)


def test_texts_are_shown_with_their_hidden_characters_as_codes(reading: Reading) -> None:
    cells = " ".join(cell for table in reading.tables for row in table.rows for cell in row)
    for start in (
        "\\u202egnp.exe\\u2066",
        "a\\u2028b\\u2029c\\x00d\\x1b[31me\\x07",
        FAMILY,
        TEXTS[8][:40],
        TEXTS[9][:40],
    ):
        assert start in cells, start
    assert RIGHT[0] not in reading.text
    assert "\x00" not in reading.text


def test_a_megabyte_on_a_line_is_shown_by_its_head(page: Path, reading: Reading) -> None:
    assert len(page.read_bytes()) < 6_000_000
    assert any(
        cell.startswith("one line of a megabyte") and cell.endswith("…")
        for t in reading.tables
        for r in t.rows
        for cell in r
    )


def test_the_policy_names_the_scripts_that_are_there_and_allows_nothing_else(reading: Reading) -> None:
    (policy,) = [a["content"] for tag, a in reading.elements if tag == "meta" and a.get("http-equiv")]
    assert policy
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", reading.text, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    assert rules.pop("script-src").split() == hashes
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@given(st.text())
def test_inline_text_is_one_isolated_element_that_says_the_same(text: str) -> None:
    found = str(inline(text))
    assert found.startswith("<bdi>")
    assert found.endswith("</bdi>")
    bare = re.sub(r'</?span(?: class="code(?: line)?")?>|</?bdi>', "", found)
    assert "<" not in bare
    assert ">" not in bare
    page = Reading(f"<p id=x>{found}</p>".encode())
    expected = "".join(
        "↵ " if c == "\n" else c if c in "\u200c\u200d" else visible(c) for c in text.replace("\r\n", "\n")
    )
    assert page.texts.get("x", "") == expected


@given(st.text())
def test_a_label_holds_no_markup_and_no_hidden_character(text: str) -> None:
    found = label(text)
    assert found[0] == "\u2068"
    assert found[-1] == "\u2069"
    assert not set("<>") & set(found)
    assert re.fullmatch(r"(?:[^&]|&amp;|&lt;|&gt;)*", found)
    assert all(c in "\u200c\u200d" or visible(c) == c for c in found[1:-1])


@given(
    st.recursive(
        st.text() | st.integers() | st.booleans() | st.none(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_data_in_a_script_element_is_ascii_without_markup_and_reads_back(value: object) -> None:
    found = str(script_json(value))
    assert found.isascii()
    assert not set("<>&") & set(found)
    assert json.loads(found) == value


# --- in a browser -------------------------------------------------------------------------------------------------

in_browser = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
COUNTS = """({
  hurt: window.hurt ?? null,
  foreign: document.querySelectorAll('img, iframe, object, embed, base, form, link, svg a, a[href^=javascript]').length,
  charts: document.querySelectorAll('.chart').length,
  drawn: document.querySelectorAll('.chart .main-svg').length > 0
    && [...document.querySelectorAll('.chart')].every((c) => c.querySelector('.main-svg')),
  bars: Object.fromEntries([...document.querySelectorAll('.chart')].map((c) => [c.id, c.querySelectorAll('.bars path').length])),
  wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  cut: [...document.querySelectorAll('.chart')].filter((c) => c.scrollHeight > c.clientHeight + 1).length,
  labels: [...document.querySelectorAll('.chart .ytick text')].map((t) => t.textContent),
})"""
OPEN_ALL = (
    "document.querySelectorAll('details').forEach((d) => { d.open = true; }); new Promise((r) => setTimeout(r, 500))"
)


@in_browser
@pytest.mark.parametrize(("width", "height", "dark"), [(1366, 768, False), (2560, 1440, True)])
def test_a_browser_has_nothing_to_complain_of(page: Path, tmp_path: Path, width: int, height: int, dark: bool) -> None:
    with opened(page, tmp_path / "profile", width=width, height=height, dark=dark) as tab:
        tab.evaluate(OPEN_ALL)
        found = tab.evaluate(COUNTS)
        figures = tab.evaluate("JSON.parse(document.getElementById('figures').textContent)")
        assert tab.trouble == []
    assert found["hurt"] is None
    assert found["foreign"] == 0
    assert found["charts"] == len(figures) > 5
    assert found["drawn"]
    assert not found["wide"]
    assert found["cut"] == 0
    for figure in figures:
        bars = [trace for trace in figure["data"] if trace["type"] == "bar"]
        counts = [n for trace in bars for n in trace["x" if trace.get("orientation") == "h" else "y"]]
        assert found["bars"][figure["id"]] >= sum(n > 0 for n in counts) > 0, figure["title"]
    labels = {text.replace("\u2068", "").replace("\u2069", "").strip() for text in found["labels"]}
    assert IMAGE in labels
    assert "2020-01-01" in labels, "a name is never read as a date"


@in_browser
def test_tables_in_the_browser_are_those_of_the_page(page: Path, reading: Reading, tmp_path: Path) -> None:
    with opened(page, tmp_path / "profile") as tab:
        rows = tab.evaluate(
            "[...document.querySelectorAll('#table-rules tr')].map((r) => [...r.cells].map((c) => c.textContent.trim()))"
        )
    expected = [[cell.replace(" | ", "") for cell in row] for row in reading.table("table-rules").rows]
    assert [["".join(c.split()) for c in row] for row in rows] == [
        ["".join(c.split()) for c in row] for row in expected
    ]


@in_browser
def test_a_page_that_breaks_its_policy_is_noticed(page: Path, tmp_path: Path) -> None:
    """The browser client sees what it is there to see."""
    broken = tmp_path / "broken.html"
    text = page.read_text("utf-8")
    broken.write_text(
        text.replace("<main>", "<main><script>window.hurt = 1</script><img src='http://127.0.0.1:9/x.png'>", 1), "utf-8"
    )
    with opened(broken, tmp_path / "profile") as tab:
        assert sum("violates" in line for line in tab.trouble) >= 2
        assert tab.evaluate("window.hurt") is None
