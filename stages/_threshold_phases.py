"""The phases of `threshold`: what each item of units, partitions or one merge does; see that file for their order.

Invariant: sums are exact integers, and no item holds more than about two million rows, or sums of MOST_BINS + MOST_KEYS
bins, whatever the size of the corpus.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._cuts import IDENTITY, Cuts, Drawn, number_kind, score_keys, score_of, told
from ._groups import gather, split_by_value
from ._selection import TARGET, intervals, merged, narrowed, tally, target
from ._threshold_config import ranks
from .base import Stage, Task
from .errors import RecipeError

if TYPE_CHECKING:
    from .threshold import Threshold

QUANTILES = 10
MOST_WEIGHT = 1 << 62  # sums of weights, overall and by group together, are int64
SERIES = {"docs": pa.int64(), "weight": pa.int64(), "low": pa.uint64(), "high": pa.uint64()}


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


def total(sizes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums of what `_sizes` tells of each item, and the extremes."""
    found: dict[str, Any] = {
        name: sum(s[name] for s in sizes) for name in ("docs", "weight", "without_score", "without_weight")
    }
    found["kind"] = sizes[0]["kind"] if sizes else "float"
    found["low"] = min((s["low"] for s in sizes if s["docs"]), default=0)
    found["high"] = max((s["high"] for s in sizes if s["docs"]), default=0)
    return found


def sizes(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, parts = value
    stage = cast("Threshold", stage)
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


def groups(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    part, items = value
    sums = (
        gather(task, "sizes", items, part)
        .group_by("value")
        .aggregate([("docs", "sum"), ("weight", "sum"), ("low", "min"), ("high", "max")])
    )
    table = _sized(sums, ("docs_sum", "weight_sum", "low_min", "high_max"))
    own = pc.greater_equal(table["docs"], cast("Threshold", stage).config.min_group)
    task.save([table.filter(own)])
    small = table.filter(pc.invert(own))
    return {
        "own": len(table) - len(small),
        "small_groups": len(small),
        "small_docs": pc.sum(small["docs"]).as_py() or 0,
    }


def series(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """All documents (`value` null) and the groups with cuts of their own, in the order of their numbers."""
    partitions, total = value
    first = {name: pa.array([total[name]], kind) for name, kind in SERIES.items()}
    table = pa.table({"value": pa.nulls(1, pa.large_string()), **first})
    if partitions:
        table = pa.concat_tables([table, gather(task, "groups", partitions, 0).sort_by("value")])
    task.save([table])
    return {}


# --- rounds -------------------------------------------------------------------------------------------------------


def start(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    stage = cast("Threshold", stage)
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


def count(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, last, level = value
    stage = cast("Threshold", stage)
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


def narrow(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    last, counted, items = value
    entries = merged(task.load_array(counted, item, 0) for item in items)
    return _save_targets(task, narrowed(task.load_array(last, "all", 0), entries))


# --- what is found ------------------------------------------------------------------------------------------------


def freeze(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """The facts, which `_cuts.Cuts` and a later run read; saved for the verdicts."""
    stage = cast("Threshold", stage)
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


def verdict(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    stage = cast("Threshold", stage)
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
