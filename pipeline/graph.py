"""Stages wired to columns: who adds what, who reads what, under which full names; everything checked before anything runs.

Invariant: after `build_graph` every column that a stage reads is known by its full name, its owner and its type.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
import xxhash
from pydantic import ValidationError

from ..stages import sql
from ..stages.base import Column, Stage, stage_class
from ..stages.errors import RecipeError, did_you_mean
from .data_columns import FATE, BoundWrite, bind_write, written_columns
from .finished import frozen_facts, output_identity
from .models import find_models
from .recipe import Recipe, StageEntry, config_error

SYSTEM_COLUMNS: dict[str, pa.DataType] = {
    "doc_id": pa.string(),
    "source_file": pa.string(),
    "source_row": pa.int64(),
    "source_hash": pa.string(),
    "url": pa.string(),
    "date": pa.string(),
    "text": pa.large_string(),
    "bytes": pa.int64(),  # of the text version at hand
    "chars": pa.int64(),  # code points of the text version at hand
}
LEDGER_COLUMNS = (*FATE, "out_file", "out_row")
RESERVED = {*SYSTEM_COLUMNS, *LEDGER_COLUMNS, "alive", "n", "row"}


@dataclass(frozen=True)
class Added:
    """A column as it stands in attributes and ledger: full name, and what its stage says of it."""

    name: str
    column: Column


@dataclass
class BoundStage:
    """A stage of the recipe with every name resolved."""

    entry: StageEntry
    stage: Stage
    name: str
    place: str  # 'recipe.yaml:12 (name)' for messages
    added: tuple[Added, ...] = ()
    needs: tuple[str, ...] = ()  # full names, where's columns among them
    sole: bool = False  # adds one column by nature, which takes the stage's name
    earlier: tuple[str, ...] = ()  # identity of every output in `against`
    models: dict[str, str] = field(default_factory=dict)  # fingerprints, by the names in the recipe

    @property
    def use(self) -> str:
        return self.entry.use

    @functools.cached_property
    def cell_key(self) -> str:
        """Hash of all that this stage's results depend on besides what it reads."""
        config = self.stage.config.model_dump(mode="json", exclude=set(self.stage.not_in_key))
        facts = [self.use, self.stage.version, config, self.stage.fingerprint(), self.entry.where, self.entry.action]
        return digest([*facts, self.needs, self.earlier, self.stage.seed if self.stage.draws else None])

    def adds(self, plain: str) -> bool:
        """Whether it adds a column of this plain name, or pattern (`*_cluster_size`)."""
        return any(fnmatchcase(a.column.name, plain) for a in self.added)

    def full(self, plain: str) -> str:
        return next(a.name for a in self.added if fnmatchcase(a.column.name, plain))


@dataclass
class Graph:
    """The stages in order, and the input columns that the run decodes."""

    stages: list[BoundStage]
    input_types: dict[str, pa.DataType]  # by canonical name
    input_names: dict[str, str]  # canonical name -> name in the input
    read_columns: list[str] = field(default_factory=list)  # canonical names that the first pass must decode
    carried: list[str] = field(default_factory=list)  # input columns that attributes keep (ledger, resolve)
    write: BoundWrite = field(default_factory=lambda: BoundWrite((), ()))  # what data/ shows
    notes: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[Added]:
        return [a for bound in self.stages for a in bound.added]

    @property
    def data_columns(self) -> list[tuple[str, str, str]]:
        """SQL, name and type of every column of the shards besides provenance and text."""
        return [(column.sql, column.name, str(column.type)) for column in self.write.columns]


def digest(value: Any) -> str:
    """16 hex digits over canonical JSON."""
    return xxhash.xxh3_64_hexdigest(json.dumps(value, sort_keys=True, default=str).encode())


def build_graph(recipe: Recipe, input_schema: pa.Schema) -> Graph:
    """Instantiates the stages and resolves every column. Raises RecipeError with place and nearest name."""
    stages = [_instantiate(recipe, entry, name) for entry, name in _named(recipe)]
    notes: list[str] = []
    for index, bound in enumerate(stages):
        notes += _bind(recipe, stages, index)
        bound.added = _added(bound)
    wanted = _wanted(recipe, stages)
    for bound in stages:
        plain = frozenset(a.column.name for a in bound.added if a.name in wanted)
        if plain and not recipe.observe:
            bound.stage.select(plain)
            bound.added = _added(bound)
    graph = Graph(stages, {}, {}, notes=notes)
    _name_input(graph, input_schema)
    _check_columns(graph, recipe)
    _choose_columns(graph, recipe)
    return graph


def _named(recipe: Recipe) -> list[tuple[StageEntry, str]]:
    """Names for unnamed stages: the name of their file; a second unnamed one that adds no columns gets a number."""
    seen: dict[str, int] = {e.name: 1 for e in recipe.stages if e.name}
    found = []
    for entry in recipe.stages:
        name = entry.name or entry.use.rpartition(":")[2].lower()
        if entry.name is None:
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1 and entry.use != "rules":
                raise RecipeError(f"{recipe.where(entry)}: {name} is used twice: give this one a `name:`")
            name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        found.append((entry, name))
    return found


