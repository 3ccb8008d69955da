"""The listing: every input file with its size, version, row groups and columns; all that a plan sees of the input.

Invariant: files are in order of their names, whatever order the file system lists them in, and a listing that was
saved and loaded is equal to the one that was gathered.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from ..stages.errors import DataError, RecipeError, SetupError, did_you_mean
from .footers import Footer, RowGroup, read_footers
from .globs import Found, find_files, format_of
from .input_runs import InputRun, Runs
from .schema import (
    EXTRA,
    RESERVED,
    VIA,
    Roles,
    Union,
    can_label,
    canonical,
    castable,
    named_type,
    parsed_type,
    passed_name,
    roles,
)
from .storage import InputStream, storage_for

Tag = str | int | float | bool
SOURCE = "source"  # of several sources, each one's name, where the input does not say it itself


class Source(BaseModel):
    """One source of the recipe's `input`. Column names are those of the files, before `rename`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: str | list[str] = Field(
        description="glob, folder or list of them; any fsspec URL; {dump} in a path makes a column; an output of Tamis"
    )
    name: str | None = Field(default=None, description="goes in front of the files' names; needed with several sources")
    root: str | None = Field(default=None, description="folder below which files are named (default: before the glob)")
    format: Literal["parquet", "jsonl"] | None = Field(default=None, description="default: by the ending of the name")
    text: str = Field(default="text", description="column of the text")
    id: str | None = Field(default=None, description="column of the doc_id (default: id where there is one)")
    url: str | None = Field(default=None, description="column of the URL (default: url where there is one)")
    date: str | None = Field(default=None, description="column of the date (default: date where there is one)")
    rename: dict[str, str] = Field(default={}, description="column in the files -> its name in this run")
    tags: dict[str, Tag] = Field(default={}, description="columns with one value for the whole source")
    columns: dict[str, str] = Field(
        default={}, description="column -> type: string, int64, double, list<string>; keys of JSON Lines to read"
    )


@dataclass(frozen=True)
class InputFile:
    """A file of the input. `name` is its `source_file`; `error`: why nothing of it can be read; `note`: what a person
    may want to know (0 bytes); `tags`: columns with one value for the file; `counted`: False where the footer was not
    read because the listing was limited, so `groups` is empty; `run`: index of the run of Tamis that wrote it,
    `run_file`: its path below that run."""

    source: int
    name: str
    url: str
    size: int
    version: str
    format: str
    groups: tuple[RowGroup, ...] = ()
    error: str | None = None
    note: str | None = None
    tags: dict[str, Tag | None] = field(default_factory=dict)
    counted: bool = True
    run: int | None = None
    run_file: str | None = None


@dataclass(frozen=True)
class Listing:
    """`files` in order of name; `columns`: the input schema after rename, with path columns and tags, without the text,
    url and date that every batch has; `packs`: names of small files that earlier runs read together as one unit;
    `runs`: the runs of Tamis that files came through."""

    files: tuple[InputFile, ...]
    columns: pa.Schema
    packs: tuple[tuple[str, ...], ...] = ()
    runs: tuple[InputRun, ...] = ()

    def to_json(self) -> str:
        files = [asdict(file) | {"groups": [[*asdict(g).values()] for g in file.groups]} for file in self.files]
        columns = base64.b64encode(self.columns.serialize()).decode()
        runs = [asdict(run) for run in self.runs]
        return json.dumps({"columns": columns, "packs": self.packs, "runs": runs, "files": files})

    def run_of(self, file: InputFile) -> InputRun | None:
        """The run that wrote the file."""
        return None if file.run is None else self.runs[file.run]

    @classmethod
    def from_json(cls, text: str | bytes) -> Listing:
        data = json.loads(text)
        files = [
            InputFile(**(file | {"groups": tuple(RowGroup(*g) for g in file["groups"])})) for file in data["files"]
        ]
        columns = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(data["columns"])))
        runs = tuple(InputRun(**run) for run in data["runs"])
        return cls(tuple(files), columns, tuple(tuple(pack) for pack in data["packs"]), runs)


