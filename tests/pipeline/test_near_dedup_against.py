"""A second dump deduplicated against what the first kept: every removed document has a kept copy in one of the two."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from near_documents import families
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tamis.kernels import minhash
from tamis.pipeline.driver import run
from tamis.pipeline.recipe import parse_recipe
from tamis.pipeline.why import story
from tamis.stages.arrow import text_buffers
from tamis.stages.errors import RecipeError

WEB = Path(__file__).parents[2].parent / "shared" / "data" / "web"


def sift(folder: Path, name: str, files: Any, *, keep_work: str = "all", **config: Any) -> Path:
    stages = [{"use": "normalize"}, {"use": "near_dedup", **config}]
    recipe = {"name": name, "input": {"files": files}, "output": f"{folder}/{name}", "stages": stages}
    run(parse_recipe({**recipe, "keep_work": keep_work, "report": {"pages": False}, "unit_size": "1MB"}))
    return folder / name


def column(output: Path, name: str, where: str = "true") -> list[Any]:
    return [
        row[0] for row in query(output, f"SELECT {name} FROM ledger WHERE {where} ORDER BY source_file, source_row")
    ]


def query(output: Path, sql: str) -> list[tuple[Any, ...]]:
    return runs.query(sql.replace("FROM ledger", f"FROM '{output}/ledger/*.parquet'"))


def buckets(texts: list[str]) -> list[list[int]]:
    """Every set of two or more texts whose eight minima of one of 14 bands are equal: by dictionaries."""
    data, offsets = text_buffers(pa.array(texts, pa.large_string()))
    signatures, _ = minhash.signatures(data, offsets, 5, *minhash.permutations(112))
    found = defaultdict(list)
    for i, signature in enumerate(signatures):
        for band in range(14):
            found[band, signature[8 * band : 8 * band + 8].tobytes()].append(i)
    return [members for members in found.values() if len(members) > 1]


def check(first: Path, second: Path, texts: dict[tuple[str, int], str], others: dict[tuple[str, int], str]) -> int:
    """texts, others: by (source_file, source_row), of the first and of the second dump. The number of documents of
    the second that one of the first stands for."""
    kept = {tuple(key) for key in query(first, "SELECT source_file, source_row FROM ledger WHERE decision = 'keep'")}
    names = [("first", key) for key in texts if key in kept] + [("second", key) for key in others]
    both = [*(texts[key] for key in texts if key in kept), *others.values()]
    pairs = np.array([(m[0], other) for m in buckets(both) for other in m[1:]]).reshape(-1, 2)
    shape = (len(both), len(both))
    _, label = connected_components(coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape))
    component = dict(zip(names, label.tolist()))
    sql = "SELECT source_file, source_row, decision, near_kept_file, near_kept_row, near_kept_output FROM ledger"
    survivors, of_first = defaultdict(int), 0
    for name in kept:
        survivors[component["first", name]] += 1
    for file, row, decision, kept_file, kept_row, output in query(second, sql):
        own = component["second", (file, row)]
        if decision == "keep":
            assert not survivors[own], "it stays although an earlier document, or another of its own, stands for it"
            survivors[own] += 1
            continue
        stands = ("first" if output else "second", (kept_file, kept_row))
        assert component[stands] == own
        assert output or column(second, "decision", f"source_file = '{kept_file}' AND source_row = {kept_row}") == [
            "keep"
        ]
        of_first += bool(output)
    assert all(survivors[own] for name, own in component.items())
    return of_first


@pytest.mark.parametrize("keep_work", ["all", "signatures"])
def test_each_removed_document_has_a_kept_copy_and_the_first_output_is_untouched(tmp_path, keep_work):
    rows = families(300, seed=3)
    texts: dict[str, dict[tuple[str, int], str]] = {}
    for at, dump in enumerate(("one", "two")):
        part = rows.slice(at * 400, 400 if at == 0 else None).select(["text", "source", "quality"])
        (tmp_path / dump).mkdir()
        pq.write_table(part.slice(0, 100), tmp_path / dump / "a.parquet", row_group_size=30)
        pq.write_table(part.slice(100), tmp_path / dump / "b.parquet", row_group_size=50)
        found = part["text"].to_pylist()
        texts[dump] = {(f"{'ab'[i >= 100]}.parquet", i - 100 * (i >= 100)): text for i, text in enumerate(found)}
    prefer = ["quality desc"]
    first = sift(tmp_path, "first", f"{tmp_path}/one/*.parquet", keep_work=keep_work, prefer=prefer)
    before = runs.file_hashes(first)
    second = sift(tmp_path, "second", f"{tmp_path}/two/*.parquet", against=[str(first)], prefer=prefer)
    assert runs.file_hashes(first) == before
    assert check(first, second, texts["one"], texts["two"]) > 50
    facts = json.loads((second / "manifest.json").read_text())["facts"]["near_dedup"]
    told = column(second, "near_kept_output", "near_kept_output IS NOT NULL")
    assert set(told) == {str(first)}
    assert facts["duplicates_of_earlier"] == len(told)
    assert facts["newcomer_preferred"] > 0
    [(key, kept_id)] = query(
        second,
        "SELECT doc_id, near_kept_doc_id FROM ledger WHERE near_kept_output IS NOT NULL ORDER BY 1 LIMIT 1",
    )
    said = story(str(second), key=key)
    assert kept_id in said
    assert "of the earlier output" in said


def test_another_setting_of_the_signatures_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "one").mkdir()
    pq.write_table(families(20).select(["text"]), tmp_path / "one" / "a.parquet")
    first = sift(tmp_path, "first", f"{tmp_path}/one/*.parquet", similarity=0.8)
    with pytest.raises(RecipeError, match="holds no near_dedup with the same key settings"):
        sift(tmp_path, "second", f"{tmp_path}/one/*.parquet", against=[str(first)], bands=20, rows=13)
    assert not (tmp_path / "second" / "work").exists()
    changes: list[dict[str, Any]] = [{"prefer": ["longest"]}, {"max_cluster": 5}, {"on_alarm": "warn"}]
    for choosing in changes:
        name = f"with-{next(iter(choosing))}"
        sift(tmp_path, name, f"{tmp_path}/one/*.parquet", against=[str(first)], bands=9, rows=13, **choosing)


@pytest.mark.slow
@pytest.mark.skipif(not WEB.is_dir(), reason="the web corpus is not here")
def test_two_dumps_of_real_pages(tmp_path):
    names = sorted(map(str, WEB.glob("*.parquet")))
    dumps = names[:3], names[3:6]
    texts = []
    for files in dumps:
        found = {}
        for name in files:
            for row, text in enumerate(pq.read_table(name, columns=["text"])["text"].to_pylist()):
                found[Path(name).name, row] = text
        texts.append(found)
    first = sift(tmp_path, "first", dumps[0], keep_work="signatures")
    before = runs.file_hashes(first)
    second = sift(tmp_path, "second", dumps[1], against=[str(first)])
    assert runs.file_hashes(first) == before
    assert check(first, second, *texts) > 100
