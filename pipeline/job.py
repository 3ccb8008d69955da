"""One run from its first unit to its manifest: steps in order, writing, ledger, pages.

Invariant: at every moment the folder holds committed work only; what is committed is never done again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..stages.base import UnitRows
from ..stages.errors import DataError, StageError
from .claims import claim
from .costs import costs
from .counts import count_items, merged, run_count
from .earlier import absolute
from .events import EventLog
from .executors.base import Executor, Failure, UnitWork, failure_of
from .finish import finish, write_pages, write_quarantine
from .graph import digest
from .interrupt import Interrupts
from .ledger import ledger_tasks, run_ledger
from .logs import RunLogs
from .manifest import build_manifest
from .models import model_folders, publish_models
from .plan import Plan, packs, unit_first_rows
from .planning import PACKS, read_packs
from .progress import Progress
from .receipts import Receipt, Receipts, encode
from .resolve import Inputs, ResolveContext, ResolveRuns, run_item
from .sets import Counts, one_key
from .signatures import finish_signatures, run_signatures, signature_folder
from .storage import Storage
from .terminal import plural
from .where_to import data_files
from .write import run_write
from .write_tasks import all_tasks, data_layout


@dataclass
class Job:
    """The state of one driver: receipts of every step, by unit id."""

    plan: Plan
    storage: Storage  # what is written goes here: the output, or the folder that is to replace it
    output: Storage
    work: Storage
    identity: str
    progress: Progress
    last: int | None  # step after which to stop
    spread: bool = False  # workers may be on other machines
    executor: Executor = None  # type: ignore[assignment]
    stop: Interrupts = None  # type: ignore[assignment]
    receipts: list[dict[str, Receipt]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)  # of resolve stages
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = EventLog(self.output, self.identity)
        self.logs = RunLogs(self.log)
        self.started = time.time()
        # Receipts of written files hold for these units and this folder; the bytes of the files do not depend on units.
        self.writing = digest([self.plan.key, [unit.id for unit in self.plan.units], self.storage.root])

    def close(self) -> None:
        if self.executor is not None:
            self.executor.close()
        if self.logs.warnings:
            self.progress.say(f"{plural(self.logs.warnings, 'warning')} in {self.output.url('log.jsonl')}")
        self.progress.close()
        self.log.flush()

    # --- the story

    def go(self) -> dict[str, Any] | None:
        """The manifest, or None where the run was to stop before its end."""
        plan = self.plan
        self.log(
            "start",
            recipe=plan.recipe.name,
            plan=plan.key,
            units=len(plan.units),
            steps=[s.folder for s in plan.steps],
            work=self.work.root,
        )
        self.log.flush()  # on an object store: so that `tamis status` knows of the run from its first moment
        self.work.write(f"listing-{plan.key}.json", plan.listing.to_json().encode())
        self.work.write(f"recipe-{plan.key}.json", encode(plan.recipe.resolved()))
        folders, below = [step.folder for step in plan.steps], plan.recipe.work is None
        if plan.recipe.keep_work == "signatures":
            folders.append(signature_folder(plan.key))
        if self.spread:
            folders += model_folders(plan)
        claim(self.work, plan.key, self.output.root, folders, self.writing, below=below)
        if self.spread:
            publish_models(plan, self.work)
        self._remember_packs()
        index, stop = 0, len(plan.steps) if self.last is None else self.last + 1
        while index < stop:
            if plan.steps[index].kind == "resolve":
                self._resolve(index)
                index += 1
                continue
            steps = [index]
            while steps[-1] + 1 < stop and plan.steps[steps[-1] + 1].kind == "unit":
                steps.append(steps[-1] + 1)
            self._units(steps)
            if index == 0:
                self._check_bad()
            index = steps[-1] + 1
        if self.last is not None:
            self.log("stopped", after=plan.steps[self.last].folder)
            return None
        written = None if plan.recipe.observe else self._write()
        ledger = self._ledger(written)
        if plan.recipe.keep_work == "signatures":
            self._signatures()
        return self._finish(written[1] if written else [], ledger)

    def _remember_packs(self) -> None:
        """A shared work folder serves several runs: what others know stays."""
        if self.plan.recipe.sample is not None:
            return  # its units are larger
        known = {pack[0][0]: pack for pack in map(list, [*read_packs(self.work), *packs(self.plan)])}
        self.work.write(PACKS, json.dumps([known[first] for first in sorted(known)]).encode())

    # --- per-unit steps

    def _units(self, steps: Sequence[int]) -> None:
        plan = self.plan
        done = [Receipts(self.work, plan.steps[i].folder).load() for i in steps]
        work = []
        for unit_index, unit in enumerate(plan.units):
            files = self._files(unit_index)
            for by_unit in done:
                if unit.id not in by_unit:
                    work.append(UnitWork(unit_index, files))
                    break
                files.append(by_unit[unit.id]["file"])
        name = "+".join(plan.steps[i].name for i in steps)
        self.progress.begin(name, len(plan.units), len(plan.units) - len(work))
        started = time.time()
        failures: list[Failure] = []
        for outcome in self.executor.units(plan, self.work, steps, work) if work else ():
            for position, receipt in outcome.receipts.items():
                self.logs.write(receipt.pop("log", []), step=plan.steps[position].folder, unit=receipt["unit"])
                done[position - steps[0]][receipt["unit"]] = receipt
                self.log(
                    "unit",
                    step=plan.steps[position].folder,
                    unit=receipt["unit"],
                    rows=receipt["rows"],
                    seconds=receipt.get("seconds"),
                )
                if position == steps[-1]:
                    self.progress.unit(name, receipt)
            self.stop.check()
            if outcome.failure:
                self._failed(outcome.failure, outcome.failure.what)
                failures.append(outcome.failure)
                if outcome.failure.kind in ("SetupError", "DataError"):
                    break  # the disk is full or the source changes: the other units would only meet the same
        self.progress.end(name)
        _raise(failures)
        ids = {unit.id for unit in plan.units}
        for index, by_unit in zip(steps, done, strict=True):
            ours = {k: r for k, r in by_unit.items() if k in ids}
            Receipts(self.work, plan.steps[index].folder).compact(by_unit)
            self.work.remove_tree(f"{plan.steps[index].folder}/attempts")
            self.receipts.append(ours)
            self.seconds[plan.steps[index].folder] = time.time() - started

    def _files(self, unit: int) -> list[str]:
        """Attribute files of a unit over the steps that are done."""
        return [by_unit[self.plan.units[unit].id]["file"] for by_unit in self.receipts]

    def _check_bad(self) -> None:
        """The first pass is complete: too much of the input unusable stops the run, with a complete quarantine."""
        plan, first = self.plan, self.receipts[0]
        rows = sum(r["rows"] for r in first.values())
        bad = sum(r.get("quarantined", 0) for r in first.values())
        lost = sum(entry["bytes"] for r in first.values() for entry in r["lost"])
        size = sum(f.size for f in plan.listing.files)
        share = max(bad / rows if rows else 0.0, lost / size if size else 0.0)
        if share <= plan.recipe.max_bad:
            return
        write_quarantine(plan, self.storage, self.work, self.receipts, self._all_files())
        row_size = (
            sum(r["read_bytes"] for r in first.values()) / max(rows, 1) or 1.0
        )  # makes rows comparable with bytes
        worst: dict[str, float] = {}
        for unit in plan.units:
            for entry in first[unit.id]["lost"]:
                worst[entry["file"]] = worst.get(entry["file"], 0) + entry["bytes"]
            for name, count in first[unit.id].get("bad", {}).items():
                worst[name] = worst.get(name, 0) + count * row_size
        names = ", ".join(sorted(worst, key=lambda n: -worst[n])[:5])
        raise DataError(
            f"{bad:,} of {rows:,} rows and {lost:,} of {size:,} bytes cannot be used, more than max_bad "
            f"({plan.recipe.max_bad:.2%}); worst: {names}. {self.storage.root}/quarantine tells each; "
            "mend the input, or run the same command with --set max_bad=100%"
        )

    # --- resolve steps

    def _resolve(self, index: int) -> None:
        plan = self.plan
        step, bound = plan.steps[index], plan.stage(plan.steps[index].parts[0])
        receipts = Receipts(self.work, step.folder)
        done, committed = receipts.load(), receipts.get("facts")
        self.progress.begin(step.name, len(plan.units), len([u for u in plan.units if u.id in done]))
        started = time.time()
        if committed is None:
            rows = [self.receipts[0][unit.id]["rows"] for unit in plan.units]
            first = unit_first_rows(rows)
            units = tuple(UnitRows(i, u.id, first[i], rows[i]) for i, u in enumerate(plan.units))
            earlier = tuple((o, absolute(o)) for o in getattr(bound.stage.config, "against", ()))
            inputs = Inputs(plan, self.work, index, units, tuple(tuple(f) for f in self._all_files()), earlier)
            context = ResolveContext(inputs, self._run_items)
            facts = bound.stage.resolve(ResolveRuns(units), context)
            cost = {"cpu_seconds": round(context.cpu_seconds, 4), "bytes": context.bytes}
            committed = receipts.commit("facts", {"facts": facts, "cost": cost})
            done = receipts.load()
        self.progress.end(step.name)
        missing = [u.id for u in plan.units if u.id not in done]
        if missing:
            raise StageError(f"{bound.place}: wrote no verdict for {len(missing)} units, the first {missing[0]}")
        self.facts[bound.name] = committed["facts"]
        self.costs[bound.name] = committed["cost"]
        receipts.compact(done)
        self._forget_phases(step.folder)
        self.receipts.append({u.id: done[u.id] for u in plan.units})
        self.seconds[step.folder] = time.time() - started
        self.log("resolved", step=step.folder, facts=committed["facts"], seconds=round(time.time() - started, 3))

    def _forget_phases(self, folder: str) -> None:
        """What the phases handed on to one another is as large as the signatures, and has served. In a shared work folder
        another run may be in the middle of the same step."""
        if self.plan.recipe.work is None:
            for phase in {path[len(folder) + 1 :].partition("/")[0] for path in self.work.list(folder)}:
                if "." not in phase:
                    self.work.remove_tree(f"{folder}/{phase}")

    def _run_items(self, inputs: Inputs, phase: str, function: Any, items: Mapping[str, Any]) -> Iterator[Receipt]:
        arguments = {name: (phase, function, name, value) for name, value in items.items()}
        what = f"{inputs.plan.steps[inputs.index].name}/{phase}"
        self.progress.phase(phase, 0, len(items))
        for done, receipt in enumerate(self._items(what, run_item, (inputs,), arguments), start=1):
            self.progress.phase(phase, done, len(items))
            yield receipt

    def _items(
        self, what: str, function: Any, shared: tuple[Any, ...], items: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[Receipt]:
        """Runs items on the executor; failures are raised after all others are done."""
        failures = []
        for outcome in self.executor.items(what, function, shared, items):
            self.stop.check()
            if isinstance(outcome, Failure):
                self._failed(outcome, f"{what}: {outcome.what}")
                failures.append(outcome)
            else:
                self.logs.write(outcome.pop("log", []), phase=what, item=outcome["item"])
                self.log("item", phase=what, item=outcome["item"])
                yield outcome
        _raise(failures)

    def _failed(self, failure: Failure, what: str) -> None:
        self.log("failure", what=what, kind=failure.kind, error=failure.message, traceback=failure.trace)

    def _all_files(self) -> list[list[str]]:
        return [self._files(i) for i in range(len(self.plan.units))]

    # --- writing

    def _write(self) -> tuple[Counts, list[Receipt]]:
        """What was chosen, and the receipts of the write tasks in order."""
        plan = self.plan
        counts = self._counts()
        layout = data_layout(plan, counts)
        tasks = all_tasks(plan, counts, layout)
        folder = f"write-{self.writing}"
        items = {t.item: (folder, t, [self._files(u) for u in t.units]) for t in tasks}
        done = self._tasks("write", folder, run_write, (plan, self.storage, self.work, layout), items)
        return counts, [done[task.item] for task in tasks]

    def _counts(self) -> Counts:
        """Rows and bytes per unit and folder of data/. Where that is one folder, the last step has counted them."""
        plan = self.plan
        if one_key(plan):
            kept = zip(self._kept("alive"), self._kept("alive_bytes"), strict=True)
            return Counts([""], [{0: both} for both in kept])
        folder = f"choose-{self.writing}"
        items = {
            item: (folder, item, units, [self._files(u) for u in units]) for item, units in count_items(plan).items()
        }
        return merged(plan, self._tasks("choose", folder, run_count, (plan, self.work), items).values())

    def _ledger(self, written: tuple[Counts, list[Receipt]] | None) -> list[Receipt]:
        """Receipts of the ledger tasks in order. `written`: what `_write` gave, None where there is no data/."""
        plan = self.plan
        rows = [self.receipts[0][unit.id]["rows"] for unit in plan.units]
        files = None
        if written is not None:
            files = data_files(written[0].keys, [entry for receipt in written[1] for entry in receipt["data"]])
        tasks = ledger_tasks(rows, written[0] if written else None)
        folder = f"ledger-{self.writing}"
        items = {t.item: (folder, t, [self._files(p.unit) for p in t.places]) for t in tasks}
        done = self._tasks("ledger", folder, run_ledger, (plan, self.storage, self.work, files), items)
        return [done[task.item] for task in tasks]

    def _kept(self, fact: str) -> list[int]:
        """A fact of the last step's receipts, per unit."""
        return [self.receipts[-1][unit.id][fact] for unit in self.plan.units]

    def _tasks(
        self, name: str, folder: str, function: Any, shared: tuple[Any, ...], items: Mapping[str, tuple[Any, ...]]
    ) -> dict[str, Receipt]:
        """Tasks that write files of the output: done are those whose files still stand with their sizes."""
        receipts = Receipts(self.work, folder)
        loaded = receipts.load()
        standing = self.storage.list("data") | self.storage.list("ledger")
        whole = {k for k, r in loaded.items() if all(standing.get(e["file"]) == e["bytes"] for e in r["data"])}
        receipts.forget(set(loaded) - whole)
        done = {k: loaded[k] for k in whole if k in items}
        self.progress.begin(name, len(items), len(done))
        started = time.time()
        missing = {k: v for k, v in items.items() if k not in done}
        for receipt in self._items(name, function, shared, missing):
            done[receipt["item"]] = receipt
            self.progress.unit(name, receipt)
        self.progress.end(name)
        receipts.compact(done)
        self.seconds[name] = time.time() - started
        return done

    def _signatures(self) -> None:
        """What `against` of later runs reads, from the attributes that then can go."""
        plan, folder = self.plan, signature_folder(self.plan.key)
        done = Receipts(self.work, folder).load()
        items = {u.id: (u.id, self._files(i)) for i, u in enumerate(plan.units) if u.id not in done}
        self.progress.begin("signatures", len(plan.units), len(plan.units) - len(items))
        for receipt in self._items("signatures", run_signatures, (plan, self.work), items):
            done[receipt["item"]] = receipt
            self.progress.unit("signatures", receipt)
        self.progress.end("signatures")
        finish_signatures(plan, self.work, {unit.id: done[unit.id] for unit in plan.units})

    # --- the end

    def _finish(self, writes: Sequence[Receipt], ledger: Sequence[Receipt]) -> dict[str, Any]:
        plan, storage = self.plan, self.storage
        files = [entry for receipt in writes for entry in receipt["data"]]
        files += [entry for receipt in ledger for entry in receipt["data"]]
        files += write_quarantine(plan, storage, self.work, self.receipts, self._all_files())
        named = {entry["file"] for entry in files}
        for folder in ("data", "ledger", "quarantine"):
            storage.remove_temporary(folder)
            for path in storage.list(folder):
                if path not in named:
                    storage.remove(path)
        manifest = build_manifest(plan, self.receipts, ledger, files, self.facts, self.seconds)
        manifest |= {"costs": costs(plan, self.receipts, self.costs, writes, ledger, self.work, storage)}
        manifest |= {"run": self.identity, "seconds": round(time.time() - self.started, 3)}
        pages, failed = write_pages(storage, manifest, self.output.root) if plan.recipe.report.pages else ([], [])
        for name, error in failed:
            self._failed(failure_of(name, error), name)
            self.progress.say(f"{name} could not be made ({error}); the result is whole without it")
        manifest["files"] = len(files) + len(pages) + 2
        finish(storage, manifest, [*files, *pages])
        self.log("finished", **manifest["counts"])
        return manifest


def _raise(failures: Sequence[Failure]) -> None:
    if failures:
        first = failures[0].error()
        if len(failures) > 1:
            raise type(first)(f"{first}\nand {len(failures) - 1} more; log.jsonl has them all")
        raise first
