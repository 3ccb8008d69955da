"""Sets and partitions under Ray, after a stop at any commit, and on an object store: the same bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import runs
from crashes import Crash, Crasher

from tamis.pipeline.driver import run
from tamis.pipeline.storage import storage_at
from tamis.pipeline.verify import verify

from . import written as w

SETS = {name: w.SETS[name][0] for name in ("main", "short", "all")}
HOW: dict[str, Any] = {"partition": ["source"], "shard_size": "6kB", "sets": SETS, "columns": w.COLUMNS}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpus in `in`, the outputs of undisturbed inline runs in `parquet` and `jsonl.zst`."""
    folder = tmp_path_factory.mktemp("runs")
    corpus = w.write_corpus(folder / "in", seed=5, files=2, documents=30)
    for form in ("parquet", "jsonl.zst"):
        w.written_run(corpus, folder / form, write={**HOW, "format": form})
    return folder


@pytest.mark.ray
@pytest.mark.parametrize("form", ["parquet", pytest.param("jsonl.zst", marks=pytest.mark.slow)])
def test_ray_writes_the_bytes_of_an_inline_run(base: Path, tmp_path: Path, form: str) -> None:
    recipe = w.recipe_over(base / "in", tmp_path / "out", write={**HOW, "format": form}, unit_size="10kB")
    run(recipe, executor="ray", workers=2)
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / form)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("form", ["parquet", "jsonl.zst"])
def test_a_stop_at_any_commit_is_continued_to_the_same_bytes(
    base: Path, tmp_path: Path, form: str, after: bool
) -> None:
    expected = runs.file_hashes(base / form)
    assert len(expected) > 15
    hit: list[str] = []
    for at in range(1, 1000):
        recipe = w.recipe_over(base / "in", tmp_path / f"out{at}", write={**HOW, "format": form})
        with pytest.MonkeyPatch.context() as patch:
            crasher = Crasher(patch, at, after)
            with contextlib.suppress(Crash):
                run(recipe)
        if not crasher.where:
            break
        hit.append(crasher.where)
        assert run(recipe).fresh or crasher.where == "manifest.json"
        assert runs.file_hashes(tmp_path / f"out{at}") == expected, f"stopped at {crasher.where}"
    for part in ("choose-", "write-", "data/short/source=", "ledger-"):
        assert any(where.startswith(part) for where in hit), part


def test_a_lost_file_of_a_set_is_written_again(base: Path, tmp_path: Path) -> None:
    recipe = w.recipe_over(base / "in", tmp_path / "out", write=HOW)
    run(recipe)
    (tmp_path / "out" / "manifest.json").unlink()
    lost = sorted((tmp_path / "out" / "data").rglob("*.parquet"))[3]
    lost.unlink()
    (lost.parent / "part-999999-00.parquet").write_bytes(b"x")
    assert run(recipe).fresh
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "parquet")


@pytest.mark.parametrize("form", ["parquet", pytest.param("jsonl.zst", marks=pytest.mark.slow)])
def test_an_object_store_holds_the_same_files(base: Path, s3: str, form: str) -> None:
    from tamis.pipeline.output import Output

    recipe = w.recipe_over(base / "in", Path("unused"), write={**HOW, "format": form})
    run(recipe.model_copy(update={"output": f"{s3}/{form}"}))
    bucket = storage_at(f"{s3}/{form}")
    local = {path: (base / form / path).read_bytes() for path in runs.file_hashes(base / form)}
    there = {path: bucket.read(path) for folder in ("data", "ledger", "quarantine") for path in bucket.list(folder)}
    assert there == local
    assert verify(f"{s3}/{form}").ok
    count = "SELECT set_name, count(*) AS rows FROM data GROUP BY 1 ORDER BY 1"
    assert Output(f"{s3}/{form}").rows(count) == Output(str(base / form)).rows(count)
