"""Bands and rows of locality-sensitive hashing for a similarity that somebody asked for.

Invariant: the choice is that of datasketch's MinHashLSH with its default weights: of all bands and rows whose product is
at most the number of permutations, those with the least sum of the two areas of error under the S-curve.
"""

from __future__ import annotations

import functools
import math

import numpy as np

_NODES = 64  # of Gauss-Legendre quadrature on each side of the threshold: errors are far below the gaps between choices


def probability(similarity: float, bands: int, rows: int) -> float:
    """1 - (1 - s^rows)^bands: how probably two documents of Jaccard similarity s share a band (Leskovec et al., Mining
    of Massive Datasets, 3.4.2)."""
    missed = 1.0 - similarity**rows
    return 1.0 if missed <= 0.0 else -math.expm1(bands * math.log(missed))


@functools.cache
def solve(similarity: float, permutations: int) -> tuple[int, int]:
    """(bands, rows) for a threshold between 0 and 1 and at most so many permutations (at least 2).

    Least area under the curve left of the threshold (false positives) plus that above it to the right (false negatives).
    """
    if not 0 < similarity < 1 or permutations < 2:
        raise ValueError(
            f"similarity {similarity}, permutations {permutations}: between 0 and 1, and at least 2, are possible"
        )
    at, weight = np.polynomial.legendre.leggauss(_NODES)
    left, right = similarity * (at + 1) / 2, similarity + (1 - similarity) * (at + 1) / 2
    best = (math.inf, 0, 0)
    for rows in range(1, permutations + 1):
        bands = np.arange(1, permutations // rows + 1)[:, None]
        below = -np.expm1(bands * np.log1p(-(left**rows))) @ weight * similarity / 2
        above = np.exp(bands * np.log1p(-(right**rows))) @ weight * (1 - similarity) / 2
        error = below + above
        least = int(error.argmin())
        best = min(best, (float(error[least]), least + 1, rows))
    return best[1], best[2]
