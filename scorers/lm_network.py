"""A loaded causal language model: hidden states, and the head that makes logits of them.

Invariant: how the head is read is proven at load on a few tokens, against the model's own logits. An architecture that does
something unknown between hidden states and logits is scored by its own logits: slower, more memory, the same numbers.
That the model does not look ahead is proven too, because batches rely on it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .base import BrokenDeviceError, ModelError
from .hugging_face import load

if TYPE_CHECKING:
    import torch

    from ..kernels.token_stats import Head, TokenStats
    from .lm_windows import Batch

_PROBE = 12  # tokens
_ROWS = 256  # predictions whose logits are turned into numbers at once, where the model makes logits itself
_LOGITS = 1 << 28  # logits (1 GiB in float32) that the model makes at once; at least those of one row


@dataclass
class Network:
    """A model on its device. head: None where it is scored by its own logits, for the reason in `note`."""

    model: Any
    head: Head | None
    note: str | None
    attention: str

    @property
    def device(self) -> torch.device:
        return self.model.device

    def put(self, array: np.ndarray) -> torch.Tensor:
        """On the device; without waiting for what the device still has to do."""
        import torch

        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def hidden(self, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """[rows * tokens, d] of ids int64 [rows, tokens]; positions where documents lie behind one another in a row."""
        found = self.model.base_model(input_ids=ids, **self._packed(positions)).last_hidden_state
        return found.reshape(-1, found.shape[-1])

    def logits(self, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """[rows * tokens, V], as the model makes them."""
        found = self.model(input_ids=ids, **self._packed(positions)).logits
        return found.reshape(-1, found.shape[-1])

    def _packed(self, positions: torch.Tensor | None) -> dict[str, Any]:
        """transformers makes a mask by document of positions that begin again. Flash attention takes the bounds: given
        here once, they are not looked for in every layer, where the GPU would be waited for."""
        if positions is None:
            return {}
        options: dict[str, Any] = {"position_ids": positions}
        if self.attention.startswith("flash"):
            import torch

            starts = torch.nonzero(positions[0] == 0).flatten()
            bounds = torch.cat([starts, starts.new_tensor([positions.shape[1]])]).to(torch.int32)
            longest = int(bounds.diff().max())
            options |= {
                "cu_seq_lens_q": bounds,
                "cu_seq_lens_k": bounds,
                "max_length_q": longest,
                "max_length_k": longest,
            }
        return options

    def packs(self) -> bool:
        """Whether two documents in one row give what each gives in a row of its own: tried on a few tokens."""
        import torch

        if self.head is None or "position_ids" not in inspect.signature(self.model.base_model.forward).parameters:
            return False
        one, other = _probe(self.model).split([5, _PROBE - 5], dim=1)
        positions = torch.cat([torch.arange(part.shape[1], device=self.device) for part in (one, other)])[None]
        with torch.inference_mode():
            alone = torch.cat([self.hidden(one), self.hidden(other)])
            try:
                together = self.hidden(torch.cat([one, other], dim=1), positions)
            except (TypeError, ValueError):  # flash attention's bounds are not passed through by all architectures
                return False
        return _same(together, alone)


def load_network(path: str, *, device: str, dtype: str, attention: str, remote_code: bool) -> tuple[Network, Any]:
    """(network, tokenizer). device and dtype: chosen, not `auto`. ModelError."""
    import torch

    if device.startswith("cuda"):
        # The promise in float32 is the model's own loss to 1e-4; TF32 multiplies with 10 bits, which misses it.
        torch.backends.cuda.matmul.allow_tf32 = False
    kinds = [attention]
    if attention == "auto":
        half = device.startswith("cuda") and dtype != "float32"
        kinds = ["flash_attention_2"] * (half and _has_flash()) + ["sdpa", "eager"]
    model = tokenizer = None
    for kind in kinds:
        try:
            untrained = " Is the head missing because the folder holds a base model?"
            options = {"dtype": getattr(torch, dtype), "attn_implementation": kind}
            model, tokenizer = load(path, "AutoModelForCausalLM", untrained, remote_code=remote_code, **options)
            break
        except ModelError as error:  # the next kind, only where the architecture lacks this one
            if kind == kinds[-1] or "attention" not in str(error).lower():
                raise
    assert model is not None
    model.config.use_cache = False
    model.config.get_text_config().use_cache = False
    try:
        model = model.to(device)
        network = _proven(path, model, model.config._attn_implementation or "eager")
    except RuntimeError as error:
        if out_of_memory(error):
            raise ModelError(
                f"{path}: the model does not fit into the memory of the device ({device}, {dtype})"
            ) from error
        broken(error)
    return network, tokenizer


def _has_flash() -> bool:
    from transformers.utils.import_utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


# --- what a device says


def out_of_memory(error: BaseException) -> bool:
    import torch

    said = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said)


def broken(error: RuntimeError) -> NoReturn:
    """Raises BrokenDeviceError where CUDA said it, else the error itself."""
    import torch

    kinds = tuple(kind for kind in (getattr(torch, "AcceleratorError", None),) if kind)
    if isinstance(error, kinds) or "CUDA error" in str(error) or "CUBLAS_STATUS" in str(error):
        raise BrokenDeviceError(f"the GPU failed: {str(error).strip().partition(chr(10))[0]}") from error
    raise error


# --- how the head is read


def _probe(model: Any) -> torch.Tensor:
    """A few tokens from all over the vocabulary."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    return (torch.arange(1, _PROBE + 1, device=model.device) * 7919 % rows)[None]


