"""Any causal language model of Hugging Face: text in, what the model says of every token out.

Invariant: every token of every document is scored exactly once, by the document's own tokens before it alone, so the numbers
of a document do not depend on what it is batched with (within rounding: 1e-4 relative in float32), nor on how much
memory there is. Logits of a whole batch are never made (lm_network.py says where that has to be otherwise).

A document is cut into windows (lm_windows.py), windows of like length share a batch, and of a batch only those places go
through the head whose prediction counts: neither filling nor overlap costs time there.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from . import lm_windows
from .base import ModelError
from .hugging_face import choose_device, folder_state, runs, slices, use_threads
from .lm_files import check_pair, read_facts
from .lm_windows import Tokens
from .token_count import deterministic

if TYPE_CHECKING:
    from .lm_network import Network

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
WINDOW = 2048  # tokens that a model reads at once by default, or as many as it can
RUN = (
    1 << 20
)  # bytes of text that are tokenised at once: the library holds 60 to 120 bytes for each until a call returns
SLICE = 1 << 18  # characters of a long text that are tokenised at once
BATCH = {"cuda": 16_384, "cpu": 1_024}  # tokens that go through the model together; a CPU's caches like few


# One thread tokenises while another measures, and both ask for the model; two loads at once would cost twice the memory,
# and transformers then loses tied weights.
_LOADING = Lock()


@dataclass(frozen=True)
class TokenTable:
    """Numbers per scored token. Those of document d are at offsets[d] : offsets[d + 1], in the order of its tokens. float32
    [scored] (rank int32), as in kernels/token_stats.py; None where not asked for; NaN where the model gives no number."""

    offsets: np.ndarray  # int64 [documents + 1]
    logprob: np.ndarray
    mean: np.ndarray | None
    variance: np.ndarray | None
    rank: np.ndarray | None
    cross_mean: np.ndarray | None
    cross_variance: np.ndarray | None


@dataclass
class _Loaded:
    """What a process holds once. limit: tokens that have shown to fit into memory together, once some did not."""

    network: Network
    observer: Network | None
    tokenizer: Any
    packed: bool  # documents lie behind one another in one row
    limit: int | None = None

    @property
    def networks(self) -> list[Network]:
        return [self.network] if self.observer is None else [self.network, self.observer]


class CausalLM:
    """A loaded model, with an observer or without. `note` says what makes it slower than it might be, or is None.

    The start token (the tokenizer's bos, else its eos, as lm-evaluation-harness has it, else the caller's) stands once before
    a document, is never scored, and takes one place of the first window. Text that looks like a special token
    (`<|endoftext|>`) is text: it is tokenised like any other. Added tokens that the tokenizer does not call special stay
    what they are. A text beyond SLICE characters is tokenised in slices that end before white space.
    """

    def __init__(self, loaded: _Loaded, *, window: int, stride: int, start: int | None, batch_tokens: int) -> None:
        """start: id of the start token, None to score from the second token on."""
        self._loaded = loaded
        self.window, self.stride, self.start = window, stride, start
        self._batch_tokens, self._packed = batch_tokens, loaded.packed
        self.note = next((network.note for network in loaded.networks if network.note), None)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        observer: str | Path | None = None,
        device: str = "auto",
        dtype: Dtype = "auto",
        attention: str = "auto",
        window: int | None = None,
        stride: int | None = None,
        start_token: str = "auto",
        remote_code: bool = False,
        batch_tokens: int | None = None,
        threads: int = 1,
    ) -> CausalLM:
        """observer: a second model over the same tokens, whose distribution cross_mean and cross_variance are taken over;
        both are then read over the rows of the embedding that both have. device: cpu, cuda, auto (cuda where there is
        one). dtype: auto is bfloat16 on cuda, float32 on a CPU. attention: as transformers names it; auto is
        flash_attention_2 where installed, on cuda and in halves, else sdpa, else eager. window: tokens read at once
        (2048, or the model's limit); stride: predictions of each further window (half a window). start_token: auto, none
        (the first token is not scored), or the text of one token. remote_code: run the folder's own code. batch_tokens:
        tokens that go through the model together. threads: of torch on a CPU, for the whole process.

        ModelError for what cannot be used; NoDeviceError; BrokenDeviceError; ImportError without torch and transformers.
        Files are read once a process, whichever of its threads asks first."""
        paths = [Path(folder) for folder in (path, observer) if folder is not None]
        states = tuple((str(folder), _state(folder)) for folder in paths)
        window, stride = _fitting(paths[0], _positions(states, remote_code, start_token), window, stride)
        device = choose_device(device)
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        use_threads(threads)
        with _LOADING:
            loaded = _load(states, device, dtype, attention, remote_code)
        return cls(
            loaded,
            window=window,
            stride=stride,
            start=_start(paths[0], loaded.tokenizer, start_token),
            batch_tokens=batch_tokens or BATCH["cuda" if device.startswith("cuda") else "cpu"],
        )

    def score(self, texts: pa.Array) -> pa.Table:
        """texts: large_string without nulls. nll (nats, float64) and ppl, null where nothing was scored or the model gives
        no number; n_tokens and n_scored, int64."""
        from ..kernels.token_scores import token_scores

        tokens = self.tokenise(texts)
        table = self.measure(tokens, moments=False, rank=False)
        found = token_scores(("nll", "ppl"), table.offsets, table.logprob)
        columns = {name: pa.array(values, mask=np.isnan(values)) for name, values in found.items()}
        counts = {"n_tokens": np.diff(tokens.offsets), "n_scored": np.diff(table.offsets)}
        return pa.table({**columns, **{name: pa.array(values) for name, values in counts.items()}})

    # --- tokens

    def tokenise(self, texts: pa.Array) -> Tokens:
        """texts: large_string without nulls. On the CPU alone: another thread may call it while `measure` runs. 4 bytes a
        token, besides what one run of texts takes. ModelError for a token that the model has no row for."""
        found, counts = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
        for _, strings in runs(texts, RUN):
            short = [text for text in strings if len(text) <= SLICE]
            known = iter(self._encode(short))
            for text in strings:
                parts = [next(known)] if len(text) <= SLICE else [self._encode([x])[0] for x in slices(text, SLICE)]
                found += parts
                counts.append(np.array([sum(map(len, parts))], np.int64))
        ids = np.concatenate(found)
        rows = min(network.model.get_input_embeddings().weight.shape[0] for network in self._loaded.networks)
        if len(ids) and int(ids.max()) >= rows:
            raise ModelError(
                f"the tokenizer makes token {int(ids.max()):,} and the model has {rows:,}: they do not belong together"
            )
        return Tokens(ids, np.cumsum(np.concatenate(counts)))

    def _encode(self, strings: list[str]) -> list[np.ndarray]:
        tokenizer = self._loaded.tokenizer
        if tokenizer.is_fast:
            found = [x.ids for x in tokenizer.backend_tokenizer.encode_batch_fast(strings, add_special_tokens=False)]
        elif strings:
            options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
            found = tokenizer(strings, **options)["input_ids"]
        else:
            found = []
        return [np.array(ids, np.int32) for ids in found]

    # --- the model

    def measure(self, tokens: Tokens, *, moments: bool, rank: bool) -> TokenTable:
        """Scores every document of `tokens`. moments: mean and variance too; rank: that too; with an observer also
        cross_mean and cross_variance. Where memory runs out, the batch is halved, for the rest of this process.

        ModelError where a single window does not fit; BrokenDeviceError where CUDA fails: the process must end."""
        import torch

        from .lm_network import broken

        windows, offsets = lm_windows.cut(
            tokens.offsets, start=self.start is not None, window=self.window, stride=self.stride
        )
        cross = self._loaded.observer is not None
        wanted = (True, moments, moments, rank, cross, cross)
        device = self._loaded.network.device
        kinds = (torch.float32, torch.float32, torch.float32, torch.int32, torch.float32, torch.float32)
        try:
            # Numbers stay on the device until all are there: a copy per batch would make the GPU wait for it.
            held = [
                torch.zeros(int(offsets[-1]), dtype=kind, device=device) if want else None
                for want, kind in zip(wanted, kinds, strict=True)
            ]
            self._measure(tokens, windows, offsets, held, moments=moments, rank=rank)
            numbers = [None if tensor is None else tensor.cpu().numpy() for tensor in held]
        except RuntimeError as error:
            broken(error)
        for array in numbers:
            if array is not None and array.dtype == np.float32:  # an overflow in float16
                array[~np.isfinite(array)] = np.nan
        return TokenTable(offsets, *numbers)  # pyright: ignore[reportArgumentType] # the first is always there

    def _measure(
        self, tokens: Tokens, windows: lm_windows.Windows, offsets: np.ndarray, held: list[Any], **asked: bool
    ) -> None:
        import torch

        from .lm_network import statistics

        network, observer = self._loaded.network, self._loaded.observer
        packed = self._packed and all(x.head is not None for x in self._loaded.networks)
        order = np.argsort(-windows.length, kind="stable")  # the longest first: what does not fit shows at once

        def one(chosen: np.ndarray) -> None:
            batch = lm_windows.batch(tokens, windows.take(chosen), offsets, start=self.start, packed=packed)
            with torch.inference_mode():
                found = statistics(network, observer, batch, **asked)
                places = network.put(batch.places)
                for tensor, part in zip(held, found, strict=True):
                    if tensor is not None:
                        tensor[places] = part

        waiting = order
        while len(waiting):
            budget = min(self._batch_tokens, self._loaded.limit or self._batch_tokens)
            for chosen in lm_windows.shares(windows, waiting, budget, packed=packed):
                if not _fits(one, chosen):
                    self._loaded.limit = self._less(windows.length[chosen], packed)
                    break
                waiting = waiting[len(chosen) :]

    def _less(self, lengths: np.ndarray, packed: bool) -> int:
        """Half of what did not fit. ModelError where that was one window."""
        import torch

        device = self._loaded.network.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if len(lengths) == 1:
            raise ModelError(
                f"a window of {lengths[0]:,} tokens does not fit into the memory of the device ({device.type}): lower `window`"
            )
        return int(lengths.sum() if packed else lengths.max() * len(lengths)) // 2


def _fits(work: Callable[[np.ndarray], None], chosen: np.ndarray) -> bool:
    """Whether there was memory for it. What a failed attempt held is free when this returns."""
    from .lm_network import out_of_memory

    try:
        work(chosen)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    gc.collect()
    return False


@functools.lru_cache(maxsize=2)
def _load(states: tuple[Any, ...], device: str, dtype: str, attention: str, remote_code: bool) -> _Loaded:
    """states: path and files of the model, and of the observer if there is one."""
    from .lm_network import load_network

    options = {"device": device, "dtype": dtype, "attention": attention, "remote_code": remote_code}
    found = [load_network(path, **options) for path, _ in states]
    (network, tokenizer), *others = found
    if tokenizer.is_fast:
        deterministic(tokenizer.backend_tokenizer)
        tokenizer.backend_tokenizer.encode_special_tokens = True  # the library's name for: as text
    packed = all(one.attention.startswith("flash") and one.packs() for one, _ in found)
    return _Loaded(network, others[0][0] if others else None, tokenizer, packed)


@functools.lru_cache(maxsize=4)
def _positions(states: tuple[Any, ...], remote_code: bool, start_token: str) -> int | None:
    """How many tokens the model reads at once, and the observer. ModelError where a folder cannot be used."""
    facts = [read_facts(path, remote_code=remote_code, start_token=start_token) for path, _ in states]
    if len(states) > 1:
        check_pair(facts[0], facts[1], states[0][0], states[1][0])
    return min((one.positions for one in facts if one.positions is not None), default=None)


def _state(folder: Path) -> tuple[Any, ...]:
    return folder_state(folder) if folder.is_dir() else ()


def _fitting(path: Path, positions: int | None, window: int | None, stride: int | None) -> tuple[int, int]:
    if window is None:
        window = min(positions or WINDOW, WINDOW)
    if window < 1 or (positions is not None and window > positions):
        raise ModelError(f"{path}: window: {window:,} tokens; the model reads from 1 to {positions or 'any number'}")
    if stride is None:
        stride = max(1, window // 2)
    if not 1 <= stride <= window:
        raise ModelError(f"stride: {stride:,}; from 1 to the window's {window:,} tokens")
    return window, stride


def _start(path: Path, tokenizer: Any, said: str) -> int | None:
    if said == "none":
        return None
    if said == "auto":
        found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if found is None:
            raise ModelError(
                f"{path}: the tokenizer has neither bos nor eos: say `start_token: TEXT` with the text of the token that "
                "stands before a document, or `start_token: none` to score from the second token on"
            )
        return int(found)
    known = tokenizer.get_vocab()
    if said in known:
        return int(known[said])
    plain = tokenizer(said, add_special_tokens=False)["input_ids"]
    if len(plain) != 1:
        raise ModelError(f"{path}: start_token: {said!r} is {len(plain)} tokens of this tokenizer; it must be one")
    return int(plain[0])
