"""Scalar SQL: what is refused, what nulls and NaN mean, that rows keep their count, order and thread."""

from __future__ import annotations

import gc
import math
import os
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.stages import sql
from tamis.stages.errors import RecipeError

REFUSED = {
    "second statement": "1; DROP TABLE a",
    "second select": "1; SELECT 2",
    "closing the bracket": "1) AS a, (2",
    "closing the bracket and reading a file": "x) FROM read_csv('a.csv') --",
    "copy": "COPY (SELECT 1) TO 'a.csv'",
    "attach": "ATTACH 'a.db' AS a",
    "pragma": "PRAGMA database_list",
    "set": "SET threads = 4",
    "install": "INSTALL httpfs",
    "open comment": "1 /* ",
    "open string": "x = 'a",
    "nothing but a comment": "-- x",
    "nothing": " ",
    "nul": "x = 1 \0",
    "table function as scalar": "read_csv('a.csv')",
    "read_text": "read_text('a.txt')",
    "environment": "getenv('HOME')",
    "settings": "current_setting('threads')",
    "variable": "getvariable('x')",
    "subquery": "(SELECT 1)",
    "subquery over a file": "x IN (SELECT a FROM 'a.parquet')",
    "exists": "EXISTS (FROM read_csv('a.csv'))",
    "subquery in disguise": "x = ANY([1, 2])",
    "window": "lag(x) OVER ()",
    "row number": "row_number() OVER () < 5",
    "aggregate": "sum(x) > 1",
    "aggregate with a filter": "max(x) FILTER (WHERE x > 1)",
    "aggregate in a macro": "geomean(x)",
    "distinct argument": "lower(DISTINCT x)",
    "unnest": "unnest([1, 2])",
    "unnest in a macro": "generate_subscripts(x, 1)",
    "unnest in a list": "[unnest([1])]",
    "random": "random() < 0.1",
    "uuid": "uuid()",
    "now": "x < now()",
    "today": "today()",
    "clock labelled consistent": "current_localtimestamp()",
    "clock in age": "age(x) > INTERVAL 1 DAY",
    "clock in a macro": "ago(INTERVAL 1 DAY)",
    "function with a prefix": "main.now()",
    "sleep": "sleep_ms(1000)",
    "error": "error('x')",
    "sequence": "nextval('s')",
    "build": "version()",
    "star": "*",
    "columns": "COLUMNS('.*')",
    "two items": "x, y",
    "name": "x AS y",
    "name without as": "x y",
    "name in front": "y: x",
    "from": "x FROM t",
    "where": "x WHERE y",
    "limit": "x LIMIT 1",
    "order": "x ORDER BY x",
    "group": "x GROUP BY x",
    "union": "x UNION SELECT 1",
    "sample": "x USING SAMPLE 1",
    "distinct": "DISTINCT x",
    "all": "ALL x",
    "position": "#1",
    "grouping": "GROUPING(x)",
    "nameless parameter": "x > ?",
    "numbered parameter": "x > $1",
    "unknown function": "lenght(x) > 1",
    "too deep for anybody": "(" * 5000 + "x" + ")" * 5000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_one_pure_scalar_expression_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(RecipeError) as error:
        sql.parse(text, where="recipe.yaml:7: stages.english")
    assert str(error.value).startswith("recipe.yaml:7: stages.english: ")


def test_the_refusal_says_why_and_names_the_nearest_function() -> None:
    for text, why in {
        "lenght(x)": "Did you mean: length?",
        "sum(x)": "aggregate",
        "random()": "not a pure function",
        "(SELECT 1)": "subquery",
    }.items():
        with pytest.raises(RecipeError, match=why.replace("?", r"\?")):
            sql.parse(text, where="here")


def test_columns_and_parameters_of_an_expression_are_found_wherever_they_stand() -> None:
    for text, columns, params in [
        ("lang = 'en' AND lang_score >= $min", {"lang", "lang_score"}, {"min"}),
        ("words BETWEEN $lo AND $hi -- words of $text", {"words"}, {"lo", "hi"}),
        ("CASE a WHEN $p THEN b ELSE c END IN (d, $q)", set("abcd"), {"p", "q"}),
        ('"Odd name" || \'b $c\' || "quo""te"', {"Odd name", 'quo"te'}, set()),
        ("list_transform(a, lambda z, i: z + i + b)", {"a", "b"}, set()),
        ("[z * $k for z in a if z > b]", {"a", "b"}, {"k"}),
        ("meta.lang.score > 1", {"meta"}, set()),
        ("extra ->> '$.title' LIKE $t", {"extra"}, {"t"}),
        ("extra -> 'a' -> 'b' IS NULL", {"extra"}, set()),
        ("split_part(nullif(url, ''), '/', 3)", {"url"}, set()),
        ("list_sum(a) > 1 AND if(b, c, d)", set("abcd"), set()),
        ("CAST(x AS INTEGER) % 2 = 0 AND y::DATE > DATE '2020-01-01'", {"x", "y"}, set()),
        ("/* a */ x /* b */", {"x"}, set()),
        ("current_date", {"current_date"}, set()),
    ]:
        found = sql.parse(text, where="here")
        assert (found.columns, found.params) == (columns, params), text


def test_select_items_give_expression_and_name() -> None:
    assert sql.parse_select_item("lang AS language") == ("lang", "language")
    assert sql.parse_select_item("lang") == ("lang", "lang")
    assert sql.parse_select_item('"Odd name"') == ('"Odd name"', "Odd name")
    assert sql.parse_select_item('CAST(a AS INT) as "b ""c"') == ("CAST(a AS INT)", 'b "c')
    for text in ("words * 2", "a.b", "'x AS y'", "words AS", "(SELECT 1) AS x", "sum(x) AS x", "a AS b AS c"):
        with pytest.raises(RecipeError):
            sql.parse_select_item(text)


def test_substitute_moves_references_and_nothing_else() -> None:
    text = (
        "'é words $min' = \"größe\" AND $min <= words.part AND list_has([z for z in a if z > $min], words)"
        " AND CASE words WHEN 1 THEN w END -- words"
    )
    columns = {"words": "post_words", "größe": "post größe", "z": "never", "part": "never", "w": "w"}
    assert sql.substitute(text, columns, {"min": "$p1"}) == (
        "'é words $min' = \"post größe\" AND $p1 <= post_words.part AND list_has([z for z in a if z > $p1], "
        "post_words) AND CASE post_words WHEN 1 THEN w END -- words"
    )


def test_a_substituted_expression_gives_the_same_values_over_renamed_columns() -> None:
    table = pa.table({"a": [1, 2, None, 4], "b": [4, 3, 2, 1]})
    text = "CASE WHEN a > $k THEN a * b ELSE -b END"
    moved = sql.substitute(text, {"a": "A x", "b": 'B"'}, {"k": '"limit"'})
    other = table.rename_columns(["A x", 'B"']).append_column("limit", pa.array([2] * 4))
    assert sql.evaluate(other, {"r": moved}, {})["r"].equals(sql.evaluate(table, {"r": text}, {"k": 2})["r"])


def test_types_are_known_before_the_run_and_equal_those_of_the_run() -> None:
    table = pa.table(
        {
            "s": pa.array(["a", None], pa.large_string()),
            "v": pa.array(["a", None], pa.string_view()),
            "i": pa.array([1, None], pa.int16()),
            "u": pa.array([2**63, None], pa.uint64()),
            "f": pa.array([0.5, None], pa.float32()),
            "h": pa.array([0.5, None], pa.float16()),
            "d": pa.array(["a", None]).dictionary_encode(),
            "n": pa.nulls(2),
            "l": pa.array([[1], None]),
            "t": pa.array([0, None], pa.timestamp("us", "UTC")),
        }
    )
    expressions = {name: name for name in table.column_names} | {"less": "f < $p", "sum": "i + f", "none": "n IS NULL"}
    types = sql.check_types(expressions, {"p": 0.5}, table.schema, where="here", boolean=False)
    result = sql.evaluate(table, expressions, {"p": 0.5})
    assert {name: result.schema.field(name).type for name in result.column_names} == types
    assert result["s"].to_pylist() == result["v"].to_pylist() == result["d"].to_pylist() == ["a", None]
    assert result["h"].to_pylist() == [0.5, None]
    assert types["less"] == pa.bool_()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrods > 1", r"no such column: wrods\. Did you mean: words\?"),
        ("Words > 1", r"Did you mean: words\?"),
        ("words > current_date", "no such column: current_date"),
        ("words > $mim", r"no value for \$mim under params\. Did you mean: min\?"),
        ("words + 1", "is int64, must be true or false"),
        ("NULL", "must be true or false"),
        ("words > struct_pack(a := 1)", "Cannot compare|Cannot mix|cast"),
        ('text = "TEXT"', "one name in SQL"),
        ("__batch IS NULL", "no such column: __batch"),
    ],
)
def test_what_does_not_fit_the_columns_is_a_recipe_error_with_the_nearest_name(text: str, message: str) -> None:
    schema = pa.schema({"words": pa.int64(), "text": pa.large_string(), "TEXT": pa.large_string()})
    with pytest.raises(RecipeError, match=message) as error:
        sql.check_types({"ok": "words > $min", "rule": text}, {"min": 1}, schema, where="r.yaml:3", boolean=True)
    assert str(error.value).startswith("r.yaml:3: rule: ")


