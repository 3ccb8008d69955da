"""perplexity_buckets: the buckets of a sorted list, whatever the units, their order, ties and groups; cut-offs that mean
the same when they are frozen and used again."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.stages import _selection
from tamis.stages.errors import RecipeError
from tamis.stages.perplexity_buckets import PerplexityBuckets
from tamis.stages.threshold import Threshold

from .local_context import resolve, resolve_killed_at_every_receipt


def buckets(**config: Any) -> PerplexityBuckets:
    config.setdefault("column", "ppl")
    return PerplexityBuckets(PerplexityBuckets.Config(**config), name="perplexity_buckets")


def frozen(facts: dict[str, Any], **config: Any) -> PerplexityBuckets:
    stage = PerplexityBuckets(PerplexityBuckets.Config(**{"from": "earlier", **config}), name="again", seed=3)
    stage.take(json.loads(json.dumps(facts)))
    return stage


def few_bins(keys: int) -> ExitStack:
    """Histograms so coarse that small tables take several rounds."""
    stack = ExitStack()
    for constant, value in (("MOST_BINS", 12), ("BINS", (2, 5)), ("MOST_KEYS", keys), ("COMPACT", 3)):
        stack.enter_context(mock.patch.object(_selection, constant, value))
    return stack


def naive_cuts(scores: list[tuple[float, int]], at: list[float]) -> list[float | None]:
    """Of (number, weight): the first number, from the lowest up, at which the summed weight exceeds each percentile."""
    whole = sum(weight for _, weight in scores)
    found: list[float | None] = []
    for one in at:
        reached, cut = 0, None
        for number, weight in sorted(scores):
            reached += weight
            if reached > Fraction(str(one)) / 100 * whole:
                cut = number
                break
        found.append(cut)
    return found


def naive(rows: pa.Table, config: dict[str, Any]) -> list[str | None]:
    numbers = rows["ppl"].to_pylist()
    known = [x is not None and math.isfinite(x) for x in numbers]
    by = config.get("by", "docs")
    weights = [1] * len(rows) if by == "docs" else [w or 0 for w in rows[by].to_pylist()]
    groups = rows[config["group"]].to_pylist() if "group" in config else [None] * len(rows)
    sizes = Counter(g for g, there in zip(groups, known) if there)
    at, names = config.get("at", [30, 60]), config.get("names", ["head", "middle", "tail"])
    found = []
    for number, there, group in zip(numbers, known, groups):
        if not there:
            found.append(config.get("missing"))
            continue
        own = group is not None and sizes[group] >= config.get("min_group", 1000)
        series = [
            (x, w) for x, w, is_there, g in zip(numbers, weights, known, groups) if is_there and (not own or g == group)
        ]
        cuts = naive_cuts(series, at)
        found.append(names[sum(cut is not None and number >= cut for cut in cuts)])
    return found


NUMBERS = st.sampled_from([0.0, -0.0, 0.5, 0.5, 1.0, 340.0, float("nan"), None, float("inf")])
KINDS = {
    pa.float64(): NUMBERS | st.floats(0, 9),
    pa.float32(): NUMBERS | st.floats(0, 9, width=32),
    pa.int64(): st.sampled_from([0, 0, 1, -1, 2**63 - 1, -(2**63), None]) | st.integers(-9, 9),
    pa.uint64(): st.sampled_from([0, 1, 1, 2**64 - 1, None]),
}


@st.composite
def populations(draw) -> pa.Table:
    kind = draw(st.sampled_from(list(KINDS)))
    n = draw(st.integers(0, 30))

    def some(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    return pa.table(
        {
            "ppl": pa.array(some(KINDS[kind]), kind),
            "tokens": pa.array(some(st.none() | st.integers(0, 3)), pa.uint16()),
            "lang": pa.array(some(st.sampled_from(["en", "en", "de", "", None])), pa.string()),
        }
    )


@st.composite
def configs(draw) -> dict[str, Any]:
    config: dict[str, Any] = {"by": draw(st.sampled_from(["docs", "tokens"]))}
    if draw(st.booleans()):
        config |= {"group": "lang", "min_group": draw(st.integers(1, 6))}
    if draw(st.booleans()):
        config |= {"at": [0.1, 25, 50, 99.9], "names": list("abcde"), "missing": "all"}
    return config


@settings(max_examples=50, deadline=None)
@given(populations(), configs(), st.lists(st.integers(0, 30), max_size=4), st.integers(0, 9), st.sampled_from([1, 9]))
def test_buckets_are_those_of_a_sorted_list_for_any_units_order_and_number_of_rounds(rows, config, cuts, order, keys):
    expected = naive(rows, config)
    with few_bins(keys):
        verdict, facts = resolve(buckets(**config), rows, cuts=[min(c, len(rows)) for c in cuts], order=order)
    assert verdict["bucket"].to_pylist() == expected
    assert verdict["rule"].null_count == len(rows), "nobody is dropped"
    assert resolve(buckets(**config), rows)[1] == facts
    there = Counter(name for name in expected if name is not None)
    assert {name: sums["docs"] for name, sums in facts["buckets"].items() if sums["docs"]} == {
        name: n for name, n in there.items() if name != config.get("missing")
    }
    assert sum(sums["weight"] for sums in facts["buckets"].values()) == facts["weight"]
    assert facts["without_score"] + facts["docs"] == len(rows)
    if "group" not in config:
        assert facts["overall"]["buckets"] == facts["buckets"]
    if facts["docs"]:
        stage = frozen(facts, missing=config.get("missing"))
        assert stage.kind == "measure"
        again = [name for i in range(0, len(rows), 3) for name in stage.measure(rows.slice(i, 3))["bucket"].to_pylist()]
        assert again == expected


def corpus(n: int) -> pa.Table:
    rng = np.random.default_rng(1)
    langs = np.array(["en", "de", "fr", None], object)[rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])]
    tokens = rng.integers(1, 9_000, n).astype(np.int32)
    return pa.table({"ppl": rng.lognormal(6, 1, n), "n_tokens": tokens, "lang": pa.array(langs.tolist())})


@pytest.mark.parametrize("by", ["docs", "n_tokens"])
def test_without_ties_every_bucket_of_every_language_holds_its_share_to_within_a_document(by):
    rows = corpus(4_000)
    verdict, facts = resolve(buckets(by=by, group="lang", min_group=300), rows, cuts=[1, 999, 3000], order=3)
    found = np.array(verdict["bucket"].to_pylist())
    lang = np.array(rows["lang"].to_pylist(), object)
    weights = np.ones(len(rows)) if by == "docs" else rows[by].to_numpy()
    assert set(facts["groups"]) == {"en", "de", "fr"}
    for group in ("en", "de", "fr"):
        own = lang == group
        reached = 0.0
        for name, end in (("head", 0.3), ("middle", 0.6)):
            reached += weights[own & (found == name)].sum()
            assert end * weights[own].sum() - weights[own].max() <= reached <= end * weights[own].sum()
        assert facts["groups"][group]["buckets"]["head"]["weight"] == weights[own & (found == "head")].sum()
    assert facts["without_group"] == (lang == None).sum()  # noqa: E711


def test_every_receipt_may_be_the_last_of_a_driver():
    rows = corpus(200)
    stage = buckets(group="lang", min_group=30, by="n_tokens")
    with few_bins(4):
        undisturbed = resolve(stage, rows, cuts=[50, 120, 150])
        verdict, facts = resolve_killed_at_every_receipt(stage, rows, cuts=[50, 120, 150], order=5)
    assert facts == undisturbed[1]
    assert verdict.equals(undisturbed[0])


def bucket_of(numbers: Sequence[float | None], **config: Any) -> list[str | None]:
    return resolve(buckets(**config), pa.table({"ppl": pa.array(numbers, pa.float64())}))[0]["bucket"].to_pylist()


def test_ten_documents_are_three_three_and_four():
    assert bucket_of([float(i) for i in range(10)]) == ["head"] * 3 + ["middle"] * 3 + ["tail"] * 4


def test_equal_numbers_are_never_split_and_no_bucket_holds_more_than_its_percentile():
    assert bucket_of([1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == ["head"] * 2 + ["middle"] * 4 + ["tail"] * 4
    assert bucket_of([1.0] * 9 + [2.0]) == ["tail"] * 10, (
        "90 % have one number, and 30 % is the most that head may hold"
    )
    assert bucket_of([7.0]) == ["tail"]


def test_a_document_without_a_number_has_no_bucket_or_the_one_that_is_asked_for():
    numbers = [1.0, None, math.nan, math.inf, 2.0]
    assert bucket_of(numbers, at=[50], names=["low", "high"]) == ["low", None, None, None, "high"]
    found = bucket_of(numbers, at=[50], names=["low", "high"], missing="all")
    assert found == ["low", "all", "all", "all", "high"]


def test_where_nothing_weighs_anything_all_are_in_the_first_bucket():
    rows = pa.table({"ppl": [1.0, 2.0], "w": pa.array([0, 0])})
    verdict, facts = resolve(buckets(by="w"), rows)
    assert verdict["bucket"].to_pylist() == ["head", "head"]
    assert facts["overall"]["cuts"] == [None, None]
    assert frozen(facts).measure(rows)["bucket"].to_pylist() == ["head", "head"]


def test_frozen_cut_offs_sort_new_documents_by_their_group_or_by_all():
    rows = pa.table({"ppl": [*map(float, range(10)), *map(float, range(100, 110))], "lang": ["en"] * 10 + ["de"] * 10})
    _, facts = resolve(buckets(group="lang", min_group=10), rows)
    assert facts["groups"]["en"]["cuts"] == [3.0, 6.0]
    assert facts["overall"]["cuts"] == [6.0, 102.0]
    new = pa.table({"loss": [2.9, 3.0, 6.0, 5.0, 101.0, 103.0], "l": ["en", "en", "en", "fr", None, "de"]})
    stage = frozen(facts, column="loss", group="l")
    assert stage.measure(new)["bucket"].to_pylist() == ["head", "middle", "tail", "head", "middle", "middle"]
    assert stage.needs == ("loss", "l")
    assert [(c.name, c.type) for c in stage.adds] == [("bucket", pa.string())]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"column": None}, "column: is required"),
        ({"at": [30]}, "3 of them; 1 percentiles make 2"),
        ({"at": [60, 30]}, "rise"),
        ({"at": [0, 30]}, "above 0"),
        ({"at": [30, 100]}, "below 100"),
        ({"at": [], "names": ["all"]}, "percentiles that rise"),
        ({"at": [0.3, 0.6]}, r"not shares: \[30, 60\]"),
        ({"names": ["a", "b", "a"]}, "a name of its own"),
        ({"missing": "tail"}, "a name of its own"),
        ({"min_group": 5}, "needs group"),
        ({"at": [10, 60], "from": "out"}, "at: comes with the cut-offs"),
        ({"by": "chars", "from": "out"}, "by: comes with the cut-offs"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(config, complaint):
    with pytest.raises(ValidationError, match=complaint):
        buckets(**config)


def test_what_a_threshold_froze_is_no_cut_off_and_the_reverse():
    rows = pa.table({"ppl": [1.0, 2.0]})
    _, cut_offs = resolve(buckets(), rows)
    threshold = Threshold(Threshold.Config(**{"column": "ppl", "keep": "50%"}), name="top")
    _, cut = resolve(threshold, rows)
    with pytest.raises(RecipeError, match="no perplexity_buckets"):
        frozen(cut)
    with pytest.raises(RecipeError, match="no threshold"):
        Threshold(Threshold.Config(**{"from": "earlier"}), name="top").take(cut_offs)
    with pytest.raises(RecipeError, match="no document with a score"):
        frozen(resolve(buckets(), rows.slice(0, 0))[1])


def test_columns_of_a_wrong_type_are_refused_before_the_run():
    schema = pa.schema([("ppl", pa.float32()), ("lang", pa.string()), ("tags", pa.list_(pa.string()))])
    buckets(group="lang", min_group=2).check(schema)
    for config, complaint in (
        ({"column": "lang"}, "column: lang is string"),
        ({"by": "ppl"}, "by: ppl is float"),
        ({"group": "tags"}, "group: tags is list"),
    ):
        with pytest.raises(RecipeError, match=complaint):
            buckets(**config).check(schema)
    _, facts = resolve(buckets(), pa.table({"ppl": [1, 2]}))
    with pytest.raises(RecipeError, match="integer scores"):
        frozen(facts).check(schema)


def test_the_cut_offs_are_part_of_the_key():
    first, second = (resolve(buckets(), pa.table({"ppl": [1.0, last]}))[1] for last in (2.0, 3.0))
    assert frozen(first).fingerprint() == frozen(first).fingerprint() != frozen(second).fingerprint()
    assert "from" in PerplexityBuckets.not_in_key
    assert not buckets().draws
