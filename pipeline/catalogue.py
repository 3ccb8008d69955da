"""`tamis list`: what can be written in a recipe, told from the code that reads it, and the columns of one recipe.

Invariant: nothing is written down twice: options are those of the stages' configs, signals and columns those that the
stages add, rules and thresholds those of configs/rules.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from ..stages._presets import Preset, load_presets, pair_text, preset_names
from ..stages.base import Stage, stage_class, stage_names
from ..stages.errors import RecipeError, did_you_mean
from .definitions import FATE, WHO
from .ledger import ledger_schema
from .plan import Plan
from .planning import plan_recipe
from .recipe import Recipe, StageEntry
from .recipe_schema import first_line
from .show_plan import MAX_FOOTERS
from .terminal import cut, visible

WIDTH = 100
HEAD = 34  # a longer name of an option stands on a line of its own
SYSTEM = {
    **WHO,
    "text": "the text as the edits so far left it (not in the ledger)",
    "bytes": "UTF-8 bytes of that text (not in the ledger)",
    "chars": "code points of that text (not in the ledger)",
    **FATE,
}
VERSION = ("text", "bytes", "chars")


def overview() -> str:
    """Every stage in one line, the presets, and where to read on."""
    width = max(len(use) for use in stage_names())
    kind_width = max(len(kinds(stage_class(use))) for use in stage_names())
    lines = ["stages (`tamis list stages NAME` tells all of one)"]
    for use in stage_names():
        lines += _hanging(f"  {use:{width}}  {kinds(stage_class(use)):{kind_width}}  ", first_line(stage_class(use)))
    lines += ["", "presets of `use: rules` (`tamis list presets NAME`)"]
    lines += textwrap.wrap(", ".join(preset_names()), WIDTH, initial_indent="  ", subsequent_indent="  ")
    lines += ["", "`tamis list signals` has the columns of text_signals, `tamis list columns RECIPE` those of a recipe"]
    return _joined(lines)


def stages_text(wanted: str | None = None) -> str:
    """Every stage with its options; of a single one also the whole definition and the columns that it adds."""
    uses = _chosen(stage_names(), wanted, "stage")
    lines: list[str] = []
    for use in uses:
        cls = stage_class(use)
        lines += [f"{use}  ({kinds(cls)}, {cls.cost})", *_indented(first_line(cls), 2)]
        if len(uses) == 1:
            rest = (inspect.getdoc(cls) or "").partition("\n")[2].strip("\n")
            lines += [*_paragraphs(rest), *_paragraphs(_own_doc(cls.Config))]
        lines += _options(cls)
        if len(uses) == 1:
            lines += _adds(cls)
        lines.append("")
    common = {key: StageEntry.model_fields[key] for key in ("name", "where", "action")}
    lines += ["every stage", *_fields(common)]
    return _joined(lines)


def signals_text(wanted: str | None = None) -> str:
    """The columns of text_signals with their definitions and units."""
    cls = stage_class("text_signals")
    found = {c.name: c for c in cls(cls.Config(), name="text_signals").adds}
    names = _chosen(list(found), wanted, "signal")
    width = max(len(name) for name in names)
    lines = []
    for name in names:
        lines += _hanging(f"{name:{width}}  {found[name].type!s:6}  ", found[name].doc)
    return _joined(lines)


def presets_text(wanted: str | None = None) -> str:
    """Rule sets: where they come from, their rules in SQL, their parameters with defaults."""
    lines: list[str] = []
    for name in _chosen(preset_names(), wanted, "preset"):
        parts = list(load_presets(name))
        if len(parts) > 1:
            lines += [name, f"  both {' and '.join(part.name for part in parts)}", ""]
        else:
            lines += [*_preset(parts[0]), ""]
    return _joined(lines[:-1])


def columns_text(recipe: Recipe, wanted: str | None = None) -> str:
    """Every column that rules and `where` of a recipe can read, and that its ledger has: name, type, whose it is, what
    it is. Raises RecipeError for a recipe that cannot work."""
    rows = column_rows(plan_recipe(recipe, max_footers=MAX_FOOTERS))
    names = _chosen(list(dict.fromkeys(row[0] for row in rows)), wanted, "column")
    rows = [("column", "type", "of", "what it is"), *(row for row in rows if row[0] in names)]
    widths = [min(max(len(row[i]) for row in rows), most) for i, most in enumerate((28, 12, 14))]
    lines = []
    for row in rows:
        head = "  ".join(
            cut(cell, width).ljust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        lines += _hanging(f"{head}  ", row[3], 28 + 12 + 14)
    return _joined(lines)


def column_rows(plan: Plan) -> list[tuple[str, str, str, str]]:
    """(name, type, owner, definition) of the columns of a plan, in the order of the ledger."""
    graph = plan.graph
    kinds_of = {field.name: str(field.type) for field in ledger_schema(plan)}
    kinds_of |= {name: str(kind) for name, kind in graph.input_types.items()}
    owned: dict[str, tuple[str, str]] = {name: ("Tamis", doc) for name, doc in SYSTEM.items()}
    owned |= {name: ("the input", _input_doc(plan, name)) for name in graph.input_types}
    for bound in graph.stages:
        owned |= {a.name: (bound.name, a.column.doc) for a in bound.added}
        kinds_of |= {a.name: str(a.column.type) for a in bound.added if a.name not in kinds_of}
        if bound.stage.kind == "edit":
            owned[f"{bound.name}_changed"] = (bound.name, "whether it changed the text")
        if bound.entry.action == "tag" and bound.stage.kind in ("decide", "resolve"):
            owned[f"{bound.name}_pass"] = (bound.name, "whether all its rules hold; null where one is undecided")
    kinds_of |= {"text": "large_string", "bytes": "int64", "chars": "int64"}
    order = [*dict.fromkeys((*kinds_of, *owned))]
    return [(name, _short(kinds_of[name]), *owned.get(name, ("Tamis", ""))) for name in order if name in kinds_of]


def _short(kind: str) -> str:
    """list<item: string> without the member's name."""
    return re.sub(r"<\w+: ", "<", kind)


