"""Eight bytes a step: unaligned loads, byte masks, hashes of byte ranges, and the table that counts what was seen.

Invariant: equal bytes give equal hashes wherever they lie in a buffer; unequal ones collide by chance with about
2^-64 per pair (a text made to collide can). Never written to a file: hashes live as long as a call.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

_K0 = np.uint64(0x9E3779B97F4A7C15)
_K1 = np.uint64(0xD6E8FEB86659FD93)
_HIGH = np.uint64(0x8080808080808080)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
_ONES = np.uint64(0x0101010101010101)
_LETTER_FLOOR = np.uint64(0x1F1F1F1F1F1F1F1F)  # 0x80 - ord("a")
_LETTER_CEILING = np.uint64(0x0505050505050505)  # 0x7F - ord("z")
_CASE = np.uint64(0x2020202020202020)


def _load64(typingctx, data, index):
    """The eight bytes data[index:index + 8] as one uint64, unaligned and without a bounds check."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = cgutils.gep_inbounds(builder, array.data, args[1])
        loaded = builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()))
        loaded.align = 1
        return loaded

    return nb.uint64(data, nb.int64), codegen


load64: Any = intrinsic(_load64)


def _zeros_below(typingctx, value):
    """Zero bits below the lowest one of a uint64; 64 for 0."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return nb.int64(nb.uint64), codegen


_trailing_zeros: Any = intrinsic(_zeros_below)


@nb.njit(forceinline=True)
def first_byte(marks):
    """Index of the first byte whose high bit is set; 8 if there is none."""
    return _trailing_zeros(marks) >> 3


@nb.njit(forceinline=True)
def lowest_bytes(word, n):
    """The first n bytes (0 to 7) of eight, the others 0."""
    return word & ((np.uint64(1) << np.uint64(8 * n)) - np.uint64(1))


@nb.njit(forceinline=True)
def load(data, i):
    """data[i:i + 8] (uint8) as one uint64, little end first; bytes behind the end of data are 0."""
    if i + 8 <= data.shape[0]:
        return load64(data, i)
    word = np.uint64(0)
    for k in range(data.shape[0] - i):
        word |= np.uint64(data[i + k]) << np.uint64(8 * k)
    return word


@nb.njit(forceinline=True)
def not_letters(word):
    """High bit set in each of the eight bytes that is no ASCII letter."""
    folded = (word & _LOW) | _CASE
    letters = (folded + _LETTER_FLOOR) & ~(folded + _LETTER_CEILING) & ~word
    return ~letters & _HIGH


@nb.njit(forceinline=True)
def equal_bytes(word, byte):
    """High bit set in each of the eight bytes that equals `byte` (uint64 of 0 to 255)."""
    x = word ^ (_ONES * byte)
    return ~(((x & _LOW) + _LOW) | x) & _HIGH


@nb.njit(forceinline=True)
def sum_of_bytes(word):
    """Sum of the eight bytes of a uint64."""
    pairs = (word & np.uint64(0x00FF00FF00FF00FF)) + ((word >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF))
    return np.int64((pairs * np.uint64(0x0001000100010001)) >> np.uint64(48))


@nb.njit(forceinline=True)
def control_or_wide(word):
    """Nonzero if any of the eight bytes is below 32 or above 127."""
    return ((word - _ONES * np.uint64(32)) | word) & _HIGH


@nb.njit(forceinline=True)
def mix(x):
    """Spreads a key over all 64 bits (a bijection)."""
    x = (x ^ (x >> np.uint64(32))) * _K1
    return x ^ (x >> np.uint64(29))


@nb.njit(forceinline=True)
def hash_short(word, size):
    """Hash of `size` bytes, at most 8, that are the lowest of `word` (the others 0); equal to hash_bytes of them."""
    return mix((np.uint64(size) * _K0 ^ word) * _K0)


@nb.njit(forceinline=True)
def hash_bytes(data, start, end):
    """Hash of data[start:end]; data is uint8."""
    h = np.uint64(end - start) * _K0
    i = start
    while i + 8 < end:
        h = (h ^ load64(data, i)) * _K0
        h ^= h >> np.uint64(32)
        i += 8
    if i < end:
        word = load(data, i)
        n = end - i
        h = (h ^ (word if n == 8 else lowest_bytes(word, n))) * _K0
    return mix(h)


@nb.njit(forceinline=True)
def first_place(key, place, entries, mask, now):
    """Where `key` was first seen under the stamp `now`; it is entered with `place` if it is new.

    An open-addressing table that is never cleared: entries is uint64, two to an entry: the key, and stamp << 32 | place;
    0 at first. mask: a power of two less 1, above the number of keys. now: 1 to 2^31 - 1; an entry with another stamp
    is free. A hit is written back like a new entry, so that the usual case, either at
    the first look, has no branch between the two.
    """
    one = np.uint64(1)
    k = (mix(key) & mask) << one
    stamp = np.uint64(now) << np.uint64(32)
    while True:
        tag = entries[k + one]
        fresh = (tag ^ stamp) >> np.uint64(32) != np.uint64(0)
        if fresh | (entries[k] == key):
            tag = stamp | np.uint64(place) if fresh else tag
            entries[k] = key
            entries[k + one] = tag
            return np.int64(tag & np.uint64(0xFFFFFFFF))
        k = (k + np.uint64(2)) & (mask << one)
