"""Span columns: what a stage that finds pieces of text hands to `cut_spans`.

Invariant: `start` and `end` are byte offsets in the text version that was read, both on character boundaries; the spans
of a row ascend and do not overlap. A row that was looked at and has none holds an empty list; null means not looked at.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

SPANS = pa.list_(
    pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float32()), ("kind", pa.string())])
)


def span_column(
    count: int,
    rows: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    score: np.ndarray,
    kind: pa.Array | str,
    *,
    valid: np.ndarray | None = None,
) -> pa.Array:
    """A column of type SPANS with `count` rows from flat arrays, one entry per span.

    rows: int64, the row of each span, ascending; start, end: int64 bytes, ascending within a row; score: anything that
    casts to float32; kind: a string array, or one string for all. valid: bool per row, false where the row is null
    (such a row must have no spans); by default all rows are valid. ValueError for rows that do not ascend or overlap.
    """
    rows, start, end = (np.asarray(x, dtype=np.int64) for x in (rows, start, end))
    if len(rows):
        same = rows[1:] == rows[:-1]
        if (rows[1:] < rows[:-1]).any() or (same & (start[1:] < end[:-1])).any() or (start > end).any():
            raise ValueError("spans must ascend by row and start, and not overlap")
        if rows[0] < 0 or rows[-1] >= count:
            raise ValueError(f"spans of rows {rows[0]} to {rows[-1]}, but there are {count} rows")
    kinds = pa.repeat(pa.scalar(kind, pa.string()), len(rows)) if isinstance(kind, str) else kind.cast(pa.string())
    spans = pa.StructArray.from_arrays(
        [pa.array(start), pa.array(end), pa.array(np.asarray(score, dtype=np.float32)), kinds],
        fields=list(SPANS.value_type),
    )
    offsets = np.searchsorted(rows, np.arange(count + 1)).astype(np.int32)
    if valid is None:
        return pa.ListArray.from_arrays(pa.array(offsets), spans, type=SPANS)
    if (np.diff(offsets)[~valid] > 0).any():
        raise ValueError("a row that is not valid has spans")
    return pa.ListArray.from_arrays(pa.array(offsets, mask=np.append(~valid, False)), spans, type=SPANS)
