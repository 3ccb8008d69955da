"""Words, shingles and exact sets against plain Python, over all of Unicode, any cuts and any neighbours."""

from __future__ import annotations

import json
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels import plain_words
from tamis.kernels.shingles import jaccard, shingle_sets
from tamis.stages.arrow import text_buffers

from . import naive_minhash as naive

ODD = "aZéẞİıΣσς 0123.,،٫\u0301\u0345\u0e33กำ日本ガか\u3099가각각٣१²Ⅷ😀©|_'-\u200b\u00ad\u00a0\n\0ো\U0001d160\U0002f800Å\U000e0100"
letters = st.text("abcXYZ", min_size=1, max_size=90)
texts = st.lists(st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"])) | letters, max_size=40)
separators = st.lists(
    st.sampled_from([" ", "", ", ", ".", "\n\n", "\u2014", " 12 ", "é", "语"]), min_size=1, max_size=6
)

PAGES = [json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "pages.jsonl").open(encoding="utf-8")]


def sets(found: list[str], ngram: int) -> list[list[int]]:
    values, offsets = shingle_sets(*text_buffers(pa.array(found, pa.large_string())), ngram)
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


def join(pieces: list[str], between: list[str]) -> str:
    return "".join(piece + between[k % len(between)] for k, piece in enumerate(pieces))


def check_equal_to_naive(found: list[str], ngram: int) -> None:
    """Each text's set is that of its n-grams, each of which stands for itself when it is a whole text."""
    wanted = [set(naive.shingles(text, ngram)) for text in found]
    grams = sorted(set().union(*wanted))
    alone = sets([gram[1] if gram[0] == "" else " ".join(gram) for gram in grams], ngram)
    assert [len(values) for values in alone] == [1] * len(grams)
    hashes = {gram: values[0] for gram, values in zip(grams, alone)}
    assert len(set(hashes.values())) == len(grams)
    assert sets(found, ngram) == [sorted(hashes[gram] for gram in grams) for grams in wanted]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.builds(join, texts, separators), max_size=5), st.integers(1, 7))
def test_the_set_of_a_text_is_that_of_the_plain_definition(found: list[str], ngram: int) -> None:
    check_equal_to_naive(found, ngram)


def test_every_character_is_read_as_defined_before_between_and_behind_letters() -> None:
    points = [c for c in [*range(plain_words.TABLE_SIZE), *range(0xE0000, 0xE0200)] if not 0xD800 <= c < 0xE000]
    found = [f"{chr(c)}xy{chr(c)}1{chr(c)}2{chr(c)}{chr(c)}" for c in points]
    words = [naive.words(text) for text in found]
    every = sorted(set().union(*map(set, words)))
    hashes = dict(zip(every, (values for [values] in sets(every, 1))))
    assert len(set(hashes.values())) == len(every)
    assert sets(found, 1) == [sorted({hashes[word] for word in of_one}) for of_one in words]


def test_no_word_character_lies_above_the_table() -> None:
    above = {unicodedata.category(chr(c)) for c in range(plain_words.TABLE_SIZE, sys.maxunicode + 1)}
    assert above <= {"Cn", "Co", "Cf", "Mn"}
    marks = [c for c in range(plain_words.TABLE_SIZE, sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Mn"]
    assert marks == list(range(0xE0100, 0xE01F0))


def test_composed_and_decomposed_spellings_are_the_same_words() -> None:
    composed = [f"x{chr(c)}z" for c in range(0x30000) if not 0xD800 <= c < 0xE000]
    decomposed = [unicodedata.normalize("NFD", text) for text in composed]
    assert sum(one != other for one, other in zip(composed, decomposed)) > 13_000
    assert sets(composed, 1) == sets(decomposed, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Quick, brown fox!", "the quick brown FOX"),
        ("in 1999: 3.5 and 12,000", "in 7: 8 and 0"),
        ("Crème Brûlée", "creme brulee"),
        ("ΟΔΟΣ οδός", "οδος οδος"),
        ("한국어", unicodedata.normalize("NFD", "한국어")),
        ("İstanbul", "istanbul"),
        ("日本語", "日 本 語"),
        ("v2.0beta", "v1beta"),
    ],
)
def test_what_counts_as_the_same(one: str, other: str) -> None:
    assert sets([one], 2) == sets([other], 2)


@pytest.mark.parametrize(
    ("one", "other"), [("a b", "b a"), ("ab", "a b"), ("1,2,3", "1"), ("1.2.3", "4 5 6 7"), ("a|b", "ab"), ("!", "?"), ("a", "a a")]
)  # fmt: skip
def test_what_counts_as_different(one: str, other: str) -> None:
    assert sets([one], 3) != sets([other], 3)


def test_one_number_has_at_most_two_runs_of_digits() -> None:
    assert sets(["1,234,567", "12.05.2024"], 2) == sets(["0 0", "0 0"], 2)
    assert sets(["1,234 567,8"], 2) == sets(["0 0"], 2)
    for between in (*".,،٫⎖⎗⎘", ".\u0301", "\u0301,", "\u0301"):
        assert sets([f"12{between}34 b"], 3) == sets(["0 b"], 3)
        assert sets([f"a12{between}{between}3"], 1) == sets([f"a0{between}{between}0"], 1)
    for between in (*".,،٫", ".\u0301", "\u0301,", "\u0301"):  # the others are So: a third run would make them words
        check_equal_to_naive([f"12{between}", f"x12{between}{between}3", f"٣{between}4{between}5"], 1)
    assert sets(["1⎖2⎗3"], 1) != sets(["1⎖2"], 1)


def test_long_texts_go_through_in_pieces_and_nothing_is_lost_between() -> None:
    rng = np.random.default_rng(0)
    for count in (plain_words.ROOM - 1, plain_words.ROOM, plain_words.ROOM + 1, 5 * plain_words.ROOM + 17):
        words = ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(1, 20))) for _ in range(count)]
        for between in (" ", ", é", "語"):
            for ngram in (1, 2, 5, 64, 255):
                text = between.join(words)
                [values] = sets([text], ngram)
                assert len(values) == len(set(naive.shingles(text, ngram)))
                middle = count // 2
                piece = naive.words(text)[middle : middle + ngram]
                assert sets([" ".join(piece)], ngram)[0][0] in values


