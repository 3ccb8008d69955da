"""near_dedup: groups, choice, scope, earlier corpora, verification and guards, against naive answers."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from near_documents import families, jaccard
from pydantic import ValidationError
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tamis.stages import _components, _groups, _verify
from tamis.stages.errors import DataError
from tamis.stages.near_dedup import NearDedup, NearDedupConfig

from .local_context import Killed, LocalContext, resolve, resolve_killed_at_every_receipt, with_identity

ROWS = families(150)
CUTS = [3, 50, 51, 52, 200, 290]


def stage(**config: Any) -> NearDedup:
    made = NearDedup(NearDedupConfig.model_validate(config), name="near_dedup")
    if made.wishes:
        made.grant([name for name in made.wishes if name in ROWS.column_names])
    return made


def components(made: NearDedup, rows: pa.Table) -> list[list[int]]:
    """Rows by component of "shares a band key, and the scope", all pairs of a bucket joined, by scipy."""
    keys = made.measure(rows)["near_bands"].to_pylist()
    scope = rows[made.config.scope].to_pylist() if made.config.scope else [0] * len(rows)
    buckets = defaultdict(list)
    for row, key in enumerate(keys):
        if key is not None and scope[row] is not None:
            for band in range(made.bands):
                buckets[band, key[8 * band : 8 * band + 8], scope[row]].append(row)
    pairs = [pair for rows_of in buckets.values() for pair in itertools.combinations(rows_of, 2)]
    a, b = np.array(pairs).T if pairs else np.zeros((2, 0), int)
    _, label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(len(rows), len(rows))))
    found = defaultdict(list)
    for row, name in enumerate(label.tolist()):
        found[name].append(row)
    return list(found.values())


def expected_kept(made: NearDedup, rows: pa.Table, best: Any) -> list[int | None]:
    """For each row the row that stays for it, None where it is alone; `best`: key by which the smallest is kept."""
    kept: list[int | None] = [None] * len(rows)
    for members in components(made, rows):
        if len(members) > 1:
            for row in members:
                kept[row] = min(members, key=best)
    return kept


def verdict_kept(verdict: pa.Table) -> list[int | None]:
    """The same of a verdict; documents are named d000000 by their row."""
    found: list[int | None] = []
    for row, (cluster, kept) in enumerate(
        zip(verdict["near_cluster"].to_pylist(), verdict["near_kept_doc_id"].to_pylist())
    ):
        found.append(None if cluster is None else row if kept is None else int(kept[1:]))
    return found


def last(value: Any, *, descending: bool = False) -> tuple[bool, Any]:
    return (True, 0) if value is None else (False, -value if descending else value)


def test_groups_are_the_components_of_documents_that_share_a_band():
    made = stage()
    verdict, facts = resolve(made, ROWS, cuts=CUTS)
    kept = expected_kept(made, ROWS, lambda row: row)
    assert verdict_kept(verdict) == kept
    assert facts["duplicates"] == sum(k is not None and k != row for row, k in enumerate(kept)) > 50
    assert facts["groups"] == len({k for k in kept if k is not None})
    rules = verdict["rule"].to_pylist()
    assert rules == ["near_dedup.duplicate" if k not in (None, row) else None for row, k in enumerate(kept)]
    sizes = [None if k is None else kept.count(k) for k in kept]
    assert verdict["near_cluster_size"].to_pylist() == sizes
    assert facts["largest"] == max(filter(None, sizes))
    by_cluster = defaultdict(set)
    for cluster, k in zip(verdict["near_cluster"].to_pylist(), kept):
        by_cluster[cluster].add(k)
    assert all(len(ks) == 1 for ks in by_cluster.values())
    assert len(by_cluster) == facts["groups"] + 1


@pytest.mark.parametrize(
    ("prefer", "key"),
    [
        (["longest"], lambda r: (-len(r["text"]), r["doc_id"])),
        (["oldest"], lambda r: (r["date"] is None, r["date"] or "", r["doc_id"])),
        ([{"values(source)": ["wiki", "books"]}, "shortest"], None),
        (["quality desc"], lambda r: (*last(r["quality"], descending=True), r["doc_id"])),
    ],
)
def test_the_kept_one_is_the_preferred_one(prefer, key):
    rows = with_identity(ROWS)
    records = rows.to_pylist()
    place = {"wiki": 0, "books": 1, "forum": 2}
    key = key or (lambda r: (place[r["source"]], len(r["text"]), r["doc_id"]))
    made = stage(prefer=prefer)
    verdict, _ = resolve(made, ROWS, cuts=CUTS)
    assert verdict_kept(verdict) == expected_kept(made, ROWS, lambda row: key(records[row]))


def test_similarity_is_the_share_of_equal_bytes_of_the_sketches_less_chance():
    made = stage(bands=20, rows=10)
    verdict, _ = resolve(made, ROWS, cuts=CUTS)
    sketches = made.measure(ROWS)["near_sketch"].to_pylist()
    texts = ROWS["text"].to_pylist()
    told = 0
    for row, (kept, found) in enumerate(zip(verdict_kept(verdict), verdict["near_similarity"].to_pylist())):
        if kept in (None, row):
            assert found is None
            continue
        equal = sum(a == b for a, b in zip(sketches[row], sketches[kept])) / 200
        assert found == pytest.approx(min(max((equal - 1 / 256) / (1 - 1 / 256), 0), 1), abs=1e-6)
        assert abs(found - jaccard(texts[row], texts[kept])) < 0.2  # five standard errors of 200 minima
        told += 1
    assert told > 50


@pytest.mark.parametrize("config", [{}, {"scope": "source", "prefer": ["newest"]}, {"verify": "jaccard >= 0.8"}])
def test_units_their_order_and_kills_change_nothing(config):
    made = stage(**config)
    whole, facts = resolve(made, ROWS)
    for cuts, order in ([], 1), (CUTS, 2), (range(1, len(ROWS)), 3):
        verdict, found = resolve(made, ROWS, cuts=cuts, order=order)
        assert verdict.equals(whole)
        assert found == facts
    verdict, found = resolve_killed_at_every_receipt(made, ROWS, cuts=CUTS, order=4)
    assert verdict.equals(whole)
    assert found == facts


@pytest.mark.parametrize("parts", range(1, 9))
@pytest.mark.parametrize("one_worker", [True, False])
@pytest.mark.parametrize("config", [{}, {"verify": "jaccard >= 80%"}])
def test_both_ways_to_components_and_any_number_of_partitions_keep_the_same(monkeypatch, parts, one_worker, config):
    made = stage(prefer=["longest"], **config)
    whole, facts = resolve(made, ROWS)
    monkeypatch.setattr(_groups, "ROWS_PER_PART", max(1, facts["duplicates"] // parts))
    monkeypatch.setattr(_components, "PAIRS_PER_PART", max(1, len(ROWS) // parts))
    if not one_worker:
        monkeypatch.setattr(_components, "ONE_WORKER", 0)
    verdict, found = resolve(made, ROWS, cuts=CUTS, order=parts)
    assert verdict.equals(whole)
    assert found == facts


def test_the_order_of_the_input_moves_identities_and_nothing_else():
    made = stage(prefer=["longest"])
    rows = with_identity(ROWS)
    shuffled = rows.take(pa.array(random.Random(5).sample(range(len(rows)), len(rows))))
    kept = {}
    for table in (rows, shuffled):
        verdict, _ = resolve(made, table, cuts=CUTS)
        found = dict(zip(table["doc_id"].to_pylist(), verdict["near_kept_doc_id"].to_pylist()))
        kept[id(table)] = {doc for doc, winner in found.items() if winner is None}
    assert kept[id(rows)] == kept[id(shuffled)]


def test_scope_separates_and_a_null_scope_matches_nothing():
    sources = [None if i % 5 == 0 else s for i, s in enumerate(ROWS["source"].to_pylist())]
    rows = ROWS.set_column(ROWS.schema.get_field_index("source"), "source", pa.array(sources))
    made = stage(scope="source")
    verdict, _ = resolve(made, rows, cuts=CUTS)
    kept = verdict_kept(verdict)
    assert kept == expected_kept(made, rows, lambda row: row)
    for row, k in enumerate(kept):
        assert k is None or sources[k] == sources[row] is not None
    assert sum(k is not None for k in kept) > 20


def test_documents_of_few_words_are_compared_as_a_whole_or_kept():
    texts = ["one two", "One  two!", "two one", "...", "...", "!!!", "", "", None, "a b c d e", "a b c d e"]
    rows = pa.table({"text": pa.array(texts, pa.large_string())})
    verdict, facts = resolve(stage(watch=[]), rows)
    assert verdict_kept(verdict) == [0, 0, None, 3, 3, None, None, None, None, 9, 9]
    assert facts["documents"] == 8
    assert facts["without_text"] == 3
    verdict, facts = resolve(stage(watch=[], short="keep"), rows)
    assert verdict_kept(verdict) == [None] * 9 + [9, 9]
    assert facts["documents"] == 2


# --- earlier corpora


def earlier_corpora(seed: int) -> tuple[pa.Table, list[pa.Table]]:
    rows = families(120, seed)
    first, second = rows.slice(0, 60), rows.slice(60, 50)
    names = [pa.array([f"e{i:06d}" for i in range(k, k + len(t))]) for k, t in ((0, first), (60, second))]
    return rows.slice(110), [t.append_column("doc_id", n) for t, n in zip((first, second), names)]


@pytest.mark.parametrize("prefer", [[], ["longest"]])
def test_what_an_earlier_corpus_kept_wins(prefer):
    rows, tables = earlier_corpora(7)
    made = stage(against=["old"], prefer=prefer, watch=[])
    verdict, facts = resolve(made, rows, cuts=[10, 40], earlier={"old": tables})
    everything = pa.concat_tables([rows, *(t.drop_columns("doc_id") for t in tables)])
    own, dropped, preferred = len(rows), 0, 0
    texts = everything["text"].to_pylist()
    length = (lambda row: -len(texts[row])) if prefer else (lambda row: 0)
    kept, outputs = verdict["near_kept_doc_id"].to_pylist(), verdict["near_kept_output"].to_pylist()
    for members in components(made, everything):
        ours, theirs = [m for m in members if m < own], [m for m in members if m >= own]
        if not ours or len(members) == 1:
            assert all(kept[m] is None for m in ours)
            continue
        winner = min(theirs or ours, key=lambda m: (length(m), m))
        first = with_identity(rows).slice(min(ours), 1).to_pylist()[0]
        name = xxhash.xxh3_128_hexdigest(f"{first['source_file']}\n{first['source_row']}".encode())
        for m in ours:
            assert verdict["near_cluster"][m].as_py() == name
            assert kept[m] == (None if m == winner else f"e{winner - own:06d}" if theirs else f"d{winner:06d}")
            assert outputs[m] == ("old" if theirs else None)
        dropped += len(ours) if theirs else 0
        preferred += bool(theirs) and min(map(length, ours)) < min(map(length, theirs))
    assert facts["duplicates_of_earlier"] == dropped > 20
    assert facts["newcomer_preferred"] == preferred
    assert preferred if prefer else not preferred


def test_the_first_of_several_earlier_outputs_wins():
    rows, tables = earlier_corpora(8)
    made = stage(against=["a", "b"], watch=[])
    verdict, _ = resolve(made, rows, earlier={"a": tables[:1], "b": tables[:1]})
    outputs = set(verdict["near_kept_output"].to_pylist())
    assert outputs == {None, "a"}


def test_an_earlier_output_without_the_preferred_column_says_so():
    rows, tables = earlier_corpora(9)
    without = [t.drop_columns("quality") for t in tables]
    _, facts = resolve(stage(against=["old"], prefer=["quality desc"], watch=[]), rows, earlier={"old": without})
    assert facts["newcomer_preferred"] is None
    assert facts["duplicates_of_earlier"] > 0


# --- verification


@pytest.mark.parametrize("least", [0.6, 0.8, 0.95, 1.0])
def test_with_verify_each_dropped_document_is_as_similar_as_stated(least):
    made = stage(verify=f"jaccard >= {least}", bands=40, rows=4, prefer=["longest"])
    verdict, facts = resolve(made, ROWS, cuts=CUTS)
    texts, kept = ROWS["text"].to_pylist(), verdict_kept(verdict)
    leaders: list[int | None] = [None] * len(ROWS)
    false = candidates = 0
    for members in components(made, ROWS):
        led: list[int] = []
        for row in sorted(members, key=lambda r: (-len(texts[r]), r)):
            leader = next((k for k in led if jaccard(texts[row], texts[k]) >= least), None)
            leaders[row] = row if leader is None else leader
            led += [row] if leader is None else []
        false += len(led) - 1
        candidates += len(members) - 1
    alone = [leaders.count(leader) == 1 for leader in leaders]
    assert kept == [None if a else leader for a, leader in zip(alone, leaders)]
    for row, (k, found) in enumerate(zip(kept, verdict["near_similarity"].to_pylist())):
        if k not in (None, row):
            assert found == pytest.approx(jaccard(texts[row], texts[k]))
            assert found >= np.float32(least)
    assert (facts["candidates"], facts["false_candidates"]) == (candidates, false)
    assert candidates > 80
    assert false > 10 or least < 0.95


def test_verification_in_slices_of_any_size_gives_the_same(monkeypatch):
    made = stage(verify="jaccard >= 0.9", bands=40, rows=4)
    whole, facts = resolve(made, ROWS, cuts=CUTS)
    for size in (1, 300, 2000):
        monkeypatch.setattr(_verify, "SLICE_SHINGLES", size)
        monkeypatch.setattr(_verify, "ROWS_PER_ITEM", size)
        verdict, found = resolve(made, ROWS, cuts=CUTS, order=size)
        assert verdict.equals(whole)
        assert found == facts


def test_documents_beyond_the_leaders_stay(monkeypatch):
    made = stage(verify="jaccard >= 0.9", bands=40, rows=4)
    whole, _ = resolve(made, ROWS, cuts=CUTS)
    monkeypatch.setattr(_verify, "MOST_LEADERS", 1)
    for size in (1, 1 << 24):
        monkeypatch.setattr(_verify, "SLICE_SHINGLES", size)
        verdict, _ = resolve(made, ROWS, cuts=CUTS)
        texts = ROWS["text"].to_pylist()
        for row, k in enumerate(verdict_kept(verdict)):
            assert k in (None, row) or jaccard(texts[row], texts[k]) >= 0.9
        dropped = [r is not None for r in verdict["rule"].to_pylist()]
        assert all(b or not a for a, b in zip(dropped, (r is not None for r in whole["rule"].to_pylist())))


# --- guards


def copies(count: int) -> pa.Table:
    page = families(1, seed=99, words=200)["text"][0].as_py()
    texts = [f"{page} {'abcdefgh'[i % 8]}" for i in range(count)]
    return pa.concat_tables(
        [
            ROWS.select(["text", "source"]),
            pa.table({"text": pa.array(texts, pa.large_string()), "source": pa.array(["shop"] * count)}),
        ]
    )


def test_a_large_cluster_and_a_source_that_is_lost_raise_alarms():
    made = stage(max_cluster=100)
    rows = copies(150)
    verdict, facts = resolve(made, rows, cuts=CUTS)
    clusters = [a for a in facts["alarms"] if a["kind"] == "cluster"]
    losses = [a for a in facts["alarms"] if a["kind"] == "loss"]
    first = verdict["near_cluster"].to_pylist()[len(ROWS)]
    assert clusters == [
        {"kind": "cluster", "cluster": first, "documents": 150, "doc_id": f"d{len(ROWS):06d}", "most": 100}
    ]
    assert losses == [{"kind": "loss", "column": "source", "value": "shop", "documents": 150, "lost": 149}]
    largest = facts["largest_buckets"][0]
    assert largest["documents"] >= 18
    assert largest["source_file"]
    assert largest["doc_id"] >= f"d{len(ROWS):06d}"
    assert resolve(stage(max_cluster=150, max_loss=0.999), rows)[1]["alarms"] == []
    assert resolve(stage(max_cluster=150, watch=[]), rows)[1]["alarms"] == []


def test_on_alarm_stop_ends_the_run_and_warn_goes_on_from_there():
    rows = copies(150)
    context = LocalContext(stage(on_alarm="stop"), rows, cuts=CUTS)
    with pytest.raises(DataError, match=r"source = shop lost 149 of 150.*near_dedup.on_alarm=warn"):
        context.resolve()
    ran = list(context.runs)
    context.stage = stage()
    assert context.resolve()["duplicates"] > 149
    assert context.runs == ran
    assert stage().not_in_key == {"on_alarm"}


def test_a_watched_column_with_too_many_values_is_told(monkeypatch):
    monkeypatch.setattr("tamis.stages._near.WATCHED_VALUES", 10)
    _, facts = resolve(stage(watch=["family", "source"]), ROWS)
    assert facts["unwatched"] == ["family"]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"similarity": 0.8, "bands": 14}, "stands in place of bands and rows"),
        ({"permutations": 64}, "goes with similarity"),
        ({"verify": "jaccard > 0.8"}, "write 'jaccard >= 0.8'"),
        ({"verify": "jaccard >= 1.8"}, "write 'jaccard >= 0.8'"),
        ({"verify": "jaccard >= 0.8", "against": ["out"]}, "use near_dedup twice"),
        ({"prefer": ["best"]}, "is no preference"),
        ({"ngram": 0}, "greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(config, complaint):
    with pytest.raises(ValidationError, match=complaint):
        NearDedupConfig.model_validate(config)


def test_bands_and_rows_are_solved_for_a_similarity():
    made = stage(similarity=0.8)
    assert (made.bands, made.rows) == (9, 13)
    assert [str(c.type) for c in made.adds[:2]] == ["fixed_size_binary[72]", "fixed_size_binary[117]"]


def test_nobody_to_compare():
    empty = ROWS.slice(0, 0)
    for config in {}, {"verify": "jaccard >= 0.5"}:
        verdict, facts = resolve(stage(**config), empty)
        assert len(verdict) == 0
        assert facts["documents"] == facts["duplicates"] == 0
        verdict, facts = resolve(stage(**config), ROWS.slice(0, 1), cuts=[1])
        assert verdict["rule"].to_pylist() == [None]
        assert facts["groups"] == 0


def test_a_kill_between_the_phases_repeats_nothing():
    context = LocalContext(stage(verify="jaccard >= 0.8"), ROWS, cuts=CUTS, order=1)
    rng, kills = random.Random(2), 0
    while True:
        context.receipts_left = rng.randint(1, 4)
        try:
            context.resolve()
        except Killed:
            kills += 1
            continue
        break
    assert kills > 3
    assert len(set(context.runs)) == len(context.receipts)
