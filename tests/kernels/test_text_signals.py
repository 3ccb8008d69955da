"""The compiled statistics equal plain Python, column by column and to the last bit, on text made of what could go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tamis.kernels import text_signals as kernel
from tamis.kernels.byte_hash import hash_bytes, hash_short, load
from tamis.stages.text_signals import SIGNALS, TextSignals, TextSignalsConfig

from . import naive_signals as naive

_FRAGMENTS = (
    "the¦The¦THAT¦with¦be¦of¦to¦and¦have¦a¦I¦word¦naïve¦interconnection¦Straße¦"
    "don't¦cannot¦Cannot¦we'll¦he’s¦U.S.¦J.¦Mr.¦vs.¦e.g.¦NATO.¦a.m.¦Messrs.¦'s¦"
    "3.14¦1,000¦5kg¦10%¦20km/h¦$5¦5$¦+5¦5+¦1-2¦a-b-c¦a--b¦a---b¦a----b¦a—b¦v.s.¦"
    "http://example.com/a?b=c¦x@example.org¦example.com:80/x¦www.a-b.co.uk¦a.b¦a.B¦foo_bar¦_x_¦and/or¦"
    '#¦##¦...¦..¦.¦…¦. . .¦....¦-¦*¦•¦●¦- x¦* x¦|¦`x`¦```¦"q"¦(x)¦[1]¦'
    "{¦}¦lorem ipsum¦Lorem IPSUM¦javascript¦JavaScript:¦İ¦K¦ſ¦ß¦ǅ¦²¦½¦Ⅷ¦٣¦€¦€5¦"
    "清明¦茶¦ひらがな¦カタカナ¦ｶﾞ¦한국어¦ตลาดน้ำ¦ພາສາ¦မြန်မာ¦ភាសា¦नमस्ते¦العربية¦שלום¦צה\"ל¦ג'ירף¦"
    "?!¦!¦?¦。¦！¦։¦؟¦॥¦can:not¦a:b¦a=b¦<a>¦=>¦~¦^¦2^3¦a,b¦a,¦1,¦"
    "e\u0301¦a\u0300\u0301¦\u0301¦\u200d¦\u200b¦\ufeff¦👍¦👨\u200d👩\u200d👧¦🇩🇪¦❤\ufe0f¦©¦\0¦be\0¦"
)
FRAGMENTS = [*filter(None, _FRAGMENTS.split("¦")), "x" * 70, "ab" * 9]
_GAPS = (
    " ¦ ¦ ¦ ¦¦  ¦\n¦\n\n¦\n\n\n¦\r\n¦\r¦\t¦\v¦\f¦\x1c¦\x1e¦\x1f¦\x85¦\u2028¦\u2029¦\u00a0¦\u3000¦\u200b¦\n\r\n¦ \n¦\n "
)
GAPS = _GAPS.split("¦")

PIECES = st.lists(st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(GAPS)), max_size=40)
RAW = st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"], max_codepoint=0xFFFF), max_size=40)
TEXTS = st.one_of(
    PIECES.map(lambda pieces: "".join(a + b for a, b in pieces)),
    st.tuples(PIECES, st.integers(2, 5)).map(lambda x: "".join(a + b for a, b in x[0][:12]) * x[1]),
    st.lists(st.sampled_from(["a b", "a b c d e f", "ab", "", " ", "x.", "- y"]), max_size=25).map("\n".join),
    st.lists(st.sampled_from("abc"), max_size=60).map(" ".join),
    RAW,
)
PROBES = [
    "",
    " ",
    "\n",
    "\n\n",
    "a",
    ".",
    "\0",
    "a\n",
    "\na\n",
    "word " * 30,
    "\u2028",
    "a\u2028\u2028b",
    "é",
    "日本",
    "-" * 50,
]


def stage(**config: Any) -> TextSignals:
    return TextSignals(TextSignalsConfig(**config), name="text_signals")


def measured(texts: Sequence[str | None], **config: Any) -> list[dict[str, Any]]:
    return stage(**config).measure(pa.table({"text": pa.array(texts, pa.large_string())})).to_pylist()


def differences(texts: Sequence[str | None], **config: Any) -> list[tuple[str | None, str, Any, Any]]:
    rows = measured(texts, **config)
    expected = [naive.signals(text, **({"short": config["short_line"]} if config else {})) for text in texts]
    assert set(rows[0]) == set(expected[0])
    return [
        (text, name, row[name], want[name])
        for text, row, want in zip(texts, rows, expected)
        for name in row
        if row[name] != want[name] or type(row[name]) is not type(want[name])
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, min_size=1, max_size=4))
@example(PROBES)
@example(FRAGMENTS)
def test_every_column_equals_plain_python(texts: list[str]) -> None:
    assert differences(texts) == []


def test_every_column_equals_plain_python_on_real_text(shared_data: Any) -> None:
    import pyarrow.parquet as pq

    texts = pq.read_table(shared_data / "web" / "web-00003.parquet", columns=["text"])["text"].to_pylist()
    assert differences([text[:3000] for text in texts[::60]]) == []


def test_the_length_of_a_short_line_is_a_setting() -> None:
    texts = ["one\nthree four\nfive"]
    assert differences(texts, short_line=3) == []
    assert measured(texts, short_line=3)[0]["short_line_ratio"] == 1 / 3


def test_nothing_that_surrounds_a_text_reaches_into_its_values() -> None:
    texts = ["abc", "def ghi", "", "don't stop...", "...", "é", "lorem ips", "um", "the", "\n", "\n\nx", "x" * 20, "y"]
    together = measured(texts)
    assert together == [measured([text])[0] for text in texts]
    backwards = measured(texts[::-1])
    assert together == backwards[::-1]


def test_slices_and_read_only_buffers_are_read_in_place() -> None:
    texts = [f"document {i} has {'very ' * i}few words." for i in range(20)]
    array = pa.array(texts, pa.large_string())
    part = array.slice(7, 5)
    assert stage().measure(pa.table({"text": part})).to_pylist() == measured(texts[7:12])
    raw = "".join(texts).encode()
    offsets = np.cumsum([0, *(len(t.encode()) for t in texts)])
    for data in (np.frombuffer(raw, np.uint8), np.frombuffer(raw, np.uint8).copy()):
        for first in (offsets[3:], offsets[3:].copy()):
            first.setflags(write=data.flags.writeable)
            found = kernel.text_signals(data, first, kernel.EVERYTHING, 30)
            assert (found == kernel.text_signals(data, offsets, kernel.EVERYTHING, 30)[3:]).all()


def test_a_group_that_nobody_asks_for_is_not_computed_and_changes_no_other() -> None:
    raw = b"The same line.\nThe same line.\n\nAnother # one... with javascript {\n"
    data, offsets = np.frombuffer(raw, np.uint8), np.array([0, len(raw)])
    everything = kernel.text_signals(data, offsets, kernel.EVERYTHING, 30)[0]
    places = [*sorted(place for _, place in kernel.GROUPS.values()), kernel.WIDTH]
    for bit, place in kernel.GROUPS.values():
        alone = kernel.text_signals(data, offsets, bit, 30)[0]
        end = places[places.index(place) + 1]
        assert (alone[place:end] == everything[place:end]).all()
        silent = [p for b, p in kernel.GROUPS.values() if b != bit and p > kernel.AT_PHRASES]
        needed = {kernel.AT_WORDS, kernel.AT_SPACE, kernel.AT_UNICODE}  # words come with their n-grams
        assert all(not alone[p : places[places.index(p) + 1]].any() for p in silent if p not in needed)


@given(st.binary(max_size=40), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_a_hash_depends_on_the_bytes_and_not_on_their_place(raw: bytes, before: int, after: int) -> None:
    alone = np.frombuffer(raw + b"", np.uint8)
    inside = np.frombuffer(b"\xff" * before + raw + b"\xee" * after, np.uint8)
    assert hash_bytes(alone, 0, len(raw)) == hash_bytes(inside, before, before + len(raw))
    if len(raw) <= 8:
        packed = np.uint64(int.from_bytes(raw, "little"))
        assert hash_short(packed, len(raw)) == hash_bytes(alone, 0, len(raw))
        if raw:
            assert load(alone, 0) == packed


def test_texts_of_one_repeated_word_and_of_equal_lines_stay_linear_and_right() -> None:
    many = "go " * 20_000
    row = measured([many])[0]
    assert (row["words"], row["dup_line_frac"]) == (20_000, 0.0)
    assert row["top_2gram"] == 5 * 19_999 / 60_000
    assert row["dup_10gram"] == 20 * 1_999 / 60_000
    assert row["dup_10gram_dclm"] == row["dup_10gram_dolma"] == 1.0
    assert measured(["same\n" * 30_000])[0]["dup_line_frac"] == 29_999 / 30_001


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda s: s.name)
def test_every_column_has_a_sql_name_and_one_line_of_definition(signal: Any) -> None:
    assert signal.name.replace("_", "").isalnum()
    assert signal.name == signal.name.lower()
    assert signal.doc
    assert "\n" not in signal.doc
