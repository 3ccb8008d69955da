"""Where documents went: stage by stage, rule by rule, group by group, as the whole ledger tells it.

Invariant: every count is a count of ledger rows, so that a stage's documents are those of the stage before it less
what that one dropped, and the groups of a column add up to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..output import Output, quoted_name
from .rows import observing

GROUPS = 30  # of a column that are told one by one


@dataclass(frozen=True)
class StageLine:
    """A stage: documents that `came`, `bytes` of their text as read, how many it dropped and set aside; `ran`, `changed`
    and `seconds` as the manifest has them."""

    name: str
    kind: str
    tags: bool
    came: int
    bytes: int
    dropped: int
    set_aside: int
    ran: int
    changed: int
    seconds: float

    @property
    def left(self) -> int:
        return self.came - self.dropped - self.set_aside


@dataclass(frozen=True)
class RuleLine:
    """A rule: `first`: documents that it decided; `failed`: that failed it, as far as they were asked; `alone`: that
    failed no other rule of its stage; `only`: that no other rule of any stage would have dropped, None where a run that
    stops at the first stage cannot know it. In a stage that only tags, nobody is dropped and `first` is how many
    failed this rule before any other."""

    rule: str
    stage: str
    sql: str
    params: Mapping[str, Any]
    source: str
    tags: bool
    first: int
    failed: int
    alone: int | None
    only: int | None
    null: int
    set_aside: int


@dataclass(frozen=True)
class Group:
    """Documents with one value of a column (`name` None: null). `members`: how many values, in the line of the rest."""

    name: str | None
    documents: int
    kept: int
    bytes_read: int
    bytes_written: int
    members: int = 1


@dataclass(frozen=True)
class Groups:
    """A column's largest groups, and all others in one line, None where there are no others."""

    column: str
    top: tuple[Group, ...]
    rest: Group | None


class Fates:
    """What the ledger says of decisions, in one pass over three columns."""

    def __init__(self, output: Output) -> None:
        self.lines = output.rows(
            "SELECT decision, stage, rule, count(*) AS documents, coalesce(sum(bytes_read), 0)::BIGINT AS bytes "
            "FROM ledger GROUP BY ALL"
        )

    def count(self, what: str = "documents", **wanted: Any) -> int:
        """Documents (or bytes) of the rows with these values of decision, stage, rule."""
        return sum(line[what] for line in self.lines if all(line[k] == v for k, v in wanted.items()))


def stage_lines(output: Output, fates: Fates) -> list[StageLine]:
    """In order; the first one's `came` are the rows less those that could not be read."""
    unread = {"decision": "quarantine", "stage": None}
    came = fates.count() - fates.count(**unread)
    size = fates.count("bytes") - fates.count("bytes", **unread)
    found = []
    entries = output.manifest["recipe"]["stages"]
    for stage, entry in zip(output.stages, entries, strict=True):
        name = stage["name"]
        line = StageLine(
            name,
            stage["kind"],
            entry["action"] == "tag" and stage["kind"] in ("decide", "resolve"),
            came,
            size,
            fates.count(decision="drop", stage=name),
            fates.count(decision="quarantine", stage=name),
            stage.get("ran", 0),
            stage.get("changed", 0),
            stage["seconds"],
        )
        found.append(line)
        came, size = line.left, size - fates.count("bytes", stage=name)
    return found


def rule_lines(output: Output, fates: Fates, stages: Sequence[StageLine]) -> list[RuleLine]:
    """In the order of stages and rules; the rule of an edit that left nothing of a text stands where it fired."""
    failed = {
        line["rule"]: line
        for line in output.rows(
            "SELECT rule, count(*) AS documents, count(*) FILTER (others = 1 AND decision = 'drop') AS alone FROM "
            "(SELECT unnest(failed) AS rule, len(failed) AS others, decision FROM ledger WHERE decision <> 'keep') GROUP BY rule"
        )
    }
    observed = observing(output)
    found = []
    for stage, line in zip(output.stages, stages, strict=True):
        names = [name for name, rule in output.manifest["rules"].items() if rule["stage"] == line.name]
        emptied = f"{line.name}.empty"
        names += [emptied] if line.kind == "edit" and fates.count(rule=emptied) else []
        for name in names:
            tally, rule = stage.get("rules", {}).get(name, {}), output.rule(name)
            first = fates.count(decision="drop", stage=line.name, rule=name)
            known = failed.get(name, {"documents": first, "alone": first})
            tags = line.tags
            found.append(
                RuleLine(
                    name,
                    line.name,
                    rule.get("sql", ""),
                    dict(rule.get("params", {})),
                    rule.get("source", ""),
                    tags,
                    tally.get("first", 0) if tags else first,
                    tally.get("failed", 0) if tags else known["documents"],
                    None if tags or observed else known["alone"],
                    known["alone"] if observed and not tags else None,
                    tally.get("null", 0),
                    fates.count(decision="quarantine", stage=line.name, rule=name),
                )
            )
    return found


def group_columns(output: Output) -> list[str]:
    """The columns of the recipe's `report: {by: ...}` that the ledger has; where it has none, the input files."""
    by = [name for name in output.manifest["recipe"]["report"]["by"] if name in output.columns]
    return by or ["source_file"]


def groups(output: Output, column: str) -> Groups:
    """The GROUPS largest groups by documents, the rest summed."""
    sums = (
        "count(*) AS documents, count(*) FILTER (decision = 'keep') AS kept, "
        "coalesce(sum(bytes_read), 0)::BIGINT AS bytes_read, "
        "coalesce(sum(bytes_written), 0)::BIGINT AS bytes_written"
    )
    grouped = f"(SELECT {quoted_name(column)}::VARCHAR AS name, {sums} FROM ledger GROUP BY 1)"
    top = output.rows(f"FROM {grouped} ORDER BY documents DESC, name LIMIT {GROUPS}")
    largest = tuple(Group(**line) for line in top)
    (whole,) = output.rows(f"SELECT count(*) AS members, {_sums_of_sums()} FROM {grouped}")
    left = {key: whole[key] - sum(line[key] for line in top) for key in _SUMMED}
    members = whole["members"] - len(top)
    return Groups(column, largest, Group("", **left, members=members) if members else None)


_SUMMED = ("documents", "kept", "bytes_read", "bytes_written")


def _sums_of_sums() -> str:
    return ", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in _SUMMED)
