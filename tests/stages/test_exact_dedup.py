"""exact_dedup: one document of each group stays, the same one however the work is cut, ordered or interrupted."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.kernels.squash import WHITE_SPACE
from tamis.stages import _groups
from tamis.stages._keys import normal_url, text_keys, url_keys, value_keys
from tamis.stages.errors import RecipeError
from tamis.stages.exact_dedup import ExactDedup, _duplicates

from .local_context import resolve, resolve_killed_at_every_receipt, with_identity

TYPES = {
    "text": pa.large_string(),
    "url": pa.string(),
    "date": pa.string(),
    "lang": pa.string(),
    "chars": pa.int64(),
    "score": pa.float32(),
    "source": pa.string(),
    "doc_id": pa.string(),
}
PREFERENCES = {
    "longest": ("chars", True),
    "shortest": ("chars", False),
    "oldest": ("date", False),
    "newest": ("date", True),
    "score asc": ("score", False),
    "score desc": ("score", True),
    "lang desc": ("lang", True),
}
SOURCES = ["wiki", "books", "cc"]
few = st.sampled_from
documents = st.fixed_dictionaries(
    {
        "text": few(["a b", "A  b ", "a\u2003B", "ab", "", " \n", "É x", "é\tX"]),
        "url": few([None, "", "http://a.com/x/", "https://A.com/x", "a.com/x?q", "http://b.com"]),
        "date": few([None, "2019-05-01", "2020-01-01", "2020-01-02"]),
        "lang": few([None, "de", "en"]),
        "chars": few([1, 2, 3]),
        "score": few([None, 0.5, -1.0, 2.0]),
        "source": few([None, "cc", "wiki", "books", "other"]),
        "doc_id": few(["a", "b", "B", "é"]),
    }
)


def table_of(rows: list[dict[str, Any]], **types: pa.DataType) -> pa.Table:
    names = rows[0] if rows else TYPES
    return with_identity(pa.table({n: pa.array([r[n] for r in rows], {**TYPES, **types}[n]) for n in names}))


def stage_of(name: str = "exact_dedup", **config: Any) -> ExactDedup:
    return ExactDedup(ExactDedup.Config.model_validate(config), name=name)


def plain_key(row: dict[str, Any], key: str) -> Any:
    if key == "text":
        return re.sub(f"[{''.join(map(chr, WHITE_SPACE))}]+", " ", row["text"]).strip(" ").lower()
    if key == "url":
        url = re.sub(r"^https?://", "", row["url"] or "").lower()
        return url.removesuffix("/") or None
    return row[key]


def oracle(table: pa.Table, key: str, scope: str | None, prefer: list[Any]) -> list[tuple[int, int, str, int] | None]:
    """For each row None, or (smallest row of its group, size, kept file, kept row), by dictionaries and stable sorts."""
    rows = table.to_pylist()
    groups: dict[Any, list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        found = plain_key(row, key)
        if found is not None and (scope is None or row[scope] is not None):
            groups[found, row[scope] if scope else None].append(n)
    verdicts: list[Any] = [None] * len(rows)
    for group in groups.values():
        if len(group) < 2:
            continue
        best = sorted(group, key=lambda n: (rows[n]["doc_id"].encode(), rows[n]["source_file"], rows[n]["source_row"]))
        for entry in reversed(prefer):
            if isinstance(entry, dict):
                best.sort(key=lambda n: SOURCES.index(s) if (s := rows[n]["source"]) in SOURCES else 9)
                continue
            column, down = PREFERENCES[entry]
            known = sorted(
                (n for n in best if rows[n][column] is not None), key=lambda n: rows[n][column], reverse=down
            )
            best = known + [n for n in best if rows[n][column] is None]
        kept = rows[best[0]]
        for n in group:
            verdicts[n] = (group[0], len(group), kept["source_file"], kept["source_row"])
    return verdicts


def check(table: pa.Table, verdict: pa.Table, expected: list[Any]) -> None:
    rows = table.to_pylist()
    clusters: dict[str, int] = {}
    assert verdict["n"].to_pylist() == list(range(len(rows)))
    for row, got, want in zip(rows, verdict.to_pylist(), expected):
        if want is None:
            assert {v for k, v in got.items() if k != "n"} == {None}
            continue
        first, size, file, place = want
        assert clusters.setdefault(got["exact_cluster"], first) == first
        assert got["exact_cluster_size"] == size
        is_kept = (row["source_file"], row["source_row"]) == (file, place)
        assert got["rule"] == (None if is_kept else "exact_dedup.duplicate")
        assert (got["exact_kept_file"], got["exact_kept_row"]) == ((None, None) if is_kept else (file, place))
        kept_id = next(r["doc_id"] for r in rows if (r["source_file"], r["source_row"]) == (file, place))
        assert got["exact_kept_doc_id"] == (None if is_kept else kept_id)
    assert len(set(clusters.values())) == len(clusters)


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(documents, max_size=25),
    key=few(["text", "url", "lang"]),
    scope=few([None, "source"]),
    prefer=st.lists(few([*PREFERENCES, {"values(source)": SOURCES}]), max_size=3),
    data=st.data(),
)
def test_verdicts_equal_a_dictionary_for_any_units_order_and_partitions(rows, key, scope, prefer, data) -> None:
    table = table_of(rows)
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_groups, "ROWS_PER_PART", data.draw(few([1, 3, 100])))
        patch.setattr(_groups, "UNITS_PER_ITEM", data.draw(few([1, 2, 100])))
        stage = stage_of(key=key, scope=scope, prefer=prefer)
        verdict, facts = resolve(stage, table, cuts=cuts, order=data.draw(st.integers(0, 99)))
    expected = oracle(table, key, scope, prefer)
    check(table, verdict, expected)
    sizes = [len({n for n, e in enumerate(expected) if e and e[0] == first}) for first in {e[0] for e in expected if e}]
    keyless = sum(plain_key(r, key) is None or (scope is not None and r[scope] is None) for r in rows)
    assert facts == {
        "groups": len(sizes),
        "duplicates": sum(sizes) - len(sizes),
        "largest": max(sizes, default=0),
        "without_key": keyless,
    }


def test_a_kill_after_every_receipt_changes_nothing(monkeypatch) -> None:
    monkeypatch.setattr(_groups, "ROWS_PER_PART", 8)
    monkeypatch.setattr(_groups, "UNITS_PER_ITEM", 2)
    table = pa.table({"text": [f"t{i * i % 13}" for i in range(40)], "chars": [i % 3 for i in range(40)]})
    stage = stage_of(prefer=["longest"])
    how = {"cuts": [3, 9, 9, 20, 31]}
    undisturbed = resolve(stage, table, **how)
    assert resolve_killed_at_every_receipt(stage, table, order=4, **how) == undisturbed
    assert undisturbed[1]["duplicates"] > 20


def test_items_are_cut_by_rows_too(monkeypatch) -> None:
    monkeypatch.setattr(_groups, "ROWS_PER_ITEM", 10)
    units = [_groups.UnitRows(i, f"u{i}", 4 * i, 4) for i in range(5)]
    assert [[u.index for u in g] for g in _groups.unit_groups(units).values()] == [[0, 1], [2, 3], [4]]


def test_partitions_share_the_rows_evenly_and_keep_their_order() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 10_000, np.uint64, endpoint=False)
    part = _groups.part_of(hashes, 7)
    tables = _groups.split(pa.table({"hash": hashes, "n": np.arange(10_000)}), part, 7)
    assert [len(t) for t in tables] == np.bincount(part.astype(int)).tolist()
    assert min(map(len, tables)) > 1200
    for i, table in enumerate(tables):
        assert table["hash"].to_pylist() == hashes[part == i].tolist()
        assert table["n"].to_pylist() == sorted(table["n"].to_pylist())


def test_keys_that_share_one_half_only_are_no_duplicates() -> None:
    pairs = [(1, 5), (1, 6), (1, 5), (1, 6), (2, 5), (1, 7), (2**64 - 1, 0), (0, 0), (1, 5)]
    hi, lo = (pa.array(half, pa.uint64()) for half in zip(*pairs))
    table = pa.table({"hi": hi, "lo": lo, "n": pa.array(range(len(pairs)), pa.uint64())})
    members, group = _duplicates(table)
    assert sorted(zip(group.tolist(), members["n"].to_pylist())) == [(0, 0), (0, 2), (0, 8), (1, 1), (1, 3)]


def test_a_key_equal_to_its_scope_is_still_its_own() -> None:
    rows = pa.table({"text": ["x", "y", "z"], "lang": ["de", "en", "de"]})
    verdict, facts = resolve(stage_of(key="lang", scope="lang"), rows)
    assert verdict["rule"].to_pylist() == [None, None, "exact_dedup.duplicate"]
    assert facts["groups"] == 1


@pytest.mark.parametrize(
    ("prefer", "kept"),
    [
        ([], "a"),
        (["longest"], "c"),
        (["shortest"], "b"),
        (["oldest"], "d"),
        (["newest"], "b"),
        (["score asc"], "a"),
        (["score desc"], "d"),
        ([{"values(source)": ["cc", "wiki"]}], "d"),
        ([{"values(source)": ["books"]}, "longest"], "c"),
        ([{"values(good)": [True]}], "b"),
    ],
)
def test_each_preference_picks_its_document(prefer, kept) -> None:
    rows = [
        {"text": "x", "doc_id": "e", "chars": 2, "date": None, "score": None, "source": None, "good": None},
        {"text": "x", "doc_id": "d", "chars": 2, "date": "2001-01-01", "score": 3.0, "source": "cc", "good": False},
        {"text": "x", "doc_id": "c", "chars": 9, "date": None, "score": None, "source": "wiki", "good": None},
        {"text": "x", "doc_id": "b", "chars": 1, "date": "2024-01-01", "score": 2.0, "source": "wiki", "good": True},
        {"text": "x", "doc_id": "a", "chars": 2, "date": "2002-01-01", "score": 1.0, "source": "x", "good": False},
    ]
    verdict, _ = resolve(stage_of(prefer=prefer), table_of(rows, good=pa.bool_()))
    assert [r["doc_id"] for r, rule in zip(rows, verdict["rule"].to_pylist()) if rule is None] == [kept]
    assert set(verdict["exact_kept_doc_id"].to_pylist()) == {None, kept}


def test_equal_doc_ids_fall_to_the_smallest_place_in_the_input() -> None:
    rows = pa.table({"text": ["x"] * 12, "doc_id": ["same"] * 12})
    verdict, _ = resolve(stage_of(), rows, cuts=[5], order=1)
    assert verdict["rule"].to_pylist() == [None] + ["exact_dedup.duplicate"] * 11


def test_dropped_rows_take_no_part() -> None:
    rows = pa.table({"text": ["x", "x", "x", "y", "y"], "alive": [False, True, True, False, True]})
    verdict, facts = resolve(stage_of(), rows, cuts=[2])
    assert verdict["n"].to_pylist() == [1, 2, 4]
    assert verdict["rule"].to_pylist() == [None, "exact_dedup.duplicate", None]
    assert facts["groups"] == 1


def test_no_units_and_empty_units_are_fine() -> None:
    empty = pa.table({"text": pa.array([], pa.large_string())})
    for cuts in ([], [0, 0]):
        verdict, facts = resolve(stage_of(), empty, cuts=cuts)
        assert len(verdict) == 0
        assert facts == {"groups": 0, "duplicates": 0, "largest": 0, "without_key": 0}


def test_normalize_false_compares_bytes() -> None:
    rows = pa.table({"text": ["a b", "A b", "a  b", "a b"], "url": ["http://a/", "http://a", "http://a/", None]})
    for key, dropped in (("text", [3]), ("url", [2])):
        verdict, _ = resolve(stage_of(key=key, normalize=False), rows)
        assert [n for n, rule in enumerate(verdict["rule"].to_pylist()) if rule] == dropped


def test_key_may_be_sql() -> None:
    pytest.importorskip("tamis.stages.sql")
    rows = pa.table({"text": ["a", "b", "c", "d"], "url": ["X1", "x2", None, "y3"], "chars": [7, 7, 7, 7]})
    stage = stage_of(key="lower(left(url, 1)) || chars")
    assert set(stage.needs) == {"url", "chars"}
    stage.check(pa.schema({"url": pa.string(), "chars": pa.int64()}))
    verdict, _ = resolve(stage, rows)
    assert verdict["rule"].to_pylist() == [None, "exact_dedup.duplicate", None, None]


@pytest.mark.parametrize("bundle", [1, 128])
def test_documents_of_earlier_outputs_win(monkeypatch, bundle) -> None:
    monkeypatch.setattr(_groups, "ROWS_PER_PART", 3)
    monkeypatch.setattr(_groups, "UNITS_PER_ITEM", bundle)
    rows = pa.table(
        {
            "text": ["x", "X ", "y", "z", "z", "w"],
            "lang": ["en", "en", "en", "en", "en", "de"],
            "chars": [9, 9, 9, 1, 2, 1],
        }
    )
    first = [
        pa.table({"text": ["q", "q"], "lang": ["en", "en"], "doc_id": ["0", "1"]}),
        pa.table({"text": ["y"], "lang": ["en"], "doc_id": ["y1"]}),
    ]
    second = [
        pa.table({"text": ["x", "x", "y", "w"], "lang": ["en", "en", "en", "en"], "doc_id": ["m", "k", "a", "w"]})
    ]
    stage = stage_of(against=["one", "two"], scope="lang", prefer=["longest"])
    verdict, facts = resolve_killed_at_every_receipt(
        stage, rows, cuts=[1], earlier={"one": first, "two": second}, order=3
    )
    assert verdict["exact_kept_output"].to_pylist() == ["two", "two", "one", None, None, None]
    assert verdict["exact_kept_doc_id"].to_pylist() == ["k", "k", "y1", "d000004", None, None]
    assert verdict["exact_cluster_size"].to_pylist() == [2, 2, 1, 2, 2, None]
    assert [rule is None for rule in verdict["rule"].to_pylist()] == [False, False, False, False, True, True]
    assert facts == {"groups": 3, "duplicates": 4, "duplicates_of_earlier": 3, "largest": 2, "without_key": 0}
    alone, _ = resolve(stage_of(against=["one"]), rows, earlier={"one": []})
    assert alone["exact_kept_output"].null_count == 6


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://Example.COM/a/", "example.com/a"),
        ("http://example.com:80/a#top", "example.com/a"),
        ("HTTPS://example.com:443", "example.com"),
        ("https://example.com:443?x=1", "example.com?x=1"),
        ("https://example.com:80/", "example.com:80"),
        ("http://example.com:8080/", "example.com:8080"),
        ("//example.com/a", "example.com/a"),
        ("Example.com/A", "example.com/A"),
        ("http://example.com/?q=A/", "example.com?q=A/"),
        ("http://example.com/a//", "example.com/a/"),
        ("http://User:Pass@Example.com/", "User:Pass@example.com"),
        ("http://[2001:DB8::1]:80/x", "[2001:db8::1]/x"),
        ("FTP://Example.com/", "ftp://example.com"),
        ("http://www.example.com/", "www.example.com"),
        ("  http://example.com/%7Ea\n", "example.com/%7Ea"),
        ("http://example.com/a?u=http://B.com#x", "example.com/a?u=http://B.com"),
        ("http://exämple.com/Ü", "exämple.com/Ü"),
        ("http://", None),
        ("#only", None),
        ("", None),
        (None, None),
    ],
)
def test_urls_lose_what_does_not_change_the_page(url, same) -> None:
    assert normal_url(pa.array([url], pa.large_string())).to_pylist() == [same]


def test_keys_depend_on_the_value_alone() -> None:
    values = ["a", None, "", "é", "a"]
    plain = value_keys(pa.array(values))
    assert plain["hi"].to_pylist()[1] is None
    assert len(set(zip(*plain.to_pydict().values()))) == 4
    for kind in (
        pa.large_string(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.string_view(),
    ):
        assert value_keys(pa.array(values).cast(kind)) == plain
    assert value_keys(pa.chunked_array([values[:2], values[2:]])) == plain
    assert value_keys(pa.array(["x", *values]).slice(1)) == plain
    assert url_keys(pa.nulls(2), normalize=True)["hi"].null_count == 2
    texts = pa.array(values[2:], pa.large_string())
    assert text_keys(texts, normalize=False) == plain.slice(2)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"prefer": ["longst"]}, "longst"),
        ({"prefer": ["score down"]}, "no preference"),
        ({"prefer": [{"values(source)": []}]}, "no preference"),
        ({"prefer": [{"value(source)": ["a"]}]}, "no preference"),
        ({"key": "title", "normalize": True}, "normalize: is for the keys text and url"),
        ({"keys": "text"}, "Extra inputs"),
    ],
)
def test_a_wrong_config_is_refused(config, says) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        stage_of(**config)


def test_types_that_cannot_be_compared_are_refused_before_the_run() -> None:
    with pytest.raises(RecipeError, match="tags has the type list"):
        stage_of(prefer=["tags desc"]).check(pa.schema({"text": pa.large_string(), "tags": pa.list_(pa.string())}))


def test_real_text_equals_a_dictionary(shared_data) -> None:
    files = sorted((shared_data / "web").glob("*.parquet"))[:3]
    table = pa.concat_tables([pq.read_table(file, columns=["id", "text", "lang"]) for file in files])
    table = table.rename_columns(["doc_id", "text", "lang"])
    first: dict[str, str] = {}
    spaces = re.compile(f"[{''.join(map(chr, WHITE_SPACE))}]+")
    texts = [spaces.sub(" ", text).strip(" ") for text in table["text"].to_pylist()]
    # str.lower looks at the context of a capital sigma and makes two characters of U+0130; the key does neither
    texts = ["".join(map(str.lower, text)) if "Σ" in text else text.lower() for text in texts]
    texts = [text.replace("i\u0307", "i") if "i\u0307" in text else text for text in texts]
    ids: list[Any] = table["doc_id"].to_pylist()
    for text, doc_id in zip(texts, ids):
        first[text] = min(first.get(text, doc_id), doc_id)
    verdict, facts = resolve(stage_of(), table, cuts=range(1000, len(table), 3000), order=0)
    expected = [None if first[text] == doc_id else first[text] for text, doc_id in zip(texts, ids)]
    assert verdict["exact_kept_doc_id"].to_pylist() == expected
    assert facts["duplicates"] == len(ids) - len(first) > 50
