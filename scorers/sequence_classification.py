"""Classifiers in the folder form of Hugging Face (config.json, model.safetensors, a tokenizer): text in, probabilities out.

Invariant: only weights of the folder speak (hugging_face.py). The probabilities of a text are those of its own windows,
whatever they are batched with: within 1e-5 in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from .base import ModelError
from .hugging_face import (
    architecture,
    check_tokenizer,
    check_weights,
    choose_device,
    folder_state,
    load,
    read_config,
    runs,
    slices,
    use_threads,
)

Dtype = Literal["float32", "bfloat16", "float16"]
WINDOW = 4 << 20  # bytes of text that are tokenised, sorted by length and scored together
SLICE = 1 << 18  # characters of a long text that are tokenised at once


@dataclass(frozen=True)
class Facts:
    """What config.json says. `outputs`: sigmoid (each label for itself), softmax (labels share one), or none
    (regression: the number as it is)."""

    labels: tuple[str, ...]
    outputs: Literal["sigmoid", "softmax", "none"]
    architecture: str


def read_facts(path: str | Path) -> Facts:
    """What a folder holds, from its JSON alone: torch is not imported. ModelError where it is no classifier that can be
    loaded safely."""
    path = Path(path)
    config = read_config(path)
    named = architecture(config)
    if not named.endswith("ForSequenceClassification"):
        raise ModelError(
            f"{path}: config.json names the architecture {named}; a classifier's ends in ForSequenceClassification"
        )
    if "auto_map" in config:
        raise ModelError(f"{path}: the model needs code of its own (auto_map in config.json), which is never run here")
    check_weights(path, "AutoModelForSequenceClassification")
    check_tokenizer(path)
    return Facts(_labels(path, config), _outputs(config), named)


def _labels(path: Path, config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label")
    if named is None:
        count = config.get("num_labels", 2)  # the library's default
        if not isinstance(count, int) or not 0 < count <= 100_000:
            raise ModelError(f"{path}: config.json: num_labels is {count!r}")
        return tuple(f"LABEL_{i}" for i in range(count))
    try:
        found = {int(key): str(label) for key, label in named.items()}
        labels = tuple(found[i] for i in range(len(found)))
    except (AttributeError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: config.json: id2label must name the labels 0, 1, 2 ...") from error
    if not labels or len(set(labels)) < len(labels):
        raise ModelError(f"{path}: config.json: id2label names {'no label' if not labels else 'a label twice'}")
    return labels


def _outputs(config: dict[str, Any]) -> Literal["sigmoid", "softmax", "none"]:
    """As the text-classification pipeline of transformers decides."""
    problem = config.get("problem_type")
    if problem == "regression":
        return "none"
    named = config.get("id2label")
    count = len(named) if named is not None else config.get("num_labels", 2)
    return "sigmoid" if problem == "multi_label_classification" or count == 1 else "softmax"


class SequenceClassifier:
    """A loaded model. A text of more tokens than the model reads at once is read in windows, and the score of a label is
    the highest among them; so nothing is left unread unless `windows` says so.

    Windows of a text have nearly equal numbers of tokens and do not overlap; with `windows: N` they are the first N
    full ones, and 1 is the usual truncation. A text beyond SLICE characters is tokenised in slices that end at white
    space.
    """

    def __init__(
        self, model: Any, tokenizer: Any, facts: Facts, *, max_length: int, windows: int | None, batch_tokens: int
    ) -> None:
        """model: on its device, in eval mode. max_length: tokens of a window, those around the text among them."""
        self.facts, self.labels = facts, facts.labels
        self._model, self._tokenizer = model, tokenizer
        self._windows, self._batch_tokens = windows, batch_tokens
        plain, whole = (self._encode_one("a", special) for special in (False, True))
        ids, wanted = whole["input_ids"], plain["input_ids"]
        at = next((i for i in range(len(ids)) if wanted and ids[i : i + len(wanted)] == wanted), None)
        if at is None:
            raise ModelError(
                "the tokenizer gives other tokens inside of its special ones than alone: it is not supported"
            )
        self._around = at, len(ids) - at - len(wanted)
        self._frame = {key: np.array(values, np.int64) for key, values in whole.items()}
        limit = min(max_length, _longest(model, tokenizer))
        self.room = limit - sum(self._around)
        if self.room < 1:
            raise ModelError(
                f"max_length: {limit} tokens leave no room for text beside {sum(self._around)} special ones"
            )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        dtype: Dtype = "float32",
        max_length: int = 512,
        windows: int | None = None,
        batch_tokens: int = 16_384,
        threads: int = 1,
    ) -> SequenceClassifier:
        """device: cpu, cuda, or auto (cuda where there is one). dtype: the halves only on cuda. batch_tokens: padded
        tokens that go through the model together. threads: of torch on a CPU, for the whole process.

        ModelError for a model that cannot be used; NoDeviceError; ImportError without torch and transformers. Loaded once
        a process.
        """
        path = Path(path)
        read_facts(path)
        files = folder_state(path)
        model, tokenizer, facts = _loaded(str(path), files, device, dtype)
        use_threads(threads)
        return cls(model, tokenizer, facts, max_length=max_length, windows=windows, batch_tokens=batch_tokens)

    @classmethod
    def verify(cls, path: str | Path, *, max_length: int = 512) -> None:
        """Loads the model on the CPU and lets it go. ModelError, as `load`."""
        cls.load(path, device="cpu", max_length=max_length)
        _loaded.cache_clear()

    def score(self, texts: pa.Array) -> pa.Table:
        """texts: large_string without nulls. A float32 column per label, null where a text has no token."""
        scores, _ = self.scores(texts)
        return pa.table(
            {label: pa.array(column, mask=np.isnan(column)) for label, column in zip(self.labels, scores.T)}
        )

    def scores(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(float32 [texts, labels], NaN where a text has no token or the model gives no number; bool [texts], true where
        `windows` left the end of the text unread)."""
        scores = np.full((len(texts), len(self.labels)), np.nan, np.float32)
        cut = np.zeros(len(texts), np.bool_)
        ahead = self._model.device.type != "cpu"
        for first, ids, owner, shortened in _ahead(self._tokenised(texts), ahead):
            found = self._forward(ids)
            np.fmax.at(scores, owner + first, found)
            cut[first : first + len(shortened)] = shortened
        return scores, cut

    # --- tokens

    def _tokenised(self, texts: pa.Array) -> Iterator[tuple[int, list[np.ndarray], np.ndarray, np.ndarray]]:
        """For runs of about WINDOW bytes: the first text's position, the windows' tokens, whose window each is (from that
        position on), and which texts were cut."""
        for first, strings in runs(texts, WINDOW):
            ids: list[np.ndarray] = []
            owner: list[int] = []
            cut = np.zeros(len(strings), np.bool_)
            short = [i for i, text in enumerate(strings) if len(text) <= SLICE]
            known = dict(zip(short, self._encode([strings[i] for i in short]), strict=True))
            for i, text in enumerate(strings):
                tokens = known[i] if i in known else self._encode_long(text)
                windows = self._cut(tokens)
                cut[i] = sum(map(len, windows)) < len(tokens)
                ids += windows
                owner += [i] * len(windows)
            yield first, ids, np.array(owner, np.int64), cut

    def _encode(self, strings: Sequence[str]) -> list[np.ndarray]:
        if not strings:
            return []
        options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        found = self._tokenizer(list(strings), add_special_tokens=False, **options)["input_ids"]
        return [np.array(tokens, np.int64) for tokens in found]

    def _encode_one(self, text: str, special: bool) -> dict[str, list[int]]:
        found = self._tokenizer(text, add_special_tokens=special, return_attention_mask=False)
        return {key: list(found[key]) for key in ("input_ids", "token_type_ids") if key in found}

    def _encode_long(self, text: str) -> np.ndarray:
        """Tokens of a long text; where `windows` bounds what is read, only as many as show that there are more."""
        found, total = [np.zeros(0, np.int64)], 0
        for piece in slices(text, SLICE):
            found.append(self._encode([piece])[0])
            total += len(found[-1])
            if self._windows is not None and total > self._windows * self.room:
                break
        return np.concatenate(found)

    def _cut(self, tokens: np.ndarray) -> list[np.ndarray]:
        count = -(-len(tokens) // self.room)
        if self._windows is not None and count > self._windows:
            return [tokens[i * self.room : (i + 1) * self.room] for i in range(self._windows)]
        return np.array_split(tokens, count) if count else []

    # --- the model

    def _forward(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [windows, labels]."""
        out = np.full((len(ids), len(self.labels)), np.nan, np.float32)
        lengths = np.array([len(tokens) for tokens in ids], np.int64) + sum(self._around)
        order = np.argsort(-lengths, kind="stable")  # the longest first: what does not fit shows at once
        start = 0
        while start < len(order):
            stop = start + max(1, self._batch_tokens // int(lengths[order[start]]))
            chosen = order[start:stop]
            out[chosen] = self._batch([ids[i] for i in chosen], int(lengths[chosen[0]]))
            start = stop
        out[~np.isfinite(out)] = np.nan
        return out

    def _batch(self, ids: Sequence[np.ndarray], length: int) -> np.ndarray:
        import torch

        before, behind = self._around
        pad = self._tokenizer.pad_token_id
        shape = (len(ids), length)
        arrays = {
            "input_ids": np.full(shape, 0 if pad is None else pad, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
        }
        if "token_type_ids" in self._frame:
            arrays["token_type_ids"] = np.zeros(shape, np.int64)
        for row, tokens in enumerate(ids):
            end = before + len(tokens) + behind
            arrays["attention_mask"][row, :end] = 1
            for key, frame in self._frame.items():
                middle = tokens if key == "input_ids" else frame[before]
                arrays[key][row, :before] = frame[:before]
                arrays[key][row, before : end - behind] = middle
                arrays[key][row, end - behind : end] = frame[len(frame) - behind :]
        with torch.inference_mode():
            inputs = {key: torch.from_numpy(array).to(self._model.device) for key, array in arrays.items()}
            logits = self._model(**inputs).logits.float()
            if self.facts.outputs == "sigmoid":
                logits = logits.sigmoid()
            elif self.facts.outputs == "softmax":
                logits = logits.softmax(-1)
            return logits.cpu().numpy()


@functools.lru_cache(maxsize=2)
def _loaded(path: str, files: tuple[Any, ...], device: str, dtype: Dtype) -> tuple[Any, Any, Facts]:
    import torch

    facts = read_facts(path)
    device = choose_device(device)
    if device == "cpu" and dtype != "float32":
        raise ModelError(f"dtype: {dtype} is for GPUs; on a CPU it is slower than float32 and less exact")
    untrained = " Is it a base model that was never trained to classify?"
    model, tokenizer = load(path, "AutoModelForSequenceClassification", untrained)
    if tokenizer.pad_token_id is None or (
        model.config.pad_token_id is None and "pad_token_id" in model.config.to_dict()
    ):
        raise ModelError(
            f"{path}: has no padding token: set pad_token in tokenizer_config.json and pad_token_id in config.json"
        )
    return model.to(device=device, dtype=getattr(torch, dtype)).eval(), tokenizer, facts


def _longest(model: Any, tokenizer: Any) -> int:
    """Tokens that the model reads at once. RoBERTa and its kin count positions from behind the padding token."""
    limit = getattr(model.config, "max_position_embeddings", None) or 1 << 30
    for module in model.modules():
        positions = getattr(module, "position_embeddings", None)
        padding = getattr(positions, "padding_idx", None)
        if padding is not None and getattr(positions, "num_embeddings", 0) == limit:
            limit -= padding + 1
            break
    return int(min(limit, tokenizer.model_max_length))


def _ahead(source: Iterator[Any], wanted: bool) -> Iterator[Any]:
    """The same, with the next one made in a thread meanwhile: a GPU does not wait for the tokenizer."""
    if not wanted:
        yield from source
        return
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, source, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, source, None)
            yield item
