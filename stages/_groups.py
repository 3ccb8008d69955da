"""How a resolve stage cuts its work: units into items, rows into partitions, members back to their units.

Invariant: results depend neither on the items nor on the number of partitions; both only bound the memory of a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from ._keys import value_keys
from .base import Context, Task, UnitRows

UNITS_PER_ITEM = 128
ROWS_PER_ITEM = 2_000_000  # about 1 GB of keys and identities; 128 units of very short texts would be ten times that
ROWS_PER_PART = 2_000_000


class AgainstContext(Context, Protocol):
    """A context that knows earlier outputs."""

    def against(self, output: str) -> Mapping[str, int]:
        """The parts of an earlier output of Tamis, name (`[A-Za-z0-9_-]+`) to number of documents it kept. RecipeError
        where the output does not hold this stage's measure columns under the same config."""
        ...


class AgainstTask(Task, Protocol):
    """A task that can read earlier outputs."""

    def against(self, output: str, part: str, columns: Sequence[str]) -> pa.Table:
        """The documents of a part that the earlier output kept: this stage's own measure columns by their plain names,
        doc_id, source_file, source_row and other columns of its ledger."""
        ...


def bundles(rows: Sequence[int], rows_per_item: int | None = None) -> list[range]:
    """Consecutive positions, bundled up to UNITS_PER_ITEM of them and about `rows_per_item` (ROWS_PER_ITEM) rows."""
    most = ROWS_PER_ITEM if rows_per_item is None else rows_per_item
    found: list[range] = []
    held = 0
    for at, count in enumerate(rows):
        if not found or len(found[-1]) >= UNITS_PER_ITEM or held + count > most:
            found.append(range(at, at))
            held = 0
        found[-1] = range(found[-1].start, at + 1)
        held += count
    return found


def unit_groups(units: Sequence[UnitRows], rows_per_item: int | None = None) -> dict[str, list[UnitRows]]:
    """Items `g00000`, ...: consecutive units in bundles."""
    cuts = bundles([u.rows for u in units], rows_per_item)
    return {f"g{i:05d}": [units[at] for at in places] for i, places in enumerate(cuts)}


def first_rows(groups: Mapping[str, Sequence[UnitRows]]) -> list[int]:
    """n of the first document of each group, in order; what `split_by_n` takes."""
    return [units[0].n0 for units in groups.values()]


def part_count(rows: int) -> int:
    """Number of partitions for so many rows."""
    return max(1, -(-rows // ROWS_PER_PART))


def part_of(hashes: np.ndarray, parts: int) -> np.ndarray:
    """Partition of each 64-bit hash, by its high bits: equal hashes meet in one partition."""
    return ((hashes >> np.uint64(32)) * np.uint64(parts)) >> np.uint64(32)


def split(table: pa.Table, part: np.ndarray, parts: int) -> list[pa.Table]:
    """The rows of each partition, in their order."""
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(parts + 1, dtype=part.dtype))
    ordered = table.take(pa.array(order))
    return [ordered.slice(a, b - a) for a, b in zip(bounds.tolist(), bounds[1:].tolist())]


def split_by_value(table: pa.Table, parts: int) -> list[pa.Table]:
    """The rows of each partition of the column `value` (strings): equal values meet in one."""
    encoded = table["value"].combine_chunks().dictionary_encode()
    hashes = value_keys(encoded.dictionary)["hi"].to_numpy()
    return split(table, part_of(hashes[np.asarray(encoded.indices)], parts), parts)


def split_by_n(table: pa.Table, starts: Sequence[int]) -> list[pa.Table]:
    """The rows that belong to each group of units, by their `n`."""
    n = table["n"].to_numpy()
    return split(table, np.searchsorted(np.array(starts, np.uint64), n, side="right") - 1, len(starts))


def gather(task: Task, phase: str, items: Sequence[str], part: int) -> pa.Table:
    """Part `part` of every item of a phase, in one table; columns that only some items have are null elsewhere."""
    tables = [task.load(phase, item, part) for item in items]
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def align(members: pa.Table, n: pa.ChunkedArray) -> pa.Table:
    """One row per entry of `n`: the member with that n, or nulls. members: sorted by `n`, each once."""
    have, want = members["n"].to_numpy(), n.to_numpy()
    at = np.searchsorted(have, want)
    found = at < len(have)
    found[found] = have[at[found]] == want[found]
    return members.take(pa.array(at, mask=~found))
