"""What `use: perplexity_buckets` takes.

Invariant: either the cut-offs are found (column, at, names) or they are taken from an earlier run (from); what belongs to
the one is refused beside the other.
"""

from __future__ import annotations

import itertools

from pydantic import Field, create_model, field_validator, model_validator

from ._threshold_config import from_field
from .base import StageConfig

FOUND_ONLY = ("at", "names", "by", "min_group")  # settings of which frozen cut-offs bring their own


class _Options(StageConfig):
    """All but `from`, which no class body can hold as a name."""

    column: str | None = Field(
        default=None, description="column of numbers to order by, low ones first: ppl, kenlm_ppl, bpc"
    )
    at: tuple[float, ...] = Field(
        default=(30.0, 60.0), description="percentiles, above 0 and below 100, where a bucket ends and the next begins"
    )
    names: tuple[str, ...] = Field(
        default=("head", "middle", "tail"),
        description="names of the buckets, from the lowest numbers up: one more than `at` has",
    )
    by: str = Field(
        default="docs",
        description="what percentiles count: docs, chars (of the text at hand), or an integer column such as n_tokens, of "
        "which a null counts 0",
    )
    group: str | None = Field(
        default=None, description="column whose every value, such as a language, gets cut-offs of its own"
    )
    min_group: int = Field(
        default=1000,
        ge=1,
        description="smaller groups, and documents without a group, get the cut-offs of all documents",
    )
    missing: str | None = Field(
        default=None,
        description="what stands for the bucket of a document without a number (default: null; CCNet's word is all)",
    )

    @field_validator("at")
    @classmethod
    def _percentiles(cls, at: tuple[float, ...]) -> tuple[float, ...]:
        if not at or not all(0 < one < 100 for one in at) or any(a >= b for a, b in itertools.pairwise(at)):
            raise ValueError("percentiles that rise, above 0 and below 100: [30, 60]")
        if at[-1] < 1:
            raise ValueError(f"percentiles, not shares: [{', '.join(f'{100 * one:g}' for one in at)}]")
        return at

    @model_validator(mode="after")
    def _found_or_taken(self) -> _Options:
        fields = type(self).model_fields
        given = {name for name in self.model_fields_set if getattr(self, name) != fields[name].default}
        if getattr(self, "from") is not None:
            for name in FOUND_ONLY:
                if name in given:
                    raise ValueError(f"{name}: comes with the cut-offs that `from:` takes; leave it out")
            return self
        if self.column is None:
            raise ValueError(
                "column: is required, the column of numbers (or from: OUTPUT, cut-offs that were frozen there)"
            )
        if len(self.names) != len(self.at) + 1:
            raise ValueError(
                f"names: {len(self.names)} of them; {len(self.at)} percentiles make {len(self.at) + 1} buckets"
            )
        every = [*self.names, *([] if self.missing is None else [self.missing])]
        if "" in every or len(set(every)) < len(every):
            raise ValueError("names: each bucket, and `missing`, needs a name of its own")
        if "min_group" in given and self.group is None:
            raise ValueError("min_group: needs group: COLUMN")
        return self


PerplexityBucketsConfig = create_model(
    "PerplexityBucketsConfig",
    __base__=_Options,
    __module__=__name__,
    __doc__="What `use: perplexity_buckets` takes.",
    **from_field("frozen cut-offs are"),
)
