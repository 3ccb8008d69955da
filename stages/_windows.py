"""Windows of text that recur anywhere in the corpus: the machinery of `ngram_overlap` and `substring_dedup`.

Invariant: every occurrence of a window that occurs twice is found, at any size and however the work is cut; the order of
occurrences is that of (document ordinal, place in the text). Nothing is sampled and nothing has a capacity.

Phases, each a set of items that read files and save files:
1. slices (a group of units): where to cut the units, so that a task holds a bounded number of bytes of text.
2. seeds (an item: some slices): the winnowed seeds of its windows (`kernels.windows`), each once, by hash partition.
3. repeated (a partition): one bit for every seed, whether another item or place has it too. Goes back to the items.
4. windows (an item): reads the texts again; windows with a repeated seed give 96 bits of hash, each once, by partition.
5. count (a partition): for each window the occurrences in the corpus, and whether an earlier item has it. Goes back.
6. spans (an item): the stage's own columns, from what its windows were found to be.
7. write (a group of units): puts the slices of a unit together.
Equal windows have equal seeds, so step 3 drops nothing that repeats; it only spares the exact step 5 what cannot. An item
sends a window once, so a window that occurs 10^7 times is as many records as there are items.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ._groups import part_of, unit_groups
from ._keys import value_keys
from .arrow import text_buffers
from .base import Context, Runs, Stage, Task
from .errors import StageError

SLICE_BYTES = 64_000_000  # of tokens; of bytes a fourth. Up to 15 M windows, each 80 bytes of memory where it may recur
SLICES_PER_ITEM = 2
SEEDS_PER_PART = (1_000_000, 16_000_000)  # least and most; a 64th of all in between
WINDOWS_PER_PART = (1_000_000, 8_000_000)
BYTES_PER_TOKEN = 4  # English has 4.7; only the size of partitions rests on it
MOST_TOKENS = 1000  # polynomial hashes modulo 2^64 have known collisions from 2,048 tokens on


@dataclass(frozen=True)
class Shape:
    """What a window is: `length` tokens of a document, or of a paragraph; tokens may be bytes."""

    length: int
    paragraphs: bool = False
    by_bytes: bool = False

    @property
    def slice_bytes(self) -> int:
        return SLICE_BYTES // 4 if self.by_bytes else SLICE_BYTES

    @property
    def reach(self) -> float:
        """Windows that share a selected seed, on average."""
        from ..kernels.windows import seed_share

        return 1 / seed_share(self.length)


class WindowStage(Stage):
    """A stage that looks for windows; `config.scope` is a column or None."""

    @property
    def shape(self) -> Shape:
        raise NotImplementedError

    @property
    def needs(self) -> tuple[str, ...]:
        return ("text", *([self.config.scope] if self.config.scope else []))

    def warm(self) -> None:
        from ..kernels.windows import candidate_windows, first_places, select_seeds

        data, offsets, salts, shape = np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(0, np.uint64), self.shape
        how = {"paragraphs": shape.paragraphs, "by_bytes": shape.by_bytes}
        select_seeds(data, offsets, salts, shape.length, **how)
        candidate_windows(data, offsets, salts, shape.length, np.zeros(0, np.uint8), 0, **how)
        first_places(salts, salts)


@dataclass(frozen=True)
class Found:
    """What is known of an item's windows; `places` and `codes` are for the kernels.

    places: uint64[n, 2], of every window whose seed recurs, in the order of documents and places. codes: uint64 per
    distinct window. runs: int64[m, 4], every run that has windows, recurring or not: document (counted within the item),
    windows, first byte, end. valid: bool per document of the item, those that took part.
    """

    places: np.ndarray
    codes: np.ndarray
    runs: np.ndarray
    valid: np.ndarray


def resolve_windows(
    runs: Runs, ctx: Context, spans: Callable[[Task, Stage, Any], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Runs the seven phases; `spans` is the stage's own function of phase 6. Returns the facts of that phase's items."""
    shape = cast(WindowStage, ctx.stage).shape
    groups = unit_groups(runs.units)
    cut = ctx.map("slices", _slices, {name: [u.index for u in units] for name, units in groups.items()})
    slices = [piece for name in groups for piece in cut[name]["slices"]]
    total = sum(piece[3] for piece in slices)
    items = _items(slices, shape.slice_bytes)
    tokens = total if shape.by_bytes else total // BYTES_PER_TOKEN
    seed_parts = _parts(int(tokens / shape.reach), *SEEDS_PER_PART)
    ctx.map("seeds", _seeds, {name: [held, seed_parts] for name, held in items.items()})
    partitions = range(seed_parts if items else 0)
    repeated = ctx.map("repeated", _repeated, {_part_name(p): [p, len(items)] for p in partitions})
    parts = _parts(int(sum(f["repeated"] for f in repeated.values()) * shape.reach), *WINDOWS_PER_PART)
    ctx.map("windows", _windows, {name: [held, at, seed_parts, parts] for at, (name, held) in enumerate(items.items())})
    ctx.map("count", _count, {_part_name(p): [p, len(items)] for p in range(parts if items else 0)})
    facts = ctx.map("spans", spans, {name: [held, at, parts] for at, (name, held) in enumerate(items.items())})
    places: dict[int, list[list[Any]]] = {}
    for name, held in items.items():
        for part, (unit, *_) in enumerate(held):
            places.setdefault(unit, []).append([name, part])
    ctx.map("write", _write, {n: [[u.index, places.get(u.index, [])] for u in units] for n, units in groups.items()})
    return facts


