"""What a run under Ray tells Prometheus: counters and gauges of the driver, on the metrics port of its Ray node.

Invariant: metrics never stop a run and decide nothing. They count what this driver saw committed; after a kill they
begin again at zero, as counters do, and the manifest has the sums.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from ..receipts import Receipt
from .base import Failure

TAGS = ("recipe", "step")
SECONDS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]  # bounds of the histogram: a unit of 128 MB takes 1 to 100


class Metrics:
    """One driver's metrics, tagged with the recipe's name and the step.

    Ray puts `ray_` before each name and Prometheus' exporter `_total` behind a counter's; `deploy/dashboard.json` shows
    them.
    """

    def __init__(self, recipe: str) -> None:
        self.recipe = recipe
        self.documents = Counter("tamis_documents", "Documents that a step has worked through", TAGS)
        self.alive = Counter("tamis_documents_alive", "Documents alive after a step", TAGS)
        self.text = Counter("tamis_text_bytes", "UTF-8 bytes of text read (first step) or written (write)", TAGS)
        self.failures = Counter("tamis_failures", "Units and items that failed for good", TAGS)
        self.planned = Gauge("tamis_units_planned", "Units or items that this driver has to run in a step", TAGS)
        self.done = Gauge("tamis_units_done", "Units or items that it has seen committed", TAGS)
        self.seconds = Histogram("tamis_unit_seconds", "Wall seconds of one unit or item", SECONDS, TAGS)
        self._done: dict[str, int] = {}

    def begin(self, step: str, planned: int) -> None:
        """So many units or items are to be run in a step."""
        self._done[step] = 0
        with contextlib.suppress(Exception):  # whatever Ray's metrics may raise, the run goes on
            self.planned.set(planned, self._tags(step))
            self.done.set(0, self._tags(step))

    def outcome(self, step: str, outcome: Receipt | Failure) -> None:
        """A unit or item of a step is committed, or has failed for good."""
        tags = self._tags(step)
        with contextlib.suppress(Exception):
            if isinstance(outcome, Failure):
                self.failures.inc(1, tags)
                return
            self._done[step] = self._done.get(step, 0) + 1
            self.done.set(self._done[step], tags)
            for counter, value in zip((self.documents, self.alive, self.text), amounts(outcome), strict=True):
                if value:
                    counter.inc(value, tags)
            if outcome.get("seconds"):
                self.seconds.observe(outcome["seconds"], tags)

    def _tags(self, step: str) -> dict[str, str]:
        return {"recipe": self.recipe, "step": step}


def amounts(receipt: Receipt) -> tuple[int, int, int]:
    """Documents, those alive afterwards, and bytes of text, as far as the receipt of this kind of work has them."""
    if "kept" in receipt:  # ledger: all documents of the run
        return sum(receipt[fate] for fate in ("kept", "dropped", "quarantined")), receipt["kept"], 0
    alive: Any = receipt.get("alive", 0)
    rows = receipt["rows"] - receipt.get("outside", 0) if "unit" in receipt else alive
    return rows, alive, receipt.get("read_bytes") or receipt.get("text_bytes", 0)
