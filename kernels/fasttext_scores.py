"""From the mean of a text's rows to probabilities, as fastText's losses give them.

Invariant: a probability is the number that fastText's predict returns, which adds 1e-5 to every softmax, sigmoid and
branch of the tree (`std_log` in its loss.cc), brought into [0, 1]. NaN and label -1 stand where it says nothing.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba.extending import register_jitable

SOFTMAX, SIGMOID, TREE = range(3)
LOSSES = {"softmax": SOFTMAX, "ova": SIGMOID, "ns": SIGMOID, "hs": TREE}

_FLOATS = nb.types.Array(nb.float32, 1, "C", readonly=True)
_NODES = nb.types.Array(nb.int32, 2, "C", readonly=True)
_LABELS = nb.types.Array(nb.int32, 1, "C", readonly=True)

# how means become probabilities: loss, labels, whether the mean is already logits, weights (mean's width x outputs),
# tree, sigmoid table; and what is asked: labels (or none: the k most probable)
HEAD = nb.types.Tuple((nb.int64, nb.int64, nb.boolean, _FLOATS, _NODES, _FLOATS, _LABELS))
LEFT, RIGHT, PARENT = range(3)  # rows of the tree: int32[3, 2 * labels - 1], -1 for none

_EPSILON = 1e-5
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


def sigmoid_table() -> np.ndarray:
    """float32[513]: fastText's table of 1 / (1 + exp(-x)) over [-8, 8] (loss.cc)."""
    x = (np.arange(513, dtype=np.float32) * np.float32(16) / np.float32(512) - np.float32(8)).astype(np.float64)
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def tree_of(counts: np.ndarray) -> np.ndarray:
    """int32[3, 2n - 1]: left child, right child and parent of every node of fastText's Huffman tree (loss.cc).

    counts: of the labels, in their order (descending in files of fastText). Leaf i is label i; node n + i has output i.
    """
    n = len(counts)
    tree = np.full((3, 2 * n - 1), -1, np.int32)
    weight = [int(count) for count in counts] + [10**15] * (n - 1)
    leaf, node = n - 1, n
    for parent in range(n, 2 * n - 1):
        for side in (LEFT, RIGHT):
            if leaf >= 0 and weight[leaf] < weight[node]:
                child, leaf = leaf, leaf - 1
            else:
                child, node = node, node + 1
            tree[side, parent], tree[PARENT, child] = child, parent
        weight[parent] = weight[tree[LEFT, parent]] + weight[tree[RIGHT, parent]]
    return tree


@register_jitable
def _inside(value):
    return min(max(value, 0.0), 1.0)


@register_jitable
def _sigmoid(value, table):
    """From the table, in 32 bits as fastText computes its place there."""
    x = np.float32(value)
    if x < np.float32(-8.0):
        return 0.0
    if x > np.float32(8.0):
        return 1.0
    return table[np.int64((x + np.float32(8.0)) * np.float32(512.0) / np.float32(8.0) / np.float32(2.0))]


@register_jitable
def _right(logit):
    """The probability of the right branch, in 32 bits where fastText has 32: 1 - p near 0 shows it."""
    falling = np.float32(1.0) + np.float32(np.exp(-np.float32(logit)))
    return np.float64(np.float32(1.0 / np.float64(falling)))


@register_jitable
def _on_path(leaf, logits, tree):
    """The product over the branches from the root to a leaf."""
    labels, product, node = len(tree[0]) // 2 + 1, 1.0, leaf
    while tree[PARENT, node] >= 0:
        parent = tree[PARENT, node]
        right = _right(logits[parent - labels])
        product *= (right if tree[RIGHT, parent] == node else 1.0 - right) + _EPSILON
        node = parent
    return product


@register_jitable
def _insert(label, value, k, best, values):
    """Into a list that falls in value, and rises in label where values are equal."""
    if best[k - 1] >= 0 and (value < values[k - 1] or (value == values[k - 1] and label > best[k - 1])):
        return
    at = k - 1
    while at > 0 and (best[at - 1] < 0 or values[at - 1] < value or (values[at - 1] == value and best[at - 1] > label)):
        best[at], values[at] = best[at - 1], values[at - 1]
        at -= 1
    best[at], values[at] = label, value


@register_jitable
def _best_leaves(k, logits, tree, reach, best, values):
    """The k most probable leaves of those that fastText names (from 1e-5 up). A child is no likelier than its parent
    (times 1.00001 for the branch taken for sure), and children have smaller numbers than parents."""
    nodes = len(tree[0])
    labels = nodes // 2 + 1
    for node in range(nodes):
        reach[node] = 0.0
    reach[nodes - 1] = 1.0
    for node in range(nodes - 1, -1, -1):
        value = reach[node]
        if value < _EPSILON:
            continue
        if node < labels:
            _insert(node, value, k, best, values)
            continue
        right = _right(logits[node - labels])
        reach[tree[LEFT, node]] = value * (1.0 - right + _EPSILON)
        reach[tree[RIGHT, node]] = value * (right + _EPSILON)


@register_jitable
def finish(mean, head, logits, reach, best, values, names, out):
    """out: float32, the probabilities of the labels asked, or of the k best, whose numbers go to `names`.

    mean: float64[width]. logits: float64[labels]; reach: float64[2 * labels]; best, values: [k]: work areas."""
    loss, labels, ready, weights, tree, table, asked = head
    if ready:
        for i in range(min(len(mean), labels)):
            logits[i] = mean[i]
        for i in range(len(mean), labels):
            logits[i] = 0.0  # two labels under softmax: their difference, and 0
    else:
        for i in range(labels):
            logits[i] = 0.0
        for j in range(len(mean)):
            value, at = mean[j], j * labels
            for i in range(labels):
                logits[i] += value * weights[at + i]
    k = len(best)
    if loss == TREE:
        if len(asked):
            for i in range(len(asked)):
                out[i] = _inside(_on_path(asked[i], logits, tree))
            return
        for i in range(k):
            best[i], values[i] = -1, 0.0
        _best_leaves(k, logits, tree, reach, best, values)
    else:
        if loss == SOFTMAX:
            largest, total = logits[0], 0.0
            for i in range(1, labels):
                largest = max(largest, logits[i])
            for i in range(labels):
                logits[i] = np.exp(logits[i] - largest)
                total += logits[i]
            for i in range(labels):
                logits[i] = logits[i] / total + _EPSILON
        elif len(asked):
            for i in range(len(asked)):
                out[i] = _inside(_sigmoid(logits[asked[i]], table) + _EPSILON)
            return
        else:
            for i in range(labels):
                logits[i] = _sigmoid(logits[i], table) + _EPSILON
        if len(asked):
            for i in range(len(asked)):
                out[i] = _inside(logits[asked[i]])
            return
        for i in range(k):
            best[i], values[i] = -1, 0.0
        for i in range(labels):
            _insert(np.int32(i), logits[i], k, best, values)
    for i in range(k):
        names[i] = best[i]
        out[i] = _inside(values[i]) if best[i] >= 0 else np.nan


@register_jitable
def nothing(names, out):
    """Where fastText says nothing: no word of the text and no n-gram has a row."""
    for i in range(len(names)):
        names[i] = -1
    for i in range(len(out)):
        out[i] = np.nan
