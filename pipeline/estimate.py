"""`tamis plan --from OUTPUT`: what a run will cost, from what another one cost, a small sample for example.

Invariant: every figure is one of that run's, scaled by text; nothing of this machine's speed is assumed. What a sample
cannot know, duplicates above all, is said to be a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..stages.errors import RecipeError, did_you_mean
from .costs import batches, stored_bytes, text_bytes
from .output import Output
from .plan import Plan


@dataclass(frozen=True)
class StepEstimate:
    """CPU seconds, seconds on GPUs, bytes read from the input or `work`, bytes written, and the share of all documents
    that is left after it."""

    name: str
    cpu_seconds: float
    gpu_seconds: float
    bytes_read: float
    bytes_written: float
    kept: float | None = None


@dataclass
class Estimate:
    """What a run will cost. `bounds`: what it cannot know, in words."""

    steps: list[StepEstimate]
    rows: float
    kept_share: float
    text_kept: float  # bytes
    peak_disk: float
    bounds: list[str] = field(default_factory=list)

    @property
    def cpu_seconds(self) -> float:
        return sum(step.cpu_seconds for step in self.steps)

    @property
    def gpu_seconds(self) -> float:
        return sum(step.gpu_seconds for step in self.steps)

    @property
    def bytes_read(self) -> float:
        return sum(step.bytes_read for step in self.steps)

    @property
    def bytes_written(self) -> float:
        return sum(step.bytes_written for step in self.steps)


def estimate(plan: Plan, earlier: Output, times: float = 1.0) -> Estimate:
    """What `plan` will cost on its input taken `times` times, by what `earlier` cost. RecipeError where that run had other
    stages, or none of the input was read."""
    manifest = earlier.manifest
    cost = manifest["costs"]
    _check_stages(plan, earlier)
    if not cost["text_bytes"] or not cost["read_bytes"]:
        raise RecipeError(f"{earlier.name}: read no text, so nothing follows from it")
    everything = times * text_bytes(plan) / cost["text_bytes"]
    inside = everything * (cost["read_bytes"] + cost["outside_bytes"]) / cost["read_bytes"]
    calls = times * batches(plan)
    stored = times * stored_bytes(plan)
    shares = _kept_shares(manifest)
    steps = []
    attributes = peak = 0.0
    for entry in cost["steps"]:
        written = entry["bytes"] * inside
        peak = max(peak, attributes + written)
        attributes += written - entry.get("passing_bytes", 0) * inside
        read = stored if entry["reads_text"] else written
        gpu = 0.0
        if entry["kind"] == "resolve":
            cpu = entry["cpu_seconds"] * inside
            read = written
        else:
            cpu, gpu = _unit_step(plan, entry, manifest, everything, inside, calls)
        last = entry["stages"][-1] if entry["stages"] else ""
        steps.append(StepEstimate(_title(entry), cpu, gpu, read, written, shares.get(last)))
    writing, ledger = cost["write"], cost["ledger"]
    own = (writing["cpu_seconds"] - writing["read_cpu"]) * inside + writing["read_cpu"] * everything
    steps.append(StepEstimate("write", own, 0.0, stored, writing["bytes"] * inside))
    steps.append(StepEstimate("ledger", ledger["cpu_seconds"] * inside, 0.0, attributes, ledger["bytes"] * inside))
    counts = manifest["counts"]
    judged = counts["rows"] - counts["outside_sample"]
    disk = max(peak, attributes + (writing["bytes"] + ledger["bytes"]) * inside)
    found = Estimate(
        steps, counts["rows"] * everything, counts["kept"] / max(judged, 1), counts["bytes_written"] * inside, disk
    )
    found.bounds = _bounds(earlier, plan)
    return found


def _title(entry: Mapping[str, Any]) -> str:
    return (
        entry["name"] if entry["kind"] == "resolve" else f"{entry['name']}: {', '.join(entry['stages']) or 'reading'}"
    )


def _unit_step(
    plan: Plan, entry: Mapping[str, Any], manifest: Mapping[str, Any], everything: float, inside: float, calls: float
) -> tuple[float, float]:
    """CPU and GPU seconds of a per-unit step: reading grows with all text, stages and attributes with the text that is
    judged, and what a call costs by itself with the number of batches."""
    sampled = manifest["recipe"]["sample"] is not None
    total = entry["write_cpu"] * inside
    reading = entry["cpu_seconds"] - entry["write_cpu"]
    gpu = 0.0
    by_name = {bound.name: bound for bound in plan.graph.stages}
    for name, part in zip(entry["stages"], entry["parts"], strict=True):
        reading -= part["cpu_seconds"]
        own = part["cpu_seconds"] * everything
        if sampled and part["call_tries"]:
            call = part["call_cpu"] / part["call_tries"]
            reading -= part["call_cpu"]
            own = max(part["cpu_seconds"] - call * part["calls"], 0.0) * inside + call * calls
        total += own
        held = by_name[name].stage.resources if name in by_name else None
        if held is not None and held.gpus:
            gpu += held.gpus * own
    return total + max(reading, 0.0) * everything, gpu


def _kept_shares(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Share of the judged documents that is left after each stage."""
    counts = manifest["counts"]
    judged = max(counts["rows"] - counts["outside_sample"], 1)
    return {stage["name"]: stage.get("out", 0) / judged for stage in manifest["stages"]}


def _check_stages(plan: Plan, earlier: Output) -> None:
    known = [stage["name"] for stage in earlier.stages]
    for bound in plan.graph.stages:
        if bound.name not in known:
            raise RecipeError(
                f"{bound.place}: {earlier.name} knows nothing of this stage, so its cost cannot be estimated: run a sample "
                f"of this recipe.{did_you_mean(bound.name, known)}"
            )


def _bounds(earlier: Output, plan: Plan) -> list[str]:
    found = []
    resolving = [bound.name for bound in plan.graph.stages if bound.stage.kind == "resolve"]
    small = earlier.manifest["recipe"]["sample"] is not None or earlier.manifest["recipe"]["units"] is not None
    if resolving and small:
        names = ", ".join(resolving)
        found.append(f"{names}: a sample holds few of the duplicates of a corpus, so more will be dropped than it says")
    if not all(file.counted for file in plan.listing.files):
        found.append("not all footers of the input were read, so its text is an estimate itself")
    changed = _changed(earlier, plan)
    if changed:
        found.append(f"{', '.join(changed)}: set otherwise than in that run; shares behind it may differ")
    return found


def _changed(earlier: Output, plan: Plan) -> list[str]:
    old = {
        stage["name"]: entry for stage, entry in zip(earlier.stages, earlier.manifest["recipe"]["stages"], strict=True)
    }
    new = {bound.name: entry for bound, entry in zip(plan.graph.stages, plan.recipe.resolved()["stages"], strict=True)}
    return [name for name in new if name in old and new[name]["config"] != old[name]["config"]]
