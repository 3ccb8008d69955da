"""NumPy views of Arrow text, without copying: what kernels take and give.

Invariant: a kernel gets `data` (uint8, the whole buffer) and `offsets` (int64, n + 1 entries, offsets[0] may be > 0);
text i is data[offsets[i]:offsets[i + 1]].
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one contiguous array."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def text_buffers(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(data uint8, offsets int64 of length n + 1), both read-only views, of a string column; nulls are empty texts."""
    array = one_array(column)
    if array.type != pa.large_string():
        array = array.cast(pa.large_string())
    if array.null_count:
        array = array.fill_null("")
    _, offset_buffer, data_buffer = array.buffers()
    if offset_buffer is None or len(array) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
    return data, offsets


def text_array(data: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """large_string array over (data, offsets) without copying; the caller vouches that the bytes are UTF-8."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, buffers[1], buffers[2])
