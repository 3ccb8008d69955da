"""Run as a program: all cases through the Triton kernel in Triton's interpreter, written to the file that is named.

Invariant: nothing of the kernel is replaced. A process of its own, because the interpreter is chosen at import.
"""

from __future__ import annotations

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.language as tl
from token_stats_cases import cases  # beside this program
from triton.runtime import interpreter

from tamis.kernels import token_stats_triton
from tamis.kernels.token_stats import token_stats


def repair_bfloat16() -> None:
    """Triton 3.9's interpreter keeps bfloat16 as uint16, and multiplies those integers in `tl.dot`."""
    dot = interpreter.InterpreterBuilder.create_dot

    def repaired(self, a, b, *rest):
        def widened(x):
            if x.dtype.scalar != tl.bfloat16 or x.data.dtype != np.uint16:
                return x
            return interpreter.TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

        return dot(self, widened(a), widened(b), *rest)

    interpreter.InterpreterBuilder.create_dot = repaired


def main() -> None:
    torch.set_num_threads(1)
    repair_bfloat16()
    # 203 entries in 4 splits of two tiles of 32, 37 rows in three blocks (a group and a half), depths 40 and 24 over steps of 16
    token_stats_triton.tiling = lambda *_: token_stats_triton.Tiling(16, 32, 16, warps=4, stages=2, group=2)
    found = {
        name: tuple(token_stats(hidden, head, targets, backend="triton", **more))
        for name, (hidden, head, targets, more) in cases().items()
    }
    hidden, head, targets, _ = cases()["plain"]
    found["least"] = tuple(token_stats(hidden, head, targets, backend="triton", moments=False, rank=False))
    torch.save(found, sys.argv[1])


if __name__ == "__main__":
    main()
