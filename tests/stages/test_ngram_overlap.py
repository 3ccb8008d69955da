"""ngram_overlap against dictionaries in plain Python, over any units, order of items, partitions and kills."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.stages import _windows
from tamis.stages.ngram_overlap import NgramOverlap

from . import naive_windows as naive
from .local_context import resolve, resolve_killed_at_every_receipt

few = st.sampled_from
texts_of = st.lists(
    st.lists(few(["a", "b", "a", " ", "\n", ".", "é", "中", "\n\n", "a b a b", "b a b a b a"]), max_size=25).map(
        "".join
    ),
    max_size=8,
)


def stage_of(**config) -> NgramOverlap:
    return NgramOverlap(NgramOverlap.Config(**config), name="ngram_overlap")


def small_tasks(patch: pytest.MonkeyPatch, size: int) -> None:
    """Slices of so many bytes, and partitions of three records."""
    patch.setattr(_windows, "SLICE_BYTES", size)
    patch.setattr(_windows, "SEEDS_PER_PART", (3, 3))
    patch.setattr(_windows, "WINDOWS_PER_PART", (3, 3))


@settings(max_examples=150, deadline=None)
@given(texts=texts_of, ngram=st.integers(1, 5), least=few([0.0, 0.5, 1.0]), scoped=st.booleans(), data=st.data())
def test_verdicts_equal_a_dictionary_for_any_units_items_and_partitions(texts, ngram, least, scoped, data):
    scopes = data.draw(st.lists(few(["x", "y", None]), min_size=len(texts), max_size=len(texts))) if scoped else None
    table = naive.table_of(texts, **({"site": scopes} if scoped else {}))
    cuts = data.draw(st.lists(st.integers(0, len(texts)), max_size=5))
    stage = stage_of(ngram=ngram, least=least, scope="site" if scoped else None)
    with pytest.MonkeyPatch.context() as patch:
        small_tasks(patch, data.draw(few([1, 20, 10_000])))
        verdict, facts = resolve(stage, table, cuts=cuts, order=data.draw(st.integers(0, 99)))
    expected = naive.overlap(texts, ngram, least, scopes)
    assert naive.given(verdict, "ngram_spans", "ngram_overlap") == expected
    known = [e for e in expected if e is not None]
    assert facts["documents"] == len(known)
    assert facts["seen_paragraphs"] == sum(len(spans) for spans, _ in known)


def test_a_paragraph_is_seen_only_by_what_stands_before_it():
    line = "one two three four five"
    table = naive.table_of([line, f"{line}\n{line}\nsix seven eight nine", "one two three", f"x\n{line} six"])
    verdict, facts = resolve(stage_of(ngram=4, least=0), table, cuts=[2])
    spans = [[(s["start"], s["end"], round(s["score"], 3)) for s in row] for row in verdict["ngram_spans"].to_pylist()]
    assert spans == [[], [(0, 24, 1.0), (24, 48, 1.0)], [], [(2, 29, 0.667)]]
    shares = verdict["ngram_overlap"].to_pylist()
    assert shares == [0.0, pytest.approx(4 / 5), None, pytest.approx(2 / 3)]
    assert facts == {"ngram": 4, "documents": 4, "paragraphs": 5, "ngrams": 10, "seen": 6, "seen_paragraphs": 3}


def test_a_paragraph_that_only_repeats_itself_is_unseen():
    verdict, _ = resolve(stage_of(ngram=2, least=0), naive.table_of(["ha ha ha ha ha ha\nho ho ho ho"]))
    assert verdict["ngram_spans"].to_pylist() == [[]]


def test_a_kill_after_every_receipt_changes_nothing(monkeypatch):
    small_tasks(monkeypatch, 30)
    table = naive.table_of([f"a b c {i % 3} d e f\ng h i {i % 5} j k" for i in range(12)])
    how = {"cuts": [3, 3, 7]}
    undisturbed = resolve(stage_of(ngram=3), table, **how)
    assert resolve_killed_at_every_receipt(stage_of(ngram=3), table, order=5, **how) == undisturbed
    assert undisturbed[1]["seen_paragraphs"] > 10


def test_no_rows_empty_units_and_dropped_rows():
    empty = naive.table_of([])
    for cuts in ([], [0, 0]):
        verdict, facts = resolve(stage_of(), empty, cuts=cuts)
        assert len(verdict) == 0
        assert facts["documents"] == facts["ngrams"] == 0
    table = naive.table_of(["a b c", "a b c", "a b c", ""], alive=[False, True, True, True])
    verdict, _ = resolve(stage_of(ngram=3), table, cuts=[1, 2])
    assert verdict["n"].to_pylist() == [1, 2, 3]
    assert verdict["ngram_overlap"].to_pylist() == [0.0, 1.0, None]


@pytest.mark.parametrize("config", [{"ngram": 0}, {"ngram": 1001}, {"least": 1.5}, {"bytes": 3}])
def test_a_wrong_config_is_refused(config):
    with pytest.raises(ValidationError):
        stage_of(**config)


@pytest.fixture(scope="module")
def pages(shared_data) -> list[str]:
    file = sorted((shared_data / "web").glob("*.parquet"))[0]
    return pq.read_table(file, columns=["text"])["text"].to_pylist()[::40]


@pytest.mark.parametrize("ngram", [13, 5])
def test_real_text_equals_a_dictionary(pages, ngram, monkeypatch):
    monkeypatch.setattr(_windows, "SLICE_BYTES", 100_000)
    monkeypatch.setattr(_windows, "SEEDS_PER_PART", (1000, 3000))
    monkeypatch.setattr(_windows, "WINDOWS_PER_PART", (1000, 1000))
    texts = pages + pages[:20] + [page.replace("e", "E", 3) for page in pages[20:40]]
    verdict, facts = resolve(stage_of(ngram=ngram), naive.table_of(texts), cuts=[50, 51, 120], order=0)
    assert naive.given(verdict, "ngram_spans", "ngram_overlap") == naive.overlap(texts, ngram)
    assert facts["seen_paragraphs"] > 200


def test_what_one_pass_of_bff_cuts_is_cut_here_too(pages):
    texts = pages + pages[:20] + [page.replace("e", "E", 3) for page in pages[20:40]]
    verdict, _ = resolve(stage_of(), naive.table_of(texts))
    cut = [[(s["start"], s["end"]) for s in row if s["score"] > 0.8] for row in verdict["ngram_spans"].to_pylist()]
    gone = [share is not None and share > 0.8 for share in verdict["ngram_overlap"].to_pylist()]
    oracle = naive.old_both(texts, 13, 0.8)
    assert all(set(theirs) <= set(ours) for (theirs, _), ours in zip(oracle, cut))
    assert all(ours >= theirs for (_, theirs), ours in zip(oracle, gone))
    more = sum(map(len, cut)) - sum(len(theirs) for theirs, _ in oracle)
    assert 0 <= more < 0.05 * sum(map(len, cut))
    assert sum(gone) >= 20
