"""Trains fastText models: labelled text in Arrow in, a .bin file out that fastText and `scorers/fasttext.py` read.

Invariant: equal texts, labels and parameters give an equal file, byte for byte, and a text cannot add a label: labels are
numbers beside the texts, never words in them.

It is fastText 0.9's supervised training with one thread (Joulin et al. 2016): same vocabulary, same random numbers, same
order of sums. What differs: words of equal count stand in the order of their first occurrence (fastText: as std::sort
leaves them), which changes nothing but the random rows that they begin with; exponentials are rounded from float64; and
where fastText leaves nine tenths of the first matrix as the memory was, they are 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .base import ModelError
from .fasttext_file import LABEL_PREFIX, LONGEST_ENTRY, write_model

if TYPE_CHECKING:
    from ..kernels.fasttext_train_words import Words

LOSSES = ("softmax", "ova", "hs")
LONGEST_WORD = LONGEST_ENTRY // 2  # bytes
MOST_BYTES = 8 << 30  # of the matrices, and of the tables of words
MOST_ROWS = 2**31 - 1  # rows are int32 in the file
PIECE = 4 << 20  # bytes of text between two reports of progress


@dataclass(frozen=True)
class Params:
    """fastText's parameters, with fastText's defaults for supervised models. ModelError for one out of range."""

    dim: int = 100  # length of a row
    epoch: int = 5  # times that the texts are read
    lr: float = 0.1  # learning rate at the start; it falls to 0 in a line
    word_ngrams: int = 1  # longest n-gram of words
    min_count: int = 1  # rarer words have no row of their own
    bucket: int = 2_000_000  # rows of n-grams; none are made where there are no n-grams
    minn: int = 0  # shortest and longest n-gram of characters; 0 and 0: none
    maxn: int = 0
    loss: str = "softmax"  # or ova (each label by itself), hs (hierarchical softmax: many labels)
    lr_update_rate: int = 100  # tokens between two changes of the learning rate
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("dim", 1, 10_000),
            ("epoch", 1, 10_000),
            ("word_ngrams", 1, 20),
            ("min_count", 1, 2**31 - 1),
            ("bucket", 1, MOST_ROWS),
            ("minn", 0, 100),
            ("maxn", 0, 100),
            ("lr_update_rate", 1, 2**31 - 1),
            ("seed", 0, 2**31 - 2),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ModelError(f"{name}: {value!r} is not a whole number from {least} to {most}")
        if not (math.isfinite(self.lr) and 0 < self.lr <= 100):
            raise ModelError(f"lr: {self.lr!r} is not above 0 and at most 100 (0.1 is usual)")
        if self.minn > self.maxn:
            raise ModelError(
                f"minn: {self.minn} is longer than maxn: {self.maxn}; for no n-grams of characters both are 0"
            )
        if self.loss not in LOSSES:
            raise ModelError(f"loss: {self.loss!r} is none of {', '.join(LOSSES)}")

    @property
    def buckets(self) -> int:
        """Rows of n-grams in the model: none where there are no n-grams."""
        return self.bucket if self.word_ngrams > 1 or self.maxn > 0 else 0


def train(
    texts: pa.ChunkedArray | pa.Array,
    labels: np.ndarray,
    names: Sequence[str],
    params: Params,
    path: str | Path,
    *,
    most_bytes: int = MOST_BYTES,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Trains on texts[i] with the label names[labels[i]] and writes the model to `path`, whole or not at all.

    texts: (large_)string without nulls; an empty one is fine. labels: integers, one per text. Rows are learned from in
    the order given, so it should not be sorted by label. `most_bytes` bounds the matrices, and the tables of words;
    `progress` gets the share done, from 0 to 1, every few MB.

    Returns documents, words (with `</s>`), distinct_words (before min_count), tokens (of one reading, with `</s>`), loss
    (mean over all examples), bytes (of the matrices), seconds, labels ({name: documents}, in the model's order).
    ModelError where nothing can be trained from this, or it needs more than `most_bytes`.
    """
    begun = time.perf_counter()
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ModelError(f"{path}: the folder {path.parent} is not there: make it")
    chunks = _chunks(texts)
    documents = sum(len(chunk) for chunk in chunks)
    labels = _checked_labels(labels, names, documents)
    _checked_size(params.buckets, params, len(names), most_bytes)  # known before a text is read
    words = _count(chunks, most_bytes)
    order = _rows(words, params.min_count)
    size = _checked_size(params.buckets + len(order), params, len(names), most_bytes)
    per_label = np.bincount(labels, minlength=len(names))
    label_order = np.argsort(-per_label, kind="stable")
    place = np.empty(len(names), np.int32)
    place[label_order] = np.arange(len(names), dtype=np.int32)
    inputs, outputs, loss = _fit(chunks, place[labels], words, order, per_label[label_order], params, progress)
    model_labels = {names[i]: int(per_label[i]) for i in label_order}
    write_model(
        path,
        [words.spelled(i) for i in order.tolist()],
        words.counts[order],
        [LABEL_PREFIX + label.encode() for label in model_labels],
        per_label[label_order],
        inputs,
        outputs,
        loss=params.loss,
        word_ngrams=params.word_ngrams,
        bucket=params.buckets,
        minn=params.minn,
        maxn=params.maxn,
        epoch=params.epoch,
        min_count=params.min_count,
        lr_update_rate=params.lr_update_rate,
        tokens=words.tokens + documents,  # fastText's count has the labels
    )
    return {
        "documents": documents,
        "words": len(order),
        "distinct_words": len(words.counts),
        "tokens": words.tokens,
        "loss": loss,
        "bytes": size,
        "seconds": time.perf_counter() - begun,
        "labels": model_labels,
    }


