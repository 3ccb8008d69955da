"""Line and paragraph statistics of one document: repeats, bullets, ellipses, line ends, as three code bases define them.

Invariant: a line is data[start:end] without its line break; positions of line feeds are found once, by `line_feeds`, and
every definition walks over them. Counts are integers; shares are divided once, by the caller.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .byte_hash import control_or_wide, equal_bytes, first_byte, first_place, hash_bytes, load
from .unicode_classes import STOP
from .utf8 import before, count_chars, decode, strip


@nb.njit
def line_feeds(data, start, end, cuts):
    """Positions of the line feeds in data[start:end], relative to start, into cuts (uint32); returns their number."""
    n = 0
    for i in range(start, end, 8):
        marks = equal_bytes(load(data, i), np.uint64(10))
        while marks:
            at = i + first_byte(marks)
            if at >= end:
                break
            cuts[n] = at - start
            n += 1
            marks &= marks - np.uint64(1)
    return n


@nb.njit
def _mask(entries):
    capacity = 16
    while capacity < 2 * entries:
        capacity *= 2
    return np.uint64(capacity - 1)


@nb.njit(forceinline=True)
def _earlier(data, start, end, place, count, entries, mask, now):
    """How often the bytes were seen before under this stamp; counts this time too."""
    p = first_place(hash_bytes(data, start, end), place, entries, mask, now)
    if p == place:
        count[place] = 1
        return np.int64(0)
    seen = count[p]
    count[p] = seen + 1
    return np.int64(seen)


@nb.njit(forceinline=True)
def _ends_in_dots(data, start, end):
    """Whether the range ends in three full stops or an ellipsis character."""
    if end - start < 3:
        return False
    a, b, c = data[end - 3], data[end - 2], data[end - 1]
    return (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@nb.njit(forceinline=True)
def _is_bullet(data, start, end):
    """U+2022."""
    return end - start >= 3 and data[start] == 0xE2 and data[start + 1] == 0x80 and data[start + 2] == 0xA2


# what `plain_lines` writes
LINES, LINE_REPEATS, LINE_REPEAT_CHARS, FULL, STOPPED, SHORT, FULL_REPEAT_CHARS = range(7)


@nb.njit
def plain_lines(data, start, end, narrow, cuts, n_cuts, short, table, out, scratch, now):
    """Lines as datatrove's Gopher repetition filter and its FineWeb filter see them; returns the last stamp used.

    Gopher: the pieces between runs of line feeds; a text that begins or ends with one has an empty piece there.
    A repeat is the second or a later occurrence. FineWeb: lines between single line feeds that are not blank.
    """
    entries, count = scratch
    now += 1
    mask = _mask(n_cuts + 1)
    lines = repeats = repeat_chars = full = stopped = shorts = full_repeat_chars = np.int64(0)
    s = start
    for k in range(n_cuts + 1):
        e = start + cuts[k] if k < n_cuts else end
        if e > s:
            lines += 1
            chars = e - s if narrow else count_chars(data, s, e)
            seen = _earlier(data, s, e, k, count, entries, mask, now)
            if seen:
                repeats += 1
                repeat_chars += chars
            a, b = strip(data, s, e, table)
            if b > a:
                full += 1
                shorts += np.int64(chars <= short)
                if seen:
                    full_repeat_chars += chars
                if b == e:
                    point, _ = decode(data, before(data, e))
                    stopped += np.int64(table[point] & STOP != 0)
        s = e + 1
    if n_cuts:
        first, last = cuts[0] == 0, start + cuts[n_cuts - 1] == end - 1
        lines += np.int64(first) + np.int64(last)
        repeats += np.int64(first and last)
    out[LINES] = lines
    out[LINE_REPEATS] = repeats
    out[LINE_REPEAT_CHARS] = repeat_chars
    out[FULL] = full
    out[STOPPED] = stopped
    out[SHORT] = shorts
    out[FULL_REPEAT_CHARS] = full_repeat_chars
    return now


# what `plain_paragraphs` writes
PARAGRAPHS, PARAGRAPH_REPEATS, PARAGRAPH_REPEAT_CHARS = range(3)


@nb.njit
def plain_paragraphs(data, start, end, cuts, n_cuts, table, out, scratch, now):
    """Paragraphs as datatrove's: the stripped text cut at runs of two or more line feeds. Returns the last stamp used."""
    entries, count = scratch
    now += 1
    mask = _mask(n_cuts + 1)
    first, last = strip(data, start, end, table)
    paragraphs = repeats = repeat_chars = np.int64(0)
    s = first
    k = 0
    while s <= last and start < end:
        e, following = last, last + 1
        while k < n_cuts:
            at = start + cuts[k]
            run = k
            while run + 1 < n_cuts and cuts[run + 1] == cuts[run] + 1:
                run += 1
            length = run - k + 1
            k = run + 1
            if first <= at < last and length > 1:
                e, following = at, at + length
                break
        paragraphs += 1
        if _earlier(data, s, e, paragraphs, count, entries, mask, now):
            repeats += 1
            repeat_chars += count_chars(data, s, e)
        s = following
    out[PARAGRAPHS] = paragraphs
    out[PARAGRAPH_REPEATS] = repeats
    out[PARAGRAPH_REPEAT_CHARS] = repeat_chars
    return now


