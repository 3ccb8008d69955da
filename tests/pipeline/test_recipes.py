"""Every recipe in configs/ loads and plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import load_recipe

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_of_the_project_loads_and_plans(path: Path, tmp_path: Path) -> None:
    pages = ROOT / "tests" / "golden" / "pages.jsonl"
    plan = plan_recipe(load_recipe(path, input=[str(pages)], output=str(tmp_path / "out")))
    assert plan.graph.stages
    # what cut_spans cuts is known when all documents have been seen
    assert plan.text_passes == (3 if any(bound.use == "cut_spans" for bound in plan.graph.stages) else 2)
