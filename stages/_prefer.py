"""Which of several duplicates is kept: `prefer:`, then the smallest doc_id, then the smallest (source_file, source_row).

Invariant: the choice depends on the documents' own values alone, never on who came first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from .base import StageConfig

WORDS = {
    "longest": ("chars", True),
    "shortest": ("chars", False),
    "oldest": ("date", False),
    "newest": ("date", True),
}
ORDER = re.compile(r"([a-z][a-z0-9_]*) +(asc|desc)\Z")
Entry = str | dict[str, tuple[str | bool | int, ...]]
VALUES = re.compile(r"values\(\s*([a-z][a-z0-9_]*)\s*\)\Z")


class PreferConfig(StageConfig):
    """What every stage takes that keeps one of several documents with something in common."""

    scope: str | None = Field(
        default=None, description="duplicates count only among equal values of this column; null matches nothing"
    )
    prefer: tuple[Entry, ...] = Field(
        default=(),
        description="which one stays: longest, shortest, oldest, newest, COLUMN asc|desc, values(source): [wiki, cc]",
    )

    @field_validator("prefer")
    @classmethod
    def _known_preferences(cls, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        for entry in entries:
            parse_preference(entry)
        return entries


@dataclass(frozen=True)
class Preference:
    """A column whose smallest (or with `descending` largest) value wins, or the one that stands first in `values`.
    Nulls, and values that are not in `values`, come last."""

    column: str
    descending: bool = False
    values: tuple[str, ...] = ()

    def key(self, column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """What is sorted: the column itself, or each value's place in `values` (int32)."""
        if self.values:
            return pc.index_in(column.cast(pa.string()), value_set=pa.array(self.values))
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def parse_preference(entry: str | Mapping[str, Sequence[Any]]) -> Preference:
    """`longest`, `shortest` (by chars of the text version at hand), `oldest`, `newest` (by date, compared as ISO text),
    `COLUMN asc`, `COLUMN desc`, or {`values(COLUMN)`: [best, next, ...]}. Raises ValueError."""
    if isinstance(entry, str):
        if entry in WORDS:
            return Preference(*WORDS[entry])
        if match := ORDER.match(entry):
            return Preference(match[1], match[2] == "desc")
    elif len(entry) == 1:
        [(name, values)] = entry.items()
        if (match := VALUES.match(name)) and values:
            return Preference(match[1], values=tuple(_text(value) for value in values))
    raise ValueError(
        f"{entry!r} is no preference: write one of {', '.join(WORDS)}, 'COLUMN asc', 'COLUMN desc' "
        "or 'values(COLUMN): [best, next, ...]'"
    )


def _text(value: Any) -> str:
    """As Arrow writes it when it casts to string."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def preference_columns(preferences: Sequence[Preference]) -> tuple[str, ...]:
    """The columns that the choice reads, each once."""
    return tuple(dict.fromkeys(p.column for p in preferences))


def with_keys(rows: pa.Table, preferences: Sequence[Preference]) -> dict[str, Any]:
    """Columns `prefer0`, `prefer1`, ... to travel with the rows; what `kept_rows` sorts by."""
    return {f"prefer{i}": p.key(rows[p.column]) for i, p in enumerate(preferences)}


def kept_rows(
    members: pa.Table,
    group: np.ndarray,
    preferences: Sequence[Preference],
    first: Sequence[str] = (),
    then: Sequence[str] = (),
) -> np.ndarray:
    """int64[groups]: for each group the row of the member that is kept.

    members: `doc_id`, `source_file`, `source_row` and the columns of `with_keys`; group: int64, 0 to groups - 1, every one at least once.
    `first`: columns that decide before the preferences do, ascending, nulls last; `then`: right after them.
    """
    order = preferred_order(members, group, preferences, first, then)
    sorted_group = group[order]
    return order[np.flatnonzero(np.diff(sorted_group, prepend=-1))]


def preferred_order(
    members: pa.Table,
    group: np.ndarray,
    preferences: Sequence[Preference],
    first: Sequence[str] = (),
    then: Sequence[str] = (),
) -> np.ndarray:
    """int64: the rows of `members` by group, in each the preferred one first; arguments as `kept_rows` has them."""
    keys = [(name, "ascending") for name in ("group", *first)]
    keys += [(f"prefer{i}", "descending" if p.descending else "ascending") for i, p in enumerate(preferences)]
    keys += [(name, "ascending") for name in (*then, "doc_id", "source_file", "source_row")]
    table = members.append_column("group", pa.array(group)).select([name for name, _ in keys]).combine_chunks()
    return np.asarray(pc.sort_indices(table, sort_keys=keys)).astype(np.int64)
