"""pareto(score, alpha) in a rule: a soft keep whose shares are those of numpy's Lomax draws, decided by the document."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from tamis.stages import sql
from tamis.stages.draws import draws
from tamis.stages.errors import RecipeError
from tamis.stages.rules import Rules, RulesConfig

N = 20_000


def rules(written, *, name="soft", seed=3, **config) -> Rules:
    return Rules(RulesConfig(rules=written, **config), name=name, seed=seed)


def documents(scores, n=N) -> pa.Table:
    scores = scores if isinstance(scores, pa.Array) else pa.array(np.full(n, scores))
    return pa.table({"quality": scores, "doc_id": [f"d{i}" for i in range(len(scores))]})


def kept(stage: Rules, table: pa.Table) -> np.ndarray:
    return stage.decide(table).column(0).to_numpy()


@pytest.mark.parametrize("alpha", [0.5, 1, 9, 9.5])
@pytest.mark.parametrize("score", [0.0, 0.3, 0.9, 1.0, 1.5])
def test_the_kept_share_is_that_of_numpys_distribution(alpha, score):
    share = kept(rules({"keep": f"pareto(quality, {alpha})"}), documents(score)).mean()
    drawn = (np.random.default_rng(1).pareto(alpha, 400_000) > 1 - score).mean()
    law = min(1.0, (1 + max(1 - score, 0.0)) ** -alpha)  # P(X > x) = (1 + x)^-alpha
    for expected in (drawn, law):
        assert abs(share - expected) < 5 * math.sqrt(max(expected * (1 - expected), 1e-5) / N)


def test_each_document_is_decided_by_its_own_draw():
    table = documents(pa.array(np.linspace(-0.5, 1.5, N)))
    u = draws(table["doc_id"], seed=3, name="soft:soft.keep")
    expected = (1 - u) ** (-1 / 9) - 1 > 1 - table["quality"].to_numpy()
    stage = rules({"keep": "pareto(quality, 9)"})
    assert (kept(stage, table) == expected).all()
    assert stage.rules[0].needs == ("quality",)
    assert set(stage.needs) == {"doc_id", "quality"}


def test_batches_and_order_change_nothing():
    table = documents(0.5, 500)
    stage, whole = rules({"keep": "pareto(quality, 2)"}), kept(rules({"keep": "pareto(quality, 2)"}), table)
    parts = [kept(stage, table.slice(start, 7)) for start in range(0, 500, 7)]
    assert (np.concatenate(parts) == whole).all()
    turned = pa.array(np.arange(500)[::-1])
    assert (kept(stage, table.take(turned)) == whole[::-1]).all()


def test_two_rules_two_stages_and_two_seeds_draw_independently():
    table = documents(0.5)
    both = rules({"one": "pareto(quality, 2)", "two": "PARETO (quality, $a)"}, params={"a": 2}).decide(table)
    answers = [column.to_numpy() for column in both.columns]
    answers.append(kept(rules({"one": "pareto(quality, 2)"}, name="other"), table))
    answers.append(kept(rules({"one": "pareto(quality, 2)"}, seed=4), table))
    for i, one in enumerate(answers):
        for other in answers[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(N)
    twice = rules({"one": "pareto(quality, 2) = pareto(quality, 2)"})
    assert kept(twice, table).all(), "one rule draws once for a document"


def test_a_float32_score_and_a_bound_shape_mean_the_same():
    table = documents(pa.array(np.full(2_000, 0.25, np.float32)))
    literal = kept(rules({"keep": "pareto(quality, 2.5)"}), table)
    assert (kept(rules({"keep": "pareto(quality, $a)"}, params={"a": 2.5}), table) == literal).all()
    grouped = table.append_column("lang", pa.array(["en"] * 1_000 + ["de"] * 1_000))
    stage = rules(
        {"keep": "pareto(quality, $a)"}, params={"a": 1}, by="lang", values={"en": {"a": 2.5}, "de": {"a": 1e9}}
    )
    stage.check(grouped.schema)
    found = kept(stage, grouped)
    assert (found[:1_000] == literal[:1_000]).all()
    assert not found[1_000:].any()


def test_no_score_or_no_shape_is_no_answer():
    table = documents(pa.array([0.5, None, float("nan")]))
    assert rules({"keep": "pareto(quality, 1e-9)"}).decide(table).column(0).to_pylist() == [True, None, None]
    for alpha in ("0", "-1", "NULL"):
        found = rules({"keep": f"pareto(quality, {alpha})"}).decide(table.slice(0, 1))
        assert found.column(0).to_pylist() == [None]


def test_it_is_part_of_any_expression_and_text_in_quotes_stays_text():
    table = documents(0.5, 2_000)
    soft = kept(rules({"keep": "pareto(quality, 2)"}), table)
    text = "'ä pareto(x, 9)' <> 'b' AND (\"pareto\"(quality * 2 / 2, 1 + 1) OR quality > 3)"
    assert (kept(rules({"keep": text}), table) == soft).all()
    assert rules({"keep": text}).rules[0].sql == text, "what people read is what they wrote"


def test_the_seed_counts_only_where_a_rule_draws():
    assert rules({"keep": "pareto(quality, 9)"}).draws
    assert not rules({"keep": "quality > 0.5"}).draws


@pytest.mark.parametrize("text", ["pareto(quality)", "pareto()", "pareto(quality, 9, 1)", "main.pareto(quality, 9)"])
def test_what_is_not_a_score_and_a_shape_is_refused(text):
    with pytest.raises(RecipeError, match=r"pareto takes a score and a shape: pareto\(quality, 9\)"):
        rules({"keep": text})


def test_outside_of_rules_nothing_draws():
    with pytest.raises(RecipeError, match="stands in `use: rules` only"):
        sql.parse("pareto(quality, 9)", where="where")


def test_types_are_checked_before_the_run():
    for kind in (pa.list_(pa.string()), pa.string()):
        with pytest.raises(RecipeError, match=r"rules: soft.keep: pareto"):
            rules({"keep": "pareto(lang, 9)"}).check(pa.schema([("lang", kind), ("doc_id", pa.string())]))
    with pytest.raises(RecipeError, match="must be true or false"):
        rules({"keep": "pareto(quality, 9)::INTEGER"}).check(
            pa.schema([("quality", pa.float32()), ("doc_id", pa.string())])
        )
