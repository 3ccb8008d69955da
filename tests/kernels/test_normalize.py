"""The normalize kernel: exact scan, exact cleaning, and a table that agrees with unicodedata."""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis.kernels import normalize as kernel
from tamis.kernels.nfc import LINE_BREAK, MAY_COMPOSE, REMOVED, nfc_table
from tamis.kernels.str_classes import str_classes
from tamis.stages.arrow import text_array, text_buffers

# what reorders, composes, must not compose, or disappears between characters that then meet
HARD = ["a", "e", "A\u030a", "\u0301", "\u0327", "\u0300", "\u0345", "\u0e48", "\u0e38", "\u094d", "\u093c", "\u0915"]
HARD += [
    "\u1100",
    "\u1161",
    "\u11a8",
    "가",
    "각",
    "\u212b",
    "\u2126",
    "\u0958",
    "\u0344",
    "\ufb1d",
    "\U0001d15e",
    "\u2000",
    "é",
]
HARD += ["\x00", "\x1b", "\x7f", "\x80", "\x85", "\x9f", "\ufeff", "\u200d", "\u00ad", "\u00a0", "\ufffe"]
HARD += [
    "\r\n",
    "\r",
    "\n",
    "\n\n",
    "\v",
    "\f",
    "\u2028",
    "\u2029",
    "\t",
    " ",
    "plain text of more than thirty-two bytes in a row",
]
TEXTS = st.lists(st.one_of(st.sampled_from(HARD), st.text(st.characters(codec="utf-8"), max_size=2)), max_size=14).map(
    "".join
)
RULES = st.tuples(st.sampled_from([0, 1, 2, 3]), st.booleans())

BREAK = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")


def cleaned(text: str, max_newlines: int, strip: bool) -> tuple[str, int, int]:
    text, breaks = BREAK.subn("\n", text)
    text, controls = CONTROL.subn("", text)
    if max_newlines:
        text = re.sub(f"\n{{{max_newlines + 1},}}", "\n" * max_newlines, text)
    return text.strip() if strip else text, controls, breaks


def buffers(texts: list[str]):
    return text_buffers(pa.array(["before", *texts, "after"], pa.large_string())[1:-1])


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXTS, max_size=4), RULES)
@example(["\u0e48\x00\u094d", "\r\x00\n", "\n\x00\n\r\n", "\ufeff", " \x00 "], (1, True))
def test_clean_equals_plain_python_and_leaves_the_rest(texts, rules):
    tables = nfc_table(), str_classes()
    data, offsets = buffers(texts)
    flags = kernel.scan(data, offsets, *tables, *rules)
    expected = [cleaned(text, *rules) for text in texts]
    assert [bool(flag & kernel.CLEAN) for flag in flags] == [new[0] != old for new, old in zip(expected, texts)]
    new_data, new_offsets, controls, breaks = kernel.clean(data, offsets, flags, *tables, *rules)
    new = text_array(new_data, new_offsets)
    new.validate(full=True)
    assert list(zip(new.to_pylist(), controls.tolist(), breaks.tolist())) == expected
    again = kernel.scan(*text_buffers(new), *tables, *rules)
    assert not (again & kernel.CLEAN).any()


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXTS, max_size=4), RULES)
@example(["\u0e48\x00\u094d", "\u0e48\x00\u0e38", "e\ufeff\u0301", "\u0345\u0300"], (0, False))
def test_text_that_nfc_changes_once_it_is_clean_is_found(texts, rules):
    flags = kernel.scan(*buffers(texts), nfc_table(), str_classes(), *rules)
    for text, flag in zip(texts, flags):
        clean = cleaned(text, *rules)[0]
        assert flag & kernel.COMPOSE or unicodedata.normalize("NFC", clean) == clean


def test_common_scripts_need_no_composition():
    texts = [
        "Größe déjà vu",
        "Быстрая лиса",
        "漢字かなガ",
        "हिन्दी की किताब",
        "ภาษาไทยที่นี่",
        "한국어 각",
        "עִבְרִית",
        "Tiếng Việt",
        "a\r\nb\x00",
    ]
    flags = kernel.scan(
        *buffers([unicodedata.normalize("NFC", text) for text in texts]), nfc_table(), str_classes(), 0, False
    )
    # pointed Hebrew holds no composition candidate; only an unknown or reordered mark asks unicodedata
    assert not (flags & kernel.COMPOSE).any()


def test_inert_code_points_never_change_beside_any_mark():
    """Each value 0 or class: NFC leaves the character alone, and what composes with a letter before it is MAY_COMPOSE."""
    table = nfc_table()
    bases = "aeiouAcdhkns\u0915\u09c7\u0b47\u0dd9\u1100가\u3046\u30ab\u05d9\u0627\u0391\u0438\U00011099\U000114b9"
    for code in range(0x110000):
        char = chr(code)
        if table[code] <= 240 and not 0xD800 <= code < 0xE000:
            assert unicodedata.combining(char) == table[code]
            assert unicodedata.normalize("NFC", char) == char
            if table[code]:
                assert all(unicodedata.normalize("NFC", base + char) == base + char for base in bases)


def test_removed_characters_are_the_documented_ones():
    table = nfc_table()
    chars = {kind: {chr(code) for code in range(0x110000) if table[code] == kind} for kind in (REMOVED, LINE_BREAK)}
    assert chars[REMOVED] == {chr(code) for code in range(0x10000) if CONTROL.match(chr(code))}
    assert chars[LINE_BREAK] == set("\r\v\f\x85\u2028\u2029")
    assert (table == MAY_COMPOSE).sum() > 1000


@pytest.mark.parametrize("position", [0, 1, 30, 31, 32, 33, 63, 64, 95])
@pytest.mark.parametrize("char", ["\r", "\x00", "\x7f", "\x80", "\u2028", "\ufeff"])
def test_one_bad_character_is_found_wherever_it_lies(char, position):
    text = "x" * position + char + "y" * (95 - position)
    flags = kernel.scan(*buffers([text]), nfc_table(), str_classes(), 0, False)
    assert flags.tolist() == [kernel.CLEAN]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_runs_of_newlines_are_found_at_every_offset(limit):
    texts = ["x" * before + "\n" * run + "y" * 7 for before in range(8) for run in range(limit + 4)]
    flags = kernel.scan(*buffers(texts), nfc_table(), str_classes(), limit, False)
    assert flags.tolist() == [int("\n" * (limit + 1) in text) for text in texts]
