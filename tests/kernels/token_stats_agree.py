"""One comparison for both implementations of token statistics.

Invariant: the tolerance grows with the size of the logits and with their distance from the top, as float32 does.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tamis.kernels.token_stats import TokenStats

from .token_stats_cases import full_logits, naive_token_stats


def assert_agrees(found: TokenStats, hidden: Tensor, head, targets: Tensor, observer=None) -> None:
    expected = naive_token_stats(hidden, head, targets, observer)
    logits = full_logits(hidden, head)
    logits = np.where(np.isfinite(logits), logits, 0.0)
    size = 1 + np.abs(logits).max(1, initial=0)
    reach = 1 + (np.ptp(logits, axis=1) if logits.size else size)
    for name, exact in expected._asdict().items():
        value = getattr(found, name)
        if value is None:
            assert observer is None, name
            assert name.startswith("cross"), name
            continue
        value = value.cpu().double().numpy()
        if name == "rank":
            np.testing.assert_array_equal(value, exact, err_msg=name)
            continue
        np.testing.assert_array_equal(np.isfinite(value), np.isfinite(exact), err_msg=name)
        close = np.isfinite(exact)
        assert np.array_equal(value[~close], exact[~close], equal_nan=True), name
        if name.startswith("cross_v"):
            allowed = 2e-6 * (1 + reach**2)
        else:
            allowed = 1e-6 * size * (reach if name == "variance" else 1) + 2e-6
        over = np.abs(value[close] - exact[close]) - allowed[close]
        assert (over <= 0).all(), (name, over.max(), value, exact)
