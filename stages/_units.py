"""Shares and sizes as people write them in a recipe: `0.1%`, `128MB`.

Invariant: a number means the same with and without its unit spelled out (`0.1%` is 0.001, `1MB` is 1000000).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from .errors import RecipeError

NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,3}))?\s*([A-Za-z%]*)\s*\Z", re.ASCII)
FACTORS = {"": 1, "b": 1} | {
    prefix + unit: base**power for power, prefix in enumerate("kmgt", 1) for unit, base in (("b", 1000), ("ib", 1024))
}
SHARE_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "pattern": r"^\s*[0-9.]+([eE][+-]?\d+)?\s*%?\s*$"},
    ]
}
SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\s*[0-9.]+([eE][+-]?\d+)?\s*([kKmMgGtT][iI]?)?[bB]?\s*$"},
    ]
}


class UnitError(RecipeError, ValueError):
    """A share or size that cannot be read. Also a ValueError, so that a pydantic validator reports it with its key."""


def share(value: Any) -> float:
    """A share from 0 to 1: `0.1%` -> 0.001; a bare number is the share itself (0.001, "0.001", 1).

    Raises UnitError (a RecipeError).
    """
    number, unit = _split(value, "a share is a percentage such as 0.1% or a number from 0 to 1")
    if unit not in ("", "%"):
        raise UnitError(f"{value!r}: a share is a percentage such as 0.1% or a number from 0 to 1, not {unit}")
    found = float(number / 100 if unit else number)
    if found > 1:
        hint = f"; write {number}% if that is meant" if not unit and number <= 100 else ""
        raise UnitError(f"{value!r}: a share is at most 1 (100%){hint}")
    return found


def size_bytes(value: Any) -> int:
    """A number of bytes: `128MB` -> 128000000, `64MiB` -> 67108864; units B, kB, MB, GB, TB (powers of 1000) and
    KiB, MiB, GiB, TiB (powers of 1024), in any case; a bare number is bytes.

    Raises UnitError (a RecipeError).
    """
    number, unit = _split(value, "a size is a number of bytes, or one such as 128MB or 64MiB")
    factor = FACTORS.get(unit.lower())
    if factor is None:
        raise UnitError(f"{value!r}: no unit {unit}: use B, kB, MB, GB, TB (1000) or KiB, MiB, GiB, TiB (1024)")
    found = number * factor
    if found != int(found) or found < 1:
        raise UnitError(f"{value!r}: a size is a whole number of bytes, at least 1")
    return int(found)


def _split(value: Any, expected: str) -> tuple[Decimal, str]:
    """The number and the unit after it. Decimal, so that 0.1% is the float 0.001 and not 0.1 / 100."""
    match = None if isinstance(value, bool) else NUMBER.match(str(value))
    if match is None:
        raise UnitError(f"{value!r}: {expected}")
    return Decimal(match[1]).scaleb(int(match[2] or 0)), match[3]
