"""The source read again for rows that attributes already describe: for later passes over the text, and for the writing.

Invariant: rows come in the order of the attributes, and only row groups that hold a wanted row are read. In a run over a
sample this module alone knows that attributes stand for some of the source's rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ..stages.errors import DataError
from .attributes import Attributes
from .parquet import GROUP_ROWS
from .plan import Plan, Segment, Unit
from .readers import Batch as ReadBatch
from .readers import FileLost, GroupEnd, read_segment

BATCH_BYTES = 32_000_000  # of text that is held at a time
Item = TypeVar("Item")


def segment_events(
    plan: Plan, segment: Segment, columns: Sequence[str], groups: Sequence[int] | None = None
) -> Iterator[ReadBatch | GroupEnd | FileLost]:
    """A segment of the input as the reader gives it, in batches of the engine's size. `columns`: names of the input."""
    recipe = plan.recipe
    yield from read_segment(
        plan.listing, recipe.input, segment, columns, max_doc=recipe.max_doc, batch_bytes=BATCH_BYTES, groups=groups
    )


def living_rows(
    plan: Plan,
    unit: Unit,
    attributes: Attributes,
    chosen: np.ndarray,
    *,
    read_text: bool = True,
    columns: Sequence[str] = (),
) -> Iterator[tuple[int, int, pa.Array | None, pa.Table | None]]:
    """Ranges of a unit's attribute rows in order, (first, rows), each with the text and the source table of its chosen
    rows (None without text). Row groups of the source without a chosen row are not read.

    `chosen`: bool for every attribute row of the unit.
    """
    if not read_text:
        for start in range(0, len(chosen), GROUP_ROWS):
            yield start, min(GROUP_ROWS, len(chosen) - start), None, None
        return
    if plan.recipe.sample is not None:
        positions = attributes.read(["position"])["position"].to_numpy()
        yield from _sampled_rows(plan, unit, positions, chosen, columns)
        return
    position = 0
    for segment in unit.segments:
        for size, table in _pieces(plan, segment, chosen, position, columns):
            found = None if table is None else table.filter(pa.array(chosen[position : position + size]))
            yield position, size, _text_of(found), found
            position += size
    if position != len(chosen):
        raise DataError(f"unit {unit.id}: {position} rows where {len(chosen)} were measured: the source changed since")


def _text_of(table: pa.Table | None) -> pa.Array:
    return pa.array([], pa.large_string()) if table is None else _one(table["text"])


def _sampled_rows(
    plan: Plan, unit: Unit, positions: np.ndarray, chosen: np.ndarray, columns: Sequence[str]
) -> Iterator[tuple[int, int, pa.Array, pa.Table | None]]:
    """The same where attributes stand for the source rows `positions` only; gathers a batch from many row groups."""
    wide = np.zeros(positions[-1] + 1 if len(positions) else 0, np.bool_)
    wide[positions] = chosen
    held: list[pa.Table] = []
    first = position = size = 0
    for segment in unit.segments:
        for rows, table in _pieces(plan, segment, wide, position, columns):
            inside = np.zeros(rows, np.bool_)
            inside[: max(len(wide) - position, 0)] = wide[position : position + rows]
            position += rows
            if table is not None and inside.any():
                held.append(table.filter(pa.array(inside)))
                size += held[-1].nbytes
            if size >= BATCH_BYTES:
                last = int(np.searchsorted(positions, position))
                found = pa.concat_tables(held).combine_chunks()
                yield first, last - first, _text_of(found), found
                held, first, size = [], last, 0
    if first < len(positions):
        found = pa.concat_tables(held).combine_chunks() if held else None
        yield first, len(positions) - first, _text_of(found), found


def timed(items: Iterator[Item], facts: dict[str, Any], key: str) -> Iterator[Item]:
    """The same items; the CPU seconds that it takes to get them are added to facts[key]."""
    while True:
        started = time.process_time()
        item = next(items, None)
        facts[key] += time.process_time() - started
        if item is None:
            return
        yield item


def _pieces(
    plan: Plan, segment: Segment, alive: np.ndarray, position: int, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table | None]]:
    """(rows, table) over a segment; the table is None for a row group in which nobody lives."""
    groups = plan.listing.files[segment.file].groups
    if groups:
        for number in range(segment.start, segment.stop):
            rows = groups[number].rows
            if alive[position : position + rows].any():
                for table in _read(plan, segment, columns, [number]):
                    yield len(table), table
            elif rows:
                yield rows, None
            position += rows
        return
    for table in _read(plan, segment, columns, None):
        yield len(table), table


def _read(plan: Plan, segment: Segment, columns: Sequence[str], groups: list[int] | None) -> Iterator[pa.Table]:
    for event in segment_events(plan, segment, columns, groups):
        if isinstance(event, ReadBatch):
            yield event.table
        elif isinstance(event, GroupEnd) and event.error is not None:
            name = plan.listing.files[segment.file].name
            raise DataError(f"{name}: row group {event.group} could be read before and cannot now: {event.error}")


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
