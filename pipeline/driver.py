"""What `tamis run` does: plan, refuse what makes no sense, take the lock, do the job, put the result in its place.

Invariant: the same command after a kill at any place continues and ends with what an undisturbed run gives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..stages.errors import RecipeError, did_you_mean
from . import json_sink
from .clean import remove_work, work_is_left
from .earlier import absolute, matching_stage, open_run
from .executors.base import Executor
from .finished import read_manifest
from .interrupt import Interrupts
from .job import Job
from .lock import Lock
from .logs import trace_of
from .manifest import funnel
from .plan import Plan
from .planning import plan_recipe, work_storage
from .progress import Progress
from .receipts import run_identity
from .recipe import Recipe
from .replace import next_storage, replace_output
from .run_unit import prepare_process
from .storage import Storage, storage_at

ExecutorName = Literal["inline", "ray"]


@dataclass
class Result:
    """What a run came to. `manifest` is that of the output, empty where the run stopped at `until`, and `stages` is the
    funnel so far; `fresh` is False where there was nothing to do."""

    output: str
    manifest: dict[str, Any]
    fresh: bool
    stages: Sequence[dict[str, Any]] = ()


def run(
    recipe: Recipe,
    *,
    executor: ExecutorName = "inline",
    workers: int | None = None,
    progress: Progress | None = None,
    until: str | None = None,
    replace: bool = False,
) -> Result:
    """Runs a recipe to the end, or continues it. Raises the errors of `stages.errors`.

    `until`: stop when the step that holds this stage is done. `replace`: build beside a finished result of something
    else, then put the new one in its place.
    """
    storage = storage_at(recipe.output)
    plan = plan_recipe(recipe)
    last, identity = _last_step(plan, until), run_identity()
    finished = read_manifest(storage)
    if finished is not None:
        if finished.get("plan") == plan.key:
            _finish_removal(storage, recipe, finished, identity)
            return Result(storage.root, finished, fresh=False)
        if not replace:
            raise RecipeError(_refusal(storage, finished, plan))
    for bound in plan.graph.stages:
        for earlier in getattr(bound.stage.config, "against", ()):
            matching_stage(open_run(absolute(earlier)), bound)  # says now what would be missing hours later
    with Lock(storage, identity):
        target = next_storage(storage, plan.key) if finished is not None else storage
        spread = executor == "ray" and bool(os.environ.get("RAY_ADDRESS"))
        job = Job(plan, target, storage, work_storage(recipe), identity, progress or Progress(), last, spread)
        try:
            with job.logs, Interrupts(job.progress.say) as job.stop:
                job.executor = _executor(executor, workers, plan)
                for note in _on_cpus(plan, job.executor):
                    job.progress.say(note)
                    job.log("slow", note=note)
                manifest = job.go()
            if manifest is None:
                return Result(storage.root, {}, fresh=True, stages=funnel(plan, job.receipts, job.seconds))
            if target is not storage:
                replace_output(storage)
            if recipe.keep_work != "all":
                remove_work(storage, recipe.keep_work)
            return Result(storage.root, manifest, fresh=True)
        except BaseException as error:
            job.log("failed", error=f"{type(error).__name__}: {error}", traceback=trace_of(error))
            raise
        finally:
            job.close()


def _finish_removal(storage: Storage, recipe: Recipe, finished: Mapping[str, Any], identity: str) -> None:
    """Removes what the finished run would have removed, had nothing killed it."""
    keep = recipe.keep_work
    if keep != "all" and keep == finished["recipe"].get("keep_work") and work_is_left(storage, keep):
        with Lock(storage, identity):
            remove_work(storage, keep)


def _last_step(plan: Plan, until: str | None) -> int | None:
    """The step that holds the stage `until`; None for all steps and the writing. RecipeError."""
    if until is None:
        return None
    names = [bound.name for bound in plan.graph.stages]
    if until not in names:
        raise RecipeError(f"--until {until}: no such stage.{did_you_mean(until, names)}")
    return max(i for i, step in enumerate(plan.steps) if any(plan.stage(p).name == until for p in step.parts))


def _executor(name: ExecutorName, workers: int | None, plan: Plan) -> Executor:
    prepare_process()
    for bound in plan.graph.stages:
        bound.stage.warm()  # compiled once here, so that workers find the cache warm
    if plan.recipe.write.format == "jsonl.zst":
        json_sink.warm()
    if name == "ray":
        from .executors.ray import RayExecutor

        return RayExecutor(workers, plan.recipe.name)
    from .executors.inline import InlineExecutor

    return InlineExecutor()


def _on_cpus(plan: Plan, executor: Executor) -> Iterator[str]:
    """What will be slow because the stage would take a GPU and there is none."""
    for bound in plan.graph.stages:
        if bound.stage.resources.fallback and not executor.gpus:
            yield f"{bound.place}: no GPU here: {bound.stage.without_gpu()}"


def _refusal(storage: Storage, finished: Mapping[str, Any], plan: Plan) -> str:
    """What changed since the output was finished, and the ways on."""
    old, new = finished.get("recipe", {}), plan.recipe.resolved()
    changed = [k for k in sorted({*old, *new} - {"output", "work", "max_bad"}) if old.get(k) != new.get(k)]
    files = {(f["name"], f["version"]) for f in finished.get("input", [])}
    now = {(f.name, f.version) for f in plan.listing.files}
    if files != now:
        changed.append(f"{len(now - files)} input files are new or changed, {len(files - now)} are gone or changed")
    what = "; ".join(changed) or "the version of Tamis or of a stage"
    return (
        f"{storage.root} holds a finished run of something else (changed: {what}); write to another --output, or build the "
        "new result and put it in the place of the old with --replace"
    )