def _input_doc(plan: Plan, name: str) -> str:
    origin = {
        "origin_file": "source_file in the first run that read the document",
        "origin_row": "source_row in that run",
        "origin_hash": "source_hash in that run",
        "via": "name of the run whose output this file belongs to",
        "source": "name of the source" if len(plan.recipe.input) > 1 else "",
        "extra": "all other keys of the JSON line, as written",
    }
    if origin.get(name):
        return origin[name]
    own = plan.graph.input_names[name]
    if any(own in file.tags for file in plan.listing.files):
        return "of the file's path or the source's tags"
    return f"{own} of the files" if own != name else ""


# --- stages -------------------------------------------------------------------------------------------------------


def kinds(cls: type[Stage]) -> str:
    """edit, measure, decide or resolve; both where the config decides."""
    has = [kind for kind in ("resolve", "edit", "decide", "measure") if cls.has(kind)]
    return " or ".join(reversed(has)) if "kind" in cls.__dict__ else has[0]


def _options(cls: type[Stage]) -> list[str]:
    return _fields(cls.Config.model_fields) or ["    no options"]


def _fields(fields: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, field in fields.items():
        default = "" if field.default is PydanticUndefined else f" = {default_text(field.get_default())}"
        head = f"    {name}: {type_text(field.annotation)}{default}"
        lines += _hanging(f"{head}  ", field.description or "", HEAD)
    return lines


def type_text(annotation: Any) -> str:
    """A type as people write values of it: `integer or false`, `list of string`, `drop or tag`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin in (Union, types.UnionType):
        words = [type_text(one) for one in inner if one is not type(None)]
        return " or ".join(dict.fromkeys([*words, *(["null"] if type(None) in inner else [])]))
    if origin is Literal:
        return " or ".join("false" if one is False else str(one) for one in inner)
    if origin in (list, tuple):
        return f"list of {type_text(inner[0])}" if inner else "list"
    if origin is dict:
        return f"mapping of {type_text(inner[1])}"
    plain = {str: "string", int: "integer", float: "number", bool: "true or false", Any: "any value"}
    return plain.get(annotation, "mapping")


def default_text(value: Any) -> str:
    """A default as one writes it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(default_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {default_text(one)}" for key, one in value.items()) + "}"
    return str(value)


def _own_doc(config: type) -> str:
    """The config's docstring, unless it only says whose config it is."""
    found = inspect.getdoc(config) or ""
    return "" if found.startswith("What `use:") else found


def _adds(cls: type[Stage]) -> list[str]:
    try:
        columns = cls(cls.Config(), name="x").adds
    except (ValidationError, RecipeError):  # it needs options before it can say so
        return []
    if len(columns) > 20:
        return ["  adds", *_indented(f"{len(columns)} columns: see `tamis list signals`", 4)]
    lines = ["  adds"] if columns else []
    for column in columns:
        lines += _hanging(f"    {column.name}: {column.type}  ", column.doc, HEAD)
    return lines


def _preset(preset: Preset) -> list[str]:
    lines = [preset.name, *_indented(preset.source, 2)]
    width = max(len(rule) for rule in preset.rules)
    for name, rule in preset.rules.items():
        lines += _hanging(f"    {name:{width}}  ", " ".join(rule.sql.split()))
        if rule.source:
            lines += _indented(rule.source, 6 + width)
    if preset.params:
        shown = ", ".join(
            f"{name}: {default_text(value)}{' (to be set)' if value is None else ''}"
            for name, value in preset.params.items()
        )
        lines += _hanging("    params  ", shown)
    nulls = {"pass": "passes", "fail": "fails", "quarantine": "sets the document aside"}[preset.nulls]
    if preset.action == "tag":
        lines += ["    tags, unless the recipe says `action: drop`"]
        lines += [f"    a null {nulls}{' if it drops, else the tag is null' if preset.nulls == 'quarantine' else ''}"]
    else:
        lines += [f"    a null {nulls}"]
    if preset.calibrated:
        of, by = " and ".join(preset.calibrated.columns), pair_text(preset.calibrated.models)
        lines += _hanging("    ", f"its cut on {of} is calibrated for {by}; with other models it only tags")
    return lines


# --- lines --------------------------------------------------------------------------------------------------------


def _chosen(names: Sequence[str], wanted: str | None, what: str) -> list[str]:
    """All names, the one that is wanted, or those that hold it; RecipeError with the nearest where there is none."""
    if wanted is None or wanted in names:
        return list(names) if wanted is None else [wanted]
    found = [name for name in names if wanted in name]
    if not found:
        raise RecipeError(f"{what} {wanted}: there is none.{did_you_mean(wanted, names)}")
    return found


def _hanging(head: str, text: str, least: int = 0) -> list[str]:
    """`head` with the text beside it, both in WIDTH columns; a head that leaves too little room stands alone."""
    head, text = visible(head), visible(text)
    column = max(len(head), least)
    if column > WIDTH * 2 // 3 or (least and len(head) > least):
        column = least or HEAD
        return [head.rstrip(), *_indented(text, column)]
    wrapped = textwrap.wrap(text, WIDTH - column, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{head:{column}}{wrapped[0]}".rstrip(), *(" " * column + line for line in wrapped[1:])]


def _indented(text: str, by: int) -> list[str]:
    wrapped = textwrap.wrap(visible(text), WIDTH - by, break_long_words=False, break_on_hyphens=False)
    return [" " * by + line for line in wrapped]


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if paragraph.strip():
            yield ""
            yield from _indented(" ".join(paragraph.split()), 2)
    if text.strip():
        yield ""


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
