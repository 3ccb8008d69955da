"""What training a fastText model begins with: random rows, the table of sigmoids, the tree of hierarchical softmax.

Invariant: the numbers of fastText 0.9.2 as built on Linux (libstdc++), with one thread; equal on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numba import types

VECTOR = types.Array(types.float32, 1, "C")
LEHMER, MODULUS = 48271, 2147483647  # std::minstd_rand
MAX_SIGMOID, SIGMOID_STEPS = 8, 512


class Tree(NamedTuple):
    """Huffman tree over labels: the inner nodes from label l to the root are nodes[starts[l]:starts[l + 1]]."""

    starts: np.ndarray  # int64[labels + 1]
    nodes: np.ndarray  # int32
    right: np.ndarray  # bool: whether the way to this node came from its right child


@nb.njit(types.void(VECTOR, types.int64, types.float64, types.int64), nogil=True, cache=True)
def _uniform(out, count, bound, seed):
    """out[:count] as libstdc++'s uniform_real_distribution(-bound, bound) over minstd_rand(seed) gives them."""
    x = np.int64(seed % MODULUS)
    if x == 0:
        x = 1
    span = np.float64(MODULUS - 1)
    for i in range(count):
        x = x * LEHMER % MODULUS
        low = np.float64(x - 1)
        x = x * LEHMER % MODULUS
        out[i] = np.float32((low + np.float64(x - 1) * span) / (span * span) * (bound + bound) - bound)


def initial(rows: int, dim: int, seed: int) -> np.ndarray:
    """float32[rows, dim] before training: the first tenth random in -1/dim .. 1/dim, the rest 0.

    That is what fastText does with one thread: it fills a tenth for each. The most frequent words lie there. Fewer than
    ten cells are all random here (fastText leaves them 0 and then cannot learn).
    """
    matrix = np.zeros((rows, dim), np.float32)
    cells = rows * dim
    _uniform(matrix.reshape(-1), cells // 10 or cells, float(np.float32(1.0 / dim)), seed)
    return matrix


def sigmoids() -> np.ndarray:
    """float32[513]: the logistic function at -8, -8 + 1/32, ..., 8."""
    at = np.arange(SIGMOID_STEPS + 1, dtype=np.float32) * np.float32(2 * MAX_SIGMOID / SIGMOID_STEPS) - MAX_SIGMOID
    falling = np.exp(-at.astype(np.float64)).astype(np.float32)  # exp is rounded to float32, the rest is float64
    return (1.0 / (1.0 + falling.astype(np.float64))).astype(np.float32)


def huffman(counts: np.ndarray) -> Tree:
    """The tree of hierarchical softmax over labels of these counts, which must fall. Row i of the output matrix is the
    i-th inner node made."""
    labels = len(counts)
    weight = [int(count) for count in counts] + [10**15] * (labels - 1)
    parent, right = [-1] * (2 * labels - 1), [False] * (2 * labels - 1)
    leaf, node = labels - 1, labels
    for new in range(labels, 2 * labels - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        weight[new] = weight[pair[0]] + weight[pair[1]]
        parent[pair[0]] = parent[pair[1]] = new
        right[pair[1]] = True
    starts, nodes, turns = [0], [], []
    for label in range(labels):
        at = label
        while parent[at] >= 0:
            nodes.append(parent[at] - labels)
            turns.append(right[at])
            at = parent[at]
        starts.append(len(nodes))
    return Tree(np.array(starts, np.int64), np.array(nodes, np.int32), np.array(turns, np.bool_))
