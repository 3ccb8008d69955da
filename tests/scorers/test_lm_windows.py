"""Windows score every token once, with as much before it as the definition says, packed or in rows."""

from __future__ import annotations

import numpy as np
import pytest

from tamis.scorers import lm_windows
from tamis.scorers.lm_windows import Tokens

START = 999


def documents(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets)


def by_definition(tokens, start, window, stride):
    """{place among all predictions: (what is read up to it, target)}, by a plain loop over the sequence."""
    found, before = {}, 0
    for d in range(len(tokens.offsets) - 1):
        own = tokens.ids[tokens.offsets[d] : tokens.offsets[d + 1]].tolist()
        sequence = ([START] if start else []) + own
        predictions = max(0, len(sequence) - 1)
        done = 0
        while done < predictions:
            end = min(window if done == 0 else done + stride, predictions)
            first = max(0, end - window)
            for j in range(done, end):
                found[before + j] = (tuple(sequence[first : j + 1]), sequence[j + 1])
            done = end
        before += predictions
    return found, before


def by_batches(tokens, start, window, stride, budget, packed):
    windows, offsets = lm_windows.cut(tokens.offsets, start=start, window=window, stride=stride)
    order = np.argsort(-windows.length, kind="stable")
    found, sizes = {}, []
    for chosen in lm_windows.shares(windows, order, budget, packed=packed):
        batch = lm_windows.batch(tokens, windows.take(chosen), offsets, start=START if start else None, packed=packed)
        assert batch.longest == windows.length[chosen].max()
        sizes.append((batch.ids.size, len(chosen)))
        flat, longest = batch.ids.ravel(), batch.ids.shape[1]
        for at, target, place in zip(batch.asked.tolist(), batch.targets.tolist(), batch.places.tolist(), strict=True):
            length = at % longest if batch.positions is None else int(batch.positions[0, at])
            assert place not in found
            found[place] = (tuple(flat[at - length : at + 1].tolist()), target)
    return found, int(offsets[-1]), sizes


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize(("window", "stride"), [(8, 4), (8, 8), (8, 1), (5, 3), (1, 1), (100, 7)])
def test_every_prediction_is_made_once_with_what_the_definition_puts_before_it(window, stride, start, packed):
    draw = np.random.default_rng(window * 10 + stride)
    tokens = documents([0, 1, 2, 7, 8, 9, 10, 0, 13, 40, *draw.integers(0, 30, 20)])
    for budget in (1, 17, 1000):
        found, total, sizes = by_batches(tokens, start, window, stride, budget, packed)
        wanted, count = by_definition(tokens, start, window, stride)
        assert total == count
        assert found == wanted
        assert all(size <= budget or windows == 1 for size, windows in sizes)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_where_there_is_nothing_to_score_there_is_no_window(lengths):
    windows, offsets = lm_windows.cut(documents(lengths).offsets, start=True, window=8, stride=4)
    assert len(windows.length) == 0
    assert offsets.tolist() == [0] * (len(lengths) + 1)
