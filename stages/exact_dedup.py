"""Exact duplicates by text, URL, a column or an expression: one document of each group stays.

Invariant: which one stays depends on the documents of the group alone, so units, order, workers and kills change nothing.

Phases, each a set of items that read files and save files:
1. collect (a group of units): the living rows' keys, preferences and identity, partitioned by the key's high bits;
   `against` (parts of an earlier output) does the same for documents that win.
2. choose (a partition): sorts by key, finds the groups, picks the kept one; members go back by group of units.
3. verdict (a group of units): gathers from all partitions, aligns by n, writes.
A task holds about two million rows, whatever the size of the corpus.
"""

from __future__ import annotations

import re
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from ._groups import (
    AgainstContext,
    AgainstTask,
    align,
    bundles,
    first_rows,
    gather,
    part_count,
    part_of,
    split,
    split_by_n,
    unit_groups,
)
from ._keys import hex_keys, in_scope, text_keys, url_keys, value_keys
from ._prefer import PreferConfig, kept_rows, parse_preference, preference_columns, with_keys
from .base import Column, Context, Rule, Runs, Stage, Task
from .errors import RecipeError

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
KEYS = ("exact_key_hi", "exact_key_lo")
IDENTITY = {"doc_id": pa.string(), "source_file": pa.string(), "source_row": pa.int64()}


class ExactDedupConfig(PreferConfig):
    """What `use: exact_dedup` takes. How texts and URLs are compared: `_keys.text_keys`, `_keys.normal_url`."""

    key: str = Field(
        default="text", description="text, url, a column, or SQL over columns of the row; a null key matches nothing"
    )
    normalize: bool = Field(
        default=True,
        description="text: white space and case do not count; url: in normal form; false compares the bytes",
    )
    against: tuple[str, ...] = Field(
        default=(),
        description="earlier outputs of Tamis; what one of them kept wins over all of this run, in this order",
    )

    @model_validator(mode="after")
    def _normalize_has_an_effect(self) -> ExactDedupConfig:
        if "normalize" in self.model_fields_set and self.key not in ("text", "url"):
            raise ValueError(
                "normalize: is for the keys text and url; write another as SQL, such as key: lower(trim(title))"
            )
        return self


