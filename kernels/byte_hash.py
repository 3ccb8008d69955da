"""64-bit hashes of byte ranges, eight bytes a step, for words and lines within one document.

Invariant: equal bytes give equal hashes wherever they lie in a buffer; unequal ones collide by chance with about
2^-64 per pair (a text made to collide can). Never written to a file: for tables that live as long as a call.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

_K0 = np.uint64(0x9E3779B97F4A7C15)
_K1 = np.uint64(0xD6E8FEB86659FD93)


@intrinsic
def load64(typingctx, data, index):  # type: ignore[no-untyped-def]
    """The eight bytes data[index:index + 8] as one uint64, unaligned and without a bounds check."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = cgutils.gep_inbounds(builder, array.data, args[1])
        word = builder.bitcast(place, ir.IntType(64).as_pointer())
        loaded = builder.load(word)
        loaded.align = 1
        return loaded

    return nb.uint64(data, nb.int64), codegen


@nb.njit(forceinline=True)
def mix(x):
    """Spreads a key over all 64 bits (a bijection)."""
    x = (x ^ (x >> np.uint64(32))) * _K1
    return x ^ (x >> np.uint64(29))


@nb.njit(forceinline=True)
def hash_bytes(data, start, end):
    """Hash of data[start:end]; data is uint8."""
    h = np.uint64(end - start) * _K0
    i = start
    while i + 8 <= end:
        h = (h ^ load64(data, i)) * _K0
        h ^= h >> np.uint64(32)
        i += 8
    if i < end:
        last = np.uint64(0)
        if i + 8 <= data.shape[0]:
            last = load64(data, i) & ((np.uint64(1) << np.uint64(8 * (end - i))) - np.uint64(1))
        else:
            for k in range(end - i):
                last |= np.uint64(data[i + k]) << np.uint64(8 * k)
        h = (h ^ last) * _K0
    return mix(h)


@nb.njit(forceinline=True)
def first_place(key, place, slots, values, stamps, mask, now):
    """Where `key` was first seen under the stamp `now`; it is entered with `place` if it is new.

    An open-addressing table that is never cleared: slots uint64, values int32, stamps int32 (0 at first), mask = a power
    of two less 1, at least the number of entries. An entry with another stamp is free.
    """
    k = np.int64(mix(key) & mask)
    while stamps[k] == now:
        if slots[k] == key:
            return values[k]
        k = (k + 1) & np.int64(mask)
    stamps[k], slots[k], values[k] = now, key, place
    return place
