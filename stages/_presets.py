"""Rule sets as files: configs/rules/*.yaml by name, or a file of the user's by path.

Invariant: a preset that loads is sound by itself: every rule parses, and every `$name` in a rule is one of its params.

    source: where the rules come from
    params: {words_min: 50}             # every number that a person may move
    nulls: pass                         # what a null means: pass (default), fail, quarantine
    rules:
      words: words >= $words_min        # true keeps the document; columns by their plain names
      dup: {sql: dup_lines <= $dup_max, source: Table A1, nulls: fail}

A parameter that is null has no published value: whoever uses the set gives one with `set:`. Two more keys are for rules
over the numbers of a model, where a cut is worth no more than the pair of models that it was found with:

    action: tag                         # where the recipe does not say `action:`; else drop
    calibrated: {columns: [binoculars], models: [falcon-7b-instruct, falcon-7b]}    # scorer, observer: drops with no others
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from . import sql
from .base import Nulls
from .errors import RecipeError, did_you_mean

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "rules"
Action = Literal["drop", "tag"]
_BOTH = ("gopher_quality", "gopher_repetition")  # what `gopher` and `gopher@...` stand for


class RuleText(BaseModel):
    """One rule as written: a SQL string, or a mapping with `sql` and what differs from the rest of its set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sql: str
    source: str = ""
    nulls: Nulls | None = None


class Calibrated(BaseModel):
    """Columns whose cuts were found with the numbers of these models: the one that scores, and its observer if it has one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: list[str] = Field(min_length=1)
    models: list[str] = Field(min_length=1, max_length=2)

    def by(self, models: Sequence[str]) -> bool:
        """Whether these are the models. A path or hub id counts by its last part, without revision, in any case; a model
        that observes itself is as one without an observer."""
        return _names(models) == _names(self.models)


def pair_text(models: Sequence[str]) -> str:
    """'falcon-7b-instruct with the observer falcon-7b'."""
    return " with the observer ".join(models) or "a stage that names no model"


def _names(models: Sequence[str]) -> list[str]:
    last = (model.rstrip("/").rpartition("/")[2].partition("@")[0].casefold() for model in models)
    return list(dict.fromkeys(last))


class _PresetFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str = ""
    action: Action = "drop"
    calibrated: Calibrated | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    nulls: Nulls = "pass"
    rules: dict[str, str | RuleText]


@dataclass(frozen=True)
class Preset:
    """A rule set: rules in order, their parameters with default values (None: there is none), what nulls mean unless a rule
    says else, what becomes of documents that fail unless the recipe says else, and whose numbers its cuts hold for."""

    name: str
    source: str
    action: Action
    calibrated: Calibrated | None
    params: Mapping[str, Any]
    nulls: Nulls
    rules: Mapping[str, RuleText]


def preset_names() -> list[str]:
    """Names that `preset:` takes, `gopher` and its variants among them."""
    files = {path.stem for path in FOLDER.glob("*.yaml")}
    variants = {name[len(_BOTH[0]) :] for name in files if name.startswith(_BOTH[0])}
    return sorted(files | {f"gopher{v}" for v in variants if f"{_BOTH[1]}{v}" in files})


def load_presets(name: str) -> tuple[Preset, ...]:
    """The rule sets that one entry of `preset:` means: one, or two for `gopher`. RecipeError with the nearest name."""
    if "/" in name or name.endswith((".yaml", ".yml")):
        return (_load(Path(name), name),)
    if name not in preset_names():
        raise RecipeError(f"preset: {name}: no such preset.{did_you_mean(name, preset_names())}")
    base, at, variant = name.partition("@")
    parts = [f"{part}{at}{variant}" for part in _BOTH] if base == "gopher" else [name]
    return tuple(_load(FOLDER / f"{part}.yaml", f"preset: {part}") for part in parts)


def read_yaml(path: Path, place: str) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file (`no` and `off` are strings); RecipeError naming `place` if there is none."""
    try:
        found = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{place}: cannot be read: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{place}: {error}") from error
    if not isinstance(found, dict):
        raise RecipeError(f"{place}: must be a mapping")
    return found


def _load(path: Path, place: str) -> Preset:
    name = path.stem
    if not re.fullmatch(r"[a-z][a-z0-9_]*(@[a-z0-9_]+)?", name):
        raise RecipeError(f"{place}: a rule set is named after its file: call it [a-z][a-z0-9_]*.yaml")
    try:
        file = _PresetFile.model_validate(read_yaml(path, place))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        model = Calibrated if first["loc"][0] == "calibrated" and len(first["loc"]) > 1 else _PresetFile
        known = did_you_mean(key.rpartition(".")[2], model.model_fields) if first["type"] == "extra_forbidden" else ""
        raise RecipeError(f"{place}: {key}: {first['msg']}.{known}") from error
    rules = {key: RuleText(sql=rule) if isinstance(rule, str) else rule for key, rule in file.rules.items()}
    used: set[str] = set()
    columns: set[str] = set()
    for key, rule in rules.items():
        parsed = sql.parse(rule.sql, where=f"{place}: {key}", draws=True)
        params, columns = parsed.params, columns | parsed.columns
        for param in sorted(params - set(file.params)):
            raise RecipeError(f"{place}: {key}: no value for ${param} under params.{did_you_mean(param, file.params)}")
        used |= params
    for param in sorted(set(file.params) - used):
        raise RecipeError(f"{place}: params: {param}: no rule reads it.{did_you_mean(param, used)}")
    for column in file.calibrated.columns if file.calibrated else ():
        if column not in columns:
            near = did_you_mean(column, columns)
            raise RecipeError(f"{place}: calibrated.columns: {column}: no rule reads it.{near}")
    return Preset(name, file.source, file.action, file.calibrated, file.params, file.nulls, rules)
