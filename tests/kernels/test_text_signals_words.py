"""Words cut by the kernels are the oracle's, piece by piece; the class table agrees with `str` and the Unicode database."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings

from tamis.kernels import unicode_classes as u
from tamis.kernels.punct_words import punct_scratch, punct_words
from tamis.kernels.words import space_words, unicode_words

from . import naive_words as naive
from .test_text_signals import FRAGMENTS, TEXTS


def cut(text: str, kind: str) -> list[str]:
    """The words of a compiled tokenizer, as strings: their lengths, laid along the text."""
    data = np.frombuffer(text.encode(), np.uint8)
    words, ends, out = np.zeros(len(data) + 3, np.uint64), np.zeros(len(data) + 4, np.int64), np.zeros(16, np.int64)
    if kind == "punct":
        n = punct_words(data, 0, len(data), u.classes(), words, ends, punct_scratch(len(data) + 3), out)
        solid = "".join(text.split())
    elif kind == "space":
        n = space_words(data, 0, len(data), u.classes(), words, ends, out)
        solid = "".join(text.split())
    else:
        n = unicode_words(data, 0, len(data), u.classes(), words, ends)
        solid = "".join(naive.unicode_words(text))
    found = [solid[ends[j] : ends[j + 1]] for j in range(n)]
    assert ends[n] == len(solid)
    same: dict[int, str] = {}
    for hashed, word in zip(words[:n].tolist(), found):
        assert same.setdefault(hashed, word) == word  # one hash, one word
    assert len(set(found)) == len(same)
    return found


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_words_are_cut_where_the_oracle_cuts(text: str) -> None:
    assert cut(text, "punct") == naive.punct_words(text)
    assert cut(text, "space") == text.split()
    assert cut(text, "unicode") == naive.unicode_words(text)


def test_every_pair_of_fragments_is_cut_as_the_oracle_cuts_it() -> None:
    for a in FRAGMENTS[::3]:
        text = " ".join(a + b for b in FRAGMENTS)
        assert cut(text, "punct") == naive.punct_words(text)
        assert cut(text, "unicode") == naive.unicode_words(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, we'll go.", ["Do", "n't", "stop", ",", "we", "'ll", "go", "."]),
        ("(U.S. and NATO.)", ["(", "U.S.", "and", "NATO", ".", ")"]),
        (
            "See https://a.example.com/x?y=1#z, or a@b.org",
            ["See", "https://a.example.com/x?y=1#z", ",", "or", "a@b.org"],
        ),
        (
            "well-known 5kg 10% $5 1-2 a/b",
            ["well", "-", "known", "5", "kg", "10", "%", "$", "5", "1", "-", "2", "a", "/", "b"],
        ),
        ("**bold** ...wait", ["*", "*", "bold", "*", "*", "...", "wait"]),
        ("清明 ตลาดน้ำ", ["清", "明", "ต", "ล", "า", "ด", "น้", "ำ"]),
    ],
)
def test_punct_words_read_as_people_expect(text: str, words: list[str]) -> None:
    assert cut(text, "punct") == words


# Numbers of words from tests/baselines/mappers/test_core_utils.py of DCLM (uniseg, punctuation ignored).
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Hello World and all", 4),
        ("Also one with complications e.g., a 1.4 floating points...", 9),
        ("One with CamelCasedWords", 3),
    ],
)
def test_unicode_words_are_as_many_as_uniseg_finds(text: str, number: int) -> None:
    assert len(cut(text, "unicode")) == number


def test_classes_that_str_knows_are_those_of_str() -> None:
    table = u.classes()
    points = [p for p in range(0x30000) if not 0xD800 <= p < 0xE000]
    for bit, test in ((u.SPACE, str.isspace), (u.ALPHA, str.isalpha), (u.ALNUM, str.isalnum)):
        assert [p for p in points if bool(table[p] & bit) != test(chr(p))] == []
    assert [p for p in points if bool(table[p] & u.PUNCT) != (unicodedata.category(chr(p))[0] == "P")] == []
    assert [p for p in points if bool(table[p] & u.BREAK) != (len(f"a{chr(p)}a".splitlines()) > 1)] == []
    assert [p for p in points if bool(table[p] & u.LOWER) != naive.lower(chr(p))] == []
    assert [p for p in points if bool(table[p] & u.UPPER) != naive.upper(chr(p))] == []


def test_word_break_classes_are_those_of_the_unicode_database() -> None:
    regex = pytest.importorskip("regex")
    names = {
        u.LETTER: "ALetter",
        u.HEBREW: "Hebrew_Letter",
        u.NUMERIC: "Numeric",
        u.KATAKANA: "Katakana",
        u.JOIN: "ExtendNumLet",
        u.MID_LETTER: "MidLetter",
        u.MID_NUM: "MidNum",
        u.MID_BOTH: "MidNumLet",
        u.APOSTROPHE: "Single_Quote",
        u.QUOTE: "Double_Quote",
    }
    points = [p for p in range(0x20000) if unicodedata.category(chr(p)) not in ("Cn", "Cs")]
    text = "".join(map(chr, points))
    table = u.classes()
    for kind, name in names.items():
        theirs = {ord(c) for c in regex.findall(rf"\p{{WB={name}}}", text)}
        ours = {p for p in points if table[p] >> u.WORD_BREAK == kind}
        assert theirs ^ ours == set(), name
    extend = {ord(c) for c in regex.findall(r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]", text)}
    assert extend ^ {p for p in points if table[p] >> u.WORD_BREAK == u.EXTEND} == set()
