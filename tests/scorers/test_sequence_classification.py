"""Probabilities equal a forward pass of transformers over each text alone, and nothing but sound folders is loaded."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tamis.scorers.sequence_classification as module
from tamis.scorers.base import ModelError, NoDeviceError
from tamis.scorers.sequence_classification import SequenceClassifier, read_facts

from ..tiny_models import TEXTS, classifier

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TOLERANCE = 1e-5
draw = random.Random(5)
MIXED = [
    *TEXTS[:5],
    "x",
    "cat " * 400,
    "",
    " \n ",
    *(" ".join(draw.choices(TEXTS, k=draw.randint(1, 9))) for _ in range(40)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module", params=["bert", "roberta"])
def family(request, tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("models") / request.param, family=request.param)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def array(texts):
    return pa.array(texts, pa.large_string())


def alone(folder, text, outputs="softmax"):
    """transformers by itself: one text, truncated to what the model reads."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0]
        return {"softmax": lambda x: x.softmax(-1), "sigmoid": lambda x: x.sigmoid(), "none": lambda x: x}[outputs](
            logits
        ).tolist()


def windows_by_hand(folder, text, room):
    """The same for every window of a long text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = []
    for part in np.array_split(np.array(tokens), -(-len(tokens) // room)):
        ids = torch.tensor([[tokenizer.cls_token_id, *part.tolist(), tokenizer.sep_token_id]])
        with torch.inference_mode():
            found.append(model(input_ids=ids).logits[0].softmax(-1).numpy())
    return np.max(found, axis=0)


def test_truncated_texts_score_what_transformers_gives_for_each_alone(family):
    scorer = SequenceClassifier.load(family, windows=1)
    scores, cut = scorer.scores(array(MIXED))
    for text, row, short in zip(MIXED, scores, cut):
        if text.strip():
            np.testing.assert_allclose(row, alone(family, text), atol=TOLERANCE)
        else:
            assert np.isnan(row).all()
            assert not short
    assert cut[MIXED.index("cat " * 400)]
    assert not cut[MIXED.index("x")]


def test_a_long_text_scores_the_highest_of_its_windows(family):
    scorer = SequenceClassifier.load(family)
    scores, cut = scorer.scores(array(MIXED))
    assert not cut.any()
    long = [i for i, text in enumerate(MIXED) if len(text) > 200]
    assert len(long) > 10
    for i in long:
        np.testing.assert_allclose(scores[i], windows_by_hand(family, MIXED[i], scorer.room), atol=TOLERANCE)


def test_a_score_does_not_depend_on_what_it_is_batched_with(folder):
    scorer = SequenceClassifier.load(folder)
    together, _ = scorer.scores(array(MIXED))
    one_by_one = np.concatenate([scorer.scores(array([text]))[0] for text in MIXED])
    np.testing.assert_allclose(together, one_by_one, atol=TOLERANCE)
    for batch_tokens in (1, 70, 300):
        other, _ = SequenceClassifier.load(folder, batch_tokens=batch_tokens).scores(array(MIXED))
        np.testing.assert_allclose(other, together, atol=TOLERANCE)
    order = list(range(len(MIXED)))
    random.Random(1).shuffle(order)
    shuffled, _ = scorer.scores(array([MIXED[i] for i in order]))
    np.testing.assert_allclose(shuffled, together[order], atol=TOLERANCE)
    assert np.nanstd(together[:, 0]) > 0.001  # else any answer would do


def test_texts_tokenised_in_several_runs_and_slices_are_the_same_texts(folder, monkeypatch):
    scorer = SequenceClassifier.load(folder)
    texts = [*MIXED, "word " * 3_000]
    whole, _ = scorer.scores(array(texts))
    monkeypatch.setattr(module, "WINDOW", 300)
    monkeypatch.setattr(module, "SLICE", 1_000)
    parts, _ = scorer.scores(array(texts))
    np.testing.assert_allclose(parts, whole, atol=TOLERANCE)
    monkeypatch.setattr(module, "_ahead", lambda source, wanted: ahead(source, True))  # as on a GPU
    threaded, _ = scorer.scores(array(texts))
    np.testing.assert_allclose(threaded, whole, atol=TOLERANCE)


ahead = module._ahead


def test_reading_ahead_keeps_order_and_passes_errors_on():
    def source():
        yield from range(5)
        raise KeyError("five")

    found = ahead(source(), True)
    assert [next(found) for _ in range(5)] == list(range(5))
    with pytest.raises(KeyError):
        next(found)


def test_windows_bound_what_is_read_of_a_text(folder, monkeypatch):
    monkeypatch.setattr(module, "SLICE", 500)
    text = "cat " * 5_000 + "toxic end"
    read = []
    scorer = SequenceClassifier.load(folder, windows=2)
    encode = scorer._encode
    monkeypatch.setattr(scorer, "_encode", lambda strings: read.extend(strings) or encode(strings))
    scores, cut = scorer.scores(array([text]))
    other, _ = scorer.scores(array([text.replace("toxic end", "another")]))
    assert cut.tolist() == [True]
    assert scores.tolist() == other.tolist()
    assert sum(map(len, read)) < len(text)


def test_max_length_counts_special_tokens_and_never_passes_what_the_model_reads(folder):
    assert SequenceClassifier.load(folder).room == 62  # 64 positions
    assert SequenceClassifier.load(folder, max_length=20).room == 18
    with pytest.raises(ModelError, match="leave no room"):
        SequenceClassifier.load(folder, max_length=2)


def test_positions_of_roberta_begin_behind_its_padding_token(tmp_path):
    path = classifier(tmp_path / "roberta", family="roberta", positions=40)
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 10**30  # what a tokenizer says that was never told
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    scorer = SequenceClassifier.load(path)
    assert scorer.room == 40 - 1 - 2
    scores, _ = scorer.scores(array(["cat " * 500]))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("problem", "labels", "outputs"),
    [
        ("multi_label_classification", ("toxic", "obscene", "insult"), "sigmoid"),
        ("single_label_classification", ("a", "b", "c"), "softmax"),
        (None, ("score",), "sigmoid"),
        ("regression", ("score",), "none"),
    ],
)
def test_outputs_are_those_of_the_pipeline_of_transformers(tmp_path, problem, labels, outputs):
    from transformers import pipeline

    path = classifier(tmp_path / "model", labels=labels, problem=problem)
    assert read_facts(path).labels == labels
    assert read_facts(path).outputs == outputs
    table = SequenceClassifier.load(path, windows=1).score(array(TEXTS[:5]))
    assert table.column_names == list(labels)
    oracle: Any = pipeline("text-classification", model=str(path), tokenizer=str(path), top_k=None, truncation=True)
    for i, rows in enumerate(oracle(TEXTS[:5])):
        for row in rows:
            assert table[row["label"]][i].as_py() == pytest.approx(row["score"], abs=TOLERANCE)


# --- folders that are refused


def rewrite(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_missing_folder_and_a_file_are_named(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        read_facts(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="a file; a Hugging Face model is a folder"):
        read_facts(tmp_path / "file")
    with pytest.raises(ModelError, match=r"config\.json"):
        read_facts(tmp_path)


def test_pickled_weights_are_never_opened_and_the_message_tells_how_to_convert(copy):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*save_pretrained"):
        SequenceClassifier.load(copy)


def test_code_beside_the_model_is_never_run(copy):
    (copy / "modeling.py").write_text("raise SystemExit('ran')")
    rewrite(copy, auto_map={"AutoModelForSequenceClassification": "modeling.Model"})
    with pytest.raises(ModelError, match="auto_map"):
        SequenceClassifier.load(copy)


def test_a_base_model_without_a_trained_head_is_refused(tmp_path, folder):
    from transformers import AutoModel, AutoTokenizer

    path = tmp_path / "base"
    AutoModel.from_pretrained(folder).save_pretrained(path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(path)
    with pytest.raises(ModelError, match="ForSequenceClassification"):
        SequenceClassifier.load(path)
    rewrite(path, architectures=["BertForSequenceClassification"])
    with pytest.raises(ModelError, match="weights lack classifier"):
        SequenceClassifier.load(path)


def test_a_head_of_another_size_than_the_labels_is_refused(copy):
    rewrite(copy, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})
    with pytest.raises(ModelError, match=r"classifier|transformers cannot load it"):
        SequenceClassifier.load(copy)


def test_weights_that_are_no_numbers_are_refused(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="NaN"):
        SequenceClassifier.load(copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 8 + b"{}"),
        ("model.safetensors", b'\x10\0\0\0\0\0\0\0{"x": "y"}     '),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[" * 100_000),
        ("config.json", b"[]"),
        ("config.json", b"not json"),
    ],
)
def test_a_broken_file_is_a_model_error(copy, file, content):
    (copy / file).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        SequenceClassifier.load(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_weights_are_a_model_error(copy):
    raw = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ModelError):
        SequenceClassifier.load(copy)


@pytest.mark.parametrize("names", [{"0": "a", "2": "b"}, {"x": "a"}, [], {}, {"0": "a", "1": "a"}])
def test_labels_that_make_no_list_are_refused(copy, names):
    rewrite(copy, id2label=names)
    with pytest.raises(ModelError, match="id2label"):
        read_facts(copy)


def test_a_folder_without_tokenizer_or_padding_token_is_refused(copy):
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "pad_token"}))
    with pytest.raises(ModelError, match="padding token"):
        SequenceClassifier.load(copy)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        SequenceClassifier.load(copy)


def test_a_tokenizer_of_another_model_is_refused(copy):
    made = json.loads((copy / "tokenizer.json").read_text())
    made["model"]["vocab"].update({f"more{i}": len(made["model"]["vocab"]) + i for i in range(50)})
    (copy / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(ModelError, match="belong together"):
        SequenceClassifier.load(copy)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_cuda_and_halves_are_refused(folder):
    with pytest.raises(NoDeviceError):
        SequenceClassifier.load(folder, device="cuda")
    with pytest.raises(ModelError, match="float32"):
        SequenceClassifier.load(folder, device="cpu", dtype="bfloat16")


def test_reading_what_a_folder_holds_imports_no_torch(folder):
    script = (
        "import sys; from tamis.scorers.sequence_classification import read_facts; read_facts(sys.argv[1]); "
        "print([name for name in ('torch', 'transformers', 'tokenizers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_verifying_leaves_no_model_behind(folder):
    SequenceClassifier.verify(folder)
    assert module._loaded.cache_info().currsize == 0
