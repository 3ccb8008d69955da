"""Where terms of a list stand in pieces of text: one walk over the bytes, a trie over characters at every word's start.

Invariant: what is found in a piece depends on that piece and the list alone. At each place the longest term that fits
there counts, and the search goes on behind it; case and the kind and length of white space make no difference.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numba as nb
import numpy as np
from numba import types

from .byte_hash import mix
from .squash import BYTES, OFFSETS, TABLE, TABLE_SIZE, lower_table, squash
from .unicode_classes import unspaced
from .utf8 import before, decode

CODE = 0x1FFFFF  # the bits of a table entry that hold the lower case
WORD = 1 << 24  # str.isalnum or _, and written with spaces: next to it a term that needs bounds is no word
FIRST = 1 << 25  # a term that needs bounds begins with it
FREE = 1 << 26  # a term that needs none begins with it
_CODE, _WORD, _FIRST, _FREE_FIRST = np.uint32(CODE), np.uint32(WORD), np.uint32(FIRST), np.uint32(FREE)

_KEYS = types.Array(types.uint64, 1, "C", readonly=True)
_NODES = types.Array(types.int32, 1, "C", readonly=True)
_FREE = types.Array(types.boolean, 1, "C", readonly=True)


class Terms(NamedTuple):
    """A list made ready. table: uint32[0x20000], lower case and classes of each code point. keys, nodes: a hash map from
    (node, character) to the next node, a power of two of places, 0 = empty. term: int32 per node, the term that ends
    there or -1. free: bool per term, true where it needs no bounds."""

    table: np.ndarray
    keys: np.ndarray
    nodes: np.ndarray
    term: np.ndarray
    free: np.ndarray


@functools.cache
def _base_table() -> np.ndarray:
    table = lower_table().copy()
    without = unspaced()
    for code in range(0x110000):
        if (code == 0x5F or chr(code).isalnum()) and not without[code]:
            if code >= TABLE_SIZE:
                raise RuntimeError("this Python's Unicode has word characters beyond U+1FFFF: see kernels/word_list.py")
            table[code] |= WORD
    table.setflags(write=False)
    return table


def plain(terms: Sequence[str]) -> list[str]:
    """The terms as they are compared: white space collapsed and trimmed, letters in lower case."""
    encoded = [term.encode() for term in terms]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    data, offsets = squash(np.frombuffer(b"".join(encoded), np.uint8), offsets)
    return [data[a:b].tobytes().decode() for a, b in itertools.pairwise(offsets)]


def build(terms: Sequence[str]) -> Terms:
    """terms: as `plain` gives them, none empty, no two equal."""
    table = _base_table().copy()
    without = unspaced()
    edges: dict[tuple[int, int], int] = {}
    ends = [-1]
    for number, term in enumerate(terms):
        node = 0
        for char in term:
            following = edges.setdefault((node, ord(char)), len(ends))
            if following == len(ends):
                ends.append(-1)
            node = following
        ends[node] = number
    free = np.array([any(without[ord(char)] for char in term) for term in terms], np.bool_)
    for flag, wanted in ((FIRST, ~free), (FREE, free)):
        firsts = np.zeros(CODE + 1, np.bool_)
        firsts[[ord(term[0]) for term, one in zip(terms, wanted, strict=True) if one]] = True
        table[firsts[table & _CODE]] |= flag
    places = 1 << max(4, (2 * len(edges)).bit_length())
    keys, nodes = np.zeros(places, np.uint64), np.zeros(places, np.int32)
    pairs = np.array([(node << 21 | code) for node, code in edges], np.uint64) + np.uint64(1)  # 0 is an empty place
    _enter(pairs, np.fromiter(edges.values(), np.int32, len(edges)), keys, nodes)
    return Terms(table, keys, nodes, np.array(ends, np.int32), free)


@nb.njit(
    types.void(
        types.Array(types.uint64, 1, "C"),
        types.Array(types.int32, 1, "C"),
        types.Array(types.uint64, 1, "C"),
        types.Array(types.int32, 1, "C"),
    ),
    nogil=True,
    cache=True,
)
def _enter(pairs, values, keys, nodes):
    mask = np.uint64(len(keys) - 1)
    for i in range(len(pairs)):
        k = mix(pairs[i]) & mask
        while keys[k] != 0:
            k = (k + np.uint64(1)) & mask
        keys[k], nodes[k] = pairs[i], values[i]


@nb.njit(forceinline=True)
def _next(node, code, keys, nodes):
    """The node behind (node, code); 0, which is the root and behind nothing, if there is none."""
    mask = np.uint64(len(keys) - 1)
    key = (np.uint64(node) << np.uint64(21) | np.uint64(code)) + np.uint64(1)
    k = mix(key) & mask
    while keys[k] != 0:
        if keys[k] == key:
            return np.int64(nodes[k])
        k = (k + np.uint64(1)) & mask
    return np.int64(0)


@nb.njit(forceinline=True)
def _entry(data, i, table):
    """(table entry, bytes) of the character at i."""
    c = np.int64(data[i])
    if c < 0x80:
        return table[c], 1
    point, size = decode(data, i)
    return (table[point] if point < TABLE_SIZE else np.uint32(point) | _FREE_FIRST), size


@nb.njit(
    types.void(
        BYTES,
        OFFSETS,
        OFFSETS,
        TABLE,
        _KEYS,
        _NODES,
        _NODES,
        _FREE,
        types.Array(types.int64, 1, "C"),
        types.Array(types.int64, 2, "C"),
    ),
    nogil=True,
    cache=True,
)
def _find(data, starts, ends, table, keys, nodes, term, free, seen, out):
    for piece in range(len(starts)):
        i, end = starts[piece], ends[piece]
        matches = distinct = covered = chars = np.int64(0)
        word = False  # the character before is one of a word
        while i < end:
            entry, size = _entry(data, i, table)
            if not (entry & _FREE_FIRST or (entry & _FIRST and not word)):
                word = entry & _WORD != 0
                i += size
                chars += 1
                continue
            # walk the trie as far as it goes; the longest term that may stand here
            at, node, read = i, np.int64(0), np.int64(0)
            found, stop, length = np.int64(-1), i, np.int64(0)
            here, width = entry, size
            while True:
                code = here & _CODE
                node = _next(node, code, keys, nodes)
                if node == 0:
                    break
                at += width
                read += 1
                if at < end:
                    here, width = _entry(data, at, table)
                    while code == 0x20 and here & _CODE == 0x20:  # a run of white space is one space
                        at += width
                        read += 1
                        if at >= end:
                            break
                        here, width = _entry(data, at, table)
                ending = term[node]
                if ending >= 0 and (free[ending] or not (word or (at < end and here & _WORD))):
                    found, stop, length = np.int64(ending), at, read
                if at >= end:
                    break
            if found < 0:
                word = entry & _WORD != 0
                i += size
                chars += 1
                continue
            matches += 1
            if seen[found] != piece:
                seen[found] = piece
                distinct += 1
            covered += length
            chars += length
            last, _ = _entry(data, before(data, stop), table)
            word = last & _WORD != 0
            i = stop
        out[piece, 0], out[piece, 1], out[piece, 2], out[piece, 3] = matches, distinct, covered, chars


def find(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, terms: Terms) -> np.ndarray:
    """int64[n, 4] for the pieces data[starts[i]:ends[i]]: terms found, different ones among them, the characters of what
    was found, and of the piece.

    data: uint8, valid UTF-8; starts, ends: int64, at character boundaries. A term must not touch a WORD character on
    either side; one that holds a character of a script written without spaces (Han, kana, Thai ...) may stand anywhere.
    """
    out = np.empty((len(starts), 4), np.int64)
    seen = np.full(len(terms.free), -1, np.int64)
    _find(data, np.ascontiguousarray(starts), np.ascontiguousarray(ends), *terms, seen, out)
    return out
