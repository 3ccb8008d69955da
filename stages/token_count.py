"""Measure: `n_tokens`, what a tokenizer file makes of the text.

Invariant: a count is that of the text alone and exact; it is never estimated, and a text is never cut for it.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from .arrow import one_array
from .base import Column, Stage, StageConfig
from .errors import RecipeError, SetupError


class TokenCountConfig(StageConfig):
    """What `use: token_count` takes."""

    tokenizer: str = Field(description="a tokenizer.json of the `tokenizers` library, a folder with one, or a hub id")


class TokenCount(Stage):
    """Tokens of the text, as a tokenizer file counts them, without the special tokens that a template adds.

    Equal to `len(tokenizer.encode(text, add_special_tokens=False).ids)`; truncation, padding and dropout that the file
    asks for are switched off. `threshold` can cut by the column (`by: n_tokens`), and data set card and report show
    tokens beside documents and bytes. Needs the extra `lm`.
    """

    Config = TokenCountConfig
    config: TokenCountConfig
    cost = "expensive"
    not_in_key = frozenset({"tokenizer"})

    def __init__(self, config: TokenCountConfig, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        path = Path(
            config.tokenizer
        )  # of a folder only this file decides: weights beside it are neither hashed nor copied
        self._file = str(path / "tokenizer.json") if path.is_dir() else config.tokenizer

    @property
    def models(self) -> tuple[str, ...]:
        return (self._file,)

    @property
    def hub_files(self) -> tuple[str, ...]:
        return ("tokenizer.json",)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("n_tokens", pa.int64(), f"tokens of the text by {Path(self.config.tokenizer).name}"),)

    def check(self, schema: pa.Schema) -> None:
        from ..scorers.base import ModelError
        from ..scorers.token_count import tokenizer_file

        try:
            tokenizer_file(self.local(self._file))
        except ModelError as error:
            raise RecipeError(f"tokenizer: {error}") from error

    def fingerprint(self) -> str:
        try:
            version = importlib.metadata.version("tokenizers")
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        return f"{super().fingerprint()} tokenizers {version}"

    def warm(self) -> None:
        self._scorer()

    def _scorer(self) -> Any:
        from ..scorers.base import ModelError
        from ..scorers.token_count import TokenCount as Scorer

        try:
            return Scorer.load(self.local(self._file))
        except ModelError as error:
            raise RecipeError(f"{self.name}: tokenizer: {error}") from error
        except ImportError as error:
            raise SetupError(f"{self.name}: token_count needs tokenizers: pip install 'tamis[lm]'") from error

    def measure(self, batch: pa.Table) -> pa.Table:
        texts = one_array(batch["text"])
        absent = texts.is_null()
        counts = self._scorer().count(texts.fill_null("") if texts.null_count else texts)
        return pa.table({"n_tokens": pc.if_else(absent, None, pa.array(counts))})
