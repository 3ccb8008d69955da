"""Gradient descent of a supervised fastText model: the steps of fastText 0.9 with one thread, in the same order.

Invariant: one thread, float32, every sum in a fixed order, no fused or reordered arithmetic: equal texts and parameters
give equal bytes. A text is the words that kernels/fasttext_train_words.py counts; its rows are those of its words (each
followed by its character n-grams), then of its word n-grams, and the sum over them is taken in this order.

Written from the description in Joulin et al. 2016 (Bag of Tricks for Efficient Text Classification) and checked against
the behaviour of fastText's C++ (src/{fasttext,dictionary,model,loss}.cc): hashes are 32-bit FNV-1a over signed bytes,
sigmoids of `ova` and `hs` come from a table of 512 steps, the learning rate falls by tokens read.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .byte_hash import hash_bytes
from .fasttext_train_start import MAX_SIGMOID, SIGMOID_STEPS, huffman, sigmoids
from .fasttext_train_words import BYTES, END, KEYS, NUMBERS, OFFSETS, SLOTS, find, next_word, slots_for

LOSSES = {"softmax": 0, "ova": 1, "hs": 2}
_SIGNED = np.arange(256).astype(np.uint8).astype(np.int8).astype(np.int32).view(np.uint32)
_FNV = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
_NEXT_WORD = np.uint64(116049371)
SMALLEST = 1e-5  # probability that a loss is reported for
AHEAD = 8  # rows fetched before they are needed: they lie anywhere in a matrix larger than any cache

MATRIX = types.Array(types.float32, 2, "C")
VECTOR = types.Array(types.float32, 1, "C")
ROWS = types.Array(types.int32, 1, "C")
HASHES = types.Array(types.uint32, 1, "C")

# places of `state`: tokens by which the learning rate falls, those read but not yet among them, examples
PROGRESS, PENDING, EXAMPLES = range(3)


def _prefetch(typingctx, matrix, row, column):
    """Asks for the cache line of matrix[row, column], to be written."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        width = cgutils.unpack_tuple(builder, array.shape, 2)[1]
        place = builder.add(builder.mul(args[1], width), args[2])
        pointer = builder.bitcast(builder.gep(array.data, [place]), ir.IntType(8).as_pointer())
        kinds = [ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(32), ir.IntType(32)]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        builder.call(function, [pointer, *(ir.Constant(ir.IntType(32), value) for value in (1, 3, 1))])
        return context.get_dummy_value()

    return nb.void(matrix, nb.int64, nb.int64), codegen


prefetch: Any = intrinsic(_prefetch)


@nb.njit(nogil=True, forceinline=True)
def _fnv(h, data, start, stop):
    for k in range(start, stop):
        h = np.uint32((h ^ _SIGNED[data[k]]) * _PRIME)
    return h


@nb.njit(nogil=True, forceinline=True)
def _part(data, start, stop, k):
    """Byte k of `<word>`."""
    if k == 0:
        return np.uint8(60)
    return data[start + k - 1] if k <= stop - start else np.uint8(62)


@nb.njit(types.int64(BYTES, types.int64, types.int64, NUMBERS, ROWS, types.int64), nogil=True, cache=True)
def _characters(data, start, stop, shape, rows, n):
    """Appends the rows of the character n-grams of `<word>` to rows[:n] and returns their new number."""
    words, bucket, least, most = shape[0], shape[1], shape[3], shape[4]
    size = stop - start + 2
    for i in range(size):
        if (_part(data, start, stop, i) & 0xC0) == 0x80:
            continue
        h, j, length = _FNV, i, 1
        while j < size and length <= most:
            h = np.uint32((h ^ _SIGNED[_part(data, start, stop, j)]) * _PRIME)
            j += 1
            while j < size and (_part(data, start, stop, j) & 0xC0) == 0x80:
                h = np.uint32((h ^ _SIGNED[_part(data, start, stop, j)]) * _PRIME)
                j += 1
            if length >= least and not (length == 1 and (i == 0 or j == size)):
                rows[n] = words + np.int64(h) % bucket
                n += 1
            length += 1
    return n


