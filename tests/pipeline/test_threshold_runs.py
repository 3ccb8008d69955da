"""Whole runs with threshold: the share in the ledger, set-aside documents, frozen cuts used again, `why` and the report."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.report import render_report
from tamis.stages import _groups, _selection
from tamis.stages.errors import RecipeError

from .report.reading import Reading

N = 600
BEST = {"use": "threshold", "name": "top", "column": "quality", "keep": "20%", "by": "chars"}
GROUPED = {**BEST, "group": "source", "min_group": 100}
AFTER = [{"use": "normalize"}, {"use": "rules", "rules": {"long": "chars >= $least"}, "params": {"least": 300}}]


def write_corpus(folder: Path, order: random.Random | None = None) -> Path:
    """Documents with a quality, of which half is one number and a few are null; with `order` dealt out anew into files
    of other names."""
    draw = random.Random(5)
    quality = [draw.choice([0.5, 0.5, draw.random(), draw.random()]) for _ in range(N)]
    table = pa.table(
        {
            "id": [f"doc-{i:04d}" for i in range(N)],
            "text": [runs.document(draw) for _ in range(N)],
            "source": [("web", "web", "web", "books", "books", "rare")[i % 6] if i % 50 else None for i in range(N)],
            "quality": pa.array([None if i % 40 == 7 else q for i, q in enumerate(quality)], pa.float32()),
        }
    )
    rows, names = list(range(N)), ["a", "b", "c"]
    if order:
        order.shuffle(rows)
        names = ["x", "m", "z"]
    folder.mkdir()
    for name, part in zip(names, (rows[:100], rows[100:350], rows[350:]), strict=True):
        pq.write_table(table.take(part), folder / f"{name}.parquet", row_group_size=40)
    return folder


def write_recipe(folder: Path, corpus: Path, *stages: dict[str, Any], output: str = "out", **changes: Any) -> Path:
    settings = {"stages": [*AFTER, *stages], "unit_size": "40kB", "max_bad": "100%", **changes}
    return runs.write_recipe(folder / f"{output}.yaml", corpus, folder / output, **settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run with a cut in every source; its recipe and corpus stand beside its output."""
    folder = tmp_path_factory.mktemp("base")
    run(load_recipe(write_recipe(folder, write_corpus(folder / "in"), GROUPED)))
    return folder


def facts(output: Path, stage: str = "top") -> dict[str, Any]:
    return json.loads((output / "manifest.json").read_text())["facts"][stage]


def decisions(output: Path) -> list[tuple[Any, ...]]:
    columns = "doc_id, decision, rule, reason, failed"
    return runs.query(f"SELECT {columns} FROM '{output}/ledger/*.parquet' ORDER BY doc_id")


def test_the_ledger_shows_the_asked_share_of_every_source(base: Path) -> None:
    counts = runs.check_accounting(base / "out")
    assert counts["quarantine"] > 5
    lines = runs.query(
        f"""SELECT source, sum(chars_read), sum(chars_written), max(chars_read), count(*) FROM '{base}/out/ledger/*.parquet'
        WHERE quality IS NOT NULL AND (stage = 'top' OR decision = 'keep') AND source IN ('web', 'books') GROUP BY 1"""
    )
    assert {line[0] for line in lines} == {"web", "books"} == set(facts(base / "out")["groups"])
    for source, read, written, largest, documents in lines:
        frozen = facts(base / "out")["groups"][source]
        assert frozen["docs"] == documents
        assert 0.2 * frozen["weight"] <= frozen["kept_weight"] <= 0.2 * frozen["weight"] + largest
        assert written == frozen["kept_weight"], "characters of the text at hand"
        assert read >= frozen["weight"], "before the edits"


def test_documents_without_a_score_are_set_aside_with_their_reason(base: Path) -> None:
    aside = runs.query(
        f"SELECT doc_id, stage, rule FROM '{base}/out/quarantine/rows.parquet' WHERE reason = 'top.null' ORDER BY 1"
    )
    expected = runs.query(
        f"SELECT doc_id, 'top', 'top.below' FROM '{base}/out/ledger/*.parquet' "
        "WHERE quality IS NULL AND stage = 'top' AND decision = 'quarantine' AND len(failed) IS NULL ORDER BY 1"
    )
    assert aside == expected
    assert len(aside) == facts(base / "out")["without_score"] > 5
    stage = json.loads((base / "out" / "manifest.json").read_text())["stages"][-1]
    assert stage["rules"]["top.below"]["null"] == stage["quarantined"] == len(aside)
    assert "OK" in runs.tamis("verify", base / "out")


