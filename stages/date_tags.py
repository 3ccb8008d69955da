"""Measure: the year of `date`, as far as the date says one.

Invariant: no clock and no guess: a date that does not begin with an ISO 8601 year, or lies out of range, is null.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from .base import Column, Stage, StageConfig

# 2024 | 2024-05 | 2024-05-17 | 20240517 | 2024-W20[-5] | 2024-138, the days with or without a time after T or a space
_MONTH, _DAY = "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_ISO = (
    rf"(?s)^\s*(?P<year>[0-9]{{4}})(?:-{_MONTH})?\s*$|^\s*(?P<day>[0-9]{{4}})"
    rf"(?:-{_MONTH}-{_DAY}|{_MONTH}{_DAY}|-?W[0-5][0-9](?:-?[1-7])?|-[0-3][0-9][0-9])(?:[Tt\s].*)?$"
)


class DateTagsConfig(StageConfig):
    """What `use: date_tags` takes."""

    earliest: int = Field(
        default=1000, ge=0, le=9999, description="years before this one are null: 0001-01-01 is a placeholder"
    )
    latest: int = Field(default=2100, ge=0, le=9999, description="years after this one are null")


class DateTags(Stage):
    """The year of the document's date, from ISO dates with or without month, day and time."""

    Config = DateTagsConfig

    @property
    def needs(self) -> tuple[str, ...]:
        return ("date",)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("year", pa.int16(), "year of the date as written, in the date's own time zone"),)

    def measure(self, batch: pa.Table) -> pa.Table:
        found = pc.extract_regex(batch["date"].cast(pa.large_string()), _ISO)
        # an alternative that took no part gives an empty string
        year, day = pc.struct_field(found, "year"), pc.struct_field(found, "day")
        year = pc.if_else(pc.equal(year, ""), day, year).cast(pa.int16())
        known = pc.and_(pc.greater_equal(year, self.config.earliest), pc.less_equal(year, self.config.latest))
        return pa.table({"year": pc.if_else(known, year, pa.scalar(None, pa.int16()))})