@nb.njit(
    types.UniTuple(types.int64, 2)(BYTES, types.int64, types.int64, SLOTS, KEYS, NUMBERS, ROWS, HASHES),
    nogil=True,
    cache=True,
)
def _line(data, at, end, slots, keys, shape, rows, hashes):
    """(rows, tokens) of the text data[at:end]: rows[:number] is what it is the mean of."""
    words, bucket, ngrams, most = shape[0], np.uint64(shape[1]), shape[2], shape[4]
    n, tokens = np.int64(0), np.int64(0)
    while True:
        start, stop = next_word(data, at, end)
        last = start == stop
        bytes_, start, stop = (END, 0, END.shape[0]) if last else (data, start, stop)
        place = slots[find(slots, keys, hash_bytes(bytes_, start, stop))]
        if place >= 0:
            rows[n] = place
            n += 1
        if most > 0 and not last:
            n = _characters(data, start, stop, shape, rows, n)
        hashes[tokens] = _fnv(_FNV, bytes_, start, stop)
        tokens += 1
        if last:
            break
        at = stop
    for i in range(tokens):
        h = np.uint64(np.int64(np.int32(hashes[i])))
        for j in range(i + 1, min(tokens, i + ngrams)):
            h = h * _NEXT_WORD + np.uint64(np.int64(np.int32(hashes[j])))
            rows[n] = words + np.int64(h % bucket)
            n += 1
    return n, tokens


@nb.njit(nogil=True, forceinline=True)
def _dot(matrix, row, vector):
    total = np.float32(0)
    for k in range(vector.shape[0]):
        total += matrix[row, k] * vector[k]
    return total


@nb.njit(nogil=True, forceinline=True)
def _move(outputs, row, hidden, gradient, alpha):
    """One output row a step along `hidden`, and its share of the gradient of the rows below."""
    for k in range(hidden.shape[0]):
        gradient[k] += alpha * outputs[row, k]
    for k in range(hidden.shape[0]):
        outputs[row, k] += alpha * hidden[k]


@nb.njit(nogil=True, forceinline=True)
def _softmax(outputs, hidden, gradient, scores, label, rate):
    """Loss of the example, NaN where the model is no number any more."""
    total, most = np.float32(0), -np.float32(np.inf)
    for i in range(outputs.shape[0]):
        scores[i] = _dot(outputs, i, hidden)
        if math.isnan(scores[i]):
            return np.nan
        most = max(most, scores[i])
    for i in range(outputs.shape[0]):
        scores[i] = np.float32(math.exp(np.float64(scores[i] - most)))
        total += scores[i]
    for i in range(outputs.shape[0]):
        scores[i] /= total
    for i in range(outputs.shape[0]):
        _move(outputs, i, hidden, gradient, rate * (np.float32(i == label) - scores[i]))
    return -math.log(max(np.float64(scores[label]), SMALLEST))


@nb.njit(nogil=True, forceinline=True)
def _logistic(outputs, row, hidden, gradient, table, positive, rate):
    x = _dot(outputs, row, hidden)
    if math.isnan(x):
        return np.nan
    if x < -MAX_SIGMOID:
        p = np.float32(0)
    elif x > MAX_SIGMOID:
        p = np.float32(1)
    else:
        steps = (x + np.float32(MAX_SIGMOID)) * np.float32(SIGMOID_STEPS) / np.float32(MAX_SIGMOID) / np.float32(2)
        p = table[np.int64(steps)]
    _move(outputs, row, hidden, gradient, rate * (np.float32(positive) - p))
    return -math.log(max(np.float64(p) if positive else 1.0 - np.float64(p), SMALLEST))


