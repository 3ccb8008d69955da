"""Small made-up fastText models for tests of stages, and what the real fastText says by them."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tamis.scorers.fasttext_file import write_model

from ..runs import WORDS

ODD = ("</s>", "x", "清明前的茶叶。", "他说。“你好！”她走了。", "это", "Bonjour")


@functools.cache
def made_up(*labels: str) -> str:
    """Path of a bigram model with random weights over the words of `tests/runs.py`; the same in every process.

    Not trained: the real fastText with one thread leaves nine tenths of its weights as it finds them in memory, with
    many threads no two models are equal. Scores of sentences spread over most of 0 to 1.
    """
    folder = Path(tempfile.mkdtemp(prefix="tamis-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    draw = np.random.default_rng(len(labels))
    words = (*ODD, *WORDS, *(f"{word}." for word in WORDS), *(word.capitalize() for word in WORDS))
    bucket, dim = 500, 4
    write_model(
        folder / "made_up.bin",
        [word.encode() for word in words],
        np.arange(len(words), 0, -1),
        [f"__label__{label}".encode() for label in labels],
        np.arange(len(labels), 0, -1),
        2 * draw.normal(size=(len(words) + bucket, dim)).astype(np.float32),
        draw.normal(size=(len(labels), dim)).astype(np.float32),
        word_ngrams=2,
        bucket=bucket,
    )
    return str(folder / "made_up.bin")


@functools.cache
def real(path: str) -> Any:
    """The real fastText's view of a model file."""
    import fasttext

    return fasttext.load_model(path)


def predicted(path: str, text: str, labels: Sequence[str]) -> list[float]:
    """What the real fastText says of a text: the probability of each label, at most 1."""
    names, scores = real(path).predict(text.replace("\n", " "), k=-1)
    found = {name.removeprefix("__label__"): min(float(score), 1.0) for name, score in zip(names, scores, strict=True)}
    return [found[label] for label in labels]