# what `edges` writes
ROWS, BULLETS, DOTS = range(3)


@nb.njit
def edges(data, start, end, table, out):
    """Lines as str.splitlines gives them, those that begin with a bullet or hyphen, those that end in an ellipsis.

    White space around a line is ignored (datatrove's Gopher quality filter).
    """
    rows = bullets = dots = np.int64(0)
    s = i = start
    while s < end:
        size = 0
        while i < end:
            if i + 8 <= end and not control_or_wide(load(data, i)):
                i += 8
                continue
            c = data[i]
            if c < 32:
                if 10 <= c <= 13 or 28 <= c <= 30:
                    size = 2 if c == 13 and i + 1 < end and data[i + 1] == 10 else 1
                    break
            elif c == 0xC2:
                if data[i + 1] == 0x85:
                    size = 2
                    break
            elif c == 0xE2 and data[i + 1] == 0x80 and (data[i + 2] == 0xA8 or data[i + 2] == 0xA9):
                size = 3
                break
            i += 1
        a, b = strip(data, s, i, table)
        rows += 1
        bullets += np.int64(b > a and (data[a] == 45 or _is_bullet(data, a, b)))
        dots += np.int64(_ends_in_dots(data, a, b))
        i += size
        s = i
    out[ROWS] = rows
    out[BULLETS] = bullets
    out[DOTS] = dots


# what `dolma_lines` writes
DOLMA_LINES, DOLMA_REPEATED, DOLMA_REPEATED_CHARS, DOLMA_BULLETS, DOLMA_DOTS = range(5)


@nb.njit
def dolma_lines(data, start, end, cuts, n_cuts, out, scratch, now):
    """Lines as Dolma's gopher_v1: all between line feeds, empty ones too; every occurrence of a repeated line counts."""
    entries, count = scratch
    now += 1
    mask = _mask(n_cuts + 1)
    repeated = repeated_chars = bullets = dots = np.int64(0)
    s = start
    for k in range(n_cuts + 1):
        e = start + cuts[k] if k < n_cuts else end
        seen = _earlier(data, s, e, k, count, entries, mask, now)
        if seen:
            times = np.int64(2 if seen == 1 else 1)
            repeated += times
            repeated_chars += times * count_chars(data, s, e)
        bullets += np.int64(e > s and (data[s] == 42 or data[s] == 45))
        dots += np.int64(e - s >= 3 and data[e - 1] == 0xA6 and data[e - 2] == 0x80 and data[e - 3] == 0xE2)
        s = e + 1
    out[DOLMA_LINES] = n_cuts + 1
    out[DOLMA_REPEATED] = repeated
    out[DOLMA_REPEATED_CHARS] = repeated_chars
    out[DOLMA_BULLETS] = bullets
    out[DOLMA_DOTS] = dots
    return now


# what `dclm_segments` writes; bullets and dots for lines only
SEGMENTS, SEGMENT_CHARS, REPEATED, REPEATED_CHARS, SEGMENT_BULLETS, SEGMENT_DOTS = range(6)


@nb.njit
def dclm_segments(data, start, end, cuts, n_cuts, feeds, table, out, scratch, now):
    """Lines (feeds = 1) or paragraphs (feeds = 2) as DCLM's: cut at that many line feeds, stripped, blank ones left out.

    Every occurrence of a repeated segment counts. Bullets are U+25CF, U+2022, `*`, `-`; dots `...`, `. . .`, U+2026.
    """
    entries, count = scratch
    now += 1
    mask = _mask(n_cuts + 1)
    segments = segment_chars = repeated = repeated_chars = bullets = dots = np.int64(0)
    s = start
    k = 0
    while s <= end:
        if feeds == 2:
            while k < n_cuts and not (k + 1 < n_cuts and cuts[k + 1] == cuts[k] + 1):
                k += 1
        e = start + cuts[k] if k < n_cuts else end
        a, b = strip(data, s, e, table)
        if b > a:
            segments += 1
            chars = count_chars(data, a, b)
            segment_chars += chars
            seen = _earlier(data, a, b, segments, count, entries, mask, now)
            if seen:
                times = np.int64(2 if seen == 1 else 1)
                repeated += times
                repeated_chars += times * chars
            c = data[a]
            bullets += np.int64(c == 42 or c == 45 or _is_bullet(data, a, b) or decode(data, a)[0] == 0x25CF)
            spaced = b - a >= 5 and data[b - 5] == 46 and data[b - 4] == 32 and data[b - 3] == 46 and data[b - 2] == 32
            dots += np.int64(_ends_in_dots(data, a, b) or (spaced and data[b - 1] == 46))
        s = e + feeds
        k += feeds
    out[SEGMENTS] = segments
    out[SEGMENT_CHARS] = segment_chars
    out[REPEATED] = repeated
    out[REPEATED_CHARS] = repeated_chars
    if feeds == 1:
        out[SEGMENT_BULLETS] = bullets
        out[SEGMENT_DOTS] = dots
    return now
