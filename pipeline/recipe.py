"""The recipe: YAML in, validated models out; every error names file, line, key and the nearest valid name.

Invariant: a Recipe holds everything that decides results, and nothing that does not (no paths of this machine besides
input and output, no worker counts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from ..stages._units import share, size_bytes
from ..stages.errors import RecipeError, did_you_mean
from .listing import Source

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
SizeBytes = Annotated[int, BeforeValidator(size_bytes)]
Share = Annotated[float, BeforeValidator(share)]
STAGE_KEYS = ("use", "name", "where", "action")


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageEntry(Model):
    """One entry of `stages:`: the four keys that every stage takes, and the rest, which its own config validates."""

    use: str
    name: str | None = None
    where: str | None = None
    action: Literal["drop", "tag"] = "drop"
    config: dict[str, Any] = {}
    line: int = Field(default=0, exclude=True)


class Write(Model):
    """What the curated shards hold. `columns`: names, or `expression AS name`; default all input columns and scores."""

    columns: list[str] | None = None
    shard_size: SizeBytes | None = None


class Report(Model):
    by: list[str] = ["source", "dump", "lang"]


class Recipe(Model):
    """A whole job. `path` and lines are for messages only."""

    name: str
    input: list[Source]
    output: str
    work: str | None = None
    seed: int = 0
    unit_size: SizeBytes = 128_000_000
    max_doc: SizeBytes = 64_000_000
    max_bad: Share = 0.01
    strict: bool = False
    observe: bool = False
    sample: Share | None = None
    units: int | None = Field(default=None, ge=1)
    keep_work: Literal["all", "none"] = "all"
    differs: list[str] = []
    stages: list[StageEntry] = []
    write: Write = Write()
    report: Report = Report()
    path: str = Field(default="", exclude=True)

    def where(self, entry: StageEntry) -> str:
        """'recipe.yaml:12 (text_signals)' for messages about a stage."""
        place = f"{self.path}:{entry.line}" if entry.line else self.path or self.name
        return f"{place} ({entry.name or entry.use})"

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
    """Reads and validates a recipe file. `settings` are `NAME.key=value`; `input` replaces the files of the only source.

    Raises RecipeError.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from error
    try:
        data = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with the keys name, input, output, stages")
    return parse_recipe(data, path=str(path), settings=settings, input=input, output=output)


def parse_recipe(
    data: Mapping[str, Any],
    *,
    path: str = "recipe",
    settings: Sequence[str] = (),
    input: Sequence[str] = (),
    output: str | None = None,
) -> Recipe:
    """Validates a recipe given as data; see `load_recipe`."""
    lines = _Lines(path, data)
    plain: dict[str, Any] = _plain(data)
    if isinstance(plain.get("input"), dict):
        plain["input"] = [plain["input"]]
    elif isinstance(plain.get("input"), str):
        plain["input"] = [{"files": plain["input"]}]
    if input:
        sources = plain.get("input") or [{}]
        if not isinstance(sources, list) or len(sources) != 1:
            raise RecipeError(f"{path}: --input needs a recipe with one source; this one has {len(sources)}")
        plain["input"] = [{**sources[0], "files": list(input), "root": None}]
    if output:
        plain["output"] = output
    _split_stages(plain, lines)
    for setting in settings:
        _apply_setting(plain, setting)
    plain["path"] = path
    try:
        return Recipe.model_validate(plain)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(item, lines) for item in error.errors())) from error


def _split_stages(plain: dict[str, Any], lines: _Lines) -> None:
    """Separates each stage's own config from the keys that every stage takes; gives unnamed stages their names."""
    stages = plain.get("stages", [])
    if not isinstance(stages, list):
        raise RecipeError(f"{lines.at('stages')}: stages is a list of mappings, each with `use:`")
    taken: set[str] = set()
    for index, entry in enumerate(stages):
        at = lines.at("stages", index)
        if isinstance(entry, str):
            entry = {"use": entry}
        if not isinstance(entry, dict) or not isinstance(entry.get("use"), str):
            raise RecipeError(f"{at}: a stage is a mapping with `use:`")
        config = {k: v for k, v in entry.items() if k not in STAGE_KEYS}
        stage = {k: entry[k] for k in STAGE_KEYS if k in entry}
        name = stage.get("name")
        if name is not None and not (isinstance(name, str) and NAME.match(name)):
            raise RecipeError(f"{at}: name: {name!r} must match [a-z][a-z0-9_]*, because people write it in SQL")
        if name is not None and name in taken:
            raise RecipeError(f"{at}: two stages are named {name}; give one another name")
        taken.add(name or stage["use"])
        stages[index] = {**stage, "config": config, "line": lines.line("stages", index)}


