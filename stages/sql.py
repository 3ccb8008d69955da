"""Scalar SQL over the columns of a row: what a recipe's rules, `where`, `sets`, `by` and `columns` are made of.

Invariant: an expression is a pure function of its row and its parameters. What could see another row, the clock, a
file or the machine is refused by `parse` before anything runs, and the connection that evaluates is locked besides.

DuckDB evaluates, in the calling thread. Three settings are ours: division by zero is null and so is a NaN that comes in
or out (in SQL `NaN >= 50` is true, so a broken number would pass every rule; infinity is a number), and a float parameter is bound as the
decimal that was written: against a float32 column DuckDB then compares float32 with float32, as it does for a literal.
Bound as a double, `share <= $max` with share = float32(0.1) and max = 0.1 would be false.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ._duckdb import duckdb, forget, session
from ._expression import DRAWN, Expression, Refused, analyse
from .errors import RecipeError, StageError, did_you_mean

_BATCH = "__batch"


def parse(sql: str, *, where: str, draws: bool = False) -> Expression:
    """The expression, checked; RecipeError naming `where` if it is not one scalar, pure expression over its row, or if it
    draws (`pareto`) where there is no draw."""
    try:
        expression, _ = analyse(sql)
    except Refused as refused:
        raise RecipeError(f"{where}: {sql.strip()}: {refused}") from None
    if expression.draws and not draws:
        raise RecipeError(f"{where}: {sql.strip()}: {DRAWN} draws for a rule: it stands in `use: rules` only")
    return expression


def parse_select_item(text: str, *, where: str = "write.columns") -> tuple[str, str]:
    """'lang AS language' -> ('lang', 'language'); a plain column is its own name; anything else needs AS."""
    match = re.fullmatch(r'(.*\S)\s+AS\s+("(?:[^"]|"")+"|\w+)\s*', text, re.IGNORECASE | re.DOTALL)
    if match:
        name = match[2]
        return parse(match[1], where=where).sql, name[1:-1].replace('""', '"') if name.startswith('"') else name
    expression = parse(text, where=where)
    if not is_column(text):
        raise RecipeError(f"{where}: {text.strip()}: an expression needs a name: {text.strip()} AS name")
    return expression.sql, next(iter(expression.columns))


def is_column(sql: str) -> bool:
    """Whether a parsed expression is one column as it stands."""
    return analyse(sql)[1].is_column


def substitute(sql: str, columns: Mapping[str, str], params: Mapping[str, str], *, draw: str | None = None) -> str:
    """The same expression with columns renamed (new column names) and `$name` parameters replaced (new SQL text); with
    `draw`, a column of draws in [0, 1), each `pareto(score, alpha)` is the expression that reads them.

    Only references move: strings, lambda variables, functions and field names stay. What a mapping lacks stays, too.
    """
    _, found = analyse(sql)
    text = sql.encode()
    for offset, kind, name in sorted(found.places, reverse=True):
        if kind == "column" and columns.get(name, name) != name:
            match, new = re.compile(rb'"(?:[^"]|"")*"|[^\s."()\[\]]+').match(text, offset), _reference(columns[name])
        elif kind == "param" and name in params:
            match, new = re.compile(rb'\$\s*(?:"(?:[^"]|"")*"|\w+)').match(text, offset), params[name]
        elif kind == "draw" and draw is not None:
            match, new = (
                re.compile(rb'"?pareto"?\s*\(', re.IGNORECASE).match(text, offset),
                f"pareto_of({_quoted(draw)}, ",
            )
        else:
            continue
        if match is None:
            raise StageError(f"{sql.strip()}: {name} is not where DuckDB {duckdb().__version__} says it is")
        text = text[:offset] + new.encode() + text[match.end() :]
    return text.decode()


def check_types(
    expressions: Mapping[str, str], params: Mapping[str, Any], schema: pa.Schema, *, where: str, boolean: bool
) -> dict[str, pa.DataType]:
    """The type of each expression over an empty table of `schema`; `evaluate` returns these types.

    RecipeError naming `where` and the expression: an unknown column or parameter, types that do not fit, two columns
    that differ only in case, or, with `boolean`, a result that is not boolean.
    """
    parsed = {name: parse(sql, where=f"{where}: {name}") for name, sql in expressions.items()}
    for name, expression in parsed.items():
        place = f"{where}: {name}: {expression.sql.strip()}"
        for column in sorted(expression.columns - set(schema.names)):
            raise RecipeError(f"{place}: no such column: {column}.{did_you_mean(column, schema.names)}")
        for param in sorted(expression.params - set(params)):
            raise RecipeError(f"{place}: no value for ${param} under params.{did_you_mean(param, params)}")
        folded = {column.lower(): column for column in sorted(expression.columns)}
        for column in sorted(expression.columns - set(folded.values())):
            raise RecipeError(
                f"{place}: {column} and {folded[column.lower()]} are one name in SQL; rename one of them under input.rename"
            )
    types: dict[str, pa.DataType] = {}
    for name, expression in parsed.items():
        used = pa.schema([schema.field(column) for column in sorted(expression.columns)])
        try:
            types[name] = _type_of(expression, used, params)
        except duckdb().Error as error:
            raise RecipeError(f"{where}: {name}: {expression.sql.strip()}: {_first_line(error)}") from None
        if boolean and types[name] != pa.bool_():
            raise RecipeError(f"{where}: {name}: {expression.sql.strip()}: is {types[name]}, must be true or false")
    return types


# What a plan needs to know of the types that recipes use; DuckDB's way of taking Arrow tables imports pandas (0.25 s).
_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
}


def _type_of(expression: Expression, used: pa.Schema, params: Mapping[str, Any]) -> pa.DataType:
    """The type of an expression over columns of these types."""
    known = [_SQL_TYPES.get(field.type) for field in used]
    if None in known:
        return _run(used.empty_table(), {"item": expression.sql}, params).schema.field("item").type
    columns = [f"CAST(NULL AS {kind}) AS {_quoted(field.name)}" for kind, field in zip(known, used, strict=True)]
    source = f"(SELECT {', '.join(columns) or 'NULL AS nothing'} WHERE false)"
    current = session()
    try:
        query = current.statement(f"SELECT (\n{expression.sql}\n) AS item FROM {source} AS batch")
        relation = current.connection.sql(query, params={name: bound(params[name]) for name in expression.params})
        return relation.to_arrow_table().schema.field("item").type
    except BaseException:
        forget()
        raise


def evaluate(table: pa.Table, expressions: Mapping[str, str], params: Mapping[str, Any]) -> pa.Table:
    """One column per expression, in their order, row-aligned with `table`; NaN, read or computed, is null.

    Only columns that some expression names are handed to DuckDB. RecipeError where a value makes an expression fail
    (a cast that does not hold): TRY_CAST(...) or TRY(...) give null instead. KeyError for a column that `table` lacks.
    """
    try:
        result = _run(table, expressions, params)
    except duckdb().Error as error:
        raise RecipeError(_culprit(table, expressions, params, error)) from error
    if result.num_rows != table.num_rows:
        raise StageError(f"SQL over {table.num_rows} rows gave {result.num_rows}: {', '.join(expressions)}")
    return _without_nan(result)


def _culprit(table: pa.Table, expressions: Mapping[str, str], params: Mapping[str, Any], error: Exception) -> str:
    """The message for the expression that fails alone; for the error as it came if none does."""
    for name, sql in expressions.items():
        try:
            _run(table, {name: sql}, params)
        except duckdb().Error as alone:
            return (
                f"{name}: {sql.strip()}: {_first_line(alone)} (TRY_CAST or TRY gives null where a value does not fit)"
            )
    return f"{', '.join(expressions)}: {_first_line(error)}"


def _run(table: pa.Table, expressions: Mapping[str, str], params: Mapping[str, Any]) -> pa.Table:
    """Evaluates on this thread's connection; a connection on which something failed is not used again."""
    parsed = [analyse(sql)[0] for sql in expressions.values()]
    if not parsed:
        return table.select([])
    columns = sorted(frozenset().union(*(expression.columns for expression in parsed)))
    wanted = frozenset().union(*(expression.params for expression in parsed))
    batch = _readable(table, columns)
    items = ", ".join(f"(\n{sql}\n) AS {_quoted(name)}" for name, sql in expressions.items())
    current = session()
    try:
        current.connection.register(_BATCH, batch)
        query = current.statement(f"SELECT {items} FROM {_BATCH}")
        # a relation, because a cursor copies its rows once more and warns of it
        relation = current.connection.sql(query, params={name: bound(params[name]) for name in wanted})
        result = relation.to_arrow_table()
        current.connection.unregister(_BATCH)
    except BaseException:
        forget()
        raise
    return result


