"""`tamis plan`: what a recipe would do, and how much of it is done; and the recipe as it will run.

Invariant: nothing is written or started; of a large input at most `MAX_FOOTERS` footers are read, and then every count
that follows from footers is marked as an estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from ..stages.base import Resources, Rule
from ..stages.errors import RecipeError
from .bases import literal
from .finished import read_manifest
from .graph import BoundStage
from .listing import Listing
from .located import yaml_text
from .plan import Plan, Step
from .planning import plan_recipe
from .receipts import Receipts
from .recipe import Recipe
from .schema import RESERVED
from .storage import storage_at
from .terminal import plural, share, size, visible, wrapped

MAX_FOOTERS = 200
WIDTH = 110


def resolved_text(recipe: Recipe) -> str:
    """The recipe as YAML, every default filled in; loading it gives the same plan. Raises RecipeError."""
    plan = planned(recipe)
    resolved = recipe.resolved()
    _write_dollars(resolved)
    resolved["input"] = [_without_empty(source) for source in resolved["input"]]
    resolved["write"] = _without_empty(resolved["write"])
    if recipe.write.sets:
        resolved["write"]["sets"] = {name: _without_empty(one) for name, one in resolved["write"]["sets"].items()}
    resolved["stages"] = [_resolved_stage(bound) for bound in plan.graph.stages]
    return yaml_text(_without_empty(resolved))


def _write_dollars(resolved: dict[str, Any]) -> None:
    """A dollar in a path is written twice in a recipe, where `$name` is a variable."""
    for section, keys in [(resolved, ("output", "work")), *((one, ("files", "root")) for one in resolved["input"])]:
        for key in keys:
            found = section[key]
            section[key] = [literal(one) for one in found] if isinstance(found, list) else found and literal(found)


def _without_empty(section: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that say nothing."""
    return {key: found for key, found in section.items() if found not in (None, [], {}, "")}


def _resolved_stage(bound: BoundStage) -> dict[str, Any]:
    entry = bound.entry.model_dump(mode="json", exclude={"config"}, exclude_none=True)
    if bound.stage.kind not in ("decide", "resolve"):
        entry.pop("action")
    stage, fields = bound.stage, type(bound.stage.config).model_fields
    full = stage.config.model_dump(mode="json")
    config = {k: v for k, v in full.items() if v not in (None, [], {}, "") or fields[k].get_default()}
    try:
        type(stage)(stage.Config.model_validate(config), name=stage.name, seed=stage.seed)
    except (ValidationError, RecipeError):  # a key that only some settings allow, such as exact_dedup's `normalize`
        config = stage.config.model_dump(mode="json", exclude_unset=True)
    return entry | config


def planned(recipe: Recipe) -> Plan:
    """The plan as far as `MAX_FOOTERS` footers tell. Raises RecipeError for anything that cannot work."""
    return plan_recipe(recipe, max_footers=MAX_FOOTERS)


def plan_text(plan: Plan) -> str:
    """The plan in words."""
    lines = [*_head(plan), "", *_steps(plan), *_notes(plan)]
    return "".join(f"{line}\n" for line in lines)


# --- input and output ---------------------------------------------------------------------------------------------


def _head(plan: Plan) -> Iterator[str]:
    recipe = plan.recipe
    yield f"recipe  {recipe.name}{f' ({visible(recipe.path)})' if recipe.path else ''}"
    yield from _input(plan.listing)
    yield f"output  {recipe.output}: {_state(plan)}"
    about = "" if _counted(plan.listing) else "about "
    yield f"units   {about}{len(plan.units):,}, each up to {size(recipe.unit_size)} of text or one file that cannot be split"
    passes = [f"step {n}" for n, step in enumerate(plan.steps, 1) if step.reads_text]
    yield f"passes  the text is read {plan.text_passes} times: {', '.join([*passes, 'writing'])}"


def _counted(listing: Listing) -> bool:
    return all(file.counted for file in listing.files)


def _input(listing: Listing) -> Iterator[str]:
    files = listing.files
    stored = sum(file.size for file in files)
    parquet = [file for file in files if file.format == "parquet" and file.counted]
    rows = sum(group.rows for file in parquet for group in file.groups)
    text = sum(group.text_bytes for file in parquet for group in file.groups)
    kinds = ", ".join(f"{sum(f.format == kind for f in files):,} {kind}" for kind in sorted({f.format for f in files}))
    yield f"input   {plural(len(files), 'file')} ({kinds}), {size(stored)} as stored"
    read = sum(file.size for file in parquet)
    if read and _counted(listing):
        yield f"        {plural(rows, 'row')} and {size(text)} of text in the Parquet files, by their footers"
    elif read:
        scale = sum(file.size for file in files if file.format == "parquet") / read
        yield (
            f"        estimates from {len(parquet):,} footers: about {round(rows * scale):,} rows "
            f"and {size(text * scale)} of text in the Parquet files"
        )
    if listing.runs:
        yield from wrapped(
            [f"through {listing.runs[0].name} ({listing.runs[0].output})"]
            + [f"{run.name} ({run.output})" for run in listing.runs[1:]],
            indent=" " * 8,
            width=WIDTH,
        )
    notes = [
        f"{visible(file.name)}: {visible(file.error or file.note or '')}" for file in files if file.error or file.note
    ]
    yield from (f"        {note}" for note in notes[:10])
    if len(notes) > 10:
        yield f"        and {plural(len(notes) - 10, 'more file')} with a note"