@nb.njit(
    types.UniTuple(types.int64, 2)(
        BYTES, OFFSETS, types.Array(types.int32, 1, "C", readonly=True), SLOTS, KEYS, MATRIX, MATRIX, types.int64, VECTOR,
        OFFSETS, types.Array(types.int32, 1, "C", readonly=True), types.Array(types.boolean, 1, "C", readonly=True),
        NUMBERS, types.float64, types.int64, types.int64, NUMBERS, types.Array(types.float64, 1, "C"), ROWS, HASHES,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _train(
    data, offsets, labels, slots, keys, inputs, outputs, loss, table, starts, nodes, right,
    shape, rate, every, goal, state, losses, rows, hashes,
):  # fmt: skip
    """(texts read, 1 if a number stopped being one)."""
    dim = inputs.shape[1]
    hidden, gradient = np.empty(dim, np.float32), np.empty(dim, np.float32)
    scores = np.empty(outputs.shape[0], np.float32)
    for text in range(offsets.shape[0] - 1):
        if state[PROGRESS] >= goal:
            return text, 0
        now = np.float32(rate * (1.0 - np.float64(np.float32(state[PROGRESS]) / np.float32(goal))))
        n, tokens = _line(data, offsets[text], offsets[text + 1], slots, keys, shape, rows, hashes)
        if n > 0:
            hidden[:] = 0
            gradient[:] = 0
            for i in range(n):
                if i + AHEAD < n:
                    for k in range(0, dim, 16):
                        prefetch(inputs, rows[i + AHEAD], k)
                row = rows[i]
                for k in range(dim):
                    hidden[k] += inputs[row, k]
            share = np.float32(1.0 / n)
            for k in range(dim):
                hidden[k] *= share
            label, value = np.int64(labels[text]), 0.0
            if loss == 0:
                value = _softmax(outputs, hidden, gradient, scores, label, now)
            elif loss == 1:
                for i in range(outputs.shape[0]):
                    value += _logistic(outputs, i, hidden, gradient, table, i == label, now)
            else:
                for i in range(starts[label], starts[label + 1]):
                    value += _logistic(outputs, nodes[i], hidden, gradient, table, right[i], now)
            if math.isnan(value):
                return text, 1
            for k in range(dim):
                gradient[k] *= share
            for i in range(n):
                row = rows[i]
                for k in range(dim):
                    inputs[row, k] += gradient[k]
            losses[0] += value
            state[EXAMPLES] += 1
        state[PENDING] += tokens + 1  # its label is a token too
        if state[PENDING] > every:
            state[PROGRESS] += state[PENDING]
            state[PENDING] = 0
    return offsets.shape[0] - 1, 0


class Descent:
    """Trains `inputs` (float32[words + buckets, dim]) and `outputs` (float32[labels, dim]) in place, text by text.

    keys: uint64[words], the words' hashes in the order of their rows. label_counts: how many texts have each label,
    falling. characters: shortest and longest n-gram of characters. tokens: how many to read until the learning rate is 0.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        outputs: np.ndarray,
        keys: np.ndarray,
        label_counts: np.ndarray,
        *,
        loss: str,
        word_ngrams: int,
        characters: tuple[int, int],
        rate: float,
        every: int,
        tokens: int,
    ) -> None:
        self._matrices = inputs, outputs
        self._keys = np.ascontiguousarray(keys)
        self._slots = slots_for(self._keys, len(keys))
        self._tree = huffman(label_counts)
        self._table = sigmoids()
        self._loss, self._rate, self._every, self._tokens = LOSSES[loss], rate, every, tokens
        self._shape = np.array([len(keys), len(inputs) - len(keys), word_ngrams, *characters], np.int64)
        self._state, self._losses = np.zeros(3, np.int64), np.zeros(1)
        self._rows, self._hashes = np.empty(0, np.int32), np.empty(0, np.uint32)

    @property
    def share(self) -> float:
        """Share of the tokens that are read; 1 is the end."""
        return min(1.0, int(self._state[PROGRESS]) / self._tokens)

    @property
    def loss(self) -> float:
        """Mean over all examples so far."""
        return float(self._losses[0] / max(1, self._state[EXAMPLES]))

    def read(self, data: np.ndarray, offsets: np.ndarray, labels: np.ndarray) -> int:
        """Learns from the texts data[offsets[i]:offsets[i + 1]] (uint8; int64) with labels[i] (int32), and returns how
        many it took: fewer when it came to the end. FloatingPointError if the model is no number any more."""
        self._make_room(int(np.diff(offsets).max(initial=0)))
        read, failed = _train(
            data, offsets, labels, self._slots, self._keys, *self._matrices, self._loss, self._table, *self._tree,
            self._shape, self._rate, self._every, self._tokens, self._state, self._losses, self._rows, self._hashes,
        )  # fmt: skip
        if failed:
            raise FloatingPointError
        return read

    def _make_room(self, longest: int) -> None:
        """Buffers that hold a text of so many bytes, whatever its words; only the pages used are ever touched."""
        _, _, ngrams, least, most = self._shape.tolist()
        tokens = (longest + 1) // 2 + 1
        rows = tokens * ngrams
        if most:
            rows += (longest + 2 * tokens) * (most - max(1, least) + 1)
        if tokens > len(self._hashes):
            self._rows, self._hashes = np.empty(rows, np.int32), np.empty(tokens, np.uint32)
