"""Arrays on storage: what the phases of a resolve stage hand on where the numbers are many and nothing else is there.

Invariant: a part is read with two ranged reads, whatever the file holds besides. Layout: the byte offset of each part
and of the end (little-endian uint64), then the arrays as they lie in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from .storage import Storage


def array_dtype(described: Any) -> np.dtype:
    """The dtype that `describe` wrote into a receipt."""
    return np.dtype([tuple(field) for field in described] if isinstance(described, list) else described)


def describe(dtype: np.dtype) -> Any:
    """A dtype as JSON: its name, or [name, type] of every field."""
    return [list(field) for field in dtype.descr] if dtype.names else dtype.str


def write_arrays(file: BinaryIO, parts: Sequence[np.ndarray]) -> None:
    """Writes one-dimensional arrays of one dtype without objects."""
    head = np.zeros(len(parts) + 1, "<u8")
    head[1:] = np.cumsum([part.nbytes for part in parts])
    head += head.nbytes
    file.write(head.tobytes())
    for part in parts:
        if part.nbytes:
            file.write(np.ascontiguousarray(part).view(np.uint8).data)


def read_array(storage: Storage, path: str, part: int, dtype: np.dtype) -> np.ndarray:
    """Part `part` of the file, which has more than that; writable."""
    with storage.open(path) as file:
        file.seek(8 * part)
        start, stop = np.frombuffer(file.read(16), "<u8").tolist()
        file.seek(start)
        data = np.empty((stop - start) // dtype.itemsize, dtype)
        view, held = data.view(np.uint8).data, 0
        while held < stop - start:
            piece = file.read(min(stop - start - held, 1 << 28))
            view[held : held + len(piece)] = piece
            held += len(piece)
    return data
