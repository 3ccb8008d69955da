"""`tamis list` against the code that it speaks of, and the JSON Schema of a recipe against recipes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from ruamel.yaml import YAML

from tamis.pipeline import catalogue
from tamis.pipeline.graph import build_graph
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import parse_recipe
from tamis.pipeline.recipe_schema import recipe_schema
from tamis.stages._presets import load_presets, preset_names
from tamis.stages.base import stage_class, stage_names
from tamis.stages.errors import RecipeError

from .small_run import small_recipe, small_run

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))
SCHEMA = recipe_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def words(text: str) -> str:
    return " ".join(text.split())


# --- what is listed -----------------------------------------------------------------------------------------------


def test_every_option_of_every_stage_has_a_description() -> None:
    bare = [
        f"{use}.{name}"
        for use in stage_names()
        for name, field in stage_class(use).Config.model_fields.items()
        if not field.description
    ]
    assert bare == [], "give these fields a description: it is what `tamis list stages` and editors show"


@pytest.mark.parametrize("use", stage_names())
def test_a_stage_is_listed_with_every_option_its_default_and_what_it_adds(use: str) -> None:
    told = catalogue.stages_text(use)
    assert told.startswith(f"{use}  (")
    for name, field in stage_class(use).Config.model_fields.items():
        assert re.search(rf"^    {name}: ", told, re.MULTILINE), name
        assert words(field.description or "") in words(told)
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert re.search(rf"^    {name}: .* = {re.escape(str(field.default))}( |$)", told, re.MULTILINE)
    assert words(told).startswith(words(f"{use} ({catalogue.kinds(stage_class(use))}, {stage_class(use).cost})"))
    assert use in catalogue.overview()


def test_every_line_fits_a_hundred_columns() -> None:
    texts = [catalogue.overview(), catalogue.stages_text(), catalogue.signals_text(), catalogue.presets_text()]
    texts += [catalogue.stages_text(use) for use in stage_names()]
    assert [line for text in texts for line in text.splitlines() if len(line) > catalogue.WIDTH] == []


def test_every_signal_is_listed_with_its_definition() -> None:
    cls = stage_class("text_signals")
    told = words(catalogue.signals_text())
    for column in cls(cls.Config(), name="x").adds:
        assert words(f"{column.name} {column.type} {column.doc}") in told
    assert catalogue.signals_text("top_2gram").startswith("top_2gram  double")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_listed_with_rules_sources_and_parameters(name: str) -> None:
    told = words(catalogue.presets_text(name))
    parts = list(load_presets(name))
    if len(parts) > 1:
        assert all(part.name in told for part in parts)
        return
    for rule, written in parts[0].rules.items():
        assert words(f"{rule} {written.sql}") in told
        assert words(written.source) in told
    assert all(f"{param}: {catalogue.default_text(value)}" in told for param, value in parts[0].params.items())
    assert words(parts[0].source) in told


def test_the_columns_of_a_recipe_are_those_of_its_ledger_with_types_and_owners(tmp_path: Path) -> None:
    stages = [
        {"use": "normalize"},
        {"use": "url_tags", "name": "u"},
        {"use": "rules", "name": "size", "rules": {"long": "chars > 3"}, "action": "tag"},
        {"use": "exact_dedup"},
    ]
    result = small_run(tmp_path, stages=stages)
    (path,) = (Path(result.output) / "ledger").glob("*.parquet")
    schema = pq.read_schema(path)
    recipe = small_recipe(tmp_path, stages=stages)
    listed = {name: (kind, owner, doc) for name, kind, owner, doc in catalogue.column_rows(plan_recipe(recipe))}
    assert set(schema.names) <= set(listed)
    for field in schema:
        kind, owner, doc = listed[field.name]
        assert kind == re.sub(r"<\w+: ", "<", str(field.type)), field.name
        assert doc or owner == "the input", field.name
    assert listed["u_host"][1] == "u"
    assert listed["size_pass"][1] == "size"
    assert listed["normalize_changed"][1] == "normalize"
    assert listed["lang"][1] == "the input"
    told = catalogue.columns_text(recipe, "u_host")
    assert len(told.splitlines()) <= 3


def test_a_name_that_is_not_there_gets_the_nearest() -> None:
    for text in (catalogue.stages_text, catalogue.signals_text, catalogue.presets_text):
        with pytest.raises(RecipeError, match="there is none"):
            text("nothing_like_it")
    with pytest.raises(RecipeError, match="Did you mean: exact_dedup"):
        catalogue.stages_text("exact_dedupe")
    assert catalogue.presets_text("dolma").count("@dolma") >= 3


def test_the_command_prints_each_kind(tmp_path: Path) -> None:
    assert "presets of `use: rules`" in runs.tamis("list")
    assert "short_line: integer = 30" in runs.tamis("list", "stages", "text_signals")
    assert json.loads(runs.tamis("list", "--schema")) == SCHEMA
    assert "RECIPE" in runs.tamis("list", "columns", code=2)
    small = small_run(tmp_path).output
    assert small
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: x\ninput: {tmp_path}/in/*.parquet\noutput: {tmp_path}/x\n")
    assert re.search(r"^lang +string +the input", runs.tamis("list", "columns", recipe, "lang"), re.MULTILINE)


# --- the schema ---------------------------------------------------------------------------------------------------

BASE: dict[str, Any] = {"name": "x", "input": {"files": "a/*"}, "output": "out"}


def errors(recipe: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(recipe)]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    text = json.dumps(SCHEMA)
    refs = set(re.findall(r'"#/\$defs/([^"]+)"', text))
    for ref in refs:
        node: Any = SCHEMA["$defs"]
        for part in ref.split("/"):
            node = node[part]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_project_follow_it(path: Path) -> None:
    assert errors(YAML(typ="safe").load(path.read_text())) == []


GOOD: list[dict[str, Any]] = [
    BASE,
    {"base": "a.yaml"},
    {
        "base": "a.yaml",
        "change": {"exact_dedup": {"prefer": ["longest"], "scope": None}, "c4_lines": "off", "mine": {"x": 1}},
    },
    {**BASE, "vars": {"dump": "2024-10", "part": 3}, "input": "a/*.parquet"},
    {**BASE, "input": [{"name": "a", "files": ["x", "y"], "columns": {"n": "int64"}, "tags": {"t": 1, "u": True}}]},
    {**BASE, "write": {"sets": {"main": {}, "near": {"where": "rule = 'a.b'", "sample": "0.1%"}}, "shard_size": "9MB"}},
    {**BASE, "unit_size": "128MB", "max_doc": 5000, "max_bad": "1%", "seed": 3, "strict": True},
    {**BASE, "stages": ["normalize", {"use": "my_pkg.mod:Class", "anything": 1}]},
    {
        **BASE,
        "stages": [{"use": "rules", "preset": ["gopher"], "set": {"gopher_quality.words_min": 3}, "where": "x > 1"}],
    },
    {**BASE, "stages": [{"use": "rules", "rules": {"a": "x > 1", "b": {"sql": "y > 1", "nulls": "pass"}}}]},
    {**BASE, "stages": [{"use": "c4_lines", "min_words": False, "max_word_length": None}]},
    {
        **BASE,
        "stages": [{"use": "exact_dedup", "name": "d", "prefer": [{"values(source)": ["a", "b"]}], "action": "tag"}],
    },
    {**BASE, "stages": [{"use": "sample", "share": "0.1%"}, {"use": "sample", "name": "s", "share": 0.5}]},
]
BAD: list[dict[str, Any]] = [
    {"name": "x", "output": "out"},
    {**BASE, "change": {"x": "off"}},
    {**BASE, "stagse": []},
    {**BASE, "path": "x"},
    {**BASE, "input": {"file": "a"}},
    {**BASE, "input": {"files": "a", "format": "csv"}},
    {**BASE, "write": {"colums": ["a"]}},
    {**BASE, "write": {"places": {}}},
    {**BASE, "write": {"sets": {"main": {"wher": "x"}}}},
    {**BASE, "max_bad": "1 percent"},
    {**BASE, "unit_size": "128MX"},
    {**BASE, "keep_work": "some"},
    {**BASE, "stages": ["normalise"]},
    {**BASE, "stages": [{"name": "x"}]},
    {**BASE, "stages": [{"use": "exact_dedupe"}]},
    {**BASE, "stages": [{"use": "exact_dedup", "keys": "text"}]},
    {**BASE, "stages": [{"use": "rules", "preset": "gopher", "action": "keep"}]},
    {**BASE, "stages": [{"use": "rules", "rules": {"a": {"sq": "x"}}}]},
    {**BASE, "stages": [{"use": "c4_lines", "min_words": "three"}]},
    {"base": "a.yaml", "change": {"exact_dedup": {"keys": "text"}}},
    {"base": "a.yaml", "change": {"mine": 3}},
    {**BASE, "vars": {"x": [1]}},
]


@pytest.mark.parametrize("recipe", GOOD, ids=json.dumps)
def test_a_recipe_that_is_right_follows_it(recipe: dict[str, Any]) -> None:
    assert errors(recipe) == []
    if "base" not in recipe:
        parse_recipe(recipe)


@pytest.mark.parametrize("recipe", BAD, ids=json.dumps)
def test_a_typo_does_not_and_tamis_refuses_it_too(recipe: dict[str, Any]) -> None:
    assert errors(recipe)
    if "base" not in recipe:
        with pytest.raises(RecipeError):
            build_graph(parse_recipe(recipe), pa.schema([]))


def test_editors_see_what_each_key_means() -> None:
    stage = SCHEMA["$defs"]["stage_exact_dedup"]["properties"]
    assert "null matches nothing" in stage["scope"]["description"]
    assert SCHEMA["properties"]["max_bad"]["description"]
    bare = [name for name, field in SCHEMA["properties"].items() if "description" not in field and "$ref" not in field]
    assert bare == []
