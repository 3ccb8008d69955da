"""Perplexity under an n-gram model of KenLM over SentencePiece pieces: CCNet's measure of how like its model a text is.

Invariant: the number is that of KenLM's own `score(pieces, bos=True, eos=True)`, never of an approximation, and depends on
the text alone. Only a line of more than LONG characters is added up in blocks, because KenLM sums in 32 bits: in a text of
megabytes its own sum is off by per cents.

Perplexity = 10 ^ (-sum of log10 p / number of predictions), where a line has one prediction per piece and one for its
end, summed over the lines. CCNet rounds it to 0.1; this does not. Its pipeline normalises a whole text, which takes the
line feeds away (see `ccnet_normalize`): a text is one line there, and here by default.

A model file is trusted input: KenLM maps a binary file and follows what it says without looking, so a forged one can do
more than give wrong numbers. Binary files are mapped lazily, and processes share their memory; an ARPA file is parsed by
every process and held by each (`build_binary` of KenLM makes the one of the other).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .base import ModelError
from .ccnet_normalize import ccnet_normalize

MAGIC = b"mmap lm http://kheafield.com/code format version "
VERSION = b"5\n\0"  # of KenLM's binary files
UNFINISHED = b"mmap lm http://kheafield.com/code incomplete"
LONG = 1 << 14  # characters of a line that KenLM sums in one go
BLOCK = 1 << 12  # pieces of a longer one that it sums in one go
PART = 1 << 20  # characters that SentencePiece splits at once: its result has 60 bytes and more for each piece
ROWS = 256  # texts that are Python strings at a time


def check_model(path: str | Path) -> None:
    """Looks at the first bytes of a KenLM file; the library is not imported. ModelError."""
    head = _head(path)
    if head.startswith(MAGIC):
        if not head.startswith(MAGIC + VERSION):
            found = head[len(MAGIC) :].split(b"\n")[0].decode("ascii", "replace")
            raise ModelError(
                f"{path}: a KenLM binary of version {found}, version 5 is read: build it again from its ARPA"
            )
    elif head.startswith(UNFINISHED):
        raise ModelError(f"{path}: a KenLM binary whose building broke off: build it again")
    elif head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        raise ModelError(f"{path}: compressed; unpack it first")
    elif not head.lstrip().startswith(b"\\data\\"):
        raise ModelError(
            f"{path}: no KenLM model: neither an ARPA file, which begins with \\data\\, nor a binary of KenLM"
        )


def check_tokenizer(path: str | Path) -> None:
    """Looks at the first bytes of a SentencePiece file; the library is not imported. ModelError."""
    head = _head(path)
    if not head.startswith(b"\n"):  # the first field of its message, the pieces
        hint = ", which this JSON file is not" if head.lstrip().startswith(b"{") else ""
        raise ModelError(f"{path}: no SentencePiece model (most often a file NAME.model){hint}")


def _head(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(256)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


class KenLM:
    """A model and its tokenizer, loaded. `normalize`: by `ccnet_normalize` first; `per_line`: each line is scored by itself,
    from its own start to its own end, instead of the whole text as one line."""

    def __init__(self, model: Any, tokenizer: Any, *, normalize: bool = True, per_line: bool = False) -> None:
        """model: a `kenlm.Model`; tokenizer: a `sentencepiece.SentencePieceProcessor`."""
        self._model, self._encode = model, tokenizer.encode_as_pieces
        self._normalize, self._per_line = normalize, per_line
        self._reach = model.order - 1  # words before a word that its probability may depend on

    @classmethod
    def load(cls, model: str | Path, tokenizer: str | Path, *, normalize: bool = True, per_line: bool = False) -> KenLM:
        """model: a binary file of KenLM or an ARPA file; tokenizer: a SentencePiece file. Each is loaded once a process.
        ModelError where one cannot be used; ImportError without the libraries (extra `kenlm`)."""
        check_model(model)
        check_tokenizer(tokenizer)
        return cls(_model(*_version(model)), _tokenizer(*_version(tokenizer)), normalize=normalize, per_line=per_line)

    def score(self, texts: pa.Array) -> pa.Table:
        """texts: large_string without nulls. `kenlm_ppl` (float32, null for a text without a piece, at most the largest
        float32), `log10` (float64, sum of log10 p), `predictions` (int64, pieces and ends of lines)."""
        found = np.array([self._text(text) for text in _strings(texts)], np.float64).reshape(-1, 2)
        total, count = found[:, 0], found[:, 1]
        with np.errstate(over="ignore"):
            perplexity = np.minimum(10.0 ** (-total / np.maximum(count, 1)), np.finfo(np.float32).max)
        return pa.table(
            {
                "kenlm_ppl": pa.array(perplexity.astype(np.float32), mask=count == 0),
                "log10": pa.array(total),
                "predictions": pa.array(count.astype(np.int64)),
            }
        )

    def _text(self, text: str) -> tuple[float, int]:
        """Sum of log10 p and number of predictions of a text; a line without a piece has none."""
        total, count = 0.0, 0
        for line in text.split("\n") if self._per_line else (text,):
            log10, predictions = self._line(ccnet_normalize(line) if self._normalize else line)
            total, count = total + log10, count + predictions
        return total, count

    def _line(self, line: str) -> tuple[float, int]:
        if len(line) > LONG:
            return self._long_line(line)
        pieces = self._pieces(line)
        count = len(pieces.split())  # as KenLM counts: at ASCII white space
        return (self._model.score(pieces), count + 1) if count else (0.0, 0)

    def _pieces(self, line: str) -> bytes:
        """The pieces with spaces between. SentencePiece splits whole lines, half of all the time: remembering the pieces of
        words would be faster, but gives others where two ways of splitting are equal in its 32 bits (2.7 % of web pages)."""
        return " ".join(self._encode(line)).encode().replace(b"\0", b"")  # at a NUL KenLM takes a text to end

    def _long_line(self, line: str) -> tuple[float, int]:
        """The same sum by blocks: what stands before a block is scored with it, and taken off again."""
        total, count, before = 0.0, 0, [b"<s>"]
        for part in _parts(line):
            words = self._pieces(part).split()
            for start in range(0, len(words), BLOCK):
                block = words[start : start + BLOCK]
                total += self._behind(before, block)
                count += len(block)
                before = (before + block)[-self._reach :]
        if not count:
            return 0.0, 0
        return total + self._behind(before, [], end=True), count + 1

    def _behind(self, before: list[bytes], words: list[bytes], *, end: bool = False) -> float:
        """log10 p of words (and the end of the line) behind others."""
        score = self._model.score
        if before == [b"<s>"]:
            return score(b" ".join(words), True, end)
        return score(b" ".join(before + words), False, end) - score(b" ".join(before), False, False)


def _strings(texts: pa.Array) -> Iterator[str]:
    for start in range(0, len(texts), ROWS):
        yield from texts.slice(start, ROWS).to_pylist()


def _parts(line: str) -> Iterator[str]:
    """A line in parts of at most PART characters, which end before a space if there is one."""
    start = 0
    while len(line) - start > PART:
        space = line.rfind(" ", start + 1, start + PART)
        end = space if space > 0 else start + PART
        yield line[start:end]
        start = end
    yield line[start:]


def _version(path: str | Path) -> tuple[str, int, int]:
    state = Path(path).stat()
    return str(path), state.st_size, state.st_mtime_ns


@functools.cache
def _model(path: str, size: int, changed: int) -> Any:
    import kenlm

    config = kenlm.Config()
    config.load_method = kenlm.LoadMethod.LAZY  # mapped: read where it is used, shared between processes
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(path, config)
    except (OSError, RuntimeError, MemoryError) as error:
        # Cannot read model 'a' (lm/file.cc:65 in void f(...) threw FormatLoadException because `x < y'. The message.)
        what = re.sub(r"^Cannot read model '.*?' \((.*)\)$", r"\1", str(error), flags=re.DOTALL)
        what = re.sub(r"^\S+:\d+ in .*? threw \w+(?: because `.*?')?\. ", "", what, flags=re.DOTALL)
        raise ModelError(f"{path}: KenLM cannot use it: {what.strip() or type(error).__name__}") from error


@functools.cache
def _tokenizer(path: str, size: int, changed: int) -> Any:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_file=path)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path}: no SentencePiece model that can be used ({error})") from error
