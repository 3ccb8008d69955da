"""The JSON Schema of a recipe, for editors: keys, values and descriptions as one types.

Invariant: it is made from the models that read a recipe, so what it accepts and what Tamis accepts cannot drift apart.
"""

from __future__ import annotations

import inspect
from typing import Any

from ..stages.base import Stage, stage_class, stage_names
from .recipe import Recipe, StageEntry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
OFF = {"enum": [False, "off"], "description": "leave this stage out"}


def recipe_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12). `use:` decides which keys a stage takes."""
    found = Recipe.model_json_schema()
    definitions = found.pop("$defs")
    for name in ("Recipe", "StageEntry"):
        definitions.pop(name, None)
    for definition in definitions.values():
        definition.get("properties", {}).pop("places", None)  # for messages only, as is the recipe's `path`
    uses = {use: stage_class(use) for use in stage_names()}
    definitions |= {f"stage_{use}": _options(use, cls) for use, cls in uses.items()}
    definitions |= {"stage": _stage(uses), "change": _change(uses)}
    properties = {key: value for key, value in found["properties"].items() if key != "path"}
    properties["input"] = {
        "description": Recipe.model_fields["input"].description,
        "anyOf": [
            {"type": "string", "description": Recipe.model_fields["input"].description},
            {"$ref": "#/$defs/Source"},
            {"type": "array", "items": {"$ref": "#/$defs/Source"}, "minItems": 1},
        ],
    }
    properties["stages"] |= {"items": {"$ref": "#/$defs/stage"}}
    properties |= {
        "base": {"type": "string", "description": "path of another recipe, from this file, on which this one builds"},
        "change": {"$ref": "#/$defs/change"},
        "vars": {
            "type": "object",
            "additionalProperties": {"type": ["string", "integer"]},
            "description": "plain strings, written as $name in files, root, output and work; $$ is a dollar",
        },
    }
    return {
        "$schema": DIALECT,
        "title": "A recipe of Tamis",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "if": {"not": {"required": ["base"]}},
        "then": {"required": ["name", "input", "output"], "not": {"required": ["change"]}},
        "$defs": definitions,
    }


def _options(use: str, cls: type[Stage]) -> dict[str, Any]:
    """The keys of one stage, those that every stage takes among them."""
    found = cls.Config.model_json_schema(ref_template=f"#/$defs/stage_{use}/$defs/{{model}}")
    common = StageEntry.model_json_schema()["properties"]
    keys = {key: common[key] for key in ("name", "where", "action")}
    found["properties"] = {"use": {"const": use}, **keys, **found.get("properties", {})}
    found["title"], found["description"] = use, first_line(cls)
    return found


def _stage(uses: dict[str, type[Stage]]) -> dict[str, Any]:
    """One entry of `stages:`; a stage of one's own (`my_package.module:Class`) may have any keys."""
    use = {
        "anyOf": [
            *({"const": name, "description": first_line(cls)} for name, cls in uses.items()),
            {"type": "string", "pattern": ":", "description": "my_package.module:Class"},
        ]
    }
    return {
        "anyOf": [use, {"type": "object", "properties": {"use": use}, "required": ["use"]}],
        "allOf": [
            {
                "if": {"type": "object", "properties": {"use": {"const": name}}, "required": ["use"]},
                "then": {"$ref": f"#/$defs/stage_{name}"},
            }
            for name in uses
        ],
    }


def _change(uses: dict[str, type[Stage]]) -> dict[str, Any]:
    """`change:`: for a stage that goes by its own name the keys are known, for others any may stand there."""
    any_keys = {"anyOf": [OFF, {"type": "object"}]}
    known = {}
    for use, cls in uses.items():
        keys = {"type": "object", "propertyNames": {"enum": list(_options(use, cls)["properties"])}}
        known[use] = {"description": first_line(cls), "anyOf": [OFF, keys]}
    return {
        "type": "object",
        "properties": known,
        "additionalProperties": any_keys,
        "description": "stages of the base by name: keys to set, null for a key's default, off to leave a stage out",
    }


def first_line(cls: type[Stage]) -> str:
    """What a stage is, in one line."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]