def _chunks(texts: pa.ChunkedArray | pa.Array) -> list[pa.Array]:
    if len(texts) == 0:
        raise ModelError("no documents to train from")
    if texts.null_count:
        first = next(i for i, value in enumerate(texts.is_null().to_pylist()) if value)
        raise ModelError(f"{texts.null_count} of {len(texts)} texts are null, first row {first}: leave those rows out")
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise ModelError(f"texts are {texts.type}, not strings")
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    return [chunk.cast(pa.large_string()) for chunk in chunks if len(chunk)]


def _checked_labels(labels: np.ndarray, names: Sequence[str], documents: int) -> np.ndarray:
    """int32[documents]; ModelError where labels or their names cannot be those of a model."""
    for name in names:
        if not name or any(c.isspace() or c == "\0" for c in name) or name.startswith(LABEL_PREFIX.decode()):
            raise ModelError(
                f"label {name!r}: a label is one word, without white space and without {LABEL_PREFIX.decode()} before it; "
                "give it another name"
            )
    if len(set(names)) < len(names):
        raise ModelError(f"label {next(n for n in names if list(names).count(n) > 1)!r} is there twice")
    if len(names) < 2:
        raise ModelError(f"one label ({', '.join(names)}) is nothing to tell apart: give documents of at least two")
    if len(labels) != documents:
        raise ModelError(f"{len(labels)} labels for {documents} texts")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(names):
        raise ModelError(f"labels are whole numbers from 0 to {len(names) - 1}, the places of their names")
    missing = [names[i] for i, n in enumerate(np.bincount(labels, minlength=len(names))) if n == 0]
    if missing:
        raise ModelError(f"no document has the label {', '.join(missing)}: leave it out, or give documents of it")
    return labels.astype(np.int32)


