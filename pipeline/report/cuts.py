"""What every threshold asked for, and what it reached: by group, in documents and in what its shares count.

Invariant: reached shares are counted in this run's ledger, also where the cut was frozen by an earlier run, so drift
shows; what the ledger does not hold is None and shown as 'not known'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..cuts import asked, condition, cut_column, cut_facts, cut_group, stage_config
from ..output import Output, quoted_name
from .losses import came
from .rows import quoted

SHOWN = 30  # groups


@dataclass(frozen=True)
class CutLine:
    """Documents with a score and how many of them stayed; the same in weight, None where the ledger does not hold it.
    `name` None: all documents that have no cut of their own. `needs`: what keeps a document. `there`: the share, of
    documents and of weight, that the cut kept where it was found. `quantiles` of the scores there, of a tenth up."""

    name: str | None
    documents: int
    kept: int
    weight: int | None
    kept_weight: int | None
    needs: str
    there: tuple[float, float] | None
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class CutStage:
    """A threshold. `weighed` by what, 'docs' where shares count documents; `as_read`: characters are those of the text
    before the edits, as the ledger has no others. `origin`: output and stage that a cut was taken from. `lines`: the
    largest groups with cuts of their own, then all other documents; `more` groups that are not shown. `known`: whether
    the ledger can tell who reached the stage with a score."""

    stage: str
    column: str
    group: str | None
    asked: str
    weighed: str
    as_read: bool
    origin: str | None
    tags: bool
    lines: tuple[CutLine, ...]
    more: int
    known: bool
    facts: Mapping[str, Any]


def cut_stages(output: Output) -> list[CutStage]:
    """One for every threshold, in order."""
    return [
        _of_stage(output, stage["name"], entry, facts)
        for stage, entry in zip(output.stages, output.manifest["recipe"]["stages"], strict=True)
        if (facts := cut_facts(output, stage["name"])) is not None
    ]


def _of_stage(output: Output, stage: str, entry: Mapping[str, Any], facts: Mapping[str, Any]) -> CutStage:
    column, group = cut_column(output, stage, facts), cut_group(output, stage, facts)
    weight, as_read = _weight(output, stage, facts["by"])
    saw = _saw(output, stage, entry, column)
    known = saw is not None and (group is None or group in output.columns)
    lines: list[CutLine] = []
    if saw is not None and known:
        value = f"{quoted_name(group)}::VARCHAR" if group else "NULL::VARCHAR"
        own = f"CASE WHEN list_contains(?, {value}) THEN {value} END"
        stays = (
            f"{quoted_name(f'{stage}_pass')}" if entry["action"] == "tag" else f"stage IS DISTINCT FROM {quoted(stage)}"
        )
        found = output.rows(
            f"SELECT {own} AS name, count(*) AS documents, count(*) FILTER ({stays}) AS kept, "
            f"coalesce(sum({weight}), 0)::BIGINT AS weight, "
            f"coalesce(sum({weight}) FILTER ({stays}), 0)::BIGINT AS kept_weight "
            f"FROM ledger WHERE {saw} GROUP BY 1 ORDER BY name IS NULL, documents DESC, name",
            [list(facts["groups"])],
        )
        lines = [_line(column, facts, line, weight is not None) for line in found]
    more = max(0, sum(line.name is not None for line in lines) - SHOWN)
    return CutStage(
        stage,
        column,
        group,
        asked(facts),
        facts["by"],
        as_read,
        _origin(output, stage),
        entry["action"] == "tag",
        (*lines[:SHOWN], *(line for line in lines[SHOWN:] if line.name is None)),
        more,
        known,
        facts,
    )


def _line(column: str, facts: Mapping[str, Any], found: Mapping[str, Any], weighed: bool) -> CutLine:
    frozen = facts["overall"] if found["name"] is None else facts["groups"][found["name"]]
    edges = [edge for edge in ("above", "below") if edge in frozen]
    needs = [text for edge in edges if (text := condition(column, facts, frozen[edge], edge))]
    there = None
    if frozen["docs"]:
        weight = frozen["weight"]
        there = (frozen["kept_docs"] / frozen["docs"], frozen["kept_weight"] / weight if weight else 0.0)
    return CutLine(
        found["name"],
        found["documents"],
        found["kept"],
        found["weight"] if weighed else None,
        found["kept_weight"] if weighed else None,
        " and ".join(needs) or "everything",
        there,
        tuple(frozen["quantiles"]),
    )


def _origin(output: Output, stage: str) -> str | None:
    given = stage_config(output, stage).get("from")
    if given is None:
        return None
    return given if isinstance(given, str) else f"{given['output']} ({given.get('stage') or stage})"


def _saw(output: Output, stage: str, entry: Mapping[str, Any], column: str) -> str | None:
    """SQL that is true for documents that the stage saw with a score; None where the ledger cannot tell."""
    from ...stages import sql

    conditions = [came(output, stage)]
    if entry["where"]:
        if not sql.parse(entry["where"], where="where").columns <= set(output.columns):
            return None
        conditions.append(f"coalesce(({entry['where']}\n), false)")
    if column not in output.columns:
        return None
    conditions.append(f"isfinite({quoted_name(column)}::DOUBLE)")
    return " AND ".join(conditions)


def _weight(output: Output, stage: str, by: str) -> tuple[str | None, bool]:
    """SQL for what shares count, None where the ledger does not hold it; and whether it is the size before the edits."""
    if by == "docs":
        return "1", False
    if by in output.columns:
        return quoted_name(by), False
    if by not in ("chars", "bytes"):
        return None, False
    names = [s["name"] for s in output.stages]
    edits = [s for s in output.stages[: names.index(stage)] if s["kind"] == "edit" and s.get("changed")]
    return f"{by}_read", bool(edits)
