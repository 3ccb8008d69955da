"""From a recipe to its plan: the input is listed, and what earlier runs in the same `work` packed stays together.

Invariant: nothing is written or started.
"""

from __future__ import annotations

import json

from .listing import list_input
from .plan import Plan, make_plan, with_packs
from .recipe import Recipe
from .storage import Storage, storage_at

PACKS = "packs.json"


def work_storage(recipe: Recipe) -> Storage:
    """Where attributes and receipts live: `work:`, by default below the output; it may be shared by runs."""
    return storage_at(recipe.work or f"{recipe.output.rstrip('/')}/work")


def plan_recipe(recipe: Recipe, *, max_footers: int | None = None) -> Plan:
    """Lists the input and plans; reads footers only, at most `max_footers` of them, evenly spread. RecipeError."""
    listing = list_input(recipe.input, max_footers=max_footers)
    return make_plan(recipe, with_packs(listing, read_packs(work_storage(recipe))))


def read_packs(work: Storage) -> list[list[list[str]]]:
    """Which small files earlier runs read together; see `plan.packs`."""
    try:
        return json.loads(work.read(PACKS))
    except (FileNotFoundError, ValueError):
        return []
