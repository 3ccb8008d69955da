"""The rows of a fastText model that a word has through its character n-grams, and sums of rows.

Invariant: the sum for a word depends on its bytes alone; rows are added in one fixed order, in 64 bits.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba.extending import intrinsic, register_jitable

BLOCK = 8  # floats: rows wider than a few are filled up to a multiple
STARTS = 64  # bytes of a word at which n-grams begin, at a time
LONGEST = 128  # characters; no model has longer n-grams (scorers/fasttext_file.py)
ROOM = STARTS * LONGEST  # hashes of one time

_PRIME, _BASIS = np.uint32(16777619), np.uint32(2166136261)
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}


def work_areas() -> tuple[np.ndarray, np.ndarray]:
    """What `add_characters` needs: uint32 (hashes; hashes that go on; bytes) and int64 (rows)."""
    return np.empty(ROOM + 2 * STARTS + LONGEST, np.uint32), np.empty(ROOM, np.int64)


def _ones_in(typingctx, value):
    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return nb.int64(nb.uint64), codegen


ones_in: Any = intrinsic(_ones_in)


@register_jitable
def row_of(bucket, words, left, ranks, places):
    """The row of a bucket, or -1 where pruning left none."""
    if len(left) == 0:
        return words + np.int64(bucket)
    block, bit = left[bucket >> np.uint64(6)], np.uint64(1) << (bucket & np.uint64(63))
    if not block & bit:
        return -1
    return words + places[ranks[bucket >> np.uint64(6)] + ones_in(block & (bit - np.uint64(1)))]


@register_jitable
def add_row(sums, rows, row, width):
    """sums += the row."""
    at = row * width
    if width % BLOCK == 0:
        for block in range(0, width, BLOCK):
            for k in range(BLOCK):
                sums[np.uint64(block + k)] += rows[np.uint64(at + block + k)]
    else:
        for k in range(width):
            sums[np.uint64(k)] += rows[np.uint64(at + k)]


@register_jitable
def _add_rows(sums, rows, chosen, count, width):
    """As `add_row` for each of chosen[:count], with eight sums in registers."""
    if width % BLOCK:
        for i in range(count):
            add_row(sums, rows, chosen[i], width)
        return
    for block in range(0, width, BLOCK):
        s = sums[block:]
        a, b, c, d, e, f, g, h = s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
        for i in range(count):
            at = np.uint64(chosen[i] * width + block)
            a += rows[at]
            b += rows[at + np.uint64(1)]
            c += rows[at + np.uint64(2)]
            d += rows[at + np.uint64(3)]
            e += rows[at + np.uint64(4)]
            f += rows[at + np.uint64(5)]
            g += rows[at + np.uint64(6)]
            h += rows[at + np.uint64(7)]
        s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7] = a, b, c, d, e, f, g, h


@register_jitable
def _byte(data, begin, length, at):
    """Byte `at` of <word>."""
    return np.uint8(60) if at == 0 else np.uint8(62) if at > length else data[np.uint64(begin + at - 1)]


@register_jitable
def _hash_ascii(data, begin, length, first, minn, maxn, work):
    """All n-grams of one length together: each hash goes on from that of the n-gram that is shorter by one."""
    size, count = length + 2, 0
    running, codes = work[ROOM:], work[ROOM + STARTS :]
    starts = min(STARTS, size - first)
    for k in range(min(starts + maxn, size - first)):
        codes[k] = _byte(data, begin, length, first + k)
    for k in range(starts):
        running[k] = _BASIS
    for n in range(1, maxn + 1):
        here = min(starts, size - first - n + 1)
        if here <= 0:
            break
        for k in range(here):
            running[k] = np.uint32((running[k] ^ codes[k + n - 1]) * _PRIME)
        if n >= minn:
            low, high = 0, here
            if n == 1:  # neither < nor > alone
                low, high = np.int64(first == 0), here - np.int64(first + here == size)
            for k in range(low, high):
                work[count + k - low] = running[k]
            count += max(0, high - low)
    return count


@register_jitable
def _hash_utf8(data, begin, length, first, minn, maxn, work):
    """Character by character, as fastText's Dictionary::computeSubwords."""
    size, count = length + 2, 0
    for i in range(first, min(size, first + STARTS)):
        if (_byte(data, begin, length, i) & 0xC0) == 0x80:
            continue
        value, j = _BASIS, i
        for n in range(1, maxn + 1):
            if j >= size:
                break
            while True:
                value = np.uint32((value ^ np.uint32(np.int32(np.int8(_byte(data, begin, length, j))))) * _PRIME)
                j += 1
                if j >= size or (_byte(data, begin, length, j) & 0xC0) != 0x80:
                    break
            if n >= minn and not (n == 1 and (i == 0 or j == size)):
                work[count] = value
                count += 1
    return count


@register_jitable
def add_characters(
    data, begin, length, rows, width, words, left, ranks, places, minn, maxn, buckets, work, chosen, sums
):
    """Adds to `sums` (float64[width]) the rows of the character n-grams of <data[begin:begin + length]>, and says how
    many rows there are. The parts of a model one by one: to hand on a whole one costs more than a word."""
    high = np.uint8(0)
    for i in range(begin, begin + length):
        high |= data[np.uint64(i)]
    inverse, total = 1.0 / np.float64(buckets), 0
    for first in range(0, length + 2, STARTS):
        if high < 128:
            count = _hash_ascii(data, begin, length, first, minn, maxn, work)
        else:
            count = _hash_utf8(data, begin, length, first, minn, maxn, work)
        for i in range(count):
            # the remainder without a division: the quotient is wrong by one at most
            rest = np.int64(work[i]) - np.int64(np.float64(work[i]) * inverse) * buckets
            rest += buckets if rest < 0 else np.int64(0)
            chosen[i] = rest - buckets if rest >= buckets else rest
        if len(left) == 0:
            for i in range(count):
                chosen[i] += words
        else:
            n = 0
            for i in range(count):
                bucket = np.uint64(chosen[i])
                chosen[np.uint64(n)] = bucket
                n += np.int64((left[bucket >> np.uint64(6)] >> (bucket & np.uint64(63))) & np.uint64(1))
            for i in range(n):
                chosen[i] = row_of(np.uint64(chosen[i]), words, left, ranks, places)
            count = n
        _add_rows(sums, rows, chosen, count, width)
        total += count
    return total
