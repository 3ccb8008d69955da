"""Cuts through all documents and through every group, by a score: the phases that stages which need them share.

Invariant: sums are exact integers, and no item holds more than about two million rows, or sums of MOST_BINS + MOST_KEYS
bins, whatever the size of the corpus.

Phases, each a set of items that read files and save files:
1. sizes (a group of units): documents, weight, smallest and largest key, overall and per value of `group`; the values
   are partitioned by hash. 2. groups (a partition): sums; the values with `min_group` documents or more.
3. series (one item): all documents and these values, numbered. 4. start (one item): what is to be found in each
   (`ByScore.targets`), and where it may lie.
5. count1 (a group of units), narrow1 (one item), count2, narrow2, ...: see `_selection`. A narrow item holds about
   MOST_BINS + MOST_KEYS sums, whatever the size of the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._cuts import IDENTITY, Drawn, group_series, number_kind, score_keys
from ._groups import gather, part_count, split_by_value, unit_groups
from ._selection import TARGET, intervals, merged, narrowed, tally
from .base import Context, Runs, Stage, Task
from .errors import RecipeError

if TYPE_CHECKING:
    from ._by_score import ByScore

MOST_GROUPS = 10_000  # with cuts of their own: they all stand in the manifest
MOST_WEIGHT = 1 << 62  # sums of weights, overall and by group together, are int64
SERIES = {"docs": pa.int64(), "weight": pa.int64(), "low": pa.uint64(), "high": pa.uint64()}


@dataclass(frozen=True)
class Search:
    """What `search` leaves behind. `phase`: of the last round, whose item `all` holds the TARGETs, all found; `units`:
    indexes by item; `total`: docs, weight, kind, without_score, without_weight; `fallen`: what got no cut of its own."""

    phase: str
    units: Mapping[str, list[int]]
    total: Mapping[str, Any]
    fallen: Mapping[str, int]

    def nowhere(self) -> dict[str, int]:
        """Documents that no share counts, or that weigh nothing because their weight is null."""
        return {name: self.total[name] for name in ("without_score", "without_weight")}


def search(stage: ByScore, runs: Runs, ctx: Context) -> Search:
    """Finds the targets of all documents and of every group, on the driver."""
    units = {item: [u.index for u in group] for item, group in unit_groups(runs.units).items()}
    parts = part_count(sum(u.rows for u in runs.units))
    found = ctx.map("sizes", sizes, {item: [indexes, parts] for item, indexes in units.items()})
    total = _total(list(found.values()))
    if total["weight"] >= MOST_WEIGHT:
        raise RecipeError(f"by: {stage.weight}: its sum is {total['weight']:,}, more than can be counted exactly")
    partitions = {f"p{p:05d}": [p, list(units)] for p in range(parts if stage.group and units else 0)}
    by_value = ctx.map("groups", groups, partitions)
    own = sum(g["own"] for g in by_value.values())
    if own > MOST_GROUPS:
        raise RecipeError(
            f"group: {stage.group} has {own:,} values with min_group ({stage.config.min_group:,}) documents or more; at "
            f"most {MOST_GROUPS:,} can have cuts of their own: raise min_group"
        )
    own_docs = ctx.map("series", series, {"all": [list(by_value), total]})["all"]["own_docs"]
    phase, number = "start", 0
    state = ctx.map(phase, start, {"all": None})["all"]
    while state["left"]:
        number += 1
        counts = {item: [indexes, phase, state["level"]] for item, indexes in units.items()}
        ctx.map(f"count{number}", count, counts)
        last, phase = phase, f"narrow{number}"
        state = ctx.map(phase, narrow, {"all": [last, f"count{number}", list(units)]})["all"]
    fallen: dict[str, int] = {}
    if stage.group:
        fallen = {name: sum(g[name] for g in by_value.values()) for name in ("small_groups", "small_docs")}
        fallen["without_group"] = total["docs"] - fallen["small_docs"] - own_docs
    return Search(phase, units, total, fallen)


def population(
    task: Task, stage: ByScore, units: Sequence[int], more: Sequence[str] = ()
) -> tuple[pa.Table, np.ndarray, np.ndarray, np.ndarray]:
    """(rows, their keys, bool whether they have a score, int64 weights) of the living rows of some units."""
    wanted = dict.fromkeys(name for name in (stage.column, stage.group, stage.weight, *more) if name is not None)
    rows = pa.concat_tables([task.rows(unit, list(wanted)) for unit in units])
    keys, known = score_keys(rows[cast(str, stage.column)], stage.side)
    return rows, keys, known, _weights(rows, stage)


def _weights(rows: pa.Table, stage: ByScore) -> np.ndarray:
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
    """The sums of what `sizes` tells of each item, and the extremes."""
    found: dict[str, Any] = {
        name: sum(s[name] for s in sizes) for name in ("docs", "weight", "without_score", "without_weight")
    }
    found["kind"] = sizes[0]["kind"] if sizes else "float"
    found["low"] = min((s["low"] for s in sizes if s["docs"]), default=0)
    found["high"] = max((s["high"] for s in sizes if s["docs"]), default=0)
    return found


def sizes(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, parts = value
    stage = cast("ByScore", stage)
    rows, keys, known, weights = population(task, stage, units)
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
    own = pc.greater_equal(table["docs"], cast("ByScore", stage).config.min_group)
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
    return {"own_docs": pc.sum(table["docs"][1:]).as_py() or 0}


# --- rounds -------------------------------------------------------------------------------------------------------


def start(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Every target of every series, none of them found."""
    lines = task.load("series", "all", 0).to_pylist()
    rows = [row for number, line in enumerate(lines) for row in cast("ByScore", stage).targets(number, line)]
    return _save_targets(task, np.array(rows, TARGET))


def _save_targets(task: Task, targets: np.ndarray) -> dict[str, Any]:
    task.save_arrays([targets])
    still = targets[~targets["found"]]
    return {"left": len(still), "level": int(still["level"].max(initial=0))}


def count(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, last, level = value
    stage = cast("ByScore", stage)
    wanted, _ = intervals(task.load_array(last, "all", 0))
    rows, keys, known, weights = population(task, stage, units, IDENTITY if level else ())
    rows = rows.filter(pa.array(known))
    series = None
    if stage.group:
        own = task.load("series", "all", 0)["value"][1:].combine_chunks()
        series = group_series(rows[stage.group], own, len(rows))
    draw = Drawn(rows, stage.seed, stage.name)
    task.save_arrays([tally(wanted, series, keys[known], weights[known], draw)])
    return {}


def narrow(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    last, counted, items = value
    entries = merged(task.load_array(counted, item, 0) for item in items)
    return _save_targets(task, narrowed(task.load_array(last, "all", 0), entries))


def lines(task: Task, phase: str) -> list[tuple[dict[str, Any], np.ndarray]]:
    """(value, docs, weight of a series; its TARGETs) for all documents (value None) and then for each group."""
    found = task.load_array(phase, "all", 0)
    table = task.load("series", "all", 0).to_pylist()
    starts = np.searchsorted(found["series"], np.arange(len(table) + 1)).tolist()
    return [(line, found[a:b]) for line, a, b in zip(table, starts, starts[1:])]
