"""What stages share that order all documents by a number: what they read, what they freeze, and cuts taken from a run.

Invariant: a stage with `from:` is its frozen facts: it reads the column and the group, counts nothing and draws nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pyarrow as pa
import xxhash

from ._cuts import Side, number_kind
from .base import Stage
from .errors import RecipeError


class ByScore(Stage):
    """Orders all documents by a number, overall and in groups, and freezes what it finds, or takes what was frozen.

    Its config has column, group, min_group, by and from, its facts column, kind, by, and group if there are groups.
    """

    not_in_key = frozenset({"from"})

    def __init__(self, config: Any, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self._taken: Mapping[str, Any] | None = None

    # --- a frozen cut

    @property
    def takes(self) -> tuple[str, str] | None:
        given = getattr(self.config, "from")
        if given is None:
            return None
        return (given, self.name) if isinstance(given, str) else (given.output, given.stage or self.name)

    def take(self, facts: Mapping[str, Any]) -> None:
        output, stage = cast(tuple[str, str], self.takes)
        if not self.froze(facts):
            raise RecipeError(f"from: {output}: its stage {stage} is no {self.use}, so it froze no cut of that kind")
        if not facts["overall"]["docs"]:
            raise RecipeError(f"from: {output}: its stage {stage} saw no document with a score, so it found no cut")
        if self.config.group and "group" not in facts:
            raise RecipeError(f"group: the cut of {output} was found over all documents, it has no groups")
        self._taken = facts

    @property
    def use(self) -> str:
        """What a recipe calls stages of this class."""
        return type(self).__module__.rpartition(".")[2]

    def froze(self, facts: Mapping[str, Any]) -> bool:
        """Whether these are facts of a stage of this class."""
        raise NotImplementedError

    @property
    def taken(self) -> Mapping[str, Any] | None:
        return self._taken

    def fingerprint(self) -> str:
        if self._taken is None:
            return ""
        return xxhash.xxh3_128_hexdigest(json.dumps(self._taken, sort_keys=True).encode())

    # --- what it reads

    @property
    def finds(self) -> bool:
        """Whether it finds its cuts itself, over all documents of the run."""
        return getattr(self.config, "from") is None

    @property
    def column(self) -> str | None:
        """The column of scores; None for one that has not taken its cut yet."""
        return self.config.column or (self._taken or {}).get("column")

    @property
    def group(self) -> str | None:
        return self.config.group or (self._taken or {}).get("group")

    @property
    def side(self) -> Side:
        """The better end of the scores."""
        raise NotImplementedError

    @property
    def weight(self) -> str | None:
        """The column that shares count, if they do not count documents; a frozen cut counts nothing."""
        return self.config.by if self.finds and self.config.by != "docs" else None

    def targets(self, series: int, line: Mapping[str, Any]) -> list[tuple]:
        """Rows of `_selection.TARGET`: what is to be found in a series. line: its docs, weight, low and high."""
        raise NotImplementedError

    def check(self, schema: pa.Schema) -> None:
        column = cast(str, self.column)
        kind = number_kind(schema.field(column).type)
        if kind is None:
            raise RecipeError(
                f"column: {column} is {schema.field(column).type}; documents are ordered by a float or integer"
            )
        if self.weight and not pa.types.is_integer(schema.field(self.weight).type):
            raise RecipeError(
                f"by: {self.weight} is {schema.field(self.weight).type}; give docs, chars or a column of whole numbers"
            )
        if self.group and pa.types.is_nested(schema.field(self.group).type):
            raise RecipeError(f"group: {self.group} is {schema.field(self.group).type}; groups need plain values")
        if self._taken and self._taken["kind"] != kind:
            raise RecipeError(
                f"column: {column} is {schema.field(column).type}, and the cut of {self.takes[0]} is one of "  # type: ignore[index]
                f"{self._taken['kind']} scores"
            )
