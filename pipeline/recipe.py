"""The recipe: YAML in, validated models out; every error names file, line, key and the nearest valid name.

Invariant: a Recipe holds everything that decides results, and nothing that does not (no paths of this machine besides
input and output, no worker counts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, field_validator

from ..stages._units import SHARE_SCHEMA, SIZE_SCHEMA, share, size_bytes
from ..stages.base import stage_class
from ..stages.errors import RecipeError, did_you_mean
from .bases import OWN, apply_setting, fill_paths, with_bases
from .listing import Source
from .located import Located, located, read_located

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
SizeBytes = Annotated[int, BeforeValidator(size_bytes), WithJsonSchema(SIZE_SCHEMA)]
Share = Annotated[float, BeforeValidator(share), WithJsonSchema(SHARE_SCHEMA)]
STAGE_KEYS = ("use", "name", "where", "action")


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageEntry(Model):
    """One entry of `stages:`: the four keys that every stage takes, and the rest, which its own config validates.

    `place` and `places` (by dotted key): file and line, for messages only."""

    use: str = Field(description="name of a stage, or my_package.module:Class")
    name: str | None = Field(
        default=None, description="prefix of the stage's columns and rules; needed where a stage is used twice"
    )
    where: str | None = Field(default=None, description="SQL over columns: the stage leaves other rows as they are")
    action: Literal["drop", "tag"] | None = Field(
        default=None,
        description="tag: drop nobody, add the boolean column <name>_pass (decide and resolve stages); default: drop, or "
        "what a preset says; in a plan it is never null",
    )
    config: dict[str, Any] = {}
    place: str = Field(default="", exclude=True)
    places: dict[str, str] = Field(default={}, exclude=True)


class WrittenSet(Model):
    """One of several sets that a run writes: documents for which `where` is true, or a sample of them."""

    where: str | None = Field(
        default=None, description="SQL over ledger columns, also of dropped documents (default: kept documents)"
    )
    sample: Share | None = Field(default=None, description="share drawn by seed, set name and doc_id: 0.1%")


SetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Write(Model):
    """What is written below data/. `places` (by dotted key): file and line, for messages only."""

    columns: list[str] | None = Field(
        default=None, description="names, or `expression AS name` (default: all input columns and scores)"
    )
    partition: list[str] = Field(default=[], description="columns whose values make folders: data/lang=en/")
    format: Literal["parquet", "jsonl.zst"] = Field(default="parquet", description="parquet or jsonl.zst")
    shard_size: SizeBytes | None = Field(
        default=None, description="text in one file: 256MB (default: a 64th of the text, 16 to 256 MB)"
    )
    sets: dict[SetName, WrittenSet] = Field(default={}, description="several written sets, each in data/NAME/")
    places: dict[str, str] = Field(default={}, exclude=True)

    @field_validator("sets", mode="before")
    @classmethod
    def _empty_sets(cls, given: Any) -> Any:
        """`main:` with nothing behind it is a set with all defaults."""
        return {k: {} if v is None else v for k, v in given.items()} if isinstance(given, dict) else given


class Report(Model):
    """What the report and the ledger are grouped by."""

    by: list[str] = Field(
        default=["source", "dump", "lang", "via"], description="columns of the groups, as far as the run has them"
    )
    pages: bool = Field(default=True, description="whether report.html and README.md are made at the end of a run")


class Recipe(Model):
    """A whole job. `path` and places are for messages only."""

    name: str = Field(description="what the job is called; a later run shows it in the column via")
    input: list[Source] = Field(description="one source, or a list of sources with names")
    output: str = Field(description="folder or URL that the run writes; $name is a value of vars")
    work: str | None = Field(default=None, description="folder of the intermediate files (default: <output>/work)")
    seed: int = Field(default=0, description="decides every random draw, together with the document")
    unit_size: SizeBytes = Field(default=128_000_000, description="text that is computed and committed at once: 128MB")
    max_doc: SizeBytes = Field(default=64_000_000, description="a longer document is set aside: 64MB")
    max_bad: Share = Field(default=0.01, description="share of rows or bytes that may be set aside: 1%")
    strict: bool = Field(default=False, description="exit 1 where anything in the run is silent or suspicious")
    observe: bool = Field(default=False, description="measure and decide everything, drop and write no document")
    sample: Share | None = Field(default=None, description="only documents whose draw is below this share: 0.1%")
    units: int | None = Field(default=None, ge=1, description="only so many units, spread evenly over the input")
    keep_work: Literal["all", "signatures", "none"] = Field(
        default="all",
        description="which intermediate files stay after the run; signatures: what `against` of a later run reads",
    )
    differs: list[str] = Field(default=[], description="what a recipe named after a published one does otherwise")
    stages: list[StageEntry] = Field(default=[], description="what is done, in this order")
    write: Write = Write()
    report: Report = Report()
    path: str = Field(default="", exclude=True)

    def where(self, entry: StageEntry, message: str = "") -> str:
        """'recipe.yaml:12 (text_signals)' for messages about a stage; the line of the key that the message begins with
        (`set: gopher.words: ...`), as far as it is one."""
        found, key = entry.place or self.path or self.name, ""
        for word in message.split(": "):
            longer = f"{key}.{word.partition('. ')[0]}".lstrip(".")
            if longer not in entry.places:
                break
            found, key = entry.places[longer], longer
        return f"{found} ({entry.name or entry.use})"

    def resolved(self) -> dict[str, Any]:
        """The recipe as plain data, defaults filled in; what the manifest stores."""
        return self.model_dump(mode="json")


def load_recipe(
    path: str | Path,
    *,
    settings: Sequence[str] = (),
    input: Sequence[str] = (),
    output: str | None = None,
) -> Recipe:
    """Reads and validates a recipe file, local or at a URL. `settings` are `NAME.key=value`; `input` replaces the files of
    the only source.

    Raises RecipeError.
    """
    return _build(read_located(path), str(path), settings, input, output)


def parse_recipe(
    data: Mapping[str, Any],
    *,
    path: str = "recipe",
    settings: Sequence[str] = (),
    input: Sequence[str] = (),
    output: str | None = None,
) -> Recipe:
    """Validates a recipe given as data; see `load_recipe`. A relative `base:` is looked for beside `path`."""
    return _build(located(data, path), path, settings, input, output)


def _build(tree: Located, path: str, settings: Sequence[str], input: Sequence[str], output: str | None) -> Recipe:
    """Bases, then --set, then --input and --output, then `$name`."""
    tree = with_bases(tree, Path(path).parent, (Path(path).resolve(),))
    for setting in settings:
        apply_setting(tree, setting, [*_valid_keys([]), "vars"])
    _list_sources(tree)
    if input:
        sources = tree.get("input") or [{}]
        if not isinstance(sources, list) or len(sources) != 1:
            raise RecipeError(f"{path}: --input needs a recipe with one source; this one has {len(sources)}")
        changed = {**sources[0], "files": list(input), "root": None}
        tree.value["input"] = located([changed], "--input")
    if output:
        tree.value["output"] = Located(output, "--output")
    fill_paths(tree)
    for keys in (("path",), ("write", "places")):  # fields that are for messages only
        section = tree.get(keys[0]) if len(keys) > 1 else tree.value
        if isinstance(section, dict) and keys[-1] in section:
            valid = did_you_mean(keys[-1], _valid_keys(keys[:-1]))
            raise RecipeError(f"{tree.at(*keys)}: {'.'.join(keys)}: unknown key.{valid}")
    stages = _split_stages(tree)
    try:
        return Recipe.model_validate({**_with_places(tree), "stages": stages, "path": path})
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(item, tree) for item in error.errors())) from error


def _with_places(tree: Located) -> dict[str, Any]:
    """The plain recipe, `write` with the places of its keys."""
    plain = tree.plain()
    write = tree.value.get("write")
    if write is not None and isinstance(write.value, dict):
        plain["write"] |= {"places": dict(write.places())}
    return plain


def _list_sources(tree: Located) -> None:
    """`input` as a list, however it is written: a path, one source, a list of sources."""
    given = tree.value.get("input")
    if given is not None and isinstance(given.value, str):
        given = Located({"files": given}, given.place)
    if given is not None and isinstance(given.value, dict):
        tree.value["input"] = Located([given], given.place)


def _split_stages(tree: Located) -> list[dict[str, Any]]:
    """Every stage's own config apart from the keys that every stage takes."""
    stages = tree.value.get("stages") or Located([], tree.place)
    if not isinstance(stages.value, list):
        raise RecipeError(f"{stages.place}: stages is a list of mappings, each with `use:`")
    taken: set[str] = set()
    found = []
    for entry in stages.value:
        plain = {"use": entry.value} if isinstance(entry.value, str) else entry.plain()
        if not isinstance(plain, dict) or not isinstance(plain.get("use"), str):
            raise RecipeError(f"{entry.place}: a stage is a mapping with `use:`")
        name = plain.get("name")
        common = [key for key in STAGE_KEYS if key not in _own_keys(plain["use"])]
        if name is not None and not (isinstance(name, str) and NAME.match(name)):
            raise RecipeError(
                f"{entry.at('name')}: name: {name!r} must match [a-z][a-z0-9_]*, because people write it in SQL"
            )
        if name is not None and name in taken:
            raise RecipeError(f"{entry.at('name')}: two stages are named {name}; give one another name")
        taken.add(name or plain["use"])
        stage: dict[str, Any] = {key: plain.pop(key) for key in common if key in plain}
        found.append({**stage, "config": plain, "place": entry.place, "places": dict(entry.places())})
    return found