def list_input(sources: Sequence[Source], *, max_footers: int | None = None) -> Listing:
    """Finds the files of all sources and reads the Parquet footers, at most `max_footers` of them, spread evenly.

    Raises RecipeError where nothing matches, two files get one name, a file has no text column, or a column has types
    in two files that no type holds both; SetupError where the storage cannot be reached.
    """
    named = sorted(_named_files(sources), key=lambda file: file[0])
    for (name, _, one), (other, _, two) in pairwise(named):
        if name == other:
            raise RecipeError(f"input: {one.url} and {two.url} would both be called {name}; set root: or name:")
    formats = [format_of(found.url, sources[source], _where(sources, source)) for _, source, found in named]
    with_footer = [
        (found.url, sources[source].text)
        for (_, source, found), kind in zip(named, formats)
        if kind == "parquet" and found.size
    ]
    footers = read_footers(_spread(with_footer, max_footers))

    union = Union()
    seen: list[set[str]] = [set() for _ in sources]
    own_roles: dict[str, Roles] = {}
    empty: list[tuple[str, Roles, pa.Schema]] = []
    for (name, source, found), kind in zip(named, formats):
        footer = footers.get(found.url)
        if kind == "jsonl":
            for column, (_, column_type) in jsonl_columns(sources[source], found.run, name).items():
                union.add(column, column_type, name)
        elif isinstance(footer, Footer):
            names = footer.schema.names
            has_rows = any(group.rows for group in footer.groups)
            if has_rows or sources[source].text in names:
                own_roles[name] = roles(sources[source], names, name, through=found.run is not None)
                seen[source].update(names)
            if has_rows:
                _add_parquet(union, sources[source], own_roles[name], footer.schema, name)
            elif name in own_roles:
                empty.append((name, own_roles[name], footer.schema))
    for name, file_roles, schema in empty:  # without values, so their types decide nothing where another file has some
        for out, column in file_roles.passed.items():
            if out not in union:
                union.add(out, canonical(schema.field(column).type), name)
    sourced = _without_source(sources, union, [own_roles.get(name) for name, _, _ in named], named)

    runs = list(dict.fromkeys(found.run.root for _, _, found in named if found.run))
    by_root = {found.run.root: found.run for _, _, found in named if found.run}
    files = []
    for (name, source, found), kind in zip(named, formats):
        footer = footers.get(found.url)
        tags = _tags(sources[source], found, own_roles.get(name), name)
        if source in sourced:
            tags[SOURCE] = sources[source].name
        for column, value in tags.items():
            union.add(column, _tag_type(value), name)
        files.append(
            InputFile(
                source=source,
                name=name,
                url=found.url,
                size=found.size,
                version=found.version,
                format=kind,
                groups=footer.groups if isinstance(footer, Footer) else (),
                error=footer if isinstance(footer, str) else None,
                note="0 bytes" if found.size == 0 else None,
                tags=tags,
                counted=kind == "jsonl" or found.size == 0 or footer is not None,
                run=runs.index(found.run.root) if found.run else None,
                run_file=found.run_file,
            )
        )
    if all(file.counted for file in files):
        _check_named_columns(sources, seen)
    return Listing(tuple(files), union.schema(), runs=tuple(by_root[root] for root in runs))


def _without_source(
    sources: Sequence[Source], union: Union, own: Sequence[Roles | None], named: Sequence[tuple[str, int, Found]]
) -> set[int]:
    """The sources whose name becomes the column `source`: there are several, and no file of theirs says a source
    itself. None where other files have a `source` that is no string."""
    if len(sources) < 2 or union.type_of(SOURCE) not in (None, pa.null(), pa.string()):
        return set()
    have = {
        index
        for (_, index, found), file_roles in zip(named, own)
        if SOURCE in {*(file_roles.passed if file_roles else ()), *found.path_columns, *found.folders}
        or SOURCE in sources[index].tags
        or (file_roles is None and SOURCE in jsonl_columns(sources[index], found.run, found.url))
    }
    return set(range(len(sources))) - have


def current_version(file: InputFile) -> str:
    """The version that the file has now. DataError where it is gone."""
    storage, path = storage_for(file.url)
    try:
        return storage.version(path)
    except FileNotFoundError as error:
        raise DataError(f"{file.url} is gone since it was measured") from error


def check_version(file: InputFile) -> None:
    """DataError where the file is not the one that was listed: positions and sums would no longer hold."""
    if current_version(file) != file.version:
        raise DataError(f"{file.url} changed since it was measured; start over with another output")


def open_listed(file: InputFile) -> InputStream:
    """Opens a file of the listing. DataError where it changed or is gone."""
    check_version(file)
    storage, path = storage_for(file.url)
    try:
        return storage.open(path)
    except FileNotFoundError as error:
        raise DataError(f"{file.url} is gone since it was measured") from error


def stop_if_unreadable(stream: InputStream, file: InputFile, error: BaseException) -> None:
    """A disk or network that fails is not the file's fault, so nothing may be quarantined for it: DataError where the
    file changed meanwhile, else SetupError. Returns where all bytes were delivered."""
    if stream.failure is not None:
        check_version(file)
        raise SetupError(f"{file.url}: cannot be read: {stream.failure}") from error