def _same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    import torch

    if found.shape != wanted.shape:
        return False
    bound = (1e-4 if wanted.dtype == torch.float32 else 3e-2) * float(wanted.float().abs().max())
    return float((found.float() - wanted.float()).abs().max()) <= bound  # false for NaN


def _proven(path: str, model: Any, attention: str) -> Network:
    import torch

    ids = _probe(model)
    other = ids.clone()
    other[0, -1] = other[0, 0]
    with torch.inference_mode():
        try:
            logits, changed = (model(input_ids=x).logits[0] for x in (ids, other))
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ModelError(f"{path}: the model does not read plain tokens: {first}") from error
        if not bool(torch.isfinite(logits).all()):
            return Network(
                model, None, f"{path}: a few tokens overflow {model.dtype}: scored by its own logits", attention
            )
        if not _same(changed[:-1], logits[:-1]):
            raise ModelError(f"{path}: the model looks ahead: an earlier prediction changes with a later token")
        network = Network(model, None, None, attention)
        for head in _heads(model):
            try:
                network.head = head
                hidden = network.hidden(ids)
            except (TypeError, ValueError, AttributeError, IndexError):
                break
            if hidden.shape[-1] == head.weight.shape[1] and _same(_apply(head, hidden), logits):
                return network
    note = f"{path}: {type(model).__name__} makes its logits in a way that is not known here: it is scored by its own, slower"
    return Network(model, None, note, attention)


def _heads(model: Any) -> list[Head]:
    """Ways to read the head, by the names that configs give to what scales and caps logits; the likeliest first."""
    from ..kernels.token_stats import Head

    layer = model.get_output_embeddings()
    if getattr(layer, "weight", None) is None or model.base_model is model:
        return []
    config = model.config.get_text_config()
    said = {name: getattr(config, name, None) for name in ("logit_scale", "logits_scaling", "lm_head_multiplier")}
    known = {name: value for name, value in said.items() if isinstance(value, int | float) and value}
    scales = [1.0, *map(float, known.values())]
    if "logits_scaling" in known:  # Granite and MiniCPM divide by it, others multiply
        scales.append(1 / known["logits_scaling"])
    cap = getattr(config, "final_logit_softcapping", None)
    bias = getattr(layer, "bias", None)
    return [
        Head(layer.weight, bias, softcap, scale)
        for softcap in ((float(cap), None) if cap else (None,))
        for scale in dict.fromkeys(scales)
    ]


