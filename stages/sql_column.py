"""A column by scalar SQL over the other columns of its row: a cell to group by, a ratio of two scores.

Invariant: the value follows from the row alone (see `sql`), and stands in the ledger like any measured one.
"""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from . import sql
from .base import Column, Stage, StageConfig
from .errors import RecipeError

TYPES = {  # as the recipe says it: as Arrow and as SQL do
    "string": (pa.string(), "VARCHAR"),
    "int64": (pa.int64(), "BIGINT"),
    "float64": (pa.float64(), "DOUBLE"),
    "bool": (pa.bool_(), "BOOLEAN"),
}


class SqlColumnConfig(StageConfig):
    """What `use: sql_column` takes."""

    sql: str = Field(description="scalar SQL over columns, as in `where`: source || '/' || floor(log2(chars))::INT")
    type: Literal["string", "int64", "float64", "bool"] = Field(
        default="string",
        description="type of the column, to which the value is cast; one that does not fit stops the run",
    )

    @field_validator("sql")
    @classmethod
    def _one_expression(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("an expression over columns, such as source || '/' || lang")
        return text


class SqlColumn(Stage):
    """Adds a column by scalar SQL over the columns of its row, to group, order or decide by.

    `name` is the column's name. A NaN is null, and so is a division by zero.
    """

    Config = SqlColumnConfig
    config: SqlColumnConfig

    def __init__(self, config: Any, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        expression = sql.parse(config.sql, where="sql")
        if expression.params:
            raise RecipeError(f"sql: ${min(expression.params)}: there are no parameters here, write the value itself")
        self._columns = tuple(sorted(expression.columns))

    @property
    def needs(self) -> tuple[str, ...]:
        return self._columns

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("value", TYPES[self.config.type][0], " ".join(self.config.sql.split())),)

    def check(self, schema: pa.Schema) -> None:
        sql.check_types({"sql": self._cast}, {}, schema, where=self.name, boolean=False)

    @property
    def _cast(self) -> str:
        return f"CAST((\n{self.config.sql}\n) AS {TYPES[self.config.type][1]})"

    def measure(self, batch: pa.Table) -> pa.Table:
        try:
            found = sql.evaluate(batch, {"value": self._cast}, {})
        except RecipeError as error:
            raise RecipeError(f"{self.name}: sql: {error}") from error
        return found.cast(pa.schema([("value", TYPES[self.config.type][0])]))
