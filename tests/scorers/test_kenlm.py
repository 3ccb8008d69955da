"""Perplexities are those of KenLM, of a naive back-off model and of CCNet's formula; a file that is no model says so."""

from __future__ import annotations

import base64
import gzip

import numpy as np
import pyarrow as pa
import pytest

from tamis.scorers import kenlm as scorer
from tamis.scorers.base import ModelError
from tamis.scorers.ccnet_normalize import ccnet_normalize
from tamis.scorers.kenlm import KenLM, check_model, check_tokenizer

from .. import kenlm_models

kenlm = pytest.importorskip("kenlm")
sentencepiece = pytest.importorskip("sentencepiece")

# A model that `build_binary` of KenLM 0.3.0 made of BIGRAM, gzip, base64.
BIGRAM = (
    "\\data\\\nngram 1=5\nngram 2=4\n\n\\1-grams:\n-1\t<unk>\t0\n-99\t<s>\t-0.3\n-0.8\t</s>\n-0.5\ta\t-0.2\n-0.7\tb\t-0.1\n\n"
    "\\2-grams:\n-0.2\t<s> a\n-0.4\ta b\n-0.3\tb a\n-0.6\ta </s>\n\n\\end\\\n"
)
BINARY = (
    "H4sIAAAAAAACA8vNTSxQyMlVyCgpKbDS18/OSE1My0zNSdFLzs/VT85PSVVIyy/KTSxRKEstKs7Mz1Mw5WJAgAZ7ILGfEUj8BwKQCCNUhglMHrBH"
    "FmOF0iwMqAAkXlCnuNeyrRSsVjA7+/IlcXF2ZgbcgCvn+8fa4gfZIHvMtbQm1f7pfsWCoaphP4hgYDh2aNbMmfvOnvGxh/AZ7IHsfcbGxkD6zF6Y"
    "ao5PTBktG42FgWL7GovefqitrmkFqVvTe1uEOTFtDcgMsfNen9fVZEnMmim5H5fbbErzsu0YbIqBWB9IJDIkMQAA5MdDT2cBAAA="
)


class Letters:
    """A tokenizer whose pieces are the words of a text."""

    def encode_as_pieces(self, text: str) -> list[str]:
        return text.split(" ") if text else []


@pytest.fixture(scope="module")
def oracle():
    return kenlm_models.Arpa.read(kenlm_models.toy())


@pytest.fixture(scope="module")
def encode():
    return kenlm_models.pieces_of(kenlm_models.tokenizer())


def load(**config) -> KenLM:
    return KenLM.load(kenlm_models.toy(), kenlm_models.tokenizer(), **config)


def score(model: KenLM, *texts: str) -> pa.Table:
    return model.score(pa.array(texts, pa.large_string()))


def library(path: str):
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    return kenlm.Model(path, config)


