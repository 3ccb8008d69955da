"""The figures of a model card: a trained model scored on what was held out, by group, and on probe sentences.

Invariant: the scores are those that the stage `fasttext` measures with this model, so the figures hold for its column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .evaluation import auc_of_group, by_group, evaluate
from .labelled import pieces
from .prepare import Parts
from .probe import Probe, probe_facts

FEW = 50  # held-out rows of a label: figures over fewer say little
TELLING = 0.95  # AUC of a column alone from which on a warning is due
TAKEN = 0.1  # share of a probe's harmless sentences from which on a warning is due
PIECE = 32_000_000  # bytes of text that are scored at a time


def scores_of(path: Path, texts: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(float32[n, labels], probabilities as the stage `fasttext` measures them, NaN where there is none; the labels)."""
    from ...scorers.fasttext import FastText

    model = FastText.load(path)
    found = [np.zeros((0, len(model.labels)), np.float32)]
    for piece in pieces(texts, PIECE):
        scored = model.score(piece)
        found.append(np.stack([column.to_numpy() for column in scored.columns], axis=1))
    return np.concatenate(found), model.labels


def figures(model: Path, parts: Parts, positive: str | None, by: Sequence[str], probe: Probe | None) -> dict[str, Any]:
    """held_out, groups and probe of the facts; each None where it cannot be had or was not asked for."""
    found: dict[str, Any] = {"held_out": None, "groups": None, "probe": None}
    scores, labels = scores_of(model, parts.test["text"])
    number = None if positive is None else labels.index(positive)
    if len(parts.test):
        actual = pc.index_in(parts.test["label"], pa.array(labels)).to_numpy()
        found["held_out"] = evaluate(scores, actual, labels, number)
    if number is None or positive is None:
        return found
    own = scores[:, number]
    known = ~np.isnan(own)
    test, ones = parts.test.filter(pa.array(known)), np.asarray(pc.equal(parts.test["label"], positive))[known]
    if by and len(test):
        train_ones = np.asarray(pc.equal(parts.train["label"], positive))
        found["groups"] = {
            name: {
                "auc_of_group": auc_of_group(parts.train[name], train_ones, test[name], ones),
                "groups": by_group(test[name], own[known], ones),
            }
            for name in by
        }
    if probe is not None:
        kept = found["held_out"] and found["held_out"]["cut_for_precision"]["at"]
        cuts = [0.5, *([kept["cut"]] if kept else [])]
        found["probe"] = probe_facts(probe, scores_of(model, probe.texts)[0][:, number], cuts)
    return found


def warnings_of(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["held_out"] is None:
        yield "nothing is held out: how good the model is, is not known"
        return
    rare = [one["label"] for one in facts["labels"] if one["held_out"] < FEW]
    if rare:
        shown = ", ".join(rare[:5]) + (", ..." if len(rare) > 5 else "")
        yield f"fewer than {FEW} held-out texts have the label {shown}: its figures say little"
    if facts["held_out"]["unscored"]:
        yield f"{facts['held_out']['unscored']:,} held-out texts have no score"
    probe = facts["probe"]
    if probe and probe["rates"][0] is not None and probe["rates"][0] > TAKEN:
        yield (
            f"{100 * probe['rates'][0]:.1f} % of the probe's sentences without the label {facts['positive']} are taken for it "
            "at 0.5: the model does not know such sentences; give it more texts without the label that are like them"
        )
    for name, found in (facts["groups"] or {}).items():
        alone = found["auc_of_group"]
        if alone is not None and alone >= TELLING:
            yield (
                f"{name} alone predicts the label with an AUC of {alone:.3f}: the model may have learned to tell the "
                f"values of {name} apart, and not what the label means; look at the figures within each of them"
            )
