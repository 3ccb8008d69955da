"""The same numbers as each back end gives by itself; keys that fit no back end and models that cannot work are refused."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tamis.kernels.sentences import sentences
from tamis.stages._spans import SPANS
from tamis.stages.arrow import text_buffers
from tamis.stages.base import Resources
from tamis.stages.errors import RecipeError, SetupError
from tamis.stages.toxicity import Toxicity, ToxicityConfig

from .. import fasttext_models, runs
from ..tiny_models import TEXTS, classifier
from . import example_models

LINES = [
    "You are an idiot. Have a nice day! What a stupid, stupid, stupid idea.\nThe end.",
    "Nothing bad stands here. It is a page about tea.",
    "IDIOT",
    "",
    None,
    "One.\n\nTwo idiots? An idiot's idea.",
]
TERMS = ["idiot", "stupid idea", "stupid"]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "en"
    path.write_text("\n".join(TERMS), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    return str(classifier(tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "toxic.bin"
    lines = ["__label__toxic you stupid idiot go away", "__label__fine the tea was good and warm today"] * 30
    return str(fasttext_models.train(path, lines, wordNgrams=2))


def stage_of(name="toxicity", **config):
    return Toxicity(ToxicityConfig(**config), name=name)


def batch(texts):
    return pa.table({"text": pa.array(texts, pa.large_string())})


def sentences_of(text):
    data, offsets = text_buffers(pa.array([text], pa.large_string()))
    _, start, end = sentences(data, offsets)
    return [bytes(data[a:b]).decode() for a, b in zip(start, end)]


# --- word lists


def test_a_word_list_counts_terms_different_terms_and_their_share(words):
    stage = stage_of(words=words)
    found = stage.measure(batch(LINES))
    assert found["matches"].to_pylist() == [4, 0, 1, 0, None, 1]
    assert found["terms"].to_pylist() == [3, 0, 1, 0, None, 1]
    share = found["share"].to_pylist()
    assert share[0] == pytest.approx(len("idiot" + "stupid" * 2 + "stupid idea") / len(LINES[0]))
    assert share[1:5] == [0, 1, None, None]
    assert stage.resources == Resources()
    assert stage.exact
    assert stage.cost == "cheap"


def test_pieces_score_the_number_of_terms_in_them(words):
    found = stage_of(words=words, unit="sentence", over=1, spans=True).measure(batch(LINES)).to_pylist()
    for text, row in zip(LINES, found):
        pieces = sentences_of(text) if text else []
        counts = [len(re.findall(r"\b(stupid idea|stupid|idiot)\b", piece.lower())) for piece in pieces]
        if not pieces:
            assert (row["max"], row["mean"], row["over"]) == (None, None, None)
            continue
        assert row["max"] == max(counts)
        assert row["mean"] == pytest.approx(sum(counts) / len(counts))
        assert row["over"] == pytest.approx(sum(c > 0 for c in counts) / len(counts))
        assert [text.encode()[s["start"] : s["end"]].decode() for s in row["spans"]] == pieces
        assert [s["score"] for s in row["spans"]] == counts


def test_several_lists_are_one(words, tmp_path):
    other = tmp_path / "other"
    other.write_text("tea\nidiot\n")
    found = stage_of(words=(words, str(other))).measure(batch(LINES))
    assert found["matches"].to_pylist() == [4, 1, 1, 0, None, 1]


# --- fastText


def test_a_fasttext_model_scores_as_fasttext_does(trained):
    texts = [text for text in LINES if text]
    found = stage_of(model=trained, label="toxic").measure(batch(texts))["score"].to_pylist()
    assert found == pytest.approx([example_models.predicted(trained, t, ["toxic"])[0] for t in texts], abs=1e-5)
    both = stage_of(model=trained, labels=("toxic", "__label__fine")).measure(batch(texts))
    assert both["toxic"].to_pylist() == found
    assert both.column_names == ["toxic", "fine"]


def test_sentences_score_one_by_one(trained):
    found = (
        stage_of(model=trained, label="toxic", unit="sentence", over=0.5, spans=True).measure(batch(LINES)).to_pylist()
    )
    for text, row in zip(LINES, found):
        scores = [example_models.predicted(trained, piece, ["toxic"])[0] for piece in sentences_of(text or "")]
        if not scores:
            assert row["max"] is None
            continue
        assert row["max"] == pytest.approx(max(scores), abs=1e-5)
        assert row["mean"] == pytest.approx(np.mean(scores), abs=1e-5)
        assert [s["score"] for s in row["spans"]] == pytest.approx(scores, abs=1e-5)
        assert {s["kind"] for s in row["spans"]} == {"toxic"}


def test_it_is_scored_together_with_neighbouring_fasttext_stages(trained):
    from tamis.stages.fasttext import Fasttext, FasttextConfig

    ours = stage_of(model=trained, label="toxic")
    theirs = Fasttext(FasttextConfig(model=trained, label="fine"), name="fine")
    assert ours.joins == theirs.joins is not None
    together = Fasttext.measure_together([theirs, ours], batch(LINES))
    assert together[1].equals(ours.measure(batch(LINES)))
    assert together[0].equals(theirs.measure(batch(LINES)))


def test_a_trained_scorer_tells_toxic_comments_from_others(shared_data, tmp_path):
    from sklearn.metrics import roc_auc_score

    table = pq.read_table(shared_data / "toxicity" / "wikipedia_talk.parquet")
    texts = [text.replace("\n", " ") for text in table["text"].to_pylist()]
    truth = table["toxic"].to_pylist()
    lines = [f"__label__{'toxic' if toxic else 'fine'} {text}" for toxic, text in zip(truth, texts)]
    path = fasttext_models.train(tmp_path / "talk.bin", lines[:1_000], epoch=25, lr=0.5)
    texts, truth = texts[1_000:], truth[1_000:]
    found = stage_of(model=str(path), label="toxic").measure(batch(texts))
    by_list = stage_of(words=str(shared_data / "refs" / "badwords" / "en")).measure(batch(texts))
    assert roc_auc_score(truth, found["score"].to_numpy()) > 0.8
    assert roc_auc_score(truth, by_list["matches"].to_numpy()) > 0.55


# --- Hugging Face


def test_a_classifier_gives_its_labels_probability(folder):
    from transformers import pipeline

    texts = TEXTS[:5]
    stage = stage_of(model=folder, label="toxic")
    oracle: Any = pipeline("text-classification", model=folder, tokenizer=folder, top_k=None)
    expected = [next(r["score"] for r in rows if r["label"] == "toxic") for rows in oracle(texts)]
    found = stage.measure(batch([*texts, None, ""]))["score"].to_pylist()
    assert found[:5] == pytest.approx(expected, abs=1e-5)
    assert found[5:] == [None, None]
    both = stage_of(model=folder, labels=("toxic", "fine")).measure(batch(texts))
    assert np.add(*(both[name].to_numpy() for name in ("toxic", "fine"))) == pytest.approx(1, abs=1e-5)


def test_a_classifier_reads_sentences_one_by_one(folder):
    whole = stage_of(model=folder, label="toxic")
    found = stage_of(model=folder, label="toxic", unit="sentence", spans=True).measure(batch(LINES)).to_pylist()
    for text, row in zip(LINES, found):
        pieces = sentences_of(text or "")
        if not pieces:
            assert row["max"] is None
            assert row["spans"] == (None if text is None else [])
            continue
        scores = whole.measure(batch(pieces))["score"].to_pylist()
        assert row["max"] == pytest.approx(max(scores), abs=1e-5)
        assert row["mean"] == pytest.approx(np.mean(scores), abs=1e-5)
        assert [s["score"] for s in row["spans"]] == pytest.approx(scores, abs=1e-5)


def test_bounded_windows_say_which_texts_were_truncated(folder):
    stage = stage_of(model=folder, label="toxic", windows=1)
    assert [column.name for column in stage.adds] == ["score", "truncated"]
    found = stage.measure(batch(["cat", "cat " * 500, None]))
    assert found["truncated"].to_pylist() == [False, True, None]
    assert found.schema.field("truncated").type == stage.adds[1].type


def test_rows_do_not_depend_on_their_batch_beyond_rounding(folder):
    stage = stage_of(model=folder, label="toxic")
    texts = [*LINES, *TEXTS, "cat " * 300]
    whole = stage.measure(batch(texts))["score"]
    parts = [stage.measure(batch(texts).slice(i, 1))["score"] for i in range(len(texts))]
    parts = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    assert pc.is_null(whole).equals(pc.is_null(parts))
    assert np.abs(whole.drop_null().to_numpy() - parts.drop_null().to_numpy()).max() <= 1e-5


def test_only_a_classifier_has_processes_of_its_own_and_rounds(folder, trained, words):
    stage = stage_of(model=folder, label="toxic", gpus=0.5, cpus=2)
    assert stage.resources == Resources(cpus=2, gpus=0.5, actors=True)
    assert (stage.exact, stage.cost, stage.joins) == (False, "expensive", None)
    assert pickle.loads(pickle.dumps(stage)).resources == stage.resources
    for other in (stage_of(model=trained, label="toxic"), stage_of(words=words)):
        assert (other.exact, other.cost, other.resources) == (True, "cheap", Resources())


def test_without_a_gpu_the_message_says_what_to_do(folder):
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    stage = stage_of(model=folder, label="toxic", gpus=1)
    stage.warm()  # the driver needs none
    with pytest.raises(SetupError, match="gpus: 0 to use the CPU"):
        stage.measure(batch(["a"]))


def test_without_torch_the_message_says_what_to_install(folder, monkeypatch):
    from tamis.scorers import sequence_classification

    sequence_classification._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SetupError, match=r"pip install 'tamis\[lm\]'"):
        stage_of(model=folder, label="toxic").warm()


# --- what is refused


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "give model"),
        ({"model": "a.bin", "words": "b", "label": "x"}, "not both"),
        ({"words": "b", "label": "x"}, "label: means nothing to a word list"),
        ({"words": "b", "strict": True}, "strict: means nothing to a word list"),
        ({"words": ()}, "words"),
        ({"model": "a.ftz", "label": "x", "gpus": 1}, "gpus: means nothing to a fastText model"),
        ({"model": "folder", "label": "x", "strict": False}, "strict: means nothing to a Hugging Face folder"),
        ({"model": "folder", "label": "x", "labels": ["y"]}, "not both"),
        ({"model": "folder", "labels": ["a b", "a-b"]}, "one column name"),
        ({"model": "folder", "labels": ["毒"]}, "no column name"),
        ({"model": "folder", "labels": ["x", "y"], "unit": "sentence"}, "takes one `label:`"),
        ({"model": "folder", "label": "x", "dtype": "float16"}, "is for GPUs"),
        ({"model": "folder", "label": "x", "gpus": 1.5}, "whole ones"),
        ({"model": "folder", "label": "x", "over": 0.5}, "needs pieces"),
        ({"model": "folder", "label": "x", "threshold": 0.5}, "threshold"),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(config, told):
    with pytest.raises(ValidationError, match=re.escape(told)):
        ToxicityConfig(**config)


def test_a_label_that_the_model_lacks_is_refused_with_the_nearest(folder, trained):
    for model in (folder, trained):
        with pytest.raises(RecipeError, match=r"no label toxi\..*Did you mean: toxic\?"):
            stage_of(model=model, label="toxi").check(pa.schema([]))
        with pytest.raises(RecipeError, match=r"say which label.*toxic"):
            stage_of(model=model).check(pa.schema([]))
        stage_of(model=model, label="toxic").check(pa.schema([]))


def test_missing_and_wrong_models_are_refused_at_plan_time(folder, words, tmp_path):
    for config, told in (
        ({"model": str(tmp_path / "none"), "label": "x"}, "model: .*no such folder"),
        ({"model": words, "label": "x"}, r"a fastText model's name ends in \.bin or \.ftz"),
        ({"model": str(tmp_path / "none.bin"), "label": "x"}, "model: .*none.bin"),
        ({"words": str(tmp_path / "none")}, "words: .*none"),
    ):
        with pytest.raises(RecipeError, match=told):
            stage_of(**config).check(pa.schema([]))
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x" * 100)
    stage = stage_of(model=str(damaged), label="toxic")
    stage.check(pa.schema([]))
    with pytest.raises(RecipeError, match=r"model: .*damaged"):
        stage.warm()


def test_speed_settings_and_paths_are_not_part_of_the_key():
    assert Toxicity.not_in_key == {"model", "words", "gpus", "cpus", "batch_tokens"}


def test_plan_time_checks_import_neither_torch_nor_transformers(folder, words):
    script = (
        "import sys, pyarrow as pa; from tamis.stages.toxicity import *; "
        "Toxicity(ToxicityConfig(model=sys.argv[1], label='toxic'), name='t').check(pa.schema([])); "
        "Toxicity(ToxicityConfig(words=sys.argv[2]), name='t').check(pa.schema([])); "
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'numba') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script, folder, words], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# --- whole runs


def test_a_run_with_all_three_back_ends_drops_by_rules_alone(folder, trained, words, tmp_path):
    corpus = runs.write_corpus(tmp_path / "in", shards=1, documents=30)
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml",
        corpus,
        tmp_path / "out",
        stages=[
            {"use": "toxicity", "model": trained, "label": "toxic"},
            {"use": "toxicity", "name": "listed", "words": words},
            {"use": "toxicity", "name": "bert", "model": folder, "label": "toxic", "unit": "sentence", "over": 0.5},
        ],
    )
    runs.tamis("run", recipe)
    counts = runs.check_accounting(tmp_path / "out")
    ledger = runs.rows(tmp_path / "out", "ledger")
    assert {"toxicity", "listed_matches", "listed_terms", "listed_share", "bert_max", "bert_mean", "bert_over"} <= {
        *ledger.schema.names
    }
    assert "drop" not in ledger["decision"].to_pylist()
    assert ledger["toxicity"].null_count == ledger["decision"].to_pylist().count("quarantine")
    assert counts
    assert SPANS not in ledger.schema.types
