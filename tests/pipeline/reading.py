"""Reads an input to its end and adds it up: what the engine does with a reader, in a few lines, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis.pipeline.listing import Listing, Source, list_input
from tamis.pipeline.readers import Batch, FileLost, GroupEnd, Segment, read_segment


@dataclass
class Outcome:
    """Rows that stand, row groups lost as (file, group, rows, error), files lost, and the largest batch."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    groups: list[tuple[str, int, int, str]] = field(default_factory=list)
    files: list[FileLost] = field(default_factory=list)
    ends: int = 0
    largest: int = 0

    def facts(self) -> tuple[Any, ...]:
        return self.rows, self.groups, self.files, self.ends

    @property
    def count(self) -> int:
        return len(self.rows) + sum(group[2] for group in self.groups)


def read_all(
    files: str | Path | list[str],
    *,
    batch_bytes: int = 16 << 20,
    max_doc: int = 64 << 20,
    columns: Sequence[str] | None = None,
    text: bool = True,
    listing: Listing | None = None,
    source: dict[str, Any] | None = None,
) -> Outcome:
    """Reads every file of a source as one segment, in order. `source`: its other keys in a recipe."""
    sources = [Source(files=str(files) if isinstance(files, Path) else files, **(source or {}))]
    listing = listing or list_input(sources)
    wanted = listing.columns.names if columns is None else columns
    out = Outcome()
    for index, file in enumerate(listing.files):
        held: list[pa.Table] = []
        segment = Segment(index, 0, len(file.groups), 0)
        for item in read_segment(
            listing, sources, segment, wanted, text=text, max_doc=max_doc, batch_bytes=batch_bytes
        ):
            if isinstance(item, Batch):
                assert item.table.num_rows > 0
                out.largest = max(out.largest, item.table.nbytes)
                held.append(item.table)
            elif isinstance(item, GroupEnd):
                out.ends += 1
                if item.error is None:
                    assert sum(table.num_rows for table in held) == item.rows
                    for table in held:
                        out.rows += table.to_pylist()
                else:
                    out.groups.append((file.name, item.group, item.rows, item.error))
                held = []
            else:
                out.files.append(item)
        assert held == []
    return out
