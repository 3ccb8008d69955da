"""Tokens are counted as the library counts them one text at a time, in bounded memory, and no broken file gets past."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis.scorers.token_count as module
from tamis.scorers.base import ModelError
from tamis.scorers.token_count import TokenCount, tokenizer_file

from ..tiny_models import TEXTS, tokenizer_json

tokenizers = pytest.importorskip("tokenizers")
KINDS = ("bytes", "metaspace", "unigram", "words", "fixed")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: tokenizer_json(folder / f"{kind}.json", kind) for kind in KINDS}


def one_by_one(file, texts):
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    return [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]


def counted(file, texts):
    return TokenCount.load(file).count(pa.array(texts, pa.large_string())).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_count_is_what_encode_gives_for_the_text_alone(files, kind):
    scorer = TokenCount.load(files[kind])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.text(max_size=80) | st.sampled_from(TEXTS), max_size=8))
    def check(texts):
        assert scorer.count(pa.array(texts, pa.large_string())).tolist() == one_by_one(files[kind], texts)

    check()


def test_counts_of_real_documents_equal_those_of_encode(files, shared_data):
    texts = pq.read_table(sorted((shared_data / "web").glob("*.parquet"))[0], columns=["text"])["text"]
    some = texts.slice(0, 1500).to_pylist()
    assert counted(files["bytes"], some) == one_by_one(files["bytes"], some)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_counted_in_parts_gives_the_count_of_the_whole(files, kind, monkeypatch):
    for name, value in (("WINDOW", 20_000), ("LONG", 20_000), ("PART", 10_000), ("CONTEXT", 499)):
        monkeypatch.setattr(module, name, value)
    draw = random.Random(3)
    pieces = [draw.choice(TEXTS) + draw.choice((" ", "\n", "\n\n", "  ", "\t\t ", "")) for _ in range(4_000)]
    texts = ["".join(pieces), "清明前的茶叶最好" * 8_000, "x" * 60_000, "1 22 333  4444\n" * 6_000]
    scorer = TokenCount.load(files[kind])
    assert scorer.count(pa.array(texts, pa.large_string())).tolist() == one_by_one(files[kind], texts)
    parts = list(scorer._parts(texts[0]))
    assert "".join(part for _, part in parts) == texts[0]
    if kind == "fixed":  # tokens of five characters from the start: no place but by luck is neutral
        assert len(parts) < 4
    else:
        assert len(parts) > 10


def test_special_tokens_of_a_template_are_not_counted_and_those_of_the_text_are(files):
    assert counted(files["words"], ["the cat", "[SEP]", ""]) == [*one_by_one(files["words"], ["the cat"]), 1, 0]


def test_truncation_padding_and_dropout_of_the_file_are_switched_off(tmp_path):
    plain = tokenizer_json(tmp_path / "plain.json")
    texts = ["a b c d e f g h", "what is whole", TEXTS[0] * 20]
    expected = one_by_one(plain, texts)
    content = json.loads(plain.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 50},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "!",
    }
    content["model"]["dropout"] = 0.9
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    assert one_by_one(changed, texts) != expected
    assert counted(changed, texts) == expected


def test_memory_grows_neither_with_the_texts_nor_with_one_text(files):
    script = """
import resource, sys
import pyarrow as pa
from tamis.scorers.token_count import TokenCount
scorer = TokenCount.load(sys.argv[1])
line = "The cat sat on the mat, and the dog looked at it. "
texts = [line * 40] * 2_000 + [line * 130_000]
array = pa.array(texts, pa.large_string())
del texts
scorer.count(array.slice(0, 1_000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scorer.count(array)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    found = subprocess.run(
        [sys.executable, "-c", script, str(files["bytes"])], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 500  # MiB for 10 MB of texts; in one call the library takes 1,000


def broken(tmp_path):
    good = json.loads(tokenizer_json(tmp_path / "good.json").read_text())
    yield "missing.json", None, "no such file"
    yield "empty.json", b"", "JSON"
    yield "text.json", b"hello", "JSON"
    yield "list.json", b"[1, 2]", "no tokenizer"
    yield "bytes.json", bytes(range(256)), "JSON"
    yield "deep.json", b"[" * 200_000, "JSON|recursion"
    yield "other.json", b'{"architectures": ["BertModel"], "model": "x"}', "no tokenizer"
    yield "half.json", json.dumps(good).encode()[:-300], "JSON"
    yield "type.json", json.dumps({**good, "model": {**good["model"], "type": "Magic"}}).encode(), "cannot use it"
    merges = {**good, "model": {**good["model"], "merges": [["never", "seen"]]}}
    yield "merges.json", json.dumps(merges).encode(), "cannot use it"
    pre = {"type": "Split", "pattern": {"Regex": "(unclosed"}, "behavior": "Isolated", "invert": False}
    yield "regex.json", json.dumps({**good, "pre_tokenizer": pre}).encode(), "cannot use it"


def test_a_broken_file_is_a_model_error_that_names_it(tmp_path):
    for name, content, told in broken(tmp_path):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=told) as caught:
            TokenCount.load(tmp_path / name)
        assert name in str(caught.value), name


def test_a_folder_is_searched_for_its_tokenizer_and_one_without_says_how_to_make_it(tmp_path, files):
    (tmp_path / "tokenizer.json").write_bytes(files["bytes"].read_bytes())
    assert tokenizer_file(tmp_path) == tmp_path / "tokenizer.json"
    other = tmp_path / "slow"
    other.mkdir()
    (other / "spiece.model").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"spiece.model.*save_pretrained"):
        tokenizer_file(other)


def test_a_file_that_is_too_large_is_not_read(tmp_path, files, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    copy = tmp_path / "large.json"
    copy.write_bytes(files["bytes"].read_bytes())
    with pytest.raises(ModelError, match="at most 100"):
        tokenizer_file(copy)


def test_sliced_arrays_and_no_texts_are_no_special_case(files):
    scorer = TokenCount.load(files["bytes"])
    array = pa.array(TEXTS, pa.large_string())
    assert scorer.count(array.slice(3, 5)).tolist() == scorer.count(array).tolist()[3:8]
    assert scorer.score(array.slice(0, 0)).num_rows == 0