def test_neighbours_cuts_and_where_a_buffer_begins_change_nothing() -> None:
    found = [page["text"] or "" for page in PAGES]
    array = pa.array(found, pa.large_string())
    whole = sets(found, 5)
    for k, text in enumerate(found):
        assert sets([text], 5) == [whole[k]]
    values, offsets = shingle_sets(*text_buffers(array.slice(3, 5)), 5)
    assert [values[a:b].tolist() for a, b in pairwise(offsets)] == whole[3:8]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=90), st.integers(1, 3))
def test_bytes_that_are_no_utf8_are_never_read_beyond_their_text(data: bytes, ngram: int) -> None:
    alone, _ = shingle_sets(np.frombuffer(data, np.uint8), np.array([0, len(data)]), ngram)
    for behind in (b"\xf0\x9f\x98\x80", b"abc" * 40, b"9" * 100, b"\x80" * 100):
        within = np.frombuffer(b"before" + data + behind, np.uint8)
        found, _ = shingle_sets(within, np.array([6, 6 + len(data)]), ngram)
        assert found.tolist() == alone.tolist()


def test_hashes_of_old_outputs_stay_valid() -> None:
    """These values are stored in outputs. If this fails, raise the version of the stages that store them."""
    found = ["", "!", "one", "the quick brown fox jumps over", "Gruß 2024 ΑΣ", "日本語", "한국", "ো"]
    assert sets(found, 3) == GOLDEN


GOLDEN = [
    [],
    [842992280285191225],
    [12881660322492227422],
    [3335931079224641980, 3373777471851527178, 13597133080775666805, 16518529387489157522],
    [17476556628910032866],
    [17312221927959630127],
    [7049580054775295671],
    [1388007750104765656],
]


def test_two_texts_of_one_word_changed_have_the_similarity_of_the_reference() -> None:
    one = "the quick brown fox jumps over the lazy dog and runs away from the big bad wolf in the dark forest at night"
    values, offsets = shingle_sets(*text_buffers(pa.array([one, one.replace("night", "noon")])), 5)
    assert jaccard(values, offsets, np.array([0, 1, 0]), np.array([1, 0, 0])).tolist() == [18 / 20, 18 / 20, 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 400), st.integers(1, 30)), min_size=1, max_size=8))
def test_similarities_are_those_of_python_sets(shapes: list[tuple[int, int, int]]) -> None:
    """Sizes from 0 to 400 that overlap, so that merging and searching both occur and both find something."""
    groups = [set(range(start, start + size, step)) for start, size, step in shapes] + [set(), set(range(30, 430))]
    values = np.array([v for group in groups for v in sorted(group)], np.uint64)
    offsets = np.concatenate([[0], np.cumsum([len(group) for group in groups])])
    pairs = [(i, j) for i in range(len(groups)) for j in range(len(groups))]
    left, right = np.array(pairs).T
    wanted = [len(groups[i] & groups[j]) / max(1, len(groups[i] | groups[j])) for i, j in pairs]
    assert jaccard(values, offsets, left, right).tolist() == wanted


def test_an_ngram_out_of_range_is_refused() -> None:
    for ngram in (0, 256):
        with pytest.raises(ValueError, match=f"ngram: {ngram} "):
            shingle_sets(np.zeros(0, np.uint8), np.zeros(1, np.int64), ngram)