def test_null_logic_is_three_valued() -> None:
    table = pa.table({"a": pa.array([True, True, False, None]), "x": pa.array([1, None, None, 5])})
    result = sql.evaluate(table, {"and": "a AND x > 0", "or": "a OR x > 0", "not": "NOT a", "is": "x IS NULL"}, {})
    assert result.to_pydict() == {
        "and": [True, None, False, None],
        "or": [True, True, None, True],
        "not": [False, False, True, None],
        "is": [False, True, True, False],
    }


def test_nan_is_null_whether_read_or_computed() -> None:
    table = pa.table({"x": pa.array([math.nan, 1.0, math.inf]), "y": pa.array([0.0, 0.0, 4.0], pa.float32())})
    result = sql.evaluate(
        table,
        {"read": "x >= 50", "value": "x", "div": "1.0::DOUBLE / y", "zero": "0 * y / y >= 50", "made": "x - x"},
        {},
    )
    assert result.to_pydict() == {
        "read": [None, False, True],
        "value": [None, 1.0, math.inf],
        "div": [None, None, 0.25],
        "zero": [None, None, False],
        "made": [None, 0.0, None],
    }


@given(st.fractions(0, 1, max_denominator=1000))
@settings(max_examples=60, deadline=None)
def test_a_float_parameter_equals_the_float32_share_of_the_same_decimal(share) -> None:
    value = round(float(share), 4)
    table = pa.table({"f": pa.array([value], pa.float32()), "d": pa.array([value], pa.float64())})
    result = sql.evaluate(table, {"f": "f <= $p AND f >= $p", "d": "d = $p"}, {"p": value})
    assert result.to_pylist() == [{"f": True, "d": True}]


