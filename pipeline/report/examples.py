"""The documents nearest to a threshold, on both sides of it.

Invariant: which ones is a matter of their values, then of their place in the input, never of chance; only documents that
reached the stage whose rule asks are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .rows import Rows, column_type, column_value
from .thresholds import OPPOSITE, Threshold

SHOWN = 10
IDENTITY = "doc_id, source_file, source_row, source_hash, url, decision, rule, reason, out_file, out_row"


@dataclass(frozen=True)
class Side:
    """`documents` for which `column sign value` holds, and the ledger rows of the nearest: identity, fate, `value`."""

    sign: str
    documents: int
    nearest: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Examples:
    """`asked`: the side that the rule keeps; `other`: the rest. Nulls are on neither."""

    threshold: Threshold
    asked: Side
    other: Side


def examples(rows: Rows, cuts: Sequence[Threshold]) -> list[Examples]:
    """For every threshold that has a name and two sides, over columns that the ledger holds as numbers."""
    chosen: list[tuple[Threshold, list[_Nearest]]] = []
    for cut in cuts:
        value = column_value(rows.output, cut.column, cut.stage)
        if cut.param is None or cut.sign not in OPPOSITE or value is None:
            continue
        kind = column_type(rows.output, cut.column)
        if kind not in ("VARCHAR", "BOOLEAN"):
            values, known = rows.values(value)
            # a rule compares a float32 column with the decimal as float32, so 0.1 is 0.1
            at = float(np.float32(cut.value)) if kind == "FLOAT" else cut.value
            known &= rows.saw(cut.stage)
            chosen.append((cut, [_nearest(values, known, sign, at) for sign in (cut.sign, OPPOSITE[cut.sign])]))
    places = sorted({place for _, sides in chosen for side in sides for place in side.places})
    found = rows.at(places, IDENTITY)
    return [Examples(cut, *(side.told(found) for side in sides)) for cut, sides in chosen]


@dataclass(frozen=True)
class _Nearest:
    sign: str
    documents: int
    places: list[int]
    values: list[float]

    def told(self, found: dict[int, dict[str, Any]]) -> Side:
        rows = zip(self.places, self.values, strict=True)
        return Side(self.sign, self.documents, tuple({**found[place], "value": value} for place, value in rows))


_COMPARED = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}


def _nearest(values: np.ndarray, known: np.ndarray, sign: str, at: float) -> _Nearest:
    """Equal distances: who stands first in the ledger, which is in the order of (source_file, source_row)."""
    places = np.flatnonzero(known & _COMPARED[sign](values, at))
    away = np.abs(values[places] - at)
    if len(places) > SHOWN:
        inside = np.flatnonzero(away <= np.partition(away, SHOWN - 1)[SHOWN - 1])
        inside = inside[np.argsort(away[inside], kind="stable")][:SHOWN]
    else:
        inside = np.argsort(away, kind="stable")
    return _Nearest(sign, len(places), places[inside].tolist(), values[places[inside]].tolist())
