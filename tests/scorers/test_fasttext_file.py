"""fastText's model files: written as fastText writes them, and whatever is wrong with one is a ModelError."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.scorers.base import ModelError
from tamis.scorers.fasttext import FastText
from tamis.scorers.fasttext_file import ARGUMENTS, COUNTS, read_header, read_model, write_model

from ..fasttext_models import KINDS, kind, load

TEXTS = pa.array(["", "the of and 日本語", "x" * 300], pa.large_string())
HEAD = 8 + ARGUMENTS.size + COUNTS.size  # bytes before the dictionary


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))


def rows(path: Path, name: str) -> np.ndarray:
    model = read_model(path)
    return np.concatenate(list(getattr(model, name).blocks(path, size=1000)))


def entries(path: Path) -> list[bytes]:
    model = read_model(path)
    return [model.text[a:b] for a, b in zip(model.begin, model.end, strict=True)]


@pytest.mark.parametrize("name", KINDS)
def test_the_header_is_what_fasttext_says(name: str) -> None:
    header, model = read_header(kind(name)), load(kind(name))
    arguments = model.f.getArgs()
    words, _ = model.f.getVocab("strict")
    labels, counts = model.f.getLabels("strict")
    assert (header.dim, header.word_ngrams, header.minn, header.maxn, header.bucket) == (
        arguments.dim,
        arguments.wordNgrams,
        arguments.minn,
        arguments.maxn,
        arguments.bucket,
    )
    assert header.loss == arguments.loss.name
    assert (header.words, header.quantized) == (len(words), model.is_quantized())
    assert (list(header.labels), list(header.label_counts)) == ([one[9:] for one in labels], list(counts))
    assert entries(kind(name)) == [one.encode() for one in [*words, *labels]]


@pytest.mark.parametrize("name", KINDS)
def test_the_weights_are_those_of_fasttext(name: str) -> None:
    model, found = load(kind(name)), rows(kind(name), "input")
    places = np.linspace(0, len(found) - 1, 300).astype(int)
    assert np.array_equal(found[places], np.stack([model.get_input_vector(int(place)) for place in places]))
    if not model.is_quantized():
        assert np.array_equal(rows(kind(name), "output"), model.get_output_matrix())


@pytest.mark.parametrize("name", ["pair", "softmax", "hs", "ova_few"])
def test_a_model_written_again_is_the_file_that_fasttext_wrote(name: str, tmp_path: Path) -> None:
    path, model = tmp_path / "again.bin", read_model(kind(name))
    header, all_of = model.header, entries(kind(name))
    counts = load(kind(name)).f.getVocab("strict")[1]
    write_model(
        path,
        all_of[: header.words],
        np.array(counts),
        all_of[header.words :],
        np.array(header.label_counts),
        rows(kind(name), "input"),
        rows(kind(name), "output"),
        loss=header.loss,
        word_ngrams=header.word_ngrams,
        bucket=header.bucket,
        minn=header.minn,
        maxn=header.maxn,
        epoch=header.epoch,
        min_count=header.min_count,
        lr_update_rate=header.lr_update_rate,
        tokens=header.tokens,
    )
    assert path.read_bytes() == kind(name).read_bytes()
    assert [one.name for one in tmp_path.glob("again*")] == ["again.bin"]


def changed(source: Path, target: Path, *, at: int = 0, new: bytes = b"", cut: int | None = None) -> Path:
    """A copy with some bytes replaced, or without what lies behind `cut`."""
    data = bytearray(source.read_bytes()[:cut])
    data[at : at + len(new)] = new
    target.write_bytes(data)
    return target


def test_what_is_no_model_is_named_for_what_it_is(tmp_path: Path) -> None:
    packed = tmp_path / "model.bin.gz"
    packed.write_bytes(gzip.compress(kind("pair").read_bytes()))
    vectors = tmp_path / "words.vec"
    vectors.write_text("2 3\nthe 0.1 0.2 0.3\nof 0.1 0.2 0.3\n")
    nothing, noise = tmp_path / "nothing.bin", tmp_path / "noise.bin"
    nothing.write_bytes(b"")
    noise.write_bytes(bytes(range(128, 256)))
    skipgram = changed(kind("pair"), tmp_path / "skipgram.bin", at=8 + 4 * 7, new=struct.pack("<i", 2))
    for path, said in [
        (tmp_path, "a folder"),
        (tmp_path / "gone.bin", "No such file"),
        (packed, "a gzip file"),
        (vectors, "word vectors"),
        (nothing, "an empty file"),
        (noise, "not a fastText model"),
        (skipgram, "word vectors \\(skipgram\\), not a classifier"),
        (changed(kind("pair"), tmp_path / "new.bin", at=4, new=struct.pack("<i", 13)), "version 13"),
    ]:
        for reads in (read_header, FastText.load):
            with pytest.raises(ModelError, match=said) as caught:
                reads(path)
            assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["pair", "pruned", "all_quantized"])
def test_a_file_cut_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    size = kind(name).stat().st_size
    model = read_model(kind(name))
    parts = [HEAD, HEAD + len(model.text), model.input.at, model.output.at]
    draw = np.random.default_rng(0)
    cuts = {at + step for at in [0, 4, 8, HEAD - 20, *parts, size] for step in (-1, 0, 1)} | set(
        draw.integers(0, size, 60)
    )
    for cut in sorted(int(cut) for cut in cuts if 0 <= cut < size):
        with pytest.raises(ModelError):
            read_header(changed(kind(name), tmp_path / "cut.bin", cut=cut))
    longer = tmp_path / "longer.bin"
    longer.write_bytes(kind(name).read_bytes() + b"\0")
    with pytest.raises(ModelError, match="1 bytes behind the end"):
        read_header(longer)


HUGE = [-1, -(2**31), 0, 2**31 - 1, 2**31 - 8, 10**8]


@pytest.mark.parametrize("name", ["pair", "pruned"])
def test_no_number_in_a_file_makes_it_take_memory_that_the_file_does_not_justify(name: str, tmp_path: Path) -> None:
    source = kind(name).read_bytes()
    model = read_model(kind(name))
    ints = [8 + 4 * i for i in range(12)] + [HEAD - COUNTS.size + 4 * i for i in range(3)]
    matrix = model.input.at - (16 if model.input.quantizer is None else 20)
    ints += [matrix, matrix + 4, matrix + 8, matrix + 12, matrix + 16, HEAD - 16, HEAD - 12, HEAD - 8, HEAD - 4]
    for at in ints:
        for value in HUGE:
            path = changed(kind(name), tmp_path / "huge.bin", at=at, new=struct.pack("<i", value))
            tracemalloc.start()
            try:
                loaded(path)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            # `bucket` of a pruned model costs bits; all else is bounded by the file
            assert peak < 20 * len(source) + (48 << 20), (at, value, peak)


def loaded(path: Path) -> pa.Table | None:
    """Its scores, or None where it is refused; anything else is an error of ours."""
    try:
        return FastText.load(path).score(TEXTS)
    except ModelError:
        return None


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_are_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["pair", "hs", "pruned", "all_quantized"]))
    source = bytearray(kind(name).read_bytes())
    model = read_model(kind(name))
    near = [HEAD, HEAD + len(model.text), model.input.at, model.output.at, len(source)]
    places = st.one_of(
        st.integers(4, HEAD + 40), st.sampled_from(near).flatmap(lambda at: st.integers(max(at - 40, 0), at - 1))
    )
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=3)):
        source[at] = value
    path = tmp_path / "flipped.bin"
    path.write_bytes(source)
    scores = loaded(path)
    if scores is not None:
        found = np.array([column.to_numpy(zero_copy_only=False) for column in scores.columns], float)
        assert ((found >= 0) & (found <= 1) | np.isnan(found)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["input", "output"])
def test_a_weight_that_is_no_number_is_refused_with_its_row(part: str, value: float, tmp_path: Path) -> None:
    matrix = getattr(read_model(kind("pair")), part)
    at = matrix.at + 4 * (matrix.columns + 3)
    path = changed(kind("pair"), tmp_path / "bad.bin", at=at, new=struct.pack("<f", value))
    with pytest.raises(ModelError, match=f"row 1 of the {part} matrix is not finite"):
        FastText.load(path)


def test_a_string_without_an_end_is_refused(tmp_path: Path) -> None:
    data = bytearray(kind("pair").read_bytes())
    data[HEAD:] = data[HEAD:].replace(b"\0", b"\1")
    (tmp_path / "endless.bin").write_bytes(data)
    with pytest.raises(ModelError, match="entry 0 of the dictionary does not end"):
        read_header(tmp_path / "endless.bin")


def test_of_a_word_that_is_in_the_dictionary_twice_the_last_row_counts(tmp_path: Path) -> None:
    path, words = tmp_path / "twice.bin", [b"</s>", b"the", b"of", b"the"]
    inputs = np.arange(16, dtype=np.float32).reshape(4, 4) / 8
    outputs = np.array([[1, 0, 0, 0], [0, 0, -1, 1]], np.float32)
    ones = np.ones(4, np.int64)
    write_model(path, words, ones, [b"__label__a", b"__label__b"], ones[:2], inputs, outputs)
    found, theirs = FastText.load(path).score(TEXTS), load(path)
    for row, text in enumerate(TEXTS.to_pylist()):
        expected = dict(zip(*theirs.predict(text, k=2), strict=True))
        assert found["a"][row].as_py() == pytest.approx(expected["__label__a"], abs=1e-6)


def test_version_11_has_no_character_ngrams(tmp_path: Path) -> None:
    path = changed(kind("pair_characters"), tmp_path / "old.bin", at=4, new=struct.pack("<i", 11))
    assert read_header(path).maxn == 0
    old, theirs = FastText.load(path).score(TEXTS), load(path)
    for row, text in enumerate(TEXTS.to_pylist()):
        expected = dict(zip(*theirs.predict(text, k=2), strict=True))
        for label in ("l0", "l1"):
            assert old[label][row].as_py() == pytest.approx(min(1, expected[f"__label__{label}"]), abs=1e-6)
