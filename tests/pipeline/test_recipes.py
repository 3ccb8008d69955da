"""Every recipe in configs/ loads and plans."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import load_recipe
from tamis.scorers.fasttext_train import Params, train

from ..tiny_models import tiny_lm

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_of_the_project_loads_and_plans(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # where a recipe finds its models: below the folder in which it is run
    for entry in load_recipe(path).stages:
        if entry.use == "lm_scores":
            shutil.copytree(tiny_lm(), tmp_path / entry.config["model"])
        elif model := entry.config.get("model"):
            (tmp_path / model).parent.mkdir(parents=True, exist_ok=True)
            train(pa.array(["a b", "c d"]), np.array([1, 0], np.int32), ["0", "1"], Params(dim=2), tmp_path / model)
        for files in (entry.config.get("languages") or {}).values():  # of KenLM: a plan looks at their first bytes
            for key, head in (("model", b"\\data\\\n"), ("tokenizer", b"\n\x0e")):
                (tmp_path / files[key]).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / files[key]).write_bytes(head)
    pages = ROOT / "tests" / "golden" / "pages.jsonl"
    plan = plan_recipe(load_recipe(path, input=[str(pages)], output=str(tmp_path / "out")))
    assert plan.graph.stages
    # what cut_spans cuts is known when all documents have been seen
    assert plan.text_passes == (3 if any(bound.use == "cut_spans" for bound in plan.graph.stages) else 2)
