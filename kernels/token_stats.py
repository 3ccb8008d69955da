"""Per-token statistics of a language model from hidden states and its output head, without holding N x V logits.

Invariant: what is returned for a row depends on that row alone, up to rounding in float32. Vocabulary entries of
probability 0 (a bias of -inf) contribute nothing, and a row whose hidden state is not finite gives NaN and rank 0.

The logits are made tile by tile and folded into sums that are shifted by the largest logit so far, so that no size of
logit overflows (the online softmax of Milakov and Gimelshein 2018, here for the first two moments of ln p as well). On a
GPU `token_stats_triton` does the same in one kernel; the form in this file runs anywhere and is its reference.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

# Stand for the largest of no logits, and for a logit of -inf. Finite, and their squares fit float32, so that a weight of 0
# times a power of either is 0.
NO_MAX, EXCLUDED = -1e18, -2e18
# Logits a tile: two or three tiles and a tile of the head stay near a core's cache; a GPU wants fewer, larger launches.
CPU_TILE, GPU_TILE = 1 << 19, 1 << 26
CPU_ROWS, GPU_ROWS = 512, 16384
LEAST_COLUMNS, MOST_COLUMNS_CPU = 1024, 8192
EPSILON = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Head:
    """Output head: logits = softcap(scale * (hidden @ weight.T) + bias), softcap(x) = cap * tanh(x / cap).

    `weight` is [V, d] in float32, bfloat16 or float16; `bias` is [V], and -inf in it masks an entry where there is no
    soft cap; `softcap` as Gemma 2 has it (`final_logit_softcapping`), `scale` as Cohere's `logit_scale`.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0


class TokenStats(NamedTuple):
    """Per token, on the device of the hidden states: float32 [N], rank int32 [N]; None where not asked for.

    With p the model's distribution over the vocabulary, natural logarithms throughout:
    logprob = ln p(target), at most 0; mean = sum p ln p (minus the entropy); variance = sum p (ln p)^2 - mean^2, at least
    0; rank = 1 + number of entries whose logit is above the target's by more than rounding, so ties count best.
    With q the observer's distribution: cross_mean = sum q ln p (minus the cross-entropy of Binoculars) and
    cross_variance = sum q (ln p)^2 - cross_mean^2 (Fast-DetectGPT with a reference model); -inf and NaN where q gives
    weight to an entry that p excludes. The variances are right to about 1e-6 of the mean square distance of a logit from
    the largest one.
    """

    logprob: Tensor
    mean: Tensor | None
    variance: Tensor | None
    rank: Tensor | None
    cross_mean: Tensor | None
    cross_variance: Tensor | None


@dataclass
class Sums:
    """Sums over the vocabulary for N rows, all [N] (or [splits, N] before `merge`), shifted by the largest logits.

    With x = logit - top: s0, s1, s2 = sum of exp(x), exp(x) x, exp(x) x^2, and `above` counts logits above the target's.
    With e = exp(observer's logit - observer's top): t0, t1, t2 = sum of e, e x, e x^2, and `leak` is the sum of e over
    entries that the scorer excludes. What was not asked for stays 0.
    """

    top: Tensor
    s0: Tensor
    s1: Tensor
    s2: Tensor
    above: Tensor
    other_top: Tensor
    t0: Tensor
    t1: Tensor
    t2: Tensor
    leak: Tensor

    @classmethod
    def empty(cls, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float64) -> Sums:
        numbers = torch.zeros((9, *shape), dtype=dtype, device=device)
        top, s0, s1, s2, other_top, t0, t1, t2, leak = numbers.unbind(0)
        top.fill_(NO_MAX)
        other_top.fill_(NO_MAX)
        above = torch.zeros(shape, dtype=torch.int32, device=device)
        return cls(top, s0, s1, s2, above, other_top, t0, t1, t2, leak)

    def rows(self, start: int, stop: int) -> Sums:
        """Views of some rows: what is folded into them is folded into this."""
        return Sums(*(getattr(self, name)[start:stop] for name in self.__dataclass_fields__))

    def raise_top(self, tile_top: Tensor) -> None:
        """Refers all sums to the larger of `top` and `tile_top`."""
        top = torch.maximum(self.top, tile_top)
        shift = self.top - top
        factor = torch.exp(shift)
        self.s2.add_(2 * shift * self.s1 + shift * shift * self.s0).mul_(factor)
        self.s1.add_(shift * self.s0).mul_(factor)
        self.s0.mul_(factor)
        self.t2.add_(2 * shift * self.t1 + shift * shift * self.t0)
        self.t1.add_(shift * self.t0)
        self.top.copy_(top)

    def raise_other_top(self, tile_top: Tensor) -> None:
        """Refers the observer's weights to the larger of `other_top` and `tile_top`."""
        top = torch.maximum(self.other_top, tile_top)
        factor = torch.exp(self.other_top - top)
        for weighted in (self.t0, self.t1, self.t2, self.leak):
            weighted.mul_(factor)
        self.other_top.copy_(top)


