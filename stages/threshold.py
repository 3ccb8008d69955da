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
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ._cuts import IDENTITY, Cuts, Drawn, Edge, Side, number_kind, score_keys, score_of, told
from ._groups import gather, part_count, split_by_value, unit_groups
from ._selection import TARGET, intervals, merged, narrowed, tally, target
from ._threshold_config import ThresholdConfig, ranks
from .base import Context, Kind, Nulls, Rule, Runs, Stage, Task
from .errors import RecipeError

QUANTILES = 10
MOST_GROUPS = 10_000  # with cuts of their own: they all stand in the manifest
MOST_WEIGHT = 1 << 62  # sums of weights, overall and by group together, are int64
SERIES = {"docs": pa.int64(), "weight": pa.int64(), "low": pa.uint64(), "high": pa.uint64()}


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
        sizes = ctx.map("sizes", _sizes, {item: [indexes, parts] for item, indexes in units.items()})
        total = _total(list(sizes.values()))
        if total["weight"] >= MOST_WEIGHT:
            raise RecipeError(f"by: {self.weight}: its sum is {total['weight']:,}, more than can be counted exactly")
        partitions = {f"p{p:05d}": [p, list(units)] for p in range(parts if self.group and units else 0)}
        groups = ctx.map("groups", _groups, partitions)
        own = sum(g["own"] for g in groups.values())
        if own > MOST_GROUPS:
            raise RecipeError(
                f"group: {self.group} has {own:,} values with min_group ({self.config.min_group:,}) documents or more; at "
                f"most {MOST_GROUPS:,} can have cuts of their own: raise min_group"
            )
        ctx.map("series", _series, {"all": [list(groups), total]})
        phase, number = "start", 0
        state = ctx.map(phase, _start, {"all": None})["all"]
        while state["left"]:
            number += 1
            counts = {item: [indexes, phase, state["level"]] for item, indexes in units.items()}
            ctx.map(f"count{number}", _count, counts)
            last, phase = phase, f"narrow{number}"
            state = ctx.map(phase, _narrow, {"all": [last, f"count{number}", list(units)]})["all"]
        facts = ctx.map("freeze", _freeze, {"all": [phase, total["kind"]]})["all"]
        written = ctx.map("verdict", _verdict, units).values()
        counted = {name: sum(f[name] for f in written) for name in ("kept_docs", "kept_weight")}
        fallen: dict[str, int] = {}
        if self.group:
            fallen = {name: sum(g[name] for g in groups.values()) for name in ("small_groups", "small_docs")}
            inside = fallen["small_docs"] + sum(line["docs"] for line in facts["groups"].values())
            fallen["without_group"] = total["docs"] - inside
        nowhere = {name: total[name] for name in ("without_score", "without_weight")}
        return {**facts, "docs": total["docs"], "weight": total["weight"], **counted, **nowhere, **fallen}


# --- populations --------------------------------------------------------------------------------------------------


def _population(
    task: Task, stage: Threshold, units: Sequence[int], more: Sequence[str] = ()
) -> tuple[pa.Table, np.ndarray, np.ndarray, np.ndarray]:
    """(rows, their keys, bool whether they have a score, int64 weights) of the living rows of some units."""
    wanted = dict.fromkeys(name for name in (stage.column, stage.group, stage.weight, *more) if name is not None)
    rows = pa.concat_tables([task.rows(unit, list(wanted)) for unit in units])
    keys, known = score_keys(rows[cast(str, stage.column)], stage.side)
    return rows, keys, known, _weights(rows, stage)


def _weights(rows: pa.Table, stage: Threshold) -> np.ndarray:
    if stage.weight is None:
        return np.ones(len(rows), np.int64)
    try:
        found = pc.fill_null(rows[stage.weight], 0).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise RecipeError(f"{stage.name}: by: {stage.weight}: {error}") from error
    if found.min(initial=0) < 0:
        raise RecipeError(f"{stage.name}: by: {stage.weight} is {found.min()} somewhere; nothing weighs less than 0")
    if found.sum(dtype=np.float64) >= MOST_WEIGHT:
        raise RecipeError(f"{stage.name}: by: {stage.weight}: its sum is more than can be counted exactly")
    return found


