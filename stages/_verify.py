"""`verify`: candidates measured by their texts. No document is dropped unless its true Jaccard similarity to the one that
stays for it reaches the stated one.

Invariant: in each component, in the order of preference, a document goes to the first leader that it is similar enough
to, or becomes a leader itself; leaders stay. So the result is a function of the component's documents alone.

Phases, in place of near_dedup's `choose`:
1. rank (a partition): orders each component's members by preference and cuts the order into slices of bounded size;
2. shingles (a group of units): reads the members' texts; their sets of n-grams go to their partition and slice;
3. verify (a partition): slice by slice, holding no more than one slice and the leaders of the component it ends in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ._groups import first_rows, gather, split, split_by_n, unit_groups
from ._near import gathered, no_members, send_back
from ._prefer import preferred_order
from .arrow import one_array, text_buffers
from .base import Context, Stage, Task, UnitRows

ROWS_PER_ITEM = 200_000  # documents whose n-grams a task holds: about 1 GB of them where every one is a member
SLICE_SHINGLES = 1 << 24  # n-grams in a slice: 128 MB
MOST_LEADERS = 10_000  # of one component; beyond them a document that is like none of them stays without becoming one


def verify(
    ctx: Context, units: Sequence[UnitRows], partitions: Mapping[str, Any]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """(phase whose items hold the verdicts by group of units, the facts of each); `partitions` as `choose` takes them."""
    groups = unit_groups(units, ROWS_PER_ITEM)
    starts = first_rows(groups)
    ranked = ctx.map("rank", _rank, {item: [*value[:3], starts] for item, value in partitions.items()})
    slices = [found["slices"] for found in ranked.values()]
    bounds = np.cumsum([0, *slices]).tolist()
    items = {
        item: [[u.index for u in group], at, list(partitions), bounds]
        for at, (item, group) in enumerate(groups.items())
    }
    ctx.map("shingles", _shingles, items)
    values = {
        item: [*value, list(items), bounds[at], slices[at]] for at, (item, value) in enumerate(partitions.items())
    }
    return "verify", ctx.map("verify", _verify, values)


def _ordered(table: pa.Table, group: np.ndarray, near: Any) -> tuple[np.ndarray, np.ndarray]:
    """(rows by component and preference, slice of each): a slice ends where its n-grams would be too many."""
    order = preferred_order(table, group, near.preferences)
    ends = np.cumsum(table["shingles"].to_numpy()[order].astype(np.int64))
    _, slices = np.unique((ends - 1) // SLICE_SHINGLES, return_inverse=True)  # a huge document skips numbers
    return order, slices.astype(np.int64)


def _rank(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    part, ours, theirs, starts = value
    table, group = gathered(task, part, ours, theirs)
    kinds = {"n": pa.uint64(), "slice": pa.int64()}
    if not len(table):
        task.save(split_by_n(pa.table({name: pa.array([], kind) for name, kind in kinds.items()}), starts))
        return {"slices": 0}
    order, slices = _ordered(table, group, cast(Any, stage))
    task.save(split_by_n(pa.table({"n": table["n"].take(pa.array(order)), "slice": pa.array(slices)}), starts))
    return {"slices": int(slices[-1]) + 1}


def _shingles(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.shingles import shingle_sets

    units, at, partitions, bounds = value
    tables = []
    for part, first in zip(partitions, bounds):
        table = task.load("rank", part, at)
        tables.append(pa.table({"n": table["n"], "slot": pa.array(table["slice"].to_numpy() + first)}))
    wanted = pa.concat_tables(tables).sort_by("n") if tables else pa.table({"n": pa.array([], pa.uint64())})
    members = wanted["n"].to_numpy()
    held = [pa.table({"n": pa.array([], pa.uint64()), "slot": pa.array([], pa.int64()), "set": _lists([], [0])})]
    for unit in units:
        n = task.rows(unit, [])["n"].to_numpy()
        for places, texts in task.texts(unit, np.isin(n, members)):
            values, offsets = shingle_sets(*text_buffers(texts), cast(Any, stage).config.ngram)
            slot = wanted["slot"].take(pa.array(np.searchsorted(members, n[places])))
            held.append(pa.table({"n": pa.array(n[places]), "slot": slot, "set": _lists(values, offsets)}))
    table = pa.concat_tables(held)
    slots = table["slot"].to_numpy()
    task.save(split(table.drop_columns("slot"), slots, bounds[-1]) if bounds[-1] else [table.drop_columns("slot")])
    return {}


def _lists(values: Any, offsets: Any) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values, pa.uint64()))


def _verify(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.leaders import leaders

    part, ours, theirs, starts, named, items, first_slot, slices = value
    near = cast(Any, stage)
    table, group = gathered(task, part, ours, theirs)
    if not len(table):
        empty = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return send_back(task, near, no_members(theirs), *empty, starts, named) | {
            "candidates": 0,
            "false_candidates": 0,
        }
    order, slice_of = _ordered(table, group, near)
    n, group = table["n"].to_numpy()[order], group[order]
    kept, similarity = np.arange(len(table)), np.zeros(len(table), np.float32)
    before = np.zeros(0, np.int64)  # places in `order` of the leaders of the component that the last slice ended in
    sets = _Sets.empty()
    for at in range(slices):
        places = np.flatnonzero(slice_of == at)
        sets = sets.then(_Sets.of(gather(task, "shingles", items, first_slot + at), n[places]))
        places = np.concatenate([before, places])
        found, jaccard = leaders(sets.values, sets.offsets, group[places], near.least, MOST_LEADERS)
        kept[order[places]] = order[places[found]]
        similarity[order[places]] = jaccard
        last = (found == np.arange(len(found))) & (group[places] == group[places[-1]])
        last[np.flatnonzero(last)[MOST_LEADERS:]] = False
        before, sets = places[last], sets.chosen(last)
    facts = send_back(task, near, table, kept, similarity, starts, named)
    components = int(group[-1]) + 1
    stay = int((kept == np.arange(len(kept))).sum())
    return facts | {"candidates": len(table) - components, "false_candidates": stay - components}


class _Sets:
    """Sets of n-grams, one after the other: values[offsets[i]:offsets[i + 1]], sorted and distinct in each."""

    def __init__(self, values: np.ndarray, offsets: np.ndarray) -> None:
        self.values, self.offsets = values, offsets

    @classmethod
    def empty(cls) -> _Sets:
        return cls(np.zeros(0, np.uint64), np.zeros(1, np.int64))

    @classmethod
    def of(cls, table: pa.Table, n: np.ndarray) -> _Sets:
        """The sets of the documents `n`, in that order, all of which the table has."""
        have = table["n"].to_numpy()
        by_n = np.argsort(have)
        lists = one_array(table["set"].take(pa.array(by_n[np.searchsorted(have[by_n], n)])))
        offsets = lists.offsets.to_numpy()
        return cls(lists.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0])

    def then(self, more: _Sets) -> _Sets:
        return _Sets(
            np.concatenate([self.values, more.values]),
            np.concatenate([self.offsets, more.offsets[1:] + self.offsets[-1]]),
        )

    def chosen(self, mask: np.ndarray) -> _Sets:
        sizes = np.diff(self.offsets)
        return _Sets(self.values[np.repeat(mask, sizes)], np.concatenate([[0], np.cumsum(sizes[mask])]))