@torch.no_grad()
def token_stats(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    *,
    moments: bool = True,
    rank: bool = True,
    observer: tuple[Tensor, Head] | None = None,
    backend: Literal["auto", "torch", "triton"] = "auto",
) -> TokenStats:
    """Statistics of `targets` (int64 [N]) under the distributions that `hidden` ([N, d]) has through `head`.

    `moments` asks for mean and variance, `rank` for rank, `observer` (hidden states [N, d'] and head of a second model
    with the same vocabulary) for cross_mean and cross_variance. `auto` is Triton for heads of 16 bits on a GPU where it is
    installed, else PyTorch (whose own product is the faster one in float32). On the CPU everything is computed in
    float32; on a GPU products are taken in the head's dtype and summed in float32. Raises ValueError where shapes do not fit
    or, on the CPU, a target is not in the vocabulary; on a GPU the caller has to know that they all are.
    """
    _check(hidden, head, targets, observer)
    if hidden.is_cuda:
        hidden = hidden.to(head.weight.dtype)
        observer = observer and (observer[0].to(observer[1].weight.dtype), observer[1])
    target, slack = _target_logits(hidden, head, targets)
    limit = (target + slack).clamp_(min=EXCLUDED) if rank else None
    if backend == "triton" or (backend == "auto" and _triton_pays(hidden)):
        from .token_stats_triton import triton_sums

        sums = merge(triton_sums(hidden, head, limit, moments=moments, observer=observer))
    else:
        sums = _torch_sums(hidden, head, limit, moments=moments, observer=observer)
    bad = ~torch.isfinite(hidden).all(1)
    other_bad = bad if observer is None else bad | ~torch.isfinite(observer[0]).all(1)
    return _statistics(sums, target, slack, bad, other_bad, moments=moments, rank=rank, crossed=observer is not None)


def merge(parts: Sums) -> Sums:
    """One set of sums from those of several parts of the vocabulary ([splits, N] to [N], float64)."""
    parts = Sums(*(getattr(parts, name).double() for name in parts.__dataclass_fields__))
    shape = parts.top.shape
    parts.raise_top(parts.top.amax(0).expand(shape))
    parts.raise_other_top(parts.other_top.amax(0).expand(shape))
    whole = {name: getattr(parts, name).sum(0) for name in ("s0", "s1", "s2", "above", "t0", "t1", "t2", "leak")}
    return Sums(top=parts.top[0], other_top=parts.other_top[0], **whole)


def _check(hidden: Tensor, head: Head, targets: Tensor, observer: tuple[Tensor, Head] | None) -> None:
    size, width = head.weight.shape
    if hidden.ndim != 2 or hidden.shape[1] != width:
        raise ValueError(f"hidden states of shape {tuple(hidden.shape)} do not fit a head of {size} x {width}")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"{hidden.shape[0]} hidden states have targets of shape {tuple(targets.shape)}, not one each")
    if head.bias is not None and head.bias.shape != (size,):
        raise ValueError(f"a head of {size} entries has a bias of shape {tuple(head.bias.shape)}")
    # on a GPU the look would wait for all that it still has to do
    if len(targets) and not targets.is_cuda and not (0 <= int(targets.min()) and int(targets.max()) < size):
        raise ValueError(f"targets run from {int(targets.min())} to {int(targets.max())}, the vocabulary has {size}")
    if observer is not None:
        other_hidden, other = observer
        if other.weight.shape[0] != size:
            raise ValueError(f"the heads have {size} and {other.weight.shape[0]} entries; cut both to the same")
        if other_hidden.shape != (hidden.shape[0], other.weight.shape[1]):
            raise ValueError(
                f"the observer's hidden states of shape {tuple(other_hidden.shape)} do not fit {hidden.shape[0]} rows "
                f"and a head of {size} x {other.weight.shape[1]}"
            )


