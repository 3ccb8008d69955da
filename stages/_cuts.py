"""Cuts through documents ordered by a score: what a frozen cut means, and which documents lie within it.

Invariant: whether a document lies within a cut follows from the cut, its score and its draws alone, so a frozen cut
gives the same answer for the same document in any run.

Order: better scores first (-0.0 is 0.0); among equal scores the smaller draw of the doc_id (see `draws`); among those,
which copies with one doc_id are, the smaller draw of source_file#source_row. A cut is the last document within, told as
far as needed: {"score": s} is all documents with a score as good as s, {"score": s, "tie": u} those of score s only up
to the draw u, {..., "place": v} those of score s and draw u only up to the second draw v. null: every document.
A score that is null, NaN or infinite is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._selection import DRAWS, FIRST, SECOND
from .draws import draws

Side = Literal["top", "bottom"]
Edge = Literal["above", "below"]  # what lies within `above` is too good, what lies outside of `below` not good enough
SIGN = np.uint64(1 << 63)
IDENTITY = ("doc_id", "source_file", "source_row")
_PARTS = ("score", "tie", "place")
_CUT = np.dtype([("parts", "i4"), ("score", "u8"), ("tie", "u8"), ("place", "u8")])


def number_kind(kind: pa.DataType) -> str | None:
    """Numbers that can be compared with one another: float, integer, uint64; None for what is no number."""
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_integer(kind):
        return "uint64" if pa.types.is_uint64(kind) else "integer"
    return None


def score_keys(scores: pa.ChunkedArray, side: Side) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 keys, bool): the smaller key is the better score, equal scores have equal keys; false where there is no
    score, and its key means nothing."""
    kind = number_kind(scores.type)
    known = np.asarray(scores.is_valid())
    if kind == "float":
        values = scores.cast(pa.float64()).to_numpy()  # null is NaN
        known = np.isfinite(values)
    else:
        values = pc.fill_null(scores, 0).to_numpy()
    return _keys(values, str(kind), side), known


def _keys(values: np.ndarray, kind: str, side: Side) -> np.ndarray:
    if kind == "float":
        bits = (values + 0.0).view(np.uint64)  # -0.0 + 0.0 is 0.0
        keys = np.where(bits & SIGN, ~bits, bits | SIGN)
    else:
        keys = values.astype(np.uint64) if kind == "uint64" else values.astype(np.int64).view(np.uint64) ^ SIGN
    return keys if side == "bottom" else ~keys


def score_of(key: int, kind: str, side: Side) -> float | int:
    """The score with this key."""
    bits = key if side == "bottom" else key ^ (2**64 - 1)
    if kind == "float":
        sign = int(SIGN)
        found = np.uint64(bits ^ sign if bits & sign else bits ^ (2**64 - 1))
        return float(found.view(np.float64))
    return bits if kind == "uint64" else bits - 2**63


def key_of(score: float | int, kind: str, side: Side) -> int:
    """The key of a score."""
    dtype = {"float": np.float64, "uint64": np.uint64, "integer": np.int64}[kind]
    return int(_keys(np.array([score], dtype), kind, side)[0])


@dataclass(frozen=True)
class Drawn:
    """The draws of a table with the columns IDENTITY, of the rows for which they are asked."""

    rows: pa.Table
    seed: int
    name: str

    def __call__(self, level: int, at: np.ndarray) -> np.ndarray:
        """uint64 below DRAWS: FIRST of the doc_id, SECOND of source_file#source_row. at: int64 positions."""
        rows = self.rows.select(list(IDENTITY)).take(pa.array(at))
        if level == FIRST:
            keys = rows["doc_id"]
        else:
            keys = pc.binary_join_element_wise(
                rows["source_file"].cast(pa.string()), rows["source_row"].cast(pa.string()), "#"
            )
        return (draws(keys, seed=self.seed, name=self.name) * DRAWS).astype(np.uint64)


def told(parts: tuple[int, int, int], level: int, kind: str, side: Side) -> dict[str, Any]:
    """A cut as it is frozen. parts: key of the score and the two draws; level: the last part that matters."""
    values = (score_of(parts[0], kind, side), parts[1] / DRAWS, parts[2] / DRAWS)
    return dict(zip(_PARTS[: level + 1], values))


def group_series(groups: pa.ChunkedArray | None, own: pa.Array, rows: int) -> np.ndarray:
    """int32: the place of the row's group in `own` (large_string, the groups with cuts of their own), from 1; 0 for all
    others."""
    if groups is None:
        return np.zeros(rows, np.int32)
    at = pc.index_in(groups.cast(pa.large_string()), value_set=own, skip_nulls=True)
    return pc.fill_null(at, -1).to_numpy() + np.int32(1)


class Cuts:
    """The frozen cuts of a stage, one for all documents and one for each group that has its own.

    facts: what `threshold` froze; kind: type of the column of scores.
    """

    def __init__(self, facts: Mapping[str, Any], kind: pa.DataType) -> None:
        self.side: Side = facts["side"]
        self.kind = str(number_kind(kind))
        self.groups = pa.array(list(facts["groups"]), pa.large_string())
        lines = [facts["overall"], *facts["groups"].values()]
        edges: tuple[Edge, ...] = ("above", "below")
        self.edges: dict[Edge, np.ndarray] = {edge: self._read(lines, edge) for edge in edges if edge in lines[0]}
        self.seed, self.name = facts["seed"], facts["draw"]

    def _read(self, lines: list[Mapping[str, Any]], edge: Edge) -> np.ndarray:
        found = np.zeros(len(lines), _CUT)
        for one, line in zip(found, lines):
            if line[edge] is not None:
                one["parts"] = len(line[edge])
                one["score"] = key_of(line[edge]["score"], self.kind, self.side)
                one["tie"], one["place"] = (int(line[edge].get(part, 0) * DRAWS) for part in _PARTS[1:])
        return found

    def series(self, groups: pa.ChunkedArray | None, rows: int) -> np.ndarray:
        """As `group_series` over the groups with a cut of their own."""
        return group_series(groups, self.groups, rows)

    def within(self, rows: pa.Table, keys: np.ndarray, series: np.ndarray) -> dict[Edge, np.ndarray]:
        """For each edge one bool per row: whether it lies within that cut. Means nothing where there is no score.

        rows: with the columns IDENTITY; keys, series: as `score_keys` and `series` give them.
        """
        draw = Drawn(rows, self.seed, self.name)
        found: dict[Edge, np.ndarray] = {}
        for edge, cuts in self.edges.items():
            parts, score = cuts["parts"][series], cuts["score"][series]
            inside = (parts == 0) | (keys < score) | ((keys == score) & (parts == 1))
            ties = np.flatnonzero((keys == score) & (parts > 1))
            if len(ties):
                own = cuts[series[ties]]
                first = draw(FIRST, ties)
                inside[ties] = first <= own["tie"]
                again = (first == own["tie"]) & (own["parts"] == 3)
                if again.any():
                    inside[ties[again]] = draw(SECOND, ties[again]) <= own["place"][again]
            found[edge] = inside
        return found
