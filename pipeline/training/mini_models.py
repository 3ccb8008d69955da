"""The models of the mini chain: what each is trained on, its ability, and its loss on every document.

Invariant: a model is a function of the texts, its line in MODELS and the number of steps: each is trained and scored
in a process with one thread, so neither their number at a time nor their order moves a bit.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from ...scorers.tiny_lm import Schedule, Shape, TinyLM, train, use_one_thread
from .mini_cloze import Ability, Item, ability
from .mini_parts import GROUPS, PASSAGE, TRAINING_BYTES


@dataclass(frozen=True)
class Model:
    """`mix`: shares of the bytes of training, in the order of GROUPS (task, ordinary, scrambled)."""

    name: str
    shape: Shape
    mix: tuple[float, float, float]


# Models that differ in size alone are ordered alike by nearly every text, scrambled or not, and then strength says nothing
# about a document. Here the order differs from one kind of text to the next: who has seen less of the task's kind has
# seen more of something else, of ordinary text or of the task's words without their order.
MODELS = (
    Model("scrambled", Shape(64, 2, 4), (0.0, 0.3, 0.7)),
    Model("noisy", Shape(64, 2, 4), (0.3, 0.3, 0.4)),
    Model("half", Shape(64, 2, 4), (0.55, 0.25, 0.2)),
    Model("most", Shape(64, 2, 4), (0.8, 0.15, 0.05)),
    Model("task", Shape(80, 2, 4), (1.0, 0.0, 0.0)),
)


@dataclass(frozen=True)
class Trained:
    """A model that is done: `facts` of its training, its ability, `bpc` (float64, a value per document)."""

    model: Model
    facts: dict
    ability: Ability
    bpc: np.ndarray


@dataclass(frozen=True)
class _Job:
    model: Model
    texts: list[str]
    folder: str
    steps: int
    items: Sequence[Item]
    documents: Sequence[str]


def train_all(
    groups: dict[str, list[str]],
    items: Sequence[Item],
    documents: Sequence[str],
    folder: Path,
    *,
    steps: int,
    workers: int,
    told: Callable[[Trained], None],
) -> list[Trained]:
    """Trains MODELS on `groups` (texts by group), measures their ability on `items` and their loss on `documents`, and
    saves each below `folder`. `workers` processes; `told` hears of each model when it is done. Returns them in the order
    of MODELS."""
    jobs = [
        _Job(model, mixture(groups, model.mix), str(folder / model.name), steps, items, documents) for model in MODELS
    ]
    done = []
    # the dear ones first, so that the last to end is a cheap one
    jobs.sort(key=lambda job: -job.model.shape.layers * job.model.shape.hidden)
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        for trained in pool.imap_unordered(_run, jobs):
            told(trained)
            done.append(trained)
    order = {model.name: i for i, model in enumerate(MODELS)}
    return sorted(done, key=lambda trained: order[trained.model.name])


def mixture(groups: dict[str, list[str]], mix: Sequence[float]) -> list[str]:
    """Texts of each group until the shares of `mix` are met, TRAINING_BYTES in all or as much as the scarcest allows."""
    sizes = {group: sum(len(text.encode()) for text in groups[group]) for group in GROUPS}
    total = min([TRAINING_BYTES, *(sizes[group] / share for group, share in zip(GROUPS, mix, strict=True) if share)])
    chosen = []
    for group, share in zip(GROUPS, mix, strict=True):
        left = share * total
        for text in groups[group]:
            data = text.encode()[: int(left)]
            if not data:
                break
            chosen.append(data.decode(errors="ignore"))
            left -= len(data)
    return chosen


def _run(job: _Job) -> Trained:
    use_one_thread()
    seed = xxhash.xxh3_64_intdigest(job.model.name.encode()) >> 1
    texts = pa.array(job.texts, pa.large_string())
    facts = train(texts, job.folder, job.model.shape, Schedule(steps=job.steps), seed)
    model = TinyLM.load(job.folder, max_chars=PASSAGE)
    bpc = model.bits_per_char(pa.array(job.documents, pa.large_string()))
    return Trained(job.model, facts, ability(model, job.items), bpc)
