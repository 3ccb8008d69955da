"""What a deduplication took from whom: its share of every group's documents, and how old they were.

Invariant: a group's documents are those that reached the stage, also where it only tags or the run only observes; the
groups of a column add up to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..output import Output, quoted_name
from .funnel import group_columns
from .rows import MOST, quoted

SHOWN = 20  # groups of a column, those that lost most documents
MARKED = 0.5  # share of a group's documents whose loss is marked
ISO = "^[0-9]{4}($|-[0-9]{2})"  # ISO 8601 dates with hyphens are in order as texts
QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Group:
    """`name` None: null."""

    name: str | None
    documents: int
    removed: int

    @property
    def marked(self) -> bool:
        return self.removed > MARKED * self.documents


@dataclass(frozen=True)
class Loss:
    """The groups of a column that lost most, if anything; all `others` in one line (None where there are none; its name
    is how many they are), and how many of all groups lost more than half."""

    column: str
    top: tuple[Group, ...]
    others: Group | None
    groups: int
    marked: int


@dataclass(frozen=True)
class Age:
    """Documents with a date, and the quartiles of their dates (to the day; the lower one where two are in the middle)."""

    title: str
    documents: int
    quartiles: tuple[str, ...]


@dataclass(frozen=True)
class Ages:
    """`undated` documents have no ISO date. Of `clusters` whose members have more than one date the kept document is the
    oldest in `oldest`, the newest in `newest`; None where there are too many to look at for one page."""

    lines: tuple[Age, ...]
    undated: int
    clusters: int | None
    oldest: int
    newest: int


def came(output: Output, stage: str) -> str:
    """SQL that is true for documents that reached the stage alive, also in a run that only observes."""
    names = [s["name"] for s in output.stages]
    later = ", ".join(quoted(name) for name in names[names.index(stage) :])
    return f"(decision = 'keep' OR coalesce(stage IN ({later}), false))"


def losses(output: Output, stage: str, names: Mapping[str, str], config: Mapping[str, Any]) -> tuple[Loss, ...]:
    """By the columns of the report, of the stage's scope, and those that it watches."""
    asked = [config.get("scope"), *(config.get("watch") or ())]
    columns = [*group_columns(output), *(name for name in asked if name in output.columns)]
    return tuple(_loss(output, stage, names["kept_row"], column) for column in dict.fromkeys(columns))


def _loss(output: Output, stage: str, kept_row: str, column: str) -> Loss:
    grouped = (
        f"(SELECT {quoted_name(column)}::VARCHAR AS name, count(*) AS documents, count({kept_row}) AS removed "
        f"FROM ledger WHERE {came(output, stage)} GROUP BY 1)"
    )
    top = output.rows(f"FROM {grouped} WHERE removed > 0 ORDER BY removed DESC, documents DESC, name LIMIT {SHOWN}")
    (whole,) = output.rows(
        "SELECT count(*) AS groups, coalesce(sum(documents), 0)::BIGINT AS documents, "
        "coalesce(sum(removed), 0)::BIGINT AS removed, "
        f"count(*) FILTER (removed > {MARKED} * documents) AS marked FROM {grouped}"
    )
    left = {key: whole[key] - sum(line[key] for line in top) for key in ("documents", "removed")}
    members = whole["groups"] - len(top)
    others = Group(f"{members:,} other{'' if members == 1 else 's'}", **left) if members else None
    return Loss(column, tuple(Group(**line) for line in top), others, whole["groups"], whole["marked"])


def ages(output: Output, stage: str, names: Mapping[str, str]) -> Ages | None:
    """None where no document has a date."""
    kept_row, dated = names["kept_row"], f"regexp_matches(date, '{ISO}')"
    days = output.rows(
        f"SELECT left(date, 10) AS day, count({kept_row}) AS removed, "
        f"count(*) FILTER ({kept_row} IS NULL) AS survivors, "
        f"count(*) FILTER ({kept_row} IS NULL AND {names['cluster']} IS NOT NULL) AS kept "
        f"FROM ledger WHERE {came(output, stage)} AND {dated} GROUP BY 1 ORDER BY 1"
    )
    if not days:
        return None
    (undated,) = output.rows(f"SELECT count(*) AS n FROM ledger WHERE {came(output, stage)} AND {dated} IS NOT TRUE")
    titles = {"removed": "duplicates", "kept": "kept in their place", "survivors": "all that stay"}
    lines = tuple(
        Age(title, sum(day[key] for day in days), quartiles([(day["day"], day[key]) for day in days]))
        for key, title in titles.items()
    )
    members = output.rows(f"SELECT count({names['cluster']}) AS n FROM ledger")[0]["n"]
    if members > MOST:
        return Ages(lines, undated["n"], None, 0, 0)
    (told,) = output.rows(
        "SELECT count(*) AS clusters, count(*) FILTER (own = first) AS oldest, count(*) FILTER (own = last) AS newest "
        f"FROM (SELECT min(left(date, 10)) AS first, max(left(date, 10)) AS last, "
        f"max(left(date, 10)) FILTER ({kept_row} IS NULL) AS own FROM ledger "
        f"WHERE {names['cluster']} IS NOT NULL AND {dated} GROUP BY {names['cluster']}) "
        "WHERE first < last AND own IS NOT NULL"
    )
    return Ages(lines, undated["n"], told["clusters"], told["oldest"], told["newest"])


def quartiles(days: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """The days, in order, at which a quarter, half and three quarters of the documents are reached."""
    sums = list(accumulate(count for _, count in days))
    if not sums or not sums[-1]:
        return ()
    return tuple(next(day for (day, _), at in zip(days, sums) if at >= quarter * sums[-1]) for quarter in QUARTERS)
