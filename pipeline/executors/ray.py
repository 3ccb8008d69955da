"""The same work on Ray: per-unit steps as one Ray Data pipeline over unit ids, everything else as plain tasks.

Invariant: between operators a unit is one row of ids and receipts, `batch_size=1`, which nothing can cut or merge.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data

from ...scorers.base import BrokenDeviceError
from ...stages.base import Resources
from ...stages.errors import SetupError
from ..plan import Part, Plan
from ..receipts import Receipt, run_identity
from ..run_unit import prepare_process
from ..storage import Storage
from .base import ATTEMPTS, Failure, UnitOutcome, UnitWork, advance, failure_of, perform
from .metrics import Metrics

WAVE = 20_000  # units in one pipeline: bounds the driver's object references
DEVICE_LOST = 70  # exit code of a worker that ends itself
OBJECT_STORE = 256 << 20  # receipts only; Ray's minimum is 75 MB

_shared: dict[str, Any] = {}  # per worker process: what `ray.put` holds, fetched once


class RayExecutor:
    """See `base.Executor`. Joins the cluster at RAY_ADDRESS, else starts one on this machine with `workers` CPUs."""

    def __init__(self, workers: int | None = None, recipe: str = "") -> None:
        self.run = run_identity()
        self._serial = itertools.count()
        os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        if not os.environ.get("RAY_ADDRESS"):
            options |= {
                "address": "local",  # else it would join whatever cluster somebody has started on this machine
                "num_cpus": workers or os.cpu_count(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE,
            }
        ray.init(ignore_reinit_error=True, **options)
        self.slots = int(workers or ray.cluster_resources().get("CPU", 0))
        if self.slots < 1:
            raise SetupError("the Ray cluster has no CPU; add a worker node or pass --workers")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self.metrics = Metrics(recipe)

    def units(
        self, plan: Plan, storage: Storage, steps: Sequence[int], work: Sequence[UnitWork]
    ) -> Iterator[UnitOutcome]:
        self._admit(plan, steps)
        shared = {"name": f"{self.run}-{plan.key}", "ref": ray.put((plan, storage))}
        pools = dict(zip(steps, pool_sizes(self._held_by(plan, steps), self.slots, self.gpus), strict=True))
        begun = {todo.unit: len(todo.files) for todo in work}
        for index in steps:
            self.metrics.begin(plan.steps[index].name, sum(files <= index for files in begun.values()))
        for start in range(0, len(work), WAVE):
            wave = work[start : start + WAVE]
            rows = [{"unit": todo.unit, "state": json.dumps({"files": todo.files})} for todo in wave]
            pipeline = ray.data.from_items(rows, override_num_blocks=len(rows))
            for index in steps:
                pipeline = self._with_step(pipeline, plan, index, shared, pools[index])
            for batch in pipeline.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for unit, state in zip(batch["unit"].to_pylist(), batch["state"].to_pylist(), strict=True):
                    outcome = _outcome(unit, json.loads(state))
                    for index, receipt in outcome.receipts.items():
                        self.metrics.outcome(plan.steps[index].name, receipt)
                    if outcome.failure:
                        failed = max(outcome.receipts, default=begun[unit] - 1) + 1
                        self.metrics.outcome(plan.steps[failed].name, outcome.failure)
                    yield outcome

    @property
    def gpus(self) -> float:
        return float(ray.cluster_resources().get("GPU", 0))

    def _held_by(self, plan: Plan, steps: Sequence[int]) -> list[Resources]:
        """What one instance of each step holds on this cluster."""
        found = [plan.stage(parts[0]).stage.resources if parts else Resources() for parts in _parts(plan, steps)]
        return [replace(held, gpus=0) if held.fallback and not self.gpus else held for held in found]

    def _with_step(
        self, pipeline: ray.data.Dataset, plan: Plan, index: int, shared: dict[str, Any], actors: tuple[int, int]
    ) -> ray.data.Dataset:
        """The pipeline with one step more: in a pool of so many actors at least and at most, or as tasks."""
        (held,) = self._held_by(plan, [index])
        options: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": held.cpus}
        arguments = {"shared": shared, "index": index, "run": self.run}
        if not actors[1]:
            compute: Any = ray.data.TaskPoolStrategy(size=self.slots)
            return pipeline.map_batches(functools.partial(_run_step, **arguments), compute=compute, **options)
        if held.gpus:
            options["num_gpus"] = held.gpus
        options["memory"] = 1 + index  # bytes: Ray Data makes one operator of neighbours whose requests are equal
        compute = ray.data.ActorPoolStrategy(min_size=actors[0], max_size=actors[1])
        return pipeline.map_batches(cast(Any, _StepActor), fn_kwargs=arguments, compute=compute, **options)

    def items(
        self, what: str, function: Callable[..., Receipt], shared: tuple[Any, ...], items: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[Receipt | Failure]:
        """Plain tasks with a bounded window; a dead process costs one of three attempts."""
        if not items:
            return
        handle = {"name": f"{self.run}-items-{next(self._serial)}", "ref": ray.put(shared)}
        self.metrics.begin(what, len(items))
        task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_run_item)
        waiting = iter(items.items())
        running: dict[Any, str] = {}
        while True:
            while len(running) < 2 * self.slots and (following := next(waiting, None)) is not None:
                running[task.remote(function, handle, *following)] = following[0]
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1)
            name = running.pop(ready[0])
            try:
                outcome = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                outcome = Failure(name, "StageError", f"{name}: its process died {ATTEMPTS} times ({error})")
            self.metrics.outcome(what, outcome)
            yield outcome

    def _admit(self, plan: Plan, steps: Sequence[int]) -> None:
        """Refuses what the cluster cannot hold, or import: Ray Data would wait, or try again, for ever."""
        held = self._held_by(plan, steps)
        places = [plan.stage(parts[0]).place if parts else "" for parts in _parts(plan, steps)]
        for place, need in zip(places, held, strict=True):
            for kind, amount, there in (("CPU", need.cpus, self.slots), ("GPU", need.gpus, self.gpus)):
                if amount > there:
                    auto = "; with `gpus: auto` it runs on CPUs where there is no GPU" if kind == "GPU" else ""
                    raise SetupError(f"{place}: needs {amount:g} {kind}, the cluster has {there:g}{auto}")
        pools = [h for h in held if h.gpus or h.pool]
        for place, need, (size, _) in zip(places, held, pool_sizes(held, self.slots, self.gpus), strict=True):
            if need in pools and not size:
                least = [h.pool[0] if h.pool else 1 for h in pools]
                raise SetupError(
                    f"{place}: this step's actors and those beside it hold at least "
                    f"{sum(n * h.gpus for n, h in zip(least, pools)):g} GPU and "
                    f"{sum(n * h.cpus for n, h in zip(least, pools)):g} CPU, and one CPU must stay free; the cluster has "
                    f"{self.gpus:g} GPU and {self.slots} CPU"
                )
        foreign = {bound.use: bound.place for bound in plan.graph.stages if ":" in bound.use}
        if foreign:
            found = ray.get(ray.remote(num_cpus=1)(_imports).remote(list(foreign)))
            for use, error in found.items():
                raise SetupError(
                    f"{foreign[use]}: use: {use}: a worker cannot import it ({error}): install it there, or name its "
                    "folder in PYTHONPATH before the cluster starts"
                )

    def close(self) -> None:
        ray.shutdown()


def _parts(plan: Plan, steps: Sequence[int]) -> list[Sequence[Part]]:
    return [plan.steps[index].parts for index in steps]


def pool_sizes(held: Sequence[Resources], cpus: float, gpus: float) -> list[tuple[int, int]]:
    """Actors per step of one pipeline, fewest and most; (0, 0) for tasks, or for what cannot run. Actors give nothing back
    before the pipeline ends, so the fewest of all pools must fit at once, with one CPU free for the tasks of the other
    steps: else Ray Data waits for ever. Where that leaves no CPU for actors that hold no GPU, tasks do the work; their
    processes keep what they loaded as long as they are used. `Resources.pool` says itself how many: what of its most
    does not fit now is what an autoscaler may add."""
    asked = [(h.pool[0], h) for h in held if h.pool]
    cpus, gpus = cpus - 1 - sum(n * h.cpus for n, h in asked), gpus - sum(n * h.gpus for n, h in asked)
    wanted = [h for h in held if (h.gpus or h.actors) and not h.pool]
    rounds = cpus // sum(h.cpus for h in wanted) if wanted else 0
    on_gpu = sum(h.gpus for h in wanted)
    by_gpu = min(rounds, gpus // on_gpu) if on_gpu else 0
    found = []
    for h in held:
        size = int(max(by_gpu if h.gpus else rounds, 0)) if h.gpus or h.actors else 0
        found.append((h.pool if cpus >= 0 and gpus >= 0 else (0, 0)) if h.pool else (size, size))
    return found


def _imports(uses: Sequence[str]) -> dict[str, str]:
    """What this process cannot import of stages that are not ours, and why."""
    found = {}
    for use in uses:
        try:
            importlib.import_module(use.partition(":")[0])
        except Exception as error:
            found[use] = f"{type(error).__name__}: {error}"
    return found


def _fetch(shared: dict[str, Any]) -> Any:
    if shared["name"] not in _shared:
        prepare_process()
        _shared.clear()
        _shared[shared["name"]] = ray.get(shared["ref"])
    return _shared[shared["name"]]


class _StepActor:
    """One step in a process that stays: what its stages load is loaded once. What it needs comes with each call, since Ray
    warns of references in constructors, which a restarted actor might find gone."""

    def __call__(self, batch: pa.Table, shared: dict[str, Any], index: int, run: str) -> pa.Table:
        return _run_step(batch, shared, index, run)


def _run_step(batch: pa.Table, shared: dict[str, Any], index: int, run: str) -> pa.Table:
    """One step of one unit, in a worker."""
    plan, storage = _fetch(shared)
    unit, state = batch["unit"][0].as_py(), json.loads(batch["state"][0].as_py())
    outcome = _outcome(unit, state)
    files = list(state["files"])
    if len(files) <= index and outcome.failure is None:
        marks = f"{plan.steps[index].folder}/attempts/{run}/{plan.units[unit].id}"
        attempt = _next_attempt(storage, marks)
        if attempt is not None:
            advance(plan, storage, index, outcome, files)
            if outcome.failure is not None and outcome.failure.kind == BrokenDeviceError.__name__:
                # Ray would send the next unit to this process, whose device answers nothing any more
                storage.create(f"{marks}.{attempt}.error", outcome.failure.message.encode())
                os._exit(DEVICE_LOST)
        else:
            stages = ", ".join(plan.stage(p).name for p in plan.steps[index].parts)
            what = f"unit {plan.units[unit].id}"
            told = f"{what}: its process died {ATTEMPTS} times in: {stages}{_last_words(storage, marks)}"
            outcome.failure = Failure(what, "StageError", told)
    state = {
        "files": files,
        "receipts": outcome.receipts,
        "failure": asdict(outcome.failure) if outcome.failure else None,
    }
    return pa.table({"unit": [unit], "state": [json.dumps(state)]})


def _next_attempt(storage: Storage, marks: str) -> int | None:
    """Counts attempts by marks, since Ray retries a task whose process died without end and without telling it."""
    return next((k for k in range(ATTEMPTS) if storage.create(f"{marks}.{k}", b"")), None)


def _last_words(storage: Storage, marks: str) -> str:
    """What the last process said that ended itself."""
    said = [name for name in (f"{marks}.{k}.error" for k in reversed(range(ATTEMPTS))) if storage.exists(name)]
    return f"; at last: {storage.read(said[0]).decode()}" if said else ""


def _outcome(unit: int, state: dict[str, Any]) -> UnitOutcome:
    failure = Failure(**state["failure"]) if state.get("failure") else None
    return UnitOutcome(unit, {int(k): v for k, v in state.get("receipts", {}).items()}, failure)


def _run_item(
    function: Callable[..., Receipt], shared: dict[str, Any], name: str, arguments: tuple[Any, ...]
) -> Receipt | Failure:
    try:
        found = _fetch(shared)
    except Exception as error:
        return failure_of(name, error)
    return perform(name, function, (*found, *arguments))
