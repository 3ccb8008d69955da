"""Estimates: a run's own cost comes back from it, other amounts scale, a sample is scaled by what it left out.

How near an estimate comes to the truth on real text is measured by `make bench` (part estimate).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.estimate import Estimate, estimate
from tamis.pipeline.output import Output
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.show_estimate import money, parse_prices
from tamis.stages.errors import RecipeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe and its outputs `whole` and `sampled`."""
    folder = tmp_path_factory.mktemp("estimate")
    corpus = runs.write_corpus(folder / "corpus")
    recipe = runs.write_recipe(folder / "recipe.yaml", corpus, folder / "whole", stages=runs.STAGES[:-1])
    run(load_recipe(recipe))
    run(load_recipe(recipe, output=str(folder / "sampled"), settings=["sample=20%"]))
    return folder


def estimated(folder: Path, earlier: str, *, times: float = 1.0, settings: tuple[str, ...] = ()) -> Estimate:
    plan = plan_recipe(load_recipe(folder / "recipe.yaml", output=str(folder / "new"), settings=settings))
    return estimate(plan, Output(str(folder / earlier)), times)


def test_a_run_estimates_itself(folder: Path) -> None:
    found, manifest = estimated(folder, "whole"), json.loads((folder / "whole" / "manifest.json").read_text())
    cost, counts = manifest["costs"], manifest["counts"]
    cpu = sum(s["cpu_seconds"] for s in cost["steps"]) + cost["write"]["cpu_seconds"] + cost["ledger"]["cpu_seconds"]
    assert found.cpu_seconds == pytest.approx(cpu, rel=0.05)  # stages that took longer than their step are not possible
    assert found.kept_share == counts["kept"] / counts["rows"]
    assert found.rows == counts["rows"]
    assert found.text_kept == counts["bytes_written"]
    on_disk = sum(
        path.stat().st_size
        for part in ("work", "data", "ledger")
        for path in (folder / "whole" / part).rglob("*.parquet")
    )
    assert found.peak_disk == pytest.approx(on_disk, rel=0.01)
    assert found.bounds == []


def test_everything_grows_with_the_input(folder: Path) -> None:
    one, thousand = estimated(folder, "whole"), estimated(folder, "whole", times=1000)
    for name in ("cpu_seconds", "bytes_read", "bytes_written", "rows", "text_kept", "peak_disk"):
        assert getattr(thousand, name) == pytest.approx(1000 * getattr(one, name))
    assert thousand.kept_share == one.kept_share


def test_a_sample_is_scaled_by_the_text_that_it_left_out(folder: Path) -> None:
    whole, sampled = estimated(folder, "whole"), estimated(folder, "sampled")
    assert sampled.rows == pytest.approx(whole.rows)
    assert sampled.text_kept == pytest.approx(whole.text_kept, rel=0.4)
    assert sampled.kept_share == pytest.approx(whole.kept_share, abs=0.1)
    assert sampled.peak_disk == pytest.approx(whole.peak_disk, rel=0.6)
    assert any("exact_dedup" in bound for bound in sampled.bounds), "duplicates of a sample are a bound"


def test_another_threshold_is_told_and_an_unknown_stage_refused(folder: Path) -> None:
    found = estimated(folder, "whole", settings=("rules.set.gopher_quality.words_min=60",))
    assert any(bound.startswith("rules") for bound in found.bounds)
    with pytest.raises(RecipeError, match="knows nothing of this stage"):
        estimated(folder, "whole", settings=("exact_dedup.name=other",))


def test_steps_tell_what_is_left(folder: Path) -> None:
    found, manifest = estimated(folder, "whole"), Output(str(folder / "whole")).manifest
    left = [step.kept for step in found.steps if step.kept is not None]
    assert left == sorted(left, reverse=True)
    assert left[-1] == manifest["counts"]["kept"] / manifest["counts"]["rows"]
    assert [step.name for step in found.steps][-2:] == ["write", "ledger"]


def test_prices_are_per_hour_and_month(folder: Path) -> None:
    found = estimated(folder, "whole", times=1e6)
    assert money(found, parse_prices("cpu=0.03")) == pytest.approx(0.03 * found.cpu_seconds / 3600)
    assert money(found, parse_prices("disk=20, gpu=2")) == pytest.approx(20 * found.peak_disk / 1e12)
    for wrong in ("ram=3", "cpu", "cpu=cheap"):
        with pytest.raises(RecipeError, match="--price"):
            parse_prices(wrong)


def test_the_command_prints_the_estimate_below_the_plan(folder: Path) -> None:
    words = ["plan", folder / "recipe.yaml", "--output", folder / "new", "--from", folder / "sampled"]
    said = runs.tamis(*words, "--times", "1000", "--workers", "64", "--price", "cpu=0.03")
    assert said.index("step 1") < said.index("estimate for")
    assert "1000 times the input" in said
    assert "with 64 workers" in said
    assert "money" in said
    facts = json.loads(runs.tamis(*words, "--json"))
    assert facts["kept_share"] == estimated(folder, "sampled").kept_share
    assert "--from" in runs.tamis("plan", folder / "recipe.yaml", "--times", "3", code=2)
