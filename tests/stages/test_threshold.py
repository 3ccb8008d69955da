"""threshold: the asked share to the document, whatever the scores, the groups, the units and their order; cuts that
mean the same when they are frozen and used again."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from contextlib import ExitStack
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.stages import _selection
from tamis.stages.errors import RecipeError
from tamis.stages.threshold import Threshold

from .local_context import LocalContext, resolve, resolve_killed_at_every_receipt, with_identity

SEED, NAME = 7, "top"


def threshold(**config: Any) -> Threshold:
    config.setdefault("column", "score")
    return Threshold(Threshold.Config(**config), name=NAME, seed=SEED)


def frozen(facts: dict[str, Any], *, name: str = "again", seed: int = 99, **config: Any) -> Threshold:
    """A stage of another name in a run with another seed that takes a cut."""
    stage = Threshold(Threshold.Config(**{"from": "earlier", **config}), name=name, seed=seed)
    stage.take(json.loads(json.dumps(facts)))
    return stage


def few_bins(keys: int) -> ExitStack:
    """Histograms so coarse that small tables take several rounds, as 10^10 documents do."""
    stack = ExitStack()
    for constant, value in (("MOST_BINS", 12), ("BINS", (2, 5)), ("MOST_KEYS", keys), ("COMPACT", 3)):
        stack.enter_context(mock.patch.object(_selection, constant, value))
    return stack


def draw(key: str) -> float:
    salt = xxhash.xxh3_64_intdigest(f"{SEED}\0{NAME}".encode())
    return (xxhash.xxh3_64_intdigest(key.encode(), salt) >> 11) / 2**53


def naive_order(rows: pa.Table, side: str) -> list[int]:
    """Positions of the rows with a score, the better ones first."""
    place = {
        i: (-s if side == "top" else s, draw(row["doc_id"]), draw(f"{row['source_file']}#{row['source_row']}"))
        for i, row in enumerate(rows.to_pylist())
        if (s := row["score"]) is not None and math.isfinite(s)
    }
    return sorted(place, key=place.__getitem__)


def weights_of(rows: pa.Table, by: str) -> list[int]:
    return [1] * len(rows) if by == "docs" else [w or 0 for w in rows[by].to_pylist()]


def naive_prefix(order: list[int], weights: list[int], part: Any) -> set[int]:
    """The first documents, in their order, that reach a share of the whole weight or a budget."""
    whole = sum(weights[i] for i in order)
    asked = part if isinstance(part, int) else Fraction(str(part)) * whole
    if asked >= whole:
        return set(order)
    within, reached = set(), 0
    for i in order:
        if reached >= asked:
            break
        within.add(i)
        reached += weights[i]
    return within


def naive(rows: pa.Table, config: dict[str, Any]) -> tuple[dict[int, str], set[int]]:
    """(rule by position of the documents that fail one, those without a score) from the definition."""
    order = naive_order(rows, config.get("side", "top"))
    weights = weights_of(rows, config.get("by", "docs"))
    groups = rows[config["group"]].to_pylist() if "group" in config else [None] * len(rows)
    sizes = Counter(groups[i] for i in order)
    own = {g for g, n in sizes.items() if g is not None and n >= config.get("min_group", 1000)}
    series = {g: [i for i in order if groups[i] == g] for g in own} | {None: order}
    low, high = config.get("band") or (None, config.get("keep"))
    rules = {}
    for i in order:
        group = groups[i] if groups[i] in own else None
        if low and i in naive_prefix(series[group], weights, low):
            rules[i] = f"{NAME}.above"
        elif i not in naive_prefix(series[group], weights, high):
            rules[i] = f"{NAME}.below"
    return rules, set(range(len(rows))) - set(order)


def verdicts(verdict: pa.Table) -> tuple[dict[int, str], set[int]]:
    rules = {i: rule for i, rule in enumerate(verdict["rule"].to_pylist()) if rule}
    return rules, {i for i, rule in enumerate(verdict["undecided"].to_pylist()) if rule}


def decided(stage: Threshold, rows: pa.Table) -> tuple[dict[int, str], set[int]]:
    """What a frozen cut says, in batches of 3 rows, under the names that the stage of the cut has."""
    rules, unsure = {}, set()
    for start in range(0, len(rows), 3):
        found = stage.decide(rows.slice(start, 3))
        assert found.column_names == [rule.name for rule in stage.rules]
        for name, column in zip(found.column_names, found.columns):
            for i, passed in enumerate(column.to_pylist(), start):
                if passed is False:
                    rules.setdefault(i, name.replace(f"{stage.name}.", f"{NAME}."))
                elif passed is None:
                    unsure.add(i)
    return rules, unsure


# --- populations ---------------------------------------------------------------------------------------------------

FLOATS = st.sampled_from([0.0, -0.0, 0.5, 0.5, 0.5, 1.0, -1.0, 0.1, 5e-324, -2.5, float("nan"), None, float("inf")])
SCORES = {
    pa.float64(): FLOATS | st.floats(-2, 2),
    pa.float32(): FLOATS | st.floats(-2, 2, width=32),
    pa.int64(): st.sampled_from([0, 0, 0, 1, -1, 2**63 - 1, -(2**63), None]) | st.integers(-9, 9),
    pa.uint64(): st.sampled_from([0, 1, 1, 2**64 - 1, 2**63, 2**63 - 1, None]),
    pa.int8(): st.integers(-128, 127) | st.none(),
}


@st.composite
def populations(draw) -> pa.Table:
    kind = draw(st.sampled_from(list(SCORES)))
    n = draw(st.integers(0, 40))
    ids = draw(st.sampled_from([lambda i: f"d{i}", lambda i: f"d{i % 3}", lambda i: "same"]))

    def some(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    rows = pa.table(
        {
            "score": pa.array(some(SCORES[kind]), kind),
            "chars": pa.array(some(st.integers(0, 5) | st.just(10**12)), pa.int64()),
            "tokens": pa.array(some(st.none() | st.integers(0, 3)), pa.uint16()),
            "lang": pa.array(some(st.sampled_from(["en", "en", "de", "fr", "", None])), pa.string()),
            "doc_id": pa.array([ids(i) for i in range(n)], pa.string()),
        }
    )
    return with_identity(rows)


@st.composite
def configs(draw) -> dict[str, Any]:
    config: dict[str, Any] = {
        "by": draw(st.sampled_from(["docs", "chars", "tokens"])),
        "side": draw(st.sampled_from(["top", "bottom"])),
    }
    if draw(st.booleans()):
        config |= {"group": "lang", "min_group": draw(st.integers(1, 8))}
    shares = st.sampled_from([0.1, 0.5, 0.9, 0.333, 0.001, 0.99])
    if draw(st.booleans()):
        return config | {"keep": draw(shares | st.just(1.0) | st.integers(2, 30) | st.just(10**30))}
    return config | {
        "band": sorted(draw(st.lists(shares | st.sampled_from([0.0, 1.0]), min_size=2, max_size=2, unique=True)))
    }


@settings(max_examples=300, deadline=None)
@given(populations(), configs(), st.lists(st.integers(0, 40), max_size=5), st.integers(0, 9), st.sampled_from([1, 9]))
def test_verdicts_are_those_of_a_sorted_list_for_any_units_order_and_number_of_rounds(rows, config, cuts, order, keys):
    expected = naive(rows, config)
    cuts = [min(cut, len(rows)) for cut in cuts]
    with few_bins(keys):
        verdict, facts = resolve(threshold(**config), rows, cuts=cuts, order=order)
    assert verdicts(verdict) == expected
    whole, again = resolve(threshold(**config), rows)
    assert (verdicts(whole), again) == (expected, facts)
    kept = set(range(len(rows))) - expected[1] - set(expected[0])
    weights = weights_of(rows, config["by"])
    assert (facts["kept_docs"], facts["kept_weight"]) == (len(kept), sum(weights[i] for i in kept))
    if "group" not in config:
        assert [facts["overall"][f"kept_{what}"] for what in ("docs", "weight")] == [
            facts["kept_docs"],
            facts["kept_weight"],
        ]
    assert facts["without_score"] == len(expected[1])
    assert facts["docs"] == len(rows) - len(expected[1])


@settings(max_examples=200, deadline=None)
@given(populations(), configs())
def test_a_frozen_cut_gives_the_same_verdicts_one_document_at_a_time(rows, config):
    verdict, facts = resolve(threshold(**config), rows)
    if not facts["docs"]:
        with pytest.raises(RecipeError, match="no document with a score"):
            frozen(facts)
        return
    stage = frozen(facts)
    assert decided(stage, rows) == verdicts(verdict)


@settings(max_examples=60, deadline=None)
@given(populations(), st.sampled_from(["docs", "chars"]), st.sampled_from(["top", "bottom"]))
def test_neighbouring_bands_share_out_every_document_once(rows, by, side):
    scored = set(naive_order(rows, side))
    seen: Counter[int] = Counter()
    for band in ([0, 0.2], [0.2, 0.5], [0.5, 1]):
        rules, unsure = verdicts(resolve(threshold(band=band, by=by, side=side), rows)[0])
        seen.update(scored - set(rules) - unsure)
    assert seen == Counter(dict.fromkeys(scored, 1))
    best = verdicts(resolve(threshold(keep="20%", by=by, side=side), rows)[0])
    assert best == verdicts(resolve(threshold(band=[0, "20%"], by=by, side=side), rows)[0])


@settings(max_examples=100, deadline=None)
@given(populations(), st.sampled_from(["top", "bottom"]), st.booleans())
def test_quantiles_are_the_smallest_score_with_a_tenth_of_the_documents_at_or_below_it(rows, side, grouped):
    more = {"group": "lang", "min_group": 2} if grouped else {}
    with few_bins(1):
        _, facts = resolve(threshold(keep="30%", side=side, **more), rows)
    scores = rows["score"].to_pylist()
    chosen = [(s, g) for s, g in zip(scores, rows["lang"].to_pylist()) if s is not None and math.isfinite(s)]
    for group, line in [(None, facts["overall"]), *facts["groups"].items()]:
        own = sorted(s for s, g in chosen if group is None or g == group)
        expected = [own[-(-tenth * len(own) // 10) - 1] for tenth in range(1, 11)] if own else []
        assert line["quantiles"] == expected


# --- what the issue asks for ---------------------------------------------------------------------------------------


def corpus(n: int, *, equal: float, seed: int = 1) -> pa.Table:
    """Scores of which the share `equal` is one and the same number, in the middle of all others."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n).astype(np.float32)
    scores[rng.random(n) < equal] = 0.5
    groups = np.array(["en", "de", "fr", None], object)[rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])]
    return with_identity(
        pa.table(
            {
                "score": scores,
                "chars": rng.integers(1, 100_000, n),
                "n_tokens": rng.integers(1, 9_000, n).astype(np.int32),
                "lang": pa.array(groups.tolist()),
            }
        )
    )


