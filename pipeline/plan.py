"""The plan: units, steps and their keys, a pure function of (recipe, listing).

Invariant: a step's key changes exactly when its results may; a unit's id names files, their versions and row ranges,
so an added shard costs that shard.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from ..stages.base import Resources
from .graph import BoundStage, Graph, build_graph, digest
from .listing import InputFile, Listing
from .readers import Segment
from .recipe import Recipe

FORMAT = 1  # of attributes and receipts: raise it when files of an older version can no longer be read


@dataclass(frozen=True)
class Unit:
    """A named slice of the input: what is computed, committed, retried and skipped as one."""

    id: str
    segments: tuple[Segment, ...]
    bytes: int  # of text, as far as the listing knows


@dataclass(frozen=True)
class Part:
    """One method of one stage inside a step."""

    stage: int  # index in graph.stages
    method: str  # edit, measure, decide, resolve


@dataclass(frozen=True)
class Step:
    """What the plan runs: a chain of per-unit stages in one pass, or one resolve stage."""

    kind: str  # unit | resolve
    name: str
    parts: tuple[Part, ...]
    key: str
    reads_text: bool

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.key}"


@dataclass
class Plan:
    """All that executors and workers need to know. Picklable."""

    recipe: Recipe
    listing: Listing
    graph: Graph
    units: list[Unit]
    steps: list[Step]
    key: str  # of the whole result

    def stage(self, part: Part) -> BoundStage:
        return self.graph.stages[part.stage]

    @property
    def text_passes(self) -> int:
        """How often the source text is read, the writing included."""
        return sum(step.reads_text for step in self.steps) + 1


def make_plan(recipe: Recipe, listing: Listing) -> Plan:
    """Raises RecipeError for anything that cannot work."""
    graph = build_graph(recipe, listing.columns)
    units = list(make_units(listing, recipe.unit_size))
    steps = _steps(recipe, listing, graph)
    final = [steps[-1].key, _listing_key(listing), [u.id for u in units], recipe.write.model_dump(mode="json")]
    final += [graph.data_columns, recipe.report.by, recipe.name]
    return Plan(recipe, listing, graph, units, steps, digest(final))


# --- units --------------------------------------------------------------------------------------------------------


def make_units(listing: Listing, unit_size: int) -> Iterator[Unit]:
    """Cuts large files at row groups and packs small neighbours. Where a pack ends depends on the names in it, so that
    an added file changes the pack it falls into and not all that follow."""
    pack: list[Segment] = []
    pack_bytes = 0
    for index, file in enumerate(listing.files):
        pieces = list(_pieces(index, file, unit_size))
        if len(pieces) == 1 and pieces[0][1] < unit_size // 2:
            segment, size = pieces[0]
            if pack and pack_bytes + size > unit_size:
                yield _unit(listing, pack, pack_bytes)
                pack, pack_bytes = [], 0
            pack.append(segment)
            pack_bytes += size
            if pack_bytes >= unit_size // 2 and xxhash.xxh3_64_intdigest(file.name.encode()) % 4 == 0:
                yield _unit(listing, pack, pack_bytes)
                pack, pack_bytes = [], 0
            continue
        if pack:
            yield _unit(listing, pack, pack_bytes)
            pack, pack_bytes = [], 0
        for segment, size in pieces:
            yield _unit(listing, [segment], size)
    if pack:
        yield _unit(listing, pack, pack_bytes)


def _pieces(index: int, file: InputFile, unit_size: int) -> Iterator[tuple[Segment, int]]:
    """Row-group ranges of about unit_size of text; one piece for a file that cannot be split."""
    if not file.groups:
        packed = file.url.endswith((".gz", ".zst"))
        yield Segment(index, 0, 0, 0), file.size * (4 if packed else 1)
        return
    start, first_row, rows, size = 0, 0, 0, 0
    for number, group in enumerate(file.groups):
        if size and size + group.text_bytes > unit_size:
            yield Segment(index, start, number, first_row), size
            start, first_row, rows, size = number, first_row + rows, 0, 0
        rows += group.rows
        size += group.text_bytes
    yield Segment(index, start, len(file.groups), first_row), size


def _unit(listing: Listing, segments: Sequence[Segment], size: int) -> Unit:
    facts = [(listing.files[s.file].name, listing.files[s.file].version, s.start, s.stop) for s in segments]
    return Unit(digest(facts), tuple(segments), size)


def _listing_key(listing: Listing) -> str:
    return digest([(f.name, f.version, f.size) for f in listing.files])


# --- steps --------------------------------------------------------------------------------------------------------


def _steps(recipe: Recipe, listing: Listing, graph: Graph) -> list[Step]:
    """Fuses per-unit stages while their resources are equal; a resolve stage stands alone, its measure half to its left."""
    chains: list[tuple[str, list[Part], Resources]] = [("unit", [], Resources())]
    for index, bound in enumerate(graph.stages):
        kind, resources = bound.stage.kind, bound.stage.resources
        if kind == "resolve":
            if bound.stage.has("measure"):
                _append(chains, Part(index, "measure"), resources)
            chains.append(("resolve", [Part(index, "resolve")], resources))
        else:
            _append(chains, Part(index, kind), resources)
    steps: list[Step] = []
    key = digest([FORMAT, recipe.max_doc, _input_key(recipe), graph.read_columns, graph.carried])
    resolved = False
    for position, (kind, parts, _) in enumerate(chains):
        if kind == "resolve" and not resolved:
            key, resolved = digest([key, _listing_key(listing)]), True
        key = digest([key, kind, [_part_key(graph, part) for part in parts]])
        name = graph.stages[parts[0].stage].name if kind == "resolve" else "read" if position == 0 else "measure"
        reads = kind == "unit" and (position == 0 or any("text" in graph.stages[p.stage].needs for p in parts))
        steps.append(Step(kind, name, tuple(parts), key, reads))
    return steps


def _append(chains: list[tuple[str, list[Part], Resources]], part: Part, resources: Resources) -> None:
    kind, parts, held = chains[-1]
    if kind == "resolve" or (parts and held != resources):
        chains.append(("unit", [part], resources))
    else:
        chains[-1] = (kind, [*parts, part], resources)


def _part_key(graph: Graph, part: Part) -> list[object]:
    bound = graph.stages[part.stage]
    return [part.method, bound.name, bound.cell_key, [(a.name, str(a.column.type)) for a in bound.added]]


def _input_key(recipe: Recipe) -> list[object]:
    """What of `input:` decides how a row is read, apart from which files there are."""
    return [source.model_dump(mode="json", exclude={"files", "root"}) for source in recipe.input]


def unit_first_rows(rows: Sequence[int]) -> list[int]:
    """n of each unit's first document, from the units' row counts in identity order."""
    return [0, *itertools.accumulate(rows)][:-1]