@pytest.mark.parametrize(("nulls", "decision"), [("pass", "keep"), ("fail", "drop")])
def test_nulls_pass_or_fail_as_the_recipe_says(base: Path, tmp_path: Path, nulls: str, decision: str) -> None:
    run(load_recipe(write_recipe(tmp_path, base / "in", {**BEST, "nulls": nulls})))
    found = runs.query(
        f"SELECT DISTINCT decision, rule FROM '{tmp_path}/out/ledger/*.parquet' "
        "WHERE quality IS NULL AND rule IS DISTINCT FROM 'rules.long'"
    )
    assert found == [(decision, None if nulls == "pass" else "top.below")]
    runs.check_accounting(tmp_path / "out")


def test_a_tag_drops_nobody_and_is_null_where_there_is_no_score(base: Path, tmp_path: Path) -> None:
    run(load_recipe(write_recipe(tmp_path, base / "in", {**GROUPED, "action": "tag"})))
    tags = runs.query(f"SELECT doc_id, top_pass FROM '{tmp_path}/out/ledger/*.parquet' WHERE decision = 'keep'")
    dropped = {name: decision for name, decision, *_ in decisions(base / "out")}
    meaning = {True: "keep", False: "drop", None: "quarantine"}
    assert {name: meaning[tag] for name, tag in tags} == {n: d for n, d in dropped.items() if n in dict(tags)}
    assert len(tags) > 400


@pytest.mark.parametrize("unit_size", ["10kB", "128MB"])
def test_units_items_and_rounds_change_no_byte(base: Path, tmp_path: Path, unit_size: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(_groups, "UNITS_PER_ITEM", 2)
    monkeypatch.setattr(_groups, "ROWS_PER_PART", 200)
    monkeypatch.setattr(_selection, "MOST_KEYS", 40)
    monkeypatch.setattr(_selection, "BINS", (4, 16))
    run(load_recipe(base / "out.yaml", output=str(tmp_path / "out"), settings=[f"unit_size={unit_size}"]))
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "out")
    assert facts(tmp_path / "out") == facts(base / "out")


@pytest.mark.ray
def test_ray_writes_the_bytes_of_an_inline_run(base: Path, tmp_path: Path) -> None:
    run(load_recipe(base / "out.yaml", output=str(tmp_path / "out")), executor="ray", workers=2)
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "out")


def test_an_observing_run_decides_alike(base: Path, tmp_path: Path) -> None:
    run(load_recipe(base / "out.yaml", output=str(tmp_path / "out"), settings=["observe=true"]))
    strip = [[line[:4] for line in decisions(output)] for output in (base / "out", tmp_path / "out")]
    assert strip[0] == strip[1]
    assert facts(tmp_path / "out") == facts(base / "out")


def test_the_frozen_cut_decides_the_same_documents_alike_in_other_files_under_another_seed(
    base: Path, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "in", random.Random(1))
    again = {"use": "threshold", "name": "again", "from": {"output": str(base / "out"), "stage": "top"}}
    recipe = write_recipe(tmp_path, corpus, again, seed=77)
    assert [step.kind for step in plan_recipe(load_recipe(recipe)).steps] == ["unit"], "no other document is needed"
    run(load_recipe(recipe))
    renamed = [
        (name, decision, (rule or "").replace("again", "top") or None, (why or "").replace("again", "top") or None)
        for name, decision, rule, why, _ in decisions(tmp_path / "out")
    ]
    assert renamed == [line[:4] for line in decisions(base / "out")]
    assert facts(tmp_path / "out", "again") == facts(base / "out"), "so that a third run may take it from the second"
    third = {"use": "threshold", "name": "again", "from": str(tmp_path / "out")}
    run(load_recipe(write_recipe(tmp_path, corpus, third, output="third")))
    assert decisions(tmp_path / "third") == decisions(tmp_path / "out")


def test_the_cut_is_part_of_the_plan_and_where_it_lies_is_not(base: Path, tmp_path: Path) -> None:
    import shutil

    def key(output: Path, **more: Any) -> str:
        stage = {"use": "threshold", "name": "top", "from": str(output)}
        return plan_recipe(load_recipe(write_recipe(tmp_path, base / "in", stage, **more))).steps[-1].key

    shutil.copytree(base / "out", tmp_path / "copy")
    first = key(base / "out")
    assert key(tmp_path / "copy") == key(base / "out", seed=5) == first
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    manifest["facts"]["top"]["overall"]["below"]["score"] += 0.001
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(manifest))
    assert key(tmp_path / "copy") != first


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere", "no finished output"),
        ({"output": "out", "stage": "tip"}, "no stage tip that froze anything. Did you mean: top?"),
    ],
)
def test_a_cut_that_is_not_there_is_refused_with_its_line(
    base: Path, tmp_path: Path, source: Any, complaint: str
) -> None:
    if isinstance(source, dict):
        source = {**source, "output": str(base / source["output"])}
    recipe = write_recipe(tmp_path, base / "in", {"use": "threshold", "name": "x", "from": source})
    with pytest.raises(RecipeError, match=complaint) as error:
        plan_recipe(load_recipe(recipe))
    assert "out.yaml:" in str(error.value)


