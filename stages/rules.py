"""Decide: named SQL conditions over columns, from presets and of one's own; a document that fails one is dropped.

Invariant: a rule says what must be true to keep the document, and every number that a person may move is a parameter
with a name: `set:` changes those of presets, `params:` holds one's own, `by:` gives them a value per group.
"""

from __future__ import annotations

import functools
import glob
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field

from . import sql
from ._presets import ROOT, Action, Preset, RuleText, load_presets, pair_text, read_yaml
from .base import Nulls, Rule, Stage, StageConfig
from .draws import draws
from .errors import RecipeError, did_you_mean


class RulesConfig(StageConfig):
    """What `use: rules` takes."""

    preset: str | list[str] = Field(
        default=[], description="rule sets: names such as gopher_quality, or paths of YAML files"
    )
    set: dict[str, Any] = Field(default={}, description="parameters of presets: {gopher_quality.words_min: 100}")
    off: list[str] = Field(default=[], description="rules of presets to leave out: [gopher_quality.stop_words]")
    rules: dict[str, str | RuleText] = Field(
        default={},
        description="own rules: name: SQL that is true for what is kept; pareto(score, 9) in it keeps softly, by a draw",
    )
    params: dict[str, Any] = Field(default={}, description="values of the `$name` parameters of own rules")
    nulls: Nulls | None = Field(
        default=None,
        description="what a null result means, for all rules: pass, fail or quarantine (default: a preset's own; own rules: quarantine)",
    )
    of: str | None = Field(
        default=None, description="name of the stage whose columns the presets read (default: the last before)"
    )
    by: str | None = Field(default=None, description="column that picks a group's parameter values")
    values: dict[str, dict[str, Any]] | str | list[str] = Field(
        default={},
        description="value of `by` -> {parameter: value}, or paths or globs of YAML files that hold such mappings",
    )
    missing: Literal["default", "drop", "error"] = Field(
        default="default",
        description="rows whose group has no values: use the defaults, fail rule <name>.missing, or stop",
    )


@dataclass(frozen=True)
class _Rule:
    """A rule before its columns are bound. `params`: name in the SQL -> full name. `plain`: it is a preset's."""

    name: str
    sql: str
    plain: bool
    nulls: Nulls
    source: str
    params: Mapping[str, str]


@dataclass(frozen=True)
class _Bound:
    """What `decide` evaluates: SQL over full column names, with one-off names for parameters."""

    rules: tuple[Rule, ...]
    expressions: Mapping[str, str]
    params: Mapping[str, Any]  # one-off name -> value
    columns: Mapping[str, tuple[str, pa.Array]]  # one-off column -> full parameter, value per group, the default last
    draws: Mapping[str, str]  # one-off column -> the rule that draws by it
    needs: tuple[str, ...]


