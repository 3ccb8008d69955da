"""fastText classifiers, `.bin` and `.ftz`: the probabilities that fastText itself gives, at the speed of memory.

Invariant: a probability is fastText's within 1e-5, and a function of the text and the model's file alone; several models
over the same pieces of text give bit for bit what each gives alone. (fastText sums in 32 bits, this in 64: where a text
repeats one n-gram a thousand times, fastText's own number drifts away from the exact one by more than that.)

A supervised model is linear: logits = W_out . mean(rows of W_in). What is built once from a model, and mapped by all
processes of a machine: with fewer outputs than dimensions the products of the rows with W_out, one number per output
(two labels under softmax: one number, their difference), otherwise the rows; a word's row holds its character n-grams.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .base import ModelError
from .fasttext_file import LABEL_PREFIX, Header, ModelFile, read_model
from .model_files import built, fingerprint

FORMAT = 1  # of the tables below; another number builds them anew
MEMORY_BYTES = 1 << 20  # of sums that a call remembers for words in no dictionary: what stays in a core's cache
NARROW = 4  # numbers; wider rows are filled up to whole blocks


@dataclass(frozen=True)
class Labels:
    """Ask for the probability of these labels, by their places in `FastText.labels`."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Top:
    """Ask for the k most probable labels. Equal ones: the earlier in `FastText.labels` first."""

    k: int


Ask = Labels | Top


class FastText:
    """A supervised model, loaded: a scorer. `strict`: a literal `</s>` in a text ends it, as for fastText; else it is
    read over. Tables are mapped from this machine's cache."""

    def __init__(self, folder: Path, *, strict: bool) -> None:
        facts = json.loads((folder / "facts.json").read_text())
        lists = {name: tuple(facts["header"][name]) for name in ("labels", "label_counts")}
        self.header = Header(**{**facts["header"], **lists})
        self.labels = self.header.labels
        self.strict = strict
        self.width, self.own_labels = int(facts["width"]), bool(facts["own_labels"])
        tables = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in folder.glob("*.npy")}
        self.slots = tables["slots"]
        self.model = _model_of(self.header, self.width, tables)
        self._head = _head_of(self.header, bool(facts["collapsed"]), tables)
        # one number per row, and each bucket has one: the loop for the usual models
        self.plain = self.width == 1 and not self.header.maxn and self.header.pruned < 0

    @classmethod
    def load(cls, path: str | Path, *, strict: bool = True) -> FastText:
        """The model at `path`. The first process on a machine builds its tables (seconds for a large one).
        ModelError where the file is none that can be used."""
        path = Path(path)
        key = fingerprint(path), strict
        with _lock:
            if key not in _loaded:
                try:
                    folder = built(f"{key[0]}-fasttext-{FORMAT}", lambda folder: _build(path, folder))
                    _give_back_memory()
                    _loaded[key] = cls(folder, strict=strict)
                except OSError as error:
                    raise ModelError(f"{path}: its tables cannot be kept: {error}: set TAMIS_CACHE") from error
            return _loaded[key]

    def head(self, ask: Ask) -> tuple:
        """What the kernels need to answer. ModelError for a label or a number of labels that is not there."""
        if isinstance(ask, Labels):
            if not ask.indices or not all(0 <= one < len(self.labels) for one in ask.indices):
                raise ModelError(f"labels {ask.indices} of a model that has {len(self.labels)}")
            return (*self._head, np.array(ask.indices, np.int32))
        if ask.k < 1:
            raise ModelError(f"the {ask.k} most probable labels: ask for 1 or more")
        return (*self._head, np.zeros(0, np.int32))

    def score(self, texts: pa.Array) -> pa.Table:
        """One float32 column per label, null where the model says nothing. texts: large_string, no nulls."""
        data, starts, ends = pieces_of(texts)
        (found,) = score_together([(self, Labels(tuple(range(len(self.labels)))))], data, starts, ends)
        columns = [pa.array(np.ascontiguousarray(column), mask=np.isnan(column)) for column in found.T]
        return pa.table(dict(zip(self.labels, columns, strict=True)))


_loaded: dict[tuple[str, bool], FastText] = {}
_lock = threading.Lock()


