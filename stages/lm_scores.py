"""Measure: what a causal language model says of a text: perplexity, bits per character, and what else one pass gives.

Invariant: every token is scored exactly once, after the longest stretch of its own text that the window holds; what else
is in a batch moves nothing beyond rounding. Undefined values are null. Nothing is decided here.
"""

from __future__ import annotations

import importlib.util
import math
import re
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, WithJsonSchema, field_validator, model_validator

from .arrow import one_array
from .base import HUB_FILES, Column, Resources, Stage, StageConfig
from .errors import RecipeError, SetupError, did_you_mean

if TYPE_CHECKING:
    from ..scorers.causal_lm import CausalLM, Tokens
    from ..scorers.lm_files import LMFacts

PRESETS = {"preselect": (1900, 512)}  # window, stride of the published losses (Shum et al. 2025)
COUNTS = {
    "n_tokens": "tokens of the text, the start token not among them",
    "n_scored": "tokens that have a probability: all of them, or with start_token: none all but the first",
}
SCORES = {
    "nll": "negative log likelihood of the text, in nats: the sum over its scored tokens",
    "ppl": "perplexity: e to the nll per scored token",
    "bpc": "bits per character (Unicode code point): nll / (characters * ln 2); comparable between tokenizers",
    "entropy": "mean entropy of the model's predictions, in nats",
    "fast_detect": "Fast-DetectGPT's discrepancy (Bao et al. 2024): how far the log likelihood lies above the expected one, "
    "in standard deviations; high: like machine-written text. With an observer, what it expects",
    "lastde": "Lastde (Xu et al. 2025), s=3, 10 n bins, tau 5: mean log probability over the spread of diversity entropies "
    "of the sequence; high: like machine-written text",
    "log_rank": "mean natural log of the rank of each token, 0 where it always was the most probable",
    "lrr": "log-likelihood log-rank ratio (Su et al. 2023): |sum of log probabilities| / sum of log ranks",
    "binoculars": "Binoculars (Hans et al. 2024): log perplexity over the cross-entropy between observer and model; low: "
    "like machine-written text. Needs an observer",
}
SHARES = {
    "min_k": "Min-K% (Shi et al. 2024): mean log probability of the {} % least probable tokens; high: like seen text",
    "min_k_pp": "Min-K%++ (Zhang et al. 2025): mean of the {} % smallest standardised log probabilities; high: like seen text",
}
GPUS_SCHEMA = {"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0}]}
BYTES_PER_TOKEN = 4.2  # of English web text, for an estimate
PROBE = 512  # side of the matrices that a CPU multiplies to tell how fast it is


class LmScoresConfig(StageConfig):
    """What `use: lm_scores` takes."""

    model: str = Field(
        min_length=1, description="folder of a Hugging Face causal LM, or its hub id: org/name, org/name@revision"
    )
    observer: str | None = Field(
        default=None,
        min_length=1,
        description="a second model with the same tokenizer: binoculars, and fast_detect by what it expects",
    )
    columns: tuple[str, ...] = Field(
        default=("n_tokens", "n_scored", "nll", "ppl", "bpc"),
        min_length=1,
        description="which are measured: n_tokens, n_scored, nll, ppl, bpc, entropy, min_k_20, min_k_pp_20 (any percentage), "
        "fast_detect, lastde, log_rank, lrr, binoculars",
    )
    preset: Literal["preselect"] | None = Field(
        default=None, description="windows as published: preselect, 1900 tokens in strides of 512"
    )
    window: int | None = Field(
        default=None, ge=2, description="tokens that are read at once (default: what the model can, at most 2048)"
    )
    stride: int | None = Field(
        default=None, ge=1, description="new tokens of every further window of a long text (default: half a window)"
    )
    start_token: str = Field(
        default="auto",
        min_length=1,
        description="stands before each text and is no target: auto (the model's bos, else its eos), none, or a token",
    )
    remote_code: bool = Field(default=False, description="run Python code that lies beside the model; read it first")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="numbers that the model calculates with: bfloat16 on a GPU, float32 on a CPU"
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"] = Field(
        default="auto", description="implementation of attention: flash_attention_2 where it is installed, else sdpa"
    )
    gpus: Annotated[float | Literal["auto"], WithJsonSchema(GPUS_SCHEMA)] = Field(
        default="auto",
        description="GPUs of one worker: 1, a share such as 0.5, 0 (the CPU), or auto: 1 where there are any, else the CPU",
    )
    cpus: float = Field(default=1, gt=0, description="CPUs of one worker")
    actors: tuple[int, int] | None = Field(
        default=None, description="fewest and most workers, for a cluster that scales itself (default: as many as fit)"
    )
    batch_tokens: int | None = Field(
        default=None, ge=1, description="tokens that go through the model together; halved where memory runs out"
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _whole_or_share(cls, gpus: Any) -> Any:
        if gpus == "auto":
            return gpus
        if isinstance(gpus, bool) or not isinstance(gpus, (int, float)) or gpus < 0 or not math.isfinite(gpus):
            raise ValueError("auto, 0, 1, a share below 1, or more whole ones")
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g}: a share below 1, or whole ones")
        return float(gpus)

    @field_validator("columns")
    @classmethod
    def _known(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for name in columns:
            if _doc(name) is None:
                known = [*COUNTS, *SCORES, *(f"{share}_20" for share in SHARES)]
                raise ValueError(f"{name}: no such score.{did_you_mean(name, known)}")
            if columns.count(name) > 1:
                raise ValueError(f"{name} is listed twice")
        return columns

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if "binoculars" in self.columns and self.observer is None:
            raise ValueError("binoculars: needs observer: MODEL")
        if self.observer is not None and not {"binoculars", "fast_detect"} & {*self.columns}:
            raise ValueError("observer: columns that need it are binoculars and fast_detect: list one, or leave it out")
        for key in ("window", "stride"):
            if self.preset is not None and getattr(self, key) is not None:
                raise ValueError(f"{key}: comes with preset: {self.preset}; leave one of the two out")
        if self.window is not None and (self.stride or 0) > self.window:
            raise ValueError(
                f"stride: {self.stride} is more than the window of {self.window}: tokens would be left out"
            )
        if self.dtype not in ("auto", "float32") and self.gpus == 0:
            raise ValueError(f"dtype: {self.dtype} is for GPUs: give gpus, or leave dtype out")
        if self.actors is not None and not 1 <= self.actors[0] <= self.actors[1]:
            raise ValueError("actors: fewest and most, from 1 up: [1, 8]")
        return self

    @property
    def windows(self) -> tuple[int | None, int | None]:
        return PRESETS[self.preset] if self.preset else (self.window, self.stride)


class LmScores(Stage):
    """Scores of a causal language model, all from one pass: perplexity, bits per character, Min-K%, Fast-DetectGPT and more.

    A start token stands before each text, so that every character is scored; it is no target. Texts longer than `window`
    are read in overlapping windows, in which each token is scored once. Literal special tokens in a text are plain text.
    Values are equal within 1e-4 relative (float32) or 1e-2 (bfloat16, float16), whatever a text is batched with. Null: no
    scored token, or the score is undefined for so few of them. Definitions and caveats: docs/language-models.md.
    """

    Config = LmScoresConfig
    config: LmScoresConfig
    cost: ClassVar[Literal["cheap", "expensive"]] = "expensive"
    exact = False
    not_in_key: ClassVar[frozenset[str]] = frozenset(
        {"model", "observer", "attention", "gpus", "cpus", "actors", "batch_tokens"}
    )

    def __init__(self, config: LmScoresConfig, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        auto = config.gpus == "auto"
        gpus = 1.0 if config.gpus == "auto" else config.gpus
        held = Resources(cpus=config.cpus, gpus=gpus, actors=True, fallback=auto, pool=config.actors)
        vars(self).update(resources=held)  # of this stage alone

    @property
    def models(self) -> tuple[str, ...]:
        return (self.config.model,) if self.config.observer is None else (self.config.model, self.config.observer)

    @property
    def hub_files(self) -> tuple[str, ...]:
        return HUB_FILES

    @property
    def scored_by(self) -> tuple[str, ...]:
        return tuple(re.sub(r"@[^/]*$", "", model.rstrip("/")).rpartition("/")[2] for model in self.models)

    @property
    def adds(self) -> tuple[Column, ...]:
        return tuple(
            Column(name, pa.int32() if name in COUNTS else pa.float32(), _doc(name) or "")
            for name in self.config.columns
        )

    # --- before the run

    def check(self, schema: pa.Schema) -> None:
        from ..scorers.base import ModelError
        from ..scorers.lm_files import check_pair

        try:
            facts = self._facts(self.config.model)
            if self.config.observer is not None:
                places = [self.local(model) for model in self.models]
                check_pair(facts, self._facts(self.config.observer), *places)
        except ModelError as error:
            raise RecipeError(f"model: {error}") from error
        window = self.config.windows[0]
        if window is not None and facts.positions is not None and window > facts.positions:
            raise RecipeError(f"window: the model reads {facts.positions} tokens at once, not {window}")

    def _facts(self, model: str) -> LMFacts:
        from ..scorers.lm_files import read_facts

        config = self.config
        return read_facts(self.local(model), remote_code=config.remote_code, start_token=config.start_token)

    def warm(self) -> None:
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise SetupError(f"{self.name}: needs {package}: pip install 'tamis[lm]'")
        from ..kernels import token_scores  # noqa: F401  compiled when it is imported

    def without_gpu(self) -> str:
        count = sum(self._facts(model).parameters for model in self.models)
        per_second = _flops() / (2 * count)  # of one CPU; attention comes on top
        days = 1e9 / BYTES_PER_TOKEN / per_second / 86_400
        return (
            f"{self.name} has {count / 1e6:,.0f} M parameters: about {per_second:,.0f} tokens a second and CPU of this "
            f"machine, {days:,.1f} CPU days for 1 GB of English text; a smaller model, `where`, or --sample make it less"
        )

    # --- the run

    def measure(self, batch: pa.Table) -> pa.Table:
        return self.measure_prepared(batch, self.prepare(batch))

    def prepare(self, batch: pa.Table) -> Tokens:
        return self._loaded().tokenise(pc.fill_null(one_array(batch["text"]), ""))

    def measure_prepared(self, batch: pa.Table, prepared: Tokens) -> pa.Table:
        from ..kernels.token_scores import reads, token_scores

        names = [name for name in self.config.columns if name in SCORES or _share(name)]
        seen = self.config.observer is not None
        wanted = frozenset().union(*(reads("nll" if name == "bpc" else name, observer=seen) for name in names))
        table = self._loaded().measure(prepared, moments=bool(wanted & {"mean", "variance"}), rank="rank" in wanted)
        texts = one_array(batch["text"])
        found: dict[str, np.ndarray] = token_scores(
            [*dict.fromkeys("nll" if name == "bpc" else name for name in names)],
            table.offsets,
            table.logprob,
            *(table.mean, table.variance, table.rank, table.cross_mean, table.cross_variance),
        )
        if "bpc" in names:
            chars = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
            found["bpc"] = found["nll"] / np.maximum(chars, 1) / math.log(2)
        absent = pc.is_null(texts).to_numpy(zero_copy_only=False)
        counts = {"n_tokens": np.diff(prepared.offsets), "n_scored": np.diff(table.offsets)}
        columns = {}
        for name in self.config.columns:
            if name in counts:
                columns[name] = pa.array(counts[name].astype(np.int32), mask=absent)
            else:
                values = found[name].astype(np.float32)  # what is too large for it is infinite, and null
                columns[name] = pa.array(values, mask=absent | ~np.isfinite(values))
        return pa.table(columns)

    def _loaded(self) -> CausalLM:
        from ..scorers.base import ModelError, NoDeviceError

        config = self.config
        try:
            from ..scorers.causal_lm import CausalLM

            return CausalLM.load(
                self.local(config.model),
                observer=None if config.observer is None else self.local(config.observer),
                device="auto" if config.gpus == "auto" else "cuda" if config.gpus else "cpu",
                dtype=config.dtype,
                attention=config.attention,
                window=config.windows[0],
                stride=config.windows[1],
                start_token=config.start_token,
                remote_code=config.remote_code,
                batch_tokens=config.batch_tokens,
                threads=max(1, int(config.cpus)),
            )
        except ModelError as error:
            raise RecipeError(f"{self.name}: model: {error}") from error
        except NoDeviceError as error:
            raise SetupError(f"{self.name}: gpus: {config.gpus}: {error}; say gpus: 0 to use the CPU") from error
        except ImportError as error:
            raise SetupError(f"{self.name}: needs torch and transformers: pip install 'tamis[lm]' ({error})") from error


def _share(name: str) -> tuple[str, int] | None:
    """('min_k_pp', 20) of 'min_k_pp_20'."""
    match = re.fullmatch(r"(min_k|min_k_pp)_([1-9]\d?|100)", name)
    return (match[1], int(match[2])) if match else None


def _doc(name: str) -> str | None:
    share = _share(name)
    return SHARES[share[0]].format(share[1]) if share else COUNTS.get(name) or SCORES.get(name)


def _flops() -> float:
    """Floating-point operations a second of one CPU here, in the multiplication of float32 matrices."""
    left = right = np.ones((PROBE, PROBE), np.float32)
    np.matmul(left, right)  # the first one starts threads
    began = time.process_time()
    for _ in range(8):
        np.matmul(left, right)
    return 8 * 2 * PROBE**3 / max(time.process_time() - began, 1e-9)
