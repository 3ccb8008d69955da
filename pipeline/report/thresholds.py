"""Which numbers cut which column: the comparisons in the rules' SQL, and the cuts that thresholds found.

Invariant: a line in a chart stands only where the rule compares the plain column with one number; what an expression
computes first (a ratio of two columns, a logarithm) has no place on the column's axis.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..cuts import cut_column, cut_facts, cut_group
from ..output import Output

_SIGNS = {
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_EQUAL": "=",
}
_TURNED = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "=": "="}
OPPOSITE = {">=": "<", ">": "<=", "<=": ">", "<": ">="}


@dataclass(frozen=True)
class Threshold:
    """`column sign value`, as a rule of a stage asks it; `param`: the full name under which a recipe sets the value,
    None where the rule's text holds it; `varies`: the column whose groups have values of their own, if any."""

    rule: str
    stage: str
    column: str
    sign: str
    value: float
    param: str | None
    varies: str | None

    @property
    def title(self) -> str:
        """'words_min', or the rule where the number has no name."""
        return (self.param or self.rule).rpartition(".")[2]


def thresholds(output: Output) -> list[Threshold]:
    """All of the recipe's, in the order of stages and rules."""
    configs = _configs(output)
    found: dict[Threshold, None] = {}
    for name, rule in output.manifest["rules"].items():
        if rule["sql"]:
            by = configs.get(rule["stage"], {}).get("by")
            for one in _of_rule(output, name, rule, by):
                found[one] = None
        elif facts := cut_facts(output, rule["stage"]):
            for one in _of_cut(output, name, rule["stage"], facts):
                found[one] = None
    return list(found)


def _of_cut(output: Output, rule: str, stage: str, facts: Mapping[str, Any]) -> Iterator[Threshold]:
    """The cut of all documents, as far as there is one; documents with its very score may lie on either side."""
    edge = rule.rpartition(".")[2]
    cut = facts["overall"].get(edge)
    if cut is not None:
        better = ">=" if facts["side"] == "top" else "<="
        sign = better if edge == "below" else OPPOSITE[better]
        group = cut_group(output, stage, facts) if facts["groups"] else None
        yield Threshold(rule, stage, cut_column(output, stage, facts), sign, float(cut["score"]), rule, group)


def _configs(output: Output) -> dict[str, Mapping[str, Any]]:
    entries = output.manifest["recipe"]["stages"]
    return {stage["name"]: entry["config"] for stage, entry in zip(output.stages, entries, strict=True)}


def _of_rule(output: Output, name: str, rule: Mapping[str, Any], by: str | None) -> Iterator[Threshold]:
    params = {full.rpartition(".")[2]: (full, value) for full, value in dict(rule["params"]).items()}
    tree = output.rows("SELECT json_serialize_sql('SELECT ' || ?) AS tree", [rule["sql"]])[0]["tree"]
    for column, sign, number in _comparisons(json.loads(tree)):
        full, value = params.get(number[1:], (None, None)) if number.startswith("$") else (None, _number(number))
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Threshold(name, rule["stage"], column, sign, float(value), full, by if full else None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _comparisons(node: Any) -> Iterator[tuple[str, str, str]]:
    """(column, sign, '$name' or digits) for every comparison of a column with a parameter or a number."""
    if isinstance(node, list):
        for child in node:
            yield from _comparisons(child)
    if not isinstance(node, dict):
        return
    if node.get("class") == "BETWEEN":
        for sign, side in ((">=", "lower"), ("<=", "upper")):
            yield from _pair(node["input"], sign, node[side])
    elif node.get("class") == "COMPARISON" and node["type"] in _SIGNS:
        sign = _SIGNS[node["type"]]
        yield from _pair(node["left"], sign, node["right"])
        yield from _pair(node["right"], _TURNED[sign], node["left"])
    for child in node.values():
        yield from _comparisons(child)


def _pair(left: Mapping[str, Any], sign: str, right: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if left["class"] != "COLUMN_REF" or len(left["column_names"]) != 1:
        return
    if right["class"] == "PARAMETER":
        yield left["column_names"][0], sign, f"${right['identifier']}"
    elif right["class"] == "CONSTANT" and right.get("literal", {}).get("kind") in ("INTEGER", "NUMERIC"):
        yield left["column_names"][0], sign, right["literal"]["text"]
