"""sql_column: a column by scalar SQL, of the type that was asked for, row by row."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from tamis.stages.errors import RecipeError
from tamis.stages.sql_column import SqlColumn

ROWS = pa.table({"source": ["web", None, "books"], "chars": pa.array([1000, 5, 70_000]), "x": [1.0, float("nan"), 0.0]})


def column(sql: str, **config: str) -> SqlColumn:
    stage = SqlColumn(SqlColumn.Config(**{"sql": sql, **config}), name="cell")
    stage.check(pa.schema([ROWS.schema.field(name) for name in stage.needs]))
    return stage


def values(sql: str, **config: str) -> list:
    found = column(sql, **config).measure(ROWS)
    assert found.column_names == ["value"]
    return found["value"].to_pylist()


def test_a_cell_of_source_and_length_is_a_string_and_null_where_a_part_of_it_is():
    assert values("source || '/' || floor(log2(chars))::INT") == ["web/9", None, "books/16"]
    assert column("source || chars").needs == ("chars", "source")


@pytest.mark.parametrize(
    ("kind", "arrow", "expected"),
    [
        ("string", pa.string(), ["1000", "5", "70000"]),
        ("int64", pa.int64(), [1000, 5, 70_000]),
        ("float64", pa.float64(), [1000.0, 5.0, 70_000.0]),
        ("bool", pa.bool_(), [True, True, True]),
    ],
)
def test_the_value_has_the_type_that_was_asked_for(kind, arrow, expected):
    found = column("chars -- a comment", type=kind).measure(ROWS)["value"]
    assert (found.type, found.to_pylist()) == (arrow, expected)
    assert column("chars", type=kind).adds[0].type == arrow


def test_what_is_no_number_is_null():
    assert values("chars / x", type="float64") == [1000.0, None, None]


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("random()", "sql: random"),
        ("sum(chars)", "aggregate"),
        ("chars > $least", r"sql: \$least: there are no parameters"),
        ("upper(chars, chars)", "cell: sql: "),
    ],
)
def test_what_is_no_scalar_expression_over_the_row_is_refused_before_the_run(sql, complaint):
    with pytest.raises(RecipeError, match=complaint):
        column(sql)
    with pytest.raises(ValidationError, match="an expression over columns"):
        SqlColumn.Config(**{"sql": "  "})


def test_a_value_that_does_not_fit_stops_with_the_name_and_the_way_out():
    with pytest.raises(RecipeError, match=r"(?s)cell: sql: value: .*TRY_CAST"):
        values("source", type="int64")
