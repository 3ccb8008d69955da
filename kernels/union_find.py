"""Connected components of edges between 64-bit ids: in one array, or contracted partition by partition.

Invariant: two ids get one label, or one root in the end, exactly if a path of edges joins them.

One array: `unite` and `labels`, four bytes for each id that there may be. Contraction: `fold` finds the components of
one partition, `join` ties together what folds say of one node, `relabel` carries labels back; see stages/_components.py.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

from .buckets import PAIRS, mix64, sort_pairs

PARENT = types.Array(types.uint32, 1, "C")
ALONE = np.uint32(0xFFFFFFFF)  # the parent of an id without an edge; ids are below it
MOST_IDS = int(ALONE)


@numba.njit(types.uint32(PARENT, types.uint32), nogil=True, cache=True)
def _find(parent, node):
    """The root, halving the path on the way (Tarjan and van Leeuwen 1984)."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@numba.njit(types.int64(PARENT, PAIRS), nogil=True, cache=True)
def _unite(parent, edges):
    for i in range(len(edges)):
        if max(edges[i, 0], edges[i, 1]) >= np.uint64(len(parent)):
            return i
        a, b = np.uint32(edges[i, 0]), np.uint32(edges[i, 1])
        if a == b:
            continue
        a = _find(parent, a) if parent[a] != ALONE else a
        b = _find(parent, b) if parent[b] != ALONE else b
        low = min(a, b)  # the smaller id stays root: a parent is never above its child
        parent[a] = low
        parent[b] = low
        parent[low] = low
    return -1


def forest(ids: int) -> np.ndarray:
    """uint32[ids] for `unite`: no id has an edge yet. ValueError past MOST_IDS."""
    if ids > MOST_IDS:
        raise ValueError(f"{ids} ids: 32-bit parents reach {MOST_IDS}")
    return np.full(ids, ALONE, np.uint32)


def unite(parent: np.ndarray, edges: np.ndarray) -> None:
    """Joins the ends of every edge (uint64[m, 2]); an id to itself counts as no edge. ValueError for an id that the
    forest does not have."""
    bad = _unite(parent, edges)
    if bad >= 0:
        raise ValueError(f"the edge {edges[bad].tolist()} leaves the {len(parent)} ids")


@numba.njit(types.int64(PARENT), nogil=True, cache=True)
def flatten(parent):
    """Makes every id point at its root, the smallest id of its component; returns how many ids have an edge."""
    count = 0
    for i in range(len(parent)):
        if parent[i] != ALONE:
            parent[i] = parent[parent[i]]  # ids below i point at their roots already
            count += 1
    return count


@numba.njit(PAIRS(PARENT, types.int64, types.int64), nogil=True, cache=True)
def labels(parent, start, stop):
    """uint64[k, 2]: (id, root) of the ids of [start, stop) that have an edge, ascending. `parent`: after `flatten`."""
    count = 0
    for i in range(start, stop):
        count += parent[i] != ALONE
    found = np.empty((count, 2), np.uint64)
    at = 0
    for i in range(start, stop):
        if parent[i] != ALONE:
            found[at, 0] = i
            found[at, 1] = parent[i]
            at += 1
    return found


# --- contraction


@numba.njit(types.int64(types.int64), nogil=True, cache=True)
def _table_size(ids):
    size = 16
    while size < 2 * ids:
        size *= 2
    return size


@numba.njit(types.int64(PARENT, types.Array(types.uint64, 1, "C"), types.uint64), nogil=True, cache=True)
def _slot(table, ids, wanted):
    """Where the table has the place of an id within `ids`, or the free slot where it belongs."""
    mask = np.uint64(len(table) - 1)
    at = mix64(wanted) & mask
    while table[at] != ALONE and ids[table[at]] != wanted:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@numba.njit(PAIRS(PAIRS, types.uint64), nogil=True, cache=True)
def fold(edges, salt):
    """uint64[k, 2]: (node, root) of the nodes of the edges, the roots themselves among them. The root of a component
    is its member with the smallest mix64(id ^ salt), so folds of one salt agree on who goes first."""
    most = len(edges)
    for i in range(len(edges)):  # ends in sorted edges repeat: a tighter bound on the number of nodes
        most += i == 0 or edges[i, 0] != edges[i - 1, 0]
    table = np.full(_table_size(most), ALONE, np.uint32)
    ids = np.empty(most, np.uint64)
    parent = np.empty(most, np.uint32)
    used = 0
    ends = np.empty(2, np.uint32)
    for i in range(len(edges)):
        for end in range(2):
            at = _slot(table, ids, edges[i, end])
            if table[at] == ALONE:
                table[at] = used
                ids[used] = edges[i, end]
                parent[used] = used
                used += 1
            ends[end] = _find(parent, table[at])
        a, b = ends[0], ends[1]
        if a != b:
            if mix64(ids[a] ^ salt) < mix64(ids[b] ^ salt):
                parent[b] = a
            else:
                parent[a] = b
    found = np.empty((used, 2), np.uint64)
    for i in range(used):
        found[i, 0] = ids[i]
        found[i, 1] = ids[_find(parent, np.uint32(i))]
    return found


@numba.njit(types.UniTuple(types.int64, 2)(PAIRS, types.uint64, PAIRS, PAIRS), nogil=True, cache=True)
def _join(pairs, salt, links, edges):
    found, made, start = 0, 0, 0
    while start < len(pairs):
        node, best = pairs[start, 0], pairs[start, 1]
        stop = start + 1
        while stop < len(pairs) and pairs[stop, 0] == node:
            if mix64(pairs[stop, 1] ^ salt) < mix64(best ^ salt):
                best = pairs[stop, 1]
            stop += 1
        links[found, 0] = node
        links[found, 1] = best
        found += 1
        for i in range(start, stop):
            if pairs[i, 1] != best:
                edges[made, 0] = min(best, pairs[i, 1])
                edges[made, 1] = max(best, pairs[i, 1])
                made += 1
        start = stop
    return found, made


def join(pairs: np.ndarray, salt: int) -> tuple[np.ndarray, np.ndarray]:
    """(links (node, its best root), edges between its best root and its others; smaller id first), both uint64[k, 2],
    of what folds say of the same nodes: pairs (node, root), with the salt of those folds. `pairs` is lost."""
    pairs = sort_pairs(pairs, 0)
    links, edges = np.empty_like(pairs), np.empty_like(pairs)
    found, made = _join(pairs, salt, links, edges)
    return links[:found], edges[:made]


@numba.njit(types.void(PAIRS, PAIRS), nogil=True, cache=True)
def relabel(links, labels):
    """In each link (node, root) the root becomes its label, where labels (root, label) have one."""
    table = np.full(_table_size(len(labels)), ALONE, np.uint32)
    ids = labels[:, 0].copy()
    for i in range(len(labels)):
        table[_slot(table, ids, ids[i])] = i
    for i in range(len(links)):
        at = table[_slot(table, ids, links[i, 1])]
        if at != ALONE:
            links[i, 1] = labels[at, 1]
