"""The best share of the documents by a score, or as many as a budget holds: finds the cut, freezes it, drops the rest.

Invariant: the document that crosses the asked share is kept and nothing behind it, to the document, however many scores
are equal; the frozen cut alone gives the same verdicts again. What the order is and what a cut means: `_cuts`.

Phases: those of `_score_phases`; then freeze (one item), the facts, and verdict (a group of units).
With `from:` it is no resolve stage: it decides by the facts of an earlier run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa

from . import _threshold_phases as phases
from ._by_score import ByScore
from ._cuts import IDENTITY, Cuts, Edge, Side, score_keys
from ._score_phases import SERIES, search
from ._selection import target
from ._threshold_config import ThresholdConfig, ranks
from .base import Context, Kind, Nulls, Rule, Runs

QUANTILES = 10


class Threshold(ByScore):
    """Keeps the best share of the documents by a score, or what a budget holds, overall or in every group.

    The shares are of the documents that reach the stage with a score. Equal scores are split by a random draw of the
    document, so the share is met to within one document. The cut is frozen in the manifest: `from: OUTPUT` uses it again
    on other documents, without seeing all of them first.

    Rules: NAME.below drops what is not good enough; with `band`, NAME.above what is too good.
    """

    Config = ThresholdConfig

    def froze(self, facts: Mapping[str, Any]) -> bool:
        return "side" in facts

    # --- what it is

    @property
    def kind(self) -> Kind:
        return "resolve" if self.finds else "decide"

    @property
    def draws(self) -> bool:
        return self.finds

    @property
    def side(self) -> Side:
        return self._taken["side"] if self._taken else self.config.side

    @property
    def nulls(self) -> Nulls:
        return self.config.nulls or (self._taken or {}).get("nulls", "quarantine")

    @property
    def asked(self) -> list[tuple[Edge, float | int]]:
        """The edges and the shares or budgets that lie within them, the better one first; a band from 0% has one."""
        facts = self._taken or {"keep": self.config.keep, "band": self.config.band}
        if facts.get("band") is None:
            return [("below", facts.get("keep") or 1.0)]
        low, high = facts["band"]
        return [("above", low), ("below", high)] if low else [("below", high)]

    @property
    def needs(self) -> tuple[str, ...]:
        found = [self.column, self.group, self.weight, *IDENTITY]
        return tuple(dict.fromkeys(name for name in found if name is not None))

    @property
    def rules(self) -> tuple[Rule, ...]:
        read = tuple(dict.fromkeys(name for name in (self.column, self.group) if name is not None))
        what = "keep" if len(self.asked) == 1 and self.config.band is None else "band"
        return tuple(
            Rule(f"{self.name}.{edge}", self.nulls, params=((f"{self.name}.{what}", part),), needs=read)
            for edge, part in self.asked
        )

    # --- verdicts

    def within(self, rows: pa.Table, cuts: Cuts) -> tuple[np.ndarray, dict[Edge, np.ndarray]]:
        """(bool, whether the row has a score; for each edge bool, whether it lies within)."""
        keys, known = score_keys(rows[cast(str, self.column)], cuts.side)
        series = cuts.series(rows[self.group] if self.group else None, len(rows))
        return known, cuts.within(rows, keys, series)

    def decide(self, batch: pa.Table) -> pa.Table:
        cuts = Cuts(cast(Mapping[str, Any], self._taken), batch.schema.field(cast(str, self.column)).type)
        known, within = self.within(batch, cuts)
        passes = {edge: ~inside if edge == "above" else inside for edge, inside in within.items()}
        return pa.table({f"{self.name}.{edge}": pa.array(passed, mask=~known) for edge, passed in passes.items()})

    # --- the cut

    def targets(self, series: int, line: Mapping[str, Any]) -> list[tuple]:
        """The cut of every edge that is one, and the quantiles, which count documents from the lowest score up."""
        sizes = {name: line[name] for name in SERIES}
        asked = ranks(self.asked, line["weight"])
        rows = [
            target(series, what, rank, weighed=True, split=True, **sizes)
            for what, rank in enumerate(asked.values())
            if rank is not None
        ]
        for number in range(1, QUANTILES + 1 if line["docs"] else 1):
            rank = -(-number * line["docs"] // QUANTILES)
            rank = line["docs"] - rank + 1 if self.side == "top" else rank
            rows.append(target(series, len(asked) + number - 1, rank, weighed=False, split=False, **sizes))
        return rows

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        found = search(self, runs, ctx)
        facts = ctx.map("freeze", phases.freeze, {"all": [found.phase, found.total["kind"]]})["all"]
        written = ctx.map("verdict", phases.verdict, found.units).values()
        counted = {name: sum(f[name] for f in written) for name in ("kept_docs", "kept_weight")}
        sums = {name: found.total[name] for name in ("docs", "weight")}
        return {**facts, **sums, **counted, **found.nowhere(), **found.fallen}
