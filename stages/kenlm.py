"""Measure: perplexity of a text under an n-gram model of KenLM, one model for all texts or one for each language.

Invariant: a number is that of the text and the model of its language; texts of other languages have none. Nothing is
decided here: `perplexity_buckets`, a rule or a threshold reads the column.
"""

from __future__ import annotations

import importlib.metadata
import unicodedata
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from .arrow import one_array
from .base import Column, Stage, StageConfig
from .errors import RecipeError, SetupError

if TYPE_CHECKING:
    from ..scorers.kenlm import KenLM

LIBRARIES = ("kenlm", "sentencepiece")


class ModelFiles(StageConfig):
    """A language model and the tokenizer that it was trained with."""

    model: str = Field(min_length=1, description="a binary file of KenLM, or an ARPA file")
    tokenizer: str = Field(min_length=1, description="the SentencePiece file whose pieces are the model's words")


class KenlmConfig(StageConfig):
    """What `use: kenlm` takes: `model` and `tokenizer`, or `languages`."""

    model: str | None = Field(
        default=None,
        min_length=1,
        description="a binary file of KenLM, or an ARPA file (slow to load, and each process holds its own)",
    )
    tokenizer: str | None = Field(
        default=None, min_length=1, description="the SentencePiece file whose pieces are the model's words"
    )
    languages: dict[str, ModelFiles] | None = Field(
        default=None,
        min_length=1,
        description="instead of the two: {en: {model: ..., tokenizer: ...}, fr: ...}; texts of other languages get null",
    )
    by: str = Field(default="lang", min_length=1, description="with languages: the column that says a text's language")
    normalize: bool = Field(
        default=True,
        description="as CCNet does before SentencePiece: lower case, no accents, digits 0, plain punctuation",
    )
    per_line: bool = Field(
        default=False,
        description="each line has its own start and end; false reads the text as one line, as CCNet's pipeline does, "
        "which drops the line feeds",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.languages is not None:
            for key in ("model", "tokenizer"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: give it inside languages, or leave languages out")
        elif self.model is None or self.tokenizer is None:
            missing = "model" if self.model is None else "tokenizer"
            raise ValueError(f"{missing}: give model and tokenizer, or languages: {{en: {{model: .., tokenizer: ..}}}}")
        elif "by" in self.model_fields_set:
            raise ValueError("by: means nothing without languages: leave it out")
        return self


class Kenlm(Stage):
    """Perplexity of the text under a KenLM model over SentencePiece pieces, as CCNet measures it; it drops nobody.

    10 ^ (-sum of log10 p / predictions), one prediction per piece and one for the end of the text (of every line with
    `per_line`); null for a text without a piece. CCNet (Wenzek et al. 2020) rounds to 0.1, this does not. Low means like
    what the model has read (CCNet's: Wikipedia): boilerplate scores well, dialogue, poetry and code badly. Numbers of two
    models cannot be compared, so cut by percentiles within a language (`perplexity_buckets`).

    Needs the extra `kenlm`. Model files are trusted input: KenLM maps them and does not check what they say.
    """

    Config = KenlmConfig
    config: KenlmConfig
    cost: ClassVar[Literal["cheap", "expensive"]] = "expensive"  # 5 MB/s a core, half of it SentencePiece
    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "tokenizer", "languages"})

    @property
    def files(self) -> dict[str, ModelFiles]:
        """The models by language; without `languages` the one model under an empty name."""
        config = self.config
        if config.languages is not None:
            return config.languages
        return {"": ModelFiles(model=config.model or "", tokenizer=config.tokenizer or "")}

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in self.files.values() for name in (one.model, one.tokenizer)))

    @property
    def needs(self) -> tuple[str, ...]:
        return ("text", self.config.by) if self.config.languages is not None else ("text",)

    @property
    def adds(self) -> tuple[Column, ...]:
        unit = "line" if self.config.per_line else "text"
        what = f"perplexity under a KenLM model, per SentencePiece piece and end of {unit}; null for other languages"
        return (Column("kenlm_ppl", pa.float32(), what if self.config.languages else what.partition(";")[0]),)

    def fingerprint(self) -> str:
        """Contents of the models in the order of their languages, and what else numbers may depend on."""
        marks = dict(zip(self.models, super().fingerprint().split(" "), strict=True))
        files = [f"{name}={marks[one.model]}+{marks[one.tokenizer]}" for name, one in sorted(self.files.items())]
        unicode = [f"unicode {unicodedata.unidata_version}"] if self.config.normalize else []
        return " ".join([*files, *unicode, *(f"{name} {_version(name)}" for name in LIBRARIES)])

    def check(self, schema: pa.Schema) -> None:
        from ..scorers.base import ModelError
        from ..scorers.kenlm import check_model, check_tokenizer

        for name, one in self.files.items():
            where = f"languages.{name}." if name else ""
            for key, look in (("model", check_model), ("tokenizer", check_tokenizer)):
                try:
                    look(self.local(getattr(one, key)))
                except ModelError as error:
                    raise RecipeError(f"{where}{key}: {error}") from error
        if self.config.languages is not None:
            kind = schema.field(self.config.by).type
            if not (_is_text(kind) or pa.types.is_null(kind)):
                raise RecipeError(f"by: {self.config.by} has the type {kind}; name a column of strings")

    def warm(self) -> None:
        for name in self.files:
            self._loaded(name)

    def measure(self, batch: pa.Table) -> pa.Table:
        texts = one_array(batch["text"])
        if self.config.languages is None:
            places = {"": texts.is_valid()}
        else:
            language = one_array(batch[self.config.by]).cast(pa.string())
            places = {name: pc.and_(texts.is_valid(), pc.equal(language, name)) for name in self.files}
        found = pa.nulls(len(texts), pa.float32())
        for name, chosen in places.items():
            if pc.any(chosen).as_py():
                scores = self._loaded(name).score(texts.filter(chosen))["kenlm_ppl"]
                found = pc.replace_with_mask(found, chosen.fill_null(False), one_array(scores))
        return pa.table({"kenlm_ppl": found})

    def _loaded(self, name: str) -> KenLM:
        from ..scorers.base import ModelError
        from ..scorers.kenlm import KenLM

        one, config = self.files[name], self.config
        try:
            return KenLM.load(
                self.local(one.model),
                self.local(one.tokenizer),
                normalize=config.normalize,
                per_line=config.per_line,
            )
        except ModelError as error:
            raise RecipeError(f"{self.name}: {error}") from error
        except ImportError as error:
            raise SetupError(
                f"{self.name}: kenlm and sentencepiece are not installed: pip install 'tamis[kenlm]' (kenlm is built from "
                "source, for which it needs a C++ compiler and cmake)"
            ) from error


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
