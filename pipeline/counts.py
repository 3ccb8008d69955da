"""How much of every unit is written where: the pass over the decisions that comes before the writing.

Invariant: counts are sums over documents, each counted once for every set that holds it; they do not depend on units
beyond being told per unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from .ledger import LedgerRows
from .plan import Plan
from .receipts import Receipt, Receipts
from .sets import Counts, check_keys
from .storage import Storage

UNITS_COUNTED = 16  # in one item


def count_items(plan: Plan) -> dict[str, list[int]]:
    """The units by items of the counting."""
    units = range(len(plan.units))
    return {f"c{start:06d}": list(units[start : start + UNITS_COUNTED]) for start in units[::UNITS_COUNTED]}


def run_count(
    plan: Plan, work: Storage, folder: str, item: str, units: Sequence[int], files: Sequence[Sequence[str]]
) -> Receipt:
    """Commits rows and bytes of every key of these units. RecipeError where a column has too many values."""
    counts: dict[str, dict[str, list[int]]] = {}
    keys: set[str] = set()
    for unit, unit_files in zip(units, files, strict=True):
        own = counts[str(unit)] = {}
        attributes = LedgerRows(plan, work, unit_files)
        for group in range(len(attributes.group_rows())):
            chosen, size = attributes.chosen(group), text_sizes(attributes, group)
            for codes in chosen.codes:
                rows = np.bincount(codes[codes >= 0], minlength=len(chosen.names))
                text = np.bincount(codes[codes >= 0], size[codes >= 0], minlength=len(chosen.names))
                for name, number, length in zip(chosen.names, rows.tolist(), text.tolist(), strict=True):
                    if number:
                        total = own.setdefault(name, [0, 0])
                        total[0] += number
                        total[1] += int(length)
        keys |= own.keys()
        check_keys(plan, sorted(keys))
    return Receipts(work, folder).commit(item, {"units": counts, "data": []})


def text_sizes(attributes: LedgerRows, group: int | None = None) -> np.ndarray:
    """int64 bytes by which rows are laid out: of the final text where it is kept, else of the text as it was read."""
    sizes = attributes.read(["alive", "bytes", "bytes_read"], group)
    return pc.fill_null(pc.if_else(sizes["alive"], sizes["bytes"], sizes["bytes_read"]), 0).to_numpy()


def merged(plan: Plan, receipts: Iterable[Receipt]) -> Counts:
    """From the receipts of all counting items. RecipeError where there are too many keys."""
    units: dict[int, dict[str, list[int]]] = {}
    for receipt in receipts:
        units |= {int(unit): counts for unit, counts in receipt["units"].items()}
    keys = sorted({key for counts in units.values() for key in counts})
    check_keys(plan, keys)
    place = {key: index for index, key in enumerate(keys)}
    return Counts(
        keys, [{place[key]: (n, size) for key, (n, size) in units[unit].items()} for unit in range(len(plan.units))]
    )


def totals(plan: Plan, files: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Rows and files of every written set, for the manifest; `files`: entries of the receipts of written files."""
    found = {name: {"rows": 0, "files": 0} for name in plan.recipe.write.sets}
    for entry in files:
        counts = found.get(entry["file"].split("/")[1])
        if counts is not None and entry["file"].startswith("data/"):
            counts["rows"] += entry["rows"]
            counts["files"] += 1
    return found
