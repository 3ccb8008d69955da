"""Whole runs with perplexity_buckets: the buckets in ledger and folders, cut-offs used again, cells made by sql_column."""

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
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import load_recipe

N = 300
CELL = {"use": "sql_column", "name": "cell", "sql": "source || '/' || (chars >= 400)::VARCHAR"}
BUCKETS = {"use": "perplexity_buckets", "column": "ppl", "group": "cell", "min_group": 30, "missing": "all"}


def write_recipe(folder: Path, corpus: Path, *stages: dict[str, Any], **changes: Any) -> Path:
    settings = {"stages": [CELL, *stages], "unit_size": "20kB", **changes}
    return runs.write_recipe(folder / "out.yaml", corpus, folder / "out", **settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    draw = random.Random(5)
    table = pa.table(
        {
            "id": [f"doc-{i:04d}" for i in range(N)],
            "text": [runs.document(draw) for _ in range(N)],
            "source": [("web", "web", "books")[i % 3] if i % 50 else None for i in range(N)],
            "ppl": pa.array([None if i % 40 == 7 else draw.lognormvariate(6, 1) for i in range(N)], pa.float32()),
        }
    )
    (folder / "in").mkdir()
    pq.write_table(table, folder / "in" / "a.parquet", row_group_size=40)
    run(load_recipe(write_recipe(folder, folder / "in", BUCKETS, write={"partition": ["bucket"]})))
    return folder


def found(output: Path) -> list[tuple[Any, ...]]:
    return runs.query(f"SELECT doc_id, cell, bucket FROM '{output}/ledger/*.parquet' ORDER BY 1")


def test_every_document_is_kept_in_the_bucket_of_its_cell(base: Path) -> None:
    assert "OK" in runs.tamis("verify", base / "out")
    kept = runs.query(f"SELECT count(*) FROM '{base}/out/ledger/*.parquet' WHERE decision = 'keep'")
    assert kept == [(N,)]
    folders = {path.parent.name for path in (base / "out" / "data").glob("*/*.parquet")}
    assert folders == {f"bucket={name}" for name in ("head", "middle", "tail", "all")}
    facts = json.loads((base / "out" / "manifest.json").read_text())["facts"]["perplexity_buckets"]
    counted = dict(runs.query(f"SELECT bucket, count(*) FROM '{base}/out/ledger/*.parquet' GROUP BY 1"))
    assert counted.pop("all") == facts["without_score"] > 5
    assert counted == {name: sums["docs"] for name, sums in facts["buckets"].items()}
    cells = {f"{source}/{long}" for source in ("web", "books") for long in ("true", "false")}
    assert {cell for _, cell, _ in found(base / "out")} == {*cells, None}
    assert set(facts["groups"]) <= cells
    assert len(facts["groups"]) > 1
    for cell, line in facts["groups"].items():
        low, high = line["cuts"]
        wrong = runs.query(
            f"SELECT count(*) FROM '{base}/out/ledger/*.parquet' WHERE cell = '{cell}' AND ppl IS NOT NULL AND bucket <> "
            f"CASE WHEN ppl < {low!r} THEN 'head' WHEN ppl < {high!r} THEN 'middle' ELSE 'tail' END"
        )
        assert wrong == [(0,)]


def test_frozen_cut_offs_measure_in_the_first_pass_and_give_the_same_buckets(base: Path, tmp_path: Path) -> None:
    again = {"use": "perplexity_buckets", "from": str(base / "out"), "missing": "all"}
    path = write_recipe(tmp_path, base / "in", again)
    plan = plan_recipe(load_recipe(path))
    assert [bound.stage.kind for bound in plan.graph.stages] == ["measure", "measure"]
    assert [step.kind for step in plan.steps] == ["unit"], "one pass, nothing to resolve"
    run(load_recipe(path))
    assert found(tmp_path / "out") == found(base / "out")
    facts = [json.loads((f / "out" / "manifest.json").read_text())["facts"] for f in (base, tmp_path)]
    assert facts[0] == facts[1], "the manifest says by what the buckets were told"


def test_one_document_alone_is_told_that_its_bucket_needs_the_corpus(base: Path, tmp_path: Path) -> None:
    told = runs.tamis("try", write_recipe(tmp_path, base / "in", BUCKETS), "--doc", "doc-0001")
    assert "perplexity_buckets" in told
    assert "cell = " in told
    assert "bucket = head" not in told
