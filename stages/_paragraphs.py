"""The phases of paragraph_dedup: which lines occur more than once, where each stays, and the spans of their places.

Invariant: filters only shrink the work; whether two lines are equal is decided by their whole 128-bit keys, and where
one stays by the documents that have it. So units, order, partitions and kills change nothing.

A group of units sends one record per different line, however often it has it, so a line that is everywhere costs a
partition as many records as there are groups. A task holds about LINES_PER_ITEM lines, LINES_PER_PART 32-bit hashes or
`_groups.ROWS_PER_PART` records.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._groups import gather, part_of
from ._keys import in_scope
from ._prefer import kept_rows, preferred_order, with_keys
from ._spans import span_column
from .arrow import one_array
from .base import Stage, Task

IDENTITY = {"doc_id": pa.string(), "source_file": pa.string(), "source_row": pa.int64()}
LINES_PER_ITEM = 1 << 23  # of 600 MB of web text; 24 bytes each, and 120 for one that another document repeats
LINES_PER_PART = 1 << 25  # a partition of 32-bit hashes: at this size one in 128 meets another line's by chance
LOW = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)
TOP = 10
TOP_ORDER = [("occurrences", "descending"), ("source_file", "ascending"), ("source_row", "ascending")]
TOP_ORDER.append(("start", "ascending"))


def sizes(task: Task, stage: Stage, units: Any) -> dict[str, Any]:
    """Phase: lines that count in each unit's living rows, and how many rows have no scope."""
    scope = cast(Any, stage).config.scope
    lines, without = [], 0
    for unit in units:
        rows = task.rows(unit, list(dict.fromkeys(["paragraph_count", *([scope] if scope else [])])))
        lines.append(pc.sum(rows["paragraph_count"]).as_py() or 0)
        without += rows[scope].null_count if scope else 0
    return {"lines": lines, "without_scope": without}


