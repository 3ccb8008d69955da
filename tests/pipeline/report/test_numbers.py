"""What the page says equals what the ledger holds, counted from the files again."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from ruamel.yaml import YAML

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

from ...runs import rows, write_corpus, write_recipe
from .reading import Reading, number, plain

RULES = Path(__file__).resolve().parents[3] / "configs" / "rules"
BY = ["source", "host", "url"]


class Run:
    def __init__(self, folder: Path, **changes: Any) -> None:
        folder.mkdir(exist_ok=True)
        corpus = folder / "in"
        if not corpus.exists():
            write_corpus(corpus, documents=200)
        recipe = write_recipe(folder / "recipe.yaml", corpus, folder / "out", report={"by": BY}, **changes)
        self.corpus, self.folder = corpus, folder / "out"
        self.manifest = run(load_recipe(recipe)).manifest
        self.page = Reading((self.folder / "report.html").read_bytes())

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Over `l`, the ledger's files."""
        return duckdb.execute(f"WITH l AS (FROM '{self.folder}/ledger/*.parquet') {query}").fetchall()


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("report") / "normal")


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("report") / "observed", observe=True)


def test_the_sum_of_the_head_is_that_of_the_ledger(normal: Run) -> None:
    counts = dict(normal.sql("SELECT decision, count(*) FROM l GROUP BY 1"))
    total = sum(counts.values())
    kept, dropped, aside = (counts.get(name, 0) for name in ("keep", "drop", "quarantine"))
    assert f"{total:,} read = {kept:,} kept + {dropped:,} dropped + {aside:,} set aside" in normal.page.texts["summary"]


def test_the_stages_lose_what_the_ledger_says(normal: Run) -> None:
    table = normal.page.table("table-stages")
    gone = Counter(dict(normal.sql("SELECT stage, count(*) FROM l WHERE stage NOT NULL GROUP BY 1")))
    left = normal.sql("SELECT count(*) FROM l WHERE NOT (decision = 'quarantine' AND stage IS NULL)")[0][0]
    assert table.column("stage") == [stage["name"] for stage in normal.manifest["stages"]]
    bars = normal.page.figure("Documents through the stages")["data"]
    for at, (name, came, stays) in enumerate(zip(table.column("stage"), table.column("in"), table.column("left"))):
        assert number(came) == left
        left -= gone[name]
        assert number(stays) == left == bars[0]["x"][at]
        assert bars[1]["x"][at] == gone[name]
    assert left == normal.manifest["counts"]["kept"]


def test_rules_have_the_documents_of_the_ledger(normal: Run) -> None:
    first = dict(normal.sql("SELECT rule, count(*) FROM l WHERE decision = 'drop' GROUP BY 1"))
    failed: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for (names,) in normal.sql("SELECT failed FROM l WHERE failed NOT NULL"):
        failed.update(names)
        alone.update(names if len(names) == 1 else [])
    table = normal.page.table("table-rules")
    names = [cell.partition(" |")[0] for cell in table.column("rule")]
    assert set(normal.manifest["rules"]) <= set(names)
    assert [number(n) for n in table.column("decided by it")] == [first.get(name, 0) for name in names]
    assert [number(n) for n in table.column("failed")] == [failed[name] for name in names]
    assert [number(n) for n in table.column("failed no other of its stage")] == [alone[name] for name in names]
    assert sum(first.values()) == sum(number(n) for n in table.column("decided by it"))
    bars = normal.page.figure("Documents that failed a rule")
    drawn = {
        plain(t).strip(): a + b for t, a, b in zip(bars["layout"]["yaxis"]["ticktext"], *(t["x"] for t in bars["data"]))
    }
    assert drawn == {name: n for name, n in failed.items() if n}


def test_dropped_only_by_is_unknown_in_a_normal_run(normal: Run) -> None:
    assert set(normal.page.table("table-rules").column("dropped only by it")) == {"not known"}


def test_dropped_only_by_is_exact_in_an_observing_run(observed: Run) -> None:
    only = Counter(
        names[0] for (names,) in observed.sql("SELECT failed FROM l WHERE decision = 'drop'") if len(names) == 1
    )
    table = observed.page.table("table-rules")
    names = [cell.partition(" |")[0] for cell in table.column("rule")]
    assert sum(only.values()) > 0
    assert [number(n) for n in table.column("dropped only by it")] == [only[name] for name in names]
    assert "failed no other of its stage" not in table.rows[0]
    assert "An observing run." in observed.page.texts["summary"]


def test_an_observing_run_shows_the_funnel_of_the_normal_one(normal: Run, observed: Run) -> None:
    for title in ("in", "dropped", "left"):
        assert observed.page.table("table-stages").column(title) == normal.page.table("table-stages").column(title)


