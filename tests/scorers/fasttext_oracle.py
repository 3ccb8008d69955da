"""Holds our probabilities against those of fastText itself.

fastText names no label below 1e-5 under a hierarchical softmax, and may give up to 1.00001; an ova probability is an
entry of a table, so where the logit stands within rounding of a step, the neighbouring entry is as right. And it sums
rows in 32 bits: over texts of a hundred thousand words that alone is more than 1e-5 at times. Where a number is farther
from fastText's than that, it is held against exact arithmetic over the rows that fastText names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.kernels.fasttext_scores import tree_of
from tamis.scorers.fasttext import FastText, Labels, Top, pieces_of, score_together

TOLERANCE = 1e-5


def compare(model: FastText, theirs: Any, texts: Sequence[str], *, least_spread: float = 0.0) -> dict[str, float]:
    """Every label of every text, and the most probable one. `least_spread`: so much the numbers of one label must differ
    from text to text, that there is something to compare. Gives the largest
    difference, how many were neighbours, and in how many texts fastText itself was off."""
    count = len(model.labels)
    whole, (top, _) = score_together(
        [(model, Labels(tuple(range(count)))), (model, Top(1))], *pieces_of(pa.array(texts, pa.large_string()))
    )
    place = {label: at for at, label in enumerate(model.labels)}
    facts = {"largest": 0.0, "neighbours": 0.0, "drifted": 0.0}
    for start in range(0, len(texts), 500):
        # fastText takes one line at a time
        lines = [text.replace("\n", " ") for text in texts[start : start + 500]]
        for row, (names, values) in enumerate(zip(*theirs.predict(lines, k=count), strict=True), start):
            if not len(names):
                assert np.isnan(whole[row]).all()
                assert top[row, 0] == -1
                continue
            expected = np.zeros(count)
            expected[[place[name.removeprefix("__label__")] for name in names]] = np.minimum(values, 1.0)
            off = np.abs(whole[row] - expected)
            off[(expected == 0) & (whole[row] <= 1.001e-5)] = 0.0
            if model.header.loss in ("ova", "ns"):
                near = (off > TOLERANCE) & (off <= 1.01 * _step(expected))
                facts["neighbours"] += near.sum()
                off[near] = 0.0
            if off.max() > TOLERANCE and model.header.loss == "hs":
                exact = exact_tree(model, theirs, lines[row - start])
                worse = float(np.abs(expected - exact).max())
                off = np.abs(whole[row] - exact)
                assert off.max() < 1e-6 < TOLERANCE * 0.9 < worse, (off.max(), worse)
                facts["drifted"] += 1
            facts["largest"] = max(facts["largest"], float(off.max()))
            assert off.max() <= TOLERANCE, (texts[row][:80], whole[row][off.argmax()], expected[off.argmax()])
            assert expected[top[row, 0]] >= expected.max() - 2e-7, "another label, and no tie"
    spread = np.nanmax(whole, axis=0) - np.nanmin(whole, axis=0)
    assert spread.max() >= least_spread, "all texts have the same numbers: nothing was compared"
    return facts


def _step(value: np.ndarray) -> np.ndarray:
    """What a step of the sigmoid's table (1/32 of a logit) changes at most there."""
    inside = np.clip(value, 3e-4, 1 - 3e-4)
    return np.maximum(inside * (1 - inside) / 32 * 1.04, 1.5e-5)


def exact_tree(model: FastText, theirs: Any, text: str) -> np.ndarray:
    """Probabilities under a hierarchical softmax without word n-grams, in 64 bits: over the rows that fastText gives for
    every word, through the tree from the root down."""
    count: dict[int, int] = {theirs.get_word_id("</s>"): 1}
    words = Counter(word for word in re.split("[ \n\r\t\v\f\0]+", text) if word and not word.startswith("__label__"))
    for word, times in words.items():
        for row in theirs.get_subwords(word)[1]:
            count[int(row)] = count.get(int(row), 0) + times
    mean = sum(times * theirs.get_input_vector(row).astype(np.float64) for row, times in count.items())
    logits = np.array(theirs.f.getOutputMatrix(), np.float64) @ (mean / sum(count.values()))
    labels = len(model.labels)
    left, right, _ = tree_of(np.array(model.header.label_counts))
    reach = np.ones(2 * labels - 1)
    for node in range(2 * labels - 2, labels - 1, -1):
        share = 1 / (1 + np.exp(-logits[node - labels]))
        reach[left[node]], reach[right[node]] = reach[node] * (1 - share + 1e-5), reach[node] * (share + 1e-5)
    return np.minimum(reach[:labels], 1.0)