def pieces_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(data uint8, starts int64, ends int64) of a large_string array, nothing copied."""
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int64, len(texts) + 1, texts.offset * 8) if offsets else np.zeros(1, np.int64)
    return np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8), places[:-1], places[1:]


def score_together(
    asks: Sequence[tuple[FastText, Ask]], data: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> list[Any]:
    """Answers all asks over the same pieces of text, which are split into words once.

    data: uint8; piece i is data[starts[i]:ends[i]] (int64). Gives for `Labels` float32 (pieces, labels), NaN where
    nothing can be said; for `Top` (int32 (pieces, k), -1 for none; float32 (pieces, k), NaN there).
    """
    from ..kernels.fasttext import walk

    answers = [_Answer(model, ask, len(starts)) for model, ask in asks]
    walks: dict[Any, list[_Answer]] = {}
    for answer in answers:
        model = answer.model
        walks.setdefault((model.strict, id(model) if model.own_labels else None), []).append(answer)
    for (strict, own), together in walks.items():
        slots = together[0].model.slots if own is not None else None
        walk(data, starts, ends, together, strict=strict, own=slots)
    return [answer.found() for answer in answers]


class _Answer:
    """One ask, its sums so far and its result."""

    def __init__(self, model: FastText, ask: Ask, pieces: int) -> None:
        from ..kernels.fasttext_characters import work_areas
        from ..kernels.fasttext_words import WINDOW

        header, labels = model.header, len(model.labels)
        self.model, self.ask = model, ask
        self.head, self.plain = model.head(ask), model.plain
        self.ngrams = max(1, header.word_ngrams)
        self.buckets = header.bucket
        k = len(ask.indices) if isinstance(ask, Labels) else ask.k
        self.values = np.empty((pieces, k), np.float32)
        self.names = np.empty((pieces, k if isinstance(ask, Top) else 0), np.int32)
        remembered = 1
        while header.maxn and remembered < WINDOW and 8 * remembered * model.width <= MEMORY_BYTES:
            remembered *= 2
        self.areas = (
            np.zeros(1, np.int64),
            np.zeros(max(model.width, self.ngrams) + 1),
            np.zeros(model.width),
            np.zeros(remembered, np.uint64),
            np.zeros(remembered, np.int32),
            np.zeros(remembered * model.width, np.float32),
            *work_areas(),
            np.zeros(labels),
            np.zeros(2 * labels),
            np.zeros(k, np.int32),
            np.zeros(k),
        )

    def found(self) -> Any:
        return (self.names, self.values) if isinstance(self.ask, Top) else self.values


# --- tables ------------------------------------------------------------------------------------------------------


def _model_of(header: Header, width: int, tables: dict[str, np.ndarray]) -> tuple:
    none = np.zeros(0, np.int32)
    left = (tables.get("left", np.zeros(0, np.uint64)), tables.get("ranks", none), tables.get("places", none))
    numbers = (max(0, header.word_ngrams - 1), header.minn, header.maxn, header.bucket)
    return (tables["slots"], tables.get("counts", none), tables["rows"], width, header.words, *left, *numbers)


def _head_of(header: Header, collapsed: bool, tables: dict[str, np.ndarray]) -> tuple:
    from ..kernels.fasttext_scores import LOSSES, sigmoid_table, tree_of

    weights = tables.get("weights", np.zeros(0, np.float32))
    tree = tree_of(np.array(header.label_counts)) if header.loss == "hs" else np.zeros((3, 0), np.int32)
    return LOSSES[header.loss], len(header.labels), collapsed, weights, tree, sigmoid_table()


def _build(path: Path, folder: Path) -> None:
    from ..kernels.fasttext_build import add_characters_of_words, put_values
    from ..kernels.fasttext_characters import work_areas

    file = read_model(path)
    header = file.header
    outputs = np.concatenate(list(file.output.blocks(path)))
    collapsed = _outputs_of(header, outputs)
    width = _padded(min(collapsed.shape[0], header.dim))
    is_collapsed = collapsed.shape[0] < header.dim
    _write_rows(file, folder / "rows.npy", collapsed if is_collapsed else None, width)
    if not is_collapsed:
        weights = np.zeros((width, len(outputs)), np.float32)
        weights[: header.dim] = outputs.T
        np.save(folder / "weights.npy", weights.ravel())
    if header.hashes and header.pruned >= 0:
        for name, table in _left_of(file).items():
            np.save(folder / f"{name}.npy", table)
    slots, own_labels = _slots_of(file)
    rows = np.lib.format.open_memmap(folder / "rows.npy", mode="r+")
    if header.maxn:
        counts = np.zeros(header.words, np.int32)
        tables = {path.stem: np.load(path) for path in folder.glob("*.npy") if path.stem != "rows"}
        model = _model_of(header, width, {**tables, "slots": slots, "rows": np.asarray(rows)})
        text = np.frombuffer(file.text, np.uint8)
        add_characters_of_words(
            text, file.begin, file.end, model, *work_areas(), np.zeros(width), np.asarray(rows), counts
        )
        np.save(folder / "counts.npy", counts)
    if width == 1:
        put_values(slots, np.asarray(rows))
    del rows
    np.save(folder / "slots.npy", slots)
    facts = {"header": asdict(header), "width": width, "collapsed": is_collapsed, "own_labels": own_labels}
    (folder / "facts.json").write_text(json.dumps(facts))


def _give_back_memory() -> None:
    """What building has freed stays in the heap of the process otherwise (glibc): as much as the tables themselves."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _outputs_of(header: Header, outputs: np.ndarray) -> np.ndarray:
    """float64[n, dim]: the outputs that are needed. The root's children and so on have labels - 1 under hs."""
    outputs = outputs.astype(np.float64)
    if header.loss == "softmax" and len(outputs) == 2:
        return outputs[:1] - outputs[1:]
    return outputs[: max(1, len(outputs) - 1)] if header.loss == "hs" else outputs


