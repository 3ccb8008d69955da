"""The sums of `token_stats` in one Triton kernel: logits live in registers and never reach memory.

Invariant: the same sums as `token_stats._torch_sums`, up to rounding in float32, for any sizes of tile and any number of
splits of the vocabulary.

A program takes a block of rows and a share of the vocabulary, and goes through it in tiles: the product with the head is
summed in float32, then folded into sums that are shifted by the largest logit so far. Programs that run at one time share
rows and columns as a square, so that hidden states stay in the GPU's cache while the head streams by.
"""

# Triton reads the annotations of a kernel at run time: no `from __future__ import annotations` here.
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .token_stats import EXCLUDED, NO_MAX, Head, Sums

# sums of a program, in this order in memory: top, s0, s1, s2, other_top, t0, t1, t2, leak
NUMBERS = 9


class Tiling(NamedTuple):
    """How a program cuts its work: rows, columns and depth of a tile, row blocks that share a part of the head."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 16


@triton.jit
def _logit_tile(
    hidden,
    weight,
    bias,
    rows,
    columns,
    hidden_stride,
    weight_stride,
    width,
    size,
    scale,
    softcap,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    EVEN: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_CAP: tl.constexpr,
    LEAST: tl.constexpr,
):
    """Logits [ROWS, COLUMNS] in float32, for row numbers that are in range; LEAST past the vocabulary and for -inf."""
    inside = columns % size
    depth = tl.arange(0, DEPTH)
    left = hidden + rows.to(tl.int64)[:, None] * hidden_stride + depth[None, :]
    right = weight + inside.to(tl.int64)[None, :] * weight_stride + depth[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for done in range(0, width, DEPTH):
        if EVEN:
            a = tl.load(left)
            b = tl.load(right)
        else:
            a = tl.load(left, mask=depth[None, :] < width - done, other=0.0)
            b = tl.load(right, mask=depth[:, None] < width - done, other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")  # float32: the default keeps 10 bits
        left += DEPTH
        right += DEPTH
    total *= scale
    if HAS_BIAS:
        total += tl.load(bias + inside)[None, :].to(tl.float32)
    if HAS_CAP:  # tanh from exp: 1 where it overflows, -1 where it vanishes
        total = softcap * (1.0 - 2.0 / (tl.exp(2.0 / softcap * total) + 1.0))
    elif HAS_BIAS:
        total = tl.maximum(total, LEAST, propagate_nan=tl.PropagateNan.ALL)
    return tl.where((columns < size)[None, :], total, LEAST)


# not specialised for 1 or multiples of 16: these change from call to call, and each form would be compiled anew
@triton.jit(do_not_specialize=["count", "size", "splits", "columns_per_split"])
def token_stats_kernel(
    hidden,
    weight,
    bias,
    limit,
    other_hidden,
    other_weight,
    other_bias,
    sums,
    above,
    count,
    size,
    width,
    hidden_stride,
    weight_stride,
    scale,
    softcap,
    other_width,
    other_hidden_stride,
    other_weight_stride,
    other_scale,
    other_softcap,
    splits,
    columns_per_split,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    EVEN: tl.constexpr,
    OTHER_EVEN: tl.constexpr,
    MOMENTS: tl.constexpr,
    RANK: tl.constexpr,
    OBSERVER: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_CAP: tl.constexpr,
    OTHER_BIAS: tl.constexpr,
    OTHER_CAP: tl.constexpr,
    LOWEST: tl.constexpr,
    LEAST: tl.constexpr,
):
    """Sums of ROWS rows over one split of the vocabulary, to sums [9, splits, count] and above [splits, count]."""
    program = tl.program_id(0)
    blocks = tl.cdiv(count, ROWS)
    first_block = program // (GROUP * splits) * GROUP
    group = tl.minimum(blocks - first_block, GROUP)
    inner = program % (GROUP * splits)
    block = first_block + inner % group
    split = inner // group

    rows = block * ROWS + tl.arange(0, ROWS)
    row = rows % count  # rows past the end repeat others, and are not stored
    top = tl.full([ROWS], LOWEST, tl.float32)
    s0 = tl.zeros([ROWS], tl.float32)
    s1 = tl.zeros([ROWS], tl.float32)
    s2 = tl.zeros([ROWS], tl.float32)
    larger = tl.zeros([ROWS], tl.int32)
    other_top = tl.full([ROWS], LOWEST, tl.float32)
    t0 = tl.zeros([ROWS], tl.float32)
    t1 = tl.zeros([ROWS], tl.float32)
    t2 = tl.zeros([ROWS], tl.float32)
    leak = tl.zeros([ROWS], tl.float32)
    bound = top
    if RANK:
        bound = tl.load(limit + row)

    begin = split * columns_per_split
    for start in range(begin, tl.minimum(begin + columns_per_split, size), COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        logits = _logit_tile(
            hidden,
            weight,
            bias,
            row,
            columns,
            hidden_stride,
            weight_stride,
            width,
            size,
            scale,
            softcap,
            ROWS,
            COLUMNS,
            DEPTH,
            EVEN,
            HAS_BIAS,
            HAS_CAP,
            LEAST,
        )
        if RANK:
            larger += tl.sum((logits > bound[:, None]).to(tl.int32), 1)
        new_top = tl.maximum(top, tl.max(logits, 1))
        shift = top - new_top
        factor = tl.exp(shift)
        shifted = logits - new_top[:, None]
        weights = tl.exp(shifted)
        if MOMENTS:
            s2 = factor * (s2 + 2.0 * shift * s1 + shift * shift * s0) + tl.sum(weights * shifted * shifted, 1)
            s1 = factor * (s1 + shift * s0) + tl.sum(weights * shifted, 1)
        s0 = factor * s0 + tl.sum(weights, 1)
        top = new_top
        if OBSERVER:
            others = _logit_tile(
                other_hidden,
                other_weight,
                other_bias,
                row,
                columns,
                other_hidden_stride,
                other_weight_stride,
                other_width,
                size,
                other_scale,
                other_softcap,
                ROWS,
                COLUMNS,
                DEPTH,
                OTHER_EVEN,
                OTHER_BIAS,
                OTHER_CAP,
                LEAST,
            )
            if HAS_BIAS:
                excluded = logits == LEAST
                shifted = tl.where(excluded, 0.0, shifted)
            new_top = tl.maximum(other_top, tl.max(others, 1))
            factor = tl.exp(other_top - new_top)
            weights = tl.exp(others - new_top[:, None])
            t2 = factor * (t2 + 2.0 * shift * t1 + shift * shift * t0) + tl.sum(weights * shifted * shifted, 1)
            t1 = factor * (t1 + shift * t0) + tl.sum(weights * shifted, 1)
            t0 = factor * t0 + tl.sum(weights, 1)
            if HAS_BIAS:
                leak = factor * leak + tl.sum(tl.where(excluded, weights, 0.0), 1)
            other_top = new_top

    kept = rows < count
    each = splits.to(tl.int64) * count
    out = sums + split.to(tl.int64) * count + rows
    tl.store(out, top, mask=kept)
    tl.store(out + each, s0, mask=kept)
    if MOMENTS:
        tl.store(out + 2 * each, s1, mask=kept)
        tl.store(out + 3 * each, s2, mask=kept)
    if OBSERVER:
        tl.store(out + 4 * each, other_top, mask=kept)
        tl.store(out + 5 * each, t0, mask=kept)
        tl.store(out + 6 * each, t1, mask=kept)
        tl.store(out + 7 * each, t2, mask=kept)
        tl.store(out + 8 * each, leak, mask=kept)
    if RANK:
        tl.store(above + split.to(tl.int64) * count + rows, larger, mask=kept)


def tiling(single: bool, observer: bool, capability: tuple[int, int]) -> Tiling:
    """Tiles for products of float32 (`single`) or 16 bits on a GPU of a compute capability.

    The largest that the compiler keeps in registers (at most 40 bytes a thread outside), because each tile is read from
    the GPU's cache; not yet measured on a GPU. Fixed rather than tuned at run time, so that two runs on one kind of GPU
    add in the same order.
    """
    data_centre = capability[0] in (9, 10)  # 227 KB of shared memory; later and smaller GPUs have 99 KB
    if single:
        return Tiling(64, 64, 32, warps=8 if observer else 4, stages=2)
    if observer:
        return Tiling(128 if data_centre else 64, 128, 64, warps=8, stages=3)
    return Tiling(128, 256 if data_centre else 128, 64, warps=8, stages=3)


def triton_sums(
    hidden: Tensor,
    head: Head,
    limit: Tensor | None,
    *,
    moments: bool,
    observer: tuple[Tensor, Head] | None,
) -> Sums:
    """Sums [splits, N] in float32, for `token_stats.merge`. `limit` float32 [N]: logits above it are counted.

    hidden [N, d] and its head have one dtype of float32, bfloat16, float16, and so have the observer's.
    """
    device = hidden.device
    (count, width), size = hidden.shape, head.weight.shape[0]
    capability = torch.cuda.get_device_capability(device) if hidden.is_cuda else (8, 0)
    processors = torch.cuda.get_device_properties(device).multi_processor_count if hidden.is_cuda else 1
    single = torch.float32 in (hidden.dtype, hidden.dtype if observer is None else observer[0].dtype)
    tiles = tiling(single, observer is not None, capability)
    if not count:
        return Sums.empty((1, 0), device, torch.float32)
    blocks, column_tiles = triton.cdiv(count, tiles.rows), triton.cdiv(size, tiles.columns)
    # eight programs for each processor, so that the last ones to end leave few idle; the square wants a group's width
    wanted = max(tiles.group, triton.cdiv(8 * processors, blocks))
    tiles_per_split = triton.cdiv(column_tiles, min(wanted, column_tiles))
    splits = triton.cdiv(column_tiles, tiles_per_split)
    numbers = torch.zeros((NUMBERS, splits, count), dtype=torch.float32, device=device)
    numbers[4] = NO_MAX
    above = torch.zeros((splits, count), dtype=torch.int32, device=device)
    # the kernel steps along rows of unit stride
    hidden, weight = _unit_stride(hidden), _unit_stride(head.weight)
    other_hidden, other = (hidden, head) if observer is None else (_unit_stride(observer[0]), observer[1])
    other_weight = weight if observer is None else _unit_stride(other.weight)
    constants: dict[str, Any] = {
        "ROWS": tiles.rows,
        "COLUMNS": tiles.columns,
        "DEPTH": tiles.depth,
        "GROUP": tiles.group,
        "EVEN": width % tiles.depth == 0,
        "OTHER_EVEN": other_hidden.shape[1] % tiles.depth == 0,
        "MOMENTS": moments,
        "RANK": limit is not None,
        "OBSERVER": observer is not None,
        "HAS_BIAS": head.bias is not None,
        "HAS_CAP": head.softcap is not None,
        "OTHER_BIAS": other.bias is not None,
        "OTHER_CAP": other.softcap is not None,
        "LOWEST": NO_MAX,
        "LEAST": EXCLUDED,
    }
    # fusing products and sums is the default until Triton 3.9, with a warning there; later ones do not
    options: dict[str, Any] = {"num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": True}
    with torch.cuda.device_of(hidden):
        token_stats_kernel[(blocks * splits,)](
            hidden,
            weight,
            weight if head.bias is None else head.bias.contiguous(),
            numbers if limit is None else limit.contiguous(),
            other_hidden,
            other_weight,
            weight if other.bias is None else other.bias.contiguous(),
            numbers,
            above,
            count,
            size,
            width,
            hidden.stride(0),
            weight.stride(0),
            float(head.scale),
            float(head.softcap or 1.0),
            other_hidden.shape[1],
            other_hidden.stride(0),
            other_weight.stride(0),
            float(other.scale),
            float(other.softcap or 1.0),
            splits,
            tiles_per_split * tiles.columns,
            **constants,
            **options,
        )
    top, s0, s1, s2, other_top, t0, t1, t2, leak = numbers.unbind(0)
    return Sums(top, s0, s1, s2, above, other_top, t0, t1, t2, leak)


def _unit_stride(matrix: Tensor) -> Tensor:
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()
