"""What `use: threshold` takes, and how much of a population is asked for.

Invariant: either the cut is found (column, and keep or band) or it is taken from an earlier run (from); what belongs to
the one is refused beside the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, create_model, field_validator, model_validator

from ._cuts import Edge, Side
from ._units import SHARE_SCHEMA, UnitError
from ._units import share as parse_share
from .base import Nulls, StageConfig

KEEP_SCHEMA = {"anyOf": [*SHARE_SCHEMA["anyOf"], {"type": "number", "minimum": 2}]}
BAND_SCHEMA = {"type": "array", "items": SHARE_SCHEMA, "minItems": 2, "maxItems": 2}
FOUND_ONLY = ("keep", "band", "by", "min_group", "side")  # settings of which a frozen cut brings its own


class Earlier(StageConfig):
    """A stage of an earlier run."""

    output: str = Field(description="a finished output of Tamis")
    stage: str | None = Field(default=None, description="name of its stage (default: this stage's own name)")


class _Options(StageConfig):
    """All but `from`, which no class body can hold as a name."""

    column: str | None = Field(default=None, description="column of numbers to order by")
    keep: Annotated[float | int | None, WithJsonSchema(KEEP_SCHEMA)] = Field(
        default=None,
        description="what stays: a share such as 10%, or a budget in units of `by`, a whole number such as 30e9",
    )
    band: Annotated[tuple[float, float] | None, WithJsonSchema(BAND_SCHEMA)] = Field(
        default=None,
        description="two shares, counted from the better end: [40%, 60%] keeps what the best 60% have and the best 40% have not",
    )
    by: str = Field(
        default="docs",
        description="what shares and budgets count: docs, chars (of the text at hand), or an integer column such as "
        "n_tokens, of which a null counts 0",
    )
    group: str | None = Field(default=None, description="column whose every value gets a cut of its own")
    min_group: int = Field(
        default=1000, ge=1, description="smaller groups, and documents without a group, get the cut of all documents"
    )
    side: Side = Field(default="top", description="top: high scores are better; bottom: low ones")
    nulls: Nulls | None = Field(
        default=None,
        description="what becomes of a document without a score, which no share counts: pass, fail or quarantine "
        "(default: quarantine; with `from`, as there)",
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _read_keep(cls, value: Any) -> float | int | None:
        return None if value is None else _keep(value)

    @field_validator("band", mode="before")
    @classmethod
    def _read_band(cls, value: Any) -> tuple[float, float] | None:
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
            raise ValueError("two shares: [40%, 60%]")
        low, high = (parse_share(one) for one in value)
        if low >= high:
            raise ValueError(f"[{low:g}, {high:g}]: the first share is the smaller one")
        return low, high

    @model_validator(mode="after")
    def _found_or_taken(self) -> _Options:
        fields = type(self).model_fields
        given = {name for name in self.model_fields_set if getattr(self, name) != fields[name].default}
        if getattr(self, "from") is not None:
            for name in FOUND_ONLY:
                if name in given:
                    raise ValueError(f"{name}: comes with the cut that `from:` takes; leave it out")
            return self
        if self.column is None:
            raise ValueError("column: is required, the column of scores (or from: OUTPUT, a cut that was frozen there)")
        if (self.keep is None) == (self.band is None):
            raise ValueError("give either keep: 10% or band: [40%, 60%]")
        if "min_group" in given and self.group is None:
            raise ValueError("min_group: needs group: COLUMN")
        return self


def from_field(used_again: str) -> dict[str, Any]:
    """The key `from`, for `create_model`. used_again: what is taken, as in "frozen cut is"."""
    description = (
        f"an earlier output whose {used_again} used again, {{output: DIR, stage: NAME}} where that stage had another name; "
        "column and group only where they have other names here"
    )
    return {"from": (str | Earlier | None, Field(default=None, description=description))}


ThresholdConfig = create_model(
    "ThresholdConfig",
    __base__=_Options,
    __module__=__name__,
    __doc__="What `use: threshold` takes.",
    **from_field("frozen cut is"),
)


def _keep(value: Any) -> float | int:
    """A share as a float up to 1.0, a budget as an integer from 2."""
    text = str(value).strip()
    if isinstance(value, bool) or text == "1":
        raise UnitError(f"{value!r}: write 100% for all of them; a budget is a whole number above 1")
    try:
        number = Decimal(text)
    except ArithmeticError:
        number = None
    if number is None or number.is_nan() or number <= 1:
        found = parse_share(value)
        if found == 0:
            raise ValueError("keeps nothing: write a share above 0")
        return found
    if not number.is_finite() or number != int(number):
        raise UnitError(f"{value!r}: a budget is a whole number; a share is a percentage such as 10% or below 1")
    return int(number)


def ranks(asked: Sequence[tuple[Edge, float | int]], weight: int) -> dict[Edge, int | None]:
    """For each edge the weight, summed from the better end of a population of `weight`, that the documents within it
    reach; None: all of them are within. A share is the decimal that was written: 10% of 100 is 10."""
    found: dict[Edge, int | None] = {}
    for edge, part in asked:
        wanted = Fraction(part) if isinstance(part, int) else Fraction(Decimal(repr(part))) * weight
        found[edge] = None if wanted >= weight else math.ceil(wanted)
    return found
