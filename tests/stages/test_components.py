"""connect: from band keys to components, the same for both algorithms, any partitions, salts, readers and kills."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tamis.stages import _components
from tamis.stages._components import connect
from tamis.stages.base import Column, Stage
from tamis.stages.errors import StageError

from .local_context import LocalContext, resolve, resolve_killed_at_every_receipt

BANDS = 3


class Keyed(Stage):
    """Documents with the keys of their bands at hand; adds the label of their component. One group per unit."""

    own: int | None = None  # documents below are this run's; None: all
    order: int | None = None  # seed for the order of readers

    @property
    def needs(self) -> tuple[str, ...]:
        return ("keys",)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("label", pa.uint64(), ""),)

    @property
    def measured(self) -> tuple[str, ...]:
        return ()

    def band_keys(self, task: Any, payload: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = task.rows(payload, ["keys"])
        rows = rows.filter(rows["keys"].is_valid())
        keys = np.array(rows["keys"].to_pylist(), np.uint64).reshape(len(rows), BANDS)
        return rows["n"].to_numpy(), keys

    def resolve(self, runs: Any, ctx: Any) -> dict[str, Any]:
        documents = sum(u.rows for u in runs.units)
        readers = {f"r{u.index}": u.index for u in runs.units}
        if self.order is not None:
            names = random.Random(self.order).sample(list(readers), len(readers))
            readers = {name: readers[name] for name in names}
        starts = [u.n0 for u in runs.units]
        graph = connect(ctx, readers, documents, starts, BANDS, documents if self.own is None else self.own)
        ctx.map("verdict", _verdict, {f"v{i}": [i, graph.phase, graph.items] for i in range(len(starts))})
        return graph.facts


def _verdict(task: Any, stage: Stage, value: Any) -> dict[str, Any]:
    unit, phase, items = value
    found = np.concatenate([task.load_array(phase, item, unit) for item in items])
    n = task.rows(unit, [])["n"].to_numpy()
    assert len(np.unique(found["n"])) == len(found)
    assert np.isin(found["n"], n).all()
    label = dict(zip(found["n"].tolist(), found["label"].tolist()))
    task.write(unit, pa.table({"label": pa.array([label.get(one) for one in n.tolist()], pa.uint64())}))
    return {}


def rows(keys: np.ndarray | list[list[int] | None]) -> pa.Table:
    """One row per document with its keys, or null."""
    found = keys.tolist() if isinstance(keys, np.ndarray) else keys
    return pa.table({"keys": pa.array(found, pa.list_(pa.uint64()))})


def stage(**settings: Any) -> Keyed:
    made = Keyed(Keyed.Config(), name="keyed")
    vars(made).update(settings)
    return made


# --- the plain definition


def expected(keys: list[list[int] | None], own: int | None = None) -> tuple[list[set[int]], dict[str, Any]]:
    """Components of two and more, sorted by their first document, and the facts."""
    own = len(keys) if own is None else own
    buckets = defaultdict(list)
    for n, found in enumerate(keys):
        for band, key in enumerate(found or []):
            buckets[band, key].append(n)
    chosen = {at: found for at, found in buckets.items() if len(found) > 1 and found[0] < own}
    edges = {(found[0], other) for found in chosen.values() for other in found[1:]}
    rows, columns = zip(*edges) if edges else ((), ())
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(keys), len(keys)))
    labels = connected_components(graph, directed=False)[1] if len(keys) else []
    found = parts_of(dict(enumerate(np.asarray(labels).tolist())))
    connected = {n for edge in edges for n in edge}
    parts = [one for one in found if one & connected]
    assert set().union(*parts) == connected
    largest = sorted(
        ([len(found), band, found[0]] for (band, _), found in chosen.items()), key=lambda b: (-b[0], *b[1:])
    )
    once = [b for i, b in enumerate(largest) if b[2] not in {earlier[2] for earlier in largest[:i]}]
    return parts, {"edges": len(edges), "connected": len(connected), "buckets": once[:10]}


def parts_of(labels: Mapping[int, int]) -> list[set[int]]:
    found = defaultdict(set)
    for n, label in labels.items():
        found[label].add(n)
    return sorted(found.values(), key=min)


def partition(verdict: pa.Table) -> list[set[int]]:
    labels = zip(verdict["n"].to_pylist(), verdict["label"].to_pylist())
    return parts_of({n: label for n, label in labels if label is not None})


# --- graphs, as band keys


def path(order: np.ndarray) -> np.ndarray:
    """Documents along a path: each shares a key with the one before and the one after it."""
    keys = np.empty((len(order), BANDS), np.int64)
    at = np.arange(len(order))
    keys[order] = np.stack([at // 2, (at + 1) // 2, at + 10 * len(order)], axis=1)
    return keys


def clusters(documents: int, per_key: int, seed: int) -> np.ndarray:
    """Random keys, of which each has about `per_key` documents."""
    return np.random.default_rng(seed).integers(0, max(1, documents // per_key), (documents, BANDS))


def sparse(documents: int, seed: int) -> np.ndarray:
    """Many light clusters: a tenth of the documents copy a band of another one."""
    rng = np.random.default_rng(seed)
    keys = np.arange(documents * BANDS).reshape(documents, BANDS)
    copy, of = rng.choice(documents, documents // 10, replace=False), rng.integers(0, documents, documents // 10)
    band = rng.integers(0, BANDS, documents // 10)
    keys[copy, band] = keys[of, band]
    return keys


def star(documents: int) -> np.ndarray:
    keys = np.arange(documents * BANDS).reshape(documents, BANDS)
    keys[:, 1] = 5
    return keys


RNG = np.random.default_rng(0)
GRAPHS = {
    "increasing path": path(np.arange(2000)),
    "random path": path(RNG.permutation(2000)),
    "light clusters": sparse(3000, 1),
    "middle clusters": clusters(2000, 1, 2),
    "heavy clusters": clusters(800, 8, 3),
    "star": star(1000),
    "all the same": np.zeros((500, BANDS), np.int64),
    "nothing shared": np.arange(300 * BANDS).reshape(300, BANDS),
}


def small(monkeypatch: pytest.MonkeyPatch, documents: int, parts: int, finish: bool, salt: int = 0) -> None:
    """Contraction, in about `parts` partitions of edges and of nodes."""
    monkeypatch.setattr(_components, "ONE_WORKER", 0)
    monkeypatch.setattr(_components, "PAIRS_PER_PART", 2 * -(-documents // parts))
    monkeypatch.setattr(_components, "MANY_PARTS", 10**9)
    monkeypatch.setattr(_components, "FINISH_EDGES", documents // 4 if finish else 0)
    monkeypatch.setattr(_components, "SALT", salt)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("units", [1, 5])
def test_one_array_gives_the_components_of_scipy(name: str, units: int) -> None:
    keys = GRAPHS[name].tolist()
    parts, facts = expected(keys)
    cuts = [len(keys) * i // units for i in range(1, units)]
    verdict, found = resolve(stage(order=units), rows(keys), cuts=cuts, order=units)
    assert partition(verdict) == parts
    assert found == facts


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("parts", range(1, 9))
@pytest.mark.parametrize("finish", [True, False])
def test_contraction_gives_the_same(monkeypatch, name: str, parts: int, finish: bool) -> None:
    keys = GRAPHS[name].tolist()
    expected_parts, facts = expected(keys)
    small(monkeypatch, len(keys), parts, finish, salt=parts)
    context = LocalContext(stage(order=parts), rows(keys), cuts=[100, 100, 250], order=parts)
    assert context.resolve() == facts
    assert partition(context.verdict) == expected_parts
    assert sum(phase == "edges0" for phase, _ in context.runs) == parts


@pytest.mark.parametrize("salt", [0, 1, -5, 2**64 - 1, 2**70])
def test_no_salt_changes_the_components(monkeypatch, salt: int) -> None:
    keys = GRAPHS["random path"].tolist()
    small(monkeypatch, len(keys), 6, False, salt)
    verdict, _ = resolve(stage(), rows(keys))
    assert partition(verdict) == expected(keys)[0]


def test_long_paths_are_contracted_in_few_rounds_and_in_one_with_the_finish_rule(monkeypatch) -> None:
    documents = 100_000
    for order in (np.arange(documents), np.random.default_rng(5).permutation(documents)):
        for finish in (False, True):
            small(monkeypatch, documents, 8, finish)
            if finish:
                monkeypatch.setattr(_components, "FINISH_EDGES", documents)
            context = LocalContext(stage(), rows(path(order)), cuts=[50_000])
            facts = context.resolve()
            assert facts["edges"] == documents - 1
            assert pa.compute.count_distinct(context.verdict["label"]).as_py() == 1
            rounds = len({phase for phase, _ in context.runs if phase.startswith("fold")})
            assert rounds == 1 if finish else 2 <= rounds <= 30
            held = [json.loads(facts)["edges"] for (phase, _), facts in context.receipts.items() if "edges" in phase]
            assert max(held) <= _components.PAIRS_PER_PART, "a partition of a later round is bounded as well"


@pytest.mark.parametrize("contract", [False, True])
def test_a_driver_that_dies_after_every_receipt_changes_nothing(monkeypatch, contract: bool) -> None:
    keys = GRAPHS["middle clusters"][:400].tolist()
    if contract:
        small(monkeypatch, len(keys), 4, False)
    how: dict[str, Any] = {"cuts": [150, 300], "order": 3}
    undisturbed = resolve(stage(), rows(keys), **how)
    verdict, facts = resolve_killed_at_every_receipt(stage(), rows(keys), **how)
    assert (verdict, facts) == undisturbed
    assert partition(verdict) == expected(keys)[0]


def test_any_partitions_and_bundles_of_the_buckets_find_the_same(monkeypatch) -> None:
    keys = GRAPHS["heavy clusters"].tolist()
    parts, facts = expected(keys)
    for pairs in (1, 50, 100, 2000, 10**6):
        monkeypatch.setattr(_components, "PAIRS_PER_PART", pairs)
        monkeypatch.setattr(_components, "MANY_PARTS", 100)
        verdict, found = resolve(stage(), rows(keys), cuts=[300])
        assert (partition(verdict), found) == (parts, facts)


@pytest.mark.parametrize("contract", [False, True])
def test_documents_without_keys_and_units_without_documents_take_no_part(monkeypatch, contract: bool) -> None:
    keys: list[list[int] | None] = [[1, 2, 3], None, [1, 5, 6], None, [7, 8, 6], [2, 1, 3], None]
    if contract:
        small(monkeypatch, len(keys), 3, False)
    parts, facts = expected(keys)
    assert parts == [{0, 2, 4, 5}]
    verdict, found = resolve(stage(), rows(keys), cuts=[1, 1, 6])
    assert (partition(verdict), found) == (parts, facts)


@pytest.mark.parametrize("contract", [False, True])
@pytest.mark.parametrize("keys", [[], [None, None], [[1, 2, 3]]])
def test_a_graph_without_edges_has_no_labels(monkeypatch, contract: bool, keys: Any) -> None:
    if contract:
        small(monkeypatch, max(1, len(keys)), 2, False)
    verdict, facts = resolve(stage(), rows(keys))
    assert facts == {"edges": 0, "connected": 0, "buckets": []}
    assert partition(verdict) == []


def test_no_readers_at_all() -> None:
    context = LocalContext(stage(), rows([]))
    assert connect(context, {}, 0, [], BANDS, 0).facts == {"edges": 0, "connected": 0, "buckets": []}


@pytest.mark.parametrize("contract", [False, True])
def test_documents_of_earlier_corpora_connect_through_this_run_only(monkeypatch, contract: bool) -> None:
    keys: list[list[int] | None] = [
        [1, 10, 20],
        [2, 11, 21],
        [3, 12, 22],  # this run ends here
        [4, 13, 23],
        [4, 13, 24],  # shares keys with another earlier one only
        [1, 14, 25],
        [5, 14, 26],  # shares a key with an earlier one that has an edge: no edge of its own
        [5, 11, 27],
    ]
    if contract:
        small(monkeypatch, len(keys), 3, False)
    parts, facts = expected(keys, own=3)
    assert parts == [{0, 5}, {1, 7}]
    verdict, found = resolve(stage(own=3), rows(keys), cuts=[3, 5])
    assert (partition(verdict), found) == (parts, facts)


def test_the_largest_buckets_are_named_whatever_the_partitions(monkeypatch) -> None:
    keys = np.arange(3000).reshape(1000, BANDS)
    sizes = [50, 30, 30, 7, 6, 5, 5, 5, 5, 4, 3, 2]
    for i, size in enumerate(sizes):
        keys[60 * i : 60 * i + size, i % BANDS] = 10**6 + i
    expected_buckets = [[50, 0, 0], [30, 1, 60], [30, 2, 120], [7, 0, 180], [6, 1, 240]]
    expected_buckets += [[5, 0, 360], [5, 1, 420], [5, 2, 300], [5, 2, 480], [4, 0, 540]]
    for pairs in (30, 500, 10**6):
        monkeypatch.setattr(_components, "PAIRS_PER_PART", pairs)
        monkeypatch.setattr(_components, "MANY_PARTS", 10**9)
        found = resolve(stage(order=1), rows(keys), cuts=[7, 300], order=2)[1]["buckets"]
        assert found == expected_buckets


def test_contraction_that_does_not_shrink_stops_with_an_error() -> None:
    class Stuck:
        stage = None

        def map(self, phase: str, function: Any, items: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
            return {name: {"nodes": 5, "edges": 4} for name in items}

    edges = _components._Edges("edges0", {"p0": 4, "p1": 4})
    with pytest.raises(StageError, match=r"did not become smaller: nodes of each round \[20, 20\]"):
        _components._contract(Stuck(), edges, [0], 4)  # type: ignore[arg-type]


def test_parts_grow_when_there_would_be_too_many_of_them() -> None:
    size = _components.pairs_per_part
    assert size(10**6) == size(10**9) == _components.PAIRS_PER_PART
    assert size(14 * 10**10) == _components.MOST_PAIRS_PER_PART
    assert size(4 * 10**10) == 4 * 10**10 // _components.MANY_PARTS
