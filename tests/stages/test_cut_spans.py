"""cut_spans: what is cut is what whole characters in the picked spans are, whatever the columns, the batch or the order."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.stages._spans import SPANS, span_column
from tamis.stages.cut_spans import CutSpans, CutSpansConfig
from tamis.stages.errors import RecipeError, StageError

Span = tuple[int, int, float, str]
Rows = Sequence[list[Span] | None]


def stage(**config: Any) -> CutSpans:
    made = CutSpansConfig(**{"spans": "found", **config})
    return CutSpans(made, name="cut_spans")


def column(rows: Rows) -> pa.Array:
    names = ("start", "end", "score", "kind")
    return pa.array([None if row is None else [dict(zip(names, s)) for s in row] for row in rows], SPANS)


def batch(texts: list[str], **columns: Rows) -> pa.Table:
    ids = [f"d{i}" for i in range(len(texts))]
    spans = {name: column(rows) for name, rows in columns.items()}
    return pa.table({"text": pa.array(texts, pa.large_string()), "doc_id": ids, **spans})


def edited(table: pa.Table, **config: Any) -> list[tuple[str, int, int]]:
    """(text, cut_bytes, cut_count) of every row."""
    found = stage(**config).edit(table)
    return list(zip(*(found[name].to_pylist() for name in ("text", "cut_bytes", "cut_count")), strict=True))


def oracle(text: str, spans: list[tuple[int, int]], replace: str, min_words: int) -> tuple[str, int, int]:
    """By a mask over bytes: each run of marked ones is a cut of the characters that lie in it as a whole."""
    mask = bytearray(len(text.encode()))
    for start, end in spans:
        mask[start:end] = b"x" * (end - start)
    runs = [match.span() for match in re.finditer(b"x+", mask)]
    ends = [0, *itertools.accumulate(len(character.encode()) for character in text)]
    left, plain, removed, cuts = "", "", 0, set()
    for character, start, end in zip(text, ends, ends[1:], strict=False):
        inside = [run for run in runs if run[0] <= start and end <= run[1]]
        if not inside:
            left, plain = left + character, plain + character
            continue
        left += "" if inside[0] in cuts else replace
        removed += end - start
        cuts.add(inside[0])
    if cuts and len(plain.split()) < min_words:
        left = ""
    return left, removed, len(cuts)


words = st.lists(
    st.sampled_from(["a", "bc", "\u00e9", "\u4e2d\u6587", "\U0001f600", " ", "\n", "\u3000", "\x1c"]), max_size=25
)
some = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["repeat", "other"])), max_size=5)


def placed(text: str, drawn: list[tuple[float, float, str]]) -> list[Span]:
    """Spans anywhere in the text, inside characters too."""
    size = len(text.encode())
    ends = [(*sorted((round(a * size), round(b * size))), kind) for a, b, kind in drawn]
    return sorted((start, end, 1.0, kind) for start, end, kind in ends)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(words, some, some, st.booleans()), min_size=1, max_size=4),
    st.sampled_from(["", "\u2026", "[...]"]),
    st.integers(0, 4),
)
@example([(["\U0001f600", "a"], [(0.2, 0.6, "repeat")], [(0.6, 1, "repeat")], False)], "-", 0)
@example([(["a", "\u4e2d\u6587"], [(0, 0.4, "repeat")], [(0.8, 1, "repeat")], False)], "", 1)
def test_it_agrees_with_python_character_by_character(rows, replace, min_words):
    texts = ["".join(row[0]) for row in rows]
    one = [placed(text, row[1]) for text, row in zip(texts, rows)]
    other = [None if row[3] else placed(text, row[2]) for text, row in zip(texts, rows)]
    found = edited(batch(texts, one=one, other=other), spans=("one", "other"), replace=replace, min_words=min_words)
    for text, first, second, got in zip(texts, one, other, found, strict=True):
        picked = [(s[0], s[1]) for s in [*first, *(second or [])] if s[3] == "repeat"]
        assert got == oracle(text, picked, replace, min_words)


def test_spans_are_picked_by_score_kind_and_length_and_a_null_picks_nothing():
    text = "0123456789"
    spans = column([[(0, 1, 0.2, "a"), (2, 4, 0.9, "a"), (5, 6, 0.9, "b")]]).to_pylist()[0]
    spans.append({"start": 7, "end": 9, "score": None, "kind": "a"})
    table = pa.table({"text": pa.array([text], pa.large_string()), "doc_id": ["d"], "found": pa.array([spans], SPANS)})
    for where, left in [
        ("kind = 'a'", "14569"),
        ("score > 0.5", "0146789"),
        ("bytes >= 2", "014569"),
        ("kind = 'a' AND (score < 0.5 OR bytes > 1)", "14569"),
        ("true", "1469"),
        ("kind = 'repeat'", text),
    ]:
        assert edited(table, where=where)[0][0] == left, where


def test_a_text_without_a_picked_span_is_left_alone_however_few_words_it_has():
    texts = ["one", "", "two words", "x y z"]
    rows: Rows = [[(0, 3, 1, "other")], None, [(2, 2, 1, "repeat")], [(0, 2, 1, "repeat")]]
    found = edited(batch(texts, found=rows), min_words=9)
    assert found == [("one", 0, 0), ("", 0, 0), ("two words", 0, 0), ("", 2, 1)]
    table = batch(texts[:3], found=rows[:3])
    untouched = stage(min_words=9).edit(table)
    assert untouched["text"].chunk(0).buffers()[2].address == table["text"].chunk(0).buffers()[2].address


def test_replacements_are_no_words_and_a_cut_does_not_end_one():
    table = batch(["ab cd ef", "abXcd"], found=[[(0, 5, 1, "repeat")], [(2, 3, 1, "repeat")]])
    assert edited(table, replace=" [...] ", min_words=1)[0][0] == " [...]  ef"
    assert [row[0] for row in edited(table, replace=" [...] ", min_words=2)] == ["", ""]


def test_order_and_columns_of_the_spans_do_not_matter():
    draw = random.Random(3)
    text = "the quick brown fox jumps over the lazy dog " * 5
    spans = [(a, a + draw.randint(0, 30), 1.0, "repeat") for a in draw.sample(range(180), 12)]
    expected = edited(batch([text], found=[sorted(spans)]), replace="_")
    for _ in range(10):
        draw.shuffle(spans)
        assert edited(batch([text], found=[spans]), replace="_") == expected
        at = draw.randrange(len(spans))
        parts = batch([text], one=[spans[:at]], other=[spans[at:]])
        assert edited(parts, spans=("other", "one"), replace="_") == expected


def test_rows_are_cut_alike_alone_and_in_slices_of_a_larger_batch():
    draw = random.Random(5)
    texts = ["".join(draw.choices("ab \u00e9\u4e2d\n", k=draw.randint(0, 60))) for _ in range(40)]
    rows = [placed(t, [(draw.random(), draw.random(), "repeat")] * (i % 3)) for i, t in enumerate(texts)]
    table = batch(texts, found=[None if i % 7 == 0 else row for i, row in enumerate(rows)])
    whole = edited(table, replace="+", min_words=3)
    for start, stop in itertools.pairwise([0, 1, 13, 13, 25, 40]):
        assert edited(table.slice(start, stop - start), replace="+", min_words=3) == whole[start:stop]


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((0, 5, 1, "repeat"), "from byte 0 to 5, and the text has 4 bytes"),
        ((-1, 2, 1, "repeat"), "from byte -1 to 2"),
        ((3, 2, 1, "other"), "from byte 3 to 2"),
        ((None, 2, 1, "repeat"), "from byte None to 2"),
        ((1, None, 1, "repeat"), "from byte 1 to None"),
    ],
)
def test_a_span_outside_its_text_is_an_error_that_names_the_document(span, said):
    table = batch(["good", "v\u00e9t", "fine"], found=[[(0, 4, 1, "repeat")], [span], None])
    with pytest.raises(StageError, match=f"cut_spans: document d1: a span of found goes {said}"):
        stage().edit(table)


def test_it_takes_what_span_column_makes():
    rows = np.array([0, 0, 2])
    spans = span_column(3, rows, np.array([0, 2, 2]), np.array([1, 3, 3]), np.ones(3), "repeat")
    table = pa.table(
        {"text": pa.array(["abcd", "efgh", "ijkl"], pa.large_string()), "doc_id": list("xyz"), "found": spans}
    )
    assert [row[0] for row in edited(table)] == ["bd", "efgh", "ijl"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"spans": []}, "at least one"),
        ({"spans": ["a", "a"]}, "a stands there twice"),
        ({"replace": "\ud800"}, "half a character"),
        ({"min_words": -1}, "greater than or equal"),
        ({"span": "a"}, "Extra inputs"),
    ],
)
def test_a_wrong_config_is_refused(config, said):
    with pytest.raises(ValidationError, match=said):
        stage(**config)


@pytest.mark.parametrize(
    ("kind", "where", "said"),
    [
        (pa.list_(pa.int64()), "true", "spans: found is list<item: int64>, must hold spans"),
        (SPANS, "knd = 'repeat'", "no such column: knd. Did you mean: kind"),
        (SPANS, "kind", "must be true or false"),
        (SPANS, "score >", "where: spans: score >"),
        (SPANS, "random() > 0.5", "not a pure function"),
    ],
)
def test_a_column_or_condition_that_cannot_work_is_refused_before_the_run(kind, where, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        stage(where=where).check(pa.schema([("text", pa.large_string()), ("found", kind), ("doc_id", pa.string())]))