def test_the_oracle_is_a_distribution(oracle):
    words = [gram[0] for gram in oracle.p if len(gram) == 1 and gram != ("<s>",)]
    for context in [(), ("<s>",), ("▁the",), ("s", "▁the"), ("e", "<unk>")]:
        assert sum(10 ** oracle.log10(word, context) for word in words) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("per_line", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_perplexity_is_that_of_a_naive_back_off_model_over_all_lines(oracle, encode, per_line, normalize):
    texts = [*kenlm_models.pages()[:60], "One line.\n\n \nAnother: ☃ ☃☃ 12\n", "☃", "a\nb", "\n a b"]
    found = score(load(per_line=per_line, normalize=normalize), *texts)
    for text, row in zip(texts, found.to_pylist(), strict=True):
        lines = text.split("\n") if per_line else [text]
        words = [encode(ccnet_normalize(line) if normalize else line) for line in lines]
        words = [line for line in words if line]
        total, count = sum(oracle.line(line) for line in words), sum(len(line) + 1 for line in words)
        assert row["log10"] == pytest.approx(total, rel=1e-5)
        assert row["predictions"] == count
        assert row["kenlm_ppl"] == pytest.approx(10 ** (-total / count), rel=1e-4)


def test_the_sum_is_bit_for_bit_kenlms_own_where_it_adds_up_a_line_at_once(encode):
    texts = [text for text in kenlm_models.pages() if encode(text) and len(text) <= scorer.LONG]
    model, found = library(kenlm_models.toy()), score(load(), *texts)
    words = [encode(ccnet_normalize(text)) for text in texts]
    assert found["log10"].to_pylist() == [model.score(" ".join(line), bos=True, eos=True) for line in words]
    # as CCNet writes it, before it rounds to 0.1
    ccnet = [10 ** (-model.score(" ".join(line)) / (len(" ".join(line).split()) + 1)) for line in words]
    np.testing.assert_allclose(found["kenlm_ppl"], ccnet, rtol=1e-6)


@pytest.mark.parametrize(("block", "part"), [(1, 1 << 20), (2, 40), (7, 100), (50, 30), (4096, 64)])
def test_blocks_change_nothing_but_the_rounding(monkeypatch, oracle, encode, block, part):
    texts = [" ".join(text.split()) for text in kenlm_models.pages()[25:40]]
    whole = score(load(), *texts)
    monkeypatch.setattr(scorer, "LONG", 10)
    monkeypatch.setattr(scorer, "BLOCK", block)
    monkeypatch.setattr(scorer, "PART", part)
    cut = score(load(), *texts)
    assert cut["predictions"].equals(whole["predictions"])
    np.testing.assert_allclose(cut["log10"], [oracle.line(encode(ccnet_normalize(text))) for text in texts], rtol=1e-6)


def test_a_line_of_megabytes_keeps_its_digits_where_kenlm_itself_loses_them(oracle, encode):
    text = "the end of it " * 100_000
    piece, line = oracle, encode("the end of it the end of it")
    half = len(line) // 2  # what the middle of the line adds for every repetition
    per = piece.line(line + line[half:]) - piece.line(line)
    exact = piece.line(line) + per * (100_000 - 2)
    [found] = score(load(), text)["log10"].to_pylist()
    assert found == pytest.approx(exact, rel=1e-5)
    assert library(kenlm_models.toy()).score(" ".join(encode(text))) != pytest.approx(exact, rel=1e-3)


def test_a_line_without_spaces_is_cut_where_it_must():
    assert [len(part) for part in scorer._parts("茶" * (5 << 19))] == [1 << 20, 1 << 20, 1 << 19]
    parts = list(scorer._parts("tea " * (5 << 17)))
    assert "".join(parts) == "tea " * (5 << 17)
    assert all(part.startswith(" ") and len(part) <= 1 << 20 for part in parts[1:])


def test_a_text_without_a_piece_has_no_perplexity():
    for per_line in (False, True):
        found = score(load(per_line=per_line), "", " \n\t", "\x01\x85", "a", "   " * scorer.LONG)
        assert [value is None for value in found["kenlm_ppl"].to_pylist()] == [True, True, True, False, True]
        assert found["predictions"].to_pylist() == [0, 0, 0, 2, 0]
    assert score(load()).num_rows == 0


def test_blank_lines_count_for_nothing():
    found = score(load(per_line=True), "one line\n\n \n\x01\nanother\n", "one line\nanother")
    assert found.slice(0, 1).equals(found.slice(1))


def test_a_number_does_not_depend_on_the_neighbours():
    texts = pa.array(kenlm_models.pages()[:40] * 20, pa.large_string())  # more than one window of strings
    whole = load().score(texts)
    assert (
        pa.concat_tables([load().score(texts.slice(0, 301)), load().score(texts.slice(301))]).combine_chunks() == whole
    )


def test_a_nul_does_not_end_a_text(oracle, encode):
    [found] = score(load(normalize=False), "one\0two three")["log10"].to_pylist()
    pieces = [piece for piece in encode("one\0two three") if piece != "\0"]
    assert len(pieces) == len(encode("one\0two three")) - 1
    assert found == pytest.approx(oracle.line(pieces), rel=1e-5)


def test_a_binary_file_gives_the_numbers_of_its_arpa_file(tmp_path):
    (tmp_path / "a.bin").write_bytes(gzip.decompress(base64.b64decode(BINARY)))
    (tmp_path / "a.arpa").write_text(BIGRAM)
    check_model(tmp_path / "a.bin")
    arpa, found = kenlm_models.Arpa.read(tmp_path / "a.arpa"), []
    for file in ("a.bin", "a.arpa"):
        model = KenLM(scorer._model(*scorer._version(tmp_path / file)), Letters(), normalize=False)
        found.append(score(model, "a", "a b a", "b b", "x a x", ""))
    assert found[0].equals(found[1])
    expected = [arpa.line(words.split()) for words in ("a", "a b a", "b b", "x a x")]
    np.testing.assert_allclose(found[0]["log10"][:4], expected, rtol=1e-6)


def test_a_perplexity_beyond_all_numbers_is_the_largest_one(tmp_path):
    path = kenlm_models.write_arpa(tmp_path / "a.arpa", [["a", "b"], ["b"]], unknown=False)
    model = KenLM(scorer._model(*scorer._version(path)), Letters())  # KenLM gives an unknown word 10^-100
    assert score(model, "x x x")["kenlm_ppl"].to_pylist() == [float(np.finfo(np.float32).max)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no KenLM model"),
        (b"__label__a some text", "no KenLM model"),
        (scorer.MAGIC + b"4\n\0" + bytes(200), "version 4, version 5 is read"),
        (scorer.UNFINISHED + b"\n" + bytes(200), "broke off"),
        (gzip.compress(b"\\data\\"), "compressed"),
        (
            scorer.MAGIC + scorer.VERSION + bytes(200),
            "KenLM cannot use it: File looks like it should be loaded with mmap",
        ),
        (b"\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1\ta\n", "KenLM cannot use it: "),
        (b"\\data\\\nngram 1=x\n", "KenLM cannot use it: "),
        (BIGRAM.replace("-0.6\ta </s>", "0.6\ta </s>").encode(), "KenLM cannot use it: Positive log probability"),
    ],
)
def test_a_file_that_is_no_model_is_told_so(tmp_path, content, complaint):
    (tmp_path / "a.arpa").write_bytes(content)
    with pytest.raises(ModelError, match=f"a.arpa: .*{complaint}") as caught:
        KenLM.load(tmp_path / "a.arpa", kenlm_models.tokenizer())
    assert "threw" not in str(caught.value)


