"""Causal language models with random weights, a tokenizer trained here, and texts: what the benchmark of scores works on.

Invariant: nothing is downloaded. Weights are random, since speed does not depend on them, and drawn so that predictions
are sharp: scores of tokens that were mixed up would differ by far more than rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

POSITIONS = 8192
SHARPER = 4  # by which the last norm is multiplied: logits of fresh weights have a deviation of 0.6 only
START = "<|endoftext|>"
MOST_TOKENS = 2047  # of a document: with the start token a window of 2,048
_QWEN = {"vocab_size": 151_936, "num_key_value_heads": 2, "tie_word_embeddings": True}


@dataclass(frozen=True)
class Shape:
    """A kind of transformers' configurations, and what is set in it. `published`: whose shape it is."""

    kind: str
    published: str
    settings: dict[str, Any]


def _gpt2(width: int, layers: int, heads: int, vocabulary: int = 50_257) -> dict[str, Any]:
    return {"n_embd": width, "n_layer": layers, "n_head": heads, "vocab_size": vocabulary, "n_positions": POSITIONS}


def _qwen2(width: int, inner: int, layers: int, heads: int, **more: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    return {**_QWEN, **sizes, "num_attention_heads": heads, "max_position_embeddings": POSITIONS, **more}


SHAPES = {
    "24M": Shape("gpt2", "GPT-2's, narrow", _gpt2(320, 6, 5)),
    "0.1B": Shape("gpt2", "GPT-2's", _gpt2(768, 12, 12)),
    "0.5B": Shape("qwen2", "Qwen2.5-0.5B's", _qwen2(896, 4864, 24, 14)),
    "1.5B": Shape("qwen2", "Qwen2.5-1.5B's", _qwen2(1536, 8960, 28, 12)),
    "wide": Shape("qwen2", "150k tokens on two small layers", _qwen2(256, 512, 2, 4)),
    "tiny": Shape("gpt2", "for a look whether it works", _gpt2(64, 2, 2, 3000)),
    "tiny wide": Shape("qwen2", "for a look whether it works", _qwen2(64, 64, 2, 4, vocab_size=20_000)),
}


def texts_of(files: Sequence[str | Path], count: int, seed: int = 1) -> list[str]:
    """`count` documents of Parquet files with a column text, drawn by chance; made ones where there are no files."""
    if not files:
        return made_texts(count, seed)
    texts = pq.read_table(files[0], columns=["text"])["text"].drop_null()
    chosen = np.random.default_rng(seed).permutation(len(texts))[:count]
    return [text for text in texts.take(pa.array(chosen)).to_pylist() if text]


def made_texts(count: int, seed: int = 1) -> list[str]:
    """Documents of made words, whose frequencies fall as in natural text: 20 to 3,000 words, 330 in the middle."""
    draw = np.random.default_rng(seed)
    words = _words()
    found = []
    for size in np.clip(np.exp(draw.normal(5.8, 1.0, count)), 20, 3000).astype(int):
        ranks = np.minimum(draw.zipf(1.15, size) - 1, len(words) - 1)
        found.append(" ".join(words[ranks]).capitalize() + ".")
    return found


@functools.cache
def _words() -> np.ndarray:
    draw = np.random.default_rng(0)
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", np.uint8)
    odds = 1 / (np.arange(26) + 3)
    sizes = draw.integers(1, 12, 60_000)
    line = draw.choice(letters, sizes.sum(), p=odds / odds.sum()).tobytes().decode()
    ends = np.cumsum(sizes)
    return np.array([line[end - size : end] for size, end in zip(sizes, ends)], object)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level BPE like GPT-2's, with START as its token 0. Few texts give fewer tokens than were asked for."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[START], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def cut(tokenizer: Any, texts: Sequence[str], most: int = MOST_TOKENS) -> list[str]:
    """The texts, each cut before its token number `most`."""
    encoded = tokenizer.encode_batch(list(texts))
    return [text[: one.offsets[most][0]] if len(one) > most else text for text, one in zip(texts, encoded)]


def write_model(folder: Path, shape: Shape, tokenizer: Any, dtype: str, device: str = "cpu") -> Path:
    """A folder as transformers saves it."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(shape.kind, **shape.settings, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config)
    norm = model.transformer.ln_f if shape.kind == "gpt2" else model.model.norm
    with torch.no_grad():
        norm.weight.mul_(SHARPER)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=START, eos_token=START)
    fast.save_pretrained(folder)
    return folder


def weights_per_token(model: Any) -> int:
    """Numbers that a token is multiplied with: all weights but the tables that are only looked up in, and the head."""
    import torch

    looked_up = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    total = sum(p.numel() for p in model.parameters() if id(p) not in looked_up)
    head = model.get_output_embeddings().weight
    return total + (head.numel() if id(head) in looked_up else 0)


def model_flops(model: Any, lengths: Sequence[int]) -> float:
    """Floating-point operations that scoring documents of so many tokens needs: two for every weight and token, and
    for attention 4 * layers * width * n (n + 1) / 2 for a document of n tokens (queries by keys, then weights by
    values, each with the tokens up to its own). Padding, and tokens read again in a later window, count for nothing."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width *= config.num_attention_heads
    n = np.asarray(lengths, float)
    attention = 4 * config.num_hidden_layers * width * (n * (n + 1) / 2).sum()
    return float(2 * weights_per_token(model) * n.sum() + attention)
