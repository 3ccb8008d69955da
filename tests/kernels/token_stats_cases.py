"""Inputs for token statistics and their definition over full float64 logits: the oracle of both implementations.

Invariant: where rounding could decide something (ranks, sharp distributions) hidden states are one-hot, so that logits
are entries of the head and exact in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.kernels.token_stats import Head, TokenStats

SIZE = 203  # a multiple of no tile
INFINITY = float("inf")
Case = tuple[Tensor, Head, Tensor, dict[str, Any]]


def full_logits(hidden: Tensor, head: Head) -> np.ndarray:
    """float64 [N, V]"""
    logits = head.scale * (hidden.double() @ head.weight.double().T).numpy()
    if head.bias is not None:
        logits = logits + head.bias.double().numpy()
    return logits if head.softcap is None else head.softcap * np.tanh(logits / head.softcap)


def naive_token_stats(
    hidden: Tensor, head: Head, targets: Tensor, observer: tuple[Tensor, Head] | None = None
) -> TokenStats:
    """The definitions, entry by entry; entries of probability 0 contribute nothing. NumPy arrays in the fields."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        log_p = _log_softmax(full_logits(hidden, head))
        log_q = log_p if observer is None else _log_softmax(full_logits(*observer))

        def expected(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
            return np.where(weights == 0, 0.0, weights * values).sum(1)

        mean, cross_mean = expected(np.exp(log_p), log_p), expected(np.exp(log_q), log_p)
        variance = expected(np.exp(log_p), (log_p - mean[:, None]) ** 2)
        cross_variance = expected(np.exp(log_q), (log_p - cross_mean[:, None]) ** 2)
    chosen = log_p[np.arange(len(targets)), targets.numpy()]
    rank = np.where(np.isnan(chosen), 0, 1 + (log_p > chosen[:, None]).sum(1))
    fields: tuple[Any, ...] = (chosen, mean, variance, rank, cross_mean, cross_variance)
    return TokenStats(*fields)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def from_logits(rows: Tensor, targets: list[int], bias: Tensor | None = None) -> Case:
    """A case whose logits are `rows` ([N, V]) exactly."""
    return torch.eye(len(rows)), Head(rows.T.contiguous(), bias), torch.tensor(targets), {}


def extreme_rows() -> Tensor:
    one_above = torch.full((SIZE,), -1e4)
    one_above[150] = 1e4
    two_above = torch.zeros(SIZE)
    two_above[[3, 190]] = 50.0
    slope = torch.linspace(-1e4, 1e4, SIZE)
    return torch.stack(
        [
            torch.full((SIZE,), 1e4),
            torch.full((SIZE,), -1e4),
            torch.zeros(SIZE),
            one_above,
            one_above,
            two_above,
            slope,
            slope.flip(0),
            torch.linspace(0, 8, SIZE),
            torch.linspace(8, 0, SIZE),
        ]
    )


def cases() -> dict[str, Case]:
    draw = torch.Generator().manual_seed(7)

    def normal(*shape: int, spread: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=draw) * spread

    def targets(count: int, size: int = SIZE) -> Tensor:
        return torch.randint(0, size, (count,), generator=draw)

    bias = normal(SIZE)
    masked = bias.clone()
    masked[:70] = -INFINITY  # more than the first tile
    masked[[100, 202]] = -INFINITY
    plain = Head(normal(SIZE, 40, spread=0.3))
    shaped = Head(normal(SIZE, 40, spread=2.0), bias, softcap=7.0, scale=0.6)
    other = Head(normal(SIZE, 24, spread=0.3), scale=1.5)
    found: dict[str, Case] = {
        "plain": (normal(37, 40), plain, targets(37), {}),
        "bias, soft cap and scale": (normal(21, 40), shaped, targets(21), {}),
        "observer": (normal(9, 40), plain, targets(9), {"observer": (normal(9, 24), other)}),
        "observer with a soft cap": (normal(9, 24), other, targets(9), {"observer": (normal(9, 40), shaped)}),
        "masked entries": (normal(9, 40), Head(plain.weight, masked), torch.arange(66, 75), {}),
        "no rows": (normal(0, 40), plain, targets(0), {"observer": (normal(0, 40), plain)}),
        "one row, one entry": (normal(1, 40), Head(normal(1, 40)), targets(1, 1), {}),
        "extreme": from_logits(extreme_rows(), [0, 202, 100, 150, 3, 190, 202, 202, 0, 0]),
    }
    # both mask the same, only the observer masks, only the scorer masks: there the cross-entropy is infinite
    for name, ours, theirs in (("both", masked, masked), ("observer", bias, masked), ("scorer", masked, bias)):
        heads = Head(plain.weight, ours), Head(plain.weight, theirs)
        found[f"masked: {name}"] = (
            normal(5, 40),
            heads[0],
            torch.arange(80, 85),
            {"observer": (normal(5, 40), heads[1])},
        )
    hidden, head, chosen, _ = found["extreme"]
    found["extreme observer"] = (hidden, head, chosen, {"observer": (hidden.flip(0).contiguous(), head)})
    # ties that a soft cap computed in another way would break
    level = from_logits(torch.tensor([[0.5], [3.0], [-2.0], [400.0]]).expand(4, SIZE), [0, 40, 80, 202])
    found["equal under a soft cap"] = (level[0], Head(level[1].weight, softcap=30.0), *level[2:])
    for dtype in (torch.bfloat16, torch.float16):
        short, long = normal(9, 24).to(dtype), normal(9, 40).to(dtype)
        ours, theirs = Head(plain.weight.to(dtype), bias.to(dtype)), Head(other.weight.to(dtype))
        found[str(dtype)] = (long, ours, targets(9), {"observer": (short, theirs)})
    return found