def _instantiate(recipe: Recipe, entry: StageEntry, name: str) -> BoundStage:
    place = recipe.where(entry)
    try:
        cls = stage_class(entry.use)
    except RecipeError as error:
        raise RecipeError(f"{recipe.where(entry, str(error))}: {error}") from None
    try:
        config = cls.Config.model_validate(entry.config)
    except ValidationError as error:
        raise config_error(entry, recipe, error, list(cls.Config.model_fields)) from error
    try:
        stage = cls(config, name=name, seed=recipe.seed)
        if stage.takes is not None:
            stage.take(frozen_facts(*stage.takes))
        earlier = tuple(output_identity(output) for output in getattr(config, "against", ()))
        models = find_models(stage)
        if entry.action is None:
            entry = entry.model_copy(update={"action": stage.default_action})
        return BoundStage(entry, stage, name, place, sole=len(stage.adds) == 1, earlier=earlier, models=models)
    except RecipeError as error:
        raise RecipeError(f"{recipe.where(entry, str(error))}: {error}") from None


def _bind(recipe: Recipe, stages: Sequence[BoundStage], index: int) -> list[str]:
    """Finds, for a preset's plain names, the stage before it that has them; refuses where an edit stands between, and
    where it would drop by a cut that was calibrated for other models. Returns what is worth a note."""
    bound = stages[index]
    notes: list[str] = []
    plain_needs = bound.stage.plain_needs
    if plain_needs:
        names: dict[str, str] = {}
        scored_by: dict[str, tuple[str, ...]] = {}
        earlier = stages[:index]
        if bound.stage.of:
            earlier_names = [b.name for b in earlier]
            if bound.stage.of not in earlier_names:
                raise RecipeError(
                    f"{bound.place}: of: {bound.stage.of}: no earlier stage.{did_you_mean(bound.stage.of, earlier_names)}"
                )
        for plain in sorted(plain_needs):
            owner = _owner(bound, earlier, plain)
            names[plain] = owner.full(plain)
            scored_by[plain] = owner.stage.scored_by
        bound.stage.bind(names)
        why = bound.stage.uncalibrated(scored_by)
        if why and bound.entry.action == "drop":
            raise RecipeError(
                f"{recipe.where(bound.entry, 'action: ')}: action: drop: {why}. Let it tag (`action: tag`), or write a rule of "
                "your own with a cut that you fit, for these models, on text known to be of people"
            )
        notes += [f"{bound.name}: {why}"] if why else []
    where = sql.parse(bound.entry.where, where=f"{bound.place}: where").columns if bound.entry.where else frozenset()
    bound.needs = tuple(dict.fromkeys([*bound.stage.needs, *sorted(where)]))
    return notes


def _owner(bound: BoundStage, earlier: Sequence[BoundStage], plain: str) -> BoundStage:
    edits: list[BoundStage] = []
    named = [b for b in earlier if b.name == bound.stage.of and b.adds(plain)]
    if named:
        return named[0]
    if bound.stage.of and "*" in plain:  # no other stage can be meant; a preset's columns may come from several
        raise RecipeError(f"{bound.place}: of: {bound.stage.of}: adds no column {plain}")
    for candidate in reversed(earlier):
        if candidate.adds(plain):
            if edits and candidate.stage.kind == "measure" and "text" in candidate.stage.needs:
                raise RecipeError(
                    f"{bound.place}: reads {plain} of {candidate.name}, but {edits[-1].name} changed the text since: "
                    f"add `- use: {candidate.use}` with a `name:` before this line, or say `of: {candidate.name}`"
                )
            return candidate
        if candidate.stage.kind == "edit":
            edits.append(candidate)
    does = "a stage that does" if "*" in plain else "`- use: text_signals` or the stage that does"
    raise RecipeError(f"{bound.place}: nothing before it adds {plain}: add {does}")


def _added(bound: BoundStage) -> tuple[Added, ...]:
    columns = bound.stage.adds
    name = bound.name if bound.stage.bears_name else bound.entry.name
    if name is None:
        return tuple(Added(c.name, c) for c in columns)
    if bound.sole:
        return (Added(name, columns[0]),)
    return tuple(Added(f"{name}_{c.name}", c) for c in columns)


def _wanted(recipe: Recipe, stages: Sequence[BoundStage]) -> set[str]:
    wanted = {name for bound in stages for name in bound.needs}
    return wanted | written_columns(recipe.write)