def test_a_binary_file_that_was_cut_short_is_told_so(tmp_path):
    content = gzip.decompress(base64.b64decode(BINARY))
    (tmp_path / "a.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"KenLM cannot use it: .*size"):
        KenLM.load(tmp_path / "a.bin", kenlm_models.tokenizer())


def test_a_missing_file_or_a_folder_is_told_so(tmp_path):
    for look in (check_model, check_tokenizer):
        with pytest.raises(ModelError, match="nothing: No such file"):
            look(tmp_path / "nothing")
        with pytest.raises(ModelError, match="Is a directory"):
            look(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no SentencePiece"),
        (b'{"model": {}}', "JSON"),
        (b"\n\x05hello", "no SentencePiece model that can be used"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_told_so(tmp_path, content, complaint):
    (tmp_path / "a.model").write_bytes(content)
    with pytest.raises(ModelError, match=f"a.model: .*{complaint}"):
        KenLM.load(kenlm_models.toy(), tmp_path / "a.model")


def test_a_file_is_loaded_once_and_again_when_it_changes(tmp_path):
    path = tmp_path / "a.arpa"
    path.write_text(BIGRAM)
    first = scorer._model(*scorer._version(path))
    assert scorer._model(*scorer._version(path)) is first
    path.write_text(BIGRAM + "\n")
    assert scorer._model(*scorer._version(path)) is not first
