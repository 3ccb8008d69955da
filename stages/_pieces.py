"""Pieces of texts that a model scores one by one, and what is told of them: for all stages with `unit:`.

Invariant: pieces ascend, do not overlap, lie inside their text, and are never empty; with `unit: document` there is one
for every text, the whole of it. A piece that the model can say nothing of counts nowhere and has no span.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from ._spans import SPANS, span_column
from .arrow import one_array, text_buffers
from .base import Column, StageConfig

Unit = Literal["document", "line", "paragraph", "sentence"]
UNITS = get_args(Unit)


class PieceConfig(StageConfig):
    """The keys of a stage that scores whole texts or pieces of them. What a sentence is: docs/sentences.md."""

    unit: Unit = Field(
        default="document",
        description="what is scored as one text: document; line: between line feeds; paragraph: between blank lines; "
        "sentence: within a line",
    )
    over: float | None = Field(
        default=None, ge=0, le=1, description="of pieces: adds the share of them that score at least this"
    )
    spans: bool = Field(default=False, description="of pieces: adds a span column with each one's score, for cut_spans")

    @model_validator(mode="after")
    def _pieces_only(self) -> Self:
        for key in ("over", "spans"):
            if self.unit == "document" and getattr(self, key) not in (None, False):
                raise ValueError(f"{key}: needs pieces: give unit: line, paragraph or sentence")
        return self


@dataclass(frozen=True)
class Pieces:
    """Piece i is data[start[i]:end[i]] and belongs to text row[i]. Text t begins at data[origin[t]]; present[t] is false
    where it is null. data: uint8; row, start, end: int64[pieces]; origin: int64[texts]; present: bool[texts]."""

    data: np.ndarray
    row: np.ndarray
    start: np.ndarray
    end: np.ndarray
    origin: np.ndarray
    present: np.ndarray


def pieces_of(texts: pa.ChunkedArray | pa.Array, unit: Unit) -> Pieces:
    """The pieces of all texts; a null text has none, except that as a document it is empty."""
    data, offsets = text_buffers(texts)
    present = one_array(texts).is_valid().to_numpy(zero_copy_only=False)
    if unit == "document":
        row, start, end = np.arange(len(present)), offsets[:-1], offsets[1:]
    else:
        from ..kernels import sentences

        walk = {"line": sentences.lines, "paragraph": sentences.paragraphs, "sentence": sentences.sentences}[unit]
        row, start, end = walk(data, offsets)
    return Pieces(data, row, start, end, offsets[:-1], present)


def piece_columns(config: PieceConfig, what: str) -> tuple[Column, ...]:
    """What `summary` gives. what: the score, in the words of the docs ("probability of hq")."""
    if config.unit == "document":
        return (Column("score", pa.float32(), f"{what}, 0 to 1"),)
    columns = [
        Column("max", pa.float32(), f"highest {what} among its {config.unit}s; null where it has none"),
        Column("mean", pa.float32(), f"mean {what} over its {config.unit}s, long or short; null where it has none"),
    ]
    if config.over is not None:
        columns.append(
            Column("over", pa.float32(), f"share of its {config.unit}s whose {what} is at least {config.over:g}")
        )
    if config.spans:
        columns.append(Column("spans", SPANS, f"its {config.unit}s; score: {what}"))
    return tuple(columns)


def summary(config: PieceConfig, pieces: Pieces, scores: np.ndarray, kind: str) -> pa.Table:
    """The columns of `piece_columns`. scores: float32, one per piece, NaN where the model says nothing. kind: of the
    spans."""
    texts = len(pieces.present)
    known = ~np.isnan(scores)
    if config.unit == "document":
        return pa.table({"score": pa.array(scores, pa.float32(), mask=~(known & pieces.present))})
    row, found = pieces.row[known], scores[known]
    counts = np.bincount(row, minlength=texts)
    none = counts == 0
    over = np.maximum(counts, 1)
    highest = np.zeros(texts, np.float32)
    np.maximum.at(highest, row, found)
    # bincount adds one after the other in double precision: the same sum in any batch
    mean = np.bincount(row, found, minlength=texts) / over
    columns = {"max": pa.array(highest, pa.float32(), mask=none), "mean": pa.array(mean, mask=none).cast(pa.float32())}
    if config.over is not None:
        share = np.bincount(row[found >= np.float32(config.over)], minlength=texts) / over
        columns["over"] = pa.array(share, mask=none).cast(pa.float32())
    if config.spans:
        start, end = (place[known] - pieces.origin[row] for place in (pieces.start, pieces.end))
        columns["spans"] = span_column(texts, row, start, end, found, kind, valid=pieces.present)
    return pa.table(columns)