def _state(plan: Plan) -> str:
    storage = storage_at(plan.recipe.output)
    finished = read_manifest(storage)
    if finished is None:
        return "not finished" if storage.exists("log.jsonl") else "new"
    if not _counted(plan.listing):
        return "holds a finished run"
    if finished.get("plan") == plan.key:
        return "finished; there is nothing to do"
    return "holds a finished run of something else; `tamis run` would refuse, write to another --output"


# --- steps --------------------------------------------------------------------------------------------------------


def _steps(plan: Plan) -> Iterator[str]:
    work = storage_at(plan.recipe.work or f"{plan.recipe.output.rstrip('/')}/work")
    ids = {unit.id for unit in plan.units}
    exact = _counted(plan.listing)
    for number, step in enumerate(plan.steps, 1):
        receipts = Receipts(work, step.folder).load()
        done = len(ids & receipts.keys()) if exact else len(receipts)
        units = f"{'' if exact else 'about '}{plural(len(ids), 'unit')}"
        yield f"step {number}  {step.folder}  [{_about(plan, step)}]  {done:,} of {units} done"
        for part in step.parts:
            bound = plan.stage(part)
            yield from _stage(bound, part.method)
    yield from _write(plan)


def _write(plan: Plan) -> Iterator[str]:
    """What is written, with a line for every set."""
    write = plan.recipe.write
    if plan.recipe.observe:
        yield "write   no data/, because the run only observes; ledger/, quarantine/, manifest.json"
        return
    asked = size(write.shard_size) if write.shard_size else "a 64th of the chosen text, 16 to 256 MB"
    folders = "".join(f"{visible(column)}=.../" for column in write.partition)
    kind = "" if write.format == "parquet" else f"{write.format} "
    yield (
        f"write   data/{'SET/' if write.sets else ''}{folders}, {kind}files of {asked}; "
        "then ledger/, quarantine/, manifest.json"
    )
    for name, written in write.sets.items():
        drawn = f", a sample of {share(written.sample, 1.0)}" if written.sample is not None else ""
        yield f"  {name:20} {f'where {visible(written.where)}' if written.where else 'kept documents'}{drawn}"


def _about(plan: Plan, step: Step) -> str:
    held = plan.stage(step.parts[0]).stage.resources if step.parts else Resources()
    if step.kind == "resolve":
        reads = "reads columns of all units"
    else:
        reads = "reads the text" if step.reads_text else "reads columns"
    gpus = f", {held.gpus:g} GPU{' where there is one' if held.fallback else ''}" if held.gpus else ""
    return f"{reads}; {held.cpus:g} CPU{gpus}"


def _stage(bound: BoundStage, method: str) -> Iterator[str]:
    measured = set(bound.stage.measured)
    added = [a.name for a in bound.added if (a.column.name in measured) == (method != "resolve")]
    rules = [_rule(rule) for rule in bound.stage.rules] if method in ("decide", "resolve") else []
    where = f"  where {visible(bound.entry.where)}" if bound.entry.where else ""
    tag = "  tags, drops nothing" if bound.entry.action == "tag" and rules else ""
    yield f"  {bound.name:20} {method}{where}{tag}"
    if added:
        yield from wrapped([f"adds {added[0]}", *added[1:]], indent=" " * 6, width=WIDTH)
    if rules:
        yield from wrapped([f"rules {rules[0]}", *rules[1:]], indent=" " * 6, width=WIDTH)


def _rule(rule: Rule) -> str:
    """'top.below (keep = 0.1)'; what a rule in SQL reads is in the recipe or `tamis list presets`."""
    params = [] if rule.sql else [f"{name.rpartition('.')[2]} = {found}" for name, found in rule.params]
    return f"{rule.name} ({', '.join(params)})" if params else rule.name


def _notes(plan: Plan) -> Iterator[str]:
    """What the graph remarks, the input columns that the listing renamed because a run has its own of that name, and
    what the recipe says it does otherwise."""
    taken = [name.removeprefix("input_") for name in plan.graph.input_types if name.startswith("input_")]
    renamed = [
        f"the input column {name} is kept as input_{name}, because every run has its own {name}"
        for name in taken
        if name in RESERVED
    ]
    slow = [f"without a GPU: {b.stage.without_gpu()}" for b in plan.graph.stages if b.stage.resources.fallback]
    for title, notes in (("notes", [*plan.graph.notes, *renamed, *slow]), ("differs", plan.recipe.differs)):
        if notes:
            yield ""
            yield f"{title}:"
            yield from (f"  - {visible(note)}" for note in notes)
