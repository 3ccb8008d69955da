"""Small models that fastText itself trains, for all who test against it.

Invariant: a model is a function of its lines and parameters: one thread, fastText's fixed seed.
"""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "für",
    "wird",
    "über",
    "日本語",
    "и",
    "не",
    "на",
    "που",
    "και",
    "يتم",
    "한국어",
    "แปล",
    "text-mining",
    "x",
    "C++",
    "42",
    "3.14",
    "don't",
]


_TRAIN = """
import json, sys, fasttext
path, lines, parameters, quantize = json.loads(sys.argv[1])
model = fasttext.train_supervised(lines, **parameters)
if quantize is not None:
    model.quantize(input=lines, thread=1, verbose=0, **quantize)
model.save_model(path)
"""


def train(path: Path, lines: Iterable[str], *, quantize: dict[str, Any] | None = None, **parameters: Any) -> Path:
    """Trains a supervised model on lines such as `__label__a some text` and saves it at `path` (.bin or .ftz).

    In a process whose memory comes fresh from the system: with one thread fastText 0.9.2 sets a tenth of its rows to
    random numbers and leaves the others as it finds them.
    """
    given = {
        "dim": 16,
        "epoch": 10,
        "lr": 0.5,
        "bucket": 20_000,
        "minCount": 1,
        "thread": 1,
        "verbose": 0,
        **parameters,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        call = json.dumps([str(path), file.name, given, quantize])
        fresh = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1024", "MALLOC_TOP_PAD_": "0"}
        subprocess.run([sys.executable, "-c", _TRAIN, call], env=fresh, check=True, capture_output=True)
    return path


def load(path: Path) -> Any:
    """The model, in fastText itself."""
    import fasttext

    fasttext.FastText.eprint = lambda _: None  # a warning at each load
    return fasttext.load_model(str(path))


def made_lines(labels: Sequence[str], count: int = 600, seed: int = 0) -> list[str]:
    """Lines of made-up text in several scripts; each label prefers some words, so that a model learns to tell them."""
    draw = random.Random(seed)
    rare = [f"{draw.choice(WORDS)}{draw.randrange(400)}" for _ in range(1_000)]
    lines = []
    for _ in range(count):
        label = draw.randrange(len(labels))
        liked = [WORDS[(label * 5 + k) % len(WORDS)] for k in range(5)]
        words = [draw.choice((draw.choice(liked), draw.choice(WORDS), draw.choice(rare))) for _ in range(30)]
        lines.append(f"__label__{labels[label]} {' '.join(words)}")
    return lines


# one of each kind: loss, word and character n-grams, quantised, pruned, output quantised
KINDS: dict[str, dict[str, Any]] = {
    "pair": {"labels": 2, "wordNgrams": 2},
    "pair_trigrams": {"labels": 2, "wordNgrams": 3, "bucket": 700},
    "pair_characters": {"labels": 2, "wordNgrams": 2, "minn": 2, "maxn": 4},
    "words_only": {"labels": 3},
    "softmax": {"labels": 40, "wordNgrams": 2, "minn": 3, "maxn": 5, "lr": 1.0, "epoch": 40},
    "hs": {"labels": 30, "loss": "hs", "minn": 2, "maxn": 4},
    "hs_few": {"labels": 5, "loss": "hs", "wordNgrams": 2},
    "ova": {"labels": 20, "loss": "ova", "wordNgrams": 2},
    "ova_few": {"labels": 3, "loss": "ova", "wordNgrams": 2},
    "ns": {"labels": 6, "loss": "ns", "wordNgrams": 2},
    "quantized": {"labels": 2, "wordNgrams": 2, "quantize": {"qnorm": True}},
    "pruned": {
        "labels": 20, "loss": "hs", "wordNgrams": 2, "minn": 2, "maxn": 4, "dim": 15,
        "quantize": {"qnorm": True, "cutoff": 2_000},
    },
    "all_quantized": {
        "labels": 300, "minn": 2, "maxn": 3, "lines": 3_000, "dim": 10,
        "quantize": {"qnorm": True, "qout": True, "cutoff": 3_000},
    },
}  # fmt: skip


@functools.cache
def kind(name: str) -> Path:
    """A small model of one of KINDS, trained once a process on made-up text."""
    given = dict(KINDS[name])
    lines = made_lines([f"l{number}" for number in range(given.pop("labels"))], given.pop("lines", 600))
    quantize = given.pop("quantize", None)
    folder = Path(_folder().name)
    return train(folder / f"{name}.{'ftz' if quantize else 'bin'}", lines, quantize=quantize, **given)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fasttext-models-")
