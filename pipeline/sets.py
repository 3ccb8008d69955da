"""Which documents are written where: a key for every row and written set.

Invariant: a row's key follows from its ledger row, the recipe and the seed alone, so that the counting, the writing and
the ledger agree on it. A key is a folder below data/: 'main/lang=en/', '' where there are neither sets nor partitions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages import sql
from ..stages.draws import draws
from ..stages.errors import RecipeError
from .data_columns import BoundSet
from .plan import Plan

NULL = "__null__"
MOST_VALUES = 1_000  # of one partition column
MOST_KEYS = 10_000  # folders of a run
LONGEST = 200  # characters of a folder's name: file systems take 255 bytes
_PLAIN = re.compile(r"[A-Za-z0-9_-]*\Z", re.ASCII)


@dataclass(frozen=True)
class Chosen:
    """Rows on their way to data/. `names`: the keys that these rows have; `codes`: one int64 array per set, the place
    of each row's key in `names`, -1 where the row is not in the set."""

    names: Sequence[str]
    codes: Sequence[np.ndarray]


def one_key(plan: Plan) -> bool:
    """Whether all that is written are the kept documents, in one folder."""
    return not plan.recipe.write.sets and not plan.recipe.write.partition


def key_columns(plan: Plan) -> list[str]:
    """Ledger columns that `choose` reads."""
    found = set(plan.recipe.write.partition)
    for written in plan.graph.write.sets:
        found |= set(written.columns)
        found |= {"stage", "reason"} if written.where else set()
        found |= {"doc_id"} if written.sample is not None else set()
    return sorted(found)


def choose(plan: Plan, rows: Mapping[str, pa.Array], alive: np.ndarray) -> Chosen:
    """The keys of rows with the columns `key_columns`. RecipeError where a value of `where` or `partition` does not fit."""
    names, folder = _folders(plan, rows, len(alive))
    keys: list[str] = []
    codes: list[np.ndarray] = []
    for written in plan.graph.write.sets:
        inside = _inside(plan, written, rows, alive)
        codes.append(np.where(inside, folder + len(keys), -1))
        keys += [f"{written.name}/{name}" if written.name else name for name in names]
    used = np.unique(np.concatenate(codes)) if codes else np.array([], np.int64)
    used = used[used >= 0]
    place = np.full(len(keys) + 1, -1, np.int64)  # the last one is that of -1
    place[used] = np.arange(len(used))
    return Chosen([keys[i] for i in used.tolist()], [place[code] for code in codes])


def _inside(plan: Plan, written: BoundSet, rows: Mapping[str, pa.Array], alive: np.ndarray) -> np.ndarray:
    if written.where is None:
        inside = alive
    else:
        table = pa.table({name: rows[name] for name in written.columns}) if written.columns else _rows_only(len(alive))
        found = sql.evaluate(table, {f"write.sets.{written.name}.where": written.where}, {}).column(0)
        # a text that could not be read has no stage that set it aside
        readable = pc.or_(pc.is_null(rows["reason"]), pc.is_valid(rows["stage"]))
        inside = _bools(pc.and_(readable, pc.fill_null(found, False)))
    if written.sample is None or not inside.any():
        return inside
    drawn = np.zeros(len(inside), np.bool_)
    at = np.flatnonzero(inside)
    keys = rows["doc_id"].take(pa.array(at))
    drawn[at] = draws(keys, seed=plan.recipe.seed, name=written.name) < written.sample
    return drawn


def _rows_only(rows: int) -> pa.Table:
    return pa.table({"row": pa.nulls(rows)})


def _bools(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    found = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return found.to_numpy(zero_copy_only=False)


def _folders(plan: Plan, rows: Mapping[str, pa.Array], count: int) -> tuple[list[str], np.ndarray]:
    """Names of the partition folders that the rows fall into, and which of them each falls into."""
    names, folder = [""], np.zeros(count, np.int64)
    for column in plan.recipe.write.partition:
        found = rows[column].cast(pa.string()).dictionary_encode()
        values = [*found.dictionary.to_pylist(), None]
        own = pc.fill_null(found.indices.cast(pa.int64()), len(values) - 1).to_numpy()
        pairs, folder = np.unique(folder * len(values) + own, return_inverse=True)
        ends = [folder_name(column, value) for value in values]
        names = [names[pair // len(values)] + ends[pair % len(values)] for pair in pairs.tolist()]
    return names, folder


def folder_name(column: str, value: str | None) -> str:
    """'lang=en/': percent-encoded outside [A-Za-z0-9_-]; null is __null__, and a value that reads so is %5F_null__.
    RecipeError where the name is too long."""
    text = NULL if value is None else "%5F" + NULL[1:] if value == NULL else _encoded(value)
    name = f"{_encoded(column)}={text}/"
    if len(name) > LONGEST:
        raise RecipeError(
            f"write.partition: {column} has a value of {len(value or '')} characters: too long for a folder"
        )
    return name


def _encoded(text: str) -> str:
    if _PLAIN.match(text):
        return text
    return "".join(c if _PLAIN.match(c) else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


def check_keys(plan: Plan, keys: Sequence[str]) -> None:
    """RecipeError naming the column with too many values, or all where only together they are too many."""
    columns = plan.recipe.write.partition
    start = 1 if plan.recipe.write.sets else 0
    values: list[set[str]] = [set() for _ in columns]
    for key in keys:
        for found, part in zip(values, key.split("/")[start:], strict=False):
            found.add(part)
    for column, found in zip(columns, values, strict=True):
        if len(found) > MOST_VALUES:
            raise RecipeError(
                f"write.partition: {column} has more than {MOST_VALUES:,} values, each of which would be a folder; "
                "leave it out, or partition by a column with fewer values"
            )
    if len(keys) > MOST_KEYS:
        raise RecipeError(
            f"write.partition: {', '.join(columns)} make more than {MOST_KEYS:,} folders together; leave one of them out"
        )


@dataclass(frozen=True)
class Counts:
    """All keys of a run in order of their names, and per unit of each key by its place: rows, and bytes of text."""

    keys: Sequence[str]
    units: Sequence[Mapping[int, tuple[int, int]]]

    def bytes(self) -> list[int]:
        """Per unit: chosen text, a document counted once for every set that holds it."""
        return [sum(size for _, size in unit.values()) for unit in self.units]

    def rows(self, keys: range) -> list[int]:
        """Per unit: rows of these keys."""
        return [sum(rows for key, (rows, _) in unit.items() if key in keys) for unit in self.units]