@pytest.mark.parametrize("by", ["docs", "chars", "n_tokens"])
@pytest.mark.parametrize("equal", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("keys", [100, 1 << 21])
def test_the_asked_share_is_met_to_within_one_document_overall_and_per_group(by, equal, keys):
    rows = corpus(5_000, equal=equal)
    weights = np.ones(len(rows), np.int64) if by == "docs" else rows[by].to_numpy().astype(np.int64)
    with mock.patch.object(_selection, "MOST_KEYS", keys), mock.patch.object(_selection, "BINS", (8, 64)):
        for config in ({"keep": "37%"}, {"keep": "37%", "group": "lang", "min_group": 300}):
            verdict, facts = resolve(threshold(by=by, **config), rows, cuts=[1, 999, 3000], order=3)
            kept = np.asarray(verdict["rule"].is_null())
            lang = np.array(rows["lang"].to_pylist(), object)
            parts = [np.ones(len(rows), bool)] if "group" not in config else [lang == g for g in ("en", "de", "fr")]
            for part in parts:
                asked, reached = 0.37 * weights[part].sum(), weights[part & kept].sum()
                assert asked <= reached <= asked + weights[part].max()
            if "group" in config:
                assert facts["without_group"] == (lang == None).sum()  # noqa: E711
                assert set(facts["groups"]) == {"en", "de", "fr"}
                continue
            # nothing that was dropped is better than what was kept, and the cut says where it lies
            scores = rows["score"].to_numpy()
            assert scores[kept].min() >= scores[~kept].max()
            assert facts["overall"]["below"]["score"] == scores[kept].min()


def test_a_budget_stops_at_the_document_that_crosses_it():
    rows = pa.table({"score": [5.0, 4.0, 3.0, 2.0, 1.0], "chars": pa.array([10, 10, 10, 10, 10])})
    for budget, kept in ((20, 2), (21, 3), (30, 3), (49, 5), (50, 5), (10**18, 5)):
        verdict, facts = resolve(threshold(keep=budget, by="chars"), rows)
        assert verdict["rule"].null_count == kept == facts["kept_docs"]
    assert facts["overall"]["below"] is None, "a budget for all of them is no cut"


def test_every_receipt_may_be_the_last_of_a_driver():
    rows = corpus(300, equal=0.5)
    stage = threshold(keep="40%", by="chars", group="lang", min_group=30)
    with few_bins(4):
        undisturbed = resolve(stage, rows, cuts=[50, 120, 250])
        verdict, facts = resolve_killed_at_every_receipt(stage, rows, cuts=[50, 120, 250], order=5)
    assert facts == undisturbed[1]
    assert verdict.equals(undisturbed[0])


def test_groups_too_small_unknown_or_missing_take_the_cut_of_all_documents():
    rng = random.Random(2)
    langs = ["en"] * 60 + ["rare"] * 3 + [None] * 7
    rows = with_identity(pa.table({"score": [rng.random() for _ in langs], "lang": langs}))
    _, facts = resolve(threshold(keep="50%", group="lang", min_group=10), rows)
    assert set(facts["groups"]) == {"en"}
    assert (facts["small_groups"], facts["small_docs"], facts["without_group"]) == (1, 3, 7)
    cut = facts["overall"]["below"]["score"]
    others = with_identity(pa.table({"score": [cut, np.nextafter(cut, 0), cut], "lang": ["new", "rare", None]}))
    assert decided(frozen(facts), others)[0] == {1: f"{NAME}.below"}


def test_a_frozen_cut_decides_new_documents_by_score_and_draw_alone():
    rows = corpus(2_000, equal=0.5)
    _, facts = resolve(threshold(keep="50%"), rows)
    cut = facts["overall"]["below"]
    assert cut["score"] == 0.5
    assert set(cut) == {"score", "tie"}
    new = with_identity(pa.table({"score": [0.5] * 500, "doc_id": [f"new{i}" for i in range(500)]}))
    rules, _ = decided(frozen(facts), new)
    assert set(rules) == {i for i in range(500) if draw(f"new{i}") > cut["tie"]}


def test_only_documents_with_the_score_of_the_cut_are_drawn():
    rows = corpus(3_000, equal=0.3)
    asked: list[int] = []
    with mock.patch(
        "tamis.stages._cuts.draws", wraps=__import__("tamis.stages.draws", fromlist=["draws"]).draws
    ) as drawn:
        resolve(threshold(keep="50%"), rows, cuts=[1000])
        asked = [len(call.args[0]) for call in drawn.call_args_list]
    equal = int((rows["score"].to_numpy() == 0.5).sum())
    assert 0 < sum(asked) <= 2 * equal, "once to find the cut, once for the verdicts"
    with mock.patch("tamis.stages._cuts.draws") as drawn:
        resolve(threshold(keep="50%"), corpus(3_000, equal=0.0).slice(0, 50))
        assert drawn.call_count == 0


def test_copies_with_one_doc_id_and_score_are_split_by_their_place():
    rows = with_identity(pa.table({"score": [1.0] * 20, "doc_id": ["same"] * 20}))
    verdict, facts = resolve(threshold(keep="25%"), rows)
    assert verdict["rule"].null_count == 5
    assert set(facts["overall"]["below"]) == {"score", "tie", "place"}


def test_rounds_end_where_few_documents_are_left_and_no_task_holds_more():
    n = 60_000
    rng = np.random.default_rng(3)
    rows = with_identity(pa.table({"score": rng.beta(0.2, 3.0, n)}))
    with mock.patch.object(_selection, "MOST_KEYS", 2_000), mock.patch.object(_selection, "BINS", (16, 64)):
        context = LocalContext(threshold(keep="10%"), rows, cuts=range(10_000, n, 10_000))
        with mock.patch("tamis.stages._groups.UNITS_PER_ITEM", 1):
            context.resolve()
        sizes = [
            len(context.stage and part)
            for (phase, _), parts in context.files.items()
            if phase.startswith("count")
            for part in parts
        ]
    rounds = {phase for phase, _ in context.runs if phase.startswith("narrow")}
    assert 2 <= len(rounds) <= 6
    assert max(sizes) < 40 * (2_000 + 11 * 64), "entries of 28 bytes"
    kept = np.asarray(context.verdict["rule"].is_null())
    assert kept.sum() == n // 10


@pytest.mark.parametrize(("nulls", "expected"), [(None, "quarantine"), ("pass", "pass"), ("fail", "fail")])
def test_a_document_without_a_score_is_undecided_and_counts_for_no_share(nulls, expected):
    rows = pa.table({"score": pa.array([1.0, None, 2.0, float("nan"), float("-inf"), 3.0])})
    stage = threshold(keep="50%", nulls=nulls)
    verdict, facts = resolve(stage, rows)
    assert verdict["undecided"].to_pylist() == [None, "top.below", None, "top.below", "top.below", None]
    assert verdict["rule"].to_pylist() == ["top.below", None, None, None, None, None]
    assert stage.rules[0].nulls == expected
    assert facts["nulls"] == expected
    assert frozen(facts).rules[0].nulls == expected
    assert frozen(facts, nulls="pass").rules[0].nulls == "pass"


def test_weights_of_nothing_keep_all_or_share_out_by_order():
    rows = pa.table({"score": [3.0, 2.0, 1.0], "chars": pa.array([0, 0, 0])})
    assert resolve(threshold(keep="10%", by="chars"), rows)[0]["rule"].null_count == 3
    rows = pa.table({"score": [3.0, 2.0, 1.0], "chars": pa.array([0, 5, 0])})
    assert resolve(threshold(keep="10%", by="chars"), rows)[0]["rule"].to_pylist() == [None, None, "top.below"]


# --- what cannot work ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"keep": 1}, "write 100%"),
        ({"keep": 2.5}, "whole number"),
        ({"keep": "nan"}, "a share is"),
        ({"keep": 0}, "keeps nothing"),
        ({"keep": "110%"}, "at most 1"),
        ({}, "either keep"),
        ({"keep": 0.1, "band": [0, 0.5]}, "either keep"),
        ({"band": [0.5, 0.4]}, "smaller one"),
        ({"band": 0.5}, "two shares"),
        ({"keep": 0.1, "min_group": 5}, "needs group"),
        ({"keep": 0.1, "from": "out"}, "keep: comes with the cut"),
        ({"side": "bottom", "from": "out"}, "side: comes with the cut"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(config, complaint):
    with pytest.raises(ValidationError, match=complaint):
        threshold(**config)


def test_a_threshold_without_a_column_is_refused():
    with pytest.raises(ValidationError, match="column: is required"):
        Threshold.Config.model_validate({"keep": 0.1})


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"column": "lang"}, "column: lang is string"),
        ({"by": "score"}, "by: score is double; give docs, chars or"),
        ({"by": "lang"}, "by: lang is string"),
        ({"group": "tags"}, "group: tags is list"),
    ],
)
def test_columns_of_a_wrong_type_are_refused_before_the_run(config, complaint):
    types = {"score": pa.float64(), "lang": pa.string(), "tags": pa.list_(pa.string()), "doc_id": pa.string()}
    schema = pa.schema([*types.items(), ("source_file", pa.string()), ("source_row", pa.int64())])
    threshold(keep=0.1).check(schema)
    with pytest.raises(RecipeError, match=complaint):
        threshold(keep=0.1, **config).check(schema)


