"""`tamis status`: how far a run is, from its receipts, its log and its lock alone, wherever one asks.

Invariant: nothing is written, taken or locked; a run is neither stopped nor slowed by being asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..stages.errors import SetupError
from .claims import Claim, read_claims
from .events import NAME as LOG
from .finished import read_manifest
from .listing import Listing
from .lock import NAME as LOCK
from .lock import holder
from .plan import Unit, planned_units
from .receipts import COMPACTED, Receipt
from .storage import Storage, storage_at
from .terminal import columns, place, plural, seconds, share, size, visible

State = Literal["finished", "running", "stopped"]
READ = 500  # receipts that are opened in a step whose receipts are not yet one file; the rest is only counted
FAILURES = 5  # that are told
EVENTS = ("start", "failure", "failed", "stopped", "finished")


@dataclass(frozen=True)
class StepStatus:
    """A step. `done` of `units` (None where nobody knows yet how many there will be); `rows` and `alive` of the receipts
    that were read, None where they do not say; `worker_speed`: bytes of text a second in one worker; `left`: seconds, by
    the pace of this driver; `phases`: items done in each phase of a resolve step that is at work."""

    name: str
    done: int
    units: int | None
    rows: int | None
    alive: int | None
    partial: bool
    worker_speed: float | None
    left: float | None
    phases: Mapping[str, int]


@dataclass(frozen=True)
class Status:
    """`plan` and `recipe` of the run that was started last; `held`: by whom, '' if by nobody; `beat`: seconds since the
    holder's last heartbeat; `why`: why a run that is not finished stands still; `replaces`: a finished result stands
    there, until this run is done; times are seconds since 1970."""

    output: str
    state: State
    recipe: str
    plan: str
    files: int | None
    bytes: int | None
    units: int | None
    started: float | None
    held: str
    beat: float | None
    why: str
    replaces: bool
    counts: Mapping[str, int]
    seconds: float | None
    steps: tuple[StepStatus, ...]
    failures: tuple[str, ...]
    failed: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def status(folder: str) -> Status:
    """How the run that was started last into this output stands. SetupError where none ever was."""
    output = storage_at(folder)
    manifest = read_manifest(output) or {}
    events = list(_events(output))
    starts = [event for event in events if event["event"] == "start"]
    start = starts[-1] if starts else {}
    if not start and not manifest:
        raise SetupError(f"{place(output.root)}: no run of Tamis was started here; is the path right?")
    plan = start.get("plan") or manifest["plan"]
    after = events[events.index(start) + 1 :] if start else []
    failures = [event for event in after if event["event"] == "failure"]
    finished = manifest.get("plan") == plan
    held = holder(output)
    work = _work(output, start, plan)
    listing, units = _input(work, plan)
    steps = () if finished else _steps(work, _claim(work, plan, start), units, _time(start))
    return Status(
        output=place(output.root),
        state="finished" if finished else "running" if held else "stopped",
        recipe=start.get("recipe") or manifest["name"],
        plan=plan,
        files=len(listing.files) if listing else None,
        bytes=sum(file.size for file in listing.files) if listing else None,
        units=len(units) if units else start.get("units"),
        started=_time(start),
        held=held,
        beat=_beat(output),
        why="" if finished or held else _why(after),
        replaces=bool(manifest) and not finished,
        counts=manifest["counts"] if finished else {},
        seconds=manifest["seconds"] if finished else None,
        steps=steps,
        failures=tuple(
            f"{event['what']}: {str(event['error']).partition(chr(10))[0]}" for event in failures[-FAILURES:]
        ),
        failed=len(failures),
    )


def _events(output: Storage) -> Iterator[dict[str, Any]]:
    """The events of the log that tell how runs went. Units, of which there may be a million, are skipped unparsed."""
    try:
        lines = output.read(LOG).split(b"\n")
    except FileNotFoundError:
        return
    wanted = tuple(f'"event": "{name}"'.encode() for name in EVENTS)
    for line in lines:
        if any(mark in line for mark in wanted):
            try:
                event = json.loads(line)
            except ValueError:  # the line at which a disk was full
                continue
            if event.get("event") in EVENTS:
                yield event


def _time(event: Mapping[str, Any]) -> float | None:
    return event.get("time")


def _beat(output: Storage) -> float | None:
    try:
        return max(0.0, time.time() - float(json.loads(output.read(LOCK))["beat"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _why(events: Sequence[Mapping[str, Any]]) -> str:
    """Why nobody is at work, from what the last driver logged last."""
    last = next((event for event in reversed(events) if event["event"] in ("failed", "stopped")), None)
    if last is None:
        return "its process ended without a word: killed, or the machine went down"
    if last["event"] == "stopped":
        return f"it was to stop after {last['after']}"
    error = str(last["error"]).partition("\n")[0]
    return "it was interrupted" if error.startswith("KeyboardInterrupt") else error


# --- where its work is --------------------------------------------------------------------------------------------


def _work(output: Storage, start: Mapping[str, Any], plan: str) -> Storage:
    """The work folder: as the driver named it, or below the output where that was moved or is mounted elsewhere."""
    below = storage_at(f"{output.root}/work")
    if start.get("work") and not below.exists(f"recipe-{plan}.json"):
        return storage_at(start["work"])
    return below


def _input(work: Storage, plan: str) -> tuple[Listing | None, list[Unit]]:
    """The listing as the driver saved it, and the units that its recipe made of it; nothing where they are gone."""
    try:
        listing = Listing.from_json(work.read(f"listing-{plan}.json"))
        recipe = json.loads(work.read(f"recipe-{plan}.json"))
    except FileNotFoundError:
        return None, []
    return listing, planned_units(listing, recipe["unit_size"], recipe["units"], recipe["sample"])


def _claim(work: Storage, plan: str, start: Mapping[str, Any]) -> Claim:
    """Which folders the run uses."""
    found = [claim for claim in read_claims(work) if claim.plan == plan and not claim.replaces]
    return found[-1] if found else Claim(plan, "", tuple(start.get("steps", ())), "", True)


# --- the steps ----------------------------------------------------------------------------------------------------


def _steps(work: Storage, claim: Claim, units: Sequence[Unit], since: float | None) -> tuple[StepStatus, ...]:
    sizes = {unit.id: unit.bytes for unit in units}
    found = [_step(work, folder, sizes, since) for folder in claim.folders]
    written = [f"{name}-{claim.writing}" for name in ("write", "ledger")]
    found += [_step(work, folder, {}, since) for folder in written if claim.writing and work.list(folder)]
    return tuple(found)


def _step(work: Storage, folder: str, sizes: Mapping[str, int], since: float | None) -> StepStatus:
    """One folder of receipts. `sizes`: bytes of the units that count; {}: whatever items there are."""
    name = folder.rpartition("-")[0]
    times = work.modified(folder)
    skip = len(folder) + 1
    loose = {path[skip:-5]: when for path, when in times.items() if path.endswith(".json") and "/" not in path[skip:]}
    loose = {item: when for item, when in loose.items() if item in sizes or (not sizes and item != "facts")}
    folded = _folded(work, folder) if f"{folder}/{COMPACTED}" in times else {}
    folded = {item: receipt for item, receipt in folded.items() if item in sizes or (not sizes and item != "facts")}
    items = {*loose, *folded}
    chosen = [item for item in sorted(loose) if item not in folded]
    few = chosen if len(chosen) <= READ else [chosen[i * len(chosen) // READ] for i in range(READ)]
    receipts = [*folded.values(), *(receipt for item in few if (receipt := _receipt(work, folder, item)))]
    took = [(sizes[r["item"]], r["seconds"]) for r in receipts if r["item"] in sizes and r.get("seconds")]
    units = len(sizes) or None
    phases: dict[str, int] = {}
    for path in times:
        phase, below, item = path[skip:].partition("/")
        if below and item.endswith(".json"):
            phases[phase] = phases.get(phase, 0) + 1
    return StepStatus(
        name=name,
        done=len(items),
        units=units,
        rows=_sum(receipts, "rows"),
        alive=_sum(receipts, "alive"),
        partial=len(few) < len(chosen),
        worker_speed=sum(b for b, _ in took) / sum(s for _, s in took) if took else None,
        left=_left(sorted(loose.values()), (units or 0) - len(items), since),
        phases=phases if units and len(items) < units else {},
    )


def _folded(work: Storage, folder: str) -> dict[str, Receipt]:
    return {r["item"]: r for r in map(json.loads, work.read(f"{folder}/{COMPACTED}").splitlines())}


def _receipt(work: Storage, folder: str, item: str) -> Receipt | None:
    try:
        return json.loads(work.read(f"{folder}/{item}.json"))
    except (FileNotFoundError, ValueError):  # folded into one file meanwhile, or not yet whole
        return None


def _sum(receipts: Sequence[Receipt], fact: str) -> int | None:
    values = [receipt[fact] for receipt in receipts if receipt.get(fact) is not None]
    return sum(values) if values else None


def _left(commits: Sequence[float], missing: int, since: float | None) -> float | None:
    """Seconds for the missing units at the pace of the commits since the driver started."""
    ours = [when for when in commits if since is None or when >= since - 1]
    if missing <= 0 or len(ours) < 2 or ours[-1] == ours[0]:
        return None
    return missing * (ours[-1] - ours[0]) / (len(ours) - 1)


# --- in words -----------------------------------------------------------------------------------------------------


def status_text(found: Status) -> str:
    """What `tamis status` prints, a newline at its end."""
    lines = [*_head(found)]
    if found.steps:
        rows = [("step", "done", "", "documents", "alive", "a worker", "")]
        rows += [_row(step) for step in found.steps]
        lines += ["", *columns(rows, right=(1, 2, 3, 4, 5))]
    if found.failures:
        more = f"; the last {len(found.failures)}" if found.failed > len(found.failures) else ""
        lines += ["", f"{plural(found.failed, 'failure')} since it was started{more} (log.jsonl has them all)"]
        lines += [f"  {visible(failure)}" for failure in found.failures]
    return "".join(f"{line}\n" for line in lines)


def _head(found: Status) -> Iterator[str]:
    yield f"output   {visible(found.output)}"
    yield f"recipe   {visible(found.recipe)} (plan {found.plan})"
    if found.files is not None and found.bytes is not None:
        yield f"input    {plural(found.files, 'file')}, {size(found.bytes)} as stored, {plural(found.units or 0, 'unit')}"
    if found.started is not None:
        yield f"started  {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(found.started))}"
    beat = f", heartbeat {found.beat:.0f} s ago" if found.beat is not None and "heartbeat" not in found.held else ""
    if found.state == "running":
        yield f"state    running: {visible(found.held)}{beat}"
    elif found.state == "finished":
        yield f"state    finished in {seconds(found.seconds or 0)}"
        kept, rows = found.counts["kept"], found.counts["rows"]
        yield f"         {plural(rows, 'document')} read, {kept:,} kept ({share(kept, rows)})"
    else:
        dead = f"; its lock is left behind{beat}" if found.beat is not None else ""
        yield f"state    stopped: {visible(found.why)}{dead}"
        yield "         the same `tamis run` continues where it was"
    if found.replaces:
        yield "         a finished result of another plan stands there until this one is done (--replace)"


def _row(step: StepStatus) -> tuple[str, ...]:
    of = f"{step.done:,} of {step.units:,}" if step.units is not None else f"{step.done:,}"
    about = "about " if step.partial else ""
    scale = step.done / min(step.done, READ) if step.partial else 1
    rows = f"{about}{round(step.rows * scale):,}" if step.rows is not None else ""
    alive = share(step.alive, step.rows or 0) if step.alive is not None and step.rows else ""
    speed = f"{step.worker_speed / 1e6:,.1f} MB/s" if step.worker_speed else ""
    phases = ", ".join(f"{phase} {done:,}" for phase, done in step.phases.items())
    left = f"about {seconds(step.left)} left" if step.left is not None else phases
    return step.name, of, share(step.done, step.units) if step.units else "", rows, alive, speed, left
