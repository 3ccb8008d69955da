"""substring_dedup against dictionaries in plain Python and against a suffix array, over any units, items and kills."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.stages import _windows
from tamis.stages.substring_dedup import SubstringDedup

from . import naive_windows as naive
from .local_context import LocalContext, resolve, resolve_killed_at_every_receipt
from .test_ngram_overlap import few, small_tasks, texts_of


def stage_of(**config) -> SubstringDedup:
    return SubstringDedup(SubstringDedup.Config(**config), name="substring_dedup")


def given_by(verdict):
    return naive.given(verdict, "substring_spans", "substring_repeated")


@settings(max_examples=200, deadline=None)
@given(texts=texts_of, length=st.integers(1, 6), how=few(["tokens", "bytes", "scoped"]), data=st.data())
def test_verdicts_equal_a_dictionary_for_any_units_items_and_partitions(texts, length, how, data):
    scopes = None
    if how == "scoped":
        scopes = data.draw(st.lists(few(["x", "y", None]), min_size=len(texts), max_size=len(texts)))
    table = naive.table_of(texts, **({"site": scopes} if scopes is not None else {}))
    stage = (
        stage_of(bytes=length)
        if how == "bytes"
        else stage_of(length=length, scope="site" if scopes is not None else None)
    )
    cuts = data.draw(st.lists(st.integers(0, len(texts)), max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        small_tasks(patch, data.draw(few([4, 40, 10_000])))
        verdict, facts = resolve(stage, table, cuts=cuts, order=data.draw(st.integers(0, 99)))
    expected = naive.repeated(texts, length, by_bytes=how == "bytes", scopes=scopes)
    assert given_by(verdict) == expected
    spans = [span for e in expected if e is not None for span in e[0]]
    for kind, name in (("repeat", "repeat"), ("kept", "kept")):
        of = [end - start for start, end, _, k in spans if k == kind]
        assert (facts["repeats" if kind == "repeat" else "kept"], facts[f"{name}_bytes"]) == (len(of), sum(of))


def test_a_span_ends_where_what_stood_before_ends():
    verdict, _ = resolve(
        stage_of(length=4), naive.table_of(["a b c d e f", "u v a b c d w x y", "b c d w x y, a b c d"])
    )
    assert given_by(verdict) == [
        ([(0, 7, 3.0, "kept")], 0.0),
        ([(4, 11, 3.0, "repeat"), (11, 17, 2.0, "kept")], pytest.approx(7 / 17)),
        ([(0, 11, 2.0, "repeat"), (13, 20, 3.0, "repeat")], pytest.approx(18 / 20)),
    ]


@settings(max_examples=80, deadline=None)
@given(texts=texts_of, length=st.integers(1, 5))
def test_every_window_of_the_corpus_is_still_there_or_overlaps_a_repeat(texts, length):
    """What `kind = 'repeat'` cuts stands earlier, uncut or as a repeat of what stands earlier still."""
    verdict, _ = resolve(stage_of(length=length), naive.table_of(texts))
    left = set()
    for text, row in zip(texts, verdict["substring_spans"].to_pylist()):
        cut = [(s["start"], s["end"]) for s in row if s["kind"] == "repeat"]
        left |= {t for a, b, t in naive.tokens(text) if not any(x <= a and b <= y for x, y in cut)}
    assert left == {t for text in texts for _, _, t in naive.tokens(text)}


def test_a_window_that_repeats_everywhere_is_one_record_an_item(monkeypatch):
    small_tasks(monkeypatch, 400)
    context = LocalContext(stage_of(length=5), naive.table_of(["la " * 40] * 20))
    context.resolve()
    items = [parts[:-2] for (phase, _), parts in context.files.items() if phase == "windows"]
    assert len(items) > 3
    assert sum(len(pickle.loads(part)) // 2 for parts in items for part in parts) == len(items)
    first, *others = given_by(context.verdict)
    assert first == ([(0, 3, 720.0, "kept"), (3, 119, 720.0, "repeat")], pytest.approx(116 / 120))
    assert others == [([(0, 119, 720.0, "repeat")], pytest.approx(119 / 120))] * 19


@pytest.mark.parametrize("config", [{"length": 5}, {"bytes": 5}])
def test_a_kill_after_every_receipt_changes_nothing(monkeypatch, config):
    small_tasks(monkeypatch, 40)
    table = naive.table_of([f"a b c {i % 3} d e f g h i {i % 5} j k" for i in range(12)])
    how = {"cuts": [3, 3, 7]}
    undisturbed = resolve(stage_of(**config), table, **how)
    assert resolve_killed_at_every_receipt(stage_of(**config), table, order=5, **how) == undisturbed
    assert undisturbed[1]["repeats"] > 5


def test_no_rows_empty_units_and_dropped_rows():
    for cuts in ([], [0, 0]):
        verdict, facts = resolve(stage_of(), naive.table_of([]), cuts=cuts)
        assert len(verdict) == 0
        assert facts["documents"] == facts["windows"] == 0
    table = naive.table_of(["a b c", "a b c", "a b c", ""], alive=[False, True, True, True])
    verdict, _ = resolve(stage_of(length=3), table, cuts=[1, 2])
    assert verdict["n"].to_pylist() == [1, 2, 3]
    assert given_by(verdict) == [([(0, 5, 2.0, "kept")], 0.0), ([(0, 5, 2.0, "repeat")], 1.0), ([], 0.0)]


@pytest.mark.parametrize("config", [{"length": 0}, {"length": 1001}, {"bytes": 0}, {"length": 50, "bytes": 100}])
def test_a_wrong_config_is_refused(config):
    with pytest.raises(ValidationError):
        stage_of(**config)


@pytest.fixture(scope="module")
def pages(shared_data) -> list[str]:
    file = sorted((shared_data / "web").glob("*.parquet"))[1]
    pages = pq.read_table(file, columns=["text"])["text"].to_pylist()[::25]
    return pages + [page[len(page) // 3 :] + page[: len(page) // 3] for page in pages[:20]]


@pytest.fixture
def middling_tasks(monkeypatch):
    monkeypatch.setattr(_windows, "SLICE_BYTES", 100_000)
    monkeypatch.setattr(_windows, "SEEDS_PER_PART", (1000, 5000))
    monkeypatch.setattr(_windows, "WINDOWS_PER_PART", (1000, 20_000))


@pytest.mark.parametrize("length", [50, 12])
def test_real_text_equals_a_dictionary(pages, length, middling_tasks):
    pages = pages[:40] + pages[-20:]
    verdict, facts = resolve(stage_of(length=length), naive.table_of(pages), cuts=[20, 21, 40], order=0)
    assert given_by(verdict) == naive.repeated(pages, length)
    assert facts["repeats"] >= 10
    for text, row in zip(pages, verdict["substring_spans"].to_pylist()):
        data = text.encode()
        assert all(data[s["start"] : s["end"]].decode() for s in row)  # cut between characters


def test_bytes_in_spans_are_those_that_a_suffix_array_finds(pages, middling_tasks):
    divsufsort = pytest.importorskip("pydivsufsort")
    length = 100
    documents = [page.encode() for page in pages]
    joined = np.frombuffer(b"\xff".join(documents) + b"\xff", np.uint8).copy()  # 255 stands in no text
    suffixes = divsufsort.divsufsort(joined)
    shared = divsufsort.kasai(joined, suffixes)  # shared[i]: prefix that suffixes i and i + 1 have in common
    most = np.maximum(shared, np.roll(shared, 1))
    ends = np.flatnonzero(joined == 255)
    room = ends[np.searchsorted(ends, suffixes)] - suffixes
    starts = suffixes[(most >= length) & (room >= length)]
    marks = np.zeros(len(joined) + 1, np.int64)
    np.add.at(marks, starts, 1)
    np.add.at(marks, starts + length, -1)
    verdict, facts = resolve(stage_of(bytes=length), naive.table_of(pages), cuts=[30, 90], order=3)
    found, at = np.zeros(len(joined), np.bool_), 0
    for document, row in zip(documents, verdict["substring_spans"].to_pylist()):
        for span in row:
            found[at + span["start"] : at + span["end"]] = True
        at += len(document) + 1
    assert len(joined) > 500_000
    assert facts["recurring"] == len(starts) > 50_000
    assert (found == (np.cumsum(marks)[:-1] > 0)).all()
