"""Bands and rows solved for a similarity: datasketch's choice, and the law that it rests on."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from datasketch.lsh import _false_negative_probability, _false_positive_probability, _optimal_param

from tamis.stages._lsh import probability, solve


@pytest.mark.parametrize("permutations", [2, 16, 100, 128])
@pytest.mark.parametrize("similarity", [0.1, 0.35, 0.5, 0.7, 0.8, 0.9, 0.99])
@pytest.mark.filterwarnings("ignore")
def test_the_choice_is_the_one_of_datasketch(similarity: float, permutations: int) -> None:
    assert solve(similarity, permutations) == _optimal_param(similarity, permutations, 0.5, 0.5)


@pytest.mark.slow
def test_the_choice_is_the_one_of_datasketch_for_every_percent_and_up_to_512_permutations() -> None:
    most = 512
    for percent in range(10, 100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quad warns where the curve is a step
            errors = [
                (_false_positive_probability(percent / 100, b, r) / 2 + _false_negative_probability(percent / 100, b, r) / 2, b, r)
                for b in range(1, most + 1)
                for r in range(1, most // b + 1)
            ]  # fmt: skip
        for permutations in range(16, most + 1, 31):
            _, b, r = min(error for error in errors if error[1] * error[2] <= permutations)
            assert solve(percent / 100, permutations) == (b, r), (percent, permutations)


def test_published_choices() -> None:
    assert solve(0.8, 128) == (9, 13)  # SlimPajama, RedPajama-V2
    assert solve(0.7, 128) == (14, 9)
    assert solve(0.9, 128) == (5, 25)


def test_the_probability_is_that_of_drawing_equal_rows() -> None:
    rng = np.random.default_rng(0)
    for similarity, bands, rows in ((0.3, 3, 1), (0.6, 14, 8), (0.75, 14, 8), (0.9, 2, 20)):
        equal = rng.random((200_000, bands * rows), np.float32) < similarity
        share = np.any(np.all(equal.reshape(-1, bands, rows), axis=2), axis=1).mean()
        wanted = probability(similarity, bands, rows)
        assert abs(share - wanted) < 5 * (wanted * (1 - wanted) / 200_000) ** 0.5
    assert (probability(0, 14, 8), probability(1, 14, 8)) == (0, 1)
    assert probability(1e-3, 1000, 2) == pytest.approx(1 - (1 - 1e-6) ** 1000)


@pytest.mark.parametrize(("similarity", "permutations"), [(0, 128), (1, 128), (1.5, 128), (0.8, 1)])
def test_what_has_no_solution_is_refused(similarity: float, permutations: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 1, and at least 2"):
        solve(similarity, permutations)
