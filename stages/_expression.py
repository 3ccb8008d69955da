"""What is a scalar expression: the syntax tree that DuckDB makes of a text, checked node by node.

Invariant: what `analyse` returns is one expression whose value follows from its row and its parameters alone.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ._duckdb import functions, session

_NO_LOCATION = 2**64 - 1  # what DuckDB writes for nodes that stand nowhere in the text
_PREFIX = b"SELECT "
_WHY_NOT = {
    "SUBQUERY": "a subquery (for `= ANY(list)` write list_contains(list, x) or x IN (...))",
    "WINDOW": "a window function: an expression sees one row at a time",
    "STAR": "a star or COLUMNS(...): name the columns",
    "POSITIONAL_REFERENCE": "a positional reference: name the column",
    "DEFAULT": "DEFAULT",
}
DRAWN = "pareto"
_SCALAR = {"BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"}
_SCALAR |= {"LAMBDA", "OPERATOR", "PARAMETER", "TYPE"}


@dataclass(frozen=True)
class Expression:
    """One checked scalar expression: its text, the columns it reads and the `$name` parameters it takes. `draws`: it holds
    `pareto(score, alpha)`, which is true by a draw of the document."""

    sql: str
    columns: frozenset[str]
    params: frozenset[str]
    draws: bool = False


class Refused(Exception):
    """Why an expression is none of ours; `parse` adds where it stands."""


@dataclass
class Found:
    """What a walk over a parsed expression collects. `places`: (byte offset in the text, 'column' | 'param' | 'draw',
    name)."""

    columns: set[str] = field(default_factory=set)
    params: set[str] = field(default_factory=set)
    places: set[tuple[int, str, str]] = field(default_factory=set)
    is_column: bool = False
    draws: bool = False


@functools.lru_cache(maxsize=4096)
def analyse(sql: str) -> tuple[Expression, Found]:
    """The expression and what its tree holds; Refused with the reason if it is not scalar and pure."""
    if "\0" in sql:
        raise Refused("holds a NUL character")
    items = _items(_PREFIX.decode() + sql + "\n")
    if len(items) != 1:
        raise Refused("must be one expression")
    if items[0]["alias"]:
        raise Refused("takes no name (AS) here")
    _items(f"SELECT (\n{sql}\n)")  # as `evaluate` writes it: `ALL x` is a select list, not an expression
    found = _walk(items[0])
    found.is_column = items[0]["class"] == "COLUMN_REF" and len(items[0]["column_names"]) == 1
    return Expression(sql, frozenset(found.columns), frozenset(found.params), found.draws), found


def _items(query: str) -> list[dict[str, Any]]:
    """The select list of the one plain SELECT that `query` must be."""
    ((text,),) = session().connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    try:
        answer = json.loads(text)
    except RecursionError:
        raise Refused("is nested too deeply") from None
    if answer["error"]:
        raise Refused("is no expression: " + answer["error_message"].strip().split("\n")[0])
    if len(answer["statements"]) != 1:
        raise Refused("must be one statement")
    node = answer["statements"][0]["node"]
    allowed = {"type", "select_list", "aggregate_handling"}
    clauses = {key for key, value in node.items() if key not in allowed and value not in (None, [], {"map": []})}
    if node["type"] != "SELECT_NODE" or clauses != {"from_table"} or node["from_table"]["type"] != "EMPTY":
        raise Refused("must be an expression, without FROM, WHERE, GROUP BY, ORDER BY, LIMIT, WITH or UNION")
    return node["select_list"]


def _walk(root: dict[str, Any]) -> Found:
    """Checks every node (a chain of 900 operators is deeper than Python's stack, so no recursion)."""
    found = Found()
    stack: list[tuple[Any, frozenset[str]]] = [(root, frozenset())]
    while stack:
        node, scope = stack.pop()
        if isinstance(node, list):
            stack.extend((child, scope) for child in node)
            continue
        if not isinstance(node, dict):
            continue
        kind = node.get("class")
        if kind is not None and kind not in _SCALAR:
            raise Refused(f"holds {_WHY_NOT.get(kind, kind.lower())}")
        if kind == "COLUMN_REF":
            name = node["column_names"][0]
            if name not in scope:
                found.columns.add(name)
                _place(found, node, "column", name)
        elif kind == "PARAMETER":
            name = node["identifier"]
            if not name.isidentifier():
                raise Refused("parameters have names: write $name")
            found.params.add(name)
            _place(found, node, "param", name)
        elif kind == "FUNCTION" and node["function_name"].lower() == DRAWN:
            _check_drawn(node)
            found.draws = True
            _place(found, node, "draw", DRAWN)
        elif kind == "FUNCTION":
            _check_function(node)
        elif kind == "OPERATOR" and node["type"] == "GROUPING_FUNCTION":
            raise Refused("GROUPING is an aggregate: a rule sees one row")
        elif kind == "LAMBDA" and node["syntax_type"] == "LAMBDA_KEYWORD":
            names = frozenset(inner["column_names"][0] for inner in _nodes(node["lhs"], "COLUMN_REF"))
            stack.append((node["expr"], scope | names))
            continue
        stack.extend((child, scope) for child in node.values() if isinstance(child, (dict, list)))
    return found


def _place(found: Found, node: dict[str, Any], kind: str, name: str) -> None:
    if node["query_location"] != _NO_LOCATION:
        found.places.add((node["query_location"] - len(_PREFIX), kind, name))


def _nodes(root: Any, kind: str) -> Iterator[dict[str, Any]]:
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if node.get("class") == kind:
                yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _check_drawn(node: dict[str, Any]) -> None:
    plain = len(node["qualified_name"]["path"]) == 1 and not (
        node["distinct"] or node["filter"] or node["order_bys"]["orders"]
    )
    if not plain or len(node["arguments"]) != 2:
        raise Refused(f"{DRAWN} takes a score and a shape: {DRAWN}(quality, 9)")


def _check_function(node: dict[str, Any]) -> None:
    """Refuses a function that is no pure scalar; a macro (`nullif`, `list_sum`) is what its body is."""
    name, known = node["function_name"].lower(), functions()
    if len(node["qualified_name"]["path"]) != 1:
        raise Refused(f"{'.'.join(node['qualified_name']['path'])}: write {name}(...), without a prefix")
    if node["distinct"] or node["filter"] or node["order_bys"]["orders"]:
        raise Refused(f"{name}: DISTINCT, FILTER and ORDER BY belong to aggregates: a rule sees one row")
    if name == "age" and len(node["arguments"]) == 1:
        raise Refused("age(x) counts from today: it is not a pure function of the row")
    if name in known.pure:
        return
    if name in known.macros and name not in known.others:
        for parameters, body in known.macros[name]:
            try:
                ok = _walk(_items(f"SELECT {body}")[0]).columns <= parameters
            except Refused:
                ok = False
            if not ok:
                raise Refused(f"{name} is not a pure function of the row")
        return
    if name in known.others:
        raise Refused(f"{name} {known.others[name]}")
    near = difflib.get_close_matches(name, known.pure | set(known.macros), n=1)
    raise Refused(f"no such function: {name}.{f' Did you mean: {near[0]}?' if near else ''}")
