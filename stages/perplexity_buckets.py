"""Head, middle and tail by percentiles of the corpus itself: finds the cut-offs, freezes them, drops nobody.

Invariant: a document's bucket follows from its number, its group and the frozen cut-offs alone; equal numbers of one
group are in one bucket, and a bucket together with those before it never holds more than its percentile.

A cut-off is the number of the document at which the weight, summed from the lowest number up, first exceeds the
percentile; the buckets before it hold what is below it. So all documents with exactly that number go to the next bucket:
where many share it, the buckets before are smaller than asked (all numbers equal: all in the last one), never larger.

Phases: those of `_score_phases`; then freeze (one item), the facts, and verdict (a group of units).
With `from:` it is no resolve stage: it measures by the facts of an earlier run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ._buckets_config import PerplexityBucketsConfig
from ._by_score import ByScore
from ._cuts import Side, group_series, key_of, number_kind, score_keys, score_of
from ._score_phases import SERIES, lines, population, search
from ._selection import target
from .base import Column, Context, Kind, Runs, Stage, Task

SIDE: Side = "bottom"  # low numbers come first


class PerplexityBuckets(ByScore):
    """Sorts documents into buckets (head, middle, tail) by percentiles of a number such as perplexity, drops nobody.

    As CCNet does per language (Wenzek et al. 2020, arXiv 1911.00359; its cc_net takes percentiles 30 and 60), with cut-offs
    of this corpus and this model: published ones (340 and 520 for English) are percentiles of another corpus under
    another model, and are no defaults here. Documents without a number (null, NaN, infinite) count for no percentile; their
    bucket is null, or `missing` (CCNet calls it `all`). The cut-offs are frozen in the manifest: `from: OUTPUT` uses them
    again on other documents, without seeing all of them first.
    """

    Config = PerplexityBucketsConfig

    def froze(self, facts: Mapping[str, Any]) -> bool:
        return "at" in facts and "names" in facts

    @property
    def kind(self) -> Kind:
        return "resolve" if self.finds else "measure"

    @property
    def side(self) -> Side:
        return SIDE

    @property
    def names(self) -> Sequence[str]:
        return self._taken["names"] if self._taken else self.config.names

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n for n in (self.column, self.group, self.weight) if n is not None))

    @property
    def adds(self) -> tuple[Column, ...]:
        source = f"by percentiles of {self.column}" + (f" within {self.group}" if self.group else "")
        return (Column("bucket", pa.string(), f"{', '.join(self.names)}, from low to high: {source}"),)

    def measure(self, batch: pa.Table) -> pa.Table:
        buckets = Buckets(cast(Mapping[str, Any], self._taken), batch.schema.field(cast(str, self.column)).type)
        return pa.table({"bucket": self.named(buckets.of(batch, cast(str, self.column), self.group))})

    def named(self, buckets: np.ndarray) -> pa.Array:
        """The names of buckets as `Buckets.of` numbers them."""
        names = pa.array([*self.names, self.config.missing], pa.string())
        return names.take(pa.array(np.where(buckets < 0, len(self.names), buckets)))

    # --- the cut-offs

    def targets(self, series: int, line: Mapping[str, Any]) -> list[tuple]:
        """One for every percentile; none where nothing weighs anything."""
        sizes = {name: line[name] for name in SERIES}
        if not line["weight"]:
            return []
        shares = [Fraction(Decimal(repr(one))) / 100 for one in self.config.at]
        ranks = [int(share * line["weight"]) + 1 for share in shares]  # the first whole number above the percentile
        return [target(series, what, rank, weighed=True, split=False, **sizes) for what, rank in enumerate(ranks)]

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        found = search(self, runs, ctx)
        facts = ctx.map("freeze", _freeze, {"all": [found.phase, found.total["kind"]]})["all"]
        written = ctx.map("verdict", _verdict, found.units).values()
        sums = {name: {what: sum(f[name][what] for f in written) for what in ("docs", "weight")} for name in self.names}
        totals = {name: found.total[name] for name in ("docs", "weight")}
        return {**facts, **totals, "buckets": sums, **found.nowhere(), **found.fallen}


class Buckets:
    """The frozen cut-offs of a stage, for all documents and for each group that has its own.

    facts: what `perplexity_buckets` froze; kind: type of the column of numbers.
    """

    def __init__(self, facts: Mapping[str, Any], kind: pa.DataType) -> None:
        lines = [facts["overall"], *facts["groups"].values()]
        form = str(number_kind(kind))
        self.groups = pa.array(list(facts["groups"]), pa.large_string())
        self.there = np.array([[cut is not None for cut in line["cuts"]] for line in lines], np.bool_)
        keys = [[0 if cut is None else key_of(cut, form, SIDE) for cut in line["cuts"]] for line in lines]
        self.keys = np.array(keys, np.uint64)

    def of(self, rows: pa.Table, column: str, group: str | None) -> np.ndarray:
        """int64 per row: the number of its bucket from 0, -1 where it has no number."""
        keys, known = score_keys(rows[column], SIDE)
        series = group_series(rows[group] if group else None, self.groups, len(rows))
        found = np.zeros(len(rows), np.int64)
        for cuts, there in zip(self.keys.T, self.there.T, strict=True):
            found += there[series] & (keys >= cuts[series])
        return np.where(known, found, -1)


def _freeze(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    """The facts, which `Buckets` and a later run read; saved for the verdicts."""
    stage = cast(PerplexityBuckets, stage)
    phase, kind = value
    config, found = stage.config, lines(task, phase)
    told = [_line(stage, line, targets, kind) for line, targets in found]
    facts = {
        "column": stage.column,
        "kind": kind,
        "by": config.by,
        "at": list(config.at),
        "names": list(config.names),
        **({"group": stage.group, "min_group": config.min_group} if stage.group else {}),
        "overall": told[0],
        "groups": {line["value"]: one for (line, _), one in zip(found[1:], told[1:])},
    }
    task.save([pa.table({"facts": [json.dumps(facts)]})])
    return facts


def _line(stage: PerplexityBuckets, line: Mapping[str, Any], targets: np.ndarray, kind: str) -> dict[str, Any]:
    """The cut-offs of one series, None where there is none, and documents and weight of each bucket."""
    found: dict[str, Any] = {"docs": line["docs"], "weight": line["weight"], "cuts": [None] * len(stage.config.at)}
    ends = {name: np.full(len(stage.names), line[name], np.int64) for name in ("docs", "weight")}
    for one in targets:
        what = int(one["what"])
        found["cuts"][what] = score_of(int(one["score"]), kind, SIDE)
        for name, end in ends.items():
            end[what] = one[f"{name}_before"]
    sizes = {name: np.diff(end, prepend=0).tolist() for name, end in ends.items()}
    found["buckets"] = {
        name: {"docs": docs, "weight": weight}
        for name, docs, weight in zip(stage.names, sizes["docs"], sizes["weight"], strict=True)
    }
    return found


def _verdict(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    stage = cast(PerplexityBuckets, stage)
    facts = json.loads(task.load("freeze", "all", 0)["facts"][0].as_py())
    docs, weight = np.zeros(len(stage.names), np.int64), np.zeros(len(stage.names), np.int64)
    for unit in value:
        rows, _, known, weights = population(task, stage, [unit])
        buckets = Buckets(facts, rows.schema.field(cast(str, stage.column)).type)
        of = buckets.of(rows, cast(str, stage.column), stage.group)
        task.write(unit, pa.table({"bucket": stage.named(of)}))
        docs += np.bincount(of[known], minlength=len(docs))
        np.add.at(weight, of[known], weights[known])
    sizes = zip(stage.names, docs.tolist(), weight.tolist(), strict=True)
    return {name: {"docs": own_docs, "weight": own_weight} for name, own_docs, own_weight in sizes}