def _items(slices: list[list[int]], least: int) -> dict[str, list[list[int]]]:
    """Consecutive slices: a 64th of all bytes, within the limits of one slice and SLICES_PER_ITEM."""
    size = min(max(sum(piece[3] for piece in slices) // 64, least), SLICES_PER_ITEM * least)
    bundles: list[list[list[int]]] = []
    held = 0
    for piece in slices:
        if not bundles or held + piece[3] > size:
            bundles.append([])
            held = 0
        bundles[-1].append(piece)
        held += piece[3]
    return {_item_name(at): bundle for at, bundle in enumerate(bundles)}


def _item_name(at: int) -> str:
    return f"i{at:06d}"


def _part_name(part: int) -> str:
    return f"p{part:06d}"


def _parts(records: int, least: int, most: int) -> int:
    return max(1, -(-records // min(max(records // 64, least), most)))


def _slices(task: Task, stage: Stage, units: Any) -> dict[str, Any]:
    """[unit, first living row, end, bytes] of each slice; `bytes` is the size as read, near enough to that of the text."""
    found: list[list[int]] = []
    size = cast(WindowStage, stage).shape.slice_bytes
    for unit in units:
        sizes = task.rows(unit, ["bytes"])["bytes"].to_numpy().astype(np.int64)
        before = np.concatenate([[0], np.cumsum(sizes)])
        if len(sizes):
            number = before[:-1] // size
            cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
            found += [[unit, a, b, int(before[b] - before[a])] for a, b in itertools.pairwise(cuts)]
    return {"slices": found}


def _scopes(task: Task, stage: WindowStage, held: list[list[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per slice: the living rows that take part (bool), and the salts (uint64) of all living rows of its unit."""
    scope = stage.config.scope
    for unit, first, last, _ in held:
        rows = task.rows(unit, [scope] if scope else [])
        chosen = np.zeros(len(rows), np.bool_)
        chosen[first:last] = True
        salts = np.zeros(len(rows), np.uint64)
        if scope:
            keys = value_keys(rows[scope])["hi"]
            chosen &= np.asarray(keys.is_valid())
            salts = keys.fill_null(0).to_numpy().astype(np.uint64)
        yield chosen, salts


def _batches(
    task: Task, stage: WindowStage, held: list[list[int]]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """(documents, data, offsets, salts) of the item's texts; documents are counted within the item."""
    base = 0
    for (unit, first, last, _), (chosen, salts) in zip(held, _scopes(task, stage, held)):
        for positions, texts in task.texts(unit, chosen):
            data, offsets = text_buffers(texts)
            if np.diff(offsets).max(initial=0) >= 2**32:
                raise StageError(f"{stage.name}: a text of 4 GB or more; set a smaller max_doc")
            yield positions - first + base, data, offsets, np.ascontiguousarray(salts[positions])
        base += last - first


def _ordered(high: np.ndarray, low: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(rank, chosen, counts, first) for pairs of hashes: chosen: index of the first of each distinct pair, sorted by
    partition, then place; counts: how many chosen per partition; rank: per pair its place among the chosen; first: bool
    per pair, the first of its kind."""
    from ..kernels.windows import first_places

    places = first_places(high, low)
    first = places == np.arange(len(places), dtype=np.uint32)
    chosen = np.flatnonzero(first)
    part = part_of(high[chosen], parts).astype(np.min_scalar_type(parts))  # 8 and 16 bits are sorted by radix
    counts = np.bincount(part, minlength=parts)
    chosen = chosen[np.argsort(part, kind="stable")]
    rank = np.empty(len(places), np.uint32)
    rank[chosen] = np.arange(len(chosen), dtype=np.uint32)
    return rank[places], chosen, counts, first


def _cut(array: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """`array` in consecutive parts of so many entries."""
    return np.split(array, np.cumsum(counts)[:-1])


def _seeds(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Saves per partition uint32: 31 bits of each distinct seed, and a last bit that says whether this item has it twice;
    then the rank of every selected seed in order, and the number of distinct ones per partition."""
    from ..kernels.windows import select_seeds

    held, parts = value
    stage = cast(WindowStage, stage)
    shape = stage.shape
    how = {"paragraphs": shape.paragraphs, "by_bytes": shape.by_bytes}
    found = [select_seeds(d, o, s, shape.length, **how) for _, d, o, s in _batches(task, stage, held)]
    seeds = np.concatenate([np.zeros(0, np.uint64), *found])
    rank, chosen, counts, _ = _ordered(seeds, seeds, parts)
    twice = np.bincount(rank, minlength=len(chosen)) > 1
    keys = (seeds[chosen].astype(np.uint32) & ~np.uint32(1)) | twice.astype(np.uint32)
    task.save_arrays([*_cut(keys, counts), rank, counts.astype(np.uint32)])
    return {"seeds": len(chosen)}


def _repeated(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Saves per item bits (uint8) in the order of its seeds: set where the seed occurs again."""
    from ..kernels.windows import first_places

    part, items = value
    found = [task.load_array("seeds", _item_name(at), part) for at in range(items)]
    keys = np.concatenate(found)
    seeds = (keys >> np.uint32(1)).astype(np.uint64)
    first = first_places(seeds, seeds)
    again = (np.bincount(first, minlength=len(first))[first] > 1) | (keys & np.uint32(1)).astype(np.bool_)
    task.save_arrays([np.packbits(bits) for bits in _cut(again, np.array([len(f) for f in found]))])
    return {"repeated": int(again.sum())}


def _windows(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Saves uint64, two per entry. Per partition, of each distinct window: 64 bits of hash; 32 more, and its count here.
    Then the places of all windows and the runs, as `Found` has them."""
    from ..kernels.windows import candidate_windows

    held, at, seed_parts, parts = value
    stage = cast(WindowStage, stage)
    shape = stage.shape
    item = _item_name(at)
    counts = task.load_array("seeds", item, seed_parts + 1)
    bits = [np.unpackbits(task.load_array("repeated", _part_name(p), at), count=int(c)) for p, c in enumerate(counts)]
    living = np.concatenate(bits)[task.load_array("seeds", item, seed_parts)]
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    used = many = 0
    how = {"paragraphs": shape.paragraphs, "by_bytes": shape.by_bytes}
    for documents, data, offsets, salts in _batches(task, stage, held):
        *tables, seeds = candidate_windows(data, offsets, salts, shape.length, living[used:], many, **how)
        tables[2][:, 0] = documents[tables[2][:, 0]]
        used, many = used + seeds, many + len(tables[2])
        found.append((tables[0], tables[1], tables[2]))
    if used != len(living):
        raise StageError(f"{stage.name}: the texts have {used} seeds, but had {len(living)} when they were read before")
    if not found:
        found = [(np.zeros((0, 2), np.uint64), np.zeros((0, 2), np.uint64), np.zeros((0, 4), np.int64))]
    hashes, places, runs = (np.concatenate(tables) for tables in zip(*found))
    del found, living
    rank, chosen, sizes, first = _ordered(hashes[:, 0], hashes[:, 1], parts)
    sent = hashes[chosen]
    sent[:, 1] |= np.bincount(rank, minlength=len(chosen)).astype(np.uint64)
    places[:, 0] |= (rank.astype(np.uint64) << np.uint64(1) | first.astype(np.uint64)) << np.uint64(32)
    task.save_arrays([*_cut(sent.ravel(), 2 * sizes), places.ravel(), runs.ravel().view(np.uint64)])
    return {}


def _count(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """Saves per item uint64 in the order of its windows: occurrences in the corpus, and a last bit: an earlier item has it."""
    from ..kernels.windows import first_places

    part, items = value
    found = [task.load_array("windows", _item_name(at), part).reshape(-1, 2) for at in range(items)]
    table = np.concatenate(found)
    low, here = table[:, 1] >> np.uint64(32), table[:, 1] & np.uint64(0xFFFFFFFF)
    first = first_places(table[:, 0], low)
    times = np.bincount(first, here, len(first)).astype(np.uint64)  # floats are exact to 2^53
    known = first != np.arange(len(first), dtype=np.uint32)
    codes = times[first] << np.uint64(1) | known.astype(np.uint64)
    task.save_arrays(_cut(codes, np.array([len(f) for f in found])))
    return {}


def found_windows(task: Task, stage: Stage, value: Any) -> Found:
    """What phases 4 and 5 found of an item; value: as the function of phase 6 gets it."""
    held, at, parts = value
    name = _item_name(at)
    chosen = [c[first:last] for (_, first, last, _), (c, _) in zip(held, _scopes(task, cast(WindowStage, stage), held))]
    return Found(
        places=task.load_array("windows", name, parts).reshape(-1, 2),
        codes=np.concatenate([task.load_array("count", _part_name(p), at) for p in range(parts)]),
        runs=task.load_array("windows", name, parts + 1).view(np.int64).reshape(-1, 4),
        valid=np.concatenate(chosen),
    )


def save_slices(task: Task, value: Any, table: pa.Table) -> None:
    """Saves the columns of an item's documents, one row each, so that phase 7 finds them by slice."""
    tables, at = [], 0
    for _, first, last, _ in value[0]:
        tables.append(table.slice(at, last - first))
        at += last - first
    task.save(tables)


def _write(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    schema = pa.schema([(c.name, c.type) for c in stage.adds])
    for unit, places in value:
        tables = [task.load("spans", name, part) for name, part in places]
        task.write(unit, pa.concat_tables([schema.empty_table(), *tables]).combine_chunks())
    return {}
