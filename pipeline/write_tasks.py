"""How the writing is cut into tasks: spans of the chosen text in identity order, a bounded number of keys at a time.

Invariant: spans follow from the sizes of the chosen documents alone; units and pieces of the input decide only which
spans one task writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .plan import Plan
from .sets import Counts, one_key

SPAN_KEYS = 8  # a span has as many shards as there are keys, this many at most: a task's files are worth opening
OPEN_KEYS = 256  # files that a task has open; more keys are written by further tasks over the same span
OPEN_BYTES = 256_000_000  # of text that all open files of a task hold back together


@dataclass(frozen=True)
class DataLayout:
    """`keys`: all folders of data/, in order of their names; `shard`: bytes of text in a file; `span`: bytes of chosen
    text that tasks are cut at; `plain`: files are numbered by span alone."""

    keys: Sequence[str]
    shard: int
    span: int
    plain: bool

    @property
    def open_bytes(self) -> int:
        """Text that one open file may hold back."""
        return OPEN_BYTES // min(max(len(self.keys), 1), OPEN_KEYS)


@dataclass(frozen=True)
class WriteTask:
    """Consecutive spans, first <= span < stop, of the keys from `keys[0]` to `keys[1]`, and the units that may hold their
    documents. `before[i]`: bytes of chosen text in front of units[i]."""

    item: str
    first: int
    stop: int
    keys: tuple[int, int]
    units: tuple[int, ...]
    before: tuple[int, ...]


def shard_size(plan: Plan, chosen_bytes: int) -> int:
    """The recipe's, else a 64th of the chosen text, at least 16 MB and at most 256 MB."""
    return plan.recipe.write.shard_size or min(max(chosen_bytes // 64, 16_000_000), 256_000_000)


def data_layout(plan: Plan, counts: Counts) -> DataLayout:
    size = shard_size(plan, sum(counts.bytes()))
    return DataLayout(counts.keys, size, size * min(max(len(counts.keys), 1), SPAN_KEYS), one_key(plan))


def all_tasks(plan: Plan, counts: Counts, layout: DataLayout) -> list[WriteTask]:
    """The tasks of every group of keys that may be open together."""
    found = []
    for start in range(0, len(layout.keys), OPEN_KEYS):
        keys = range(start, min(start + OPEN_KEYS, len(layout.keys)))
        found += write_tasks(plan, counts.bytes(), counts.rows(keys), layout.span, keys)
    return found


def write_tasks(
    plan: Plan, unit_bytes: Sequence[int], unit_rows: Sequence[int], size: int, keys: range
) -> list[WriteTask]:
    """One task a span, except where more spans fall into a unit than it has pieces that can be read alone: tasks then
    begin in it no more often than it has pieces, so that on average a piece is read twice at most.

    `unit_bytes`: chosen text of every unit, of all keys; `unit_rows`: documents of these keys.
    """
    before = np.concatenate([[0], np.cumsum(unit_bytes)]).tolist()
    shards = before[-1] // size + 1
    members: list[list[int]] = [[] for _ in range(shards)]
    joined = [False] * (shards + 1)  # shard k goes with shard k - 1
    for unit, rows in enumerate(unit_rows):
        if rows:
            first, last = before[unit] // size, before[unit + 1] // size
            for shard in range(first, last + 1):
                members[shard].append(unit)
            stride = -(-(last - first) // _pieces(plan, unit))
            for shard in range(first + 1, last + 1):
                joined[shard] |= (shard - first) % stride > 0
    tasks: list[WriteTask] = []
    start = 0
    for stop in range(1, shards + 1):
        if joined[stop]:
            continue
        units = sorted({unit for shard in members[start:stop] for unit in shard})
        item = f"w{start:06d}" + (f"-{keys.start:05d}" if keys.start else "")
        bounds = (keys.start, keys.stop)
        tasks.append(WriteTask(item, start, stop, bounds, tuple(units), tuple(before[u] for u in units)))
        start = stop
    return tasks


def _pieces(plan: Plan, unit: int) -> int:
    """How many pieces of a unit can be read alone: its row groups; JSON Lines are read from the start of the unit."""
    files = [(plan.listing.files[segment.file], segment) for segment in plan.units[unit].segments]
    if any(file.format == "jsonl" for file, _ in files):
        return 1
    return max(1, sum(group.rows > 0 for file, part in files for group in file.groups[part.start : part.stop]))