def _checked_size(rows: int, params: Params, labels: int, most_bytes: int) -> int:
    """Bytes of both matrices."""
    size = (rows + labels) * params.dim * 4
    if size > most_bytes:
        raise ModelError(
            f"{rows:,} rows (words and n-grams) of dim {params.dim} take {size / 1e9:.1f} GB, more than "
            f"{most_bytes / 1e9:.1f} GB: lower bucket ({params.buckets:,}) or dim, or raise min_count ({params.min_count})"
        )
    if rows > MOST_ROWS:
        raise ModelError(f"{rows:,} rows (words and n-grams): a model holds {MOST_ROWS:,}; lower bucket")
    return size


def _rows(words: Words, min_count: int) -> np.ndarray:
    """int64: the words that get rows, in the order of the rows. One that no model file can hold gets none."""
    if len(words.counts) == 1:
        raise ModelError("the texts have no words")
    order = np.argsort(-words.counts, kind="stable")
    keep = (words.counts >= min_count) & (np.diff(words.starts) < LONGEST_WORD)
    order = order[keep[order]]
    if all(words.spelled(i) == b"</s>" for i in order[:2].tolist()):
        raise ModelError(f"min_count: no word occurs {min_count:,} times in the texts; lower it")
    return order


def _views(chunk: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(data uint8, offsets int64[n + 1]) of a large_string array, not copied."""
    _, offsets, data = chunk.buffers()
    return (
        np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8),
        np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1],
    )


def _count(chunks: list[pa.Array], most_bytes: int) -> Words:
    from ..kernels.fasttext_train_words import Counter

    counter = Counter(most_bytes)
    try:
        for chunk in chunks:
            counter.add(*_views(chunk))
    except MemoryError as error:
        raise ModelError(
            f"the texts have too many different words ({error}) for {most_bytes / 1e9:.1f} GB of tables: "
            "are they text? take fewer documents"
        ) from error
    return counter.words()


def _fit(
    chunks: list[pa.Array],
    labels: np.ndarray,
    words: Words,
    order: np.ndarray,
    per_label: np.ndarray,
    params: Params,
    progress: Callable[[float], None] | None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """(input matrix, output matrix, mean loss). `labels`, `per_label`: in the model's order of labels."""
    from ..kernels.fasttext_train import Descent
    from ..kernels.fasttext_train_start import initial

    try:
        inputs = initial(len(order) + params.buckets, params.dim, params.seed)
    except MemoryError as error:
        raise ModelError(
            f"{len(order) + params.buckets:,} rows of dim {params.dim}: {error}; lower bucket or dim"
        ) from error
    outputs = np.zeros((len(per_label), params.dim), np.float32)
    descent = Descent(
        inputs,
        outputs,
        words.keys[order],
        per_label,
        loss=params.loss,
        word_ngrams=params.word_ngrams,
        characters=(params.minn, params.maxn),
        rate=params.lr,
        every=params.lr_update_rate,
        tokens=params.epoch * (words.tokens + len(labels)),
    )
    pieces = list(_pieces(chunks))
    try:
        # as in fastText, the texts are begun once more for the tokens that were read but not counted by the last change
        # of the learning rate
        while descent.share < 1:
            for data, offsets, first in pieces:
                descent.read(data, offsets, labels[first : first + len(offsets) - 1])
                if progress:
                    progress(descent.share)
                if descent.share >= 1:
                    break
        if not all(math.isfinite(float(np.sum(matrix, dtype=np.float64))) for matrix in (inputs, outputs)):
            raise FloatingPointError
    except FloatingPointError as error:
        raise ModelError(f"training ran off to infinity: lower lr ({params.lr:g})") from error
    return inputs, outputs, descent.loss


def _pieces(chunks: list[pa.Array]) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(data, offsets, row of the first text) of a few MB of whole texts each."""
    row = 0
    for chunk in chunks:
        data, offsets = _views(chunk)
        at = 0
        while at < len(chunk):
            stop = max(at + 1, int(np.searchsorted(offsets, offsets[at] + PIECE, "right")) - 1)
            yield data, offsets[at : stop + 1], row + at
            at = stop
        row += len(chunk)
