"""Stages over rows in memory, without a run: what `api.apply` does.

Invariant: the stages are wired and called as in a run, so that a value here is the value there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..stages.errors import RecipeError, did_you_mean
from .batch import TEXT
from .listing import Listing
from .plan import Plan, make_plan
from .recipe import parse_recipe
from .rows import hashes
from .schema import canonical, conform
from .walk import walk

SYSTEM = ("doc_id", "source_file", "source_row", "source_hash", "url", "date")


def apply_stages(entries: Sequence[str | Mapping[str, Any]], rows: Any) -> pa.Table:
    """The columns that the stages add, one row per row; see `api.apply`. RecipeError."""
    table = _table(rows)
    columns = [name for name in table.column_names if name not in ("text", *SYSTEM)]
    schema = pa.schema([(name, canonical(table.schema.field(name).type)) for name in columns])
    recipe = parse_recipe(
        {"name": "apply", "input": "memory", "output": "memory", "stages": list(entries)}, path="apply"
    )
    plan = make_plan(recipe, Listing((), schema))
    for bound in plan.graph.stages:
        if bound.stage.kind == "resolve":
            raise RecipeError(f"{bound.place}: needs the whole corpus; write a recipe and run that")
        bound.stage.warm()
    known = ~pc.is_null(table["text"]).to_numpy()
    sound = table.filter(pa.array(known))
    found: dict[str, pa.Array] = {}
    verdicts: list[pa.Array] = []
    text = sound["text"].combine_chunks()
    for seen in walk(plan, text, _columns(plan, sound), judge=True):
        found |= seen.columns
        text = seen.after
        if seen.bound.stage.kind == "edit":
            found.pop("text", None)
            found["text"] = text
        elif seen.bound.stage.kind == "decide":
            assert seen.verdicts is not None
            own = {name: seen.verdicts[name].combine_chunks() for name in seen.verdicts.column_names}
            found |= own
            verdicts += [_passed(own[rule.name], rule.nulls, seen.chosen) for rule in seen.bound.stage.rules]
    if verdicts:
        found["pass"] = _all(verdicts, len(sound))
    at = pa.array(np.cumsum(known) - 1, mask=~known)
    return pa.table({name: values.take(at) for name, values in found.items()})


def _table(rows: Any) -> pa.Table:
    """Whatever was given as a table with a large_string column `text`."""
    if hasattr(rows, "to_arrow") and not isinstance(rows, pa.Table | pa.RecordBatch):
        rows = rows.to_arrow()  # polars
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if not isinstance(rows, pa.Table) and hasattr(rows, "columns"):
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    if not isinstance(rows, pa.Table):
        try:
            rows = pa.table({"text": rows if isinstance(rows, pa.ChunkedArray) else pa.array(rows, from_pandas=True)})
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise RecipeError(f"apply: these are no texts: {error}") from None
    if "text" not in rows.column_names:
        raise RecipeError(f"apply: the table has no column text.{did_you_mean('text', rows.column_names)}")
    at = rows.column_names.index("text")
    if not (pa.types.is_null(rows.schema.field(at).type) or canonical(rows.schema.field(at).type) == pa.string()):
        raise RecipeError(f"apply: the column text is {rows.schema.field(at).type}, must hold strings")
    return rows.set_column(at, "text", pa.chunked_array([rows["text"].combine_chunks().cast(TEXT)]))


def _columns(plan: Plan, table: pa.Table) -> dict[str, pa.Array]:
    """The system columns, as given or made up, and the input columns by canonical name."""
    rows = len(table)
    made: dict[str, pa.Array] = {
        "source_file": pa.array(["memory"] * rows, pa.string()),
        "source_row": pa.array(range(rows), pa.int64()),
        "source_hash": hashes(table["text"].combine_chunks().cast(pa.large_binary())),
        "url": pa.nulls(rows, pa.string()),
        "date": pa.nulls(rows, pa.string()),
    }
    made["doc_id"] = pc.binary_join_element_wise(made["source_file"], made["source_row"].cast(pa.string()), "#")
    for name, values in made.items():
        if name in table.column_names:
            made[name] = conform(table[name].combine_chunks(), values.type)
    for name, column in plan.graph.input_names.items():
        made[name] = conform(table[column].combine_chunks(), plan.graph.input_types[name])
    return made


def _passed(verdict: pa.Array, nulls: str, chosen: np.ndarray | None) -> pa.Array:
    """With what a null means; a row that went by passes."""
    found = verdict if nulls == "quarantine" else pc.fill_null(verdict, nulls == "pass")
    return found if chosen is None else pc.if_else(pa.array(chosen), found, True)


def _all(verdicts: Sequence[pa.Array], rows: int) -> pa.Array:
    """False where one is false, else null where one is null, else true."""
    found = pa.array(np.ones(rows, np.bool_))
    for verdict in verdicts:
        found = pc.and_kleene(found, verdict)
    return found