class ExactDedup(Stage):
    """Keeps one document of every group with equal text, URL, column or expression; the ledger names the kept one."""

    Config = ExactDedupConfig
    choosing = frozenset({"prefer", "against", "scope"})
    config: ExactDedupConfig

    def __init__(self, config: Any, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self.preferences = tuple(parse_preference(entry) for entry in self.config.prefer)
        self.is_column = bool(NAME.match(self.config.key))
        if not self.is_column:
            from .sql import parse

            self.key_columns = tuple(sorted(parse(self.config.key, where="key").columns))
        else:
            self.key_columns = (self.config.key,)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.key_columns, *self.resolve_needs]))

    @property
    def resolve_needs(self) -> tuple[str, ...]:
        """What `resolve` reads besides the keys and the identity; `measure` reads the other columns of `needs`."""
        scope = (self.config.scope,) if self.config.scope else ()
        return tuple(dict.fromkeys([*scope, *preference_columns(self.preferences)]))

    @property
    def adds(self) -> tuple[Column, ...]:
        columns = [
            Column("exact_key_hi", pa.uint64(), "upper half of xxh3-128 of the key", ledger=False),
            Column("exact_key_lo", pa.uint64(), "lower half of xxh3-128 of the key", ledger=False),
            Column("exact_cluster", pa.string(), "id of the group of duplicates: 32 hex digits of key and scope"),
            Column("exact_cluster_size", pa.int64(), "documents of this run in the group, the kept one included"),
            Column("exact_kept_doc_id", pa.string(), "doc_id of the kept duplicate; null for the kept one"),
            Column("exact_kept_file", pa.string(), "source_file of the kept duplicate; null for the kept one"),
            Column("exact_kept_row", pa.int64(), "source_row of the kept duplicate; null for the kept one"),
        ]
        if self.config.against:
            doc = "the earlier output that has the kept duplicate, as `against` names it; null if it is of this run"
            columns.append(Column("exact_kept_output", pa.string(), doc))
        return tuple(columns)

    @property
    def measured(self) -> tuple[str, ...]:
        """Plain names of the columns that `measure` gives; `resolve` gives the others."""
        return KEYS

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (Rule(f"{self.name}.duplicate"),)

    def check(self, schema: pa.Schema) -> None:
        if not self.is_column:
            from .sql import check_types

            types = check_types({"key": self.config.key}, {}, schema, where="key", boolean=False)
            _refuse_nested("key", types["key"])
        for name in self.needs:
            _refuse_nested(name, schema.field(name).type)

    def fingerprint(self) -> str:
        if self.config.key == "text" and self.config.normalize:
            import unicodedata

            return f"unicode {unicodedata.unidata_version}"
        return ""

    def warm(self) -> None:
        if self.config.key == "text" and self.config.normalize:
            text_keys(pa.array([""]), normalize=True)

    def measure(self, batch: pa.Table) -> pa.Table:
        config = self.config
        if config.key == "text":
            keys = text_keys(batch["text"], normalize=config.normalize)
        elif config.key == "url":
            keys = url_keys(batch["url"], normalize=config.normalize)
        elif self.is_column:
            keys = value_keys(batch[config.key])
        else:
            from .sql import evaluate

            keys = value_keys(evaluate(batch, {"key": config.key}, {})["key"])
        return keys.rename_columns(list(KEYS))

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        groups = unit_groups(runs.units)
        earlier: dict[str, list[Any]] = {}
        rows = sum(u.rows for u in runs.units)
        for rank, output in enumerate(self.config.against):
            held = cast(AgainstContext, ctx).against(output)
            names, rows = list(held), rows + sum(held.values())
            for i, places in enumerate(bundles(list(held.values()))):
                earlier[f"a{rank:03d}-{i:05d}"] = [rank, output, [names[at] for at in places]]
        parts = part_count(rows)
        units = {item: [u.index for u in group] for item, group in groups.items()}
        collected = ctx.map("collect", _collect, {item: [indexes, parts] for item, indexes in units.items()})
        ctx.map("against", _against, {item: [*place, parts] for item, place in earlier.items()})
        everywhere = [list(groups), list(earlier), first_rows(groups)]
        chosen = ctx.map("choose", _choose, {f"p{p:05d}": [p, *everywhere] for p in range(parts if groups else 0)})
        verdicts = {item: [indexes, at, list(chosen)] for at, (item, indexes) in enumerate(units.items())}
        ctx.map("verdict", _verdict, verdicts)
        facts = {name: sum(f[name] for f in chosen.values()) for name in ("groups", "duplicates")}
        if self.config.against:
            facts["duplicates_of_earlier"] = sum(f["of_earlier"] for f in chosen.values())
        facts["largest"] = max((f["largest"] for f in chosen.values()), default=0)
        facts["without_key"] = sum(f["without_key"] for f in collected.values())
        return facts


def _refuse_nested(name: str, kind: pa.DataType) -> None:
    if pa.types.is_nested(kind):
        raise RecipeError(f"exact_dedup: {name} has the type {kind}, which can be neither compared nor ordered")


def _keyed(rows: pa.Table, stage: ExactDedup, columns: dict[str, Any]) -> pa.Table:
    """`hi`, `lo`, the identity and `columns`, for the rows that have a key."""
    keys = rows.select(list(KEYS)).rename_columns(["hi", "lo"])
    if stage.config.scope:
        keys = in_scope(keys, rows[stage.config.scope])
    identity = {name: rows[name].cast(kind) for name, kind in IDENTITY.items()}
    table = pa.table({"hi": keys["hi"], "lo": keys["lo"], **identity, **columns})
    return table.filter(table["hi"].is_valid())


