"""Scores of language models, against sums over full logits in float64; what a recipe is told before the run."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tamis.stages.base import Resources
from tamis.stages.errors import RecipeError
from tamis.stages.lm_scores import LmScores, LmScoresConfig

from ..tiny_models import TEXTS, causal_lm, tiny_lm

ALL = ["n_tokens", "n_scored", "nll", "ppl", "bpc", "entropy", "min_k_20", "min_k_pp_20", "min_k_pp_100"]
ALL += ["fast_detect", "lastde", "log_rank", "lrr"]


def stage(**config: Any) -> LmScores:
    settings: dict[str, Any] = {"model": tiny_lm(), "gpus": 0, **config}
    return LmScores(LmScoresConfig(**settings), name="it")


def measured(texts: Sequence[str | None], **config: Any) -> dict[str, list[Any]]:
    return stage(**config).measure(pa.table({"text": pa.array(list(texts), pa.large_string())})).to_pydict()


def log_probabilities(text: str, path: str) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [tokens, V] natural logs, targets) of a text behind the start token, in one window."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([[tokenizer.bos_token_id, *ids]])).logits[0, :-1]
    return logits.log_softmax(-1).numpy(), np.array(ids)


def test_every_score_is_what_full_logits_give():
    texts = TEXTS[:5]
    found = measured(texts, columns=ALL)
    for row, text in enumerate(texts):
        logs, targets = log_probabilities(text, tiny_lm())
        n, p = len(targets), np.exp(logs)
        lp = logs[np.arange(n), targets]
        mean = (p * logs).sum(1)
        variance = (p * logs**2).sum(1) - mean**2
        ranks = 1 + (logs > lp[:, None]).sum(1)
        z = (lp - mean) / np.sqrt(variance)
        least = max(1, n * 20 // 100)
        wanted = {
            "n_tokens": n,
            "n_scored": n,
            "nll": -lp.sum(),
            "ppl": math.exp(-lp.mean()),
            "bpc": -lp.sum() / len(text) / math.log(2),
            "entropy": -mean.mean(),
            "min_k_20": np.sort(lp)[:least].mean(),
            "min_k_pp_20": np.sort(z)[:least].mean(),
            "min_k_pp_100": z.mean(),
            "fast_detect": (lp - mean).sum() / math.sqrt(variance.sum()),
            "log_rank": np.log(ranks).mean(),
            "lrr": abs(lp.sum()) / np.log(ranks).sum(),
        }
        for name, value in wanted.items():
            assert found[name][row] == pytest.approx(value, rel=1e-4), f"{name} of {text!r}"


def test_an_observer_gives_binoculars_and_what_fast_detect_expects(tmp_path):
    other = str(causal_lm(tmp_path / "other", positions=512, seed=5))
    text = TEXTS[2]
    found = measured([text], observer=other, columns=["binoculars", "fast_detect"])
    logs, targets = log_probabilities(text, tiny_lm())
    seen = np.exp(log_probabilities(text, other)[0])
    lp = logs[np.arange(len(targets)), targets]
    mean = (seen * logs).sum(1)
    variance = (seen * logs**2).sum(1) - mean**2
    assert found["binoculars"][0] == pytest.approx(lp.mean() / mean.mean(), rel=1e-4)
    assert found["fast_detect"][0] == pytest.approx((lp - mean).sum() / math.sqrt(variance.sum()), rel=1e-3)


def test_what_is_undefined_is_null_and_counts_stay():
    found = measured([None, "", "a", "the cat"], columns=ALL)
    assert found["n_tokens"][:3] == [None, 0, 1]
    assert found["n_scored"][:3] == [None, 0, 1]
    for name in ALL[2:]:
        assert found[name][:2] == [None, None], name
    assert found["lastde"][2] is None
    assert found["nll"][2] > 0
    none = measured(["a", "the cat"], columns=ALL, start_token="none")
    assert none["n_scored"] == [0, none["n_tokens"][1] - 1]
    assert none["nll"][0] is None


def test_a_table_without_the_first_pass_of_another_thread_gives_the_same():
    one = stage(columns=["nll"])
    table = pa.table({"text": pa.array(TEXTS, pa.large_string())})
    assert one.measure_prepared(table, one.prepare(table)).equals(one.measure(table))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"columns": ["perplexity"]}, "perplexity: no such score"),
        ({"columns": ["ppl", "ppl"]}, "listed twice"),
        ({"columns": ["min_k_0"]}, "no such score"),
        ({"columns": ["binoculars"]}, "needs observer"),
        ({"observer": "x"}, "list one, or leave it out"),
        ({"preset": "preselect", "window": 8}, "leave one of the two out"),
        ({"window": 8, "stride": 9}, "tokens would be left out"),
        ({"dtype": "bfloat16"}, "is for GPUs"),
        ({"gpus": 1.5}, "a share below 1, or whole ones"),
        ({"gpus": "some"}, "auto, 0, 1"),
        ({"gpus": -1}, "auto, 0, 1"),
        ({"actors": [3, 2]}, "fewest and most"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        LmScoresConfig(**{"model": "m", "gpus": 0, **config})


@pytest.mark.parametrize(
    ("config", "held"),
    [
        ({}, Resources(gpus=1, actors=True, fallback=True)),
        ({"gpus": 0}, Resources(actors=True)),
        ({"gpus": 0.5, "cpus": 2}, Resources(cpus=2, gpus=0.5, actors=True)),
        ({"gpus": 1, "actors": [1, 8]}, Resources(gpus=1, actors=True, pool=(1, 8))),
    ],
)
def test_what_a_worker_holds(config, held):
    assert LmScores(LmScoresConfig(model="m", **config), name="it").resources == held


def test_the_published_windows_of_preselect_have_a_name():
    assert LmScoresConfig(model="m", preset="preselect").windows == (1900, 512)
    assert LmScoresConfig(model="m", window=100).windows == (100, None)


@pytest.mark.parametrize(
    ("model", "name"),
    [("tiiuae/falcon-7b@abc", "falcon-7b"), ("hf://a/b", "b"), ("models/m/", "m"), ("s3://bucket/x", "x"), ("m", "m")],
)
def test_a_model_is_known_by_the_last_part_of_its_name(model, name):
    assert LmScores(LmScoresConfig(model=model, observer="o", columns=("fast_detect",)), name="it").scored_by == (
        name,
        "o",
    )


# --- before the run


def test_a_window_beyond_the_model_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="window: the model reads 2048 tokens at once, not 2600"):
        stage(window=2600).check(pa.schema([]))
    with pytest.raises(RecipeError, match="config"):
        stage(model=str(tmp_path)).check(pa.schema([]))
    stage().check(pa.schema([]))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = Path(shutil.copytree(tiny_lm(), tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(RecipeError, match="do not belong together"):
        stage(model=str(folder)).check(pa.schema([]))
    (folder / "config.json").write_text(json.dumps({**config, "bos_token_id": 7}))
    with pytest.raises(RecipeError, match="start_token"):
        stage(model=str(folder)).check(pa.schema([]))
    stage(model=str(folder), start_token="<s>").check(pa.schema([]))


def test_a_pair_of_different_tokenizers_is_refused(tmp_path):
    other = causal_lm(tmp_path / "other", positions=512)
    made = json.loads((other / "tokenizer.json").read_text())
    names = list(made["model"]["vocab"])
    vocabulary = made["model"]["vocab"]
    vocabulary[names[-1]], vocabulary[names[-2]] = vocabulary[names[-2]], vocabulary[names[-1]]
    (other / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(RecipeError, match="different tokenizers"):
        stage(observer=str(other), columns=["binoculars"]).check(pa.schema([]))


def test_without_a_gpu_it_says_how_slow_it_will_be():
    told = stage(gpus="auto").without_gpu()
    assert "it has 0 M parameters: about" in told
    assert "CPU days for 1 GB" in told