@pytest.mark.parametrize("column", BY)
def test_groups_are_the_largest_and_the_rest_summed(normal: Run, column: str) -> None:
    counted = normal.sql(
        f"SELECT {column}, count(*), count(*) FILTER (decision = 'keep'), sum(bytes_read), coalesce(sum(bytes_written), 0) "
        f"FROM l GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    table = normal.page.groups(column).rows[1:]
    assert [(row[0], number(row[1]), number(row[2])) for row in table[: min(30, len(counted))]] == [
        ("null" if name is None else name, n, kept) for name, n, kept, _, _ in counted[:30]
    ]
    rest = counted[30:]
    assert len(table) == min(30, len(counted)) + bool(rest)
    if rest:
        assert [table[-1][0], *(number(cell) for cell in table[-1][1:3])] == [
            f"{len(rest):,} others",
            sum(line[1] for line in rest),
            sum(line[2] for line in rest),
        ]
    bars = normal.page.figure(f"Kept share by {column}")["data"]
    lines = [*counted[:30], *([tuple(map(sum, zip(*(r[1:] for r in rest))))] if rest else [])]
    for at, line in enumerate(lines):
        documents, kept, read, written = line[-4:]
        assert bars[0]["x"][at] == pytest.approx(100 * kept / documents)
        assert bars[1]["x"][at] == pytest.approx(100 * written / read)


def histograms(page: Reading) -> dict[str, dict[str, Any]]:
    return {plain(f["title"]): f for f in page.figures if "edges" in f["data"][0].get("meta", {})}


def test_every_bar_of_a_distribution_is_a_count_of_the_ledger(normal: Run) -> None:
    drawn = histograms(normal.page)
    assert {"words", "dup_line_frac", "post_sentences", "c4_lines_removed"} <= set(drawn)
    for column, figure in drawn.items():
        edges = figure["data"][0]["meta"]["edges"]
        by_name = {trace.get("name"): trace["y"] for trace in figure["data"]}
        for name, sign in (("kept", "="), ("not kept", "<>")):
            values = normal.sql(f"SELECT {column}::DOUBLE FROM l WHERE decision {sign} 'keep' AND {column} NOT NULL")
            expected = [0] * (len(edges) - 1)
            for (value,) in values:
                if edges[0] <= value <= edges[-1]:
                    expected[max(i for i in range(len(expected)) if value >= edges[i])] += 1
            assert by_name[name] == expected, (column, name)


def test_bars_nulls_and_what_is_not_drawn_add_up(normal: Run) -> None:
    for column, figure in histograms(normal.page).items():
        values, nulls = normal.sql(f"SELECT count({column}), count(*) - count({column}) FROM l")[0]
        note = next(text for text in notes(normal.page) if text.startswith(f"{column} "))
        drawn = sum(sum(t["y"]) for t in figure["data"] if "meta" in t)
        beyond = sum(int(n.replace(",", "")) for n in re.findall(r"not drawn: ([\d,]+)", note))
        assert f"{values:,} with a value" in note
        assert drawn + beyond == values, column
        if "null" in note:
            assert int(re.findall(r"([\d,]+) null", note)[0].replace(",", "")) <= nulls


def notes(page: Reading) -> list[str]:
    """The text of every card, from its column's name on."""
    found = re.findall(r'<article class="card">(.*?)</article>', page.text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", one).split()) for one in found]


def test_every_numeric_parameter_over_one_column_is_a_line(normal: Run) -> None:
    """Read from the rule files by a pattern, not by the page's own parser."""
    drawn = histograms(normal.page)
    presets = {
        "gopher_repetition": ("", {}),
        "gopher_quality": ("", {"words_min": 30}),
        "c4": ("post_", {"sentences_min": 3}),
    }
    checked = 0
    for preset, (prefix, changed) in presets.items():
        rules = YAML(typ="safe").load(RULES / f"{preset}.yaml")
        for text in rules["rules"].values():
            column = prefix + text.split()[0]
            for param in re.findall(r"\$(\w+)", text):
                value = float(changed.get(param, rules["params"][param]))
                lines = [plain(note["text"]) for note in drawn[column]["layout"]["annotations"]]
                assert any(line.startswith(param) and line.endswith(f" {value:,.9g}") for line in lines), (param, lines)
                checked += 1
    assert checked == 24
    for figure in drawn.values():
        shapes, labels = figure["layout"]["shapes"], figure["layout"]["annotations"]
        assert [s["x0"] for s in shapes] == [n["x"] for n in labels]
        assert len({n["y"] for n in labels}) == len(labels), "no two labels stand on one floor"


def test_near_a_threshold_stand_the_documents_nearest_to_it(normal: Run) -> None:
    stages = [stage["name"] for stage in normal.manifest["stages"]]
    texts = {}
    for path in sorted(normal.corpus.glob("*.parquet")):
        table = duckdb.execute(
            f"SELECT file_row_number, text FROM read_parquet('{path}', file_row_number = true)"
        ).fetchall()
        texts |= {(path.name, row): text for row, text in table}
    kept = {(r["source_file"], r["source_row"]): r["text"] for r in rows(normal.folder, "data").to_pylist()}
    ledger = rows(normal.folder, "ledger").to_pylist()
    for column, value, stage, sign in (("words", 30, "rules", ">="), ("dup_5gram", 0.15, "rules", "<=")):
        at = stages.index(stage)
        reached = [r for r in ledger if r["decision"] == "keep" or (r["stage"] and stages.index(r["stage"]) >= at)]
        anchor = next(
            i for i, t in normal.page.texts.items() if i.startswith("near-") and f"{column} {sign} {value}" in t
        )
        tables = [t for t in normal.page.tables if anchor in t.within]
        sides = [
            [r for r in reached if r[column] is not None and passes(r[column], sign, value) is side]
            for side in (False, True)
        ]
        assert len(tables) == 2
        for table, side in zip(tables, sides):
            nearest = sorted(side, key=lambda r: (abs(r[column] - value), r["source_file"], r["source_row"]))[:10]
            assert [cell.split(" | ")[0].strip() for cell in table.column("document")] == [r["doc_id"] for r in nearest]
            assert f"{len(side):,} document" in normal.page.texts[anchor]
            for row, text in zip(nearest, table.column("text")):
                place = (row["source_file"], row["source_row"])
                whole = kept.get(place, texts[place])
                shown = text.removesuffix("…").replace("↵ ", "\n")
                assert whole.replace("\r\n", "\n").startswith(shown)
                assert len(shown) > min(len(whole), 300) - 10


def passes(found: float, sign: str, value: float) -> bool:
    return found >= value if sign == ">=" else found <= value


def test_edits_took_the_characters_that_the_ledger_lacks(normal: Run) -> None:
    table = normal.page.table("table-edits")
    names = [s["name"] for s in normal.manifest["stages"] if s["kind"] == "edit"]
    assert table.column("edit") == [*names, "several of them"]
    kept = [r for r in rows(normal.folder, "ledger").to_pylist() if r["decision"] == "keep"]
    sums: Counter[str] = Counter()
    documents: Counter[str] = Counter()
    for row in kept:
        changed = [name for name in names if row[f"{name}_changed"]]
        if changed:
            who = changed[0] if len(changed) == 1 else "several of them"
            documents[who] += 1
            sums[who] += row["chars_read"] - row["chars_written"]
    assert documents["several of them"] > 0
    assert [number(n) for n in table.column("kept, changed by it alone")] == [
        documents[n] for n in table.column("edit")
    ]
    removed = [number(n) for n in table.column("characters removed from those")]
    assert removed == [sums[n] for n in table.column("edit")]
    assert sum(removed) == sum(r["chars_read"] - r["chars_written"] for r in kept)


def test_clusters_have_the_sizes_of_the_ledger(normal: Run) -> None:
    members = Counter(r["exact_cluster"] for r in rows(normal.folder, "ledger").to_pylist() if r["exact_cluster"])
    sizes = Counter(members.values())
    chart = normal.page.figure("Clusters of exact_dedup by size")
    assert sum(chart["data"][0]["y"]) == len(members) > 0
    assert chart["data"][0]["y"][0] == sizes[2]
    assert sum(chart["data"][1]["y"]) == sum(n - 1 for n in members.values())
    largest = [t for t in normal.page.tables if "clusters" in (t.attributes.get("class") or "")]
    told = [number(n) for table in largest for n in table.column("documents") if n]
    assert told == sorted(members.values(), reverse=True)[:10]


def test_every_stage_has_its_seconds(normal: Run) -> None:
    table = normal.page.table("table-times")
    seconds = {stage["name"]: stage["seconds"] for stage in normal.manifest["stages"]}
    assert dict(zip(table.column("stage"), map(number, table.column("seconds")))) == pytest.approx(seconds, abs=0.006)
    assert [s["x"] for s in normal.page.figure("Seconds per stage")["data"]] == [list(seconds.values())]


def test_a_sample_says_what_it_is(tmp_path: Path) -> None:
    sampled = Run(tmp_path / "sampled", sample=0.5)
    head = sampled.page.texts["summary"]
    outside = sampled.manifest["counts"]["outside_sample"]
    assert outside > 0
    assert f" + {outside:,} outside the sample" in head
    assert "lower bounds" in head
    assert "lower bounds" in sampled.page.texts["duplicates"]
    assert number(sampled.page.table("table-stages").column("in")[0]) == sampled.sql("SELECT count(*) FROM l")[0][0]


def test_a_recipe_without_rules_edits_and_groups_has_a_page(tmp_path: Path) -> None:
    bare = Run(tmp_path / "bare", stages=[{"use": "url_tags"}])
    assert "The recipe has no rule." in bare.page.texts["rules"]
    assert bare.page.texts.get("edits") is None
    assert bare.page.groups("source").rows[1][1] == "200"
