"""What `write:` asks for, bound to columns: the columns of the shards, the written sets, the partition.

Invariant: after `bind_write` every expression of `write:` is over known columns and has a type that the format holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ..stages import sql
from ..stages.errors import RecipeError, did_you_mean
from .json_sink import in_json
from .recipe import Recipe, Write
from .schema import canonical

PROVENANCE = ("doc_id", "source_file", "source_row", "source_hash")
ALWAYS = (*PROVENANCE, "text")  # of every row of data/, whatever `columns` says
FATE: dict[str, pa.DataType] = {
    "bytes_read": pa.int64(),
    "chars_read": pa.int64(),
    "bytes_written": pa.int64(),
    "chars_written": pa.int64(),
    "decision": pa.string(),
    "stage": pa.string(),
    "rule": pa.string(),
    "failed": pa.list_(pa.string()),
    "reason": pa.string(),
}
FOLDER_TYPES = (
    pa.types.is_string,
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_temporal,
    pa.types.is_decimal,
    pa.types.is_null,
)


@dataclass(frozen=True)
class DataColumn:
    """A column of the shards: `sql` over the `columns` of the document's own row, text and ledger columns among them.
    `plain`: it is its one column as it stands."""

    name: str
    type: pa.DataType
    sql: str
    columns: tuple[str, ...]
    plain: bool


@dataclass(frozen=True)
class BoundSet:
    """A written set. `where` over the `columns` of the ledger; None: kept documents. `name`: empty where the recipe has
    no sets."""

    name: str
    where: str | None
    columns: tuple[str, ...]
    sample: float | None


@dataclass(frozen=True)
class BoundWrite:
    columns: tuple[DataColumn, ...]
    sets: tuple[BoundSet, ...]

    @property
    def reads(self) -> set[str]:
        """Columns that the shards show or are made of."""
        return {name for column in self.columns for name in column.columns}


def written_columns(write: Write) -> set[str]:
    """Columns that `write:` names, for the stages that compute only what somebody reads. RecipeError."""
    named = set(write.partition)
    for item in write.columns or ():
        named |= sql.parse(sql.parse_select_item(item)[0], where="write.columns").columns
    for name, written in write.sets.items():
        if written.where:
            named |= sql.parse(written.where, where=f"write.sets.{name}.where").columns
    return named


def bind_write(
    recipe: Recipe, ledger: Mapping[str, pa.DataType], other: Mapping[str, pa.DataType], default: Sequence[str]
) -> BoundWrite:
    """Raises RecipeError with place and nearest name.

    `ledger`: columns that the ledger can show, which `sets` and `partition` may name; `other`: what `columns` may name
    besides; `default`: what is written where the recipe names no columns.
    """
    sets = [
        BoundSet(
            name,
            written.where,
            _condition(recipe, name, written.where, ledger) if written.where else (),
            written.sample,
        )
        for name, written in recipe.write.sets.items()
    ]
    for name in recipe.write.sets:
        if f"out_file_{name}" in ledger or f"out_row_{name}" in ledger:
            raise RecipeError(
                f"{_place(recipe, f'sets.{name}')}: there is a column out_file_{name} or out_row_{name} already, which "
                "would say where the documents of this set are; rename the set"
            )
    _check_partition(recipe, ledger)
    known = {**ledger, **other}
    if recipe.write.columns is None:
        found = [DataColumn(name, known[name], name, (name,), True) for name in default]
    else:
        found = _columns(recipe, known)
    found = [column for column in found if column.name not in ALWAYS]
    _check_format(recipe, found)
    return BoundWrite(tuple(found), tuple(sets) or (BoundSet("", None, (), None),))


def _place(recipe: Recipe, key: str) -> str:
    """'recipe.yaml:12: write.partition' for messages."""
    head, _, _ = key.partition(".")
    place = recipe.write.places.get(key) or recipe.write.places.get(head) or recipe.path or recipe.name
    return f"{place}: write.{key}"


def _condition(recipe: Recipe, name: str, where: str, ledger: Mapping[str, pa.DataType]) -> tuple[str, ...]:
    place = _place(recipe, f"sets.{name}")
    sql.check_types({"where": where}, {}, pa.schema(list(ledger.items())), where=place, boolean=True)
    return tuple(sorted(sql.parse(where, where=place).columns))


def _check_partition(recipe: Recipe, ledger: Mapping[str, pa.DataType]) -> None:
    place, taken = _place(recipe, "partition"), set()
    for name in recipe.write.partition:
        if name not in ledger:
            raise RecipeError(f"{place}: no column {name}.{did_you_mean(name, ledger)}")
        if name in taken:
            raise RecipeError(f"{place}: {name} stands there twice")
        if not any(test(ledger[name]) for test in FOLDER_TYPES):
            raise RecipeError(
                f"{place}: {name} is {ledger[name]}; folders are named after texts, whole numbers, dates or booleans"
            )
        taken.add(name)


def _columns(recipe: Recipe, known: Mapping[str, pa.DataType]) -> list[DataColumn]:
    place, schema = _place(recipe, "columns"), pa.schema(list(known.items()))
    found: dict[str, DataColumn] = {}
    for item in recipe.write.columns or ():
        text, name = sql.parse_select_item(item, where=place)
        columns = tuple(sorted(sql.parse(text, where=place).columns))
        plain = sql.is_column(text)
        if plain and columns[0] not in known:
            raise RecipeError(f"{place}: no column {columns[0]}.{did_you_mean(columns[0], known)}")
        if name in ALWAYS and columns != (name,):
            raise RecipeError(f"{place}: {item.strip()}: every row has a {name} of its own; choose another name")
        if name.lower() in {other.lower() for other in found}:
            raise RecipeError(
                f"{place}: {item.strip()}: {name} is taken already; give one of them another name with AS"
            )
        if plain:
            kind = known[columns[0]]
        else:
            kind = canonical(sql.check_types({name: text}, {}, schema, where=place, boolean=False)[name])
        found[name] = DataColumn(name, kind, text, columns, plain)
    return list(found.values())


def _check_format(recipe: Recipe, columns: Sequence[DataColumn]) -> None:
    """Refuses types that the files cannot hold: intervals and unions everywhere, bytes in JSON."""
    place = _place(recipe, "columns")
    for column in columns:
        if not column.plain and not _in_parquet(column.type):
            raise RecipeError(f"{place}: {column.name} is {column.type}, which no file can hold: CAST it to VARCHAR")
        if recipe.write.format == "jsonl.zst" and not in_json(column.type):
            raise RecipeError(
                f"{place}: {column.name} is {column.type}, which JSON cannot hold: name the columns to write, and "
                f"hex({column.name}) AS {column.name} in its place"
            )


def _in_parquet(kind: pa.DataType) -> bool:
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([("column", kind)])).close()
    except pa.ArrowException:
        return False
    return True
