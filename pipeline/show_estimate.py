"""`tamis plan --from OUTPUT` in words: hours, bytes and money of each step, and what cannot be known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from ..stages.errors import RecipeError, did_you_mean
from .costs import text_bytes
from .estimate import Estimate, StepEstimate
from .output import Output
from .plan import Plan
from .terminal import columns, plural, seconds, share, size

PRICES = ("cpu", "gpu", "disk")


def parse_prices(text: str | None) -> dict[str, float]:
    """'cpu=0.03,gpu=2.5' -> money per CPU hour, per GPU hour, and per TB of disk for a month. RecipeError."""
    found: dict[str, float] = {}
    for item in text.split(",") if text else ():
        name, _, value = item.strip().partition("=")
        if name not in PRICES:
            raise RecipeError(f"--price {item}: {name} has no price.{did_you_mean(name, PRICES)}")
        try:
            found[name] = float(value)
        except ValueError:
            raise RecipeError(f"--price {item}: {value!r} is no number; write cpu=0.03,gpu=2.5") from None
    return found


def money(estimate: Estimate, prices: Mapping[str, float]) -> float:
    """CPU and GPU hours at their prices, and the peak disk for a month."""
    hours = {"cpu": estimate.cpu_seconds / 3600, "gpu": estimate.gpu_seconds / 3600, "disk": estimate.peak_disk / 1e12}
    return sum(prices[name] * hours[name] for name in prices)


def estimate_text(
    found: Estimate, plan: Plan, earlier: Output, *, times: float, workers: int | None, prices: Mapping[str, float]
) -> str:
    """The estimate as a table, and what it rests on; ends with a newline."""
    lines = ["", *_ground(plan, earlier, times), "", *_table(found), "", *_totals(found, workers, prices)]
    lines += [f"  but   {bound}" for bound in found.bounds]
    return "".join(f"{line}\n" for line in lines)


def _ground(plan: Plan, earlier: Output, times: float) -> Iterator[str]:
    counts = earlier.manifest["counts"]
    judged = counts["rows"] - counts["outside_sample"]
    text = text_bytes(plan)
    part = f" of {plural(counts['rows'], 'row')}" if counts["outside_sample"] else ""
    yield (
        f"estimate for {size(times * text)} of text{f' ({times:g} times the input)' if times != 1 else ''}, from "
        f"{earlier.name}: {plural(judged, 'document')}{part}, {size(counts['bytes_read'])} of text"
    )


def _table(found: Estimate) -> Iterator[str]:
    rows = [("step", "CPU", "GPU", "reads", "writes", "left")]
    rows += [_row(step) for step in found.steps]
    total = StepEstimate("all", found.cpu_seconds, found.gpu_seconds, found.bytes_read, found.bytes_written)
    rows.append(_row(total))
    yield from columns(rows, right=(1, 2, 3, 4, 5))


def _row(step: StepEstimate) -> Sequence[str]:
    name = step.name if len(step.name) <= 50 else f"{step.name[:49]}…"
    return (
        name,
        seconds(step.cpu_seconds),
        seconds(step.gpu_seconds) if step.gpu_seconds else "",
        size(step.bytes_read),
        size(step.bytes_written),
        share(step.kept, 1) if step.kept is not None else "",
    )


def _totals(found: Estimate, workers: int | None, prices: Mapping[str, float]) -> Iterator[str]:
    if workers:
        yield f"  time  {seconds(found.cpu_seconds / workers)} with {plural(workers, 'worker')} of one CPU each, if all are busy"
    yield f"  kept  about {found.rows * found.kept_share:,.0f} of {found.rows:,.0f} documents ({share(found.kept_share, 1)}), {size(found.text_kept)} of text"
    yield f"  disk  {size(found.peak_disk)} at its peak: work/ and the output together"
    if prices:
        at = ", ".join(f"{name} {price:g}" for name, price in prices.items())
        yield f"  money {money(found, prices):,.2f} (at {at}: per CPU hour, GPU hour, TB and month)"


def estimate_json(found: Estimate, prices: Mapping[str, float]) -> str:
    """The same for programs."""
    facts = {
        "steps": [vars(step) for step in found.steps],
        "cpu_seconds": found.cpu_seconds,
        "gpu_seconds": found.gpu_seconds,
        "bytes_read": found.bytes_read,
        "bytes_written": found.bytes_written,
        "rows": found.rows,
        "kept_share": found.kept_share,
        "text_kept": found.text_kept,
        "peak_disk": found.peak_disk,
        "bounds": found.bounds,
    }
    return json.dumps(facts | ({"money": money(found, prices)} if prices else {}), indent=1) + "\n"
