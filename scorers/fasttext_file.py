"""fastText's model files: what stands where in a `.bin` or `.ftz`, and a `.bin` written.

Invariant: no size that a file states is believed before it is held against the bytes that the file has, so that a
wrong or hostile file is a ModelError and never costs more memory than a small multiple of its own size.

Layout (fastText 0.9.2, little endian, nothing aligned): magic, version; 12 arguments and `t`; the dictionary (counts,
then per entry a zero-terminated string, its count and kind; then the buckets that pruning left); the input matrix; the
output matrix. A matrix is dense, or product-quantised with the norms apart (Joulin et al. 2016, FastText.zip).
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .base import ModelError

MAGIC, VERSIONS = 793712314, (11, 12)
LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}
LABEL_PREFIX = b"__label__"  # a file does not say its prefix; fastText falls back to this one
WORD, LABEL = 0, 1  # kinds of dictionary entries
CENTROIDS = 256  # of each part of a product quantiser: its codes are bytes

CHUNK = 1 << 20  # bytes read at a time; larger ones stay behind in the process's heap
LONGEST_ENTRY = 16 << 20  # bytes; no dictionary has longer words
MOST_NGRAMS = 100  # words or characters; real models stay below 10, and the time per text grows with it
MOST_PRUNED = 1 << 27  # buckets of a pruned model, of which the file holds few
MOST_COLUMNS = 16  # that one byte of a quantised matrix stands for; usual are 2
ARGUMENTS = struct.Struct("<12id")
COUNTS = struct.Struct("<3i2q")
ENTRY = struct.Struct("<qb")  # behind the string: count, kind
AGAIN = "the file is cut short or damaged: copy it again"


@dataclass(frozen=True)
class Header:
    """What a model is, without its weights. `labels`: in the order of the outputs, without `__label__`."""

    version: int
    dim: int
    ws: int
    epoch: int
    min_count: int
    neg: int
    word_ngrams: int
    loss: str  # softmax | hs | ova | ns
    model: str  # supervised
    bucket: int
    minn: int
    maxn: int  # 0: no character n-grams
    lr_update_rate: int
    t: float
    tokens: int  # of the training text
    words: int
    labels: tuple[str, ...]
    label_counts: tuple[int, ...]
    quantized: bool
    pruned: int  # buckets left by pruning; -1: not pruned

    @property
    def hashes(self) -> bool:
        """Whether a text has rows of buckets at all: word or character n-grams."""
        return self.word_ngrams > 1 or self.maxn > 0


@dataclass(frozen=True)
class Quantizer:
    """Parts of `part` columns (the last of `last`), each one of 256 centroids; `at`: where those floats stand."""

    columns: int
    parts: int
    part: int
    last: int
    at: int

    def read(self, file: BinaryIO) -> list[np.ndarray]:
        """One float32[256, columns of the part] for each part."""
        file.seek(self.at)
        floats = np.frombuffer(file.read(self.columns * CENTROIDS * 4), "<f4")
        step = self.part * CENTROIDS
        sizes = [self.part] * (self.parts - 1) + [self.last]
        return [floats[i * step :][: CENTROIDS * size].reshape(CENTROIDS, size) for i, size in enumerate(sizes)]


@dataclass(frozen=True)
class Matrix:
    """A matrix of the file. `at`: where its floats (dense) or codes (quantised) stand; `norms_at`: where the codes of
    the norms do, if they have a quantiser of their own."""

    name: str
    rows: int
    columns: int
    at: int
    quantizer: Quantizer | None = None
    norms: Quantizer | None = None
    norms_at: int = 0

    def blocks(self, path: Path, *, size: int = CHUNK) -> Iterator[np.ndarray]:
        """float32[n, columns], in order, about `size` bytes each; ModelError where a weight is not finite."""
        step, done = max(1, size // (4 * self.columns)), 0
        with path.open("rb") as file:
            parts = self.quantizer.read(file) if self.quantizer else []
            norms = self.norms.read(file)[0][:, 0] if self.norms else None
            while done < self.rows:
                rows = min(step, self.rows - done)
                block = self._coded(file, done, rows, parts, norms) if parts else self._dense(file, done, rows)
                if not np.isfinite(block).all():
                    bad = done + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
                    raise ModelError(f"{path}: row {bad} of the {self.name} matrix is not finite: train again, slower")
                yield block
                done += rows

    def _dense(self, file: BinaryIO, first: int, rows: int) -> np.ndarray:
        return _array(file, self.at + 4 * self.columns * first, rows * self.columns, "<f4").reshape(rows, self.columns)

    def _coded(
        self, file: BinaryIO, first: int, rows: int, parts: list[np.ndarray], norms: np.ndarray | None
    ) -> np.ndarray:
        codes = _array(file, self.at + first * len(parts), rows * len(parts), "u1").reshape(rows, len(parts))
        block = np.concatenate([part[codes[:, at]] for at, part in enumerate(parts)], axis=1)
        if norms is not None:
            block *= norms[_array(file, self.norms_at + first, rows, "u1")][:, None]
        return block


@dataclass(frozen=True)
class ModelFile:
    """A whole model file, checked. `text`: the dictionary's bytes; entry i is text[begin[i]:end[i]], words before
    labels. `left`: int32[m, 2], the buckets that pruning left and their rows behind the words."""

    path: Path
    header: Header
    text: bytes
    begin: np.ndarray
    end: np.ndarray
    left: np.ndarray
    input: Matrix
    output: Matrix


def read_header(path: str | Path) -> Header:
    """The header of a supervised fastText model; all sizes in the file have been checked, its weights not read.
    ModelError where it is none."""
    return read_model(path).header


def read_model(path: str | Path) -> ModelFile:
    """Everything but the weights, which `ModelFile.input.blocks` and `.output.blocks` stream. ModelError as said above."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _Reader(path, file).model()
    except IsADirectoryError:
        raise ModelError(f"{path}: a folder, not a fastText model: name its .bin or .ftz file") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


