"""The same rows whatever the executor, the number of workers and the size of the units; the same bytes at one size."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed inline run; recipe and corpus stand beside its output."""
    folder = tmp_path_factory.mktemp("determinism")
    corpus = runs.write_corpus(folder / "corpus")
    run(load_recipe(runs.write_recipe(folder / "recipe.yaml", corpus, folder / "out")))
    return folder


def test_the_sums_hold_and_every_stage_acts(base: Path) -> None:
    counts = runs.check_accounting(base / "out")
    assert counts["keep"] > 200
    ledger = runs.rows(base / "out", "ledger")
    dropped_by = set(ledger["stage"].to_pylist()) - {None}
    assert {"rules", "rules_2", "exact_dedup", "sample"} <= dropped_by
    assert any(ledger["normalize_changed"].to_pylist())
    assert any(ledger["c4_lines_changed"].to_pylist())


def test_ledger_and_data_are_in_identity_order(base: Path) -> None:
    for folder in ("ledger", "data"):
        table = runs.rows(base / "out", folder)
        order = list(zip(table["source_file"].to_pylist(), table["source_row"].to_pylist(), strict=True))
        assert order == sorted(order)


@pytest.mark.parametrize("unit_size", ["10kB", "800kB", "128MB"])
def test_unit_size_changes_no_byte(base: Path, tmp_path: Path, unit_size: str) -> None:
    run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "out"), settings=[f"unit_size={unit_size}"]))
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "out")
    runs.check_accounting(tmp_path / "out")


@pytest.mark.ray
@pytest.mark.parametrize("workers", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4)), 2])
def test_ray_writes_the_bytes_of_an_inline_run(base: Path, tmp_path: Path, workers: int) -> None:
    run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "out")), executor="ray", workers=workers)
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "out")


def test_a_finished_run_has_nothing_to_do_and_another_recipe_is_refused(base: Path) -> None:
    from tamis.stages.errors import RecipeError

    recipe = base / "recipe.yaml"
    assert not run(load_recipe(recipe)).fresh
    with pytest.raises(RecipeError, match="changed: stages"):
        run(load_recipe(recipe, settings=["sample.share=0.5"]))