def test_parameters_are_values_never_text() -> None:
    table = pa.table({"s": ["' OR true --", "x", None]})
    result = sql.evaluate(
        table, {"same": "s = $p", "in": "list_contains($l, s)"}, {"p": "' OR true --", "l": ["x"], "unused": 1}
    )
    assert result.to_pydict() == {"same": [True, False, None], "in": [False, True, None]}
    for value, kind in [(True, "BOOLEAN"), (None, '"NULL"'), (2**40, "BIGINT"), (1e-30, "DOUBLE"), (1e30, "DOUBLE")]:
        assert sql.evaluate(table, {"t": "typeof($p)"}, {"p": value})["t"][0].as_py() == kind, value


@pytest.mark.parametrize("rows", [0, 1, 2047, 2049, 100_003])
def test_as_many_rows_come_back_in_order_from_any_chunking(rows: int) -> None:
    x = np.arange(rows)
    table = pa.table(
        {"x": pa.chunked_array([x[i : i + 977] for i in range(0, rows, 977)] or [x]), "text": ["t"] * rows}
    )
    result = sql.evaluate(table, {"x": "x", "odd": "x % 2 = 1", "one": "1 = 1"}, {})
    assert result.column_names == ["x", "odd", "one"]
    assert np.array_equal(result["x"].to_numpy(), x)
    assert np.array_equal(result["odd"].to_numpy(), x % 2 == 1)
    assert result["one"].to_numpy().sum() == rows


