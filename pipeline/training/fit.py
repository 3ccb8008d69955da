"""From labelled texts to a model with its figures and its card: prepare, train, evaluate, write.

Invariant: equal texts, labels and parameters give three equal files, byte for byte: no clock, no machine, no path is in
them. They appear when all is done, or not at all; rows read = trained on + held out + each reason of being left out.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...scorers.base import ModelError
from ...scorers.fasttext_train import Params, train
from ...scorers.model_files import fingerprint
from ...stages.errors import RecipeError, did_you_mean
from .figures import figures, warnings_of
from .labelled import check_labels
from .model_card import render_card
from .prepare import Cap, Parts, prepare
from .probe import Probe

TEST_SHARE = 0.1
DIGITS = 9  # of the figures in the files: float32 scores stay apart

Tell = Callable[[str], None]


def fit(
    table: pa.Table,
    out: str | Path,
    params: Params,
    *,
    test_share: float = TEST_SHARE,
    cap: Cap = None,
    positive: str | None = None,
    by: Sequence[str] = (),
    probe: Probe | None = None,
    files: Sequence[Mapping[str, Any]] = (),
    left_out: Mapping[str, int] | None = None,
    warnings: Sequence[str] = (),
    notes: Sequence[str] = (),
    more: Callable[[Path], Mapping[str, Any]] | None = None,
    page: Callable[[Mapping[str, Any]], bytes] | None = None,
    force: bool = False,
    tell: Tell = lambda line: None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Trains on a part of the table, evaluates on the held-out part, writes OUT, OUT.json and OUT.md; returns the facts.

    table: text (large_string) and label (string), without nulls, and the string columns of `by`. `cap`: texts of each
    label that are trained on at most, a number or `down` (as many as the rarest label has), drawn by hash; None: all.
    `positive`: the label that cuts and false positives speak of; by default `1`, if there are two labels.
    `left_out`: rows that the caller read and left out, by reason; `files`: what it read; `warnings`, `notes` (for the
    card: how the labels came about) in plain words; `more(model)`: further members of OUT.json, its `warnings` beside the
    others; `page(facts)`: OUT.html, if there is to be one.

    Raises RecipeError where nothing can be trained from this, or OUT exists and not `force`.
    """
    endings = (".json", ".md", *((".html",) if page else ()), "")
    out = checked_out(out, force, endings)
    check_labels(table["label"])
    tell(f"{len(table):,} texts: finding duplicates")
    parts = prepare(table, test_share, cap, left_out or {})
    names = sorted(pc.unique(parts.train["label"]).to_pylist())
    if len(names) < 2:
        had = f"all have the label {names[0]}" if names else "none is left"
        raise RecipeError(
            f"of {len(table):,} texts {len(parts.train):,} are to train on, and {had}: give texts of two labels"
        )
    positive = positive_label_of(names, positive)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}.", suffix=".tmp", dir=out.parent))
    try:
        model = folder / out.name
        tell(f"training on {len(parts.train):,} texts")
        codes = pc.index_in(parts.train["label"], pa.array(names)).to_numpy().astype(np.int32)
        training = _trained(parts.train["text"], codes, names, params, model, progress)
        tell(f"evaluating on {len(parts.test):,} texts")
        facts: dict[str, Any] = {
            "model": {"file": out.name, "bytes": model.stat().st_size, "xxh3_128": fingerprint(model)},
            "tamis": version("tamis"),
            "positive": positive,
            "parameters": asdict(params),
            "test_share": test_share,
            "cap": cap,
            "files": [dict(one) for one in files],
            "rows": parts.rows,
            "labels": _counts(names, parts),
            "training": {k: v for k, v in training.items() if k not in ("seconds", "labels")},
            **figures(model, parts, positive, by, probe),
            "warnings": list(warnings),
            "notes": list(notes),
        }
        if more is not None:
            told = dict(more(model))
            facts["warnings"] += told.pop("warnings", [])
            facts |= told
        facts["warnings"] += warnings_of(facts)
        facts = _rounded(facts)
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        _named(model, ".json").write_text(f"{text}\n", encoding="utf-8")
        _named(model, ".md").write_bytes(render_card(facts))
        if page is not None:
            _named(model, ".html").write_bytes(page(facts))
        for ending in endings:  # the model last: where it is, its card is
            os.replace(_named(model, ending), _named(out, ending))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return facts


def checked_out(out: str | Path, force: bool, endings: Sequence[str] = (".json", ".md", "")) -> Path:
    """The path to write to, with these endings. RecipeError where it cannot be written, or something is there and not `force`."""
    if "://" in str(out):
        raise RecipeError(f"--out {out}: a model is written to a local file; copy it from there")
    path = Path(out).expanduser()
    if path.is_dir():
        raise RecipeError(f"--out {out}: is a folder; name a file, such as {path.name}/model.bin")
    there = [one for one in (_named(path, ending) for ending in endings) if one.exists()]
    if there and not force:
        raise RecipeError(f"--out {out}: {there[0].name} exists; --force overwrites the model and what lies beside it")
    return path


def positive_label_of(labels: Sequence[str], asked: str | None) -> str | None:
    """The label that cuts, calibration and probes speak of: the one asked for, else `1` of two labels, else none.
    RecipeError where no text has the one asked for."""
    if asked is None:
        return "1" if len(labels) == 2 and "1" in labels else None
    if asked not in labels:
        raise RecipeError(f"--positive-label {asked}: no text to train on has this label.{did_you_mean(asked, labels)}")
    return asked


def _trained(
    texts: pa.ChunkedArray, codes: np.ndarray, names: Sequence[str], params: Params, path: Path, progress: Any
) -> dict[str, Any]:
    try:
        return train(texts, codes, names, params, path, progress=progress)
    except ModelError as error:
        raise RecipeError(str(error)) from error


def _counts(names: Sequence[str], parts: Parts) -> list[dict[str, Any]]:
    """Texts of each label, the most frequent first."""
    trained, held = (dict(_value_counts(part["label"])) for part in (parts.train, parts.test))
    found = [{"label": name, "train": trained.get(name, 0), "held_out": held.get(name, 0)} for name in names]
    return sorted(found, key=lambda one: (-one["train"], one["label"]))


def _value_counts(column: pa.ChunkedArray) -> Iterator[tuple[str, int]]:
    for one in column.value_counts().to_pylist():
        yield one["values"], one["counts"]


def _named(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _rounded(one) for key, one in found.items()}
    if isinstance(found, list | tuple):
        return [_rounded(one) for one in found]
    return round(found, DIGITS) if isinstance(found, float) else found
