"""Tiny byte models: every byte once, each text by itself, the same model again from the same seed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tamis.scorers.base import ModelError
from tamis.scorers.tiny_lm import BEGIN, Schedule, Shape, TinyLM, train

torch = pytest.importorskip("torch")

CONTEXT = 16
SHAPE, SCHEDULE = Shape(16, 1, 2), Schedule(steps=60, batch=4, context=CONTEXT, lr=2e-2)
TRAINING = pa.array(["the cat sat on the mat. " * 20, "a dog and a log and a frog. " * 20], pa.large_string())
TEXTS = [
    "the cat",
    "",
    "x",
    "the mat sat on the cat and on the dog, all of them",
    "näßé ☃ 日本語のテキスト and 𝔘 again",
    "a" * CONTEXT,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "model"
    train(TRAINING, path, SHAPE, SCHEDULE, seed=5)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> TinyLM:
    return TinyLM.load(folder)


def large(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def naive_nats(folder: Path, data: bytes, first: int = 0) -> float:
    """Byte by byte, from the definition: windows of CONTEXT bytes, the next beginning a quarter before the last one's end."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder).eval()
    tokens = [BEGIN, *data]
    total, start, end = 0.0, 0, min(CONTEXT, len(data))
    for i in range(len(data)):
        if i >= end:
            start = end - CONTEXT // 4
            end = min(start + CONTEXT, len(data))
        if i < first:
            continue
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([tokens[start : i + 1]])).logits[0, -1].double()
        total -= torch.log_softmax(logits, 0)[data[i]].item()
    return total


@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_bits_per_char_is_the_sum_over_all_bytes_by_the_number_of_characters(
    folder: Path, model: TinyLM, text: str
) -> None:
    expected = naive_nats(folder, text.encode()) / len(text) / math.log(2)
    assert model.bits_per_char(large([text]))[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1, CONTEXT - 1, CONTEXT, CONTEXT + 1, CONTEXT * 7 // 4, 100, 1000])
def test_every_byte_counts_once_with_a_quarter_of_the_context_before_it(model: TinyLM, size: int) -> None:
    data = bytes(range(97, 123)) * (size // 26 + 1)
    windows = list(model._windows(large([data[:size].decode()])))
    counted = b"".join(bytes(ids[1 + first :].astype(np.uint8)) for _, ids, first in windows)
    assert counted == data[:size]
    assert all(len(ids) <= CONTEXT + 1 for _, ids, _ in windows)
    assert all(first == CONTEXT // 4 for _, _, first in windows[1:])


def test_a_text_scores_the_same_alone_and_among_others(model: TinyLM) -> None:
    together = model.bits_per_char(large(TEXTS))
    backwards = model.bits_per_char(large(TEXTS[::-1]))[::-1]
    alone = np.concatenate([model.bits_per_char(large([text])) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    np.testing.assert_allclose(backwards, alone, rtol=1e-5)


def test_an_empty_text_has_no_score_and_nothing_is_nan(model: TinyLM) -> None:
    table = model.score(large(TEXTS))
    assert table.column_names == ["bpc"]
    assert [value is None for value in table["bpc"].to_pylist()] == [not text for text in TEXTS]
    assert not any(math.isnan(value) for value in table["bpc"].to_pylist() if value is not None)
    assert len(model.score(large([]))) == 0


def test_max_chars_scores_the_first_characters_alone(folder: Path, model: TinyLM) -> None:
    text = "日本語のテキスト and more of it, which is not read"
    short = TinyLM.load(folder, max_chars=10).bits_per_char(large([text, "the cat"]))
    np.testing.assert_allclose(short, model.bits_per_char(large([text[:10], "the cat"])), rtol=1e-6)


def test_the_likelihood_of_an_ending_counts_its_bytes_alone(folder: Path, model: TinyLM) -> None:
    pairs = [(b"the cat", b" sat"), (b"", b"the"), (b"a dog and", b" a log"), ("日".encode()[:2], b"\xa5")]
    found = model.log_likelihoods(*zip(*pairs))
    expected = [-naive_nats(folder, one + other, len(one)) for one, other in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ModelError, match="10 \\+ 7 bytes do not fit into a context of 16"):
        model.log_likelihoods([b"0123456789"], [b"0123456"])


def test_training_teaches(folder: Path, model: TinyLM, tmp_path: Path) -> None:
    facts = train(TRAINING, tmp_path / "again", SHAPE, SCHEDULE, seed=5)
    assert facts["bytes_seen"] == SCHEDULE.steps * SCHEDULE.batch * CONTEXT
    assert facts["bytes_available"] == sum(len(text) + 1 for text in TRAINING.to_pylist())
    assert facts["bits_per_byte"] < 4 < 8
    like, unlike = model.bits_per_char(large(["the cat sat on the dog.", "QZX#@!~^%$ 0192837465"]))
    assert like < 4 < unlike


def test_the_seed_alone_decides_the_files(folder: Path, tmp_path: Path) -> None:
    """In another process with more threads, too."""
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[2]); import test_tiny_lm as t; torch.set_num_threads(2); torch.rand(3)\n"
        "t.train(t.TRAINING, sys.argv[1], t.SHAPE, t.SCHEDULE, seed=5)"
    )
    there = str(Path(__file__).parent)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again"), there], check=True, env=environment)
    train(TRAINING, tmp_path / "other", SHAPE, SCHEDULE, seed=6)
    files = sorted(path.name for path in folder.iterdir())
    assert "model.safetensors" in files
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()


def test_the_process_is_left_as_it_was(model: TinyLM, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    try:
        train(TRAINING, tmp_path / "model", SHAPE, Schedule(steps=2, batch=2, context=CONTEXT), seed=1)
        model.bits_per_char(large(["the cat"]))
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.equal(torch.rand(4), expected)
    finally:
        torch.set_num_threads(threads)


def test_what_is_no_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json here"):
        TinyLM.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 50257}')
    with pytest.raises(ModelError, match="a gpt2 of 50257 tokens, not a byte model of 257"):
        TinyLM.load(tmp_path)
    with pytest.raises(ModelError, match="3 bytes of text to train on; one crop has 17"):
        train(large(["ab"]), tmp_path / "none", SHAPE, SCHEDULE, seed=0)
