"""MinHash signatures of word n-grams, their band keys and one-byte sketches: what near-duplicate removal compares.

Invariant: row d of every result depends on text d, ngram and the permutations alone. The values are stored and compared
with those of later runs; see kernels/plain_words.py for what that asks of changes.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from .plain_words import SCRATCH, fold, next_shingles, spread, tables

SEED = 1
_LANES = 16  # permutations in one vector of 512 bits; narrower machines take two or four
_BLOCK = 7  # vectors of minima, with their factors and summands, that stay in 32 registers

_bytes = nb.types.Array(nb.uint8, 1, "C", readonly=True)
_offsets = nb.types.Array(nb.int64, 1, "C", readonly=True)
_table = nb.types.Array(nb.uint32, 1, "C", readonly=True)
_scratch = nb.types.Tuple((nb.uint64[::1], nb.uint64[::1], nb.uint64[::1], nb.uint32[::1]))
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


def _lower_minima(vectors: int) -> Any:
    """Intrinsic f(x, count, a, b, minima, k): minima[k:k + 16 * vectors] against all of x[:count], held in registers."""

    def lower_minima(typingctx, x, count, a, b, minima, k):
        def codegen(context, builder, signature, args):
            lane, wide = ir.IntType(32), ir.IntType(64)
            vector = ir.VectorType(lane, _LANES)

            def place(number, at):
                array = context.make_array(signature.args[number])(context, builder, args[number])
                return cgutils.gep_inbounds(builder, array.data, at)

            def vectors_of(number):
                for u in range(vectors):
                    at = builder.add(args[5], ir.Constant(args[5].type, u * _LANES))
                    yield builder.bitcast(place(number, at), vector.as_pointer())

            def read(pointer):
                loaded = builder.load(pointer)
                loaded.align = 4
                return loaded

            factors, summands = [read(p) for p in vectors_of(2)], [read(p) for p in vectors_of(3)]
            kept = []
            for pointer in vectors_of(4):
                kept.append(cgutils.alloca_once(builder, vector))
                builder.store(read(pointer), kept[-1])
            with cgutils.for_range(builder, args[1]) as loop:
                # one 64-bit hash in all lanes: even ones see its low half, odd ones its high half
                both = builder.insert_element(
                    ir.Constant(ir.VectorType(wide, _LANES // 2), ir.Undefined),
                    builder.load(place(0, loop.index)),
                    ir.Constant(lane, 0),
                )
                zeros = ir.Constant(ir.VectorType(lane, _LANES // 2), [0] * (_LANES // 2))
                halves = builder.bitcast(builder.shuffle_vector(both, both, zeros), vector)
                for factor, summand, minimum in zip(factors, summands, kept):
                    permuted = builder.add(builder.mul(halves, factor), summand)
                    before = builder.load(minimum)
                    lower = builder.icmp_unsigned("<", permuted, before)
                    builder.store(builder.select(lower, permuted, before), minimum)
            for pointer, minimum in zip(vectors_of(4), kept):
                builder.store(builder.load(minimum), pointer).align = 4
            return context.get_dummy_value()

        return nb.void(x, nb.int64, a, b, minima, nb.int64), codegen

    return intrinsic(lower_minima)


_lower_block: Any = _lower_minima(_BLOCK)
_lower_one: Any = _lower_minima(1)


@nb.njit(forceinline=True)
def _lower_all(x, count, a, b, minima):
    """Lowers every minimum to the least a[k] * half(x[j]) + b[k]; lengths are multiples of _LANES."""
    k = 0
    while k + _BLOCK * _LANES <= minima.shape[0]:
        _lower_block(x, count, a, b, minima, k)
        k += _BLOCK * _LANES
    while k < minima.shape[0]:
        _lower_one(x, count, a, b, minima, k)
        k += _LANES


@nb.njit(
    nb.int64(_bytes, nb.int64, nb.int64, nb.int64, nb.boolean, _table, _table, _table, _table, _scratch), **_OPTIONS
)
def _document(data, start, end, ngram, short, value, more, a, b, scratch):
    """Number of shingles of data[start:end]; the minima are in the scratch."""
    hashes, spare, x, minima = scratch
    minima[:] = np.uint32(0xFFFFFFFF)
    i, held, total = start, 0, 0
    while i < end:
        i, held, count = next_shingles(data, start, i, end, ngram, short, value, more, hashes, held, spare, x)
        _lower_all(x, count, a, b, minima)
        total += count
    return total


@nb.njit(forceinline=True)
def _band_key(minima, start, rows):
    h = np.uint64(rows)
    for k in range(start, start + rows):
        h = fold(h, np.uint64(minima[k]))
    return spread(h)


@nb.njit(forceinline=True)
def _byte(minimum):
    """A byte of the minimum, mixed (murmur3's finalizer): minima of long documents are all small."""
    x = np.uint32((minimum ^ (minimum >> np.uint32(16))) * np.uint32(0x85EBCA6B))  # numba widens products of uint32
    x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint8(x >> np.uint32(24))


@nb.njit(
    nb.void(
        _bytes, _offsets, nb.int64, nb.boolean, _table, _table, _table, _table, _scratch,
        nb.int64, nb.uint64[:, ::1], nb.uint8[:, ::1], nb.int32[::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def _measure(data, offsets, ngram, short, value, more, a, b, scratch, rows, keys, sketches, counts):
    minima = scratch[3]
    for d in range(offsets.shape[0] - 1):
        count = _document(data, offsets[d], offsets[d + 1], ngram, short, value, more, a, b, scratch)
        counts[d] = count
        if count == 0:
            keys[d] = 0
            sketches[d] = 0
            continue
        for band in range(keys.shape[1]):
            keys[d, band] = _band_key(minima, band * rows, rows)
        for k in range(sketches.shape[1]):
            sketches[d, k] = _byte(minima[k])


@nb.njit(
    nb.void(
        _bytes, _offsets, nb.int64, nb.boolean, _table, _table, _table, _table, _scratch,
        nb.uint32[:, ::1], nb.int32[::1],
    ),
    **_OPTIONS,
)  # fmt: skip
def _signatures(data, offsets, ngram, short, value, more, a, b, scratch, result, counts):
    for d in range(offsets.shape[0] - 1):
        counts[d] = _document(data, offsets[d], offsets[d + 1], ngram, short, value, more, a, b, scratch)
        for k in range(result.shape[1]):
            result[d, k] = scratch[3][k]


_pairs = nb.types.Array(nb.int64, 1, "C", readonly=True)


@nb.njit(nb.void(nb.types.Array(nb.uint8, 2, "C", readonly=True), _pairs, _pairs, nb.int64[::1]), **_OPTIONS)
def _equal_bytes(sketches, left, right, out):
    for p in range(left.shape[0]):
        i, j = left[p], right[p]
        equal = 0
        for k in range(sketches.shape[1]):
            equal += np.int64(sketches[i, k] == sketches[j, k])
        out[p] = equal


def permutations(count: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """(a, b), each uint32[count], a odd: permutation k takes x to a[k] * x + b[k] modulo 2^32.

    Two outputs of splitmix64 (Steele, Lea, Flood 2014) each, so a shorter list is the start of a longer one.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, 2 * count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        high = ((z ^ (z >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)
    return high[0::2] | np.uint32(1), high[1::2].copy()


def _prepared(ngram: int, a: np.ndarray, b: np.ndarray) -> tuple[Any, ...]:
    if not 1 <= ngram <= 255:
        raise ValueError(f"ngram: {ngram} is not among 1 to 255")
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"{len(a)} factors and {len(b)} summands: permutations() gives as many of both, at least one")
    room = -(-len(a) // _LANES) * _LANES
    both = np.zeros((2, room), np.uint32)
    both[0, : len(a)], both[1, : len(b)] = a, b
    scratch = *(np.empty(SCRATCH, np.uint64) for _ in range(3)), np.empty(room, np.uint32)
    return (*tables(), both[0], both[1], scratch)


def measure(
    data: np.ndarray,
    offsets: np.ndarray,
    ngram: int,
    a: np.ndarray,
    b: np.ndarray,
    bands: int,
    rows: int,
    *,
    short: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(keys uint64[texts, bands], sketches uint8[texts, permutations], shingles int32[texts]) in one pass.

    A shingle is the 64-bit hash of `ngram` (1 to 255) words in a row; shingles counts them, repeated ones too. A text of
    fewer words has one shingle, the hash of all its words, or with short=False none; a text without words one, the hash
    of its bytes; an empty text none. Where there are no shingles, keys and sketch are 0 and mean nothing.

    keys, sketches: see band_keys and sketch. data: uint8, UTF-8; offsets: int64[texts + 1], offsets[0] may be > 0.
    a, b: of permutations(count), count >= bands * rows.
    """
    if bands < 1 or rows < 1 or bands * rows > len(a):
        raise ValueError(f"{bands} bands of {rows} rows do not fit {len(a)} permutations")
    texts = len(offsets) - 1
    value, more, factors, summands, scratch = _prepared(ngram, a, b)
    keys, sketches = np.empty((texts, bands), np.uint64), np.empty((texts, len(a)), np.uint8)
    counts = np.empty(texts, np.int32)
    _measure(
        data, offsets, ngram, short, value, more, factors, summands, scratch, rows, keys, sketches, counts
    )  # fmt: skip
    return keys, sketches, counts


def signatures(
    data: np.ndarray, offsets: np.ndarray, ngram: int, a: np.ndarray, b: np.ndarray, *, short: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(minima uint32[texts, permutations], shingles int32[texts]); minima are all ones where there are no shingles.

    Minimum k is the least a[k] * x + b[k] modulo 2^32 over the shingles; x is the low half of the shingle's hash for
    even k, the high half for odd k: so texts of different single shingles share a band by a chance of about 2^-64.
    """
    value, more, factors, summands, scratch = _prepared(ngram, a, b)
    texts = len(offsets) - 1
    result, counts = np.empty((texts, len(a)), np.uint32), np.empty(texts, np.int32)
    _signatures(data, offsets, ngram, short, value, more, factors, summands, scratch, result, counts)
    return result, counts


def estimate(sketches: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float32[pairs]: Jaccard similarity of the texts left[p] and right[p] (int64), estimated from their sketches.

    Unequal minima have equal bytes by a chance of 1/256, which is taken out (b-bit minwise hashing, Li and Koenig 2010).
    """
    equal = np.empty(len(left), np.int64)
    _equal_bytes(
        np.ascontiguousarray(sketches),
        np.ascontiguousarray(left, np.int64),
        np.ascontiguousarray(right, np.int64),
        equal,
    )
    share = equal / sketches.shape[1]
    return np.clip((share - 1 / 256) / (1 - 1 / 256), 0, 1).astype(np.float32)