def _name_input(graph: Graph, schema: pa.Schema) -> None:
    """Input columns keep their names, except where a system or measured column bears the same one; the output of an
    earlier run may hold `words` and `input_words` by now, and then `input_` is put in front once more."""
    own = {a.name for a in graph.measured} | RESERVED
    own |= {f"{b.name}_changed" for b in graph.stages if b.stage.kind == "edit"}
    own |= {f"{b.name}_pass" for b in graph.stages if b.entry.action == "tag"}
    for column in schema:
        name = column.name
        if name in ("url", "date", "text"):
            continue
        if name in own:
            while name in own or name in schema.names:
                name = f"input_{name}"
            graph.notes.append(
                f"the input column {column.name} is kept as {name}, because the run has its own {column.name}"
            )
        graph.input_names[name] = column.name
        graph.input_types[name] = column.type


def _check_columns(graph: Graph, recipe: Recipe) -> None:
    types: dict[str, pa.DataType] = {**SYSTEM_COLUMNS, **graph.input_types}
    owners: dict[str, str] = dict.fromkeys(types, "the input")
    later = {a.name: bound for bound in graph.stages for a in bound.added}
    edits: list[BoundStage] = []
    version: dict[str, int] = {}  # of the text that a column was measured on: how many edits stand before it
    for bound in graph.stages:
        if bound.stage.wishes:
            granted = [name for name in bound.stage.wishes if name in types]
            bound.stage.grant(granted)
            bound.needs = tuple(dict.fromkeys([*bound.needs, *granted]))
        for name in bound.needs:
            if name in types:
                continue
            if name in later:
                raise RecipeError(
                    f"{bound.place}: {name} is added only later, by {later[name].place}: move that stage up"
                )
            raise RecipeError(f"{bound.place}: no column {name}.{did_you_mean(name, types)}")
        for name in bound.stage.of_text:
            _check_version(bound, name, owners.get(name, "this recipe"), edits[version.get(name, 0) :])
        schema = pa.schema([(name, types[name]) for name in bound.needs])
        try:
            bound.stage.check(schema)
            if bound.entry.where:
                sql.check_types({"where": bound.entry.where}, {}, schema, where=bound.place, boolean=True)
        except RecipeError as error:
            raise RecipeError(f"{recipe.where(bound.entry, str(error))}: {error}") from None
        for added in bound.added:
            if added.name in owners or added.name in RESERVED:
                owner = owners.get(added.name, "Tamis itself")
                raise RecipeError(
                    f"{bound.place}: the column {added.name} exists already, from {owner}: give this stage another `name:`"
                )
            types[added.name] = added.column.type
            owners[added.name] = bound.place
            version[added.name] = len(edits)
        if bound.stage.kind == "edit":
            edits.append(bound)
        if bound.entry.action == "tag" and bound.stage.kind in ("decide", "resolve"):
            types[f"{bound.name}_pass"] = pa.bool_()


def _check_version(bound: BoundStage, name: str, owner: str, since: Sequence[BoundStage]) -> None:
    """Refuses a column of another text version. `since`: the edits behind the stage that measured it, in order."""
    if not since:
        return
    if since[0].stage.of_text:
        way = f"give both one stage: `spans: [{', '.join(dict.fromkeys([*since[0].stage.of_text, name]))}]`"
    else:
        way = f"move one of the two, so that nothing edits between {owner} and this stage"
    raise RecipeError(
        f"{bound.place}: {name}, from {owner}, belongs to the text before {since[0].place}, which changes it: {way}"
    )


def _choose_columns(graph: Graph, recipe: Recipe) -> None:
    """Which input columns the first pass decodes, which the attributes carry, which the shards show."""
    edits = [bound.name for bound in graph.stages if bound.stage.kind == "edit"]
    tags = [b.name for b in graph.stages if b.entry.action == "tag" and b.stage.kind in ("decide", "resolve")]
    shown = {a.name: a.column.type for a in graph.measured if a.column.ledger}
    others = {a.name: a.column.type for a in graph.measured if not a.column.ledger}
    system = {name: kind for name, kind in SYSTEM_COLUMNS.items() if name not in ("text", "bytes", "chars")}
    flags = {**{f"{name}_changed": pa.bool_() for name in edits}, **{f"{name}_pass": pa.bool_() for name in tags}}
    ledger = {**system, **graph.input_types, **FATE, **shown, **flags}
    other = {**others, **{name: SYSTEM_COLUMNS[name] for name in ("text", "bytes", "chars")}}
    flat = [name for name, kind in shown.items() if not pa.types.is_nested(kind)]  # spans are for the ledger
    default = ["url", "date", *graph.input_types, *flat, *(f"{name}_pass" for name in tags)]
    graph.write = bind_write(recipe, ledger, other, default)
    needed = {name for bound in graph.stages for name in bound.needs}
    chosen = {name for written in graph.write.sets for name in written.columns} | set(recipe.write.partition)
    # by its origin people find a document of an earlier run
    grouped = set(recipe.report.by) | chosen | {"origin_file", "origin_row"}
    graph.read_columns = [name for name in graph.input_types if name in needed | graph.write.reads | grouped]
    graph.carried = [name for name in graph.read_columns if name in needed | grouped]
