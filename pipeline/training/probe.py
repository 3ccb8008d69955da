"""False positives by identity: how often a classifier takes harmless sentences for its positive label because they name
somebody.

Invariant: a sentence counts for every term that it contains as words and that lies in no longer term of it; only
sentences that do not have the positive label count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...stages.errors import RecipeError
from .labelled import Labelled
from .metrics import auc

# The identity terms of the template sentences by which Dixon et al. 2018 (Measuring and Mitigating Unintended Bias in Text
# Classification) test toxicity models, as published with their code.
IDENTITY_TERMS = tuple(
    re.findall(
        "[^/]+",
        "lesbian/gay/bisexual/transgender/trans/queer/lgbt/lgbtq/homosexual/straight/heterosexual/male/female/nonbinary/african/"
        "african american/black/white/european/hispanic/latino/latina/latinx/mexican/canadian/american/asian/indian/"
        "middle eastern/chinese/japanese/christian/muslim/jewish/buddhist/catholic/protestant/sikh/taoist/old/older/young/"
        "younger/teenage/millenial/middle aged/elderly/blind/deaf/paralyzed",
    )
)


@dataclass(frozen=True)
class Probe:
    """Sentences (large_string, no nulls). `negative`: bool[n], those that do not have the positive label. `rows`, `terms`:
    int64, which sentence has which of `names`. `files` and `left_out`: as of `labelled.Labelled`."""

    texts: pa.ChunkedArray
    negative: np.ndarray
    rows: np.ndarray
    terms: np.ndarray
    names: tuple[str, ...]
    files: tuple[Mapping[str, Any], ...] = ()
    left_out: Mapping[str, int] | None = None


def make_probe(
    found: Labelled, positive: str, labels: Sequence[str], column: str | None = None, terms: Sequence[str] | None = None
) -> Probe:
    """A probe of labelled sentences. Terms: the values of a column, or these, or IDENTITY_TERMS, looked for in the texts.
    RecipeError where there is no sentence, or none has a label that the model will know (`labels`)."""
    texts, given = found.table["text"], found.table["label"]
    if not len(texts):
        raise RecipeError("--probe: there is no sentence with a text and a label")
    theirs = pc.unique(given).to_pylist()
    if not set(theirs) & set(labels):
        raise RecipeError(
            f"--probe: its labels are {', '.join(sorted(theirs)[:10])}, those of the training {', '.join(sorted(labels)[:10])}; "
            "--probe-label names their column"
        )
    if column is not None:
        values = found.table[column].combine_chunks().dictionary_encode()
        rows, names = np.flatnonzero(np.asarray(values.is_valid())), tuple(values.dictionary.to_pylist())
        numbers = values.indices.drop_null().to_numpy().astype(np.int64)
    else:
        names = tuple(terms) if terms is not None else IDENTITY_TERMS
        rows, numbers = terms_of(texts, names)
    harmless = np.asarray(pc.not_equal(given, positive))
    return Probe(texts, harmless, rows, numbers, names, found.files, found.left_out)


def read_terms(file: str) -> list[str]:
    """The lines of a text file, without blank ones. RecipeError where there are none."""
    try:
        lines = Path(file).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"--probe-terms {file}: cannot be read: {error}") from error
    terms = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not terms:
        raise RecipeError(f"--probe-terms {file}: holds no term; write one a line")
    return terms


def probe_facts(probe: Probe, scores: np.ndarray, cuts: Sequence[float]) -> dict[str, Any]:
    """What a model says of the sentences. scores: float[n] of the positive label; one without (NaN) counts as 0."""
    scores = np.nan_to_num(scores, nan=0.0)
    harmless = probe.negative[probe.rows]
    return {
        "files": [dict(one) for one in probe.files],
        "left_out": dict(probe.left_out or {}),
        "rows": len(scores),
        "negatives": int(probe.negative.sum()),
        "auc": auc(scores, ~probe.negative),
        "cuts": [float(cut) for cut in cuts],
        "rates": [float((scores[probe.negative] >= cut).mean()) if probe.negative.any() else None for cut in cuts],
        "terms": false_positives(scores, probe.rows[harmless], probe.terms[harmless], probe.names, cuts),
    }


def terms_of(texts: pa.ChunkedArray, terms: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(rows, numbers of terms), int64: each pair once. Case does not count; a term begins and ends at a word's end."""
    numbers = {" ".join(term.lower().split()): number for number, term in enumerate(terms)}
    longest = sorted(numbers, key=lambda term: (-len(term), term))
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)")
    found = [
        (row, numbers[term])
        for row, text in enumerate(texts.to_pylist())
        for term in sorted(set(pattern.findall(" ".join(text.lower().split()))))
    ]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def false_positives(
    scores: np.ndarray, rows: np.ndarray, terms: np.ndarray, names: Sequence[str], cuts: Sequence[float]
) -> list[dict[str, Any]]:
    """For each term, the highest rate at the first cut first: term, rows, mean_score, and `rates` (share of its sentences
    that score at least each cut). scores: float[n] of sentences without the positive label; rows and terms: of
    `terms_of`. Terms that no sentence has are left out."""
    found = []
    for number, name in enumerate(names):
        own = scores[rows[terms == number]].astype(np.float64)
        if len(own):
            rates = [float((own >= cut).mean()) for cut in cuts]
            found.append({"term": name, "rows": len(own), "mean_score": float(own.mean()), "rates": rates})
    return sorted(found, key=lambda one: ([-rate for rate in one["rates"]], -one["mean_score"], one["term"]))
