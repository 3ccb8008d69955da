"""The normaliser against CCNet's published examples and a naive one, character by character."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.scorers.ccnet_normalize import ccnet_normalize

from .. import kenlm_models

# CCNet's tests/test_normalizer.py shows these side by side, with a full-width 1 that comes out as a quotation mark; in
# the whole of its normalize that is a 0, as every digit
ODD = "，。、„”“«»」「《》´∶：？！（）；–—．～’…━〈〉【】％"
PLAIN = ",.," + '"' * 9 + "'::?!();- - . ~'...-<>[]%"


def naive(text: str) -> str:
    """By the description: strip, lower, accents away, digits to 0, punctuation, then control characters."""
    steps = []
    for char in unicodedata.normalize("NFD", text.strip().lower()):
        if unicodedata.category(char) == "Mn":
            continue
        if unicodedata.category(char) == "Nd":
            char = "0"
        if char == "►":
            char = "-"
        if char in ODD:
            char = {"—": " - ", "．": ". ", "…": "..."}.get(char) or SINGLE[char]
        steps += [one for one in char if not (ord(one) < 32 or 127 <= ord(one) < 160)]
    return "".join(steps)


SINGLE = dict(zip([c for c in ODD if c not in "—．…"], PLAIN.replace(" - ", "").replace(". ~", "~").replace("...", "")))


def test_punctuation_becomes_what_ccnet_shows():
    assert ccnet_normalize(ODD) == PLAIN
    assert ccnet_normalize("a►b") == "a-b"


def test_every_digit_becomes_a_zero():
    assert ccnet_normalize("０２３４５６７８９ | 0123456789") == "000000000 | 0000000000"
    assert ccnet_normalize("１ ४٢ ² Ⅷ") == "0 00 ² ⅷ"


def test_the_form_for_language_models_maps_the_punctuation_that_the_form_for_deduplication_drops():
    # for deduplication CCNet's own test has "000 | ;000 hèllo"
    assert ccnet_normalize("０２３´∶：\x10 | ;012 hèllo") == "000'::" + " | ;000 hello"


def test_accents_and_control_characters_go_and_so_do_line_feeds():
    assert ccnet_normalize("  Éa\u0301 İz\nThe END.\tX\x85y \xa0") == "ea izthe end.xy"
    assert ccnet_normalize("\u2329a\u232a \u037e") == "<a> ;"  # NFD comes before punctuation


@pytest.mark.parametrize("start", range(0, sys.maxunicode + 1, 1 << 18))
def test_no_character_of_unicode_is_treated_otherwise_than_described(start):
    chars = [chr(code) for code in range(start, min(start + (1 << 18), sys.maxunicode + 1), 1)]
    chars = [c for c in chars if unicodedata.category(c) not in ("Cs", "Cn", "Co")]
    text = "a".join(chars)  # apart, so that marks are not put into another order
    assert ccnet_normalize(text) == naive(text)


def test_pages_and_random_texts_are_those_of_the_naive_one():
    for text in kenlm_models.pages():
        assert ccnet_normalize(text) == naive(text)

    @settings(max_examples=50, deadline=None)
    @given(
        st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(ODD + "ΣσÅİ\u0345\u0301 \n٣"), max_size=30)
    )
    def check(text):
        assert ccnet_normalize(text) == naive(text)

    check()