def jsonl_columns(source: Source, run: InputRun | None = None, file: str = "") -> dict[str, tuple[str, pa.DataType]]:
    """Columns that a JSON Lines file has in this run: name -> (key in the lines, type). The id, the keys that the recipe
    renames or gives a type, and `extra` for all others; for a file that Tamis wrote, the columns that the run wrote."""
    if run is not None and run.columns:
        return _run_columns(source, run, file)
    id_name = source.id or "id"
    found = {passed_name(source, id_name): (id_name, pa.string())}
    for name in (*source.rename, *source.columns):
        if name not in (source.text, source.url or "url", source.date or "date"):
            kind = source.columns.get(name, "string")
            found[passed_name(source, name)] = (name, named_type(kind, f"input: columns: {name}"))
    if EXTRA in found:
        raise RecipeError(f"input: {EXTRA!r} is the column of all other keys of a JSON line; rename yours")
    return {**found, EXTRA: ("", pa.string())}


def _run_columns(source: Source, run: InputRun, file: str) -> dict[str, tuple[str, pa.DataType]]:
    found: dict[str, tuple[str, pa.DataType]] = {}
    for out, name in roles(source, list(run.columns), file, through=True).passed.items():
        asked = source.columns.get(name)
        kind = parsed_type(run.columns[name]) if asked is None else named_type(asked, f"input: columns: {name}")
        if kind is not None:
            found[out] = (name, kind)
    return {**found, EXTRA: ("", pa.string())} if EXTRA not in found else found


def _where(sources: Sequence[Source], index: int) -> str:
    return "input" if len(sources) == 1 else f"input: source {sources[index].name or index + 1}"


def _named_files(sources: Sequence[Source]) -> list[tuple[str, int, Found]]:
    if not sources:
        raise RecipeError("input: no source")
    named = []
    runs = Runs()
    for index, source in enumerate(sources):
        where = _where(sources, index)
        if len(sources) > 1 and not source.name:
            raise RecipeError(f"{where}: with several sources each needs a name:, which goes in front of its files")
        if len(sources) > 1 and "/" in (source.name or ""):
            raise RecipeError(f"{where}: a name has no '/'")
        prefix = f"{source.name}/" if len(sources) > 1 else ""
        named += [(prefix + found.below, index, found) for found in find_files(source, where, runs)]
    return named


def _spread(items: Sequence[tuple[str, str]], most: int | None) -> list[tuple[str, str]]:
    """At most `most` of the items, evenly spaced: the first files of a crawl are not like the others."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def _add_parquet(union: Union, source: Source, found: Roles, schema: pa.Schema, file: str) -> None:
    """Adds the passed columns of a Parquet file, and checks the types of the text, id, url and date."""
    text = canonical(schema.field(found.text).type)
    if text not in (pa.string(), pa.binary(), pa.null()):
        raise RecipeError(f"{file}: the text column {found.text!r} is {text}, not a string; name another: input: text:")
    for part, name in (("id", found.id), ("url", found.url), ("date", found.date)):
        if name is not None and not can_label(schema.field(name).type):
            kind = schema.field(name).type
            raise RecipeError(
                f"{file}: column {name!r} is {kind} and cannot be the {part}; name another: input: {part}:"
            )
    for out, name in found.passed.items():
        kind = canonical(schema.field(name).type)
        if name in source.columns:
            asked = named_type(source.columns[name], f"input: columns: {name}")
            if not castable(schema.field(name).type, asked):
                raise RecipeError(f"{file}: input: columns: {name}: {kind} cannot be made {asked}")
            kind = asked
        union.add(out, kind, file)


def _tags(source: Source, found: Found, file_roles: Roles | None, file: str) -> dict[str, Tag | None]:
    """Columns with one value for the whole file: the run it came through, its key=value folders, its path columns, the
    source's tags. A column in the file itself goes before a folder of that name; with the others it is a mistake."""
    own = file_roles.passed if file_roles else {}
    tags: dict[str, Tag | None] = {VIA: found.run.name} if found.run and VIA not in own else {}
    for folder, value in found.folders.items():
        out = passed_name(source, folder)
        if out not in own:
            tags[out] = value
    for name, value in (*found.path_columns.items(), *source.tags.items()):
        if name in RESERVED:
            raise RecipeError(f"input: {name!r} is a column of Tamis itself; choose another name for the tag")
        if name in own:
            raise RecipeError(
                f"{file}: has a column {name!r} already; rename one: input: rename: {{{name}: {name}_given}}"
            )
        tags[name] = value
    return tags


def _tag_type(value: Tag | None) -> pa.DataType:
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(type(value), pa.string())  # type: ignore[arg-type]


def _check_named_columns(sources: Sequence[Source], seen: Sequence[set[str]]) -> None:
    """A column that the recipe names must exist in some file of its source; `rename` of an absent one is ignored."""
    for index, (source, names) in enumerate(zip(sources, seen)):
        asked = {
            "id": source.id,
            "url": source.url,
            "date": source.date,
            **{f"columns: {c}": c for c in source.columns},
        }
        for key, name in asked.items():
            if names and name is not None and name not in names:
                where = _where(sources, index)
                raise RecipeError(f"{where}: {key}: no file has a column {name!r}.{did_you_mean(name, names)}")
