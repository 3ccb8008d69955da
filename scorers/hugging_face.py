"""What all models in the folder form of Hugging Face share: which folders are safe to open, loading, texts in runs.

Invariant: only the weights of the folder speak. No code of the folder runs unless the caller says so, nothing is fetched,
nothing pickled is opened, and weights that are missing, of another shape or no numbers are an error, where transformers
would go on with random ones. torch and transformers are imported by the functions that load, and by no other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .base import ModelError, NoDeviceError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")

# --- what a folder says, without torch


def read_config(path: Path) -> dict[str, Any]:
    """The settings in config.json. ModelError where the path is no folder or the file no JSON object."""
    if not path.is_dir():
        what = "a file" if path.exists() else "no such folder"
        raise ModelError(f"{path}: {what}; a Hugging Face model is a folder with config.json and model.safetensors")
    return read_json(path / "config.json")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model. ModelError where there is none."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        told = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{file}: {told}; a Hugging Face model is a folder with config.json and {WEIGHTS[0]}"
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: JSON, but no object with settings")
    return found


def architecture(config: dict[str, Any]) -> str:
    """The first name under `architectures`, or "none named"."""
    named = config.get("architectures") or ["none named"]
    return str(named[0] if isinstance(named, list) else named)


def check_weights(path: Path, auto_class: str) -> None:
    """ModelError where the folder has no safetensors; auto_class: what converts it, as in the message."""
    if any((path / name).is_file() for name in WEIGHTS):
        return
    pickled = sorted(p.name for pattern in PICKLED for p in path.glob(pattern))
    if pickled:
        raise ModelError(
            f"{path}: has {pickled[0]}, but no {WEIGHTS[0]}: files that may run code when opened are not read. "
            f"Convert it once where you trust it: {auto_class}.from_pretrained(FOLDER)"
            ".save_pretrained(NEW_FOLDER), and the tokenizer likewise"
        )
    raise ModelError(f"{path}: has no {WEIGHTS[0]}")


def check_tokenizer(path: Path) -> None:
    """ModelError where the folder has none."""
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise ModelError(
            f"{path}: has no tokenizer: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER) puts one there"
        )


def folder_state(path: Path) -> tuple[Any, ...]:
    """Names, sizes and times of its files: a loaded model is kept as long as these stand."""
    return tuple(sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in path.iterdir() if p.is_file()))


# --- loading


def choose_device(device: str) -> str:
    """cpu or cuda, where `auto` is cuda if there is one. NoDeviceError."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise NoDeviceError("torch sees no GPU here")
    return device


def use_threads(threads: int) -> None:
    """Of torch and of the tokenizers library, for the whole process."""
    import torch

    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def load(path: str, auto_class: str, missing: str, *, remote_code: bool = False, **options: Any) -> tuple[Any, Any]:
    """(model on the CPU in eval mode, tokenizer), without a word on the screen. auto_class: of transformers. missing: what
    the message adds where weights are missing. ModelError for whatever a broken folder brings up in the library."""
    import torch
    import transformers
    from transformers.utils import logging

    silent = {"local_files_only": True, "trust_remote_code": remote_code}
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **silent)
        model, told = getattr(transformers, auto_class).from_pretrained(
            path, **silent, **options, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(f"{path}: transformers cannot load it: {first}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    lacks = sorted({*told["missing_keys"], *(str(key[0]) for key in told.get("mismatched_keys", ()))})
    if lacks:
        raise ModelError(
            f"{path}: the weights lack {', '.join(lacks[:3])}{' ...' if len(lacks) > 3 else ''}, or hold another shape "
            f"than config.json says: random numbers would stand there.{missing}"
        )
    if not all(
        bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values() if tensor.is_floating_point()
    ):
        raise ModelError(f"{path}: the weights hold NaN or infinity")
    check_sizes(path, len(tokenizer), model.get_input_embeddings().weight.shape[0])
    return model.eval(), tokenizer


def check_sizes(path: str | Path, tokens: int, rows: int) -> None:
    """ModelError where the tokenizer has more tokens than the model has rows for them."""
    if tokens > rows:
        raise ModelError(
            f"{path}: the tokenizer knows {tokens:,} tokens and the model {rows:,}: they do not belong together"
        )


# --- texts


def runs(texts: pa.Array, size: int) -> Iterator[tuple[int, list[str]]]:
    """(first position, strings) for runs of about `size` bytes, in order: only one run is held as Python strings."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64))
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + size, side="right")), start + 1)
        yield start, texts.slice(start, stop - start).to_pylist()
        start = stop


def slices(text: str, size: int) -> Iterator[str]:
    """A long text in pieces of `size` characters that end before white space, or of twice as many where there is none."""
    start = 0
    while start < len(text):
        stop = start + size
        while stop < len(text) and stop < start + 2 * size and not text[stop].isspace():
            stop += 1
        yield text[start:stop]
        start = stop