def _total(sizes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums of what `_sizes` tells of each item, and the extremes."""
    found: dict[str, Any] = {
        name: sum(s[name] for s in sizes) for name in ("docs", "weight", "without_score", "without_weight")
    }
    found["kind"] = sizes[0]["kind"] if sizes else "float"
    found["low"] = min((s["low"] for s in sizes if s["docs"]), default=0)
    found["high"] = max((s["high"] for s in sizes if s["docs"]), default=0)
    return found


def _sizes(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, parts = value
    stage = cast(Threshold, stage)
    rows, keys, known, weights = _population(task, stage, units)
    if stage.group:
        table = pa.table(
            {"value": rows[stage.group].cast(pa.large_string()), "weight": pa.array(weights), "key": pa.array(keys)}
        )
        table = table.filter(pa.array(known))
        sums = (
            table.filter(table["value"].is_valid())
            .group_by("value")
            .aggregate([([], "count_all"), ("weight", "sum"), ("key", "min"), ("key", "max")])
        )
        task.save(split_by_value(_sized(sums, ("count_all", "weight_sum", "key_min", "key_max")), parts))
    keys, weights = keys[known], weights[known]
    missing = rows[stage.weight].filter(pa.array(known)).null_count if stage.weight else 0
    return {
        "docs": len(keys),
        "kind": number_kind(rows.schema.field(cast(str, stage.column)).type),
        "weight": int(weights.sum()),
        "low": int(keys.min()) if len(keys) else 0,
        "high": int(keys.max()) if len(keys) else 0,
        "without_score": int((~known).sum()),
        "without_weight": missing,
    }


def _sized(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """`value` and the columns `names` under the names and types of SERIES."""
    columns = {name: table[own].cast(kind) for (name, kind), own in zip(SERIES.items(), names, strict=True)}
    return pa.table({"value": table["value"], **columns})


def _groups(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    part, items = value
    sums = (
        gather(task, "sizes", items, part)
        .group_by("value")
        .aggregate([("docs", "sum"), ("weight", "sum"), ("low", "min"), ("high", "max")])
    )
    table = _sized(sums, ("docs_sum", "weight_sum", "low_min", "high_max"))
    own = pc.greater_equal(table["docs"], cast(Threshold, stage).config.min_group)
    task.save([table.filter(own)])
    small = table.filter(pc.invert(own))
    return {
        "own": len(table) - len(small),
        "small_groups": len(small),
        "small_docs": pc.sum(small["docs"]).as_py() or 0,
    }


def _series(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """All documents (`value` null) and the groups with cuts of their own, in the order of their numbers."""
    partitions, total = value
    first = {name: pa.array([total[name]], kind) for name, kind in SERIES.items()}
    table = pa.table({"value": pa.nulls(1, pa.large_string()), **first})
    if partitions:
        table = pa.concat_tables([table, gather(task, "groups", partitions, 0).sort_by("value")])
    task.save([table])
    return {}


# --- rounds -------------------------------------------------------------------------------------------------------


def _start(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    stage = cast(Threshold, stage)
    rows = []
    for series, line in enumerate(task.load("series", "all", 0).to_pylist()):
        sizes = {name: line[name] for name in SERIES}
        asked = ranks(stage.asked, line["weight"])
        rows += [
            target(series, what, rank, cut=True, **sizes)
            for what, rank in enumerate(asked.values())
            if rank is not None
        ]
        for number in range(1, QUANTILES + 1 if line["docs"] else 1):
            rank = -(-number * line["docs"] // QUANTILES)  # from the lowest score up
            rank = line["docs"] - rank + 1 if stage.side == "top" else rank
            rows.append(target(series, len(asked) + number - 1, rank, cut=False, **sizes))
    return _save_targets(task, np.array(rows, TARGET))


def _save_targets(task: Task, targets: np.ndarray) -> dict[str, Any]:
    task.save_arrays([targets])
    still = targets[~targets["found"]]
    return {"left": len(still), "level": int(still["level"].max(initial=0))}


def _count(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, last, level = value
    stage = cast(Threshold, stage)
    wanted, _ = intervals(task.load_array(last, "all", 0))
    rows, keys, known, weights = _population(task, stage, units, IDENTITY if level else ())
    rows = rows.filter(pa.array(known))
    series = None
    if stage.group:
        names = task.load("series", "all", 0)["value"][1:].combine_chunks()
        at = pc.index_in(rows[stage.group].cast(pa.large_string()), value_set=names, skip_nulls=True)
        series = pc.fill_null(at, -1).to_numpy() + np.int32(1)
    draw = Drawn(rows, stage.seed, stage.name)
    task.save_arrays([tally(wanted, series, keys[known], weights[known], draw)])
    return {}


def _narrow(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    last, counted, items = value
    entries = merged(task.load_array(counted, item, 0) for item in items)
    return _save_targets(task, narrowed(task.load_array(last, "all", 0), entries))


# --- what is found ------------------------------------------------------------------------------------------------


def _freeze(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """The facts, which `_cuts.Cuts` and a later run read; saved for the verdicts."""
    stage = cast(Threshold, stage)
    phase, kind = value
    config, found = stage.config, task.load_array(phase, "all", 0)
    table = task.load("series", "all", 0).to_pylist()
    starts = np.searchsorted(found["series"], np.arange(len(table) + 1)).tolist()
    lines = [_line(stage, line, found[a:b], kind) for line, a, b in zip(table, starts, starts[1:])]
    facts = {
        "column": stage.column,
        "kind": kind,
        "side": stage.side,
        "by": config.by,
        **({"keep": config.keep} if config.band is None else {"band": list(config.band)}),
        **({"group": stage.group, "min_group": config.min_group} if stage.group else {}),
        "nulls": stage.nulls,
        "seed": stage.seed,
        "draw": stage.name,
        "overall": lines[0],
        "groups": {line["value"]: found for line, found in zip(table[1:], lines[1:])},
    }
    task.save([pa.table({"facts": [json.dumps(facts)]})])
    return facts


def _line(stage: Threshold, line: Mapping[str, Any], targets: np.ndarray, kind: str) -> dict[str, Any]:
    """The cuts, counts and quantiles of one series."""
    found: dict[str, Any] = {"docs": line["docs"], "weight": line["weight"]}
    by_what = {int(one["what"]): one for one in targets}
    kept = np.zeros(2, np.int64)
    asked = ranks(stage.asked, line["weight"])
    for what, edge in enumerate(asked):
        one, within = by_what.get(what), np.array([line["docs"], line["weight"]])
        found[edge] = None
        if one is not None:
            parts = (int(one["score"]), int(one["first"]), int(one["second"]))
            found[edge] = told(parts, int(one["level"]), kind, stage.side)
            within = np.array([one["within_docs"], one["within_weight"]])
        kept = within - kept  # what lies within `below`, less what lies within `above`
    found["kept_docs"], found["kept_weight"] = kept.tolist()
    scores = [by_what[what]["score"] for what in sorted(by_what) if what >= len(asked)]
    found["quantiles"] = [score_of(int(score), kind, stage.side) for score in scores]
    return found


def _verdict(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    stage = cast(Threshold, stage)
    facts = json.loads(task.load("freeze", "all", 0)["facts"][0].as_py())
    counted = {"kept_docs": 0, "kept_weight": 0}
    for unit in value:
        rows, _, _, weights = _population(task, stage, [unit], IDENTITY)
        cuts = Cuts(facts, rows.schema.field(cast(str, stage.column)).type)
        known, within = stage.within(rows, cuts)
        kept, rule = known.copy(), pa.nulls(len(rows), pa.string())
        for edge, inside in within.items():  # `above` comes first, and what lies within it is within `below`, too
            failed = known & (inside if edge == "above" else ~inside)
            rule = pc.if_else(pa.array(failed), f"{stage.name}.{edge}", rule)
            kept &= ~failed
        undecided = pc.if_else(pa.array(known), None, stage.rules[0].name)
        task.write(unit, pa.table({"rule": rule, "undecided": undecided}))
        counted["kept_docs"] += int(kept.sum())
        counted["kept_weight"] += int(weights[kept].sum())
    return counted
