"""`c4_lines`: the line removal of C4.

Invariant: with the same switches a text that datatrove's C4QualityFilter keeps comes out byte for byte as it leaves it.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, StrictInt

from .arrow import text_array, text_buffers
from .base import Column, Stage, StageConfig


class C4LinesConfig(StageConfig):
    """Every test can be switched off: null, false or 0. FineWeb sets `terminal_punct: false`."""

    citations: bool = Field(default=True, description="cut citation marks: [1], [], [edit], [citation needed]")
    terminal_punct: bool = Field(default=True, description="remove lines that do not end in . ? ! or a quotation mark")
    min_words: StrictInt | Literal[False] | None = Field(
        default=3, ge=0, description="remove lines of fewer words (white space)"
    )
    max_word_length: StrictInt | Literal[False] | None = Field(
        default=1000, ge=0, description="remove lines with a longer word, in characters"
    )
    javascript: bool = Field(default=True, description="remove lines that mention javascript")
    policy: bool = Field(default=True, description="remove lines on terms of use, privacy and cookies")


class C4Lines(Stage):
    """The line removal of C4: lines without end punctuation, short ones, notices on cookies, terms and JavaScript.

    Definition: C4QualityFilter of datatrove 0.10.1. Text is split as str.splitlines does, each line stripped, and tested
    in this order: a word of more than `max_word_length` characters; citation marks (`[1]`, `[]`, `[edit]`,
    `[citation needed]`) are cut; does not end in . ? ! " ' or ends in three dots; fewer than `min_words` words (white
    space, before the cut); "javascript"; a phrase on policies (terms of use, privacy policy, cookie policy, uses
    cookies, use of cookies, use cookies). Lines that stay are joined by \\n, the text is stripped: white space around
    lines and blank lines go even where no line fails. Phrases are found as str.lower would find them.

    C4 also drops documents with `{` or "lorem ipsum" in a line that reached those tests. Here they are the counts
    `c4_curly_lines` and `c4_lorem_lines`, for the rules of the preset `c4`, and the line stays. Sentences are for
    `text_signals` to count.
    """

    Config = C4LinesConfig

    @property
    def adds(self) -> tuple[Column, ...]:
        return tuple(
            Column(name, pa.int32(), doc)
            for name, doc in (
                ("c4_lines_long_word", "lines removed for a word over max_word_length characters"),
                ("c4_lines_no_punct", "lines removed for their end, blank ones among them"),
                ("c4_lines_short", "lines removed for fewer than min_words words"),
                ("c4_lines_javascript", "lines removed that mention javascript"),
                (
                    "c4_lines_policy",
                    "lines removed that mention terms of use, a privacy or cookie policy, use of cookies",
                ),
                ("c4_lines_removed", "lines removed, the sum of the five"),
                ("c4_citations", "citation marks cut from lines that stay"),
                ("c4_curly_lines", "lines with { among those that reached the test; C4 drops the document above 0"),
                ("c4_lorem_lines", "lines with lorem ipsum among those that reached the test; C4 drops above 0"),
            )
        )

    def fingerprint(self) -> str:
        return f"unicode {unicodedata.unidata_version}"

    def warm(self) -> None:
        self.edit(pa.table({"text": pa.array(["One two three."], pa.large_string())}))

    def edit(self, batch: pa.Table) -> pa.Table:
        from ..kernels import c4_lines as kernel
        from ..kernels.str_classes import str_classes

        config = self.config
        data, offsets, counts = kernel.c4_lines(
            *text_buffers(batch["text"]),
            str_classes(),
            config.terminal_punct,
            int(config.min_words or 0),
            int(config.max_word_length or 0),
            config.javascript,
            config.policy,
            config.citations,
        )
        removed = [kernel.LONG_WORD, kernel.NO_PUNCT, kernel.SHORT, kernel.JAVASCRIPT, kernel.POLICY]
        columns = [
            *counts[removed],
            counts[removed].sum(axis=0, dtype=np.int32),
            counts[kernel.CITATIONS],
            counts[kernel.CURLY],
            counts[kernel.LOREM],
        ]
        names = [column.name for column in self.adds]
        return pa.table({"text": text_array(data, offsets), **dict(zip(names, columns))})
