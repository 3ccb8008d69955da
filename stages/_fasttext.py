"""What stages that score by a fastText model share: the model's file, its labels, and one walk over the text for all.

Invariant: what a stage gives is the same whether it is measured alone or together with others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from ._pieces import Pieces, Unit, pieces_of
from .base import Stage
from .errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from ..scorers.fasttext import FastText, Labels, Top
    from ..scorers.fasttext_file import Header

SHOWN = 20  # labels that an error message lists
PREFIX = "__label__"


class FastTextMeasure(Stage):
    """Base of stages that score by a fastText model. Neighbours that read the same pieces are measured together.

    A subclass has `model`, `unit`, `strict`, `wanted` and `columns`; what of the model's header it needs it looks at in
    `check_header`.
    """

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model"})  # its content is in the fingerprint

    @property
    def model(self) -> str:
        """The model's file, as the recipe names it."""
        return self.config.model

    @property
    def unit(self) -> Unit:
        return "document"

    @property
    def strict(self) -> bool:
        """Whether a literal `</s>` ends a text, as in fastText."""
        return self.config.strict

    def check_header(self, header: Header) -> None:
        """Raises RecipeError where the model cannot give what the config asks for."""

    def wanted(self, header: Header) -> Labels | Top:
        """What `score_together` is asked for."""
        raise NotImplementedError

    def columns(self, header: Header, pieces: Pieces, found: Any) -> pa.Table:
        """The columns of `adds` from what `score_together` gave for all pieces."""
        raise NotImplementedError

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model,)

    @property
    def joins(self) -> str | None:
        return f"fasttext {self.unit} {'strict' if self.strict else 'whole'}"

    def check(self, schema: pa.Schema) -> None:
        from ..scorers.base import ModelError
        from ..scorers.fasttext_file import read_header

        try:
            header = read_header(self.local(self.model))
        except ModelError as error:
            raise RecipeError(f"model: {error}") from error
        self.check_header(header)

    def warm(self) -> None:
        """Builds this machine's tables of the model, once for all workers, and compiles the kernels."""
        self.measure(pa.table({"text": pa.array(["A line."], pa.large_string())}))

    def loaded(self) -> FastText:
        """The model; a process keeps it."""
        from ..scorers.base import ModelError
        from ..scorers.fasttext import FastText

        try:
            return FastText.load(self.local(self.model), strict=self.strict)
        except ModelError as error:
            raise RecipeError(f"model: {error}") from error

    def measure(self, batch: pa.Table) -> pa.Table:
        return self.measure_together([self], batch)[0]

    @classmethod
    def measure_together(cls, stages: Sequence[Any], batch: pa.Table) -> list[pa.Table]:
        """stages: of any subclass, with equal `joins`."""
        from ..scorers.fasttext import score_together

        pieces = pieces_of(batch["text"], stages[0].unit)
        models = [stage.loaded() for stage in stages]
        asks = [(model, stage.wanted(model.header)) for stage, model in zip(stages, models, strict=True)]
        found = score_together(asks, pieces.data, pieces.start, pieces.end)
        return [
            stage.columns(model.header, pieces, one) for stage, model, one in zip(stages, models, found, strict=True)
        ]


def label_indices(header: Header, labels: Sequence[str], key: str) -> tuple[int, ...]:
    """Where the labels stand in the model. RecipeError that lists the model's for one that it lacks; `key` is the one
    of the recipe that names them."""
    places = {label: place for place, label in enumerate(header.labels)}
    for label in labels:
        if label not in places:
            nearest = did_you_mean(label, places).partition(" Valid: ")[0]
            raise RecipeError(f"{key}: the model has no label {label}.{nearest} {listed(header)}")
    return tuple(places[label] for label in labels)


def listed(header: Header) -> str:
    """'Its labels: a, b.', at most SHOWN of them, in the model's order (the most frequent first)."""
    more = f" and {len(header.labels) - SHOWN} more" if len(header.labels) > SHOWN else ""
    return f"Its labels: {', '.join(header.labels[:SHOWN])}{more}."


def probabilities(found: np.ndarray, place: int = 0) -> np.ndarray:
    """Column `place` of what `score_together` gave for Labels, contiguous: float32, NaN where nothing can be said."""
    return np.ascontiguousarray(found[:, place])
