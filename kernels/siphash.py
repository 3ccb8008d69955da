"""SipHash-2-4 with 128 bits of output, for hashes that are stored and compared far away from where they were made.

Invariant: the hash depends on the bytes and the two key words alone, now and in later versions: files hold it.

Aumasson, Bernstein: SipHash, a fast short-input PRF (2012); the 128-bit output is that of the authors' reference code. Unlike
hashes that multiply blocks, it has no known way to make texts that collide, also for who knows the key.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import load, load64, lowest_bytes


@nb.njit(forceinline=True)
def _rotate(x, bits):
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@nb.njit(forceinline=True)
def _round(v0, v1, v2, v3):
    v0 += v1
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 += v3
    v3 = _rotate(v3, 16) ^ v2
    v0 += v3
    v3 = _rotate(v3, 21) ^ v0
    v2 += v1
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@nb.njit(forceinline=True)
def siphash128(data, start, end, k0, k1):
    """(first, second) 64 bits of the hash of data[start:end]; data is uint8, k0 and k1 are the key as two uint64."""
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D ^ 0xEE)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    i = start
    while i + 8 <= end:
        block = load64(data, i)
        v3 ^= block
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= block
        i += 8
    block = np.uint64(end - start) << np.uint64(56)
    if i < end:
        block |= lowest_bytes(load(data, i), end - i)
    v3 ^= block
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= block
    v2 ^= np.uint64(0xEE)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= np.uint64(0xDD)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return first, v0 ^ v1 ^ v2 ^ v3
