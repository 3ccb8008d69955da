"""token_stats in PyTorch: equal to the definition over full logits, whatever the logits, in little memory."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tamis.kernels import token_stats as module  # noqa: E402
from tamis.kernels.token_stats import Head, TokenStats, token_stats  # noqa: E402

from .token_stats_agree import assert_agrees  # noqa: E402
from .token_stats_cases import cases  # noqa: E402


@pytest.fixture
def small_tiles(monkeypatch) -> None:
    """Tiles of 8 rows and 48 entries, so that every case takes several of both."""
    monkeypatch.setattr(module, "CPU_ROWS", 8)
    monkeypatch.setattr(module, "CPU_TILE", 64)
    monkeypatch.setattr(module, "LEAST_COLUMNS", 48)


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("tiles", ["small", "as shipped"])
def test_equals_the_definition_over_full_logits(name, tiles, request) -> None:
    if tiles == "small":
        request.getfixturevalue("small_tiles")
    hidden, head, targets, more = cases()[name]
    assert_agrees(token_stats(hidden, head, targets, **more), hidden, head, targets, **more)


def test_toy_vectors_of_membership_and_detection_scores() -> None:
    """Five distributions over three words, with the published Min-K%++ and Fast-DetectGPT numbers worked out by hand."""
    rows = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25], [0.6, 0.3, 0.1], [0.05, 0.9, 0.05]])
    targets = torch.tensor([0, 0, 1, 2, 1])
    found: Any = token_stats(torch.eye(5), Head(rows.log().T), targets)
    z = (found.logprob - found.mean) / found.variance.sqrt()
    np.testing.assert_allclose(found.logprob, [-0.356675, -2.302585, -0.693147, -2.302585, -0.105361], atol=2e-6)
    np.testing.assert_allclose(z, [0.633092, -2.0, 1.0, -2.501457, 0.333333], atol=5e-6)
    detect = (found.logprob.sum() - found.mean.sum()) / found.variance.sum().sqrt()
    assert float(detect) == pytest.approx(-1.290014, abs=2e-6)
    assert found.rank.tolist() == [1, 2, 1, 3, 1]


def test_only_what_is_asked_for_is_returned() -> None:
    hidden, head, targets, _ = cases()["plain"]
    whole: Any = token_stats(hidden, head, targets, observer=(hidden, head))
    for moments in (False, True):
        for rank in (False, True):
            for observer in (None, (hidden, head)):
                found: Any = token_stats(hidden, head, targets, moments=moments, rank=rank, observer=observer)
                asked = (True, moments, moments, rank, observer is not None, observer is not None)
                assert [x is not None for x in found] == list(asked)
                for part, full in zip(found, whole):
                    assert part is None or torch.allclose(part.double(), full.double(), atol=1e-6)


def test_an_observer_that_is_the_scorer_gives_the_scorer_s_own_moments() -> None:
    hidden, head, targets, _ = cases()["bias, soft cap and scale"]
    found: Any = token_stats(hidden, head, targets, observer=(hidden, head))
    np.testing.assert_allclose(found.cross_mean, found.mean, atol=2e-6)
    np.testing.assert_allclose(found.cross_variance, found.variance, atol=2e-5)


def test_the_most_probable_target_ranks_first_and_never_has_a_probability_above_one() -> None:
    """In wide heads the target's logit is summed in another order than the tile's, and would be off by rounding."""
    draw = torch.Generator().manual_seed(3)
    hidden = torch.randn(64, 512, generator=draw) * 4
    weight = torch.randn(300, 512, generator=draw)
    head = Head(torch.cat([weight, weight]))  # each entry twice, and the better of the two is a matter of rounding
    targets = (hidden @ weight.T).argmax(1) + 300
    found: Any = token_stats(hidden, head, targets)
    assert set(found.rank.tolist()) == {1}
    assert bool((found.logprob <= 0).all())
    assert float(found.logprob.max()) == pytest.approx(-math.log(2), abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_state_that_is_not_finite_spoils_its_own_row_alone(value) -> None:
    hidden, head, targets, _ = cases()["bias, soft cap and scale"]
    other = hidden.clone()
    expected: Any = token_stats(hidden, head, targets, observer=(other, head))
    hidden, other = hidden.clone(), other.clone()
    hidden[4, 7] = value
    other[9, 7] = value
    found: Any = token_stats(hidden, head, targets, observer=(other, head))
    for field, x, y in zip(TokenStats._fields, found, expected):
        bad = [4, 9] if field.startswith("cross") else [4]
        undefined = (x == 0) if field == "rank" else x.isnan()
        assert undefined.nonzero().flatten().tolist() == bad, field
        assert torch.allclose(x[~undefined].double(), y[~undefined].double(), atol=1e-5), field


def test_rows_do_not_depend_on_their_neighbours(small_tiles) -> None:
    hidden, head, targets, more = cases()["observer"]
    other, other_head = more["observer"]
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))
    found: Any = token_stats(hidden[order], head, targets[order], observer=(other[order], other_head))
    expected: Any = token_stats(hidden, head, targets, **more)
    for x, y in zip(found, expected):
        assert torch.allclose(x.double(), y[order].double(), atol=1e-5)


def test_a_head_that_is_being_trained_gives_the_same_and_no_gradient() -> None:
    hidden, head, targets, _ = cases()["plain"]
    found: Any = token_stats(hidden.requires_grad_(), Head(torch.nn.Parameter(head.weight)), targets)
    assert not any(x is not None and x.requires_grad for x in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.tensor([0, 203])}, "targets run from 0 to 203, the vocabulary has 203"),
        ({"targets": torch.tensor([-1, 5])}, "targets run from -1 to 5"),
        ({"targets": torch.tensor([5])}, "2 hidden states have targets of shape"),
        ({"hidden": torch.zeros(2, 39)}, "do not fit a head of 203 x 40"),
        ({"head": Head(torch.zeros(203, 40), torch.zeros(204))}, "has a bias of shape"),
        ({"observer": (torch.zeros(2, 40), Head(torch.zeros(204, 40)))}, "203 and 204 entries"),
        ({"observer": (torch.zeros(3, 40), Head(torch.zeros(203, 40)))}, "observer's hidden states"),
    ],
)
def test_what_does_not_fit_is_named(change, message) -> None:
    given = {"hidden": torch.zeros(2, 40), "head": Head(torch.zeros(203, 40)), "targets": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match=message):
        token_stats(**{**given, **change})


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory can be set back on Linux alone")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_beyond_the_weights_is_a_twentieth_of_full_logits(dtype) -> None:
    """512 tokens and a vocabulary of 150,000: full float32 logits are 307 MB."""
    count, size, width = 512, 150_000, 32
    hidden, head = torch.ones(count, width, dtype=dtype), Head(torch.ones(size, width, dtype=dtype))
    other = hidden.clone()
    targets = torch.zeros(count, dtype=torch.int64)
    token_stats(hidden[:2], head, targets[:2])
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is resident now
    before = _resident("VmRSS")
    token_stats(hidden, head, targets, observer=(other, head))
    assert _resident("VmHWM") - before < count * size * 4 / 20


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
