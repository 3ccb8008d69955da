"""Terms are found as a regular expression after C4's rule finds them; a list that is none is refused by its line."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels.unicode_classes import unspaced
from tamis.scorers.base import ModelError
from tamis.scorers.word_list import LONGEST, WordList, read_terms

WHITE = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
WITHOUT = unspaced()
TERMS = [
    "ass",
    "dumb ass",
    "dumb",
    "s&m",
    "🖕",
    "女の子",
    "子",
    "g スポット",
    "2 girls 1 cup",
    "ควย",
    "straße",
    "(x)",
    "é",
]


def pattern_of(terms):
    """The rule as a regular expression: the longest term first, word bounds unless the script has no spaces."""
    folded = {re.sub(f"{WHITE}+", " ", "".join(c.lower()[0] for c in term)).strip(" ") for term in terms}
    ranges = np.flatnonzero(np.diff(np.concatenate([[0], WITHOUT.astype(np.int8), [0]]))).reshape(-1, 2)
    spans = "".join(f"{re.escape(chr(a))}-{re.escape(chr(b - 1))}" for a, b in ranges.tolist())
    word = rf"[^\W{spans}]"
    found = []
    for term in sorted(folded, key=len, reverse=True):
        body = f"{WHITE}+".join(map(re.escape, term.split(" ")))
        found.append(f"({body})" if any(WITHOUT[ord(c)] for c in term) else f"(?<!{word})({body})(?!{word})")
    return re.compile("|".join(found))


def naive(pattern, text):
    lower = "".join(c.lower()[0] for c in text)  # one character for one, as the kernel's table
    matches = list(pattern.finditer(lower))
    covered = sum(len(match[0]) for match in matches)
    distinct = len({match.lastindex for match in matches})
    return len(matches), distinct, covered, len(text)


def counted(words, texts):
    found = words.score(pa.array(texts, pa.large_string()))
    return list(zip(*(found[name].to_pylist() for name in ("matches", "terms", "share"))))


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("ass", 1),
        ("I asked my friend for assistance polishing my cutlass.", 0),  # the examples of C4's own test
        ("He took the saddle and put it on his ass in preparation for travel.", 1),
        ("Ass is one of several species of small, horse-like animals.", 1),
        ('Donkey is one synonym for the word "ass".', 1),
        ("ass_ _ass ass1 1ass", 0),
        ("dumb  \n ASS", 1),
        ("dumb asses", 1),  # dumb
        ("彼女の子です", 1),
        ("女ass女", 1),
        ("Gスポットg\u3000スポット", 1),
        ("🖕🖕x", 1),
        ("S&M, s&ms", 1),
        ("((x))", 1),
        ("", 0),
    ],
)
def test_a_term_counts_as_a_whole_word_in_any_case(text, matches):
    assert counted(WordList(TERMS), [text])[0][0] == matches


def test_everything_found_is_what_the_regular_expression_finds():
    words, pattern = WordList(TERMS), pattern_of(TERMS)
    part = st.sampled_from(
        [*TERMS, *(term.upper() for term in TERMS), " ", "\n", "\u3000", "a", "_", "1", "-", "の", "İ", "ß"]
    )
    pieces = st.lists(part | st.text(max_size=3), max_size=12).map("".join)

    @settings(max_examples=400, deadline=None)
    @given(st.lists(pieces, min_size=1, max_size=4))
    def check(texts):
        expected = [naive(pattern, text) for text in texts]
        found = counted(words, texts)
        assert [row[:2] for row in found] == [row[:2] for row in expected]
        for (_, _, share), (_, _, covered, chars) in zip(found, expected):
            assert share == (np.float32(covered / chars) if chars else None)

    check()


def test_the_english_list_on_real_pages_flags_what_c4s_filter_flags(shared_data):
    path = shared_data / "refs" / "badwords" / "en"
    texts = pq.read_table(sorted((shared_data / "web").glob("*.parquet"))[0], columns=["text"])["text"].slice(0, 1_500)
    terms = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    c4 = re.compile(r"(?:\W|^)({})(?:\W|$)".format("|".join(map(re.escape, terms))))
    latin = [text for text in texts.to_pylist() if not any(WITHOUT[ord(c)] for c in set(text))]
    expected = [c4.search(text.lower()) is not None for text in latin]
    found = [row[0] > 0 for row in counted(WordList.load(path), latin)]
    phrase = re.compile("|".join(r"\s+".join(map(re.escape, term.split())) for term in terms if " " in term))
    differ = [text for text, ours, theirs in zip(latin, found, expected) if ours != theirs]
    assert sum(expected) > 20
    assert all(phrase.search(text.lower()) for text in differ)  # a phrase over a line end, which C4 does not see
    assert len(differ) <= 3


def test_lists_of_all_languages_load_and_join(shared_data):
    files = [p for p in sorted((shared_data / "refs" / "badwords").iterdir()) if p.name not in ("LICENSE", "USERS.md")]
    words = WordList.load(*files)
    assert len(words.terms) > 2_000
    assert counted(words, ["アナル small 13点"])[0][:2] == (2, 2)  # and no `sm` of the Japanese list in small


def test_a_text_does_not_see_its_neighbours_nor_where_it_lies():
    words = WordList(TERMS)
    texts = ["x ass", "", "dumb", "ass dumb ass", "女の子" * 3, "y"]
    alone = [counted(words, [text])[0] for text in texts]
    array = pa.array(texts, pa.large_string())
    assert counted(words, texts) == alone
    assert words.score(array.slice(2, 3)).to_pylist() == words.score(array).slice(2, 3).to_pylist()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no term"),
        (b"\n \n\xef\xbb\xbf"[:3], "holds no term"),
        (b"good\nb\xffd\n", "line 2 is not UTF-8"),
        (b"ok\n" + b"x" * (LONGEST + 1), "line 2 has 201 characters"),
        (b"a\0b", "line 1 holds a NUL"),
        (b"\x1f\x8b\x08\x00binary", "UTF-8"),
    ],
)
def test_a_list_that_is_none_is_refused_with_the_line(tmp_path, content, told):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=told) as caught:
        read_terms(path)
    assert str(path) in str(caught.value)


def test_a_missing_list_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ModelError, match="a term a line"):
            WordList.load(path)


def test_a_list_may_begin_with_a_byte_order_mark_and_hold_a_term_twice(tmp_path):
    path = tmp_path / "list"
    path.write_bytes("\ufeffASS\r\nass\n\n  dumb  ass \n".encode())
    assert WordList.load(path).terms == ("ass", "dumb ass")


def test_a_changed_list_is_read_again(tmp_path):
    path = tmp_path / "list"
    path.write_text("one\n")
    assert WordList.load(path).terms == ("one",)
    path.write_text("other\n")
    assert WordList.load(path).terms == ("other",)
