"""What a training says in the end: a few lines for the person who started it, from the facts in OUT.json.

Invariant: every number is one of the facts; names that came from files are shown with no character that could act on a
terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..terminal import place, plural, size, visible

WORST = 5  # terms of a probe that are shown


def summary(facts: Mapping[str, Any], out: str) -> Iterator[str]:
    """The lines. `out`: where the model lies, as it was given."""
    rows, labels = facts["rows"], facts["labels"]
    told = ", ".join(f"{visible(one['label'])} {one['train']:,}" for one in labels[:5]) + (
        ", ..." if len(labels) > 5 else ""
    )
    yield f"{place(out)}: {size(facts['model']['bytes'])}, {plural(len(labels), 'label')} ({told})"
    gone = [
        f"{n:,} {key.replace('_', ' ')}" for key, n in rows.items() if n and key not in ("read", "train", "held_out")
    ]
    yield f"rows       {rows['read']:,} read, {rows['train']:,} trained on, {rows['held_out']:,} held out" + "".join(
        f", {one}" for one in gone
    )
    found = facts["held_out"]
    if found:
        yield f"held out   {'; '.join(_figures(facts, found))}"
    for name, column in (facts["groups"] or {}).items():
        yield f"{visible(name):<9}  alone predicts the label with AUC {_number(column['auc_of_group'])}"
    probe = facts["probe"]
    if probe and probe["terms"]:
        worst = [f"{visible(one['term'])} {_number(one['rates'][0])}" for one in probe["terms"][:WORST]]
        yield f"probe      {_number(probe['rates'][0])} of {probe['negatives']:,} taken for {visible(facts['positive'])} at 0.5; most: {', '.join(worst)}"
    for warning in facts["warnings"]:
        yield f"note       {visible(warning)}"
    yield f"card       {place(out)}.md, figures {place(out)}.json"


def _figures(facts: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    if facts["positive"] is None:
        yield f"accuracy {_number(found['accuracy'])}"
    else:
        half = next(one for one in found["cuts"] if one["cut"] == 0.5)
        yield f"AUC {_number(found['auc'])}, average precision {_number(found['average_precision'])} of {visible(facts['positive'])}"
        yield f"at 0.5 precision {_number(half['precision'])}, recall {_number(half['recall'])}"
    yield f"calibration error {_number(found['calibration']['ece'])}"


def _number(found: float | None) -> str:
    return "not known" if found is None else f"{found:.3f}"
