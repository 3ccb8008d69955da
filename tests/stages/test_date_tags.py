"""date_tags: the year of ISO dates, null for everything else."""

from __future__ import annotations

import datetime
import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.stages.base import stage_class
from tamis.stages.date_tags import DateTags, DateTagsConfig


def years(dates: list, type: pa.DataType | None = None, **config: int) -> list[int | None]:
    stage = DateTags(DateTagsConfig(**config), name="date_tags")
    table = stage.measure(pa.table({"date": pa.array(dates, type or pa.string())}))
    assert table.schema == pa.schema([(c.name, c.type) for c in stage.adds])
    return table["year"].to_pylist()


def test_iso_dates_of_every_length_give_their_year() -> None:
    for date in (
        *("2024", "2024-05", "2024-05-17", "20240517", "2024-05-17T10:00:00Z", "2024-05-17 10:00:00.123+02:00"),
        *("20240517T100000Z", "2024-W20", "2024-W20-5", "2024W205", "2024-138", " 2024-05-17\n", "2024-12-31t23:59"),
    ):
        assert years([date]) == [2024], date


def test_what_is_no_iso_date_is_null() -> None:
    for date in (
        *("", " ", "May 2024", "17.05.2024", "05/17/2024", "24-05-17", "2024-13", "2024-00-01", "2024-05-32"),
        *(
            "202405",
            "20245",
            "02024-05-17",
            "+2024",
            "-2024",
            "2024-05-17x",
            "2024-",
            "1715904000",
            "٢٠٢٤",
            "x" * 10_000,
        ),
    ):
        assert years([date]) == [None], date


def test_years_out_of_range_are_null_and_the_range_is_a_choice() -> None:
    dates = ["0001-01-01", "0999", "1000", "1999", "2100", "2101", "9999-12-31"]
    assert years(dates) == [None, None, 1000, 1999, 2100, None, None]
    assert years(dates, earliest=1, latest=1999) == [1, 999, 1000, 1999, None, None, None]


@given(st.lists(st.one_of(st.none(), st.datetimes(datetime.datetime(1000, 1, 1), datetime.datetime(2100, 12, 31)))))
@settings(max_examples=50, deadline=None)
def test_dates_and_times_of_any_type_give_the_year_that_python_gives(times: list[datetime.datetime | None]) -> None:
    expected = [t and t.year for t in times]
    assert years([t and t.isoformat() for t in times]) == expected
    assert years([t and t.isoformat(" ") for t in times], pa.large_string()) == expected
    assert years([t and t.date().isoformat() for t in times], pa.string_view()) == expected
    assert years([t and t.date() for t in times], pa.date32()) == expected
    assert years([t and t for t in times], pa.timestamp("us")) == expected
    assert years(expected, pa.int32()) == expected


@pytest.mark.parametrize("dates", [[], [None, None], ["2024", None, "x", "1999-01-02"]])
def test_empty_null_split_and_pickled_give_the_same(dates: list) -> None:
    stage = pickle.loads(pickle.dumps(stage_class("date_tags")(DateTagsConfig(), name="d")))
    table = pa.table({"date": pa.array(dates, pa.string())})
    parts = [stage.measure(table.slice(i, 1)) for i in range(len(dates))]
    assert [v for part in parts for v in part["year"].to_pylist()] == stage.measure(table)["year"].to_pylist()
