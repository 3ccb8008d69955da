"""Random draws as pure functions of the document: u = xxh3(run seed, stage name, key) / 2^64, of which 53 bits are used.

Invariant: a draw never depends on the unit, the batch or the order, so a 0.1 % sample lies inside the 1 % sample.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash


def draws(keys: pa.ChunkedArray | pa.Array, *, seed: int, name: str) -> np.ndarray:
    """float64 in [0, 1), one per key (any type that casts to string); NaN where the key is null."""
    salt = xxhash.xxh3_64_intdigest(f"{seed}\x00{name}".encode())
    if not pa.types.is_large_binary(keys.type):
        keys = (keys if pa.types.is_binary(keys.type) else keys.cast(pa.large_string())).cast(pa.large_binary())
    # 0.3 us a key: a column of keys is a thousandth of the text, and xxh3 has no vectorised form in Arrow
    digest = xxhash.xxh3_64_intdigest
    values = [np.nan if k is None else (digest(k, salt) >> 11) / 2**53 for k in keys.to_pylist()]  # never 1.0
    return np.array(values, dtype=np.float64)
