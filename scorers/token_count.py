"""Tokens of a text, as a file of the `tokenizers` library counts them.

Invariant: a count is `len(tokenizer.encode(text, add_special_tokens=False).ids)`, whatever else is in the call: what the
file says of truncation, padding and dropout is switched off. Memory grows with neither the texts nor one long text.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .base import ModelError

FILE = "tokenizer.json"
LARGEST = 256 << 20  # bytes of a tokenizer file; the largest in use have 40 MB
WINDOW = 1 << 20  # bytes of text at a time: the library holds 60 to 120 bytes for each until a call returns
LONG = 2 << 20  # characters of a text that is counted in parts
PART = 1 << 20  # characters of a part, and a little more
CONTEXT = 1999  # characters on each side of a cut that must show that it changes nothing; odd, against fixed lengths
TRIES = 64  # places at which a cut is tried, per part


def tokenizer_file(path: str | Path) -> Path:
    """The file itself, or the one in a folder. ModelError where it is missing or plainly no tokenizer: its JSON is read,
    the library is not imported."""
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        if not path.is_dir():
            raise ModelError(f"{path}: no such file; name a {FILE} or a folder with one")
        has = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"{path}: has no {FILE}, but {has}: save it once with transformers, "
            "`AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`"
        )
    state = file.stat()
    _check(str(file), state.st_size, state.st_mtime_ns)
    return file


@functools.lru_cache(maxsize=16)
def _check(file: str, size: int, changed: int) -> None:
    if size > LARGEST:
        raise ModelError(f"{file}: {size:,} bytes; a tokenizer file has at most {LARGEST:,}")
    try:
        found = json.loads(Path(file).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: no {FILE}, which is JSON ({str(error) or type(error).__name__})") from error
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ModelError(f'{file}: JSON, but no tokenizer: it has no "model"; name a file of the `tokenizers` library')


def deterministic(tokenizer: Any) -> None:
    """Changes a `tokenizers.Tokenizer`: no truncation, no padding, no dropout."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for random in ("dropout", "alpha", "nbest_size"):  # BPE dropout and unigram sampling: a new draw at every call
        if getattr(tokenizer.model, random, None) is not None:
            setattr(tokenizer.model, random, None)


class TokenCount:
    """A loaded tokenizer. A special token that stands in a text (`<|endoftext|>`) is the one token that the tokenizer
    makes of it; those that a template would put around the text are not counted."""

    def __init__(self, tokenizer: Any) -> None:
        """tokenizer: a `tokenizers.Tokenizer`, which is changed (`deterministic`)."""
        deterministic(tokenizer)
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, path: str | Path) -> TokenCount:
        """path: tokenizer.json or a folder with it; loaded once a process. ModelError where it cannot be used;
        ImportError without the library. From here on the library uses one thread a process (TOKENIZERS_PARALLELISM)."""
        file = tokenizer_file(path)
        state = file.stat()
        return _loaded(str(file), state.st_size, state.st_mtime_ns)

    def score(self, texts: pa.Array) -> pa.Table:
        """texts: large_string without nulls. One column `n_tokens`, int64."""
        return pa.table({"n_tokens": pa.array(self.count(texts))})

    def count(self, texts: pa.Array) -> np.ndarray:
        """int64 per text."""
        counts = [np.zeros(0, np.int64)]
        for strings in _windows(texts):
            if len(strings) == 1 and len(strings[0]) > LONG:
                total = sum(self._added(*part) for part in self._parts(strings[0]))
                counts.append(np.array([total], np.int64))
            else:
                counts.append(np.array(self._encode(strings), np.int64))
        return np.concatenate(counts)

    def _encode(self, strings: Sequence[str]) -> list[int]:
        return [len(found) for found in self._tokenizer.encode_batch_fast(strings, add_special_tokens=False)]

    def _added(self, context: str, part: str) -> int:
        """The tokens of a part behind what stands before it."""
        both, before = self._encode([context + part, context])
        return both - before

    def _parts(self, text: str) -> Iterator[tuple[str, str]]:
        """A long text in parts, each with some context before it. A cut stands before white space where encoding what
        lies around shows that it changes no token. Where no such place is found near, a part is longer; at worst it is
        the text."""
        start = 0
        while len(text) - start > LONG:
            cut = self._cut(text, start + PART)
            if cut is None:
                break
            yield text[max(start - CONTEXT, 0) : start], text[start:cut]
            start = cut
        yield text[max(start - CONTEXT, 0) : start], text[start:]

    def _cut(self, text: str, at: int) -> int | None:
        """A place from `at` on where tokens begin, where those before do not depend on what follows, and those behind
        not on how much stands before."""
        for _ in range(TRIES):
            while at < len(text) and not (text[at].isspace() and not text[at - 1].isspace()):
                at += 1
            if at + CONTEXT >= len(text):
                return None
            left, right = text[at - CONTEXT : at], text[at : at + CONTEXT]
            few = left[len(left) // 2 :]
            found = self._tokenizer.encode_batch([left + right, left, few + right, few], add_special_tokens=False)
            all_of_it, before, less_of_it, less_before = (one.ids for one in found)
            same = all_of_it[: len(before)] == before and less_of_it[: len(less_before)] == less_before
            if same and all_of_it[len(before) :] == less_of_it[len(less_before) :]:
                return at
            at += 1
        return None


@functools.lru_cache(maxsize=4)
def _loaded(file: str, size: int, changed: int) -> TokenCount:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker has one CPU; others are busy with other units
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(file)
        found = TokenCount(tokenizer)
        found.count(pa.array(["A text, 1 line.\n"], pa.large_string()))
    except BaseException as error:  # the library panics on some files, and a panic is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{file}: the tokenizers library cannot use it: {error}") from error
    return found


def _windows(texts: pa.Array) -> Iterator[list[str]]:
    """The texts in order, in lists of about WINDOW bytes; one that is longer comes alone."""
    sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + WINDOW, side="right")), start + 1)
        yield texts.slice(start, stop - start).to_pylist()
        start = stop