def _triton_pays(hidden: Tensor) -> bool:
    """Triton is for tensor cores; it compiles its launcher at the first call, by a C compiler."""
    return hidden.is_cuda and hidden.element_size() == 2 and _triton_works()


@functools.cache
def _triton_works() -> bool:
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    return importlib.util.find_spec("triton") is not None and compiler is not None


def _target_logits(hidden: Tensor, head: Head, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(logits of the targets, how far the same logit may lie off in a tile because of rounding), float32 [N] each.

    The tiles sum the products in another order, so that without the second number a target would now and then rank
    behind itself, or have a probability above 1.
    """
    logits, sizes = (
        hidden.new_empty(len(targets), dtype=torch.float32),
        hidden.new_empty(len(targets), dtype=torch.float32),
    )
    step = max(1, (GPU_TILE if hidden.is_cuda else CPU_TILE) // max(1, hidden.shape[1]))
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        products = head.weight[targets[part]].float() * hidden[part].float()
        torch.sum(products, 1, out=logits[part])
        torch.sum(products.abs_(), 1, out=sizes[part])
    slack = EPSILON * abs(head.scale) * sizes
    if head.scale != 1.0:
        logits.mul_(head.scale)
    if head.bias is not None:
        bias = head.bias[targets].float()
        logits.add_(bias)
        slack.add_(EPSILON * bias.abs().nan_to_num(posinf=0.0))
    if head.softcap is not None:
        logits.div_(head.softcap).tanh_().mul_(head.softcap)
        slack.add_(EPSILON * head.softcap)
    return logits, slack


def _torch_sums(
    hidden: Tensor, head: Head, limit: Tensor | None, *, moments: bool, observer: tuple[Tensor, Head] | None
) -> Sums:
    """`limit`: logits above it are counted, float32 [N].

    The vocabulary is the outer loop, so that a tile of a 16-bit head is made float32 once, and stays in cache.
    """
    count, size = hidden.shape[0], head.weight.shape[0]
    sums = Sums.empty((count,), hidden.device)
    rows = min(count, GPU_ROWS if hidden.is_cuda else CPU_ROWS)
    if not rows:
        return sums
    columns = max(LEAST_COLUMNS, (GPU_TILE if hidden.is_cuda else CPU_TILE) // rows)
    columns = min(columns, size) if hidden.is_cuda else min(columns, size, MOST_COLUMNS_CPU)
    pairs = [(hidden, head)] if observer is None else [(hidden, head), observer]
    wide = not hidden.is_cuda
    if wide:
        pairs = [(states.float(), each) for states, each in pairs]
    masked = None
    if observer is not None and head.bias is not None and head.softcap is None:
        masked = torch.isneginf(head.bias)
    tile_count = len(pairs) + (moments or limit is not None or observer is not None)
    # one allocation for all tiles: fresh memory would have to be paged in again for every one of them
    tiles = [hidden.new_empty(rows * columns, dtype=torch.float32) for _ in range(tile_count)]
    for first in range(0, size, columns):
        last = min(first + columns, size)
        weights = [each.weight[first:last].float().T if wide else each.weight[first:last].T for _, each in pairs]
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            views = [tile[: (stop - start) * (last - first)].view(stop - start, last - first) for tile in tiles]
            for (states, each), weight, out in zip(pairs, weights, views):
                _logits(states[start:stop], each, weight, first, out)
            _fold(
                sums.rows(start, stop),
                views[0],
                None if observer is None else views[1],
                views[-1],
                None if limit is None else limit[start:stop, None],
                None if masked is None else masked[first:last],
                moments=moments,
            )
    return sums


def _logits(states: Tensor, head: Head, weight: Tensor, first: int, out: Tensor) -> None:
    """Logits of some rows for the entries from `first`, `weight` being their part of the head, transposed."""
    if states.dtype == torch.float32:
        torch.mm(states, weight, out=out)
    elif hasattr(torch.ops.aten.mm, "dtype"):  # torch 2.8 and later: sums and result in float32
        out.copy_(torch.mm(states, weight, out_dtype=torch.float32))
    else:
        torch.mm(states.float(), weight.float(), out=out)
    if head.scale != 1.0:
        out.mul_(head.scale)
    if head.bias is not None:
        out.add_(head.bias[first : first + weight.shape[1]])
    if head.softcap is not None:
        out.div_(head.softcap).tanh_().mul_(head.softcap)
    elif head.bias is not None:
        out.clamp_(min=EXCLUDED)


def _fold(
    sums: Sums,
    logits: Tensor,
    others: Tensor | None,
    spare: Tensor,
    limit: Tensor | None,
    masked: Tensor | None,
    *,
    moments: bool,
) -> None:
    """Adds a tile of logits to the sums; all tiles are used up. `spare` may be `logits` where only s0 is asked for.

    Products and plain sums rather than dot products: in PyTorch on a CPU they are 5 to 15 times as fast per row.
    """
    if limit is not None:
        sums.above.add_(torch.gt(logits, limit, out=spare).sum(1).to(torch.int32))
    sums.raise_top(logits.amax(1))
    shifted = logits.sub_(sums.top.float()[:, None])
    weights = torch.exp(shifted, out=spare)
    sums.s0.add_(weights.sum(1))
    if moments:
        sums.s1.add_(weights.mul_(shifted).sum(1))
        sums.s2.add_(weights.mul_(shifted).sum(1))
    if others is not None:
        sums.raise_other_top(others.amax(1))
        others.sub_(sums.other_top.float()[:, None]).exp_()
        sums.t0.add_(others.sum(1))
        if masked is not None:
            sums.leak.add_(others[:, masked].sum(1))
            shifted.masked_fill_(masked, 0.0)
        sums.t1.add_(others.mul_(shifted).sum(1))
        sums.t2.add_(others.mul_(shifted).sum(1))


def _statistics(
    sums: Sums,
    target: Tensor,
    slack: Tensor,
    bad: Tensor,
    other_bad: Tensor,
    *,
    moments: bool,
    rank: bool,
    crossed: bool,
) -> TokenStats:
    """The numbers that the sums (float64 [N]) stand for; rows of `bad` and `other_bad` (bool [N]) become NaN."""
    log_s0 = torch.log(sums.s0)
    # where the target is the most probable entry, its distance from the top is rounding and no more
    distance = target.double() - sums.top
    distance = torch.where(distance >= -slack, 0.0, distance)
    logprob = (distance - log_s0).clamp_(max=0.0)

    def finished(numbers: Tensor, where: Tensor) -> Tensor:
        return numbers.masked_fill(where, float("nan")).float()

    mean = variance = cross_mean = cross_variance = None
    if moments:
        shifted_mean = sums.s1 / sums.s0
        mean = finished((shifted_mean - log_s0).clamp_(max=0.0), bad)
        variance = finished((sums.s2 / sums.s0 - shifted_mean**2).clamp_(min=0.0), bad)
    if crossed:
        shifted_mean = sums.t1 / sums.t0
        leaks = sums.leak > 0
        cross_mean = (shifted_mean - log_s0).clamp_(max=0.0).masked_fill(leaks, float("-inf"))
        cross_mean = finished(cross_mean, other_bad)
        cross_variance = finished((sums.t2 / sums.t0 - shifted_mean**2).clamp_(min=0.0), leaks | other_bad)
    ranks = (1 + sums.above).masked_fill(bad, 0).to(torch.int32) if rank else None
    return TokenStats(finished(logprob, bad), mean, variance, ranks, cross_mean, cross_variance)
