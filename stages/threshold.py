"""The best share of the documents by a score, or as many as a budget holds: finds the cut, freezes it, drops the rest.

Invariant: the document that crosses the asked share is kept and nothing behind it, to the document, however many scores
are equal; the frozen cut alone gives the same verdicts again. What the order is and what a cut means: `_cuts`.

Phases, each a set of items that read files and save files:
1. sizes (a group of units): documents, weight, smallest and largest key, overall and per value of `group`; the values
   are partitioned by hash. 2. groups (a partition): sums; the values with `min_group` documents or more.
3. start (one item): every cut and quantile that is to be found, and where it may lie.
4. count1 (a group of units), narrow1 (one item), count2, narrow2, ...: see `_selection`. A narrow item holds about
   MOST_BINS + MOST_KEYS sums, whatever the size of the corpus.
5. freeze (one item): the facts. 6. verdict (a group of units).
With `from:` it is no resolve stage: it decides by the facts of an earlier run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import xxhash

from . import _threshold_phases as phases
from ._cuts import IDENTITY, Cuts, Edge, Side, number_kind, score_keys
from ._groups import part_count, unit_groups
from ._threshold_config import ThresholdConfig
from .base import Context, Kind, Nulls, Rule, Runs, Stage
from .errors import RecipeError

MOST_GROUPS = 10_000  # with cuts of their own: they all stand in the manifest


class Threshold(Stage):
    """Keeps the best share of the documents by a score, or what a budget holds, overall or in every group.

    The shares are of the documents that reach the stage with a score. Equal scores are split by a random draw of the
    document, so the share is met to within one document. The cut is frozen in the manifest: `from: OUTPUT` uses it again
    on other documents, without seeing all of them first.

    Rules: NAME.below drops what is not good enough; with `band`, NAME.above what is too good.
    """

    Config = ThresholdConfig
    not_in_key = frozenset({"from"})

    def __init__(self, config: Any, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self._taken: Mapping[str, Any] | None = None

    # --- a frozen cut

    @property
    def takes(self) -> tuple[str, str] | None:
        given = getattr(self.config, "from")
        if given is None:
            return None
        return (given, self.name) if isinstance(given, str) else (given.output, given.stage or self.name)

    def take(self, facts: Mapping[str, Any]) -> None:
        output, stage = cast(tuple[str, str], self.takes)
        if "overall" not in facts:
            raise RecipeError(f"from: {output}: its stage {stage} is no threshold, so it froze no cut")
        if not facts["overall"]["docs"]:
            raise RecipeError(f"from: {output}: its stage {stage} saw no document with a score, so it found no cut")
        if self.config.group and "group" not in facts:
            raise RecipeError(f"group: the cut of {output} was found over all documents, it has no groups")
        self._taken = facts

    @property
    def taken(self) -> Mapping[str, Any] | None:
        return self._taken

    def fingerprint(self) -> str:
        if self._taken is None:
            return ""
        return xxhash.xxh3_128_hexdigest(json.dumps(self._taken, sort_keys=True).encode())

    # --- what it is

    @property
    def kind(self) -> Kind:
        return "resolve" if getattr(self.config, "from") is None else "decide"

    @property
    def draws(self) -> bool:
        return self.kind == "resolve"

    @property
    def column(self) -> str | None:
        """The column of scores; None for one that has not taken its cut yet."""
        return self.config.column or (self._taken or {}).get("column")

    @property
    def group(self) -> str | None:
        return self.config.group or (self._taken or {}).get("group")

    @property
    def side(self) -> Side:
        return self._taken["side"] if self._taken else self.config.side

    @property
    def nulls(self) -> Nulls:
        return self.config.nulls or (self._taken or {}).get("nulls", "quarantine")

    @property
    def weight(self) -> str | None:
        """The column that shares count, if they do not count documents; a frozen cut counts nothing."""
        return None if self.kind == "decide" or self.config.by == "docs" else self.config.by

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

    def check(self, schema: pa.Schema) -> None:
        column = cast(str, self.column)
        kind = number_kind(schema.field(column).type)
        if kind is None:
            raise RecipeError(
                f"column: {column} is {schema.field(column).type}; documents are ordered by a float or integer"
            )
        if self.weight and not pa.types.is_integer(schema.field(self.weight).type):
            raise RecipeError(
                f"by: {self.weight} is {schema.field(self.weight).type}; give docs, chars or a column of whole numbers"
            )
        if self.group and pa.types.is_nested(schema.field(self.group).type):
            raise RecipeError(f"group: {self.group} is {schema.field(self.group).type}; groups need plain values")
        if self._taken and self._taken["kind"] != kind:
            raise RecipeError(
                f"column: {column} is {schema.field(column).type}, and the cut of {self.takes[0]} is one of "  # type: ignore[index]
                f"{self._taken['kind']} scores"
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

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        units = {item: [u.index for u in group] for item, group in unit_groups(runs.units).items()}
        parts = part_count(sum(u.rows for u in runs.units))
        sizes = ctx.map("sizes", phases.sizes, {item: [indexes, parts] for item, indexes in units.items()})
        total = phases.total(list(sizes.values()))
        if total["weight"] >= phases.MOST_WEIGHT:
            raise RecipeError(f"by: {self.weight}: its sum is {total['weight']:,}, more than can be counted exactly")
        partitions = {f"p{p:05d}": [p, list(units)] for p in range(parts if self.group and units else 0)}
        groups = ctx.map("groups", phases.groups, partitions)
        own = sum(g["own"] for g in groups.values())
        if own > MOST_GROUPS:
            raise RecipeError(
                f"group: {self.group} has {own:,} values with min_group ({self.config.min_group:,}) documents or more; at "
                f"most {MOST_GROUPS:,} can have cuts of their own: raise min_group"
            )
        ctx.map("series", phases.series, {"all": [list(groups), total]})
        phase, number = "start", 0
        state = ctx.map(phase, phases.start, {"all": None})["all"]
        while state["left"]:
            number += 1
            counts = {item: [indexes, phase, state["level"]] for item, indexes in units.items()}
            ctx.map(f"count{number}", phases.count, counts)
            last, phase = phase, f"narrow{number}"
            state = ctx.map(phase, phases.narrow, {"all": [last, f"count{number}", list(units)]})["all"]
        facts = ctx.map("freeze", phases.freeze, {"all": [phase, total["kind"]]})["all"]
        written = ctx.map("verdict", phases.verdict, units).values()
        counted = {name: sum(f[name] for f in written) for name in ("kept_docs", "kept_weight")}
        fallen: dict[str, int] = {}
        if self.group:
            fallen = {name: sum(g[name] for g in groups.values()) for name in ("small_groups", "small_docs")}
            inside = fallen["small_docs"] + sum(line["docs"] for line in facts["groups"].values())
            fallen["without_group"] = total["docs"] - inside
        nowhere = {name: total[name] for name in ("without_score", "without_weight")}
        return {**facts, "docs": total["docs"], "weight": total["weight"], **counted, **nowhere, **fallen}