def test_a_cut_of_another_kind_of_numbers_is_refused():
    _, facts = resolve(threshold(keep=0.5), pa.table({"score": [1.0, 2.0]}))
    fields = [("doc_id", pa.string()), ("source_file", pa.string()), ("source_row", pa.int64())]
    frozen(facts).check(pa.schema([("score", pa.float32()), *fields]))
    with pytest.raises(RecipeError, match="float scores"):
        frozen(facts).check(pa.schema([("score", pa.int32()), *fields]))
    with pytest.raises(RecipeError, match="no threshold"):
        Threshold(Threshold.Config(**{"from": "earlier"}), name="x").take({"groups": 3})


def test_groups_for_a_cut_without_groups_are_refused():
    _, facts = resolve(threshold(keep=0.5), pa.table({"score": [1.0, 2.0]}))
    with pytest.raises(RecipeError, match="group: the cut of earlier was found over all documents"):
        frozen(facts, group="lang")


def test_weights_below_nothing_or_beyond_counting_stop_the_run_with_the_column():
    rows = pa.table({"score": [1.0, 2.0], "w": pa.array([3, -1])})
    with pytest.raises(RecipeError, match="by: w is -1"):
        resolve(threshold(keep=0.5, by="w"), rows)
    rows = pa.table({"score": [1.0] * 3, "w": pa.array([2**61] * 3)})
    with pytest.raises(RecipeError, match="by: w: its sum"):
        resolve(threshold(keep=0.5, by="w"), rows, cuts=[1, 2])
    rows = pa.table({"score": [1.0], "w": pa.array([2**63], pa.uint64())})
    with pytest.raises(RecipeError, match="by: w: "):
        resolve(threshold(keep=0.5, by="w"), rows)


def test_more_groups_than_a_manifest_should_hold_are_refused_with_the_way_on():
    rows = pa.table({"score": [1.0] * 8, "host": [f"h{i % 4}" for i in range(8)]})
    with mock.patch("tamis.stages._score_phases.MOST_GROUPS", 3):
        with pytest.raises(RecipeError, match=r"group: host has 4 values.*raise min_group"):
            resolve(threshold(keep=0.5, group="host", min_group=2), rows)
        resolve(threshold(keep=0.5, group="host", min_group=3), rows)


def test_the_cut_is_part_of_the_key_and_the_seed_only_where_it_draws():
    _, facts = resolve(threshold(keep=0.5), pa.table({"score": [1.0, 2.0]}))
    _, other = resolve(threshold(keep=0.5), pa.table({"score": [1.0, 3.0]}))
    assert frozen(facts).fingerprint() == frozen(facts, seed=1).fingerprint() != frozen(other).fingerprint()
    assert threshold(keep=0.5).draws
    assert not frozen(facts).draws
    assert "from" in Threshold.not_in_key
