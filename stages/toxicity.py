"""Measure: how toxic a text is, by a fastText model, by a Hugging Face classifier, or by a word list.

Invariant: the stage writes numbers and drops nobody; what is too much is said by a rule, a threshold or `cut_spans`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from ._fasttext import PREFIX, FastTextMeasure, label_indices, listed, probabilities
from ._pieces import PieceConfig, Pieces, Unit, piece_columns, pieces_of, summary
from .arrow import text_array
from .base import HUB_FILES, Column, Resources
from .errors import RecipeError, SetupError, did_you_mean
from .fasttext import column_name

if TYPE_CHECKING:
    from ..scorers.fasttext import Labels
    from ..scorers.fasttext_file import Header
    from ..scorers.sequence_classification import SequenceClassifier
    from ..scorers.word_list import WordList

# which keys mean something to which back end, besides those that all have
_ONLY = {
    "fasttext": ("model", "label", "labels", "strict"),
    "transformers": ("model", "label", "labels", "max_length", "windows", "dtype", "gpus", "cpus", "batch_tokens"),
    "words": ("words",),
}
_NAMES = {"fasttext": "a fastText model", "transformers": "a Hugging Face folder", "words": "a word list"}


class ToxicityConfig(PieceConfig):
    """What `use: toxicity` takes: `model` with a label, or `words`."""

    model: str | None = Field(
        default=None,
        min_length=1,
        description="a fastText model (.bin, .ftz), or the folder or hub id of a Hugging Face sequence classifier",
    )
    label: str | None = Field(default=None, min_length=1, description="the label whose probability is measured: toxic")
    labels: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="several of them, a column <name>_<label> each; whole documents only"
    )
    words: str | tuple[str, ...] | None = Field(
        default=None, min_length=1, description="a word list or several: UTF-8, a term a line; instead of a model"
    )
    strict: bool = Field(
        default=True, description="fastText: a literal </s> ends the text; false reads on and skips it"
    )
    max_length: int = Field(
        default=512, ge=8, description="Hugging Face: tokens that are read at once, at most what the model can"
    )
    windows: int | None = Field(
        default=None,
        ge=1,
        description="Hugging Face: of a longer text only so many windows of max_length tokens are read, from its start; "
        "by default all of it, and the highest score counts",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="Hugging Face: the numbers that the model calculates with; the halves on a GPU only",
    )
    gpus: float = Field(
        default=0, ge=0, description="Hugging Face: GPUs of one worker: 0 (the CPU), 1, or a share: 0.5"
    )
    cpus: float = Field(default=1, gt=0, description="Hugging Face: CPUs of one worker")
    batch_tokens: int = Field(
        default=16_384,
        ge=1,
        description="Hugging Face: tokens that go through the model together; more uses more memory",
    )

    @property
    def back_end(self) -> Literal["fasttext", "transformers", "words"]:
        """By the name alone: the files may be on another machine."""
        if self.model is None:
            return "words"
        return "fasttext" if self.model.endswith((".bin", ".ftz")) else "transformers"

    @property
    def lists(self) -> tuple[str, ...]:
        return (self.words,) if isinstance(self.words, str) else self.words or ()

    @field_validator("label")
    @classmethod
    def _without_prefix(cls, label: str | None) -> str | None:
        return label and label.removeprefix(PREFIX)

    @field_validator("labels")
    @classmethod
    def _each_a_column(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        seen: dict[str, str] = {}
        for label in labels or ():
            column = column_name(label.removeprefix(PREFIX))
            if not column.strip("_") or column in ("ran", "truncated"):
                raise ValueError(f"{label}: makes no column name of its own: give it a stage with `label:`")
            if column in seen:
                raise ValueError(f"{seen[column]} and {label} make one column name: give each a stage with `label:`")
            seen[column] = label
        return labels and tuple(label.removeprefix(PREFIX) for label in labels)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.model is None) == (self.words is None):
            raise ValueError("model: give model (with a label) or words" + (", not both" if self.model else ""))
        kept = {*_ONLY[self.back_end], *PieceConfig.model_fields}
        for key in sorted(self.model_fields_set - kept):
            raise ValueError(f"{key}: means nothing to {_NAMES[self.back_end]}: leave it out")
        if self.label is not None and self.labels is not None:
            raise ValueError("labels: give label or labels, not both")
        if self.labels is not None and self.unit != "document":
            raise ValueError(f"labels: unit: {self.unit} takes one `label:`; give each label a stage")
        if self.dtype != "float32" and not self.gpus:
            raise ValueError(f"dtype: {self.dtype} is for GPUs: give gpus, or leave dtype out")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus: {self.gpus:g}: a share below 1, or whole ones")
        return self


class Toxicity(FastTextMeasure):
    """Toxicity of the text by a fastText model, a Hugging Face sequence classifier or a word list; it drops nobody.

    By a model, of whole texts: one column `toxicity` (or the stage's name), the probability of `label`, or with `labels`
    <name>_<label> each. Of lines, paragraphs or sentences: <name>_max, <name>_mean (over pieces, long or short), with
    `over` <name>_over, with `spans` <name>_spans, whose kind is the label.

    fastText models are scored together with neighbouring `fasttext` stages. A Hugging Face model (config.json,
    model.safetensors, tokenizer; extra `lm`) runs in processes of its own, on `gpus` or the CPU, batched by length. A text of
    more than max_length tokens is read in windows of nearly equal size that do not overlap, and the highest score counts;
    with `windows` only the first ones are read, the score is <name>_score, and <name>_truncated says where something was
    left unread. Scores are equal within 1e-5 (float32) whatever they are batched with. Null: no token.

    `words` is the baseline of C4: terms of the list as whole words in any case, where scripts without spaces need no bounds
    (Chinese, Japanese, Thai). <name>_matches counts them, <name>_terms different ones, <name>_share is their part of the
    characters; of pieces, the score is the number of matches in a piece, so `over: 1` is the share of pieces with any.
    Such lists take out dialects and medical and legal texts with the rest: look at <name>_terms by source before you cut.
    """

    Config = ToxicityConfig
    config: ToxicityConfig
    bears_name: ClassVar[bool] = True
    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "words", "gpus", "cpus", "batch_tokens"})

    def __init__(self, config: ToxicityConfig, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        if config.back_end == "transformers":  # of this stage alone; for the others the class's own hold
            held = Resources(cpus=config.cpus, gpus=config.gpus, actors=True)
            vars(self).update(exact=False, cost="expensive", resources=held)

    @property
    def model(self) -> str:
        return self.config.model or ""

    @property
    def hub_files(self) -> tuple[str, ...]:
        return HUB_FILES if self.config.back_end == "transformers" else ()

    @property
    def models(self) -> tuple[str, ...]:
        return (self.config.model,) if self.config.model else self.config.lists

    @property
    def unit(self) -> Unit:
        return self.config.unit

    @property
    def joins(self) -> str | None:
        return super().joins if self.config.back_end == "fasttext" else None

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.labels or ((self.config.label,) if self.config.label else ())

    @property
    def adds(self) -> tuple[Column, ...]:
        config = self.config
        if config.back_end == "words":
            return _WORD_COLUMNS if config.unit == "document" else piece_columns(config, "number of listed terms")
        if config.labels:
            columns = [Column(column_name(x), pa.float32(), f"probability of {x!r}, 0 to 1") for x in config.labels]
        else:
            columns = list(piece_columns(config, f"probability of {config.label!r}"))
        if config.windows is not None:
            doc = f"whether something lies behind the first {config.windows} windows of {config.max_length} tokens"
            columns.append(Column("truncated", pa.bool_(), doc))
        return tuple(columns)

    # --- before the run

    def check(self, schema: pa.Schema) -> None:
        from ..scorers.base import ModelError

        if self.config.back_end == "fasttext":
            super().check(schema)
            return
        try:
            if self.config.back_end == "words":
                from ..scorers.word_list import read_terms

                for path in self.config.lists:
                    read_terms(self.local(path))
                return
            from ..scorers.sequence_classification import read_facts

            known = read_facts(self.local(self.model)).labels
        except ModelError as error:
            where = "words" if self.config.back_end == "words" else "model"
            hint = "; a fastText model's name ends in .bin or .ftz" if Path(self.local(self.model)).is_file() else ""
            raise RecipeError(f"{where}: {error}{hint if where == 'model' else ''}") from error
        if not self.labels:
            raise RecipeError(
                f"label: say which label of {self.model} is measured. Its labels: {', '.join(known[:20])}."
            )
        for label in self.labels:
            if label not in known:
                key = "labels" if self.config.labels else "label"
                raise RecipeError(f"{key}: the model has no label {label}.{did_you_mean(label, known)}")

    def check_header(self, header: Header) -> None:
        if not self.labels:
            raise RecipeError(f"label: say which label of {self.model} is measured. {listed(header)}")
        label_indices(header, self.labels, "labels" if self.config.labels else "label")

    def warm(self) -> None:
        if self.config.back_end == "transformers" and self.config.gpus:  # the driver may have none
            self._loaded(verify=True)
        else:
            super().warm()

    # --- the back ends

    def measure(self, batch: pa.Table) -> pa.Table:
        if self.config.back_end == "fasttext":
            return super().measure(batch)
        pieces = pieces_of(batch["text"], self.config.unit)
        return self._by_words(pieces) if self.config.back_end == "words" else self._by_classifier(pieces)

    def wanted(self, header: Header) -> Labels:
        from ..scorers.fasttext import Labels

        self.check_header(header)
        return Labels(label_indices(header, self.labels, "label"))

    def columns(self, header: Header, pieces: Pieces, found: Any) -> pa.Table:
        return self._probabilities(pieces, found)

    def _probabilities(self, pieces: Pieces, found: np.ndarray) -> pa.Table:
        """found: float32 [pieces, labels], NaN where nothing can be said."""
        tables = [
            summary(self.config, pieces, probabilities(found, place), label) for place, label in enumerate(self.labels)
        ]
        if not self.config.labels:
            return tables[0]
        return pa.table({column_name(x): table["score"] for x, table in zip(self.labels, tables, strict=True)})

    def _by_words(self, pieces: Pieces) -> pa.Table:
        words = self._words()
        counts = words.count(pieces.data, pieces.start, pieces.end)
        if self.config.unit != "document":
            return summary(self.config, pieces, counts[:, 0].astype(np.float32), "terms")
        found, absent = words.table(counts), pa.array(~pieces.present)
        columns = {name: pc.if_else(absent, None, found[name]) for name in found.column_names}
        return pa.table(columns)

    def _words(self) -> WordList:
        from ..scorers.base import ModelError
        from ..scorers.word_list import WordList

        try:
            return WordList.load(*(self.local(path) for path in self.config.lists))
        except ModelError as error:
            raise RecipeError(f"{self.name}: words: {error}") from error

    def _by_classifier(self, pieces: Pieces) -> pa.Table:
        scorer = self._loaded()
        assert scorer is not None
        places = [scorer.labels.index(label) for label in self.labels]
        scores, cut = scorer.scores(_texts(pieces))
        found = self._probabilities(pieces, scores[:, places])
        if self.config.windows is None:
            return found
        truncated = np.bincount(pieces.row[cut], minlength=len(pieces.present)) > 0
        return found.append_column("truncated", pa.array(truncated, mask=~pieces.present))

    def _loaded(self, *, verify: bool = False) -> SequenceClassifier | None:
        from ..scorers.base import ModelError, NoDeviceError
        from ..scorers.sequence_classification import SequenceClassifier

        config, path = self.config, self.local(self.model)
        try:
            if verify:
                SequenceClassifier.verify(path, max_length=config.max_length)
                return None
            return SequenceClassifier.load(
                path,
                device="cuda" if config.gpus else "cpu",
                dtype=config.dtype,
                max_length=config.max_length,
                windows=config.windows,
                batch_tokens=config.batch_tokens,
                threads=max(1, int(config.cpus)),
            )
        except ModelError as error:
            raise RecipeError(f"{self.name}: model: {error}") from error
        except NoDeviceError as error:
            raise SetupError(f"{self.name}: gpus: {config.gpus:g}: {error}; say gpus: 0 to use the CPU") from error
        except ImportError as error:
            raise SetupError(
                f"{self.name}: a Hugging Face model needs torch and transformers: pip install 'tamis[lm]'"
            ) from error


_WORD_COLUMNS = (
    Column("matches", pa.int32(), "terms of the word list in the text, as whole words in any case"),
    Column("terms", pa.int32(), "different terms of the word list in the text"),
    Column("share", pa.float32(), "characters in those matches over all characters, 0 to 1"),
)


def _texts(pieces: Pieces) -> pa.Array:
    """The pieces as large_string, one entry each."""
    if not len(pieces.start):
        return pa.array([], pa.large_string())
    bounds = np.empty(2 * len(pieces.start), np.int64)
    bounds[0::2], bounds[1::2] = pieces.start, pieces.end  # pieces and what lies between them
    return text_array(pieces.data, bounds).take(pa.array(np.arange(len(pieces.start)) * 2))
