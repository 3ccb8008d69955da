"""Toxicity and quality classifiers trained on real text, beside scikit-learn's logistic regression on the same split."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tamis.pipeline.training.fit import fit
from tamis.pipeline.training.labelled import Files, read_labelled
from tamis.pipeline.training.prepare import Parts, prepare
from tamis.pipeline.training.probe import IDENTITY_TERMS, make_probe
from tamis.scorers.fasttext_train import Params

pytestmark = pytest.mark.slow
PARAMS = Params(dim=16, bucket=200_000, word_ngrams=2)
BEHIND = 0.02  # AUC by which a mean of word vectors may lie behind weighted words and bigrams of the same texts


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))


def their_auc(parts: Parts, positive: str) -> float:
    """AUC on the held-out texts of a logistic regression over tf-idf of words and bigrams."""
    train, test = (
        (part["text"].to_pylist(), [one == positive for one in part["label"].to_pylist()])
        for part in (parts.train, parts.test)
    )
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = LogisticRegression(max_iter=1000, C=10).fit(vectors.fit_transform(train[0]), train[1])
    return float(roc_auc_score(test[1], model.predict_proba(vectors.transform(test[0]))[:, 1]))


def compared(table: pa.Table, positive: str, facts: dict) -> tuple[float, float]:
    parts = prepare(table, facts["test_share"], None, {})
    assert parts.rows["held_out"] == facts["held_out"]["rows"]
    ours, theirs = facts["held_out"]["auc"], their_auc(parts, positive)
    print(f"held-out AUC of {positive}: {ours:.4f}, logistic regression {theirs:.4f}")
    return ours, theirs


def test_toxicity_is_told_as_well_as_by_logistic_regression_and_the_card_has_rates_by_term(shared_data, tmp_path):
    folder: Path = shared_data / "toxicity"
    found = read_labelled(
        [Files((str(folder / "davidson_tweets.parquet"), str(folder / "wikipedia_talk.parquet")))],
        label="toxic",
        columns=["source"],
    )
    sentences = read_labelled([Files((str(folder / "identity_templates.parquet"),))], label="toxic")
    probe = make_probe(sentences, "1", ["0", "1"])
    facts = fit(found.table, tmp_path / "toxicity.bin", PARAMS, by=["source"], probe=probe, files=found.files)
    ours, theirs = compared(found.table, "1", facts)
    assert ours >= theirs - BEHIND
    told = {one["term"]: one for one in facts["probe"]["terms"]}
    assert set(told) == set(IDENTITY_TERMS)
    assert {one["rows"] for one in told.values()} == {757}  # of the templates without `toxic`
    card = (tmp_path / "toxicity.bin.md").read_text()
    for term in ("gay", "muslim", "deaf"):
        at_half, at_precision = told[term]["rates"]
        assert f"| `{term}` | 757 | {told[term]['mean_score']:.3f} | {at_half:.3f} | {at_precision:.3f} |" in card


def test_quality_is_told_as_well_as_by_logistic_regression_and_its_source_bias_is_told(shared_data, tmp_path):
    folder: Path = shared_data / "quality"
    files = [
        Files((str(folder / "positives.parquet"),), "hq", "positive"),
        Files((str(folder / "raw_pages.parquet"),), "lq", "negative"),
    ]
    found = read_labelled(files, columns=["source"])
    facts = fit(found.table, tmp_path / "quality.bin", PARAMS, positive="hq", by=["source"])
    ours, theirs = compared(found.table, "hq", facts)
    assert ours >= theirs - BEHIND
    assert facts["groups"]["source"]["auc_of_group"] == 1.0  # no source has both labels here
    assert any("source alone predicts the label" in one for one in facts["warnings"])
