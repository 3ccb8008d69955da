"""Measure: the probability of labels of a fastText model, of whole texts or of their lines, paragraphs or sentences.

Invariant: a probability is what fastText's own `predict` gives for the same bytes, within 1e-5, line feeds read as spaces.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from ._fasttext import PREFIX, FastTextMeasure, label_indices, listed, probabilities
from ._pieces import PieceConfig, Pieces, Unit, piece_columns, summary
from .base import Column
from .errors import RecipeError

if TYPE_CHECKING:
    from ..scorers.fasttext import Labels
    from ..scorers.fasttext_file import Header


class FasttextConfig(PieceConfig):
    """What `use: fasttext` takes. Give it a `name`: its columns bear it."""

    model: str = Field(min_length=1, description="path of a supervised model, .bin or .ftz")
    label: str | None = Field(default=None, min_length=1, description="the label whose probability is measured: hq")
    labels: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="several of them, a column <name>_<label> each; whole documents only"
    )
    strict: bool = Field(
        default=True, description="a literal </s> ends the text, as in fastText; false reads on and skips it"
    )

    @field_validator("label")
    @classmethod
    def _without_prefix(cls, label: str | None) -> str | None:
        return label and label.removeprefix(PREFIX)

    @field_validator("labels")
    @classmethod
    def _each_a_column(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is None:
            return None
        labels = tuple(label.removeprefix(PREFIX) for label in labels)
        seen: dict[str, str] = {}
        for label in labels:
            column = column_name(label)
            if not column.strip("_"):
                raise ValueError(
                    f"{label}: no letter a to z or digit to name a column by: give it a stage with `label:`"
                )
            if column == "ran":
                raise ValueError(f"{label}: every stage has a column of this name: give it a stage with `label:`")
            if column in seen:
                raise ValueError(f"{seen[column]} and {label} make one column name: give each a stage with `label:`")
            seen[column] = label
        return labels

    @model_validator(mode="after")
    def _one_way_of_naming(self) -> Self:
        if self.label is not None and self.labels is not None:
            raise ValueError("labels: give label or labels, not both")
        if self.labels is not None and self.unit != "document":
            raise ValueError(
                f"labels: unit: {self.unit} takes one `label:`; give each label a stage, they are scored together"
            )
        return self


def column_name(label: str) -> str:
    """The label in lower case, with every character besides a to z, 0 to 9 and _ as _: eng_Latn is eng_latn."""
    return re.sub("[^a-z0-9_]", "_", label.lower())


class Fasttext(FastTextMeasure):
    """Probability of a label, or of several, by a fastText model.

    Of whole texts: one column that bears the stage's name, or <name>_<label> each. Of lines, paragraphs or sentences:
    <name>_max, <name>_mean (over pieces, long or short), with `over` <name>_over, with `spans` <name>_spans, whose kind
    is the label. An empty text scores what fastText gives for one: the line end alone. A text without pieces has nulls
    and no spans; null is also what a model gives that knows neither a word nor the line end.
    """

    Config = FasttextConfig
    config: FasttextConfig
    bears_name: ClassVar[bool] = True

    @property
    def unit(self) -> Unit:
        return self.config.unit

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.labels or ((self.config.label,) if self.config.label else ())

    @property
    def adds(self) -> tuple[Column, ...]:
        if self.config.labels:
            return tuple(
                Column(column_name(label), pa.float32(), f"probability of {label!r}, 0 to 1") for label in self.labels
            )
        return piece_columns(self.config, f"probability of {self.config.label!r}")

    def check_header(self, header: Header) -> None:
        if not self.labels:
            raise RecipeError(f"label: say which label of {self.model} is measured. {listed(header)}")
        label_indices(header, self.labels, "labels" if self.config.labels else "label")

    def wanted(self, header: Header) -> Labels:
        from ..scorers.fasttext import Labels

        self.check_header(header)
        return Labels(label_indices(header, self.labels, "label"))

    def columns(self, header: Header, pieces: Pieces, found: Any) -> pa.Table:
        if not self.config.labels:
            return summary(self.config, pieces, probabilities(found), self.labels[0])
        tables = [summary(self.config, pieces, probabilities(found, place), "") for place in range(len(self.labels))]
        return pa.table({column.name: table["score"] for column, table in zip(self.adds, tables, strict=True)})
