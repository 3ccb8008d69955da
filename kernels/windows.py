"""Windows of tokens or bytes: winnowed seeds that tell where repeats can be, and hashes of the windows at such places.

Invariant: equal windows have equal hashes and select the same seed, whatever stands around them; hashes are the same on
every machine, because they are written to files. Two unequal windows share their 96 bits with a chance of about 2^-96.

A *run* is what windows do not cross: a document, or a paragraph (the text between two line feeds). A window is `length`
consecutive tokens of a run. Its *seed* is the first of the smallest among the hashes of its sub-windows of `seed_size`
tokens (winnowing: Schleimer, Wilkerson and Aiken, 2003), so neighbours mostly share one, and a text has far fewer
selected seeds than windows.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .segments import mixed, segments
from .unicode_classes import classes

_SEED_BASE, _HIGH_BASE, _LOW_BASE = (
    np.uint64(0xD6E8FEB86659FD93),
    np.uint64(0xC2B2AE3D27D4EB4F),
    np.uint64(0xA0761D6478BD642F),
)
_UPPER, _LOWER = np.uint64(0xFFFFFFFF00000000), np.uint64(0x00000000FFFFFFFF)
_LF = 10

_bytes = nb.types.Array(nb.uint8, 1, "C", readonly=True)
_offsets = nb.types.Array(nb.int64, 1, "C", readonly=True)
_salts = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_table = nb.types.Array(nb.uint32, 1, "C", readonly=True)
_shape = nb.types.UniTuple(nb.int64, 4)  # length, seed size, runs are paragraphs, tokens are bytes
_pairs = nb.uint64[:, ::1]
_scratch = nb.types.Tuple((nb.int64[::1], nb.int64[::1], nb.uint64[::1], nb.uint64[::1]))


@nb.njit(forceinline=True)
def _tokens(data, start, end, by_bytes, table, starts, ends, hashes):
    """Number of tokens of the run; of bytes, `starts` and `ends` stay as they are: token j is byte start + j."""
    if not by_bytes:
        return segments(data, start, end, table, starts, ends, hashes)
    for i in range(start, end):
        hashes[i - start] = mixed(np.uint64(data[i]) + np.uint64(0x9E3779B97F4A7C15))
    return end - start


@nb.njit(forceinline=True)
def _power(base, exponent):
    found = np.uint64(1)
    for _ in range(exponent):
        found *= base
    return found


@nb.njit(forceinline=True)
def _whole(hashes, at, size, base):
    """Polynomial of `size` token hashes from `at`, modulo 2^64."""
    h = np.uint64(0)
    for j in range(at, at + size):
        h = h * base + hashes[j]
    return h


@nb.njit
def _grams(hashes, n, size, salt, grams):
    """grams[j]: hash of the `size` tokens from j, for all that the n tokens hold."""
    top = _power(_SEED_BASE, size - 1)
    h = _whole(hashes, 0, size, _SEED_BASE)
    grams[0] = mixed(h + salt)
    for j in range(1, n - size + 1):
        h = (h - hashes[j - 1] * top) * _SEED_BASE + hashes[j + size - 1]
        grams[j] = mixed(h + salt)


@nb.njit(forceinline=True)
def _smallest(grams, first, count, last):
    """Place of the first smallest among `count` grams from `first`; last: that of the window before, -1 for none."""
    if last >= first:
        new = first + count - 1
        return new if grams[new] < grams[last] else last
    for j in range(first + 1, first + count):
        first = j if grams[j] < grams[first] else first
    return first


@nb.njit(forceinline=True)
def _run_end(data, start, end, paragraphs):
    """The end of the run that begins at start; of a paragraph, the place of its line feed or the end of the text."""
    if paragraphs:
        for i in range(start, end):
            if data[i] == _LF:
                return i
    return end


@nb.njit(nb.int64(_bytes, _offsets, _salts, _shape, _table, _scratch, nb.uint64[::1]), nogil=True, cache=True)
def _select(data, offsets, salts, shape, table, scratch, seeds):
    length, size, paragraphs, by_bytes = shape
    starts, ends, hashes, grams = scratch
    count = 0
    for d in range(offsets.shape[0] - 1):
        at = offsets[d]
        while at < offsets[d + 1]:
            stop = _run_end(data, at, offsets[d + 1], paragraphs)
            n = _tokens(data, at, stop, by_bytes, table, starts, ends, hashes)
            if n >= length:
                _grams(hashes, n, size, salts[d], grams)
                place = -1
                for j in range(n - length + 1):
                    before = place
                    place = _smallest(grams, j, length - size + 1, place)
                    if place != before:
                        seeds[count] = grams[place]
                        count += 1
            at = stop + 1
    return count


@nb.njit(
    nb.types.UniTuple(nb.int64, 3)(
        _bytes, _offsets, _salts, _shape, _table, _scratch, _bytes, nb.int64, _pairs, _pairs, nb.int64[:, ::1]
    ),
    nogil=True,
    cache=True,
)
def _candidates(data, offsets, salts, shape, table, scratch, living, runs_before, windows, places, runs):
    length, size, paragraphs, by_bytes = shape
    starts, ends, hashes, grams = scratch
    high_top, low_top = _power(_HIGH_BASE, length - 1), _power(_LOW_BASE, length - 1)
    count = run = seed = 0
    for d in range(offsets.shape[0] - 1):
        origin = offsets[d]
        at = origin
        while at < offsets[d + 1]:
            stop = _run_end(data, at, offsets[d + 1], paragraphs)
            n = _tokens(data, at, stop, by_bytes, table, starts, ends, hashes)
            if n >= length:
                _grams(hashes, n, size, salts[d], grams)
                place, rolled = -1, -2
                high, low = np.uint64(0), np.uint64(0)
                for j in range(n - length + 1):
                    before = place
                    place = _smallest(grams, j, length - size + 1, place)
                    seed += np.int64(place != before)
                    if not living[seed - 1]:
                        continue
                    if rolled == j - 1:
                        gone, new = hashes[j - 1], hashes[j + length - 1]
                        high = (high - gone * high_top) * _HIGH_BASE + new
                        low = (low - gone * low_top) * _LOW_BASE + new
                    else:
                        high = _whole(hashes, j, length, _HIGH_BASE)
                        low = _whole(hashes, j, length, _LOW_BASE)
                    rolled = j
                    windows[count, 0] = mixed(high + salts[d])
                    windows[count, 1] = mixed(low + salts[d]) & _UPPER
                    first = (at + j if by_bytes else starts[j]) - origin
                    last = (at + j + length if by_bytes else ends[j + length - 1]) - origin
                    places[count, 0] = runs_before + run
                    places[count, 1] = np.uint64(first) << np.uint64(32) | np.uint64(last)
                    count += 1
                runs[run, 0], runs[run, 1] = d, n - length + 1
                runs[run, 2], runs[run, 3] = at - origin, min(stop + np.int64(paragraphs), offsets[d + 1]) - origin
                run += 1
            at = stop + 1
    return count, run, seed


def seed_size(length: int) -> int:
    """Tokens of a seed: half a window, so that seeds tell texts apart and neighbours still share them."""
    return (length + 1) // 2


def seed_share(length: int) -> float:
    """Selected seeds per token to expect, 2 / (w + 1) for w seeds in a window."""
    return 2 / (length - seed_size(length) + 2)


def _areas(offsets: np.ndarray, by_bytes: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    longest = int(np.diff(offsets).max(initial=0)) + 1
    places = 1 if by_bytes else longest
    return (
        np.empty(places, np.int64),
        np.empty(places, np.int64),
        np.empty(longest, np.uint64),
        np.empty(longest, np.uint64),
    )


def select_seeds(
    data: np.ndarray, offsets: np.ndarray, salts: np.ndarray, length: int, *, paragraphs: bool, by_bytes: bool
) -> np.ndarray:
    """uint64: the seeds that windows of `length` tokens select, in order, once where neighbours share it.

    data: uint8, valid UTF-8. offsets: int64, texts + 1. salts: uint64 per text; windows of texts with different salts
    are different. by_bytes: tokens are bytes, else segments between UAX #29 word boundaries.
    """
    seeds = np.empty(int(offsets[-1] - offsets[0]), np.uint64)
    shape = (length, seed_size(length), int(paragraphs), int(by_bytes))
    used = _select(data, offsets, salts, shape, classes(), _areas(offsets, by_bytes), seeds)
    return seeds[:used].copy()


def candidate_windows(
    data: np.ndarray,
    offsets: np.ndarray,
    salts: np.ndarray,
    length: int,
    living: np.ndarray,
    runs_before: int,
    *,
    paragraphs: bool,
    by_bytes: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(windows, places, runs, seeds used): the windows whose seed is living, in order.

    living: uint8 per selected seed, in the order of `select_seeds`, at least as many as these texts have. windows:
    uint64[n, 2]: 64 bits of hash; 32 more, above 32 that are 0. places: uint64[n, 2]: the run, counted from
    `runs_before`; first byte (upper 32 bits) and end (lower), both from the start of the text. runs: int64[m, 4], every
    run that has a window: text, number of windows, first byte, end (of a paragraph with its line feed).
    """
    room = int(offsets[-1] - offsets[0])
    # room for a window at every byte; pages that are never touched cost nothing
    windows, places = np.empty((room, 2), np.uint64), np.empty((room, 2), np.uint64)
    runs = np.empty((room // length + len(offsets), 4), np.int64)
    shape = (length, seed_size(length), int(paragraphs), int(by_bytes))
    count, run, seed = _candidates(
        data, offsets, salts, shape, classes(), _areas(offsets, by_bytes), living, runs_before, windows, places, runs
    )
    return windows[:count].copy(), places[:count].copy(), runs[:run].copy(), int(seed)


_keys = nb.types.Array(nb.uint64, 1, "A", readonly=True)


@nb.njit(nb.void(_keys, _keys, nb.uint32[::1], nb.uint32[::1]), nogil=True, cache=True)
def _first_places(high, low, table, first):
    mask = np.uint64(table.shape[0] - 1)
    for i in range(high.shape[0]):
        k = high[i] & mask
        while True:
            j = table[k]
            if j == 0:
                table[k] = i + 1
                first[i] = i
                break
            if high[j - 1] == high[i] and low[j - 1] == low[i]:
                first[i] = j - 1
                break
            k = (k + np.uint64(1)) & mask


def first_places(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """uint32: for each pair (high, low) the index of the first equal one. high, low: uint64, fewer than 2^32; `high`
    well mixed in its low bits."""
    capacity = 16
    while capacity < 2 * len(high):
        capacity *= 2
    first = np.empty(len(high), np.uint32)
    _first_places(high, low, np.zeros(capacity, np.uint32), first)
    return first


_places = nb.types.Array(nb.uint64, 2, "C", readonly=True)
_codes = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_counts = nb.types.Array(nb.int64, 1, "C", readonly=True)
# What is known of a window after the exchange. Its place: rank among the distinct ones of the item (31 bits), whether it is
# the first of its kind there (1), run (32); first byte and end. codes[rank]: occurrences in the corpus, and a last bit: an
# earlier item has it.
_RANK, _FIRST = np.uint64(33), np.uint64(1 << 32)


@nb.njit(forceinline=True)
def _stood_before(place, code):
    return code & np.uint64(1) != 0 or place & _FIRST == 0


@nb.njit(nb.void(_places, _codes, nb.int64[::1], nb.int64[::1]), nogil=True, cache=True)
def _seen(places, codes, earliest, seen):
    for i in range(places.shape[0]):
        rank, run = places[i, 0] >> _RANK, np.int64(places[i, 0] & _LOWER)
        if places[i, 0] & _FIRST:
            earliest[rank] = run
        seen[run] += np.int64(codes[rank] & np.uint64(1) != 0 or run > earliest[rank])


def seen_windows(places: np.ndarray, codes: np.ndarray, runs: int) -> np.ndarray:
    """int64 per run: its windows that also stand in an earlier run. places, codes: uint64, as `_stood_before` reads them."""
    seen = np.zeros(runs, np.int64)
    _seen(places, codes, np.zeros(len(codes), np.int64), seen)
    return seen


@nb.njit(forceinline=True)
def _put(spans, n, text, start, end, times):
    """Adds a span, or widens the last one if it overlaps or touches; returns the number of spans."""
    if n and spans[n - 1, 0] == text and start <= spans[n - 1, 2]:
        spans[n - 1, 2] = max(spans[n - 1, 2], end)
        spans[n - 1, 3] = max(spans[n - 1, 3], times)
        return n
    spans[n, 0], spans[n, 1], spans[n, 2], spans[n, 3] = text, start, end, times
    return n + 1


@nb.njit(
    nb.types.UniTuple(nb.int64, 3)(_places, _codes, _counts, nb.int64[:, ::1], nb.int64[:, ::1]), nogil=True, cache=True
)
def _merge(places, codes, texts, repeats, kept):
    r = k = at = recurring = 0
    one, half = np.uint64(1), np.uint64(32)
    for i in range(places.shape[0]):
        code = codes[places[i, 0] >> _RANK]
        recurring += np.int64(code >> one > one)
        if code >> one > one and _stood_before(places[i, 0], code):
            text = texts[places[i, 0] & _LOWER]
            start, end = np.int64(places[i, 1] >> half), np.int64(places[i, 1] & _LOWER)
            r = _put(repeats, r, text, start, end, np.int64(code >> one))
    for i in range(places.shape[0]):
        code = codes[places[i, 0] >> _RANK]
        if code >> one <= one or _stood_before(places[i, 0], code):
            continue
        text = texts[places[i, 0] & _LOWER]
        start, end = np.int64(places[i, 1] >> half), np.int64(places[i, 1] & _LOWER)
        # A repeat is no shorter than a window, so none lies inside one: what repeats leave of it is one piece at most,
        # between the first repeat that ends behind its start and the next.
        while at < r and (repeats[at, 0] < text or (repeats[at, 0] == text and repeats[at, 2] <= start)):
            at += 1
        following = at
        if at < r and repeats[at, 0] == text and repeats[at, 1] <= start:
            start = repeats[at, 2]
            following += 1
        if following < r and repeats[following, 0] == text:
            end = min(end, repeats[following, 1])
        if start < end:
            k = _put(kept, k, text, start, end, np.int64(code >> one))
    return r, k, recurring


def merge_windows(places: np.ndarray, codes: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """(repeats, kept, recurring windows). The first two are int64[n, 4] of text, first byte, end, most occurrences: the
    bytes in windows that stood before, and the bytes in recurring windows that are all first occurrences. Windows that
    overlap or touch are one span.

    places, codes: uint64, as `_stood_before` reads them; texts: int64, the text of each run.
    """
    repeats, kept = (np.empty((len(places), 4), np.int64) for _ in range(2))
    r, k, recurring = _merge(places, codes, texts, repeats, kept)
    return repeats[:r].copy(), kept[:k].copy(), int(recurring)
