"""Rows through every stage of a recipe in memory, none left behind: what `tamis try` and `api.apply` show.

Invariant: the stages are called by chain.py as a run calls them, each with a batch of its own, so that what one of them
decides hides nothing of what the later ones would measure and decide. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from .batch import VERDICT, Batch
from .chain import apply, where_mask
from .graph import BoundStage
from .plan import Part, Plan


@dataclass(frozen=True)
class Seen:
    """What one stage did with all rows. `counts`: as in receipts (in, ran, changed, rules ...). `columns`: what it added
    by full name, one entry per row. `before` and `after`: large_string texts. `fate`: the columns of chain.VERDICT, as
    if every row had come alive to this stage. `chosen`: the rows that its `where` let in, None for all. `verdicts`: of a
    stage that decides, if they were asked for, one boolean per rule and row; null where it is undecided or not chosen.
    `unknown`: columns that only the whole corpus can tell, null here."""

    bound: BoundStage
    counts: dict[str, Any]
    columns: dict[str, pa.Array]
    before: pa.Array
    after: pa.Array
    fate: pa.Table
    verdicts: pa.Table | None
    chosen: np.ndarray | None
    unknown: frozenset[str]


def walk(plan: Plan, text: pa.Array, columns: dict[str, pa.Array], *, judge: bool = False) -> Iterator[Seen]:
    """Every stage in order; with `judge` it gives `verdicts`. `text`: large_string without nulls; `columns`: system and
    input columns by canonical name, as long as the text.

    A resolve stage measures what it measures per document and passes everybody: its verdict, its columns and all that
    follows from these need the whole corpus (`unknown`).
    """
    known = dict(columns)
    unknown: set[str] = set()
    for index, bound in enumerate(plan.graph.stages):
        counts: dict[str, Any] = {}
        batch = _batch(text, known)
        kind = bound.stage.kind
        if kind != "resolve" or bound.stage.measured:
            apply(plan, [Part(index, "measure" if kind == "resolve" else kind)], batch, [counts])
        tag = [f"{bound.name}_pass"] if bound.entry.action == "tag" and kind in ("decide", "resolve") else []
        measured = set(bound.stage.measured)
        added: dict[str, pa.Array] = {}
        for column in bound.added:
            if kind == "resolve" and column.column.name not in measured:
                added[column.name] = pa.nulls(len(text), column.column.type)
                unknown.add(column.name)
            else:
                added[column.name] = batch.column(column.name)
        for name in tag:
            added[name] = pa.array(np.ones(len(text), np.bool_)) if kind == "resolve" else batch.column(name)
            if kind == "resolve":
                unknown.add(name)
        if unknown.intersection(bound.needs):
            unknown.update(added)
        known |= added
        after = batch.text()
        fate = batch.result(pa.schema(VERDICT), {})
        before = _batch(text, known)
        chosen = where_mask(bound, before)
        verdicts = _verdicts(bound, before, chosen) if judge and kind == "decide" else None
        yield Seen(bound, counts, added, text, after, fate, verdicts, chosen, frozenset(unknown))
        text = after


def _verdicts(bound: BoundStage, batch: Batch, chosen: np.ndarray | None) -> pa.Table:
    table = batch.table(bound.needs)
    if chosen is None:
        return bound.stage.decide(table)
    found = bound.stage.decide(table.filter(pa.array(chosen)))
    return found.take(pa.array(np.cumsum(chosen) - 1, mask=~chosen))


def _batch(text: pa.Array, columns: dict[str, pa.Array]) -> Batch:
    """An observing batch: a row that is dropped stays in sight."""
    rows = len(text)
    return Batch(rows, np.arange(rows), text, dict(columns), np.ones(rows, np.bool_))
