"""A run that ends at any single write to the output, before or after it took effect, is continued to the same bytes.

The kills of test_kills.py are real and fall where they fall; here the process is made to stop at every commit in turn:
each file written, each receipt created, each folding of receipts, the checksums, the manifest.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import runs
from crashes import Crash, Crasher

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe


@pytest.mark.parametrize(
    "after", [pytest.param(False, id="before", marks=pytest.mark.slow), pytest.param(True, id="after")]
)
def test_a_stop_at_any_commit_is_continued_to_the_same_bytes(tmp_path: Path, after: bool) -> None:
    corpus = runs.write_corpus(tmp_path / "corpus", shards=2, documents=30, group_rows=30)
    recipe = runs.write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "out", write={"shard_size": "20kB"})
    run(load_recipe(recipe))
    expected = runs.file_hashes(tmp_path / "out")
    hit: set[str] = set()
    for at in range(1, 1000):
        loaded = load_recipe(recipe, output=str(tmp_path / f"out{at}"))
        with pytest.MonkeyPatch.context() as patch:
            crasher = Crasher(patch, at, after)
            with contextlib.suppress(Crash):
                run(loaded)
        if not crasher.where:
            break
        hit.add(crasher.where.split("/")[-1].split(".")[-1] if "/" in crasher.where else crasher.where)
        assert run(loaded).fresh or crasher.where == "manifest.json"
        assert runs.file_hashes(tmp_path / f"out{at}") == expected, f"stopped at {crasher.where}"
    assert at > 30
    assert {"manifest.json", "checksums.txt"} <= hit