def _readable(table: pa.Table, columns: list[str]) -> pa.Table:
    """The named columns as DuckDB can take them: float16 as float32, NaN as null, at least one column."""
    if not columns:
        return pa.table({_BATCH: pa.nulls(table.num_rows, pa.bool_())})
    batch = table.select(columns)
    half = [name for name in columns if batch.schema.field(name).type == pa.float16()]
    for name in half:
        batch = batch.set_column(columns.index(name), name, batch[name].cast(pa.float32()))
    return _without_nan(batch)


def _without_nan(table: pa.Table) -> pa.Table:
    for index, column in enumerate(table.columns):
        if pa.types.is_floating(column.type):
            nan = pc.is_nan(column)
            if pc.any(nan).as_py():
                clean = pc.if_else(nan, pa.scalar(None, column.type), column)
                table = table.set_column(index, table.column_names[index], clean)
    return table


def bound(value: Any) -> Any:
    """A parameter as DuckDB gets it: floats as the decimal that was written, within DECIMAL(36, 18)."""
    if isinstance(value, float):
        decimal = Decimal(repr(value))
        if decimal.is_finite() and abs(decimal) < 10**18 and -18 <= int(decimal.as_tuple().exponent) <= 0:
            return decimal
    return value


def _reference(name: str) -> str:
    """A column in SQL as a person would write it. `post_words` needs no quotes: but for `current_...` no word of SQL
    that is reserved has an underscore."""
    plain = re.fullmatch(r"[a-z][a-z0-9]*_[a-z0-9_]+", name) and not name.startswith("current_")
    return name if plain else _quoted(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
