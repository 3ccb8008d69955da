"""What was computed is not computed again: `--until` and then the rest, one more input file, another recipe after a unit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

TWO_PASSES: list[dict[str, Any]] = [*runs.STAGES, {"use": "text_signals", "name": "last"}]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    corpus = runs.write_corpus(tmp_path / "corpus", shards=4, documents=100, group_rows=50)
    return runs.write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "out", stages=TWO_PASSES)


def units_run(output: Path) -> list[tuple[str, str]]:
    """(step folder, unit) of every unit that was run, in the order of the log."""
    events = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [(event["step"], event["unit"]) for event in events if event["event"] == "unit"]


def test_a_run_until_a_stage_is_continued_without_repeating_a_unit(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = runs.tamis("run", recipe, "--until", "exact_dedup")
    assert "stopped after exact_dedup" in said
    assert not (out / "manifest.json").exists()
    assert not (out / "data").exists()
    first = units_run(out)
    assert first
    run(load_recipe(recipe))
    everything = units_run(out)
    assert everything[: len(first)] == first
    assert len(everything) == len(set(everything)), "a unit was run twice"
    run(load_recipe(recipe, output=str(tmp_path / "undisturbed")))
    assert runs.file_hashes(out) == runs.file_hashes(tmp_path / "undisturbed")
    assert len(units_run(tmp_path / "undisturbed")) == len(everything)


@pytest.mark.parametrize("stage", [stage.get("name", stage["use"]) for stage in TWO_PASSES if stage["use"] != "rules"])
def test_every_stage_can_be_the_last(recipe: Path, stage: str) -> None:
    result = run(load_recipe(recipe), until=stage)
    assert not result.manifest
    done = [s["name"] for s in result.stages if "in" in s]
    assert stage in done
    assert run(load_recipe(recipe)).manifest


def test_an_unknown_stage_is_named_with_the_nearest(recipe: Path) -> None:
    assert "text_signals" in runs.tamis("run", recipe, "--until", "text_signal", code=2)


def add_file(folder: Path, name: str) -> None:
    extra = runs.write_corpus(folder.parent / f"extra-{name}", shards=1, documents=80, group_rows=40, seed=9)
    shutil.copy(extra / "part-0.parquet", folder / name)


@pytest.mark.parametrize("name", ["part-9.parquet", "part-00.parquet", "part-1b.parquet"])
@pytest.mark.parametrize("unit_size", ["30kB", "2MB", "128MB"])
def test_one_more_file_repeats_no_unit_before_the_first_resolve_stage(
    recipe: Path, tmp_path: Path, name: str, unit_size: str
) -> None:
    """Wherever the file falls, as long as it does not part two files that were read together."""
    settings = [f"unit_size={unit_size}"]
    run(load_recipe(recipe, settings=settings))
    before = units_run(tmp_path / "out")
    packed = json.loads((tmp_path / "out" / "work" / "packs.json").read_text())
    parted = name == "part-1b.parquet" and any(len(pack) > 1 for pack in packed)
    add_file(tmp_path / "corpus", name)
    run(load_recipe(recipe, settings=settings), replace=True)
    after = units_run(tmp_path / "out")[len(before) :]
    read = before[0][0]
    again = {unit for step, unit in after if step == read} & {unit for step, unit in before if step == read}
    assert again == set()
    new = [unit for step, unit in after if step == read]
    if not parted:
        extra = sum(1 for _ in new)
        fresh = load_recipe(recipe, output=str(tmp_path / "fresh"), settings=settings)
        alone = tmp_path / "alone"
        alone.mkdir()
        shutil.copy(tmp_path / "corpus" / name, alone / name)
        run(load_recipe(recipe, input=[f"{alone}/*.parquet"], output=str(tmp_path / "one"), settings=settings))
        assert extra == len([u for s, u in units_run(tmp_path / "one") if s.startswith("read-")])
        run(fresh)
        assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(tmp_path / "fresh")


def test_a_finished_run_over_packed_files_stays_finished(recipe: Path, tmp_path: Path) -> None:
    settings = ["unit_size=128MB"]
    run(load_recipe(recipe, settings=settings))
    add_file(tmp_path / "corpus", "part-9.parquet")
    run(load_recipe(recipe, settings=settings), replace=True)
    assert not run(load_recipe(recipe, settings=settings)).fresh
    shutil.rmtree(tmp_path / "out" / "work")
    assert not run(load_recipe(recipe, settings=settings)).fresh, "how files are packed is no part of the result"


def test_a_moved_rule_after_a_resolve_stage_repeats_no_unit_before_it(recipe: Path, tmp_path: Path) -> None:
    run(load_recipe(recipe))
    before = units_run(tmp_path / "out")
    run(load_recipe(recipe, settings=["sample.share=0.5"]), replace=True)
    after = units_run(tmp_path / "out")[len(before) :]
    assert after
    assert {step for step, _ in after}.isdisjoint({step for step, _ in before})
    assert not any(step.startswith("read-") for step, _ in after)
