"""Training of fastText models: fastText's own files byte for byte, the same on every run, and no way for a text to label itself."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fasttext_models
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tamis.kernels import fasttext_train_words
from tamis.kernels.fasttext_train_start import initial
from tamis.scorers import fasttext_train
from tamis.scorers.base import ModelError
from tamis.scorers.fasttext_file import read_header
from tamis.scorers.fasttext_train import Params, train

FASTTEXT_NAMES = {"word_ngrams": "wordNgrams", "min_count": "minCount", "lr_update_rate": "lrUpdateRate"}
SMALL = Params(dim=8, bucket=500, epoch=2, word_ngrams=2)
SPACES = "[ \n\r\t\v\f\0]+"
Labelled = tuple[list[str], np.ndarray, list[str]]


def made(labels: int, count: int = 300, seed: int = 0) -> Labelled:
    names = [f"l{i}" for i in range(labels)]
    lines = fasttext_models.made_lines(names, count, seed)
    pairs = [line.removeprefix("__label__").split(" ", 1) for line in lines]
    return [text for _, text in pairs], np.array([names.index(name) for name, _ in pairs], np.int32), names


def uneven(labelled: Labelled) -> Labelled:
    """Fewer texts of the first labels: no two have one count (fastText leaves those in any order), the tree of `hs` is
    not a balanced one, and the model's order is not that of the names."""
    texts, labels, names = labelled
    kept = [i for i, label in enumerate(labels) if (labels[:i] == label).sum() % (len(names) - label) == 0]
    assert len(set(np.bincount(labels[kept]))) == len(names)
    return [texts[i] for i in kept], labels[kept], names


def by_fasttext(path: Path, labelled: Labelled, params: Params) -> Path:
    """The model that fastText itself trains from the words of the same texts."""
    texts, labels, names = labelled
    words = [
        " ".join(w for w in re.split(SPACES, text) if w and not w.startswith("__label__") and w != "</s>")
        for text in texts
    ]
    lines = [f"__label__{names[label]} {text}" for label, text in zip(labels, words, strict=True)]
    given = {FASTTEXT_NAMES.get(name, name): value for name, value in asdict(params).items()}
    return fasttext_models.train(path, lines, **given)


def ours(path: Path, labelled: Labelled, params: Params, **more: Any) -> dict[str, Any]:
    texts, labels, names = labelled
    return train(pa.array(texts, pa.large_string()), labels, names, params, path, **more)


