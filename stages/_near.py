"""The phases of near_dedup after the labels: members travel to their label's partition, are chosen among, and come back.

Invariant: a document's verdict depends on the documents of its component alone; a task holds about two million members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._components import LABEL
from ._groups import AgainstTask, align, gather, part_of, split, split_by_n
from ._keys import hex_keys, value_keys
from ._prefer import kept_rows, preference_columns, with_keys
from .arrow import one_array
from .base import Stage, Task

IDENTITY = {"doc_id": pa.string(), "source_file": pa.string(), "source_row": pa.int64()}
WATCHED_VALUES = 10_000  # of a watched column in one item; a column with more groups than that is not watched
MIX = np.uint64(0x9E3779B97F4A7C15)


def labelled(task: Task, labels: Sequence[Any], at: int) -> np.ndarray:
    """Records (n, label) of the documents of group `at` that have an edge, by n."""
    phase, items = labels
    found = np.concatenate([np.zeros(0, LABEL), *(task.load_array(phase, item, at) for item in items)])
    return found[np.argsort(found["n"], kind="stable")]


def members(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: the members among the documents of a group of units, by the partition of their label."""
    units, at, labels, parts = value
    near = cast(Any, stage)
    found = labelled(task, labels, at)
    facts = {"documents": 0, "without_text": 0}
    tables = []
    for unit in units:
        rows = task.rows(unit, ["near_shingles"])
        without = rows["near_shingles"].null_count
        facts["documents"] += len(rows) - without
        facts["without_text"] += without
        n = rows["n"].to_numpy()
        own = found[slice(*np.searchsorted(found["n"], [n[0], n[-1] + 1]))] if len(n) else found[:0]
        if not len(own):
            continue
        wanted = dict.fromkeys([*IDENTITY, "near_sketch", "near_shingles", *near.resolve_needs])
        rows = task.rows(unit, list(wanted)).take(pa.array(np.searchsorted(n, own["n"])))
        tables.append(_table(rows, own["label"], {"n": rows["n"], **with_keys(rows, near.preferences)}))
    _send(task, tables, near, parts)
    return facts


