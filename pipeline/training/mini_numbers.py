"""What came out of the mini chain, as lines for a terminal.

Invariant: every number is read from a file that the chain wrote; nothing is recomputed, rounded up or left out because
it is bad.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...stages.errors import SetupError
from ..output import Output
from .mini_parts import GROUPS

BAR = 40  # characters


@dataclass(frozen=True)
class Kept:
    """A part of the pool in the finished run: documents and characters read, and kept."""

    docs: int
    chars: int
    kept_docs: int
    kept_chars: int


def page(out: str) -> str:
    """All numbers. SetupError where `models`, `tamis train preselect` or `tamis run` has not ended in `out` yet."""
    folder = Path(out)
    mini, scorer = (_json(folder / name) for name in ("mini.json", "preselect.bin.json"))
    kept = kept_by_part(str(folder / "run"))
    lines = [*_abilities(mini), "", *_strength(scorer), "", *_agreement(scorer), "", *_kept(kept)]
    return "\n".join(lines) + "\n"


def kept_by_part(run: str) -> dict[tuple[str, bool], Kept]:
    """Of every (source, seen) of the pool, from the ledger of the finished run."""
    rows = Output(run).connection.execute(
        "SELECT source, seen, count(*), sum(chars_read), count(*) FILTER (decision = 'keep'), "
        "coalesce(sum(chars_read) FILTER (decision = 'keep'), 0) FROM ledger GROUP BY ALL"
    )
    return {(source, seen): Kept(*map(int, counts)) for source, seen, *counts in rows.fetchall()}


def over_base_rate(kept: dict[tuple[str, bool], Kept], group: str, seen: bool | None = None) -> dict[str, float]:
    """docs, chars: the group's share of what was kept, over its share of the pool; 1 is what a random draw gives."""
    pool = [(key[0], one) for key, one in kept.items() if seen in (None, key[1])]
    found = {}
    for unit in ("docs", "chars"):
        whole = sum(getattr(one, unit) for _, one in pool)
        all_kept = sum(getattr(one, f"kept_{unit}") for _, one in pool)
        part = sum(getattr(one, unit) for name, one in pool if name == group)
        part_kept = sum(getattr(one, f"kept_{unit}") for name, one in pool if name == group)
        found[unit] = (part_kept / all_kept) / (part / whole) if part and all_kept else float("nan")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise SetupError(f"{path}: not there yet; `make preselect-mini` is the whole chain, in order") from None


def _abilities(mini: dict[str, Any]) -> Iterator[str]:
    yield f"abilities: {mini['items']} cloze items; margin in bits a byte (chance 0), accuracy (chance 0.25)"
    for name, model in sorted(mini["models"].items(), key=lambda item: item[1]["margin"]):
        mix = ", ".join(f"{100 * share:.0f} % {group}" for group, share in model["mix"].items() if share)
        yield f"  {name:<10} {model['margin']:8.4f} {model['accuracy']:7.3f}   {model['parameters']:>9,} parameters; {mix}"


def _strength(scorer: dict[str, Any]) -> Iterator[str]:
    strength, pairs = scorer["preselect"]["strength"], scorer["preselect"]["pairs"]
    yield f"predictive strength: {scorer['preselect']['documents']:,} documents by pairs of models in order, of {pairs}"
    most = max(1, *(level["documents"] for level in strength["levels"]))
    for level in strength["levels"]:
        bar = "#" * round(BAR * level["documents"] / most)
        labels = [f"{level[name]:,} {name}" for name in ("positive", "negative") if level[name]]
        yield f"  {level['pairs']:>3} {level['documents']:>7,} {bar:<{BAR}} {', '.join(labels)}".rstrip()
    yield f"  in order by chance: {strength['perfect_by_chance']:.1f}"


def _agreement(scorer: dict[str, Any]) -> Iterator[str]:
    held_out = scorer["held_out"] or {}
    auc = held_out.get("auc")
    rank = scorer["preselect"]["agreement"]["spearman_strength"]
    yield f"scorer on documents that it was not trained on: AUC {_number(auc)}, rank correlation with strength {_number(rank)}"
    for warning in scorer.get("warnings", []):
        yield f"  warning: {warning}"


def _kept(kept: dict[tuple[str, bool], Kept]) -> Iterator[str]:
    yield "kept, as share of each part and as times its base rate (1.00: what a random draw keeps)"
    yield f"  {'':<10} {'documents':>10} {'kept':>7} {'docs':>9} {'chars':>9} {'unseen docs':>12} {'unseen chars':>13}"
    for group in GROUPS:
        own = [one for (name, _), one in kept.items() if name == group]
        docs, kept_docs = sum(one.docs for one in own), sum(one.kept_docs for one in own)
        rate, unseen = over_base_rate(kept, group), over_base_rate(kept, group, seen=False)
        figures = f"{rate['docs']:>9.2f} {rate['chars']:>9.2f} {unseen['docs']:>12.2f} {unseen['chars']:>13.2f}"
        yield f"  {group:<10} {docs:>10,} {kept_docs:>7,} {figures}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
