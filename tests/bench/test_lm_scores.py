"""The benchmark of language-model scores: what it counts, what it makes, and what it says of a GPU that was measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .test_bench import HERE, script

FACTS = {"gpu": "A", "memory": 2**37, "torch": "2", "cuda": "12", "driver": "5", "matmul": 6e14}


def test_operations_are_those_that_torch_counts_but_for_the_upper_half_of_attention() -> None:
    import torch
    import transformers
    from torch.utils.flop_counter import FlopCounterMode

    models = script("lm_models")
    torch.set_num_threads(1)
    for tied in (True, False):
        settings = {**models._qwen2(64, 96, 2, 4), "vocab_size": 500, "tie_word_embeddings": tied}
        config = transformers.AutoConfig.for_model("qwen2", **settings)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            model(input_ids=torch.zeros(1, 50, dtype=torch.int64))
        attention = 4 * 2 * 64 * 50**2  # torch counts all pairs of tokens
        wanted = counter.get_total_flops() - attention + attention * 51 / 100
        assert models.model_flops(model, [50]) == pytest.approx(wanted, rel=0.01)
        assert models.model_flops(model, [50, 50, 0]) == pytest.approx(2 * models.model_flops(model, [50]))


def test_shapes_are_as_large_as_their_names_say() -> None:
    import torch
    import transformers

    models = script("lm_models")
    wanted = {"24M": 24e6, "0.1B": 0.125e9, "0.5B": 0.494e9, "1.5B": 1.544e9}
    for name, count in wanted.items():
        shape = models.SHAPES[name]
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(
                transformers.AutoConfig.for_model(shape.kind, **shape.settings)
            )
        places = sum(p.numel() for key, p in model.named_parameters() if "wpe" in key)
        assert sum(p.numel() for p in model.parameters()) - places == pytest.approx(count, rel=0.03)


def test_made_texts_are_the_same_every_time_and_cut_at_a_token() -> None:
    models = script("lm_models")
    texts = models.made_texts(50)
    assert texts == models.made_texts(50)
    assert len(set(texts)) == 50
    assert min(len(text.split()) for text in texts) >= 20
    tokenizer = models.train_tokenizer(texts, 700)
    assert tokenizer.get_vocab_size() == 700
    assert tokenizer.token_to_id(models.START) == 0
    short = models.cut(tokenizer, texts, 100)
    assert all(text.startswith(part) for text, part in zip(texts, short, strict=True))
    assert max(len(one) for one in tokenizer.encode_batch(short)) <= 101
    assert any(len(one) == 100 for one in tokenizer.encode_batch(short))


def measured(**changes: Any) -> dict[str, Any]:
    """What a worker would find on a GPU of 600 TFLOP/s: 200 used by lm_scores, and a plain loop four times slower."""
    times = {"nll": 1e-5, "every": 1.2e-5, "padded": 4e-5, "alone": 5e-5}
    return {
        "documents": 600,
        "tokens": 100_000,
        "flops": 4e14,
        "parameters": 1_500_000_000,
        "seconds_per_token": {name: {"cpu": value, "wall": value} for name, value in times.items()},
        "peaks": dict.fromkeys(times, 3 * 10**9),
        "off": {name: {"sum": 1e-4, "document": 1e-3} for name in times},
        "batch": 16,
        **changes,
    }


def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forms: dict[str, Any], **run: Any) -> tuple[list[Any], str]:
    """Rows and table for answers as a GPU's worker would give them; there is none in the tests."""
    found = script("lm_scores")
    fed = {"tokens": 900, "seconds": 9.0, "called": 0.95, "busy": 0.92, "samples": 80}
    answers = {
        "forms": forms,
        "pipeline": {**fed, "counts": {"kept": 30, "rows": 30}, **run},
        "agreement": {name: {"median": 1e-3, "largest": 0.01, "documents": 24} for name in ("nll", "lrr")},
    }
    monkeypatch.setattr(found, "lm_worker", lambda name, **_: answers[name])
    monkeypatch.setattr(found, "prepare", lambda *_, **__: {"texts": "", "models": {"0.1B": "", "1.5B": ""}})
    for size in ("0.1B", "1.5B"):
        for folder in (size, f"{size}-run"):
            (tmp_path / folder).mkdir()
    rows, lines = found.gpu_rows([], tmp_path, FACTS, ["0.1B", "1.5B"])
    return rows, "\n".join(lines)


def test_what_a_gpu_gave_stands_beside_its_targets(monkeypatch, tmp_path) -> None:
    rows, table = gpu(monkeypatch, tmp_path, measured())
    small, large = rows[:4], rows[4:]
    assert [row.figure for row in large] == pytest.approx([4, 4e14 / 6e14, 0.92])
    assert all(row.met for row in rows)
    assert [row.unit for row in small[:2]] == [row.unit for row in large[:2]]
    assert "| 1.5B (Qwen2.5-1.5B's shape) | lm_scores, nll | 100,000 | 400.0 | 66.7% | 3.00 GB | 1.0e-04 |" in table
    assert table.count("the reference") == 2


def test_wrong_scores_of_a_gpu_are_never_met(monkeypatch, tmp_path) -> None:
    off = {name: {"sum": 0.1, "document": 1.0} for name in ("nll", "every", "padded", "alone")}
    rows, _ = gpu(monkeypatch, tmp_path, measured(off=off), counts={"kept": 29, "rows": 30}, busy=None)
    assert [row.met for row in rows] == [False, False, True, False, False, False, False]
    assert rows[3].figure == 0.95
    assert "1.0e-01 off" in rows[0].wrong


@pytest.mark.slow
def test_without_a_gpu_the_gpu_half_says_so_and_succeeds(tmp_path: Path) -> None:
    command = [sys.executable, HERE / "lm_scores.py", "--gpu-only", "--quick", "--scratch", tmp_path]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == 0, done.stderr
    assert "torch sees none here; the GPU half was not measured" in done.stdout
    assert not list(tmp_path.iterdir())
