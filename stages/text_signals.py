"""Measure: the statistics that heuristic filters decide by, each under the definition of the code base that decides.

Invariant: a column is one integer, or one quotient of two integers; so values equal those of the reference
implementations to the last bit, a value that equals a threshold falls on their side of it, and shares are float64 (a
float32 0.3 is more than 0.3).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import Field

from .arrow import one_array, text_buffers
from .base import Column, Stage, StageConfig


class TextSignalsConfig(StageConfig):
    """What `use: text_signals` takes."""

    short_line: int = Field(default=30, ge=0, description="a line of at most so many characters is short")


@dataclass(frozen=True)
class _Signal:
    """A column as sums of the kernel's integers. `of` and `over`: names `GROUP.FIELD`; a `-` in front subtracts.

    `over` empty: an integer column. `floor`: a denominator below 1 counts as 1 (Dolma), instead of giving null.
    """

    name: str
    of: str
    over: str
    doc: str
    floor: bool = False


_TOP, _DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)

# Plain names: datatrove 0.10. `punct` words: see kernels/punct_words.py. A line break is a line feed unless said otherwise.
_DATATROVE = (
    _Signal("characters", "symbols.characters", "", "code points of the text"),
    _Signal("words", "words.plain", "", "punct words that are not punctuation alone"),
    _Signal("words_all", "words.tokens", "", "punct words, punctuation among them"),
    _Signal("mean_word_length", "words.plain_chars", "words.plain", "characters a word, over `words`"),
    _Signal("hash_ratio", "symbols.hashes", "words.tokens", "number of # over words_all"),
    _Signal("ellipsis_ratio", "symbols.dots symbols.ellipses", "words.tokens", "number of ... and … over words_all"),
    _Signal(
        "bullet_line_frac", "edges.bullets", "edges.rows", "share of lines (str.splitlines) that begin with • or -"
    ),
    _Signal("ellipsis_line_frac", "edges.dots", "edges.rows", "share of lines (str.splitlines) that end in ... or …"),
    _Signal("alpha_word_frac", "words.with_alpha", "words.tokens", "share of words_all that hold a letter"),
    _Signal("stop_words", "words.distinct_stops", "", "how many of the, be, to, of, and, that, have, with occur"),
    _Signal("sentences", "words.sentences", "", "sentences, counted line by line as spaCy's sentencizer does"),
    _Signal(
        "dup_para_frac",
        "paragraphs.repeats",
        "paragraphs.paragraphs",
        "share of paragraphs (cut at 2 and more line feeds) that stood there before",
    ),
    _Signal(
        "dup_para_char_frac",
        "paragraphs.repeat_chars",
        "symbols.characters",
        "characters of paragraphs that stood there before, over all characters",
    ),
    _Signal("dup_line_frac", "lines.repeats", "lines.lines", "share of non-empty lines that stood there before"),
    _Signal(
        "dup_line_char_frac",
        "lines.repeat_chars",
        "symbols.characters",
        "characters of lines that stood there before, over all characters",
    ),
    *(
        _Signal(
            f"top_{n}gram",
            f"repeats.top_{n}",
            "symbols.characters",
            f"most frequent {n}-gram of words_all: its characters with spaces, times its count, over all characters",
        )
        for n in _TOP
    ),
    *(
        _Signal(
            f"dup_{n}gram",
            f"repeats.duplicate_{n}",
            "symbols.characters",
            f"characters in {n}-grams of words_all seen before, each stepped over once counted, over all characters",
        )
        for n in _DUPLICATE
    ),
    _Signal("lines", "lines.full", "", "lines that are not blank"),
    _Signal("line_punct_ratio", "lines.stopped", "lines.full", "share of `lines` whose last character ends a sentence"),
    _Signal("short_line_ratio", "lines.short", "lines.full", "share of `lines` with at most short_line characters"),
    _Signal(
        "char_dup_ratio",
        "lines.full_repeat_chars",
        "symbols.solid",
        "characters of `lines` that stood there before, over all characters but line feeds",
    ),
    _Signal("list_ratio", "symbols.feeds", "words.tokens", "line feeds over words_all"),
    _Signal("curly_brackets", "phrases.curly", "", "number of {"),
    _Signal("lorem_ipsum", "phrases.lorem", "", "how often `lorem ipsum` stands there, in any case"),
    _Signal("javascript", "phrases.javascript", "", "how often `javascript` stands there, in any case"),
)

# Dolma: words by white space, characters of words, every occurrence of what is repeated; 0 where nothing is there.
_DOLMA = (
    _Signal("words_dolma", "space.words", "", "words between white space"),
    _Signal("median_word_length_dolma", "space.twice_median", "2", "median characters of words_dolma"),
    _Signal("symbol_ratio_dolma", "space.with_symbol", "space.words", "share of words_dolma that hold # or …", True),
    _Signal("alpha_word_frac_dolma", "space.with_alpha", "space.words", "share of words_dolma with a letter", True),
    _Signal("stop_words_dolma", "space.stops", "", "occurrences of the, be, to, of, and, that, have, with"),
    _Signal(
        "bullet_line_frac_dolma",
        "lines_dolma.bullets",
        "lines_dolma.lines",
        "share of lines, empty too, that begin with * or -",
    ),
    _Signal("ellipsis_line_frac_dolma", "lines_dolma.dots", "lines_dolma.lines", "share of lines that end in …"),
    _Signal(
        "dup_line_frac_dolma",
        "lines_dolma.repeated",
        "lines_dolma.lines",
        "share of lines, empty too, that occur twice or more",
    ),
    _Signal(
        "dup_line_char_frac_dolma",
        "lines_dolma.repeated_chars",
        "space.chars",
        "characters of lines that occur twice or more, over characters of words_dolma (may pass 1)",
        True,
    ),
    *(
        _Signal(
            f"top_{n}gram_dolma",
            f"repeats_dolma.top_{n}",
            "space.chars",
            f"most frequent {n}-gram of words_dolma: its characters times its count, over those of all words",
            True,
        )
        for n in _TOP
    ),
    *(
        _Signal(
            f"dup_{n}gram_dolma",
            f"repeats_dolma.duplicate_{n}",
            f"repeats_dolma.all_{n}",
            f"characters of all occurrences of {n}-grams that occur twice or more, over those of all {n}-grams",
            True,
        )
        for n in _DUPLICATE
    ),
)

# DCLM: lengths and stop words over words between white space, repetition over UAX #29 words without punctuation.
_DCLM = (
    _Signal("words_dclm", "fasttext.words", "", "words as fastText splits them that begin with a letter or digit"),
    _Signal(
        "words_unicode", "unicode.words", "", "segments between UAX #29 word bounds that begin with a letter or digit"
    ),
    _Signal("mean_word_length_dclm", "space.chars", "space.words", "characters a word between white space"),
    _Signal(
        "symbol_ratio_dclm",
        "symbols.hashes symbols.dots symbols.ellipses spaced_dots.number",
        "space.words",
        "number of #, ..., . . . and … over words between white space",
    ),
    _Signal(
        "bullet_line_frac_dclm",
        "lines_dclm.bullets",
        "lines_dclm.lines",
        "share of non-blank lines that begin with ●, •, * or -",
    ),
    _Signal(
        "ellipsis_line_frac_dclm", "lines_dclm.dots", "lines_dclm.lines", "share of those that end in ..., . . . or …"
    ),
    _Signal(
        "nonalpha_word_frac_dclm",
        "space.words -space.with_alpha",
        "space.words",
        "share of words between white space without a letter",
    ),
    _Signal("stop_words_dclm", "space.stops_any_case", "", "occurrences of Gopher's eight stop words, in any case"),
    _Signal(
        "dup_line_frac_dclm",
        "lines_dclm.repeated",
        "lines_dclm.lines",
        "share of non-blank stripped lines that occur twice or more",
    ),
    _Signal("dup_line_char_frac_dclm", "lines_dclm.repeated_chars", "lines_dclm.chars", "the same by characters"),
    _Signal(
        "dup_para_frac_dclm",
        "paragraphs_dclm.repeated",
        "paragraphs_dclm.lines",
        "share of non-blank stripped paragraphs (cut at 2 line feeds) that occur twice or more",
    ),
    _Signal(
        "dup_para_char_frac_dclm",
        "paragraphs_dclm.repeated_chars",
        "paragraphs_dclm.chars",
        "characters of paragraphs that occur twice or more, over those of all",
    ),
    *(
        _Signal(
            f"top_{n}gram_dclm",
            f"repeats_dclm.top_{n}",
            "unicode.chars",
            f"longest of the most frequent {n}-grams of words_unicode that repeat: characters times count, over all words'",
        )
        for n in _TOP
    ),
    *(
        _Signal(
            f"dup_{n}gram_dclm",
            f"repeats_dclm.duplicate_{n}",
            "unicode.chars",
            f"characters of words_unicode that lie in some repeated {n}-gram, over all words'",
        )
        for n in _DUPLICATE
    ),
)

SIGNALS = (*_DATATROVE, *_DOLMA, *_DCLM)
_NGRAMS = (*(f"top_{n}" for n in _TOP), *(f"duplicate_{n}" for n in _DUPLICATE))

# The kernel's integers, in the order in which each group writes them.
_FIELDS = {
    "symbols": ("characters", "hashes", "feeds", "dots", "ellipses", "solid"),
    "phrases": ("lorem", "javascript", "curly"),
    "spaced_dots": ("number",),
    "edges": ("rows", "bullets", "dots"),
    "lines": ("lines", "repeats", "repeat_chars", "full", "stopped", "short", "full_repeat_chars"),
    "paragraphs": ("paragraphs", "repeats", "repeat_chars"),
    "lines_dolma": ("lines", "repeated", "repeated_chars", "bullets", "dots"),
    "lines_dclm": ("lines", "chars", "repeated", "repeated_chars", "bullets", "dots"),
    "paragraphs_dclm": ("lines", "chars", "repeated", "repeated_chars"),
    "words": ("tokens", "plain", "plain_chars", "with_alpha", "distinct_stops", "sentences"),
    "repeats": _NGRAMS,
    "space": ("words", "chars", "with_alpha", "with_symbol", "stops", "stops_any_case", "twice_median"),
    "repeats_dolma": (*_NGRAMS, *(f"all_{n}" for n in _DUPLICATE)),
    "fasttext": ("words",),
    "unicode": ("words", "chars"),
    "repeats_dclm": _NGRAMS,
}
_PLACE = {f"{group}.{field}": (group, i) for group, fields in _FIELDS.items() for i, field in enumerate(fields)}


def _column(signal: _Signal) -> Column:
    kind = pa.float64() if signal.over else pa.int64() if signal.name == "characters" else pa.int32()
    return Column(signal.name, kind, signal.doc)


class TextSignals(Stage):
    """Statistics of the text that heuristic filters read: words, lines, symbols, stop words, repeated lines and n-grams.

    Plain names follow datatrove 0.10.1 (gopher_quality_filter.py, gopher_repetition_filter.py,
    fineweb_quality_filter.py, c4_filters.py), names in `_dolma` Dolma's taggers (gopher.py v1, c4.py v2), names in
    `_dclm` DCLM's content_filters.py as dclm_baseline_refinedweb.yaml calls it. Words exist under three definitions:
    `words`, `words_all` (punctuation split off, close to spaCy's English tokenizer), `words_dolma` (white space),
    `words_unicode` (UAX #29). The stage measures what the recipe reads, and all of it where nothing says so.

    Known differences: words of datatrove's tokenizer are approximated (kernels/punct_words.py); two repeated n-grams
    whose words are cut differently ("ab c", "a bc") are not one. n-grams and lines are compared by 64-bit hash within a
    document: two differ by hash unless chance of about 2^-64 a pair, or an author who wants it, says otherwise.
    """

    Config = TextSignalsConfig
    config: TextSignalsConfig
    _wanted: frozenset[str] | None = None

    @property
    def _signals(self) -> tuple[_Signal, ...]:
        return tuple(s for s in SIGNALS if self._wanted is None or s.name in self._wanted)

    @property
    def adds(self) -> tuple[Column, ...]:
        return tuple(_column(signal) for signal in self._signals)

    def select(self, wanted: frozenset[str]) -> None:
        self._wanted = frozenset(wanted)

    def fingerprint(self) -> str:
        return f"unicode {unicodedata.unidata_version}"

    def warm(self) -> None:
        from ..kernels.text_signals import text_signals

        text_signals(np.frombuffer(b"a", np.uint8), np.array([0, 1]), 0, 0)

    def measure(self, batch: pa.Table) -> pa.Table:
        from ..kernels import text_signals as kernel

        names = [name.lstrip("-") for s in self._signals for name in (*s.of.split(), *s.over.split()) if name != "2"]
        groups = 0
        for group in {_PLACE[name][0] for name in names}:
            groups |= kernel.GROUPS[group][0]
        data, offsets = text_buffers(batch["text"])
        found = kernel.text_signals(data, offsets, groups, self.config.short_line)

        def total(terms: str) -> np.ndarray:
            if terms == "2":
                return np.full(len(found), 2)
            summed = np.zeros(len(found), np.int64)
            for term in terms.split():
                group, i = _PLACE[term.lstrip("-")]
                values = found[:, kernel.GROUPS[group][1] + i]
                summed += -values if term.startswith("-") else values
            return summed

        absent = one_array(batch["text"]).is_null().to_numpy(zero_copy_only=False)
        columns = {}
        for signal, column in zip(self._signals, self.adds):
            values = total(signal.of)
            if not signal.over:
                columns[signal.name] = pa.array(values, pa.int64(), mask=absent).cast(column.type)
                continue
            below = total(signal.over)
            if signal.floor:
                below = np.maximum(below, 1)
            undefined = absent | (below == 0) | (values < 0)
            columns[signal.name] = pa.array(values / np.where(below == 0, 1, below), pa.float64(), mask=undefined)
        return pa.table(columns) if columns else pa.table({"": pa.nulls(batch.num_rows)}).select([])
