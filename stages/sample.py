"""Random samples: a share of the documents, or a quota of documents from each of the largest groups.

Invariant: a document's draw depends on the run seed, the stage's name and its key alone, so a smaller share lies inside
a larger one, and units, order, workers and kills change nothing.

With `per:` it is a resolve stage. Phases, each a set of items that read files and save files:
1. count (a group of units): living documents of each group value, partitioned by the value's hash.
2. rank (a partition): sums the counts; its `top` largest values. 3. cut (one item): the `top` largest of all.
4. draw (a group of units): of each chosen value the `docs` smallest draws of these units, partitioned.
5. choose (a partition): the `docs` smallest of all, sent back by group of units. 6. verdict (a group of units).
Without `top` 1-3 are left out, without `docs` 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, WithJsonSchema, field_validator, model_validator

from ._groups import first_rows, gather, part_count, split_by_n, split_by_value, unit_groups
from ._units import SHARE_SCHEMA
from ._units import share as parse_share
from .base import Context, Kind, Rule, Runs, Stage, StageConfig, Task
from .draws import draws
from .errors import RecipeError

FACTS = ("kept", "out_of_groups", "over_quota")


class SampleConfig(StageConfig):
    """Either `share`, or `per` with `top`, `docs` or both."""

    share: Annotated[float, WithJsonSchema(SHARE_SCHEMA)] | None = Field(
        default=None, description="share of the documents that stays: 0.1%, or a number above 0, up to 1"
    )
    key: str = Field(
        default="doc_id",
        description="column whose equal values share a draw: source_hash (all copies together), domain (whole sites); "
        "a document whose key is null is drawn by its doc_id",
    )
    per: str | None = Field(default=None, description="column whose values are groups")
    top: int | None = Field(
        default=None, ge=1, description="only the groups with most documents (ties: the smaller value, as text)"
    )
    docs: int | None = Field(default=None, ge=1, description="at most so many documents of each group")

    @field_validator("share", mode="before")
    @classmethod
    def _read_share(cls, value: Any) -> float | None:
        found = None if value is None else parse_share(value)
        if found == 0:
            raise ValueError("a sample of nothing: write a share above 0")
        return found

    @model_validator(mode="after")
    def _one_of_two(self) -> SampleConfig:
        if (self.share is None) == (self.per is None):
            raise ValueError("give either share: 0.1% or per: COLUMN with top: and docs:")
        if self.per is None and (self.top or self.docs):
            raise ValueError("top: and docs: need per: COLUMN, the column whose values are counted")
        if self.per is not None and not (self.top or self.docs):
            raise ValueError("per: needs top: (how many groups) or docs: (documents of each), or both")
        return self


class Sample(Stage):
    """Keeps a random share of the documents, or a quota of documents from each of the largest groups."""

    Config = SampleConfig
    config: SampleConfig

    @property
    def draws(self) -> bool:
        return True

    @property
    def kind(self) -> Kind:
        return "resolve" if self.config.per else "decide"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*([self.config.per] if self.config.per else []), self.config.key, "doc_id"]))

    @property
    def rules(self) -> tuple[Rule, ...]:
        config = self.config
        if config.per is None:
            return (Rule(f"{self.name}.out", params=((f"{self.name}.share", config.share),)),)
        rules = [("group", "top", config.top), ("quota", "docs", config.docs)]
        return tuple(
            Rule(f"{self.name}.{r}", params=((f"{self.name}.{p}", v),)) for r, p, v in rules if v or r == "group"
        )

    def check(self, schema: pa.Schema) -> None:
        for name in self.needs:
            if pa.types.is_nested(schema.field(name).type):
                raise RecipeError(
                    f"sample: {name} has the type {schema.field(name).type}; draws and groups need plain values"
                )

    def decide(self, batch: pa.Table) -> pa.Table:
        inside = self.draw(batch) < (self.config.share or 0)
        return pa.table({self.rules[0].name: pa.array(inside)})

    def draw(self, rows: pa.Table) -> np.ndarray:
        """float64 in [0, 1), one per row."""
        found = draws(rows[self.config.key], seed=self.seed, name=self.name)
        missing = np.flatnonzero(np.isnan(found))
        if len(missing):
            found[missing] = draws(rows["doc_id"].take(pa.array(missing)), seed=self.seed, name=self.name)
        return found

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        groups = unit_groups(runs.units)
        if not groups:
            return dict.fromkeys(FACTS, 0)
        units = {item: [u.index for u in group] for item, group in groups.items()}
        parts = part_count(sum(u.rows for u in runs.units))
        partitions = {f"p{p:05d}": p for p in range(parts)}
        if self.config.top:
            ctx.map("count", _count, {item: [indexes, parts] for item, indexes in units.items()})
            ctx.map("rank", _rank, {name: [p, list(units)] for name, p in partitions.items()})
            ctx.map("cut", _cut, {"all": list(partitions)})
        if self.config.docs:
            ctx.map("draw", _draw, {item: [indexes, parts] for item, indexes in units.items()})
            starts = first_rows(groups)
            ctx.map("choose", _choose, {name: [p, list(units), starts] for name, p in partitions.items()})
        verdicts = {item: [indexes, at, list(partitions)] for at, (item, indexes) in enumerate(units.items())}
        written = ctx.map("verdict", _verdict, verdicts)
        return {name: sum(f[name] for f in written.values()) for name in FACTS}


def _values(rows: pa.Table, stage: Sample) -> pa.ChunkedArray:
    """The group value of each row, as text."""
    return rows[cast(str, stage.config.per)].cast(pa.large_string())


def _largest(counts: pa.Table, top: int) -> pa.Table:
    order = pc.sort_indices(counts, sort_keys=[("count", "descending"), ("value", "ascending")])
    return counts.take(order[:top])


def _smallest(table: pa.Table, docs: int) -> pa.Table:
    """Of each value the rows with the `docs` smallest draws; ties fall to the smaller n."""
    code = np.asarray(table["value"].combine_chunks().dictionary_encode().indices)
    order = np.lexsort((table["n"].to_numpy(), table["draw"].to_numpy(), code))
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return table.take(pa.array(order[place < docs]))


def _count(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, parts = value
    stage = cast(Sample, stage)
    values = [_values(task.rows(unit, [cast(str, stage.config.per)]), stage) for unit in units]
    table = pa.table({"value": pa.chunked_array([c for v in values for c in v.chunks], pa.large_string())})
    counts = table.filter(table["value"].is_valid()).group_by("value").aggregate([([], "count_all")])
    task.save(split_by_value(counts.select(["value", "count_all"]).rename_columns(["value", "count"]), parts))
    return {}


def _rank(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    part, items = value
    counts = gather(task, "count", items, part).group_by("value").aggregate([("count", "sum")])
    top = cast(int, cast(Sample, stage).config.top)
    task.save([_largest(counts.select(["value", "count_sum"]).rename_columns(["value", "count"]), top)])
    return {}


def _cut(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    task.save([_largest(gather(task, "rank", value, 0), cast(int, cast(Sample, stage).config.top))])
    return {}


def _in_groups(task: Task, stage: Sample) -> Callable[[pa.ChunkedArray], np.ndarray]:
    """Tells which values are among the chosen groups; null never is."""
    if stage.config.top is None:
        return lambda values: np.asarray(values.is_valid())
    chosen = task.load("cut", "all", 0)["value"].combine_chunks()
    return lambda values: np.asarray(pc.is_in(values, value_set=chosen, skip_nulls=True))


def _draw(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, parts = value
    stage = cast(Sample, stage)
    in_groups = _in_groups(task, stage)
    tables = []
    for unit in units:
        rows = task.rows(unit, stage.needs)
        rows = rows.filter(pa.array(in_groups(_values(rows, stage))))
        draw = pa.array(stage.draw(rows), pa.float64())
        tables.append(pa.table({"value": _values(rows, stage), "draw": draw, "n": rows["n"]}))
    task.save(split_by_value(_smallest(pa.concat_tables(tables), cast(int, stage.config.docs)), parts))
    return {}


def _choose(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    part, items, starts = value
    chosen = _smallest(gather(task, "draw", items, part), cast(int, cast(Sample, stage).config.docs))
    task.save(split_by_n(chosen.select(["n"]), starts))
    return {}


def _verdict(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, at, partitions = value
    stage = cast(Sample, stage)
    in_groups = _in_groups(task, stage)
    chosen = np.sort(gather(task, "choose", partitions, at)["n"].to_numpy()) if stage.config.docs else None
    facts: dict[str, Any] = dict.fromkeys(FACTS, 0)
    for unit in units:
        rows = task.rows(unit, [cast(str, stage.config.per)])
        inside = in_groups(_values(rows, stage))
        kept = inside if chosen is None else np.isin(rows["n"].to_numpy(), chosen)
        rule = pc.if_else(pa.array(inside), f"{stage.name}.quota", f"{stage.name}.group")
        task.write(unit, pa.table({"rule": pc.if_else(pa.array(kept), None, rule)}))
        for name, rows_of in zip(FACTS, (kept, ~inside, inside & ~kept)):
            facts[name] += int(rows_of.sum())
    return facts
