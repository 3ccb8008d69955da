"""Which document stands where in a total order that no task can hold: rounds of histograms that narrow on it, exactly.

Invariant: every round tells for every target how many documents, and how much weight, stand before the interval that
holds it, in exact integers; so what is found depends neither on the number of rounds nor on who counted which documents.

The order of a series of documents: `score` (64-bit keys, better first), then two draws. An interval lies on one of the
three levels: of scores, of first draws among one score, of second draws among one score and first draw. Draws are
computed for documents of such a score only. A round counts at most MOST_BINS bins; an interval that holds few documents
is counted key by key, which ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

SCORES, FIRST, SECOND = range(3)  # levels
DRAWS = 1 << 53  # a draw is a whole number below this: 53 bits are what a float64 in [0, 1) holds
MOST_BINS, BINS = 1 << 20, (64, 4096)  # of a round; of an interval, at least and at most
MOST_KEYS = 1 << 21  # documents that a round may count key by key, over all intervals
COMPACT = 1 << 22  # entries of a round that are held before equal ones are added up

# What is to be found: the first document at which the weight (`weighed`) or the number of documents, summed from the
# better end of its series, reaches `rank`; with `split` that document among those of its score, else only the score.
# Until `found`, `low` to `high` are the interval that holds it; then `within_*` count up to it, itself (or all with its
# score) included, `*_before` what is better than its last interval, and `level` says up to which part (score, first,
# second) one must look to tell the documents up to it from all others.
TARGET = np.dtype(
    [("series", "<i4"), ("what", "<i4"), ("weighed", "?"), ("split", "?"), ("rank", "<i8")]
    + [("found", "?"), ("level", "<i4")]
    + [(name, "<u8") for name in ("score", "first", "second", "low", "high")]
    + [(name, "<i8") for name in ("docs", "weight", "docs_before", "weight_before")]
    + [(name, "<i8") for name in ("score_end", "first_end", "within_docs", "within_weight")]
)
# An interval that some target lies in; `width`: keys in a bin.
INTERVAL = np.dtype(
    [("series", "<i4"), ("level", "<i4")]
    + [(name, "<u8") for name in ("score", "first", "low", "high", "width")]
    + [("docs", "<i8")]
)
# What lies in a bin. `low`, `high`: its smallest and largest key, so that half of all documents with one score are
# alone in their interval after two rounds and not only when a bin is one key wide.
ENTRY = np.dtype(
    [("interval", "<i4"), ("bin", "<u8"), ("docs", "<i8"), ("weight", "<i8"), ("low", "<u8"), ("high", "<u8")]
)
_PLACE = ["series", "level", "score", "first", "low", "high"]

Draw = Callable[[int, np.ndarray], np.ndarray]  # (level, int64 positions of rows) -> uint64 draws


def target(
    series: int, what: int, rank: int, *, weighed: bool, split: bool, low: int, high: int, docs: int, weight: int
) -> tuple:
    """A row of TARGET: 1 <= rank <= docs (or weight); the scores of the series lie from `low` to `high`."""
    return (series, what, weighed, split, rank, False, SCORES, 0, 0, 0, low, high, docs, weight, 0, 0, 0, 0, 0, 0)


def intervals(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intervals of the targets that are not found (INTERVAL, in the order of series and place), and for each of
    these targets its interval (int64)."""
    still = targets[~targets["found"]]
    _, at, of = np.unique(still[_PLACE], return_index=True, return_inverse=True)
    found = np.zeros(len(at), INTERVAL)
    for name in (*_PLACE, "docs"):
        found[name] = still[name][at]
    bins = np.uint64(min(max(MOST_BINS // max(len(found), 1), BINS[0]), BINS[1]))
    few = max(MOST_KEYS // max(len(found), 1), BINS[0])
    widths = (found["high"] - found["low"]) // bins + np.uint64(1)
    found["width"] = np.where(found["docs"] <= few, np.uint64(1), widths)
    return found, of.reshape(-1)


def tally(
    wanted: np.ndarray, series: np.ndarray | None, keys: np.ndarray, weights: np.ndarray, draw: Draw
) -> np.ndarray:
    """What some documents add to the intervals `wanted`: ENTRY, one for each bin that they fall in.

    keys: uint64 scores; weights: int64. Every document is in series 0, and in `series` (int32) where that is not 0.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    firsts = np.flatnonzero(np.diff(wanted["series"], prepend=-1))
    bounds = np.append(firsts, len(wanted))
    order = np.argsort(series, kind="stable") if series is not None else np.zeros(0, np.int64)
    ordered = series[order] if series is not None else order
    for start, stop in zip(firsts.tolist(), bounds[1:].tolist()):
        own = int(wanted["series"][start])
        first, last = np.searchsorted(ordered, [own, own + 1]).tolist()
        rows = order[first:last] if own else np.arange(len(keys))
        parts += _in_series(wanted[start:stop], start, rows, keys[rows], draw)
    if not parts:
        return np.zeros(0, ENTRY)
    found = np.zeros(sum(len(rows) for _, _, rows in parts), ENTRY)
    found["interval"] = np.concatenate([interval for interval, _, _ in parts])
    found["low"] = found["high"] = np.concatenate([values for _, values, _ in parts])
    own = wanted[found["interval"]]
    found["bin"] = (found["low"] - own["low"]) // own["width"]
    found["docs"] = 1
    found["weight"] = weights[np.concatenate([rows for _, _, rows in parts])]
    return summed(found)


def _in_series(
    wanted: np.ndarray, start: int, rows: np.ndarray, keys: np.ndarray, draw: Draw
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(interval, key or draw, row) of the rows of one series that lie in its intervals, which are numbered from `start`."""
    parts = []
    scores = wanted["level"] == SCORES
    if scores.any():
        own = np.flatnonzero(scores)
        at = np.searchsorted(wanted["low"][own], keys, side="right") - 1
        inside = (at >= 0) & (keys <= wanted["high"][own[at]])
        at = own[at[inside]]
        parts.append((start + at, keys[inside], rows[inside]))
    for at in np.flatnonzero(~scores).tolist():
        one = wanted[at]
        same = rows[keys == one["score"]]
        values = draw(FIRST, same)
        if one["level"] == SECOND:
            same = same[values == one["first"]]
            values = draw(SECOND, same)
        inside = (values >= one["low"]) & (values <= one["high"])
        same = same[inside]
        parts.append((np.full(len(same), start + at), values[inside], same))
    return parts


def summed(entries: np.ndarray) -> np.ndarray:
    """The entries in the order of interval and bin, those of one bin added up."""
    entries = entries[np.lexsort((entries["bin"], entries["interval"]))]
    new = (np.diff(entries["interval"], prepend=-1) != 0) | (np.diff(entries["bin"], prepend=np.uint64(0)) != 0)
    firsts = np.flatnonzero(new)
    found = entries[firsts]
    if len(firsts):
        for name, total in (("docs", np.add), ("weight", np.add), ("low", np.minimum), ("high", np.maximum)):
            found[name] = total.reduceat(entries[name], firsts)
    return found


def merged(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """The sum of the entries of many tasks, of which never all are held at once."""
    held: list[np.ndarray] = [np.zeros(0, ENTRY)]
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > COMPACT:
            held, size = [summed(np.concatenate(held))], 0
    return summed(np.concatenate(held))


def narrowed(targets: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """The targets after a round: nearer, on the next level, or found. entries: `merged` over all documents."""
    wanted, of = intervals(targets)
    starts = np.searchsorted(entries["interval"], np.arange(len(wanted) + 1))
    after = targets.copy()
    sums = {name: np.concatenate([[0], np.cumsum(entries[name])]) for name in ("docs", "weight")}
    for place, at in zip(np.flatnonzero(~targets["found"]).tolist(), of.tolist()):
        start, stop = int(starts[at]), int(starts[at + 1])
        one = after[place]
        name = "weight" if one["weighed"] else "docs"
        missing = one["rank"] - one[f"{name}_before"]
        bin_at = start + int(np.searchsorted(sums[name][start + 1 : stop + 1] - sums[name][start], missing))
        for what in ("docs", "weight"):
            one[f"{what}_before"] += sums[what][bin_at] - sums[what][start]
            one[what] = entries[what][bin_at]
        one["low"], one["high"] = entries["low"][bin_at], entries["high"][bin_at]
        if one["low"] == one["high"]:
            _one_key(one)
    return after


def _one_key(one: np.void) -> None:
    """A target whose interval is one key: found where that tells one document or all that is asked for; else the
    interval is that of the draws of the documents with this key. `one`: a row of TARGET, changed in place."""
    level, end = int(one["level"]), one["docs_before"] + one["docs"]
    one[("score", "first", "second")[level]] = one["low"]
    if level < SECOND:
        one[("score_end", "first_end")[level]] = end
    if one["split"] and one["docs"] > 1 and level < SECOND:
        one["level"], one["low"], one["high"] = level + 1, 0, DRAWS - 1
        return
    one["found"] = True
    one["within_docs"], one["within_weight"] = end, one["weight_before"] + one["weight"]
    # the last of all with its score (or first draw) needs no draw to say so
    if level == SECOND and end == one["first_end"]:
        level = FIRST
    if level == FIRST and end == one["score_end"]:
        level = SCORES
    one["level"] = level
