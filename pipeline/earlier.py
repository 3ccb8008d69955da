"""Finished runs opened again: their plan, and the attribute files of every unit, as other runs and `why` need them.

Invariant: an earlier output is only read. What it stored is used only if the plan that its manifest describes comes out
with the same key, so a value is never taken from another version's meaning.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..stages.errors import RecipeError
from .attributes import Attributes
from .finished import read_manifest
from .graph import BoundStage
from .listing import Listing
from .plan import Plan, make_plan
from .receipts import Receipts
from .recipe import Recipe
from .storage import Storage, storage_at

IDENTITY = ("doc_id", "source_file", "source_row")


@dataclass
class EarlierRun:
    """A finished run whose work folder is still there. `files[u][i]`: attribute file of unit u at step i."""

    root: str
    plan: Plan
    work: Storage
    files: list[list[str]]
    kept: list[int]  # documents kept, per unit

    def kept_rows(self, unit: int, columns: Sequence[str]) -> pa.Table:
        """The columns of the documents that the run kept."""
        table = Attributes(self.plan, self.work, self.files[unit]).read(["alive", *columns])
        return table.filter(table["alive"]).drop_columns("alive")


def absolute(output: str) -> str:
    """An output's root as every machine of the run can name it."""
    return output if "://" in output else os.path.abspath(os.path.expanduser(output))


@functools.lru_cache(maxsize=8)
def open_run(output: str) -> EarlierRun:
    """Opens a finished run with its attributes. RecipeError where they are gone or of another version."""
    storage = storage_at(output)
    manifest = read_manifest(storage)
    if not manifest:
        raise RecipeError(f"{output}: is no finished output of Tamis (it has no manifest.json)")
    recipe = Recipe.model_validate({**manifest["recipe"], "output": output})
    work = storage_at(recipe.work or f"{output.rstrip('/')}/work")
    try:
        listing = Listing.from_json(work.read(f"listing-{manifest['plan']}.json"))
    except FileNotFoundError as error:
        raise RecipeError(f"{output}: its work folder is gone (keep_work), so nothing can be taken from it") from error
    plan = make_plan(recipe, listing)
    if plan.key != manifest["plan"]:
        raise RecipeError(f"{output}: was written by another version of Tamis or of a stage; run it again")
    files: list[list[str]] = [[] for _ in plan.units]
    receipts: dict[str, Any] = {}
    for step in plan.steps:
        receipts = Receipts(work, step.folder).load()
        for unit, names in zip(plan.units, files, strict=True):
            if unit.id not in receipts:
                raise RecipeError(f"{output}: the work of step {step.folder} is incomplete; run it again")
            names.append(receipts[unit.id]["file"])
    return EarlierRun(storage.root, plan, work, files, [receipts[u.id]["alive"] for u in plan.units])


def matching_stage(run: EarlierRun, bound: BoundStage) -> BoundStage:
    """The stage of an earlier run whose measured columns mean the same as those of `bound`. RecipeError."""
    measured = bound.stage.measured
    for other in run.plan.graph.stages:
        if other.use == bound.use and _measure_key(other) == _measure_key(bound) and other.stage.measured == measured:
            return other
    raise RecipeError(f"{bound.place}: against: {run.root} holds no {bound.use} with the same key settings")


def _measure_key(bound: BoundStage) -> tuple[Any, ...]:
    stage = bound.stage
    chosen_by = {"prefer", "against", "scope", "max_cluster", "verify", "on_alarm"}
    config = stage.config.model_dump(mode="json", exclude=chosen_by | set(stage.not_in_key))
    return (stage.version, repr(sorted(config.items())), stage.fingerprint())