def _padded(width: int) -> int:
    from ..kernels.fasttext_characters import BLOCK

    return width if width <= NARROW else -(-width // BLOCK) * BLOCK


def _write_rows(file: ModelFile, path: Path, collapsed: np.ndarray | None, width: int) -> None:
    """Streams the input matrix into float32[rows * width], each row multiplied with the outputs, or as it is."""
    from ..kernels.fasttext_build import project

    weights = np.ascontiguousarray(collapsed.T) if collapsed is not None else None
    with path.open("wb") as out:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (file.input.rows * width,)}
        np.lib.format.write_array_header_1_0(out, shape)
        for block in file.input.blocks(file.path):
            rows = np.zeros((len(block), width), np.float32)
            if weights is None:
                rows[:, : block.shape[1]] = block
            else:
                found = np.empty((len(block), weights.shape[1]), np.float32)
                project(block, weights, np.zeros(weights.shape[1]), found)
                if not np.isfinite(found).all():
                    raise ModelError(f"{file.path}: weights too large for 32 bits: train again, slower")
                rows[:, : weights.shape[1]] = found
            out.write(rows.data)


def _left_of(file: ModelFile) -> dict[str, np.ndarray]:
    """The buckets that pruning left: one bit each; how many are left before each 64; and their rows behind the words."""
    rows = dict(file.left.tolist())  # of two entries for one bucket the last one counts, as in fastText
    buckets = np.array(sorted(rows), np.int64)
    bits = np.zeros(file.header.bucket // 64 + 1, np.uint64)
    np.bitwise_or.at(bits, buckets // 64, np.uint64(1) << (buckets % 64).astype(np.uint64))
    ranks = np.searchsorted(buckets, np.arange(len(bits)) * 64).astype(np.int32)
    return {"left": bits, "ranks": ranks, "places": np.array([rows[one] for one in buckets.tolist()], np.int32)}


def _slots_of(file: ModelFile) -> tuple[np.ndarray, bool]:
    """The words by their keys; and whether what is a label is the dictionary's own matter: its labels have another
    prefix than fastText supposes, or some of its words have it. Only then the labels have slots too."""
    from ..kernels.fasttext_build import fill_slots
    from ..kernels.fasttext_words import SLOT

    words, entries = file.header.words, len(file.begin)
    text = np.frombuffer(file.text, np.uint8)
    prefixed = file.end - file.begin >= len(LABEL_PREFIX)
    for place, byte in enumerate(LABEL_PREFIX):
        prefixed[prefixed] = text[file.begin[prefixed] + place] == byte
    own = bool(prefixed[:words].any() or not prefixed[words:].all())
    count = entries if own else words
    slots = np.zeros(2 * count + 16, SLOT)
    slots["row"] = -1
    clash = fill_slots(text, file.begin, file.end, 0, count, words, slots, np.zeros(len(slots), np.int32))
    if clash >= 0:
        word = file.text[file.begin[clash] : file.end[clash]]
        raise ModelError(f"{file.path}: the word {word!r} has the 64-bit key of another one; train without it")
    return slots, own