def _own_keys(use: str) -> set[str]:
    """Of the keys that every stage takes, those that this one takes in another meaning (`where` of `cut_spans`)."""
    try:
        return set(stage_class(use).Config.model_fields).intersection(STAGE_KEYS)
    except RecipeError:  # told with its place when the stages are made
        return set()


def _explain(item: Any, tree: Located) -> str:
    keys = [k for k in item["loc"] if k != "config"]
    key = ".".join(str(k) for k in keys)
    if item["type"] == "extra_forbidden":
        valid = [*_valid_keys(keys[:-1]), *(OWN if len(keys) == 1 else ())]
        return f"{tree.at(*keys)}: {key}: unknown key.{did_you_mean(str(keys[-1]), valid)}"
    if item["type"] == "missing":
        return f"{tree.at(*keys)}: {key}: is required"
    return f"{tree.at(*keys)}: {key}: {item['msg'].removeprefix('Value error, ')}"


def _valid_keys(keys: Sequence[Any]) -> list[str]:
    """The keys that the mapping at this place takes."""
    model: Any = Recipe
    for key in keys:
        if isinstance(key, str) and key in getattr(model, "model_fields", {}):
            model = model.model_fields[key].annotation
        while not isinstance(model, type):  # list[Source], Write | None, dict[str, WrittenSet]
            inner = [one for one in get_args(model) if one is not type(None)]
            if not inner:
                break
            model = inner[-1]
    fields = [name for name, field in getattr(model, "model_fields", {}).items() if not field.exclude]
    return fields


def config_error(entry: StageEntry, recipe: Recipe, error: ValidationError, valid: Sequence[str]) -> RecipeError:
    """The message for a stage config that its own model refused."""
    found = []
    for item in error.errors():
        key = ".".join(str(k) for k in item["loc"])
        if item["type"] == "extra_forbidden":
            text = f"{key}: unknown key.{did_you_mean(key, {*valid, *STAGE_KEYS})}"
        else:
            text = (f"{key}: " if key else "") + item["msg"].removeprefix("Value error, ")
        found.append(f"{_where_key(entry, recipe, item['loc'])}: {text}")
    return RecipeError("\n".join(found))


def _where_key(entry: StageEntry, recipe: Recipe, keys: Sequence[Any]) -> str:
    return recipe.where(entry, ": ".join(str(key) for key in keys))
