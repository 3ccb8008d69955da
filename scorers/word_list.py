"""Terms of a word list in a text: how many, how many different ones, and how much of the text they are.

Invariant: a term is found as C4 finds it: whole words, in any case. The list is data: what it holds, and what its words
mean in a dialect, a quotation or a textbook, is its reader's to judge; these are numbers, not verdicts.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from .base import ModelError

LARGEST = 64 << 20  # bytes of a list
LONGEST = 200  # characters of a term: the work at one place of a text is bounded by it
MOST = 1_000_000  # terms


def read_terms(path: str | Path) -> list[str]:
    """The lines of a list: UTF-8, a term a line, phrases allowed, blank lines skipped. ModelError with the line where
    it is none. LDNOOBW's files are such lists."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ModelError(f"{path}: {size:,} bytes; a word list has at most {LARGEST:,}")
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror or error}; name a word list, a UTF-8 file with a term a line"
        ) from error
    terms = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            term = line.decode().strip()
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: line {number} is not UTF-8: save the list as UTF-8, a term a line") from error
        if len(term) > LONGEST:
            raise ModelError(
                f"{path}: line {number} has {len(term):,} characters, a term at most {LONGEST}: a term a line"
            )
        if "\0" in term:
            raise ModelError(f"{path}: line {number} holds a NUL: no list of words")
        terms.append(term)
        if len(terms) > MOST:
            raise ModelError(f"{path}: more than {MOST:,} lines: a word list has at most that many")
    if not any(terms):
        raise ModelError(f"{path}: holds no term: a word list has a term a line")
    return [term for term in terms if term]


class WordList:
    """Word lists, joined to one.

    The rule is C4's: `(?:\\W|^)(term)(?:\\W|$)` on the text in lower case (tensorflow_datasets, c4_utils.py), where for
    Chinese, Japanese and Thai a term may stand anywhere. Here that goes by the term instead of the page's language: one
    that holds a character of a script written without spaces may stand anywhere, and such characters count as no word
    beside other terms; so the Japanese list's `sm` is not found in `small`, which made C4 take it off. A space in a term
    stands for any run of white space. Terms do not overlap: the longest at each place, from left to right.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        from ..kernels.word_list import build, plain

        self.terms = tuple(dict.fromkeys(term for term in plain(terms) if term))
        if not self.terms:
            raise ModelError("a word list without terms")
        self._built = build(self.terms)

    @classmethod
    def load(cls, *paths: str | Path) -> WordList:
        """The lists at `paths`, as one; a process keeps the last few. ModelError where one cannot be read."""
        try:
            states = tuple((str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths)
        except OSError:
            states = ()  # `read_terms` says which
        return _loaded(tuple(map(str, paths)), states)

    def score(self, texts: pa.Array) -> pa.Table:
        """texts: large_string without nulls. `matches` (int32): terms in the text; `terms` (int32): different ones;
        `share` (float32): characters of the matches over all characters, null for an empty text."""
        import pyarrow.compute as pc

        texts = texts.cast(pa.large_string())
        sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False)
        if not len(texts) or not sizes.any():
            data, starts = np.zeros(1, np.uint8), np.zeros(len(texts), np.int64)
        else:
            _, offsets, values = texts.buffers()
            data = np.frombuffer(values, np.uint8)
            starts = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts)]
        return self.table(self.count(data, starts, starts + sizes))

    def count(self, data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """int64[n, 4] of pieces of text, see kernels/word_list.py: matches, different terms, their characters, all."""
        from ..kernels.word_list import find

        return find(data, starts, ends, self._built)

    @staticmethod
    def table(counts: np.ndarray) -> pa.Table:
        """The columns of `score` from what `count` gives."""
        matches, terms, covered, chars = counts.T
        share = pa.array(covered / np.maximum(chars, 1), pa.float32(), mask=chars == 0)
        return pa.table(
            {"matches": pa.array(matches, pa.int32()), "terms": pa.array(terms, pa.int32()), "share": share}
        )


@functools.lru_cache(maxsize=8)
def _loaded(paths: tuple[str, ...], states: tuple[tuple[str, int, int], ...]) -> WordList:
    return WordList([term for path in paths for term in read_terms(path)])
