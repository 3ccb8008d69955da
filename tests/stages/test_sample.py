"""sample: nested shares, and quotas that no split into units, order of items or kill can move."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.stages import _groups
from tamis.stages.errors import RecipeError
from tamis.stages.sample import Sample

from .local_context import resolve, resolve_killed_at_every_receipt, with_identity


def stage_of(name: str = "sample", seed: int = 0, **config: Any) -> Sample:
    return Sample(Sample.Config.model_validate(config), name=name, seed=seed)


def plain_draw(key: str | None, doc_id: str, name: str = "sample", seed: int = 0) -> float:
    salt = xxhash.xxh3_64_intdigest(f"{seed}\x00{name}".encode())
    return xxhash.xxh3_64_intdigest((doc_id if key is None else key).encode(), salt) / 2**64


def kept(stage: Sample, rows: pa.Table) -> list[bool]:
    table = stage.decide(rows)
    assert table.column_names == [f"{stage.name}.out"] == [rule.name for rule in stage.rules]
    return table.column(0).to_pylist()


ROWS = with_identity(pa.table({"domain": [[f"s{i % 50}.org", None][i % 7 == 0] for i in range(3000)]}))


def test_a_share_keeps_about_that_many_and_is_given_as_percent_or_number() -> None:
    assert sum(kept(stage_of(share="10%"), ROWS)) == pytest.approx(300, abs=60)
    assert kept(stage_of(share="10%"), ROWS) == kept(stage_of(share=0.1), ROWS)
    assert all(kept(stage_of(share=1), ROWS))


@pytest.mark.parametrize("key", ["doc_id", "domain"])
def test_a_smaller_share_lies_inside_a_larger_one(key) -> None:
    shares = [kept(stage_of(share=s, key=key), ROWS) for s in ("0.1%", "2%", "30%", "80%", 1)]
    for small, large in itertools.pairwise(shares):
        assert all(b for a, b in zip(small, large) if a)
        assert sum(small) < sum(large)


def test_draws_are_the_documented_hash() -> None:
    rows = ROWS.to_pylist()
    for key in ("doc_id", "domain"):
        expected = [plain_draw(r[key], r["doc_id"], "s", 7) < 0.4 for r in rows]
        assert kept(stage_of("s", 7, share=0.4, key=key), ROWS) == expected


def test_equal_keys_share_a_draw_and_null_keys_are_drawn_by_document() -> None:
    found = kept(stage_of(share=0.5, key="domain"), ROWS)
    by_domain: dict[Any, set[bool]] = {}
    for domain, inside in zip(ROWS["domain"].to_pylist(), found):
        by_domain.setdefault(domain, set()).add(inside)
    assert by_domain.pop(None) == {True, False}
    assert all(len(values) == 1 for values in by_domain.values())
    assert len(set(map(frozenset, by_domain.values()))) == 2


def test_another_seed_or_name_is_another_sample() -> None:
    one = kept(stage_of(share=0.5), ROWS)
    assert one != kept(stage_of(share=0.5, seed=1), ROWS)
    assert one != kept(stage_of("other", share=0.5), ROWS)


def test_decide_is_split_invariant_and_takes_empty_batches() -> None:
    stage = stage_of(share=0.3, key="domain")
    assert kept(stage, ROWS) == kept(stage, ROWS.slice(0, 11)) + kept(stage, ROWS.slice(11))
    assert kept(stage, ROWS.slice(0, 0)) == []


def oracle(rows: list[dict[str, Any]], key: str, top: int | None, docs: int | None) -> list[str | None]:
    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    sizes = Counter(text(r["site"]) for r in rows if r["site"] is not None)
    order = sorted(sizes, key=lambda v: (-sizes[v], v.encode()))[:top]
    chosen = set()
    for value in order:
        members = [n for n, r in enumerate(rows) if r["site"] is not None and text(r["site"]) == value]
        members.sort(key=lambda n: (plain_draw(rows[n][key], rows[n]["doc_id"]), n))
        chosen |= set(members[:docs])
    return [
        None
        if n in chosen
        else "sample.quota"
        if r["site"] is not None and text(r["site"]) in order
        else "sample.group"
        for n, r in enumerate(rows)
    ]


@settings(max_examples=100, deadline=None)
@given(
    sites=st.lists(st.sampled_from([None, "a", "B", "é", "b", "c"]), max_size=30)
    | st.lists(st.sampled_from([None, 1, 10, 9]), max_size=30),
    key=st.sampled_from(["doc_id", "kind"]),
    top=st.sampled_from([None, 1, 2, 9]),
    docs=st.sampled_from([1, 2, 9]),
    data=st.data(),
)
def test_quotas_equal_counting_by_hand_for_any_units_order_and_partitions(sites, key, top, docs, data) -> None:
    docs = data.draw(st.sampled_from([docs, None])) if top else docs
    kind = pa.int32() if any(isinstance(s, int) for s in sites) else pa.string()
    kinds = [data.draw(st.sampled_from(["k", "l", None])) for _ in sites]
    rows = with_identity(pa.table({"site": pa.array(sites, kind), "kind": pa.array(kinds, pa.string())}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_groups, "ROWS_PER_PART", data.draw(st.sampled_from([1, 4, 100])))
        patch.setattr(_groups, "UNITS_PER_ITEM", data.draw(st.sampled_from([1, 2, 100])))
        cuts = data.draw(st.lists(st.integers(0, len(sites)), max_size=5))
        stage = stage_of(per="site", top=top, docs=docs, key=key)
        verdict, facts = resolve(stage, rows, cuts=cuts, order=data.draw(st.integers(0, 9)))
    expected = oracle(rows.to_pylist(), key, top, docs)
    assert verdict["rule"].to_pylist() == expected
    assert list(facts.values()) == [expected.count(r) for r in (None, "sample.group", "sample.quota")]
    assert {r for r in expected if r} <= {rule.name for rule in stage.rules}


def test_a_kill_after_every_receipt_changes_nothing(monkeypatch) -> None:
    monkeypatch.setattr(_groups, "ROWS_PER_PART", 10)
    monkeypatch.setattr(_groups, "UNITS_PER_ITEM", 2)
    rows = pa.table({"site": [f"s{i * i % 11}" for i in range(45)], "alive": [i % 5 > 0 for i in range(45)]})
    stage, how = stage_of(per="site", top=4, docs=3), {"cuts": [2, 10, 10, 30, 41]}
    undisturbed = resolve(stage, rows, **how)
    assert resolve_killed_at_every_receipt(stage, rows, order=2, **how) == undisturbed
    assert undisturbed[1]["kept"] == 12
    assert len(undisturbed[0]) == 36


def test_kind_follows_the_config() -> None:
    assert stage_of(share=0.1).kind == "decide"
    assert stage_of(per="site", docs=3).kind == "resolve"
    assert stage_of(per="site", docs=3, key="source_hash").needs == ("site", "source_hash", "doc_id")
    assert [r.name for r in stage_of("q", per="site", top=3).rules] == ["q.group"]
    assert stage_of(share="0.1%").rules[0].params == (("sample.share", 0.001),)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "give either share"),
        ({"share": 0.1, "per": "site", "docs": 1}, "give either share"),
        ({"share": 0.1, "docs": 1}, "need per"),
        ({"per": "site"}, "per: needs top"),
        ({"per": "site", "docs": 0}, "greater than or equal to 1"),
        ({"share": "0%"}, "a sample of nothing"),
        ({"share": 5}, "at most 1"),
        ({"share": "ten"}, "a share is a percentage"),
    ],
)
def test_a_wrong_config_is_refused(config, says) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        stage_of(**config)


def test_nested_columns_are_refused_before_the_run() -> None:
    schema = pa.schema({"tags": pa.list_(pa.string()), "doc_id": pa.string()})
    with pytest.raises(RecipeError, match="tags has the type list"):
        stage_of(share=0.1, key="tags").check(schema)


def test_real_sources_get_their_quota(shared_data) -> None:
    files = sorted((shared_data / "web").glob("*.parquet"))[:2]
    table = pa.concat_tables([pq.read_table(file, columns=["id", "source"]) for file in files])
    rows = table.rename_columns(["doc_id", "site"])
    verdict, facts = resolve(stage_of(per="site", top=5, docs=200), rows, cuts=range(700, len(rows), 900), order=5)
    assert verdict["rule"].to_pylist() == oracle(with_identity(rows).to_pylist(), "doc_id", 5, 200)
    assert facts["kept"] == 1000
    assert np.unique(rows["site"].filter(verdict["rule"].is_null()).to_numpy()).size == 5