def test_why_shows_the_value_beside_the_cut_of_its_group(base: Path) -> None:
    name, quality = runs.query(
        f"SELECT doc_id, quality FROM '{base}/out/ledger/*.parquet' WHERE rule = 'top.below' AND source = 'web' "
        "AND decision = 'drop' ORDER BY doc_id LIMIT 1"
    )[0]
    cut = facts(base / "out")["groups"]["web"]["below"]
    told = runs.tamis("why", base / "out", name)
    assert f"dropped by top.below: quality = {quality:.6g}, source = web, needs quality >= {cut['score']:.6g}" in told
    assert "(the cut of source = web)" in told
    kept = runs.query(f"SELECT doc_id FROM '{base}/out/ledger/*.parquet' WHERE decision = 'keep' AND source = 'rare'")
    told = runs.tamis("why", base / "out", kept[0][0])
    assert "passed (20 % of chars: quality >= " in told
    assert "(the cut of all documents)" in told
    aside = runs.query(f"SELECT doc_id FROM '{base}/out/ledger/*.parquet' WHERE reason = 'top.null' LIMIT 1")
    assert "top.below could not be decided: quality = null" in runs.tamis("why", base / "out", aside[0][0])


def page(output: Path) -> Reading:
    return Reading(render_report(Output(str(output))))


def test_the_report_counts_asked_and_reached_in_the_ledger(base: Path) -> None:
    found = page(base / "out")
    assert "20 % of chars" in found.texts["cuts"]
    table = next(t for t in found.tables if t.attributes.get("data-stage") == "top" and "cuts" in t.within)
    counted = {
        source: f"{documents:,}"
        for source, documents in runs.query(
            f"""SELECT CASE WHEN source IN ('web', 'books') THEN source END, count(*) FROM '{base}/out/ledger/*.parquet'
            WHERE quality IS NOT NULL AND (stage = 'top' OR decision = 'keep') GROUP BY 1"""
        )
    }
    assert table.column("source") == ["web", "books", "all others: the cut of all documents"]
    assert table.column("documents") == [counted["web"], counted["books"], counted[None]]
    assert "documents had no score" in found.texts["cuts"]
    assert "top" not in found.texts.get("duplicates", "")
    shares = [float(cell.removesuffix(" %")) for cell in table.column("of chars")[:2]]
    assert all(19 < share < 24 for share in shares)


def test_the_report_shows_the_drift_of_a_cut_that_was_taken(base: Path, tmp_path: Path) -> None:
    better = pa.concat_tables([pq.read_table(path) for path in sorted((base / "in").glob("*.parquet"))])
    better = better.filter(pa.compute.fill_null(pa.compute.greater(better["quality"], 0.4), False))
    (tmp_path / "in").mkdir()
    pq.write_table(better, tmp_path / "in" / "better.parquet")
    run(
        load_recipe(
            write_recipe(tmp_path, tmp_path / "in", {"use": "threshold", "name": "top", "from": str(base / "out")})
        )
    )
    found = page(tmp_path / "out")
    table = next(t for t in found.tables if "cuts" in t.within and "there" in t.rows[0])
    there, here = (float(table.column(title)[0].removesuffix(" %")) for title in ("there", "of chars"))
    assert 19 < there < 24 < 25 < here
    assert f"the frozen one of {base}/out" in found.texts["cuts"]


def test_a_share_of_documents_and_a_band_are_told_in_their_own_words(base: Path, tmp_path: Path) -> None:
    band = {"use": "threshold", "name": "mid", "column": "quality", "band": ["40%", "60%"], "side": "bottom"}
    run(load_recipe(write_recipe(tmp_path, base / "in", band, {**BEST, "keep": 20, "by": "docs"})))
    runs.check_accounting(tmp_path / "out")
    text = page(tmp_path / "out").texts["cuts"]
    assert "the lowest 40 % to 60 % of docs" in text
    assert "20 docs" in text
    rules = dict(runs.query(f"SELECT rule, count(*) FROM '{tmp_path}/out/ledger/*.parquet' GROUP BY 1"))
    mid, top = facts(tmp_path / "out", "mid"), facts(tmp_path / "out")
    assert mid["docs"] == mid["kept_docs"] + rules["mid.above"] + rules["mid.below"] - mid["without_score"]
    assert (mid["kept_docs"], top["docs"], top["kept_docs"]) == (top["docs"], mid["kept_docs"], 20)
    name = runs.query(
        f"SELECT doc_id FROM '{tmp_path}/out/ledger/*.parquet' WHERE rule = 'mid.above' AND decision = 'drop'"
    )
    assert "dropped by mid.above: quality = 0." in runs.tamis("why", tmp_path / "out", name[0][0])


def test_plan_prints_the_stage_and_its_rules(base: Path) -> None:
    told = runs.tamis("plan", base / "out.yaml")
    assert "resolve" in told
    assert "rules top.below (keep = 0.2)" in told
