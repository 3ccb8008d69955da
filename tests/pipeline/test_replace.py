"""`--replace`: at every moment, whoever looks finds the old result or the new one, whole."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import pytest
import runs
from crashes import Crash, Crasher

from tamis.pipeline import replace
from tamis.pipeline.driver import run
from tamis.pipeline.lock import Lock
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.storage import Storage
from tamis.stages.errors import RecipeError, SetupError

OLD, NEW = ["max_bad=1%"], ["sample.share=0.4", "seed=5"]


def everything(output: Path) -> dict[str, str]:
    """Hashes of all that a result consists of but its times."""
    return runs.file_hashes(output)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    """A recipe, and the hashes of the two results."""
    folder = tmp_path_factory.mktemp("replace")
    corpus = runs.write_corpus(folder / "corpus", shards=2, documents=30, group_rows=30)
    recipe = runs.write_recipe(folder / "recipe.yaml", corpus, folder / "out", write={"shard_size": "20kB"})
    run(load_recipe(recipe, output=str(folder / "old"), settings=OLD))
    run(load_recipe(recipe, output=str(folder / "new"), settings=NEW))
    old, new = everything(folder / "old"), everything(folder / "new")
    assert old != new
    assert set(old) - set(new), "the new result has fewer files, so that a mixture would show"
    return recipe, old, new


def test_without_replace_another_recipe_is_refused_and_told_how(results: tuple, tmp_path: Path) -> None:
    recipe, old, _ = results
    run(load_recipe(recipe, output=str(tmp_path / "out"), settings=OLD))
    with pytest.raises(RecipeError, match="--replace"):
        run(load_recipe(recipe, output=str(tmp_path / "out"), settings=NEW))
    assert everything(tmp_path / "out") == old


def test_the_new_result_stands_in_the_place_of_the_old(results: tuple, tmp_path: Path) -> None:
    recipe, _, new = results
    out = tmp_path / "out"
    run(load_recipe(recipe, output=str(out), settings=OLD))
    result = run(load_recipe(recipe, output=str(out), settings=NEW), replace=True)
    assert result.fresh
    assert everything(out) == new
    assert not [path.name for path in out.iterdir() if path.name.startswith((".next", ".old", ".replace"))]
    assert "OK" in runs.tamis("verify", out)
    assert not run(load_recipe(recipe, output=str(out), settings=NEW)).fresh


@pytest.mark.parametrize(
    "after", [pytest.param(False, id="before", marks=pytest.mark.slow), pytest.param(True, id="after")]
)
def test_a_stop_at_any_commit_leaves_the_old_or_the_new(results: tuple, tmp_path: Path, after: bool) -> None:
    recipe, old, new = results
    seen: set[str] = set()
    for at in range(1, 1000):
        out = tmp_path / f"out{at}"
        run(load_recipe(recipe, output=str(out), settings=OLD))
        loaded = load_recipe(recipe, output=str(out), settings=NEW)
        with pytest.MonkeyPatch.context() as patch:
            crasher = Crasher(patch, at, after)
            with contextlib.suppress(Crash):
                run(loaded, replace=True)
        if not crasher.where:
            break
        plan = Output(str(out)).manifest["plan"]  # opening it completes what was begun
        found = everything(out)
        assert found in (old, new), f"a mixture, stopped at {crasher.where}"
        seen.add("old" if found == old else "new")
        run(loaded, replace=True)
        assert everything(out) == new, f"stopped at {crasher.where}"
        assert (plan == Output(str(out)).manifest["plan"]) == (found == new)
    assert at > 40
    assert seen == {"old", "new"}


@pytest.mark.slow
def test_real_kills_leave_the_old_or_the_new(results: tuple, tmp_path: Path) -> None:
    """SIGKILL after every few milliseconds of a run's life; `verify` must find a whole result each time."""
    recipe, old, new = results
    out = tmp_path / "out"
    run(load_recipe(recipe, output=str(out), settings=OLD))
    command = runs.command("run", recipe, "--output", out, "--replace", *(w for s in NEW for w in ("--set", s)))
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - begun
    found = []
    for kill in range(20):
        subprocess.run(
            runs.command("run", recipe, "--output", out, "--replace", "--set", OLD[0]), check=True, capture_output=True
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(whole * (kill + 1) / 21)
        process.kill()
        process.wait()
        assert "OK" in runs.tamis("verify", out)
        found.append(everything(out))
        assert found[-1] in (old, new)
    assert old in found


def test_an_interrupted_attempt_with_another_recipe_leaves_nothing_behind(results: tuple, tmp_path: Path) -> None:
    recipe, _, new = results
    out = tmp_path / "out"
    run(load_recipe(recipe, output=str(out), settings=OLD))
    with pytest.MonkeyPatch.context() as patch:
        Crasher(patch, 30, True)
        with contextlib.suppress(Crash):
            run(load_recipe(recipe, output=str(out), settings=["seed=7", "sample.share=0.8"]), replace=True)
    assert (out / ".next").is_dir()
    assert "OK" in runs.tamis("verify", out), "what is being built is no part of the result"
    run(load_recipe(recipe, output=str(out), settings=NEW), replace=True)
    assert everything(out) == new


def test_who_looks_while_a_living_driver_swaps_is_told_to_wait(results: tuple, tmp_path: Path) -> None:
    recipe, _, new = results
    out = tmp_path / "out"
    run(load_recipe(recipe, output=str(out), settings=OLD))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replace, "_complete", lambda output: None)  # as if it were just about to begin
        run(load_recipe(recipe, output=str(out), settings=NEW), replace=True)
    assert (out / ".replace.json").exists()
    holder = Lock(Storage(str(out)), "them")
    with holder, pytest.raises(SetupError, match="them"):
        Output(str(out))
    assert everything(Path(Output(str(out)).storage.root)) == new


def test_object_stores_are_refused(s3: str, results: tuple, tmp_path: Path) -> None:
    recipe, *_ = results
    output = f"{s3}/replaced"
    run(load_recipe(recipe, output=output, settings=OLD))
    with pytest.raises(RecipeError, match="another --output"):
        run(load_recipe(recipe, output=output, settings=NEW), replace=True)
