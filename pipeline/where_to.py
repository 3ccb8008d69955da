"""Where every document went: file and row of data/, from the order of its key's rows and the receipts of the writing.

Invariant: the rows of a key stand in identity order over its files in order of their names, so that a document's rank
among them is all that is needed to find it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from .plan import Plan
from .sets import Chosen


@dataclass(frozen=True)
class DataFiles:
    """The written files. `keys`: name -> place; files of key k are those from first[k] to first[k + 1] in `names`, in
    order; `before`: rows of the key in front of each file."""

    keys: Mapping[str, int]
    first: np.ndarray
    names: pa.Array
    before: np.ndarray


def data_files(keys: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> DataFiles:
    """From the entries (file, key, rows) of the receipts of all written files."""
    ordered = sorted(entries, key=lambda entry: (entry["key"], entry["file"]))
    before = np.zeros(len(ordered), np.int64)
    for index in range(1, len(ordered)):
        if ordered[index]["key"] == ordered[index - 1]["key"]:
            before[index] = before[index - 1] + ordered[index - 1]["rows"]
    first = np.searchsorted([entry["key"] for entry in ordered], np.arange(len(keys) + 1))
    names = pa.array([entry["file"] for entry in ordered], pa.string())
    return DataFiles({key: index for index, key in enumerate(keys)}, first, names, before)


def out_columns(plan: Plan) -> list[tuple[str, pa.DataType]]:
    """The ledger's columns for it: the first set that holds the document, then each further set."""
    found: list[tuple[str, pa.DataType]] = [("out_file", pa.string()), ("out_row", pa.int64())]
    for name in list(plan.recipe.write.sets)[1:]:
        found += [(f"out_file_{name}", pa.string()), (f"out_row_{name}", pa.int64())]
    return found


def nowhere(plan: Plan, rows: int) -> dict[str, pa.Array]:
    """The columns of rows that are written to no file."""
    return {name: pa.nulls(rows, kind) for name, kind in out_columns(plan)}


def where_to(plan: Plan, files: DataFiles, chosen: Chosen, before: dict[int, int]) -> dict[str, pa.Array]:
    """The columns of the next rows. `before`: rows of each key in front of them; it is moved behind them."""
    place = np.array([files.keys[name] for name in chosen.names] or [0], np.int64)
    found: dict[str, pa.Array] = {}
    file = row = np.zeros(0, np.int64)
    for index, (name, codes) in enumerate(zip(plan.recipe.write.sets or [""], chosen.codes, strict=True)):
        own_file, own_row = _places(files, np.where(codes >= 0, place[codes], -1), before)
        if index:
            found |= _columns(files, f"_{name}", own_file, own_row)
            own_file, own_row = np.where(file >= 0, file, own_file), np.where(file >= 0, row, own_row)
        file, row = own_file, own_row
    return found | _columns(files, "", file, row)


def _places(files: DataFiles, keys: np.ndarray, before: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Place in `files.names` (-1: none) and row there of each row with its key (-1: none)."""
    file, row = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for start, stop in pairwise([*cuts.tolist(), len(order)]):
        at = order[start:stop]
        key = int(keys[at[0]])
        rank = before[key] + np.arange(len(at))
        own = files.before[files.first[key] : files.first[key + 1]]
        index = np.searchsorted(own, rank, side="right") - 1
        file[at], row[at] = files.first[key] + index, rank - own[index]
        before[key] += len(at)
    return file, row


def _columns(files: DataFiles, suffix: str, file: np.ndarray, row: np.ndarray) -> dict[str, pa.Array]:
    nowhere = file < 0
    return {
        f"out_file{suffix}": files.names.take(pa.array(file, mask=nowhere)),
        f"out_row{suffix}": pa.array(row, mask=nowhere),
    }
