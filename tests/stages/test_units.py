"""Shares and sizes: what people write, and what they are told when it is wrong."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from tamis.stages._units import share, size_bytes
from tamis.stages.errors import RecipeError


@pytest.mark.parametrize(
    ("written", "value"),
    [("0.1%", 0.001), ("100%", 1.0), ("2.5 %", 0.025), (1, 1.0), (0, 0.0), (0.3, 0.3), ("0.3", 0.3), (1e-05, 1e-05)],
)
def test_a_share_is_a_percentage_or_the_number_itself(written, value) -> None:
    assert share(written) == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("128MB", 128_000_000),
        ("64MiB", 1 << 26),
        ("1.5 gb", 1_500_000_000),
        (7, 7),
        ("10 kB", 10_000),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes_tell_powers_of_1000_from_powers_of_1024(written, value) -> None:
    assert size_bytes(written) == value


@pytest.mark.parametrize(
    ("read", "written", "says"),
    [
        (share, 5, "write 5% if that is meant"),
        (share, "101%", "at most 1"),
        (share, "-1%", "from 0 to 1"),
        (share, True, "from 0 to 1"),
        (share, "5MB", "not MB"),
        (share, "nan", "from 0 to 1"),
        (size_bytes, "128XB", "no unit XB"),
        (size_bytes, "1.5B", "whole number"),
        (size_bytes, 0, "at least 1"),
        (size_bytes, None, "such as 128MB"),
        (size_bytes, "5%", "no unit %"),
    ],
)
def test_what_cannot_be_read_is_a_recipe_error_that_says_what_to_write(read, written, says) -> None:
    with pytest.raises(RecipeError, match=says):
        read(written)


def test_a_pydantic_model_reports_the_key() -> None:
    class Model(BaseModel):
        size: int

        _size = field_validator("size", mode="before")(size_bytes)

    assert Model.model_validate({"size": "1kB"}).size == 1000
    with pytest.raises(ValidationError, match="size") as caught:
        Model.model_validate({"size": "1XB"})
    assert caught.value.errors()[0]["loc"] == ("size",)
