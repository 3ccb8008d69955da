"""Finished runs opened again: what they stored of the documents that they kept, as `against` of other runs needs it.

Invariant: an earlier output is only read. What it stored is used only where its own key says that it means the same: a
value is never taken from another version's meaning.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from ..stages.errors import RecipeError, did_you_mean
from .attributes import Attributes, holders
from .finished import read_manifest
from .graph import BoundStage
from .listing import Listing
from .plan import Plan, make_plan
from .receipts import Receipts
from .recipe import Recipe
from .signatures import StoredStage, measure_key, open_signatures, stored_stages
from .storage import Storage, storage_at


class EarlierRun(Protocol):
    """A finished run: from its signatures where it kept them (`signatures.SignatureRun`), else from its attributes.
    `stages`: resolve stages whose measured columns are there; `columns`: all that can be read; `kept`: documents kept,
    per unit."""

    @property
    def root(self) -> str: ...

    @property
    def stages(self) -> Sequence[StoredStage]: ...

    @property
    def columns(self) -> frozenset[str]: ...

    @property
    def kept(self) -> Sequence[int]: ...

    def kept_rows(self, unit: int, columns: Sequence[str]) -> pa.Table:
        """The columns, by full names, of the documents that the run kept. KeyError for one that it does not have."""
        ...


@dataclass
class AttributeRun:
    """A finished run whose attributes are all there. `files[u][i]`: attribute file of unit u at step i."""

    root: str
    plan: Plan
    work: Storage
    files: list[list[str]]
    stages: list[StoredStage]
    columns: frozenset[str]
    kept: list[int]

    def kept_rows(self, unit: int, columns: Sequence[str]) -> pa.Table:
        table = Attributes(self.plan, self.work, self.files[unit]).read(["alive", *columns])
        return table.filter(table["alive"]).drop_columns("alive")


def absolute(output: str) -> str:
    """An output's root as every machine of the run can name it."""
    return output if "://" in output else os.path.abspath(os.path.expanduser(output))


@functools.lru_cache(maxsize=8)
def open_run(output: str) -> EarlierRun:
    """Opens a finished run. RecipeError where what it stored is gone or of another version."""
    storage = storage_at(output)
    manifest = read_manifest(storage)
    if not manifest:
        raise RecipeError(f"{output}: is no finished output of Tamis (it has no manifest.json)")
    work = storage_at(manifest["recipe"]["work"] or f"{output.rstrip('/')}/work")
    return open_signatures(storage.root, work, manifest["plan"]) or _open_attributes(output, storage, work, manifest)


def _open_attributes(output: str, storage: Storage, work: Storage, manifest: Mapping[str, Any]) -> AttributeRun:
    recipe = Recipe.model_validate({**manifest["recipe"], "output": output})
    try:
        listing = Listing.from_json(work.read(f"listing-{manifest['plan']}.json"))
    except FileNotFoundError as error:
        raise RecipeError(_gone(output, recipe)) from error
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
    columns = frozenset(holders(plan, len(plan.steps)))
    kept = [receipts[unit.id]["alive"] for unit in plan.units]
    return AttributeRun(storage.root, plan, work, files, stored_stages(plan), columns, kept)


def _gone(output: str, recipe: Recipe) -> str:
    why = "its recipe says keep_work: none" if recipe.keep_work == "none" else "removed, or never copied with it"
    return (
        f"{output}: its work folder is gone ({why}), so nothing can be taken from it; run it again with keep_work: "
        "signatures"
    )


def matching_stage(run: EarlierRun, bound: BoundStage) -> StoredStage:
    """The stage of an earlier run whose measured columns mean the same as those of `bound`. RecipeError, also where the
    run lacks the scope within which `bound` compares."""
    key = measure_key(bound)
    found = next((stage for stage in run.stages if stage.use == bound.use and stage.key == key), None)
    if found is None:
        others = [stage.name for stage in run.stages if stage.use == bound.use]
        held = f"; its {', '.join(others)} measured with other settings or versions" if others else ""
        raise RecipeError(f"{bound.place}: against: {run.root} holds no {bound.use} with the same key settings{held}")
    scope = getattr(bound.stage.config, "scope", None)
    if scope is not None and scope not in run.columns:
        raise RecipeError(
            f"{bound.place}: against: {run.root} did not store {scope}, the scope.{did_you_mean(scope, run.columns)}"
        )
    return found
