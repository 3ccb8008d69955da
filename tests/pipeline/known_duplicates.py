"""A run whose duplicates are known beforehand: a resolve stage that takes groups, similarities and facts as given.

It has the columns and facts of `near_dedup`, so that what people see of them can be tested against values made by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import parse_recipe
from tamis.stages.base import Column, Context, Rule, Runs, Stage, StageConfig, Task

CLUSTER = "{:032x}"
KINDS = {
    "near_cluster": pa.string(),
    "near_cluster_size": pa.int64(),
    "near_kept_doc_id": pa.string(),
    "near_kept_file": pa.string(),
    "near_kept_row": pa.int64(),
    "near_similarity": pa.float32(),
    "near_kept_output": pa.string(),
}


class GivenConfig(StageConfig):
    facts: dict[str, Any] = Field(default_factory=dict)
    bands: int = 14
    rows: int = 8
    scope: str | None = None
    max_cluster: int = 10_000


class Near_Dedup(Stage):
    """The first document of each `grp` stays; `sim` is the similarity of the others; `elsewhere` names an output. Its
    name in lower case is that of the stage."""

    Config = GivenConfig
    config: GivenConfig

    @property
    def adds(self) -> tuple[Column, ...]:
        return tuple(Column(name, kind, name) for name, kind in KINDS.items())

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (Rule("near_dedup.duplicate"),)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("grp", "sim", "elsewhere", *([self.config.scope] if self.config.scope else ()))

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        ctx.map("verdict", _verdict, {"all": [u.index for u in runs.units]})
        return self.config.facts


def _verdict(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    columns = ["grp", "sim", "elsewhere", "doc_id", "source_file", "source_row"]
    units = {unit: task.rows(unit, columns).to_pylist() for unit in value}
    members: dict[int, list[dict[str, Any]]] = {}
    for row in (row for rows in units.values() for row in rows if row["grp"] is not None):
        members.setdefault(row["grp"], []).append(row)
    for unit, rows in units.items():
        found = []
        for row in rows:
            group = members.get(row["grp"], [row])
            kept = group[0] if row["elsewhere"] is None else {"doc_id": "far", "source_file": "far", "source_row": 7}
            verdict: dict[str, Any] = dict.fromkeys(KINDS)
            if row["grp"] is not None:
                verdict |= {"near_cluster": CLUSTER.format(row["grp"]), "near_cluster_size": len(group)}
            if row["grp"] is not None and kept is not row:
                names = ("doc_id", "source_file", "source_row")
                verdict |= {f"near_kept_{name.removeprefix('source_')}": kept[name] for name in names}
                verdict |= {"near_similarity": row["sim"], "near_kept_output": row["elsewhere"]}
                verdict["rule"] = "near_dedup.duplicate"
            found.append(verdict)
        schema = pa.schema({**KINDS, "rule": pa.string()})
        task.write(unit, pa.Table.from_pylist(found, schema=schema))
    return {}


def known_run(folder: Path, rows: list[dict[str, Any]], facts: dict[str, Any], **changes: Any) -> Output:
    """Runs the stage over the rows (id, text, grp, sim and what else they have); `changes` replace recipe keys, `stage`
    keys of the stage; `before` and `after` are stages around it."""
    (folder / "in").mkdir(parents=True)
    whole = [{"grp": None, "sim": None, "elsewhere": None, "text": f"Text of {row['id']}.", **row} for row in rows]
    names = list(dict.fromkeys(name for row in whole for name in row))
    kinds = {"grp": pa.int64(), "sim": pa.float32()}
    table = {name: pa.array([row.get(name) for row in whole], kinds.get(name, pa.string())) for name in names}
    for number, start in enumerate(range(0, len(whole), 50)):
        pq.write_table(pa.table(table).slice(start, 50), folder / "in" / f"part-{number}.parquet", row_group_size=20)
    stage = {"use": f"{__name__}:Near_Dedup", "facts": facts, **changes.pop("stage", {})}
    stages = [*changes.pop("before", []), stage, *changes.pop("after", [])]
    recipe: dict[str, Any] = {
        "name": "known",
        "input": {"files": f"{folder}/in/*.parquet"},
        "output": str(folder / "out"),
        "unit_size": "1kB",
        "stages": stages,
    }
    return Output(run(parse_recipe(recipe | changes)).output)
