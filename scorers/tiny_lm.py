"""Byte-level causal language models of a few hundred thousand parameters, trained on a CPU in a minute or two.

Invariant: one thread, deterministic algorithms and a seed, so two trainings on one machine give the same bytes; the
caller may train several models at once in several processes without moving any of them. Every byte of a text is
scored exactly once, and each text by itself: nothing that stands before it in a file is context.

A model is a folder as `transformers` saves it (a Llama: `config.json`, `model.safetensors`), with 257 tokens: the 256
byte values, and 256 for the beginning of a text.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .base import ModelError

BEGIN = 256  # the token before a text's first byte
VOCABULARY = 257
WINDOWS = 64  # scored at once: 64 x 256 positions need about 30 MB


@dataclass(frozen=True)
class Shape:
    """Size of a model. `heads` divides `hidden`; the inner layer is 8/3 as wide as `hidden`, as Llama has it."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4


@dataclass(frozen=True)
class Schedule:
    """Training: `steps` batches of `batch` crops of `context` bytes, AdamW (0.9, 0.95; decay 0.1), the learning rate up
    over the first twentieth and down to a tenth by a cosine. Bytes seen = steps * batch * context."""

    steps: int = 2000
    batch: int = 4
    context: int = 128
    lr: float = 5e-3


def train(texts: pa.Array | pa.ChunkedArray, folder: str | Path, shape: Shape, schedule: Schedule, seed: int) -> dict:
    """Trains one model on large_string `texts` (no nulls) and writes `folder`; returns parameters, bytes seen and the
    loss in bits per byte over the last tenth of the steps. Crops are drawn from all texts laid end to end, so a text's
    share of the training is its share of the bytes. ModelError where the texts do not fill one crop."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = _tokens(texts)
    if len(tokens) <= schedule.context:
        raise ModelError(f"{len(tokens)} bytes of text to train on; one crop has {schedule.context + 1}")
    with _reproducible(seed):
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=shape.hidden,
            intermediate_size=shape.hidden * 8 // 3,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=schedule.context,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=BEGIN,
            eos_token_id=BEGIN,
            use_cache=False,
        )
        model = LlamaForCausalLM(config).float().train()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=schedule.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )
        draws = np.random.Generator(np.random.PCG64(seed))
        inside = np.arange(schedule.context + 1)
        losses = []
        for step in range(schedule.steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr * _share_of_rate(step, schedule.steps)
            starts = draws.integers(0, len(tokens) - schedule.context, schedule.batch)
            crops = torch.from_numpy(tokens[starts[:, None] + inside].astype(np.int64))
            logits = model(input_ids=crops[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), crops[:, 1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        model.save_pretrained(folder)
    last = losses[-max(1, len(losses) // 10) :]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes_seen": schedule.steps * schedule.batch * schedule.context,
        "bytes_available": len(tokens),
        "bits_per_byte": sum(last) / len(last) / math.log(2),
    }


class TinyLM:
    """A trained model. `context` is the longest stretch of bytes that it reads at once."""

    def __init__(self, model: Any, context: int, max_chars: int | None = None) -> None:
        self._model = model
        self.context = context
        self.max_chars = max_chars

    @classmethod
    def load(cls, path: str | Path, *, max_chars: int | None = None) -> TinyLM:
        """From a folder that `train` wrote; `score` reads the first `max_chars` characters of each text. ModelError where
        the folder holds no model of this kind."""
        import torch
        from transformers import AutoConfig, LlamaForCausalLM

        if not (Path(path) / "config.json").is_file():
            raise ModelError(f"{path}: no config.json here; a tiny model is the folder that its training wrote")
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        if config.model_type != "llama" or config.vocab_size != VOCABULARY:
            raise ModelError(f"{path}: a {config.model_type} of {config.vocab_size} tokens, not a byte model of 257")
        model = LlamaForCausalLM.from_pretrained(path, local_files_only=True, dtype=torch.float32).eval()
        return cls(model, config.max_position_embeddings, max_chars)

    def score(self, texts: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Column `bpc` (float64, bits per character; null for an empty text)."""
        bits = self.bits_per_char(texts)
        return pa.table({"bpc": pa.array(bits, mask=np.isnan(bits))})

    def bits_per_char(self, texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """float64 (n,): the negative log2 likelihood of each text's bytes, over its characters (Unicode code points), as in
        PreSelect (Shum et al. 2025); NaN for an empty text. Texts longer than the context are read in windows that
        overlap by a quarter of it, so a byte past the first window has at least that much before it."""
        if self.max_chars is not None:
            texts = pc.utf8_slice_codeunits(texts, 0, self.max_chars)
        chars = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
        windows = list(self._windows(texts))
        nats = np.zeros(len(chars))
        np.add.at(nats, [row for row, _, _ in windows], self._nats([(ids, first) for _, ids, first in windows]))
        return np.where(chars > 0, nats / np.maximum(chars, 1) / math.log(2), np.nan)

    def log_likelihoods(self, beginnings: Sequence[bytes], endings: Sequence[bytes]) -> np.ndarray:
        """float64 (n,): natural log likelihood of each ending after its beginning. ModelError where both together are
        longer than the context, because then the beginning would not be read whole."""
        windows = []
        for beginning, ending in zip(beginnings, endings, strict=True):
            if len(beginning) + len(ending) > self.context:
                raise ModelError(f"{len(beginning)} + {len(ending)} bytes do not fit into a context of {self.context}")
            ids = np.frombuffer(beginning + ending, np.uint8).astype(np.int64)
            windows.append((np.concatenate([[BEGIN], ids]), len(beginning)))
        return -self._nats(windows)

    def _windows(self, texts: pa.Array | pa.ChunkedArray) -> Iterator[tuple[int, np.ndarray, int]]:
        """(row, tokens, first target that counts) so that every byte of every text counts once. Target t is token t + 1."""
        overlap = self.context // 4
        for row, text in enumerate(texts):
            ids = np.frombuffer(text.as_py().encode(), np.uint8).astype(np.int64)
            done = 0
            while done < len(ids):
                start = max(0, done - overlap)
                before = [BEGIN] if start == 0 else [ids[start - 1]]
                piece = ids[start : start + self.context]
                yield row, np.concatenate([before, piece]), done - start
                done = start + len(piece)

    def _nats(self, windows: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
        """Negative log likelihood of each window's counting targets. Windows of like length share a batch; what fills up a
        shorter one stands after it, where a causal model does not look."""
        import torch

        sums = np.zeros(len(windows))
        order = sorted(range(len(windows)), key=lambda i: len(windows[i][0]), reverse=True)
        with _reproducible(0), torch.inference_mode():
            for at in range(0, len(order), WINDOWS):
                rows = order[at : at + WINDOWS]
                width = len(windows[rows[0]][0])
                ids = np.full((len(rows), width), BEGIN, np.int64)
                counts = np.zeros((len(rows), width - 1), bool)
                for i, row in enumerate(rows):
                    tokens, first = windows[row]
                    ids[i, : len(tokens)] = tokens
                    counts[i, first : len(tokens) - 1] = True
                batch = torch.from_numpy(ids)
                logits = self._model(input_ids=batch[:, :-1]).logits
                nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none")
                sums[rows] = np.where(counts, nats.numpy().astype(np.float64), 0.0).sum(axis=1)
        return sums


def use_one_thread() -> None:
    """For a process of several that each train or score a model; no progress bars of saving and loading."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


def _tokens(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """uint16: every text's bytes after one BEGIN, end to end."""
    pieces = []
    for text in texts:
        pieces += [np.array([BEGIN], np.uint16), np.frombuffer(text.as_py().encode(), np.uint8).astype(np.uint16)]
    return np.concatenate(pieces) if pieces else np.empty(0, np.uint16)


def _share_of_rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@contextlib.contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread and deterministic algorithms, and the process as it was before when the block ends."""
    import torch

    threads, strict, state = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state(),
    )
    try:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(seed)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        torch.set_rng_state(state)