def _apply_setting(plain: dict[str, Any], setting: str) -> None:
    """`NAME.key=value` sets a stage's key, `key=value` or `write.key=value` the recipe's; value is YAML."""
    target, equals, value_text = setting.partition("=")
    if not equals:
        raise RecipeError(f"--set {setting}: write NAME.key=value or key=value")
    value = YAML(typ="safe", pure=True).load(value_text)
    head, *rest = target.split(".")
    stages = [s for s in plain.get("stages", []) if (s.get("name") or s["use"]) == head]
    if not rest:
        plain[head] = value
        return
    if stages and len(stages) > 1:
        raise RecipeError(f"--set {setting}: {len(stages)} stages are called {head}; name them in the recipe")
    if stages and rest[0] in STAGE_KEYS:
        stages[0][rest[0]] = value
        return
    place = stages[0]["config"] if stages else plain.setdefault(head, {}) if head in Recipe.model_fields else None
    if not isinstance(place, dict):
        names = [s.get("name") or s["use"] for s in plain.get("stages", [])] + list(Recipe.model_fields)
        raise RecipeError(f"--set {setting}: no stage or section {head}.{did_you_mean(head, names)}")
    if stages and rest[0] == "set":  # a preset's parameter has a dot in its name: set.gopher_quality.words_min
        place.setdefault("set", {})[".".join(rest[1:])] = value
        return
    for key in rest[:-1]:
        place = place.setdefault(key, {})
    place[rest[-1]] = value


class _Lines:
    """Where in the file a key stands."""

    def __init__(self, path: str, data: Any) -> None:
        self.path, self.data = path, data

    def line(self, *keys: Any) -> int:
        """1-based line of the deepest of these keys that the file has; 0 if unknown."""
        node, line = self.data, 0
        for key in keys:
            marks = getattr(node, "lc", None)
            try:
                if isinstance(node, dict) and key in node:
                    line = marks.key(key)[0] + 1 if marks else line
                    node = node[key]
                elif isinstance(node, list) and isinstance(key, int):
                    line = marks.item(key)[0] + 1 if marks else line
                    node = node[key]
            except (AttributeError, KeyError, IndexError, TypeError):
                break
        return line

    def at(self, *keys: Any) -> str:
        line = self.line(*keys)
        return f"{self.path}:{line}" if line else self.path


def _explain(item: Any, lines: _Lines) -> str:
    keys = [k for k in item["loc"] if k != "config"]
    key = ".".join(str(k) for k in keys)
    if item["type"] == "extra_forbidden":
        valid = Source.model_fields if keys[:1] == ["input"] else _fields(keys[:-1])
        valid = [name for name in valid if name != "path"]
        return f"{lines.at(*keys)}: {key}: unknown key.{did_you_mean(str(keys[-1]), valid)}"
    if item["type"] == "missing":
        return f"{lines.at(*keys)}: {key}: is required"
    return f"{lines.at(*keys)}: {key}: {item['msg'].removeprefix('Value error, ')}"


def _fields(keys: Sequence[Any]) -> Sequence[str]:
    models = {"write": Write, "report": Report, "stages": StageEntry}
    return list(models[keys[0]].model_fields if keys and keys[0] in models else Recipe.model_fields)


def config_error(entry: StageEntry, recipe: Recipe, error: ValidationError, valid: Sequence[str]) -> RecipeError:
    """The message for a stage config that its own model refused."""
    found = []
    for item in error.errors():
        key = ".".join(str(k) for k in item["loc"])
        if item["type"] == "extra_forbidden":
            found.append(f"{key}: unknown key.{did_you_mean(key, [*valid, *STAGE_KEYS])}")
        else:
            found.append(f"{key}: {item['msg'].removeprefix('Value error, ')}")
    return RecipeError("\n".join(f"{recipe.where(entry)}: {text}" for text in found))


def _plain(node: Any) -> Any:
    """ruamel's containers and scalars as plain Python."""
    if isinstance(node, Mapping):
        return {str(k): _plain(v) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(v) for v in node]
    if isinstance(node, bool):
        return bool(node)
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    if isinstance(node, str):
        return str(node)
    return node.isoformat() if hasattr(node, "isoformat") else node
