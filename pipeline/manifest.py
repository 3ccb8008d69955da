"""The manifest: what ran, on what, and what came of it, summed from receipts.

Invariant: nothing here is measured again; every figure is a sum over committed receipts, and the sums must agree.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..stages.errors import StageError
from .counts import totals
from .json_sink import sql_type
from .models import hub_commits
from .plan import Plan, Step
from .receipts import Receipt
from .run_unit import merge_counts
from .write import data_schema

PACKAGES = ("tamis", "pyarrow", "numpy", "numba", "duckdb", "xxhash", "ray")
StepReceipts = Sequence[Mapping[str, Receipt]]  # per step, by unit id


def build_manifest(
    plan: Plan,
    receipts: StepReceipts,
    ledger: Sequence[Receipt],
    files: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Raises StageError where the ledger's rows are not those that were read."""
    steps = [{"folder": s.folder, "kind": s.kind, "seconds": round(seconds[s.folder], 3)} for s in plan.steps]
    return {
        "format": 1,
        "name": plan.recipe.name,
        "plan": plan.key,
        "recipe": plan.recipe.resolved(),
        "versions": versions(),
        "counts": _counts(plan, receipts, ledger),
        "stages": funnel(plan, receipts, seconds),
        "facts": {**facts, **{b.name: dict(b.stage.taken) for b in plan.graph.stages if b.stage.taken is not None}},
        "columns": describe_columns(plan),
        "rules": describe_rules(plan),
        "models": {bound.name: bound.models for bound in plan.graph.stages if bound.models},
        "hub_commits": {b.name: found for b in plan.graph.stages if (found := hub_commits(b.stage))},
        "steps": steps,
        "input": _input(plan, receipts[0]),
        "input_runs": [
            {"name": r.name, "output": r.output, "root": r.root, "plan": r.plan, "checksum": r.checksum}
            for r in plan.listing.runs
        ],
        "sets": totals(plan, files),
        "data_columns": [
            {"name": field.name, "type": str(field.type), "sql": sql_type(field.type)} for field in data_schema(plan)
        ],
    }


def _counts(plan: Plan, receipts: StepReceipts, ledger: Sequence[Receipt]) -> dict[str, int]:
    first = receipts[0].values()
    counts = {key: sum(r[key] for r in ledger) for key in ("kept", "dropped", "quarantined")}
    outside = sum(r.get("outside", 0) for r in first)
    rows = sum(r["rows"] for r in first) + outside
    if sum(counts.values()) + outside != rows:
        raise StageError(f"the ledger does not add up: {counts} of {rows} rows; this is a bug in Tamis")
    lost = [entry for r in first for entry in r["lost"]]
    return {
        "rows": rows,
        **counts,
        "outside_sample": outside,
        "bytes_read": sum(r["read_bytes"] for r in first),
        "bytes_written": sum(r["alive_bytes"] for r in receipts[-1].values()),
        "files": len(plan.listing.files),
        "files_lost": len({entry["file"] for entry in lost}),
        "bytes_lost": sum(entry["bytes"] for entry in lost),
    }


def funnel(plan: Plan, receipts: StepReceipts, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Per stage what came in and out, by which rules, in how many seconds. `receipts`: of the steps that are done."""
    found = []
    for index, bound in enumerate(plan.graph.stages):
        total: dict[str, Any] = {}
        kind = bound.stage.kind
        for step, by_unit in zip(plan.steps, receipts, strict=False):
            for position, part in enumerate(step.parts):
                if part.stage == index and (part.method != "measure" or kind == "measure"):
                    for receipt in by_unit.values():
                        merge_counts([total], [receipt["parts"][position]])
        if kind == "resolve":
            total["seconds"] = seconds.get(_resolve_step(plan, index).folder, 0.0)
        total["seconds"] = round(total.get("seconds", 0.0), 3)
        for key in ("calls", "cpu_seconds", "call_cpu", "call_tries"):
            total.pop(key, None)  # costs, which `costs` tells
        found.append({"name": bound.name, "use": bound.use, "kind": kind, **total})
    return found


def _resolve_step(plan: Plan, stage: int) -> Step:
    return next(s for s in plan.steps if s.kind == "resolve" and s.parts[0].stage == stage)


def _input(plan: Plan, first: Mapping[str, Receipt]) -> list[dict[str, Any]]:
    """Every input file with its version and a digest of its texts; for one that a run of Tamis wrote, the index of that
    run in `input_runs` and its path there."""
    digests: dict[str, int] = {}
    for receipt in first.values():
        for name, part in receipt.get("digests", {}).items():
            digests[name] = (digests.get(name, 0) + int(part, 16)) % 2**64
    return [
        {"name": f.name, "size": f.size, "version": f.version, "note": f.note or f.error}
        | ({"digest": f"{digests[f.name]:016x}"} if f.name in digests else {})
        | ({} if f.run is None else {"run": f.run, "run_file": f.run_file})
        for f in plan.listing.files
    ]


def versions() -> dict[str, str]:
    """What results may depend on besides the recipe."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def describe_columns(plan: Plan) -> list[dict[str, Any]]:
    """Name, type, stage and definition of every measured ledger column, for `why`, cards and tuning."""
    return [
        {"name": a.name, "type": str(a.column.type), "stage": bound.name, "doc": a.column.doc}
        for bound in plan.graph.stages
        for a in bound.added
        if a.column.ledger
    ]


def describe_rules(plan: Plan) -> dict[str, dict[str, Any]]:
    """Every rule with its expression, parameters and source."""
    found: dict[str, dict[str, Any]] = {}
    for bound in plan.graph.stages:
        for rule in bound.stage.rules:
            found[rule.name] = {
                "stage": bound.name,
                "sql": rule.sql,
                "params": dict(rule.params),
                "source": rule.source,
                "nulls": rule.nulls,
                "needs": list(rule.needs),
            }
    return found
