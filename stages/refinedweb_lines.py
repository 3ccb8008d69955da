"""`refinedweb_lines`: the line-wise corrections of RefinedWeb.

Invariant: with the defaults, and no document decided upon, text comes out byte for byte as DCLM's modifiers leave it.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, StrictFloat, StrictInt

from .arrow import text_array, text_buffers
from .base import Column, Stage, StageConfig

_Share = Annotated[StrictFloat, Field(gt=0, le=1)]


class RefinedwebLinesConfig(StageConfig):
    """Every rule can be switched off: null, false or 0."""

    uppercase: _Share | Literal[False] | None = Field(
        default=0.5, description="remove lines with a larger share of capitals"
    )
    numeric: _Share | Literal[False] | None = Field(
        default=0.999999, description="remove lines with a larger share of digits"
    )
    counters: bool = Field(default=True, description="remove social counters: 12 likes, 5.1K followers")
    min_words: StrictInt | Literal[False] | None = Field(
        default=2, ge=0, description="remove lines of fewer words (white space)"
    )
    items_in_cart: bool = Field(default=True, description='cut "items in cart" anywhere in a line')
    read_more: bool = Field(default=True, description='cut "Read more" at the end of a line')
    sign_in: bool = Field(default=True, description='cut "Sign-in" at the start of a line')
    phrase_max_words: StrictInt = Field(
        default=10, ge=0, description="cut these phrases only in lines of at most so many words"
    )


class RefinedwebLines(Stage):
    """The line-wise corrections of RefinedWeb: shouting, bare numbers, social counters, single words, menu phrases.

    Definition: DCLM's rebuilding of RefinedWeb (baselines_configs/dclm_baseline_refinedweb.yaml, mappers/modifiers.py),
    in its order; lines end at \\n. Removed are lines in which more than `uppercase` of the characters are capitals
    (str.isupper), or more than `numeric` are digits (str.isdigit; the default means all); social counters (`12 likes`,
    `5.1K followers`); lines of fewer than `min_words` words (white space). Then "items in cart" is cut anywhere, "Read
    more" with the three characters after it at the end (DCLM's pattern is `Read more...`, dots unescaped), "Sign-in" at
    the start, each with one white-space character beside it. Empty lines stay, the text is stripped after every rule
    but that on words. DCLM then drops documents that lost more than 5 % of their words: a rule on
    `rw_words_removed_frac`.
    """

    Config = RefinedwebLinesConfig

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column("rw_lines_uppercase", pa.int32(), "lines removed for their share of capitals"),
            Column("rw_lines_numeric", pa.int32(), "lines removed for their share of digits"),
            Column("rw_lines_counter", pa.int32(), "social counter lines removed"),
            Column("rw_lines_one_word", pa.int32(), "lines removed for fewer than min_words words"),
            Column("rw_lines_edited", pa.int32(), "lines that lost a phrase and stay"),
            Column("rw_lines_removed", pa.int32(), "lines removed, those that were only a phrase among them"),
            Column(
                "rw_words_removed_frac",
                pa.float64(),  # compared with 0.05, and 1 word of 20 must not exceed it by rounding
                "share of words removed; fastText tokens that begin with a letter or digit; null where there was none",
            ),
        )

    def fingerprint(self) -> str:
        return f"unicode {unicodedata.unidata_version}"

    def warm(self) -> None:
        self.edit(pa.table({"text": pa.array(["One two."], pa.large_string())}))

    def edit(self, batch: pa.Table) -> pa.Table:
        from ..kernels import refinedweb_lines as kernel
        from ..kernels.str_classes import str_classes

        config = self.config
        rules = sum(
            bit
            for bit, on in (
                (kernel.UPPERCASE, config.uppercase),
                (kernel.NUMERIC, config.numeric),
                (kernel.COUNTER, config.counters),
                (kernel.ONE_WORD, config.min_words),
                (kernel.CART, config.items_in_cart),
                (kernel.READ_MORE, config.read_more),
                (kernel.SIGN_IN, config.sign_in),
            )
            if on
        )
        data, offsets, counts = kernel.refinedweb_lines(
            *text_buffers(batch["text"]),
            str_classes(),
            rules,
            float(config.uppercase or 0),
            float(config.numeric or 0),
            int(config.min_words or 0),
            config.phrase_max_words,
        )
        words = counts[kernel.WORDS_BEFORE]
        lost = (words - counts[kernel.WORDS_AFTER]) / np.maximum(words, 1)
        columns = [*counts[: kernel.WORDS_BEFORE], pa.array(lost, mask=words == 0)]
        return pa.table({"text": text_array(data, offsets), **dict(zip((c.name for c in self.adds), columns))})
