"""The plan: units, steps and their keys, a pure function of (recipe, listing).

Invariant: a step's key changes exactly when its results may; a unit's id names files, their versions and row ranges,
so an added shard costs that shard.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import xxhash

from ..stages.base import Resources
from .graph import BoundStage, Graph, build_graph, digest
from .listing import InputFile, Listing
from .readers import Segment
from .recipe import Recipe

PACKED = 8  # files below this part of unit_size are packed
LEAST_SAMPLE = 1e-3  # units span at most so many times more of the input in a sample
FORMAT = 2  # of attributes and receipts: raise it when files of an older version can no longer be read


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
    recipe = recipe.model_copy(update={"stages": [bound.entry for bound in graph.stages]})  # every `action` said
    units = planned_units(listing, recipe.unit_size, recipe.units, recipe.sample)
    everything = _listing_key(listing)
    if recipe.units:
        everything = digest([everything, [unit.id for unit in units]])
    steps = _steps(recipe, everything, graph)
    final = [steps[-1].key, everything, recipe.write.model_dump(mode="json")]
    final += [graph.data_columns, recipe.report.by, recipe.name]
    return Plan(recipe, listing, graph, units, steps, digest(final))


def planned_units(listing: Listing, unit_size: int, most: int | None, sample: float | None) -> list[Unit]:
    """The units of a run: all of them, or at most `most`, evenly spaced, as the first files of a crawl are not like the
    others. Those of a sample span more of the input, so that each holds as much to do as one of a whole run: what a unit
    costs by itself then has its true share in the sample's seconds and bytes."""
    if sample is not None:
        listing, unit_size = replace(listing, packs=()), round(unit_size / max(sample, LEAST_SAMPLE))
    units = list(make_units(listing, unit_size))
    count = len(units) if most is None else min(most, len(units))
    return [units[index * len(units) // count] for index in range(count)]


# --- units --------------------------------------------------------------------------------------------------------


def make_units(listing: Listing, unit_size: int) -> Iterator[Unit]:
    """Cuts large files at row groups and packs small neighbours. Where a pack ends depends on the names in it, so that
    an added file changes the pack it falls into and not all that follow; packs of earlier runs stay whole."""
    pack: list[Segment] = []
    pack_bytes = pack_end = 0
    known = {names[0]: names for names in listing.packs}
    for index, file in enumerate(listing.files):
        pieces = list(_pieces(index, file, unit_size))
        small = len(pieces) == 1 and pieces[0][1] < unit_size // PACKED
        first = file.name in known and index >= pack_end
        if pack and (not small or first or index == pack_end or pack_bytes + pieces[0][1] > unit_size):
            yield _unit(listing, pack, pack_bytes)
            pack, pack_bytes = [], 0
        if not small:
            for segment, size in pieces:
                yield _unit(listing, [segment], size)
            continue
        if first:
            pack_end = index + len(known[file.name])
        pack.append(pieces[0][0])
        pack_bytes += pieces[0][1]
        full = pack_bytes >= unit_size // 2 and xxhash.xxh3_64_intdigest(file.name.encode()) % 4 == 0
        if full and index >= pack_end:
            yield _unit(listing, pack, pack_bytes)
            pack, pack_bytes = [], 0
    if pack:
        yield _unit(listing, pack, pack_bytes)


def packs(plan: Plan) -> list[list[tuple[str, str]]]:
    """(name, version) of the files of every unit made of small files; later runs leave these units together."""
    found = []
    for unit in plan.units:
        files = [plan.listing.files[segment.file] for segment in unit.segments]
        if len(files) > 1 or unit.bytes < plan.recipe.unit_size // PACKED:
            found.append([(file.name, file.version) for file in files])
    return found


def with_packs(listing: Listing, packs: Sequence[Sequence[Sequence[str]]]) -> Listing:
    """The listing with those packs of earlier runs of which every file is still there, unchanged and side by side."""
    place = {(file.name, file.version): index for index, file in enumerate(listing.files)}
    found = []
    for pack in packs:
        at = [place.get((name, version), -1) for name, version in pack]
        if at[0] >= 0 and at == list(range(at[0], at[0] + len(at))):
            found.append(tuple(name for name, _ in pack))
    return replace(listing, packs=tuple(found))


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
    facts = [(*_identity(listing.files[s.file]), s.start, s.stop) for s in segments]
    return Unit(digest(facts), tuple(segments), size)


def _identity(file: InputFile) -> tuple[str, str, list[tuple[str, str]]]:
    """Name, version, and the columns that hold one value for the whole file, which come from its path and the recipe."""
    return file.name, file.version, sorted((name, repr(value)) for name, value in file.tags.items())


def _listing_key(listing: Listing) -> str:
    return digest([(*_identity(f), f.size) for f in listing.files])


# --- steps --------------------------------------------------------------------------------------------------------


def _steps(recipe: Recipe, everything: str, graph: Graph) -> list[Step]:
    """Fuses per-unit stages while their resources are equal; a resolve stage stands alone, its measure half to its left.
    `everything`: hash of all input that the run reads, on which resolve stages depend."""
    chains: list[tuple[str, list[Part], Resources]] = [("unit", [], Resources())]
    for index, bound in enumerate(graph.stages):
        kind, resources = bound.stage.kind, bound.stage.resources
        if kind == "resolve":
            if bound.stage.measured:
                _append_early(graph, chains, index)
            chains.append(("resolve", [Part(index, "resolve")], resources))
        else:
            _append(chains, Part(index, kind), resources)
    steps: list[Step] = []
    key = digest([FORMAT, recipe.max_doc, _input_key(recipe), graph.read_columns])
    key = digest([key, [(name, str(graph.input_types[name])) for name in graph.carried]])
    if recipe.observe or recipe.sample is not None:
        key = digest([key, recipe.observe, recipe.sample, recipe.seed])
    resolved = False
    for position, (kind, parts, _) in enumerate(chains):
        if kind == "resolve" and not resolved:
            key, resolved = digest([key, everything]), True
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


def _append_early(graph: Graph, chains: list[tuple[str, list[Part], Resources]], index: int) -> None:
    """The measure half of a resolve stage, in the pass over the text that is made anyhow where only resolve stages
    stand between: deduplications in a row read the text once. Rows that one of them drops are measured in vain, so an
    expensive stage waits for the survivors, and so does one whose columns the ledger shows."""
    bound, at = graph.stages[index], len(chains) - 1
    while chains[at][0] == "resolve":
        at -= 1
    kind, parts, held = chains[at]
    between = [graph.stages[part.stage] for _, resolve, _ in chains[at + 1 :] for part in resolve]
    later = {name for b in between for name in (f"{b.name}_pass", *(a.name for a in b.added))}
    shown = any(a.column.ledger for a in bound.added if a.column.name in bound.stage.measured)
    reads = at == 0 or any("text" in graph.stages[part.stage].needs for part in parts)
    cheap = bound.stage.cost == "cheap" and held == bound.stage.resources
    if between and reads and cheap and not shown and not later & set(bound.needs):
        chains[at] = (kind, [*parts, Part(index, "measure")], held)
    else:
        _append(chains, Part(index, "measure"), bound.stage.resources)


def _part_key(graph: Graph, part: Part) -> list[object]:
    bound = graph.stages[part.stage]
    return [part.method, bound.name, bound.cell_key, [(a.name, str(a.column.type)) for a in bound.added]]


def _input_key(recipe: Recipe) -> list[object]:
    """What of `input:` decides how a row is read, apart from which files there are."""
    return [source.model_dump(mode="json", exclude={"files", "root"}) for source in recipe.input]


def unit_first_rows(rows: Sequence[int]) -> list[int]:
    """n of each unit's first document, from the units' row counts in identity order."""
    return [0, *itertools.accumulate(rows)][:-1]