def _apply(head: Head, hidden: torch.Tensor) -> torch.Tensor:
    """Logits by the definition of `Head`."""
    import torch

    logits = head.scale * (hidden @ head.weight.T)
    logits = logits if head.bias is None else logits + head.bias
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


# --- numbers per token


def statistics(network: Network, observer: Network | None, batch: Batch, *, moments: bool, rank: bool) -> TokenStats:
    """Of the predictions that the batch asks for, in its order, on the device."""
    from ..kernels.token_stats import Head, token_stats

    if network.head is None or (observer is not None and observer.head is None):
        return _by_logits(network, observer, batch, moments=moments, rank=rank)
    put = network.put
    ids, asked, targets = put(batch.ids), put(batch.asked), put(batch.targets)
    positions = None if batch.positions is None else put(batch.positions)
    hidden = network.hidden(ids, positions)[asked]
    if observer is None:
        return token_stats(hidden, network.head, targets, moments=moments, rank=rank)
    assert observer.head is not None
    rows = min(network.head.weight.shape[0], observer.head.weight.shape[0])
    mine, its = (
        Head(h.weight[:rows], None if h.bias is None else h.bias[:rows], h.softcap, h.scale)
        for h in (network.head, observer.head)
    )
    seen = observer.hidden(ids, positions)[asked]
    return token_stats(hidden, mine, targets, moments=moments, rank=rank, observer=(seen, its))


def _by_logits(network: Network, observer: Network | None, batch: Batch, *, moments: bool, rank: bool) -> TokenStats:
    """The same from the models' own logits, a few rows at a time. Batches are never packed here."""
    import torch

    from ..kernels.token_stats import TokenStats

    put = network.put
    rows, length = batch.ids.shape
    vocabulary = network.model.get_output_embeddings().weight.shape[0]
    share = max(1, _LOGITS // (vocabulary * length))
    found = []
    for start in range(0, rows, share):
        ids = put(batch.ids[start : start + share])
        inside = (batch.asked >= start * length) & (batch.asked < (start + share) * length)
        asked = put(batch.asked[inside] - start * length)
        targets = put(batch.targets[inside])
        logits = network.logits(ids)
        seen = None if observer is None else observer.logits(ids)
        for at in range(0, len(asked), _ROWS):
            chosen = asked[at : at + _ROWS]
            other = None if seen is None else seen[chosen]
            found.append(_of_logits(logits[chosen], targets[at : at + _ROWS], other, moments=moments, rank=rank))
    logprob, *rest = (None if parts[0] is None else torch.cat(parts) for parts in zip(*found, strict=True))
    assert logprob is not None
    return TokenStats(logprob, *rest)


def _of_logits(
    logits: torch.Tensor, targets: torch.Tensor, observer: torch.Tensor | None, *, moments: bool, rank: bool
) -> TokenStats:
    """Definitions as in kernels/token_stats.py."""
    import torch

    from ..kernels.token_stats import TokenStats

    size = logits.shape[1] if observer is None else min(logits.shape[1], observer.shape[1])
    raw = logits[:, :size].float()
    logs = raw.log_softmax(-1)
    mine = torch.zeros_like(logs, dtype=torch.bool).scatter_(1, targets[:, None], True)
    place = None
    if rank:
        place = 1 + ((raw > raw[mine][:, None]) & ~mine).sum(-1, dtype=torch.int32)

    def moment(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inside = weights != 0  # an entry without probability says nothing, whatever its logarithm
        mean = torch.where(inside, weights * logs, 0).sum(-1)
        return mean, torch.where(inside, weights * (logs - mean[:, None]).square(), 0).sum(-1)

    mean, variance = moment(logs.exp()) if moments else (None, None)
    cross, spread = moment(observer[:, :size].float().softmax(-1)) if observer is not None else (None, None)
    return TokenStats(logs[mine], mean, variance, place, cross, spread)