def members_of_earlier(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: the same for the kept documents of an earlier output. `told`: whether it has what `prefer` names."""
    place, at, labels, parts = value
    near = cast(Any, stage)
    found = labelled(task, labels, at)
    first, told, tables = place["first"], True, []
    for name in place["parts"]:
        rows = cast(AgainstTask, task).against(place["output"], name, [*IDENTITY, "near_sketch", "near_shingles"])
        count = len(rows)
        own = found[slice(*np.searchsorted(found["n"], [first, first + count]))]
        try:
            names = [c for c in preference_columns(near.preferences) if c not in rows.column_names]
            more = cast(AgainstTask, task).against(place["output"], name, names) if names else None
        except KeyError:
            more, told = None, False
        if more is not None:
            rows = pa.table({**dict(zip(rows.column_names, rows.columns)), **dict(zip(names, more.columns))})
        rows = rows.take(pa.array((own["n"] - np.uint64(first)).astype(np.int64)))
        columns = {"earlier": pa.array(np.full(len(rows), place["rank"], np.int32))}
        if told:
            columns |= with_keys(rows, near.preferences)
        tables.append(_table(rows, own["label"], columns))
        first += count
    _send(task, tables, near, parts)
    return {"told": told}


def _table(rows: pa.Table, label: np.ndarray, columns: Mapping[str, Any]) -> pa.Table:
    identity = {name: rows[name].cast(kind) for name, kind in IDENTITY.items()}
    more = {"sketch": rows["near_sketch"], "shingles": rows["near_shingles"]}
    return pa.table({"label": pa.array(label), **identity, **more, **columns})


def _send(task: Task, tables: Sequence[pa.Table], near: Any, parts: int) -> None:
    empty = pa.table({"label": pa.array([], pa.uint64())})
    table = pa.concat_tables(tables, promote_options="permissive") if tables else empty
    if near.least is not None and "sketch" in table.column_names:
        table = table.drop_columns("sketch")  # the true similarity will be measured
    task.save(split(table, part_of(table["label"].to_numpy() * MIX, parts), parts))


def gathered(task: Task, part: int, ours: Sequence[str], theirs: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
    """What `members` sent to a partition, and the component of each (int64, from 0)."""
    table = gather(task, "members", ours, part)
    if theirs:
        table = pa.concat_tables([table, gather(task, "earlier", theirs, part)], promote_options="permissive")
    _, group = np.unique(table["label"].to_numpy(), return_inverse=True)
    return table.combine_chunks(), group.astype(np.int64)


def choose(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: the kept document of every component of a partition; its members go back to their groups of units."""
    from ..kernels import minhash

    part, ours, theirs, starts, named = value
    near = cast(Any, stage)
    table, group = gathered(task, part, ours, theirs)
    if not len(table):
        return send_back(task, near, no_members(theirs), np.zeros(0, np.int64), np.zeros(0, np.float32), starts, named)
    first = ("earlier",) if theirs else ()
    kept = kept_rows(table, group, near.preferences, first)
    newcomer = 0
    if theirs:
        rather = kept_rows(table, group, near.preferences, then=first)
        own = np.asarray(table["n"].is_valid())
        newcomer = int((own[rather] & ~own[kept]).sum())
    sketches = binary_rows(table["sketch"], near.bands * near.rows)
    similarity = minhash.estimate(sketches, np.arange(len(table)), kept[group])
    facts = send_back(task, near, table, kept[group], similarity, starts, named)
    return facts | {"newcomer": newcomer}


def binary_rows(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """uint8[n, width] of a fixed_size_binary column without nulls."""
    array = one_array(column)
    data = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    return data[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)


def no_members(theirs: Sequence[str]) -> pa.Table:
    """A partition that nobody is in."""
    kinds = {"label": pa.uint64(), "n": pa.uint64(), **IDENTITY}
    kinds |= {"earlier": pa.int32()} if theirs else {}
    return pa.table({name: pa.array([], kind) for name, kind in kinds.items()})


def send_back(
    task: Task,
    near: Any,
    table: pa.Table,
    kept: np.ndarray,
    similarity: np.ndarray,
    starts: Sequence[int],
    named: Sequence[int],
) -> dict[str, Any]:
    """Saves the verdicts of all own members by group of units, and tells what they amount to.

    kept: int64 per member, the row of the one that stays for it, itself if it stays. Members with the same kept one are
    a group of duplicates; its id is the hash of its first own document in identity order.
    """
    own = np.asarray(table["n"].is_valid())
    leaders, cluster = np.unique(kept, return_inverse=True)
    sizes = np.bincount(cluster, own, minlength=len(leaders)).astype(np.int64)
    together = np.bincount(cluster, minlength=len(leaders)) >= 2
    names, first = _names(table, cluster, own, len(leaders))
    loses = kept != np.arange(len(kept))
    winner = pa.array(kept, mask=~loses)
    grouped = pa.array(together[cluster])
    none = pa.scalar(None)
    columns: dict[str, Any] = {
        "n": table["n"],
        "near_cluster": pc.if_else(grouped, names.take(pa.array(cluster)), none),
        "near_cluster_size": pc.if_else(grouped, pa.array(sizes[cluster]), none),
        "near_kept_doc_id": table["doc_id"].take(winner),
        "near_kept_file": table["source_file"].take(winner),
        "near_kept_row": table["source_row"].take(winner),
        "near_similarity": pa.array(similarity.astype(np.float32), mask=~loses),
    }
    of_earlier = 0
    if near.config.against:
        rank = table["earlier"].take(winner) if "earlier" in table.column_names else pa.nulls(len(kept), pa.int32())
        columns["near_kept_output"] = pa.array(near.config.against).take(rank)
        of_earlier = int((np.asarray(rank.is_valid()) & own).sum())
    task.save(split_by_n(pa.table(columns).filter(pa.array(own)), starts))
    sizes = sizes[together]
    over = np.flatnonzero(sizes > near.config.max_cluster)
    identities = [names.filter(pa.array(together)), table["doc_id"].take(pa.array(first[together]))]
    return {
        "groups": len(sizes),
        "duplicates": int((loses & own).sum()),
        "of_earlier": of_earlier,
        "newcomer": 0,
        "largest": int(sizes.max(initial=0)),
        "alarms": [
            {"cluster": identities[0][i].as_py(), "documents": int(sizes[i]), "doc_id": identities[1][i].as_py()}
            for i in over[np.argsort(-sizes[over], kind="stable")][:100].tolist()
        ],
        "named": _named(table, named),
    }


def _names(table: pa.Table, cluster: np.ndarray, own: np.ndarray, count: int) -> tuple[pa.Array, np.ndarray]:
    """(id, row of the first own member in identity order) of each cluster; of one without an own member, any."""
    n = np.where(own, pc.fill_null(table["n"], 0).to_numpy(), np.uint64(2**64 - 1))
    order = np.lexsort((n, cluster))
    first = order[np.flatnonzero(np.diff(cluster[order], prepend=-1))] if count else order
    at = pa.array(first)
    rows = pc.cast(table["source_row"].take(at), pa.string())
    keys = value_keys(pc.binary_join_element_wise(table["source_file"].take(at), rows, "\n"))
    return hex_keys(keys["hi"].to_numpy(), keys["lo"].to_numpy()), first


def _named(table: pa.Table, wanted: Sequence[int]) -> dict[str, list[Any]]:
    """Identity of those of the documents `wanted` (n) that are here."""
    at = np.flatnonzero(np.isin(pc.fill_null(table["n"], 2**64 - 1).to_numpy(), np.array(wanted, np.uint64)))
    rows = table.select(["n", *IDENTITY]).take(pa.array(at)).to_pylist()
    return {str(row["n"]): [row[name] for name in IDENTITY] for row in rows}


def verdict(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Phase: writes the verdicts of a group of units; counts what the groups of the watched columns lose."""
    units, at, phase, partitions = value
    near = cast(Any, stage)
    found = gather(task, phase, partitions, at).sort_by("n")
    watched: dict[str, dict[str, list[int]] | None] = {name: {} for name in near.watched}
    for unit in units:
        rows = task.rows(unit, list(near.watched))
        verdicts = align(found, rows["n"]).drop_columns("n")
        lost = verdicts["near_kept_row"].is_valid()
        task.write(unit, verdicts.append_column("rule", pc.if_else(lost, f"{stage.name}.duplicate", None)))
        for name in near.watched:
            _count(watched, name, rows[name], lost)
    return {"watched": watched}


def _count(watched: dict[str, dict[str, list[int]] | None], name: str, values: Any, lost: Any) -> None:
    """Adds [documents, lost] per value; None where there are too many values."""
    held = watched[name]
    if held is None:
        return
    counts = pa.table({"value": values.cast(pa.string()), "lost": lost.cast(pa.int64())}).group_by("value")
    for row in counts.aggregate([("lost", "sum"), ([], "count_all")]).to_pylist():
        if row["value"] is not None:
            before = held.get(row["value"], [0, 0])
            held[row["value"]] = [before[0] + row["count_all"], before[1] + row["lost_sum"]]
    if len(held) > WATCHED_VALUES:
        watched[name] = None
