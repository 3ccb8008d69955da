"""What a run cost, step by step, summed from receipts: the ground of estimates, and of the report's timing table.

Invariant: only committed work counts, whichever driver committed it; CPU seconds, so that a busy machine changes little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .distinct_bytes import ledger_bytes, step_bytes
from .plan import Plan, Unit
from .receipts import Receipt
from .source_rows import BATCH_BYTES
from .storage import Storage


def costs(
    plan: Plan,
    receipts: Sequence[Mapping[str, Receipt]],
    resolved: Mapping[str, Mapping[str, Any]],
    writes: Sequence[Receipt],
    ledger: Sequence[Receipt],
    work: Storage,
    output: Storage,
) -> dict[str, Any]:
    """`text_bytes`, `stored_bytes`: of the units that were read, by footers and sizes; `read_bytes`, `outside_bytes`: text
    that was judged, and text outside the sample; then CPU seconds and bytes of every step, of writing and the ledger.

    `receipts`: per step, by unit id; `resolved`: by stage, CPU seconds and bytes of all phases of a resolve stage.
    """
    first = receipts[0].values()
    sizes = [sum(r.get("size") or 0 for r in by_unit.values()) for by_unit in receipts]
    files = [entry for r in ledger for entry in r["data"]]
    ledger_size = sum(entry["bytes"] for entry in files)
    if plan.recipe.sample is not None and sum(r["rows"] for r in first):
        sizes, ledger_size = step_bytes(plan, work, receipts), ledger_bytes(output, files)
    steps = []
    for step, by_unit, size in zip(plan.steps, receipts, sizes, strict=True):
        found = list(by_unit.values())
        entry = {"name": step.name, "folder": step.folder, "kind": step.kind, "reads_text": step.reads_text}
        entry["bytes"] = size
        if step.kind == "resolve":
            name = plan.stage(step.parts[0]).name
            entry |= {"stages": [name], "cpu_seconds": resolved[name]["cpu_seconds"]}
            entry["bytes"] += resolved[name]["bytes"]
            # what its phases handed on goes when the step is committed, but for a shared work folder
            entry["passing_bytes"] = resolved[name]["bytes"] if plan.recipe.work is None else 0
        else:
            entry |= {key: round(sum(r.get(key, 0.0) for r in found), 4) for key in ("cpu_seconds", "write_cpu")}
            entry["stages"] = [plan.stage(part).name for part in step.parts]
            entry["parts"] = [_part(found, position) for position in range(len(step.parts))]
        steps.append(entry)
    return {
        "text_bytes": round(text_bytes(plan)),
        "stored_bytes": stored_bytes(plan),
        "read_bytes": sum(r["read_bytes"] for r in first),
        "outside_bytes": sum(r.get("outside_bytes", 0) for r in first),
        "batches": batches(plan),
        "steps": steps,
        "write": {
            "cpu_seconds": round(sum(r.get("cpu_seconds", 0.0) for r in writes), 4),
            "read_cpu": round(sum(r.get("read_cpu", 0.0) for r in writes), 4),
            "bytes": sum(entry["bytes"] for r in writes for entry in r["data"]),
        },
        "ledger": {
            "cpu_seconds": round(sum(r.get("cpu_seconds", 0.0) for r in ledger), 4),
            "bytes": ledger_size,
        },
    }


def _part(receipts: Sequence[Receipt], position: int) -> dict[str, float]:
    keys = ("cpu_seconds", "calls", "call_cpu", "call_tries")
    return {key: round(sum(r["parts"][position].get(key, 0) for r in receipts), 5) for key in keys}


def text_bytes(plan: Plan) -> float:
    """Bytes of text in the units, by footers; files whose footer was not read count like the others of their size."""
    files = plan.listing.files
    counted = [file for file in files if file.counted and file.groups]
    if all(file.counted for file in files):
        return sum(unit.bytes for unit in plan.units)
    ratio = sum(_text(file.groups) for file in counted) / max(sum(file.size for file in counted), 1)
    return sum(_text(file.groups) if file.groups else file.size * ratio for file in files)


def stored_bytes(plan: Plan) -> int:
    """Bytes as stored of the units' part of the input."""
    files = plan.listing.files
    whole: dict[int, int] = {}
    for unit in plan.units:
        for segment in unit.segments:
            groups = files[segment.file].groups
            share = _text(groups[segment.start : segment.stop]) / max(_text(groups), 1) if groups else 1.0
            whole[segment.file] = whole.get(segment.file, 0) + round(share * files[segment.file].size)
    return sum(whole.values())


def _text(groups: Sequence[Any]) -> int:
    return sum(group.text_bytes for group in groups)


def batches(plan: Plan) -> int:
    """How many batches a pass over the units' text has: row groups are read one by one, large ones in pieces."""
    return sum(_batches(plan, unit) for unit in plan.units)


def _batches(plan: Plan, unit: Unit) -> int:
    count = 0
    for segment in unit.segments:
        groups = plan.listing.files[segment.file].groups[segment.start : segment.stop]
        sizes = [group.text_bytes for group in groups if group.rows] if groups else [unit.bytes]
        count += sum(max(1, -(-size // BATCH_BYTES)) for size in sizes)
    return count