def in_order_of(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of equal count stand where std::sort left them in fastText's model, so that they begin with equal rows."""
    wanted, rows_of = [word.encode() for word in model.get_words()], fasttext_train._rows

    def rows(words: fasttext_train_words.Words, min_count: int) -> np.ndarray:
        place = {words.spelled(i): i for i in rows_of(words, min_count).tolist()}
        assert place.keys() == set(wanted)
        return np.array([place[word] for word in wanted])

    monkeypatch.setattr(fasttext_train, "_rows", rows)


@pytest.mark.parametrize(
    ("labels", "params"),
    [
        (2, Params(dim=100, bucket=5_000, epoch=3, word_ngrams=2)),
        (2, Params(dim=16, bucket=3_000, epoch=1, minn=2, maxn=4, word_ngrams=3, seed=7)),
        (2, Params(dim=20, epoch=4, lr=0.5)),
        (5, Params(dim=10, bucket=2_000, minn=1, maxn=3, min_count=2, lr_update_rate=1_000)),
        (3, Params(dim=16, bucket=2_000, word_ngrams=2, loss="ova", lr=0.3)),
        (7, Params(dim=12, bucket=2_000, word_ngrams=2, loss="hs", min_count=20)),
    ],
    ids=str,
)
def test_the_file_is_the_one_that_fasttext_writes(
    labels: int, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = uneven(made(labels, 600))
    theirs = by_fasttext(tmp_path / "theirs.bin", labelled, params)
    in_order_of(fasttext_models.load(theirs), monkeypatch)
    ours(tmp_path / "ours.bin", labelled, params)
    assert (tmp_path / "ours.bin").read_bytes() == theirs.read_bytes()


def toxicity(folder: Path) -> Labelled:
    table = pq.read_table(folder / "toxicity" / "davidson_tweets.parquet", columns=["text", "toxic"]).slice(0, 6_000)
    return table["text"].to_pylist(), table["toxic"].to_numpy().astype(np.int32), ["ok", "toxic"]


def kinds(folder: Path) -> Labelled:
    """Five kinds of good text."""
    table = pq.read_table(folder / "quality" / "positives.parquet", columns=["text", "kind"])
    rows = random.Random(0).sample(table.to_pylist(), 4_000)
    names = ["wikipedia", "textbook", "instruction", "abstract", "eli5"]
    rows = [row for row in rows if row["kind"] in names]
    return [row["text"] for row in rows], np.array([names.index(row["kind"]) for row in rows], np.int32), names


@pytest.mark.parametrize(
    ("source", "params"),
    [
        (toxicity, Params(dim=50, bucket=200_000, word_ngrams=2)),
        (kinds, Params(dim=20, bucket=50_000, minn=3, maxn=4, epoch=3, lr=0.5)),
    ],
)
def test_on_real_text_the_model_is_as_good_as_fasttexts_and_says_the_same(
    source: Any, params: Params, shared_data: Path, tmp_path: Path
) -> None:
    texts, labels, names = source(shared_data)
    half = len(texts) // 2
    learned: Labelled = (texts[:half], labels[:half], names)
    theirs = fasttext_models.load(by_fasttext(tmp_path / "theirs.bin", learned, params))
    facts = ours(tmp_path / "ours.bin", learned, params)
    mine = fasttext_models.load(tmp_path / "ours.bin")
    for kind in ("get_words", "get_labels"):
        expected, found = (dict(zip(*getattr(m, kind)(include_freq=True), strict=True)) for m in (theirs, mine))
        assert found == expected
    assert facts["words"] == len(theirs.get_words())
    probabilities = []
    for model in (theirs, mine):
        lines = [re.sub(SPACES, " ", text) for text in texts[half:]]
        found, values = model.predict(lines, k=len(names))
        rows = [dict(zip(a, b, strict=True)) for a, b in zip(found, values, strict=True)]
        probabilities.append(np.array([[row[f"__label__{name}"] for name in names] for row in rows]))
    apart = np.abs(probabilities[0] - probabilities[1])
    assert apart.mean() < 0.005  # words of equal count began with other random rows; nothing else differs
    assert apart.max() < 0.06
    for i in range(len(names)):
        auc = [roc_auc_score(labels[half:] == i, p[:, i]) for p in probabilities]
        assert auc[0] == pytest.approx(auc[1], abs=0.005)


def test_equal_input_gives_equal_bytes_however_it_is_cut_and_in_any_process(tmp_path: Path) -> None:
    texts, labels, names = made(3)
    ours(tmp_path / "a.bin", (texts, labels, names), SMALL)
    wanted = (tmp_path / "a.bin").read_bytes()
    pieces = [pa.array(texts[:1]), pa.array([], pa.string()), pa.array(["skipped", *texts[1:250]]).slice(1)]
    cut = pa.chunked_array([*pieces, pa.array(texts[250:])])
    train(cut, labels, names, SMALL, tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == wanted
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "t.parquet")
    program = (
        "import sys, pyarrow.parquet as pq; from tamis.scorers.fasttext_train import *; t = pq.read_table(sys.argv[1]);"
        f"train(t['text'], t['label'].to_numpy(), {names}, {SMALL!r}, sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "t.parquet", tmp_path / "c.bin"], check=True)
    assert (tmp_path / "c.bin").read_bytes() == wanted


def test_small_pieces_between_reports_of_progress_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = made(2)
    ours(tmp_path / "a.bin", labelled, SMALL)
    monkeypatch.setattr(fasttext_train, "PIECE", 300)
    seen: list[float] = []
    ours(tmp_path / "b.bin", labelled, SMALL, progress=seen.append)
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert len(seen) > 100
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize("params", [SMALL, Params(dim=8, bucket=500, minn=2, maxn=3, loss="ova")], ids=str)
def test_labels_and_line_ends_within_a_text_change_nothing(params: Params, tmp_path: Path) -> None:
    texts, labels, names = made(2)
    draw = random.Random(1)
    hostile = []
    for text in texts:
        words = text.split()
        for word in ("__label__l1", "__label__l0", "</s>", "__label__", "__label__other,"):
            words.insert(draw.randrange(len(words) + 1), word)
        hostile.append(draw.choice([" ", "\n", "\r\n", "\0", "\t\v\f"]).join(words))
    facts = [ours(tmp_path / "a.bin", (texts, labels, names), params)]
    facts += [ours(tmp_path / "b.bin", (hostile, labels, names), params)]
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    assert facts[0]["labels"] == facts[1]["labels"] == Counter(names[label] for label in labels)


def test_what_only_looks_like_a_label_or_line_end_is_a_word(tmp_path: Path) -> None:
    facts = ours(tmp_path / "a.bin", (["</s>x __labe x__label__y", "</s </S>"], np.array([0, 1]), ["a", "b"]), SMALL)
    assert facts["words"] == 6
    assert set(fasttext_models.load(tmp_path / "a.bin").get_words()) == {
        "</s>", "</s>x", "__labe", "x__label__y", "</s", "</S>",
    }  # fmt: skip


def test_empty_texts_are_lines_without_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels, names = made(2, 60)
    texts = ["" if i % 3 == 0 else " \n" if i % 7 == 0 else text for i, text in enumerate(texts)]
    theirs = by_fasttext(tmp_path / "theirs.bin", (texts, labels, names), SMALL)
    in_order_of(fasttext_models.load(theirs), monkeypatch)
    ours(tmp_path / "ours.bin", (texts, labels, names), SMALL)
    assert (tmp_path / "ours.bin").read_bytes() == theirs.read_bytes()


def test_words_stand_by_count_then_first_occurrence_and_labels_by_count_then_name(tmp_path: Path) -> None:
    texts = ["d c c", "b a a e", "c b"]
    facts = ours(tmp_path / "m.bin", (texts, np.array([2, 0, 1]), ["x", "y", "z"]), SMALL)
    model = fasttext_models.load(tmp_path / "m.bin")
    words, counts = model.get_words(include_freq=True)
    assert list(zip(words, counts, strict=True)) == [("c", 3), ("</s>", 3), ("b", 2), ("a", 2), ("d", 1), ("e", 1)]
    assert list(facts["labels"]) == [label.removeprefix("__label__") for label in model.get_labels()] == ["x", "y", "z"]
    header = read_header(tmp_path / "m.bin")
    assert (header.tokens, facts["tokens"], facts["documents"]) == (15, 12, 3)
    assert facts["bytes"] == (6 + 500 + 3) * 8 * 4


def counted(texts: Sequence[str], **more: Any) -> tuple[dict[bytes, int], fasttext_train_words.Words]:
    counter = fasttext_train_words.Counter(**{"most_bytes": 1 << 30, "room": 2} | more)
    half = len(texts) // 2
    for piece in (texts[:half], texts[half:]):
        if piece:
            counter.add(*fasttext_train._views(pa.array(piece, pa.large_string())))
    words = counter.words()
    return {words.spelled(i): int(words.counts[i]) for i in range(len(words.counts))}, words


TEXT = st.lists(st.sampled_from([" ", "\n", "\0", "\v", "a", "bc", "ä", "\x85", "\u00a0", "__label__", "</s>", "日本"]))


@settings(deadline=None)
@given(st.lists(TEXT.map("".join), min_size=1, max_size=6))
def test_counts_are_those_of_a_plain_split(texts: list[str]) -> None:
    expected: Counter[bytes] = Counter()
    for text in texts:
        kept = [w for w in re.split(SPACES, text) if w and not w.startswith("__label__") and w != "</s>"]
        expected.update(w.encode() for w in [*kept, "</s>"])
    found, words = counted(texts)
    assert found == expected
    assert list(found) == list(expected)  # in the order of first occurrence
    assert words.tokens == sum(expected.values())


def test_a_word_of_a_megabyte_and_many_words_fit_tables_that_grow() -> None:
    texts = ["x" * 1_000_000 + " y", " ".join(f"w{i}" for i in range(30_000)), "y w7"]
    found, _ = counted(texts)
    assert len(found) == 30_003
    assert (found[b"x" * 1_000_000], found[b"y"], found[b"w7"], found[b"</s>"]) == (1, 2, 2, 3)
    with pytest.raises(MemoryError, match="distinct words"):
        counted(texts, most_bytes=100_000)


def test_a_word_longer_than_files_hold_has_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasttext_train, "LONGEST_WORD", 50)
    facts = ours(tmp_path / "m.bin", (["a " + "x" * 50, "b " + "x" * 49], np.array([0, 1]), ["a", "b"]), SMALL)
    assert (facts["distinct_words"], facts["words"]) == (5, 4)


def test_the_loss_is_that_of_the_examples(tmp_path: Path) -> None:
    """Before anything is learned each of n labels has probability 1/n; later it is lower."""
    labelled = made(4)
    slow, fast = (ours(tmp_path / "m.bin", labelled, Params(dim=8, lr=lr))["loss"] for lr in (1e-6, 0.5))
    assert slow == pytest.approx(np.log(4), abs=1e-3)
    assert fast < 1


def test_a_few_cells_are_all_random() -> None:
    assert (initial(3, 3, 0) != 0).all()
    assert (initial(10, 2, 0).reshape(-1)[2:] == 0).all()
    assert np.array_equal(initial(50, 4, 0), initial(50, 4, 1))  # minstd_rand takes seed 0 for 1
    assert not np.array_equal(initial(50, 4, 2), initial(50, 4, 1))


OK: Labelled = (["a b", "c d"], np.array([0, 1], np.int32), ["x", "y"])


@pytest.mark.parametrize(
    ("labelled", "params", "more", "says"),
    [
        (([], np.array([], np.int32), ["x", "y"]), {}, {}, "no documents"),
        ((["a", None], OK[1], OK[2]), {}, {}, "1 of 2 texts are null, first row 1"),
        ((OK[0], np.array([0, 0]), ["x"]), {}, {}, "one label (x)"),
        ((OK[0], np.array([0, 0]), ["x", "y"]), {}, {}, "no document has the label y"),
        ((OK[0], np.array([0, 2]), ["x", "y"]), {}, {}, "from 0 to 1"),
        ((OK[0], np.array([0, 1, 1]), ["x", "y"]), {}, {}, "3 labels for 2 texts"),
        ((OK[0], OK[1], ["x", "x"]), {}, {}, "'x' is there twice"),
        ((OK[0], OK[1], ["x", "a b"]), {}, {}, "label 'a b'"),
        ((OK[0], OK[1], ["x", ""]), {}, {}, "label ''"),
        ((OK[0], OK[1], ["x", "__label__y"]), {}, {}, "label '__label__y'"),
        (([" ", "</s>"], OK[1], OK[2]), {}, {}, "no words"),
        (OK, {"min_count": 3}, {}, "no word occurs 3 times"),
        (OK, {"min_count": 2}, {}, "no word occurs 2 times"),
        (OK, {"word_ngrams": 2}, {"most_bytes": 10**8}, "lower bucket (2,000,000)"),
        (OK, {"dim": 100}, {"most_bytes": 2_000}, "5 rows"),
        (OK, {"lr": 100.0, "epoch": 10_000, "loss": "softmax", "lr_update_rate": 1}, {}, "lower lr (100)"),
    ],
)
def test_what_cannot_be_trained_is_said(
    labelled: Any, params: dict[str, Any], more: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=re.escape(says)):
        ours(tmp_path / "m.bin", labelled, Params(**params), **more)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="make it"):
        ours(tmp_path / "none" / "m.bin", OK, SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dim": 0}, {"epoch": 0}, {"epoch": 1.5}, {"lr": 0.0}, {"lr": float("nan")}, {"word_ngrams": 0}, {"min_count": 0},
        {"bucket": 0}, {"bucket": 2**31}, {"minn": 3, "maxn": 2}, {"maxn": -1}, {"loss": "ns"}, {"seed": -1},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        Params(**wrong)
