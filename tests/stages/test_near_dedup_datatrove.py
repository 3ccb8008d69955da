"""The case by which datatrove tests its own MinHash: overlapping windows of one text fall into exactly six clusters.

Offsets and window are those of datatrove's tests/pipeline/test_minhash.py; the text is ours.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest

from tamis.kernels import minhash
from tamis.stages.near_dedup import NearDedup, NearDedupConfig, binary_rows

from ..bench.near_pairs import ASCII_WORDS, grams, jaccard
from .local_context import resolve

LOREM = """lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna
aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat duis aute irure
in reprehenderit voluptate velit esse cillum eu fugiat nulla pariatur excepteur sint occaecat cupidatat non proident sunt
culpa qui officia deserunt mollit anim id est laborum"""
CLUSTERS = [[0, 20, 50], [400, 420], [800, 810, 820, 840, 860], [1205, 1215, 1225, 1245], [1600], [2000]]
WINDOW, N = 400, 5
BANDS, ROWS = 40, 5


def lorem_ipsum(length: int) -> str:
    draw, text, words = random.Random(1500), "", LOREM.split()
    while len(text) < length:
        sentence = " ".join(draw.choice(words) for _ in range(draw.randint(6, 14)))
        text += f"{sentence.capitalize()}. "
    return text[:length]


TEXT = lorem_ipsum(2500)
OFFSETS = [offset for cluster in CLUSTERS for offset in cluster]
WINDOWS = {offset: TEXT[offset : offset + WINDOW] for offset in OFFSETS}


def overlap(one: int, other: int) -> float:
    """True similarity of two windows, from Python sets."""
    left, right = (grams(ASCII_WORDS(WINDOWS[offset].lower()), N) for offset in (one, other))
    return jaccard(left, right)


def law(similarity: float) -> float:
    return 1 - (1 - similarity**ROWS) ** BANDS


def clusters_of(order: list[int]) -> list[list[int]]:
    """Offsets by cluster as near_dedup finds them, windows given in `order`, one unit each."""
    rows = pa.table({"text": pa.array([WINDOWS[offset] for offset in order], pa.large_string())})
    stage = NearDedup(NearDedupConfig(ngram=N, bands=BANDS, rows=ROWS), name="near_dedup")
    verdict, _ = resolve(stage, rows, cuts=range(1, len(order)), order=3)
    found: dict[str, list[int]] = {}
    for offset, cluster in zip(order, verdict["near_cluster"].to_pylist(), strict=True):
        found.setdefault(cluster or f"alone {offset}", []).append(offset)
    return sorted(sorted(cluster) for cluster in found.values())


def test_the_law_makes_the_six_clusters_certain() -> None:
    """The chance that a neighbour in a cluster is missed, or that two clusters meet, is below one in a thousand."""
    missed = sum(1 - law(overlap(*pair)) for cluster in CLUSTERS for pair in itertools.pairwise(cluster))
    met = sum(
        law(overlap(one, other))
        for left, right in itertools.combinations(CLUSTERS, 2)
        for one, other in itertools.product(left, right)
    )
    assert missed + met < 1e-3
    assert 0 < overlap(CLUSTERS[0][-1], CLUSTERS[1][0]) < 0.1
    assert overlap(*CLUSTERS[1]) < 0.9


@pytest.mark.parametrize("seed", range(4))
def test_overlapping_windows_fall_into_datatroves_six_clusters(seed: int) -> None:
    order = list(OFFSETS)
    random.Random(seed).shuffle(order)
    assert clusters_of(order) == CLUSTERS


def test_estimates_are_within_021_of_the_true_overlap() -> None:
    """datatrove's bound, with its 112 permutations, for every pair of windows."""
    stage = NearDedup(NearDedupConfig(ngram=N, bands=14, rows=8), name="near_dedup")
    texts = pa.table({"text": pa.array(list(WINDOWS.values()), pa.large_string())})
    sketches = binary_rows(stage.measure(texts)["near_sketch"], 112)
    pairs = list(itertools.combinations(range(len(OFFSETS)), 2))
    left, right = np.array(pairs).T.copy()
    estimates = minhash.estimate(sketches, left, right)
    truth = np.array([overlap(OFFSETS[one], OFFSETS[other]) for one, other in pairs])
    assert np.abs(estimates - truth).max() < 0.21
    assert truth.max() > 0.8
    assert truth.min() == 0