def _collect(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, parts = value
    stage = cast(ExactDedup, stage)
    columns = list(dict.fromkeys([*KEYS, *IDENTITY, *stage.resolve_needs]))
    documents, tables = 0, []
    for unit in units:
        rows = task.rows(unit, columns)
        documents += rows.num_rows
        tables.append(_keyed(rows, stage, {"n": rows["n"], **with_keys(rows, stage.preferences)}))
    table = pa.concat_tables(tables)
    task.save(split(table, part_of(table["hi"].to_numpy(), parts), parts))
    return {"without_key": documents - table.num_rows}


def _against(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    rank, output, names, parts = value
    stage = cast(ExactDedup, stage)
    scope: list[str] = [stage.config.scope] if stage.config.scope else []
    columns, tables = list(dict.fromkeys([*KEYS, *IDENTITY, *scope])), []
    for name in names:
        rows = cast(AgainstTask, task).against(output, name, columns)
        tables.append(_keyed(rows, stage, {"earlier": pa.array(np.full(rows.num_rows, rank, np.int32))}))
    table = pa.concat_tables(tables)
    task.save(split(table, part_of(table["hi"].to_numpy(), parts), parts))
    return {}


def _choose(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    part, groups, earlier, starts = value
    stage = cast(ExactDedup, stage)
    table = gather(task, "collect", groups, part)
    if earlier:
        table = pa.concat_tables([table, gather(task, "against", earlier, part)], promote_options="default")
    members, group = _duplicates(table.combine_chunks())
    first = ("earlier",) if earlier else ()
    kept = kept_rows(members, group, stage.preferences, first)[group]
    loses = kept != np.arange(len(kept))
    own = np.asarray(members["n"].is_valid())
    sizes = np.bincount(group, own).astype(np.int64)
    winner = pa.array(kept, mask=~loses)
    columns: dict[str, Any] = {
        "n": members["n"],
        "exact_cluster": hex_keys(members["hi"].to_numpy(), members["lo"].to_numpy()),
        "exact_cluster_size": pa.array(sizes[group]),
        "exact_kept_doc_id": members["doc_id"].take(winner),
        "exact_kept_file": members["source_file"].take(winner),
        "exact_kept_row": members["source_row"].take(winner),
    }
    of_earlier = 0
    if stage.config.against:
        rank = members["earlier"].take(winner) if earlier else pa.nulls(len(kept), pa.int32())
        columns["exact_kept_output"] = pa.array(stage.config.against).take(rank)
        of_earlier = int((np.asarray(rank.is_valid()) & own).sum())
    task.save(split_by_n(pa.table(columns).filter(pa.array(own)), starts))
    return {
        "groups": len(sizes),
        "duplicates": int((loses & own).sum()),
        "of_earlier": of_earlier,
        "largest": int(sizes.max(initial=0)),
    }


def _duplicates(table: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """The rows that share their key with another row, one of this run among them, and their group (int64 from 0)."""
    hi, lo = table["hi"].to_numpy(), table["lo"].to_numpy()
    # most documents are unique: one sort by the upper half finds the few rows that the full comparison must see
    rows = np.argsort(hi)
    same = hi[rows][1:] == hi[rows][:-1]
    rows = rows[np.append(same, False) | np.append(False, same)] if len(rows) else rows
    rows = rows[np.lexsort((lo[rows], hi[rows]))]
    new = (np.diff(hi[rows], prepend=0) != 0) | (np.diff(lo[rows], prepend=0) != 0)
    new[:1] = True
    group = np.cumsum(new) - 1
    own = np.asarray(table["n"].is_valid())[rows]
    counts = (np.bincount(group) >= 2) & (np.bincount(group, own) >= 1)
    wanted = counts[group]
    return table.take(pa.array(rows[wanted])), (np.cumsum(counts) - 1)[group[wanted]]


def _verdict(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    units, at, parts = value
    members = gather(task, "choose", parts, at).sort_by("n")
    for unit in units:
        found = align(members, task.rows(unit, [])["n"]).drop_columns("n")
        rule = pc.if_else(found["exact_kept_row"].is_valid(), f"{stage.name}.duplicate", None)
        task.write(unit, found.append_column("rule", rule))
    return {}