def test_names_that_need_quotes_work_as_column_and_as_result() -> None:
    names = ["a b", 'q"uote', "select", "größe", "x;--", "__batch"]
    table = pa.table({name: [i] for i, name in enumerate(names)})
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in names}
    assert sql.evaluate(table, quoted, {}).to_pylist() == [{name: i for i, name in enumerate(names)}]


def test_a_value_that_does_not_fit_names_the_expression_and_leaves_the_next_call_whole() -> None:
    table = pa.table({"s": ["1", "x"]})
    with pytest.raises(RecipeError, match=r"number: s::INT.*TRY_CAST"):
        sql.evaluate(table, {"fine": "s = '1'", "number": "s::INT > 0"}, {})
    assert sql.evaluate(table, {"n": "TRY_CAST(s AS INT) > 0"}, {})["n"].to_pylist() == [True, None]


def test_the_connection_is_locked_and_sees_no_python_variable_and_no_file(tmp_path) -> None:
    duckdb = pytest.importorskip("duckdb")
    from tamis.stages._duckdb import session

    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    table = pa.table({"x": [1]})
    for query in (
        f"FROM read_csv('{path}')",
        f"FROM '{path}'",
        f"COPY (SELECT 1) TO '{tmp_path / 'b.csv'}'",
        f"ATTACH '{tmp_path / 'c.db'}'",
        "FROM table",
        "SET enable_external_access = true",
        "SET threads = 2",
        "INSTALL httpfs",
        "LOAD httpfs",
    ):
        with pytest.raises(duckdb.Error):
            session().connection.execute(query).fetchall()
    assert table.num_rows == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv"]


def test_four_threads_evaluate_at_once() -> None:
    def work(seed: int) -> bool:
        x = np.random.default_rng(seed).integers(0, 100, 5000)
        return all(
            np.array_equal(sql.evaluate(pa.table({"x": x}), {"r": "x > $k"}, {"k": k})["r"].to_numpy(), x > k)
            for k in range(20)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads as Linux shows them")
def test_a_connection_brings_no_threads_of_its_own() -> None:
    def opened() -> int:
        before = len(os.listdir("/proc/self/task"))
        sql.evaluate(pa.table({"x": [1.5]}), {"r": "x > 0"}, {})
        return len(os.listdir("/proc/self/task")) - before

    opened()  # Arrow's own pool
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(opened).result() <= 0


@pytest.mark.parametrize("text", ["s = 'a'", "s::INT > 0"], ids=["returns", "fails"])
def test_a_batch_is_let_go_when_the_call_ends(text: str) -> None:
    data = np.full(10, ord("a"), np.uint8)
    seen = weakref.ref(data)
    offsets = pa.py_buffer(np.arange(11, dtype=np.int64))
    table = pa.table({"s": pa.LargeStringArray.from_buffers(10, offsets, pa.py_buffer(data))})
    with nullcontext() if text.startswith("s =") else pytest.raises(RecipeError):
        sql.evaluate(table, {"r": text}, {})
    del data, table
    gc.collect()
    assert seen() is None


def test_evaluating_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sql.evaluate(pa.table({"x": [1]}), {"r": "x > 0"}, {})
