"""The one document that `tamis try` takes: a plain text of the person's, or a row of the recipe's input.

Invariant: either way it comes as the readers of a run would deliver it: the same system columns, the same types, the
same judgement of a text that cannot be used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ..stages.errors import RecipeError, did_you_mean
from .edits import FOOTERS, read_row, with_row_groups
from .listing import InputFile, Listing, list_input
from .plan import Plan, make_plan
from .readers import Batch, Segment, read_segment
from .recipe import Recipe
from .rows import assemble, judge_texts
from .terminal import plural, visible

LABELS = ("doc_id", "url", "date")  # columns of every document, besides those of the input
SCAN_BYTES = 16_000_000

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Document:
    """`plan` of the recipe; `row`: a table of one row as readers.Batch describes it, with the columns that the run would
    read, by canonical name; `notes`: what a person should know of where it comes from."""

    plan: Plan
    row: pa.Table
    notes: tuple[str, ...] = ()


def given_text(recipe: Recipe, name: str, text: bytes, columns: Mapping[str, str]) -> Document:
    """A text of the person's, as if it were the only row of a file `name`. `columns` are typed by the input where there
    is one, else they are numbers, true and false, or strings, by their looks.

    RecipeError for a column that neither the input nor any document has, or a value that its type cannot hold.
    """
    recipe = _whole_run(recipe)
    notes = []
    try:
        schema = list_input(recipe.input, max_footers=FOOTERS).columns
        _check_names(columns, schema.names)
    except RecipeError as error:
        if _has_files(recipe):
            raise
        notes.append(f"{str(error).partition(chr(10))[0]}; so the document has only the columns that --column gives")
        schema = pa.schema([(name, _guessed(value).type) for name, value in columns.items() if name not in LABELS])
    file = InputFile(0, name, name, len(text), "", "parquet")
    try:
        plan = make_plan(recipe, Listing((), schema))
    except RecipeError as error:
        missing = " Give the document's own columns with --column NAME=VALUE." if notes else ""
        raise RecipeError(f"{error}{missing}") from None
    names = [plan.graph.input_names[name] for name in plan.graph.read_columns]
    values = {name: _typed(name, columns[name], schema.field(name).type) for name in names if name in columns}
    found = {label: pa.array([columns[label]]) for label in LABELS if label in columns}
    row = assemble(
        file,
        np.array([0]),
        ids=found.get("doc_id"),
        texts=judge_texts(pa.array([text], pa.large_binary()), recipe.max_doc),
        url=found.get("url"),
        date=found.get("date"),
        columns=names,
        values=values,
        schema=schema,
    )
    return Document(plan, row, tuple(notes))


def input_plan(recipe: Recipe) -> Plan:
    """The plan in which `found_document` looks. RecipeError as for a run."""
    recipe = _whole_run(recipe)
    return make_plan(recipe, list_input(recipe.input, max_footers=FOOTERS))


def found_document(plan: Plan, key: str, tell: Tell) -> Document:
    """The row of the plan's input that `key` means: `file#row`, else the first with this doc_id or URL. RecipeError."""
    recipe, listing = plan.recipe, plan.listing
    name, _, number = key.rpartition("#")
    index = next((i for i, file in enumerate(listing.files) if file.name == name), None)
    row: int | None = None
    if index is not None and number.isascii() and number.isdecimal():
        listing, row = with_row_groups(listing, recipe, name), int(number)
    else:
        found = _scan(recipe, listing, key, tell)
        if found is None:
            hint = did_you_mean(name, [f.name for f in listing.files]) if number.isdecimal() and name else ""
            raise RecipeError(f"--doc {visible(key)}: no document of the input has this doc_id, URL or file#row.{hint}")
        listing, index, row = found
    columns = [plan.graph.input_names[name] for name in plan.graph.read_columns]
    assert index is not None
    try:
        table = read_row(recipe, listing, index, row, columns)
    except ValueError as error:  # its row group cannot be decoded
        raise RecipeError(
            f"--doc {visible(key)}: a run would set it aside, because it cannot be read: {error}"
        ) from None
    if table is None:
        raise RecipeError(f"--doc {visible(key)}: {visible(listing.files[index].name)} has no document in row {row}")
    return Document(replace(plan, listing=listing), table)


def _whole_run(recipe: Recipe) -> Recipe:
    """Without what leaves out documents by chance or place: this one is wanted."""
    return recipe.model_copy(update={"observe": False, "sample": None, "units": None})


def _has_files(recipe: Recipe) -> bool:
    with contextlib.suppress(RecipeError):
        return bool(list_input(recipe.input, max_footers=0).files)
    return False


def _scan(recipe: Recipe, listing: Listing, key: str, tell: Tell) -> tuple[Listing, int, int] | None:
    """Reads ids and URLs, file after file, to the first hit."""
    rows = 0
    for index, file in enumerate(listing.files):
        if index:
            tell(f"looked through {index:,} of {plural(len(listing.files), 'file')}, {plural(rows, 'document')}")
        listing = with_row_groups(listing, recipe, file.name)
        file = listing.files[index]
        segment = Segment(index, 0, len(file.groups), 0)
        for event in read_segment(
            listing, recipe.input, segment, [], text=False, max_doc=recipe.max_doc, batch_bytes=SCAN_BYTES
        ):
            if not isinstance(event, Batch):
                continue
            rows += len(event.table)
            for column in ("doc_id", "url"):
                at = event.table[column].index(key).as_py()
                if at >= 0:
                    return listing, index, event.table["source_row"][at].as_py()
    return None


# --- columns from the command line --------------------------------------------------------------------------------


def _check_names(columns: Mapping[str, str], names: list[str]) -> None:
    for name in columns:
        if name not in LABELS and name not in names:
            raise RecipeError(f"--column {name}: the input has no such column.{did_you_mean(name, [*names, *LABELS])}")


def _guessed(value: str) -> pa.Array:
    """As JSON would read it, if that is a number or true or false; else the string."""
    with contextlib.suppress(ValueError, pa.ArrowInvalid, OverflowError):
        found = json.loads(value)
        if isinstance(found, bool | int | float):
            return pa.array([found])
    return pa.array([value])


def _typed(name: str, value: str, kind: pa.DataType) -> pa.Array:
    try:
        if pa.types.is_nested(kind):
            found: Any = json.loads(value)
            return pa.array([found], kind)
        return pa.array([value]).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RecipeError(f"--column {name}={visible(value)}: is no {kind} ({reason})") from None
