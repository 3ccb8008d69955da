"""Predictive strength of documents: how many pairs of models a document's losses order as their abilities do (PreSelect,
Shum et al. 2025, arXiv 2503.00808, equation 2; ties as the released code has them).

Invariant: a document's strength depends on its own losses and the abilities alone, and is a whole number of pairs.
"""

from __future__ import annotations

import numpy as np

CHUNK = 1 << 16  # documents compared at a time: the losses of a few models then stay in the cache


def pairs(models: int) -> int:
    """N(N - 1)/2: the strength of a document that orders all models rightly."""
    return models * (models - 1) // 2


def concordant(losses: np.ndarray, abilities: np.ndarray) -> np.ndarray:
    """int32 (n,): per document the pairs of models in which the abler one has the lower loss.

    `losses`: float (n, N) of finite numbers, all in the same unit within a document; `abilities`: float (N,), the higher
    the better. Both inequalities are strict: a pair that ties in loss, or in ability, counts for nobody.
    """
    return _count(losses, abilities, np.less)


def tied(losses: np.ndarray, abilities: np.ndarray) -> np.ndarray:
    """int32 (n,): per document the pairs of models of unequal ability that have equal losses."""
    return _count(losses, abilities, np.equal)


def _count(losses: np.ndarray, abilities: np.ndarray, compare: np.ufunc) -> np.ndarray:
    best_first = np.argsort(-np.asarray(abilities, np.float64), kind="stable")
    ranked = np.asarray(abilities, np.float64)[best_first]
    found = np.zeros(len(losses), np.int32)
    for start in range(0, len(losses), CHUNK):
        part = np.ascontiguousarray(losses[start : start + CHUNK].T[best_first])
        for abler in range(len(ranked) - 1):
            first = int(np.searchsorted(-ranked, -ranked[abler], "right"))  # the first model that is less able
            found[start : start + CHUNK] += compare(part[abler], part[first:]).sum(axis=0, dtype=np.int32)
    return found
