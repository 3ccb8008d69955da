"""How well a document's source and language alone predict what a classifier says of it.

A score that merely sorts sources is a known trap: it looks like quality, and a cut by it is a choice of sources. The area
under the ROC curve of a predictor that knows the group of a document and nothing else says how far that goes: 0.5 means
that the score does not follow the groups, 1 that nothing else decides on which side of the cut a document falls.

Invariant: figures come from counts per group alone, so that they are the same for any order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..output import Output, quoted_name
from .funnel import group_columns
from .rows import VIEW, Rows

LEAST = 10  # documents of a group; smaller ones count as one group, else each would predict itself
MARKED = 0.8
CUTS = (("half", 0.5), ("tenth", 0.9))  # the better half, the best tenth


@dataclass(frozen=True)
class Bias:
    """AUC of the groups' shares as predictor of being in the better half and in the best tenth by a score; None where
    that is not defined: one group, or ties leave nobody on one side."""

    column: str
    by: str
    groups: int
    documents: int
    half: float | None
    tenth: float | None

    @property
    def marked(self) -> bool:
        return max(self.half or 0, self.tenth or 0) >= MARKED


def classifier_columns(output: Output) -> list[str]:
    """Columns of probabilities that stages with a model measured; of language identification they are the language."""
    models, uses = output.manifest.get("models", {}), {stage["name"]: stage["use"] for stage in output.stages}
    scoring = {name for name in models if uses.get(name) != "language"}
    found = [c["name"] for c in output.manifest["columns"] if c["stage"] in scoring and c["type"] == "float"]
    return [name for name in found if name in output.columns]


def biases(rows: Rows) -> list[Bias]:
    """For every classifier column, by every grouping column and by all of them together. Empty where there are none."""
    output = rows.output
    by = [name for name in group_columns(output) if name != "source_file"]
    sets = [[name] for name in by] + ([by] if len(by) > 1 else [])
    found = [_bias(output, column, names) for column in classifier_columns(output) for names in sets]
    return [bias for bias in found if bias is not None]


def _bias(output: Output, column: str, by: Sequence[str]) -> Bias | None:
    score = quoted_name(column)
    keys = ", ".join(f"{quoted_name(name)}::VARCHAR" for name in by)
    cuts = output.rows(
        f"SELECT {', '.join(f'quantile_disc({score}, {q}) AS {name}' for name, q in CUTS)} FROM {VIEW} "
        f"WHERE {score} IS NOT NULL"
    )[0]
    if cuts["half"] is None:
        return None
    above = ", ".join(f"count(*) FILTER ({score} > {float(cuts[name])!r}::FLOAT) AS {name}" for name, _ in CUTS)
    counts = output.connection.execute(
        f"SELECT count(*) AS documents, {above} FROM {VIEW} WHERE {score} IS NOT NULL GROUP BY {keys}"
    ).fetchnumpy()
    documents = counts["documents"].astype(np.int64)
    aucs = [grouped_auc(counts[name].astype(np.int64), documents) for name, _ in CUTS]
    return Bias(column, " and ".join(by), len(documents), int(documents.sum()), *aucs)


def grouped_auc(positive: np.ndarray, documents: np.ndarray) -> float | None:
    """AUC of a predictor that gives every document its group's share of positives. int64 arrays, one entry per group;
    groups of fewer than LEAST documents are one. None where a side is empty or there is one group."""
    small = documents < LEAST
    positive = np.append(positive[~small], positive[small].sum())
    documents = np.append(documents[~small], documents[small].sum())
    positive, documents = positive[documents > 0], documents[documents > 0]
    negative = documents - positive
    if len(documents) < 2 or not positive.sum() or not negative.sum():
        return None
    rate = positive / documents
    _, level = np.unique(rate, return_inverse=True)
    ups = np.bincount(level, positive.astype(np.float64))
    downs = np.bincount(level, negative.astype(np.float64))
    below = np.cumsum(downs) - downs
    return float((ups * (below + downs / 2)).sum() / (ups.sum() * downs.sum()))
