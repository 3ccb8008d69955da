"""A Bloom filter over 64-bit hashes: a set that may say yes to what it does not hold, and never no to what it does.

Invariant: what was put in is found, whatever the size; only the share of others that pass depends on it.
Bloom, Space/time trade-offs in hash coding with allowable errors (1970).
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numba import types

from .byte_hash import mix

PROBES = 4  # with 16 to 32 bits for each of n hashes, one other in 420 to one in 5,200 passes
BITS_PER_HASH = 16
_STEP = np.uint64(0x9E3779B97F4A7C15)

_WORDS = types.Array(types.uint64, 1, "C")
_HASHES = types.Array(types.uint64, 1, "C", readonly=True)


@nb.njit(types.void(_HASHES, _WORDS, types.uint64), nogil=True, cache=True)
def _add(hashes, words, mask):
    for hash_ in hashes:
        place, step = mix(hash_), mix(hash_ ^ _STEP) | np.uint64(1)
        for _ in range(PROBES):
            bit = place & mask
            words[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
            place += step


@nb.njit(
    types.void(_HASHES, types.Array(types.uint64, 1, "C", readonly=True), types.uint64, types.boolean[::1]),
    nogil=True,
    cache=True,
)
def _test(hashes, words, mask, found):
    for i in range(len(hashes)):
        place, step = mix(hashes[i]), mix(hashes[i] ^ _STEP) | np.uint64(1)
        here = True
        for _ in range(PROBES):
            bit = place & mask
            here = words[bit >> np.uint64(6)] >> (bit & np.uint64(63)) & np.uint64(1) != np.uint64(0)
            if not here:
                break
            place += step
        found[i] = here


def bloom_bits(count: int) -> int:
    """Bits of a filter for so many hashes: a power of two, BITS_PER_HASH to twice that for each."""
    return 1 << max(6, (BITS_PER_HASH * count - 1).bit_length())


class Bloom:
    """The filter of `hashes` (uint64, in any order, repeats allowed), with room for exactly these."""

    def __init__(self, hashes: np.ndarray) -> None:
        bits = bloom_bits(len(hashes))
        self.mask = np.uint64(bits - 1)
        self.words = np.zeros(max(1, bits >> 6), np.uint64)
        _add(hashes, self.words, self.mask)

    def passing(self, hashes: np.ndarray) -> np.ndarray:
        """bool for each hash (uint64): false only for what the filter does not hold."""
        found = np.empty(len(hashes), np.bool_)
        _test(hashes, self.words, self.mask, found)
        return found
