"""Frozen cuts of a finished output in words: what a threshold asked for, and what a document needs to lie within.

Invariant: every number comes from the manifest's facts, of a run that found its cut as of one that took it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .output import Output
from .terminal import value, visible

OPPOSITE = {">": "<", "<": ">"}


def cut_facts(output: Output, stage: str | None) -> Mapping[str, Any] | None:
    """What a threshold froze or took; None for any other stage."""
    facts = output.manifest["facts"].get(stage or "", {})
    return facts if "overall" in facts and "quantiles" in facts["overall"] else None


def stage_config(output: Output, stage: str) -> Mapping[str, Any]:
    """What the recipe says of a stage, without the keys that every stage takes."""
    entries = output.manifest["recipe"]["stages"]
    return next((e["config"] for e, s in zip(entries, output.stages, strict=True) if s["name"] == stage), {})


def cut_column(output: Output, stage: str, facts: Mapping[str, Any]) -> str:
    """The column of scores in this run."""
    return stage_config(output, stage).get("column") or facts["column"]


def cut_group(output: Output, stage: str, facts: Mapping[str, Any]) -> str | None:
    """The column of groups in this run."""
    return stage_config(output, stage).get("group") or facts.get("group")


def asked(facts: Mapping[str, Any]) -> str:
    """'10 % of chars', '30,000,000,000 n_tokens', '40 % to 60 % of docs'; 'the lowest ...' where low scores are better."""
    if facts.get("band"):
        low, high = facts["band"]
        text = f"{100 * low:g} % to {100 * high:g} % of {facts['by']}"
    elif isinstance(facts["keep"], float):
        text = f"{100 * facts['keep']:g} % of {facts['by']}"
    else:
        text = f"{facts['keep']:,} {facts['by']}"
    return text if facts["side"] == "top" else f"the lowest {text}"


def condition(column: str, facts: Mapping[str, Any], cut: Mapping[str, Any] | None, edge: str) -> str:
    """What keeps a document at one edge: 'quality >= 0.93'; 'quality > 0.9, or = 0.9 and a draw up to 0.41' where equal
    scores were split. Empty where the edge keeps all."""
    if cut is None:
        return "" if edge == "below" else "a worse score than any document has"
    better = ">" if facts["side"] == "top" else "<"
    score = value(cut["score"])
    if edge == "below":
        return (
            f"{column} {better}= {score}"
            if len(cut) == 1
            else f"{column} {better} {score}, or = {score} and a draw up to {cut['tie']:.4g}"
        )
    worse = OPPOSITE[better]
    return (
        f"{column} {worse} {score}"
        if len(cut) == 1
        else f"{column} {worse} {score}, or = {score} and a draw above {cut['tie']:.4g}"
    )


def needed(output: Output, row: Mapping[str, Any], stage: str, rule: str) -> str:
    """What a rule of a threshold asks of this document, with whose cut it is; empty for any other rule."""
    facts = cut_facts(output, stage)
    if facts is None:
        return ""
    edge, column = rule.rpartition(".")[2], cut_column(output, stage, facts)
    group = cut_group(output, stage, facts)
    name = None if group is None or row.get(group) is None else str(row[group])
    own = facts["groups"].get(name)
    whose = f" (the cut of {group} = {visible(name or '')})" if own else " (the cut of all documents)" if group else ""
    return f"{condition(column, facts, (own or facts['overall'])[edge], edge)}{whose}"


def passed(output: Output, row: Mapping[str, Any], stage: str) -> str:
    """Both edges of the cut that a document passed, and what was asked; empty for a stage that is no threshold."""
    facts = cut_facts(output, stage)
    if facts is None:
        return ""
    edges = [edge for edge in ("above", "below") if edge in facts["overall"]]
    needs = [text for edge in edges if (text := needed(output, row, stage, edge))]
    return f"{asked(facts)}: {' and '.join(needs)}" if needs else asked(facts)
