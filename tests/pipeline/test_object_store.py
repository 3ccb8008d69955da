"""Whole runs with input, output and receipts on a real S3 protocol server: the same bytes as on a local disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs
import xxhash

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.storage import storage_at


def hashes(output: str) -> dict[str, str]:
    storage = storage_at(output)
    paths = [path for folder in ("data", "ledger", "quarantine") for path in storage.list(folder)]
    return {path: xxhash.xxh3_128_hexdigest(storage.read(path)) for path in paths}


@pytest.fixture
def inputs(tmp_path: Path, s3: str) -> tuple[Path, str]:
    """A recipe, and the same corpus on the server."""
    corpus = runs.write_corpus(tmp_path / "corpus", documents=120)
    bucket = storage_at(s3)
    for path in corpus.iterdir():
        bucket.write(f"corpus/{path.name}", path.read_bytes())
    return runs.write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "out"), s3


def test_a_run_from_s3_to_s3_writes_the_bytes_of_a_local_run(inputs: tuple[Path, str]) -> None:
    recipe, bucket = inputs
    local = run(load_recipe(recipe)).output
    run(load_recipe(recipe, input=[f"{bucket}/corpus/*.parquet"], output=f"{bucket}/out"))
    assert hashes(f"{bucket}/out") == hashes(local)
    assert "OK" in runs.tamis("verify", f"{bucket}/out")


def test_a_run_stopped_on_s3_is_continued_from_its_receipts(inputs: tuple[Path, str]) -> None:
    recipe, bucket = inputs
    loaded = load_recipe(recipe, input=[f"{bucket}/corpus/*.parquet"], output=f"{bucket}/out")
    first = run(loaded)
    expected = hashes(first.output)
    storage = storage_at(first.output)
    storage.remove("manifest.json")
    lost = next(iter(storage.list("data")))
    storage.remove(lost)
    assert run(loaded).fresh
    assert hashes(first.output) == expected


def test_an_output_on_the_server_has_its_pages_and_answers(inputs: tuple[Path, str]) -> None:
    recipe, bucket = inputs
    settings = ["report.pages=true"]
    run(load_recipe(recipe, input=[f"{bucket}/corpus/*.parquet"], output=f"{bucket}/out", settings=settings))
    assert {"report.html", "README.md"} <= storage_at(f"{bucket}/out").list().keys()
    assert "OK" in runs.tamis("verify", f"{bucket}/out")
    for words in (("why", "doc-000003"), ("show", "-n", "1"), ("sql", "FROM stages"), ("status",), ("report",)):
        assert runs.tamis(words[0], f"{bucket}/out", *words[1:])


def test_a_recipe_may_lie_on_the_server_too(inputs: tuple[Path, str]) -> None:
    recipe, bucket = inputs
    storage_at(bucket).write("jobs/recipe.yaml", recipe.read_bytes())
    assert load_recipe(f"{bucket}/jobs/recipe.yaml").resolved() == load_recipe(recipe).resolved()
    assert f"{bucket}/jobs/absent.yaml" in runs.tamis("plan", f"{bucket}/jobs/absent.yaml", code=2)


@pytest.mark.ray
def test_ray_workers_reach_the_object_store(inputs: tuple[Path, str]) -> None:
    recipe, bucket = inputs
    local = run(load_recipe(recipe)).output
    loaded = load_recipe(recipe, input=[f"{bucket}/corpus/*.parquet"], output=f"{bucket}/out")
    run(loaded, executor="ray", workers=2)
    assert hashes(f"{bucket}/out") == hashes(local)