def seen(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: the hashes of a group of units, by partition: first those that occur once here, then the others."""
    units, parts = value
    hashes = np.concatenate([_hashes(hi, parts) for _, _, hi, _ in _lines(task, stage, units, (), places=False)])
    hashes.sort()
    starts = np.flatnonzero(_changes(hashes))
    several = np.diff(starts, append=len(hashes)) > 1
    found = hashes[starts]
    task.save_arrays([*_by_part(found[~several], parts), *_by_part(found[several], parts)])
    return {"lines": len(hashes)}


def repeated(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: of a partition's hashes that occur once in a group, those that another group has too, by group."""
    part, groups, parts = value
    once = [task.load_array("seen", group, part) for group in groups]
    several = [task.load_array("seen", group, parts + part) for group in groups]
    everywhere = np.concatenate([*once, *several])
    everywhere.sort()
    twice = everywhere[:-1][everywhere[1:] == everywhere[:-1]]
    found = []
    for hashes in once:
        at = np.searchsorted(twice, hashes)
        here = at < len(twice)
        here[here] = twice[at[here]] == hashes[here]
        found.append(hashes[here])
    task.save_arrays(found)
    return {"hashes": len(everywhere), "repeated": sum(map(len, found))}


def lines(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: the lines of a group that pass the filter, their different keys, and which line of each key is preferred.

    Saves five arrays of uint64. For each key, ascending: its two halves, and the number of its preferred line. For each
    line, as they stand in the group: row | key number << 32, where rows count through the living rows of the group;
    start | size << 32.
    """
    from ..kernels.bloom import Bloom

    units, item, at, parts = value
    stage = cast(Any, stage)
    known = [_whole(task.load_array("seen", item, parts + part), part) for part in range(parts)]
    known += [_whole(task.load_array("repeated", f"p{part:05d}", at), part) for part in range(parts)]
    bloom = Bloom(np.concatenate(known))
    found, documents, total, base = [], [], 0, 0
    for rows, row, hi, rest in _lines(task, stage, units, [*IDENTITY, *stage.resolve_needs], places=True):
        total += len(hi)
        passed = bloom.passing(_hashes(hi, parts))
        has = np.unique(row[passed])
        documents.append(_documents(rows.take(pa.array(has)), stage, has + base))
        found.append((row[passed] + base, hi[passed], rest[passed, 0], rest[passed, 1]))
        base += len(rows)
    row, hi, lo, place = (np.concatenate([part[i] for part in found]) for i in range(4))
    del found
    order = _by_key(hi, lo)
    sorted_hi, sorted_lo = hi[order], lo[order]
    starts = np.flatnonzero(_changes(sorted_hi) | _changes(sorted_lo))
    number = np.empty(len(order), np.uint64)
    number[order] = np.repeat(np.arange(len(starts), dtype=np.uint64), np.diff(starts, append=len(order)))
    # lines ascend in their row, so the smallest of (rank, line) is the first in the preferred document
    ranked = (_ranks(pa.concat_tables(documents), row, stage) << SHIFT) | np.arange(len(row), dtype=np.uint64)
    preferred = np.minimum.reduceat(ranked[order], starts) & LOW if len(starts) else ranked
    task.save_arrays(
        [sorted_hi[starts], sorted_lo[starts], preferred, row.astype(np.uint64) | (number << SHIFT), place]
    )
    return {"keys": len(starts), "passed": len(hi), "lines": total}


def offers(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: one record per key of a group, by partition: occurrences here, and the preferred line."""
    units, item, parts = value
    stage = cast(Any, stage)
    hi, lo, preferred, line, place = (task.load_array("lines", item, i) for i in range(5))
    row, place = (line[preferred] & LOW).astype(np.int64), place[preferred]
    wanted = np.unique(row)
    documents, base = [], 0
    for unit in units:
        rows = task.rows(unit, list(dict.fromkeys([*IDENTITY, *stage.resolve_needs])))
        own = wanted[slice(*np.searchsorted(wanted, [base, base + len(rows)]))]
        documents.append(_documents(rows.take(pa.array(own - base)), stage, own))
        base += len(rows)
    chosen = pa.concat_tables(documents).take(pa.array(np.searchsorted(wanted, row))).drop_columns("row")
    start, size = (place & LOW).astype(np.int64), (place >> SHIFT).astype(np.int64)
    table = pa.table(
        {
            "hi": hi,
            "lo": lo,
            "occurrences": np.bincount((line >> SHIFT).astype(np.int64), minlength=len(hi)),
            "start": start,
            "end": start + size,
            **dict(zip(chosen.column_names, chosen.columns)),
        }
    )
    bounds = np.searchsorted(part_of(hi, parts), np.arange(parts + 1, dtype=np.uint64)).tolist()
    task.save([table.slice(a, b - a) for a, b in itertools.pairwise(bounds)])
    return {}


def choose(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: for each record of a partition, by group: the key's occurrences in the corpus, negative where the line
    stays in another group, 0 where the line is unique."""
    part, groups = value
    counts = [len(task.load("offers", group, part)) for group in groups]
    table = gather(task, "offers", groups, part)
    hi, lo = table["hi"].to_numpy(), table["lo"].to_numpy()
    order = _by_key(hi, lo)
    new = _changes(hi[order]) | _changes(lo[order])
    key = np.empty(len(order), np.int64)
    key[order] = np.cumsum(new) - 1
    total = np.zeros(int(new.sum()), np.int64)
    np.add.at(total, key, table["occurrences"].to_numpy())
    stays = np.bincount(key, minlength=len(total))[key] == 1  # the only record of its key
    contested = np.flatnonzero(~stays)
    _, group = np.unique(key[contested], return_inverse=True)
    if len(contested):
        best = kept_rows(table.take(pa.array(contested)), group, cast(Any, stage).preferences)
        stays[contested[best]] = True
    answer = np.where(total[key] < 2, 0, np.where(stays, total[key], -total[key]))
    task.save_arrays(np.split(answer, np.cumsum(counts)[:-1]))
    kept = table.set_column(table.schema.get_field_index("occurrences"), "occurrences", pa.array(answer))
    kept = kept.filter(pa.array(answer > 0)).select(["occurrences", *IDENTITY, "start", "end"])
    return {
        "repeated": len(kept),
        "occurrences": pc.sum(kept["occurrences"]).as_py() or 0,
        "largest": kept.take(pc.select_k_unstable(kept, k=TOP, sort_keys=TOP_ORDER)).to_pylist(),
    }


def largest(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The most repeated lines of all partitions, each with the place where it stays."""
    return sorted(found, key=lambda x: (-x["occurrences"], x["source_file"].encode(), x["source_row"], x["start"]))[
        :TOP
    ]


def spans(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: what was chosen, back at its rows."""
    units, item, at, parts = value
    preferred, line, place = (task.load_array("lines", item, i) for i in (2, 3, 4))
    answer = np.concatenate([task.load_array("choose", part, at) for part in parts])
    stays = np.zeros(len(line), np.bool_)
    stays[preferred[answer > 0]] = True
    score = np.abs(answer)[line >> SHIFT]
    found = score > 0
    stays, score, place, row = stays[found], score[found], place[found], (line[found] & LOW).astype(np.int64)
    start, size = (place & LOW).astype(np.int64), (place >> SHIFT).astype(np.int64)
    facts, base = {"cut": 0, "cut_bytes": 0, "documents": 0}, 0
    for unit in units:
        length = task.rows(unit, ["bytes"])["bytes"].to_numpy()
        own = slice(*np.searchsorted(row, [base, base + len(length)]))
        local, cut = row[own] - base, ~stays[own]
        repeated = np.bincount(local, np.where(cut, size[own], 0), minlength=len(length))
        share = repeated / np.maximum(length, 1)
        kind = pa.array(["kept", "repeat"]).take(pa.array(cut.astype(np.int8)))
        columns = {
            "paragraph_spans": span_column(len(length), local, start[own], start[own] + size[own], score[own], kind),
            "paragraph_repeated": pa.array(share.astype(np.float32), mask=length == 0),
        }
        task.write(unit, pa.table(columns))
        facts["cut"] += int(cut.sum())
        facts["cut_bytes"] += int(repeated.sum())
        facts["documents"] += int((repeated > 0).sum())
        base += len(length)
    return facts


def _lines(
    task: Task, stage: Stage, units: Sequence[int], columns: Sequence[str], *, places: bool
) -> Iterator[tuple[pa.Table, np.ndarray, np.ndarray, np.ndarray]]:
    """For each unit its living rows, and of their lines: the row (int64), both parts of the key as
    `kernels.paragraphs` gives them, of which the second is empty without `places`; salted by the scope."""
    scope = cast(Any, stage).config.scope
    names = ["paragraph_keys", *(["paragraph_places"] if places else []), *([scope] if scope else []), *columns]
    for unit in units:
        rows = task.rows(unit, list(dict.fromkeys(names)))
        hi, ends = _words(rows["paragraph_keys"])
        row = np.repeat(np.arange(len(rows)), np.diff(ends))
        rest = _words(rows["paragraph_places"])[0].reshape(-1, 2) if places else np.zeros((0, 2), np.uint64)
        if scope:
            nothing = pa.array(np.zeros(len(rows), np.uint64))
            salts = in_scope(pa.table({"hi": nothing, "lo": nothing}), rows[scope])
            has = np.asarray(one_array(salts["hi"].is_valid()))[row]
            row, hi = row[has], hi[has] ^ pc.fill_null(salts["hi"], 0).to_numpy()[row[has]]
            if places:
                rest = rest[has]
                rest[:, 0] ^= pc.fill_null(salts["lo"], 0).to_numpy()[row]
        yield rows, row, hi, rest


def _words(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The uint64 of a large_binary column, and where each row's begin and end."""
    array = one_array(column)
    array = array.fill_null(b"") if array.null_count else array
    _, offset_buffer, data = array.buffers()
    if len(array) == 0 or offset_buffer is None:
        return np.zeros(0, np.uint64), np.zeros(len(array) + 1, np.int64)
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    held = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]].view("<u8")
    return held.astype(np.uint64, copy=False), (offsets - offsets[0]) // 8


def _documents(rows: pa.Table, stage: Any, row: np.ndarray) -> pa.Table:
    identity = {name: rows[name].cast(kind) for name, kind in IDENTITY.items()}
    return pa.table({"row": pa.array(row), **identity, **with_keys(rows, stage.preferences)})


def _ranks(documents: pa.Table, row: np.ndarray, stage: Any) -> np.ndarray:
    """uint64: for each line the place of its document in the order of preference; 0 is best."""
    order = preferred_order(documents, np.zeros(len(documents), np.int64), stage.preferences)
    rank = np.empty(len(documents), np.uint64)
    rank[order] = np.arange(len(documents), dtype=np.uint64)
    return rank[np.searchsorted(documents["row"].to_numpy(), row)]


def _by_key(hi: np.ndarray, lo: np.ndarray) -> np.ndarray:
    """An order by key, any among equal ones. The upper halves are nearly always enough."""
    order = np.argsort(hi)
    if (~_changes(hi[order]) & _changes(lo[order])).any():
        return np.lexsort((lo, hi))
    return order


def _changes(values: np.ndarray) -> np.ndarray:
    """bool: true at the first value, and wherever a value differs from the one before."""
    new = np.ones(len(values), np.bool_)
    new[1:] = values[1:] != values[:-1]
    return new


def _hashes(hi: np.ndarray, parts: int) -> np.ndarray:
    """uint64: the partition in the upper half, 32 bits of the key in the lower."""
    return (part_of(hi, parts) << SHIFT) | (hi & LOW)


def _by_part(hashes: np.ndarray, parts: int) -> list[np.ndarray]:
    """uint32 arrays, one per partition, of ascending `hashes`."""
    bounds = np.searchsorted(hashes, np.arange(parts + 1, dtype=np.uint64) << SHIFT).tolist()
    return [hashes[a:b].astype(np.uint32) for a, b in itertools.pairwise(bounds)]


def _whole(hashes: np.ndarray, part: int) -> np.ndarray:
    return hashes.astype(np.uint64) | (np.uint64(part) << SHIFT)
