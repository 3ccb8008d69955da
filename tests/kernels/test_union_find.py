"""Components of edges: one array against scipy; fold, join and relabel against their plain definitions."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tamis.kernels.buckets import mix64
from tamis.kernels.union_find import MOST_IDS, flatten, fold, forest, join, labels, relabel, unite

edge_lists = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)
big = st.sampled_from([0, 1, 2**32, 2**33, 2**63, 2**64 - 1]) | st.integers(0, 6)
big_edges = st.lists(st.tuples(big, big).filter(lambda edge: edge[0] != edge[1]), max_size=20)


def array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2)


def best(nodes: list[int], salt: int) -> int:
    return min(nodes, key=lambda node: int(mix64(np.uint64(node ^ salt))))


def components(edges: list[tuple[int, int]]) -> list[set[int]]:
    """By scipy, of the nodes that stand in an edge."""
    nodes = sorted({node for edge in edges for node in edge})
    at = {node: i for i, node in enumerate(nodes)}
    rows, columns = [at[a] for a, _ in edges], [at[b] for _, b in edges]
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(nodes),) * 2)
    found = defaultdict(set)
    for node, label in zip(nodes, connected_components(graph, directed=False)[1] if nodes else []):
        found[label].add(node)
    return list(found.values())


@settings(max_examples=300, deadline=None)
@given(edge_lists, st.integers(0, 30))
def test_the_array_gives_the_components_of_scipy_labelled_by_their_smallest_id(edges, cut) -> None:
    parent = forest(20)
    unite(parent, array(edges[:cut]))
    unite(parent, array(edges[cut:]))
    real = [edge for edge in edges if edge[0] != edge[1]]
    expected = {node: min(one) for one in components(real) for node in one}
    assert flatten(parent) == len(expected)
    assert labels(parent, 0, 20).tolist() == [list(item) for item in sorted(expected.items())]
    assert labels(parent, 5, 9).tolist() == [[n, label] for n, label in sorted(expected.items()) if 5 <= n < 9]


def test_long_paths_in_any_order() -> None:
    ids = 200_000
    path = np.stack([np.arange(ids - 1), np.arange(1, ids)], axis=1).astype(np.uint64)
    for edges in (path, path[::-1].copy(), np.random.default_rng(1).permutation(path), path[:, ::-1].copy()):
        parent = forest(ids)
        unite(parent, edges)
        assert flatten(parent) == ids
        assert not parent.any()


def test_an_edge_to_an_id_that_there_is_not_is_refused_and_writes_nothing() -> None:
    for bad in ((0, 5), (2**40, 1), (2**64 - 1, 2**64 - 1)):
        parent = forest(5)
        with pytest.raises(ValueError, match="leaves the 5 ids"):
            unite(parent, array([bad]))
        assert flatten(parent) == 0
    with pytest.raises(ValueError, match="32-bit"):
        forest(MOST_IDS + 1)


@settings(max_examples=300, deadline=None)
@given(big_edges, st.integers(0, 2**64 - 1))
def test_fold_links_every_node_to_the_best_of_its_component(edges, salt) -> None:
    expected = {node: best(list(one), salt) for one in components(edges) for node in one}
    found = fold(array(edges), salt).tolist()
    assert len(found) == len(expected)
    assert {pair[0]: pair[1] for pair in found} == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(big, big), max_size=20), st.integers(0, 2**64 - 1))
def test_join_ties_the_other_roots_of_a_node_to_its_best(pairs, salt) -> None:
    roots = defaultdict(list)
    for node, root in pairs:
        roots[node].append(root)
    links, edges = join(array(pairs), salt)
    firsts = {node: best(found, salt) for node, found in roots.items()}
    assert links.tolist() == [list(item) for item in sorted(firsts.items())]
    expected = [sorted([r, firsts[node]]) for node, found in roots.items() for r in found if r != firsts[node]]
    assert sorted(edges.tolist()) == sorted(expected)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(big, big), max_size=20), st.dictionaries(big, big, max_size=8))
def test_relabel_replaces_roots_that_have_a_label_and_leaves_the_others(pairs, known) -> None:
    links = array(pairs)
    relabel(links, array(list(known.items())))
    assert links.tolist() == [[node, known.get(root, root)] for node, root in pairs]