class Rules(Stage):
    """Drops documents by named SQL conditions over columns: published rule sets, thresholds, one's own rules.

    `pareto(score, alpha)` in a rule is a soft keep, as of GPT-3 and GLaM: true where numpy.random.pareto(alpha) would be
    above 1 - score, which it is with probability (2 - score)^-alpha for scores up to 1. The draw is the document's own
    (run seed, stage, rule, doc_id), so two rules draw independently.
    """

    Config = RulesConfig

    def __init__(self, config: RulesConfig, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self._renamed: dict[str, str] = {}
        self._values: dict[str, Any] = {}  # full parameter name -> value
        self._rules: list[_Rule] = []
        self._presets: list[Preset] = []  # those of which a rule is left
        self._add_presets()
        self._add_own()
        self._groups = self._read_groups()
        if not self._rules:
            raise RecipeError("has no rule: give `preset:` or `rules:`")

    @property
    def plain_needs(self) -> frozenset[str]:
        """Plain names of the columns that the presets read."""
        return frozenset().union(*(sql.parse(r.sql, where=r.name, draws=True).columns for r in self._rules if r.plain))

    @property
    def of(self) -> str | None:
        return self.config.of

    @property
    def draws(self) -> bool:
        return bool(self._bound.draws)

    @property
    def needs(self) -> tuple[str, ...]:
        return self._bound.needs

    @property
    def default_action(self) -> Action:
        """That of the presets; own rules drop."""
        found: dict[Action, str] = {preset.action: preset.name for preset in reversed(self._presets)}
        if self.config.rules:
            found.setdefault("drop", "a rule of one's own")
        if len(found) > 1:
            raise RecipeError(
                f"action: {found['tag']} tags by default and {found['drop']} drops: write `action: tag` or `action: drop` "
                "here, or make two stages of it"
            )
        return "tag" if "tag" in found else "drop"

    def uncalibrated(self, scored_by: Mapping[str, tuple[str, ...]]) -> str | None:
        for preset in self._presets:
            for column in preset.calibrated.columns if preset.calibrated else ():
                models = scored_by.get(column, ())
                if preset.calibrated and not preset.calibrated.by(models):
                    return (
                        f"the cut of {preset.name} on {column} was calibrated for {pair_text(preset.calibrated.models)}, "
                        f"and here {column} is measured by {pair_text(models)}"
                    )
        return None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """In the order of decide: `<name>.missing` if `missing: drop`, presets as listed, own rules as written.

        `sql` names columns by their full names and parameters as written; `params` holds the values without `by`.
        """
        return self._bound.rules

    def bind(self, columns: Mapping[str, str]) -> None:
        self._renamed = dict(columns)
        self.__dict__.pop("_bound", None)

    def check(self, schema: pa.Schema) -> None:
        """RecipeError if a rule does not fit these column types or is not boolean."""
        bound = self._bound
        if self.config.by and self.config.by not in schema.names:
            raise RecipeError(f"by: no such column: {self.config.by}.{did_you_mean(self.config.by, schema.names)}")
        for column, (_, values) in bound.columns.items():
            schema = schema.append(pa.field(column, values.type))
        for column in bound.draws:
            schema = schema.append(pa.field(column, pa.float64()))
        sql.check_types(bound.expressions, bound.params, schema, where="rules", boolean=True)

    def fingerprint(self) -> str:
        """Hash of rules, parameter values and groups: presets and `values:` files are part of the key by content."""
        rules = [(r.name, r.sql, r.nulls, sorted(r.params.items())) for r in self._rules]
        facts = json.dumps([rules, self._values, self._groups], sort_keys=True, default=str)
        return xxhash.xxh3_128_hexdigest(facts.encode())

    def decide(self, batch: pa.Table) -> pa.Table:
        bound = self._bound
        first = {}
        if self.config.by:
            group = pc.index_in(
                batch[self.config.by].cast(pa.string()), value_set=pa.array(list(self._groups), pa.string())
            )
            if self.config.missing == "error" and group.null_count:
                row = pc.index(pc.is_null(group), True).as_py()
                value = batch[self.config.by][row].as_py()
                raise RecipeError(f"{self.name}: no values for {self.config.by} = {value!r}, and `missing: error`")
            if self.config.missing == "drop":
                first[f"{self.name}.missing"] = pc.is_valid(group)
            index = pc.fill_null(group, len(self._groups))
            for column, (_, values) in bound.columns.items():
                batch = batch.append_column(column, values.take(index))
        for column, rule in bound.draws.items():
            drawn = draws(batch["doc_id"], seed=self.seed, name=f"{self.name}:{rule}")
            batch = batch.append_column(column, pa.array(drawn))
        found = sql.evaluate(batch, bound.expressions, bound.params)
        return pa.table({**first, **dict(zip(found.column_names, found.columns))})

    # From config to rules -------------------------------------------------------------------------------------------

    def _add_presets(self) -> None:
        config = self.config
        rules: list[_Rule] = []
        names = [config.preset] if isinstance(config.preset, str) else config.preset
        presets = [preset for name in names for preset in load_presets(name)]
        defaults: dict[str, Any] = {}
        for preset in presets:
            if [p.name for p in presets].count(preset.name) > 1:
                raise RecipeError(f"preset: {preset.name} is given twice")
            full = {param: f"{preset.name}.{param}" for param in preset.params}
            defaults |= {full[param]: value for param, value in preset.params.items()}
            for key, rule in preset.rules.items():
                nulls = config.nulls or rule.nulls or preset.nulls
                params = {p: full[p] for p in sql.parse(rule.sql, where=preset.name, draws=True).params}
                name = f"{preset.name}.{key}"
                rules.append(_Rule(name, rule.sql, True, nulls, rule.source or preset.source, params))
        for key, value in config.set.items():
            if key not in defaults:
                raise RecipeError(f"set: no such parameter: {key}.{did_you_mean(key, defaults)}")
            if _is_number(defaults[key]) and not _is_number(value):
                raise RecipeError(f"set: {key}: must be a number, is {value!r}")
            defaults[key] = value
        for name in config.off:
            if name not in {rule.name for rule in rules}:
                raise RecipeError(f"off: no such rule: {name}.{did_you_mean(name, [rule.name for rule in rules])}")
        self._rules += [rule for rule in rules if rule.name not in config.off]
        self._presets = [p for p in presets if any(rule.name.startswith(f"{p.name}.") for rule in self._rules)]
        self._values |= {full: value for full, value in defaults.items() if value is not None}
        for rule in self._rules:
            for full in sorted(set(rule.params.values()) - set(self._values)):
                if not config.by:
                    raise RecipeError(
                        f"set: {rule.name} needs a number that nobody has published: write `set: {{{full}: ...}}`"
                    )

    def _add_own(self) -> None:
        config = self.config
        used: set[str] = set()
        for key, written in config.rules.items():
            rule = RuleText(sql=written) if isinstance(written, str) else written
            params = sql.parse(rule.sql, where=f"rules: {key}", draws=True).params
            name, nulls = f"{self.name}.{key}", config.nulls or rule.nulls or "quarantine"
            if name in {r.name for r in self._rules}:
                raise RecipeError(f"rules: {key}: there is a rule {name} already, of a preset")
            full = {p: f"{self.name}.{p}" for p in params}
            self._rules.append(_Rule(name, rule.sql, False, nulls, rule.source, full))
            for param in sorted(params - set(config.params)):
                if not config.by:
                    near = did_you_mean(param, config.params)
                    raise RecipeError(f"rules: {key}: no value for ${param} under params.{near}")
            used |= params
        for param, value in config.params.items():
            if param not in used:
                raise RecipeError(f"params: {param}: no own rule reads it.{did_you_mean(param, used)}")
            self._values[f"{self.name}.{param}"] = value

    def _read_groups(self) -> dict[str, dict[str, Any]]:
        """Value of `by` -> {full parameter name: value}; every rule parameter has a value in every case that can be."""
        config = self.config
        if bool(config.by) != bool(config.values):
            raise RecipeError("`by: COLUMN` and `values:` go together")
        if "missing" in config.model_fields_set and not config.by:
            raise RecipeError("`missing:` says what to do without a group: it needs `by: COLUMN` and `values:`")
        known = set(self._values) | {full for rule in self._rules for full in rule.params.values()}
        own = {full[len(self.name) + 1 :]: full for full in known if full.startswith(f"{self.name}.")}
        groups: dict[str, dict[str, Any]] = {}
        for value, params in _written_values(config.values).items():
            for param in params:
                if param not in known and param not in own:
                    raise RecipeError(
                        f"values: {value}: no such parameter: {param}.{did_you_mean(param, known | set(own))}"
                    )
            groups[value] = {own.get(param, param): v for param, v in params.items()}
        for full in sorted(known - set(self._values)):
            lacking = [value for value, params in groups.items() if full not in params]
            if config.missing == "default" or lacking:
                whom = f"for {config.by} = {lacking[0]}" if lacking else "for rows of other groups (missing: default)"
                key = "params" if full.startswith(f"{self.name}.") else "set"
                raise RecipeError(f"values: no value for {full} {whom}: give it under `{key}:` or in every group")
        return groups

    @functools.cached_property
    def _bound(self) -> _Bound:
        by, grouped = self.config.by, {full for params in self._groups.values() for full in params}
        columns: dict[str, tuple[str, pa.Array]] = {}
        params: dict[str, Any] = {}
        texts: dict[str, str] = {}  # full parameter name -> how it is written in the SQL that runs
        for i, full in enumerate(sorted({full for rule in self._rules for full in rule.params.values()})):
            if full in grouped:
                values = [group.get(full, self._values.get(full)) for group in self._groups.values()]
                columns[f"__param_{i}"] = (full, _column(full, [*values, self._values.get(full)]))
                texts[full] = f'"__param_{i}"'
            else:
                params[f"p{i}"] = self._values[full]
                texts[full] = f"$p{i}"
        rules: list[Rule] = []
        expressions: dict[str, str] = {}
        drawing: dict[str, str] = {}
        if self.config.missing == "drop" and by:
            rules.append(Rule(f"{self.name}.missing", "fail", needs=(by,)))
        for rule in self._rules:
            named = sql.substitute(rule.sql, self._renamed, {}) if rule.plain else rule.sql
            parsed = sql.parse(named, where=rule.name, draws=True)
            drawn = f"__draw_{len(drawing)}" if parsed.draws else None
            if drawn:
                drawing[drawn] = rule.name
            filled = {p: texts[full] for p, full in rule.params.items()}
            expressions[rule.name] = sql.substitute(named, {}, filled, draw=drawn)
            needs = sorted(parsed.columns)
            if by and grouped & set(rule.params.values()) and by not in needs:
                needs.append(by)
            values = tuple((full, self._values.get(full)) for _, full in sorted(rule.params.items()))
            rules.append(Rule(rule.name, rule.nulls, named, values, rule.source, tuple(needs)))
        needs = [by] if by else []
        needs += ["doc_id"] if drawing else []
        needs += [column for rule in rules for column in rule.needs]
        return _Bound(tuple(rules), expressions, params, columns, drawing, tuple(dict.fromkeys(needs)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _written_values(values: dict[str, dict[str, Any]] | str | list[str]) -> dict[str, dict[str, Any]]:
    """The mapping itself, or that of the files, which are looked for here and then beside `configs/`."""
    if isinstance(values, dict):
        return values
    found: dict[str, dict[str, Any]] = {}
    for pattern in [values] if isinstance(values, str) else values:
        paths = sorted(glob.glob(pattern, recursive=True)) or sorted(glob.glob(str(ROOT / pattern), recursive=True))
        if not paths:
            raise RecipeError(f"values: {pattern}: no such file")
        for path in paths:
            for value, params in read_yaml(Path(path), f"values: {path}").items():
                if not isinstance(params, dict):
                    raise RecipeError(f"values: {path}: {value}: must be a mapping of parameters")
                if str(value) in found:
                    raise RecipeError(f"values: {path}: {value} has values already")
                found[str(value)] = params
    return found


def _column(full: str, values: list[Any]) -> pa.Array:
    """Values of one parameter per group; floats as decimals, so that they compare as a bound parameter does."""
    if any(isinstance(value, float) for value in values):
        decimals = [value if value is None else sql.bound(float(value)) for value in values]
        if all(value is None or isinstance(value, Decimal) for value in decimals):
            values = decimals
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RecipeError(f"values: {full}: values of more than one type: {error}") from error
