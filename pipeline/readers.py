"""Reads a segment of the input as a stream of batches, whatever its format.

Invariant: rows yielded, rows of void row groups and bytes of lost files add up to what the listing and the line ends
show, at every batch size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from .listing import Listing, Source
from .read_jsonl import read_jsonl
from .read_parquet import read_parquet
from .rows import Batch, FileLost, GroupEnd, Segment

__all__ = ["Batch", "FileLost", "GroupEnd", "Segment", "read_segment"]


def read_segment(
    listing: Listing,
    sources: Sequence[Source],
    segment: Segment,
    columns: Sequence[str],
    *,
    text: bool = True,
    max_doc: int,
    batch_bytes: int,
    groups: Collection[int] | None = None,
) -> Iterator[Batch | GroupEnd | FileLost]:
    """Yields the rows of a segment in order: the batches of a row group, its GroupEnd, and so on; FileLost last.

    `columns`: names of `listing.columns` to deliver, in those types. `text=False` leaves out source_hash, text and
    reason, and does not read the text of Parquet. `groups`: only these row groups (JSON Lines is group 0).
    Batches hold at most about `batch_bytes` of all columns together; one row may hold more.

    Raises DataError where the file changed or vanished since it was listed, SetupError where disk or network fail.
    """
    file = listing.files[segment.file]
    read = read_jsonl if file.format == "jsonl" else read_parquet
    yield from read(
        listing,
        sources[file.source],
        segment,
        columns,
        text=text,
        max_doc=max_doc,
        batch_bytes=batch_bytes,
        groups=groups,
    )