class _Reader:
    """Reads forward, and knows how many bytes are left."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0

    def wrong(self, what: str, do: str = AGAIN) -> ModelError:
        return ModelError(f"{self.path}: {what} (at byte {self.at:,} of {self.size:,}): {do}")

    def need(self, size: int, what: str) -> None:
        if size > self.size - self.at:
            raise self.wrong(f"{what} would take {size:,} bytes, {self.size - self.at:,} are left")

    def skip(self, size: int, what: str) -> int:
        """Where a part begins that is read later."""
        self.need(size, what)
        self.at += size
        return self.at - size

    def take(self, size: int, what: str) -> bytes:
        self.need(size, what)
        self.file.seek(self.at)
        found = self.file.read(size)
        if len(found) < size:  # somebody cuts the file meanwhile
            raise self.wrong(f"{what}: {len(found):,} bytes of {size:,}")
        self.at += size
        return found

    def numbers(self, layout: struct.Struct | str, what: str) -> tuple:
        layout = layout if isinstance(layout, struct.Struct) else struct.Struct(layout)
        return layout.unpack(self.take(layout.size, what))

    def flag(self, what: str) -> bool:
        (value,) = self.numbers("<B", what)
        if value > 1:
            raise self.wrong(f"{what} is {value}, neither 0 nor 1")
        return bool(value)

    # --- parts, in the order of the file

    def model(self) -> ModelFile:
        version = self.version()
        dim, ws, epoch, min_count, neg, word_ngrams, loss, model, bucket, minn, maxn, rate, t = self.numbers(
            ARGUMENTS, "the arguments"
        )
        train = "train one with -supervised, or `tamis train fasttext`"
        if MODELS.get(model) in ("cbow", "skipgram"):
            raise self.wrong(f"word vectors ({MODELS[model]}), not a classifier", train)
        if model not in MODELS or loss not in LOSSES:
            raise self.wrong(f"model kind {model} and loss {loss} are unknown")
        maxn = maxn if version > 11 else 0  # before version 12, classifiers had no character n-grams
        if not 0 < dim < 1 << 24:
            raise self.wrong(f"dimension {dim}")
        for name, value, least, most in (
            ("wordNgrams", word_ngrams, 0, MOST_NGRAMS),
            ("minn", minn, 0, 1 << 30),
            ("maxn", maxn, 0, MOST_NGRAMS),
            ("bucket", bucket, int(word_ngrams > 1 or maxn > 0), 1 << 31),
        ):
            if not least <= value <= most:
                raise self.wrong(f"{name} is {value}; it can be {least} to {most}")
        size, words, labels, tokens, pruned = self.numbers(COUNTS, "the dictionary's counts")
        if size != words + labels or words < 0 or labels < 1:
            raise self.wrong(f"a dictionary of {size} entries, {words} words and {labels} labels")
        if not -1 <= pruned <= bucket:
            raise self.wrong(f"{pruned} buckets are left of {bucket}")
        if pruned >= 0 and bucket > MOST_PRUNED:
            raise self.wrong(f"a pruned model of {bucket:,} buckets; this reads up to {MOST_PRUNED:,}")
        text, begin, end, counts = self.entries(size, words)
        left = np.frombuffer(self.take(8 * max(0, pruned), "the buckets left"), "<i4").reshape(-1, 2)
        names = self.labels(text, begin[words:], end[words:])
        if LOSSES[loss] == "hs" and sum(counts[words:]) >= 10**15:
            raise self.wrong("label counts of 10^15: no tree can be built of them")
        quantized = self.flag("whether the input matrix is quantised")
        if pruned >= 0 and not quantized:
            raise self.wrong("a pruned model that is not quantised", "get a newer version of this model")
        used = words + (bucket if (word_ngrams > 1 or maxn > 0) and pruned < 0 else 0)
        inputs = self.matrix("input", quantized, dim, used)
        if len(left) and not (left.min() >= 0 and left[:, 0].max() < bucket and left[:, 1].max() < inputs.rows - words):
            raise self.wrong("a bucket left by pruning has no row")
        outputs = self.matrix("output", self.flag("whether the output matrix is quantised") and quantized, dim, labels)
        if outputs.rows != labels:
            raise self.wrong(f"{outputs.rows} outputs for {labels} labels")
        if self.at != self.size:
            raise self.wrong(f"{self.size - self.at:,} bytes behind the end of the model")
        header = Header(
            version, dim, ws, epoch, min_count, neg, word_ngrams, LOSSES[loss], MODELS[model], bucket, minn, maxn, rate,
            t, tokens, words, names, tuple(counts[words:]), quantized, pruned,
        )  # fmt: skip
        return ModelFile(self.path, header, text, begin, end, left, inputs, outputs)

    def version(self) -> int:
        start = self.file.read(64)
        magic, version = struct.unpack("<2i", start[:8].ljust(8, b"\0"))
        if len(start) >= 8 and magic == MAGIC:
            self.at = 8
            if version in VERSIONS:
                return version
            raise self.wrong(
                f"version {version} of fastText's format; this reads {VERSIONS[0]} and {VERSIONS[1]}", "convert it"
            )
        self.at = 0
        if start.startswith(b"\x1f\x8b"):
            raise self.wrong("a gzip file", "unpack it")
        if not start:
            raise self.wrong("an empty file", "copy the model again")
        if start.isascii() and start[:64].replace(b"\n", b" ").decode().isprintable():
            raise self.wrong(
                "a text file (word vectors?), not a fastText model", "name the .bin or .ftz of a classifier"
            )
        raise self.wrong("not a fastText model", "name a .bin or .ftz that fastText wrote")

    def entries(self, size: int, words: int) -> tuple[bytes, np.ndarray, np.ndarray, array]:
        """The dictionary's bytes, begin and end of each string in them (int64), and the entries' counts."""
        self.need(size * (1 + ENTRY.size), f"a dictionary of {size:,} entries")
        first, ends, counts = self.at, array("q"), array("q")
        buffer = b""
        while len(ends) < size:
            more = self.take(min(CHUNK, self.size - self.at), "the dictionary")
            buffer, at = buffer + more, 0
            base = self.at - first - len(buffer)
            while len(ends) < size:
                end = buffer.find(0, at)
                if end < 0 or end + 1 + ENTRY.size > len(buffer):
                    break
                count, kind = ENTRY.unpack_from(buffer, end + 1)
                if kind != (WORD if len(ends) < words else LABEL) or count < 0:
                    raise self.wrong(f"entry {len(ends)} of the dictionary has kind {kind} and count {count}")
                ends.append(base + end)
                counts.append(count)
                at = end + 1 + ENTRY.size
            buffer = buffer[at:]
            if len(ends) < size and (not more or len(buffer) > LONGEST_ENTRY):
                raise self.wrong(f"entry {len(ends)} of the dictionary does not end")
        self.at -= len(buffer)
        end = np.frombuffer(ends, np.int64)
        begin = np.zeros(size, np.int64)
        begin[1:] = end[:-1] + 1 + ENTRY.size
        length, self.at = self.at - first, first
        return self.take(length, "the dictionary"), begin, end, counts

    def labels(self, text: bytes, begin: np.ndarray, end: np.ndarray) -> tuple[str, ...]:
        found = [text[a:b].removeprefix(LABEL_PREFIX) for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
        if len(set(found)) < len(found):
            raise self.wrong("two labels have one name")
        try:
            return tuple(label.decode() for label in found)
        except UnicodeDecodeError as error:
            raise self.wrong(f"the label {error.object!r} is not UTF-8", "train with labels in UTF-8") from None

    def matrix(self, name: str, quantized: bool, dim: int, least: int) -> Matrix:
        norms = self.flag(f"whether the norms of the {name} matrix are apart") if quantized else False
        rows, columns = self.numbers("<2q", f"the shape of the {name} matrix")
        if rows < max(least, 1) or columns != dim:
            raise self.wrong(f"the {name} matrix is {rows} by {columns}; it should be {least} by {dim}")
        if not quantized:
            return Matrix(name, rows, columns, self.skip(4 * rows * columns, f"the {name} matrix"))
        (size,) = self.numbers("<i", f"the size of the {name} matrix")
        at = self.skip(max(size, 0), f"the codes of the {name} matrix")
        quantizer = self.quantizer(name, dim)
        if size != rows * quantizer.parts:
            raise self.wrong(f"the {name} matrix has {size} codes for {rows} rows of {quantizer.parts}")
        if not norms:
            return Matrix(name, rows, columns, at, quantizer)
        norms_at = self.skip(rows, f"the norms of the {name} matrix")
        return Matrix(name, rows, columns, at, quantizer, self.quantizer(name, 1), norms_at)

    def quantizer(self, name: str, columns: int) -> Quantizer:
        dim, parts, part, last = self.numbers("<4i", f"the quantiser of the {name} matrix")
        if (
            dim != columns
            or not 0 < part <= min(dim, MOST_COLUMNS)
            or parts != -(-dim // part)
            or last != dim - (parts - 1) * part
        ):
            raise self.wrong(f"the quantiser of the {name} matrix cuts {dim} columns into {parts} of {part} and {last}")
        return Quantizer(dim, parts, part, last, self.skip(4 * dim * CENTROIDS, f"the centroids of the {name} matrix"))


def _array(file: BinaryIO, at: int, count: int, dtype: str) -> np.ndarray:
    """Read, not mapped: what is mapped stays resident in the process. ModelError where somebody has cut the file."""
    file.seek(at)
    found = np.fromfile(file, dtype, count)
    if len(found) < count:
        raise ModelError(f"{file.name}: became shorter while it was read: {AGAIN}")
    return found


def write_model(
    path: str | Path,
    words: Sequence[bytes],
    word_counts: np.ndarray,
    labels: Sequence[bytes],
    label_counts: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
    *,
    loss: str = "softmax",
    word_ngrams: int = 1,
    bucket: int = 0,
    minn: int = 0,
    maxn: int = 0,
    epoch: int = 5,
    min_count: int = 1,
    lr_update_rate: int = 100,
    tokens: int = 0,
    ws: int = 5,
    neg: int = 5,
    t: float = 1e-4,
) -> None:
    """Writes a dense supervised model as fastText 0.9.2 does, under a temporary name and then renamed.

    words, labels: UTF-8, in the order of rows and outputs, labels with `__label__`; counts: how often the training text
    has each. inputs: float32[words + bucket, dim]; outputs: float32[labels, dim]. tokens: those of the training text.
    """
    dim = inputs.shape[1]
    if inputs.shape != (len(words) + bucket, dim) or outputs.shape != (len(labels), dim):
        raise ValueError(
            f"{inputs.shape} and {outputs.shape} for {len(words)} words, {bucket} buckets, {len(labels)} labels"
        )
    kinds = {name: number for number, name in LOSSES.items()}
    arguments = (dim, ws, epoch, min_count, neg, word_ngrams, kinds[loss], 3, bucket, minn, maxn, lr_update_rate, t)
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(struct.pack("<2i", MAGIC, VERSIONS[-1]) + ARGUMENTS.pack(*arguments))
        file.write(COUNTS.pack(len(words) + len(labels), len(words), len(labels), tokens, -1))
        for entries, counts, kind in ((words, word_counts, WORD), (labels, label_counts, LABEL)):
            for entry, count in zip(entries, np.asarray(counts).tolist(), strict=True):
                file.write(entry + b"\0" + ENTRY.pack(count, kind))
        for matrix in (inputs, outputs):
            file.write(b"\0" + struct.pack("<2q", *matrix.shape))
            step = max(1, CHUNK // (4 * dim))
            for first in range(0, len(matrix), step):
                file.write(np.ascontiguousarray(matrix[first : first + step], "<f4").data)
    os.replace(part, path)
