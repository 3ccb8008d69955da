"""Numbers as a reader of the page sees them."""

from __future__ import annotations

import math


def short(x: float | None) -> str:
    """At most four digits that count: 0.1235, 12.3, 2024, 12,300, 1.2e-07; '-' for None."""
    if x is None:
        return "-"
    if not math.isfinite(x):
        return str(x)
    if float(x).is_integer() and abs(x) < 1e12:
        return f"{int(x):,}" if abs(x) >= 10_000 else str(int(x))  # 2024 may be a year
    if abs(x) >= 1000:
        return f"{x:,.0f}" if abs(x) >= 10_000 else f"{x:.0f}"
    return f"{x:.4g}"


def percent(part: float, whole: float) -> str:
    """'48.4 %'; a dash where there is no whole; one digit more below a tenth of a percent."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.2f} %" if 0 < share < 0.1 else f"{share:.1f} %"
