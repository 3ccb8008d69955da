"""The report's section on duplicates equals what plain Python counts in rows whose duplicates are known beforehand."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median_low
from typing import Any

import pytest

from tamis.pipeline.report import losses as losses_module
from tamis.pipeline.report import render_report
from tamis.pipeline.report.losses import quartiles
from tamis.pipeline.silence import silences

from ..known_duplicates import known_run
from .reading import Reading, Table, number

DRAW = random.Random(8)
SOURCES = [f"s{n % 40}" for n in range(300)]
ROWS: list[dict[str, Any]] = [
    {
        "id": f"d{n:03d}",
        "text": f"Page {n} of <b>group</b> {n % 9}.",
        "grp": n % 9 if n % 2 and (n % 9 < n % 7 or n > 250) else None,
        "sim": DRAW.randint(55, 99) / 100 + 0.001,
        "source": "wiped" if n > 250 and n % 2 else DRAW.choice(SOURCES),
        "date": None if n % 10 == 3 else f"{DRAW.randint(1999, 2024)}-0{DRAW.randint(1, 9)}-1{n % 10}T01:02:03Z",
        "dump": f"dump{n % 3}",
        "where_from": "x" if n % 4 else "y",
    }
    for n in range(300)
]
ROWS[20]["date"] = "20240101"  # in no order with the others
FACTS: dict[str, Any] = {
    "ngram": 5,
    "bands": 9,
    "rows": 13,
    "documents": 290,
    "without_text": 10,
    "edges": 1234,
    "largest_buckets": [
        {"documents": 4321, "band": 3, "doc_id": "d007", "source_file": "part-0.parquet", "source_row": 7},
        {"documents": 4320, "band": 8, "doc_id": "d007", "source_file": "part-0.parquet", "source_row": 7},
        {"documents": 1200, "band": 0, "doc_id": "d123", "source_file": "part-2.parquet", "source_row": 23},
    ],
}
GROUPS: dict[int, list[dict[str, Any]]] = defaultdict(list)
for row in ROWS:
    if row["grp"] is not None:
        GROUPS[row["grp"]].append(row)
LOST = [row for group in GROUPS.values() for row in group[1:]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return read(tmp_path_factory.mktemp("known"), FACTS)


def read(folder: Path, facts: dict[str, Any], **changes: Any) -> Reading:
    stage = {"scope": "where_from", **changes.pop("stage", {})}
    report = {"by": ["source", "dump"], "pages": False}
    return Reading(render_report(known_run(folder, ROWS, facts, report=report, stage=stage, **changes)))


def words(page: Reading) -> str:
    return " ".join(page.texts["duplicates"].split())


def table(page: Reading, kind: str, **attributes: str) -> Table:
    wanted = {f"data-{name}": value for name, value in attributes.items()}
    return next(
        t
        for t in page.tables
        if kind in (t.attributes.get("class") or "").split() and wanted.items() <= t.attributes.items()
    )


def test_the_head_tells_what_was_compared_found_and_removed(page: Reading) -> None:
    found = words(page)
    assert "290documents compared" in found
    assert f"{len(GROUPS)}clusters of duplicates" in found
    assert f"{len(LOST)}duplicates removed{100 * len(LOST) / 290:.1f} %" in found
    assert f"{max(map(len, GROUPS.values()))}in the largest cluster" in found
    assert "edges: 1234" in found


def test_the_curve_is_that_of_the_bands_and_rows(page: Reading) -> None:
    assert "Word 5-grams, 9 bands of 13 minima" in words(page)
    told = dict(re.findall(r"(0\.[5-9]): ([\d.]+) %", words(page)))
    assert told == {"0.5": "0.1", "0.6": "1.2", "0.7": "8.4", "0.8": "39.9", "0.9": "92.9"}, "methods of SlimPajama"


def test_every_bar_of_similarity_is_a_count_of_duplicates(page: Reading) -> None:
    bars = page.figure("Similarity of near_dedup")["data"][0]
    drawn = {round(100 * x): y for x, y in zip(bars["x"], bars["y"]) if y}
    assert drawn == Counter(round(100 * row["sim"]) for row in LOST)
    assert f"the median is {median_low(row['sim'] for row in LOST):.2f}" in words(page)


def test_the_largest_clusters_show_the_kept_text_and_the_least_similar(page: Reading) -> None:
    shown = [t for t in page.tables if "clusters" in (t.attributes.get("class") or "").split()]
    rows = [dict(zip(t.rows[0], row)) for t in shown for row in t.rows[1:]]
    by_size = sorted(GROUPS, key=lambda group: (-len(GROUPS[group]), group))
    at = iter(rows)
    for group in by_size[:10]:
        kept, *others = GROUPS[group]
        line = next(at)
        assert (number(line["documents"]), line["similarity"]) == (len(others) + 1, "kept one")
        assert line["document"].startswith(kept["id"])
        assert line["text"] == kept["text"]
        for member in sorted(others, key=lambda row: (row["sim"], row["id"]))[:2]:
            line = next(at)
            assert line["documents"] == ""
            assert line["similarity"] == f"{member['sim']:.2f}"
            assert line["document"].startswith(member["id"])
            assert line["text"] == member["text"]
    assert list(at) == []


def test_buckets_are_shown_with_their_first_document(page: Reading) -> None:
    shown = table(page, "buckets")
    assert shown.column("documents") == ["4,321", "1,200"]
    assert shown.column("in bands") == ["3, 8", "0"], "one line for documents that agree in several bands"
    assert [cell.split()[0] for cell in shown.column("first document")] == ["d007", "d123"]
    assert shown.column("text") == [ROWS[7]["text"], ROWS[123]["text"]]


@pytest.mark.parametrize("column", ["source", "dump", "where_from"])
def test_every_group_lost_what_plain_counting_says(page: Reading, column: str) -> None:
    documents, lost = Counter(row[column] for row in ROWS), Counter(row[column] for row in LOST)
    shown = table(page, "losses", loss=column)
    order = sorted(documents, key=lambda name: (-lost[name], -documents[name], name))
    lines = [[name, documents[name], lost[name]] for name in order]
    top = [line for line in lines if line[2]][:20]
    rest = lines[len(top) :]
    assert [[row[0], number(row[1]), number(row[2])] for row in shown.rows[1:]][: len(top)] == top
    if rest:
        sums = [
            f"{len(rest)} other{'s' * (len(rest) > 1)}",
            sum(line[1] for line in rest),
            sum(line[2] for line in rest),
        ]
        assert [shown.rows[-1][0], number(shown.rows[-1][1]), number(shown.rows[-1][2])] == sums
    half = sum(lost[name] > documents[name] / 2 for name in documents)
    assert f"{half} of {len(documents)} groups lost more than half" in words(page)


def test_groups_that_lost_more_than_half_are_marked(page: Reading) -> None:
    documents, lost = Counter(row["source"] for row in ROWS), Counter(row["source"] for row in LOST)
    marked = {name for name in documents if lost[name] > documents[name] / 2}
    assert "wiped" in marked
    start = page.text.index('data-loss="source"')
    body = page.text[start : page.text.index("</table>", start)]
    assert set(re.findall(r'<tr class="marked"><td><bdi>(\w+)</bdi>', body)) == marked


def test_ages_are_the_quartiles_of_the_dates(page: Reading) -> None:
    dated = [row for row in ROWS if row["date"] and row["date"] != "20240101"]
    lost = {row["id"] for row in LOST}
    kept = {group[0]["id"] for group in GROUPS.values()}
    chosen = {
        "duplicates": [row for row in dated if row["id"] in lost],
        "kept in their place": [row for row in dated if row["id"] in kept],
        "all that stay": [row for row in dated if row["id"] not in lost],
    }
    shown = table(page, "ages")
    assert [row[0] for row in shown.rows[1:]] == list(chosen)
    for line, rows in zip(shown.rows[1:], chosen.values()):
        days = sorted(row["date"][:10] for row in rows)
        expected = [days[-(-len(days) * quarter // 4) - 1] for quarter in (1, 2, 3)]
        assert [number(line[1]), *line[2:]] == [len(rows), *expected]
    assert f"{len(ROWS) - len(dated)} documents have no date" in words(page)


def test_it_is_told_in_how_many_clusters_the_oldest_or_newest_stays(page: Reading) -> None:
    told, oldest, newest = 0, 0, 0
    for group in GROUPS.values():
        days = [row["date"][:10] for row in group if row["date"] and row["date"] != "20240101"]
        own = group[0]["date"]
        if len(set(days)) > 1 and own:
            told += 1
            oldest += own[:10] == min(days)
            newest += own[:10] == max(days)
    assert oldest != newest
    text = f"Of {told} clusters with more than one date, the kept document is the oldest in"
    shares = f"{100 * oldest / told:.1f} % and the newest in {100 * newest / told:.1f} %"
    assert f"{text} {shares}" in words(page)


def test_of_very_many_duplicates_ages_per_cluster_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses_module, "MOST", 10)
    page = read(tmp_path, FACTS)
    assert "is not known: there are too many duplicates" in words(page)
    assert len(table(page, "ages").rows) == 4


def test_verified_figures_and_those_of_earlier_outputs(tmp_path: Path) -> None:
    facts = {**FACTS, "jaccard": 0.8, "candidates": 200, "false_candidates": 50}
    facts |= {"duplicates_of_earlier": 40, "newcomer_preferred": 10}
    found = words(read(tmp_path / "known", facts))
    assert "50false candidates, kept25.0 %" in found
    assert "is at least 0.8. The bands connected 200 documents to others; 50 of them (25.0 %)" in found
    assert "True Jaccard similarity" in found
    assert (
        "Of the 40 duplicates of earlier outputs, by prefer the document of this run would have been the better one in 10 (25.0 %)"
        in found
    )
    found = words(read(tmp_path / "unknown", {**facts, "newcomer_preferred": None}))
    assert "in a number of cases that is not known" in found


def test_a_stage_that_tags_and_a_run_that_observes_say_so(tmp_path: Path) -> None:
    tagged = read(tmp_path / "tag", FACTS, stage={"action": "tag"})
    assert f"{len(LOST)}duplicates tagged" in words(tagged)
    assert "Share tagged by source" in words(tagged)
    observed = read(tmp_path / "observe", FACTS, observe=True)
    assert f"{len(LOST)}duplicates would be removed" in words(observed)
    for page in (tagged, observed):
        assert sum(number(cell) for cell in table(page, "losses", loss="dump").rows[-1][1:3]) > 0
        assert {number(row[1]) for row in table(page, "losses", loss="dump").rows[1:]} == {100}


@pytest.mark.parametrize("observe", [False, True])
def test_documents_that_fell_before_or_after_count_as_the_stage_saw_them(tmp_path: Path, observe: bool) -> None:
    early = {"use": "rules", "name": "early", "rules": {"early": "NOT ends_with(doc_id, '5')"}}
    late = {"use": "rules", "name": "late", "rules": {"late": "NOT ends_with(doc_id, '7')"}}
    page = read(tmp_path, FACTS, before=[early], after=[late], observe=observe)
    seen = [row for row in ROWS if not row["id"].endswith("5")]
    groups = Counter(row["grp"] for row in seen if row["grp"] is not None)
    shown = table(page, "losses", loss="dump")
    assert sum(number(cell) for cell in shown.column("documents")) == len(seen) < len(ROWS)
    column = "would be removed" if observe else "removed"
    assert sum(number(cell) for cell in shown.column(column)) == sum(n - 1 for n in groups.values()) < len(LOST)
    dated = sum(bool(row["date"]) and row["date"] != "20240101" for row in seen)
    lines = {row[0]: number(row[1]) for row in table(page, "ages").rows[1:]}
    assert lines["duplicates"] + lines["all that stay"] == dated


def test_a_run_without_similar_documents_has_a_section_that_says_so(tmp_path: Path) -> None:
    rows = [{"id": f"d{n}"} for n in range(5)]
    page = Reading(render_report(known_run(tmp_path, rows, {"ngram": 5, "bands": 1, "rows": 1, "documents": 5})))
    assert "No duplicates were found." in words(page)


def test_quartiles_of_nothing_and_of_one() -> None:
    assert quartiles([]) == ()
    assert quartiles([("2020", 0)]) == ()
    assert quartiles([("2019", 0), ("2020", 1)]) == ("2020",) * 3


def test_stages_that_find_passages_tell_their_facts_and_their_silence(tmp_path: Path) -> None:
    lines = ["a line that stands on every page of this site", "one that stands here alone: number "]
    rows = [{"id": f"d{n}", "text": f"{lines[0]}\n{lines[1]}{n}"} for n in range(30)]
    output = known_run(tmp_path / "some", rows, FACTS, before=[{"use": "paragraph_dedup"}])
    facts = output.manifest["facts"]["paragraph_dedup"]
    found = words(Reading(render_report(output)))
    assert "Other stages that see the whole corpus paragraph_dedup" in found
    assert all(f"{name}: {value}" in found for name, value in facts.items() if isinstance(value, int))
    assert not any("paragraph_repeated" in line for line in silences(output))
    alone = [{**row, "text": f"{lines[1]}{n}"} for n, row in enumerate(rows)]
    silent = known_run(tmp_path / "none", alone, FACTS, before=[{"use": "paragraph_dedup"}])
    assert any("one value only: paragraph_repeated = 0" in line for line in silences(silent))
