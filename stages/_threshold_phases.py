"""The last phases of `threshold`: the facts, and the verdict of each unit; those before are `_score_phases`.

Invariant: the verdicts follow from the facts alone, so a later run that takes them decides alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._cuts import IDENTITY, Cuts, score_of, told
from ._score_phases import lines, population
from ._threshold_config import ranks
from .base import Stage, Task

if TYPE_CHECKING:
    from .threshold import Threshold


def freeze(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """The facts, which `_cuts.Cuts` and a later run read; saved for the verdicts."""
    stage = cast("Threshold", stage)
    phase, kind = value
    config, found = stage.config, lines(task, phase)
    told_lines = [_line(stage, line, targets, kind) for line, targets in found]
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
        "overall": told_lines[0],
        "groups": {line["value"]: told for (line, _), told in zip(found[1:], told_lines[1:])},
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
        rows, _, _, weights = population(task, stage, [unit], IDENTITY)
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
