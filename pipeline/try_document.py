"""`tamis try`: one document through every stage of a recipe, in memory; what each saw, did and would have decided.

Invariant: up to the stage that ends the document, values and verdicts are those of a run, because the same functions
make them; what only the whole corpus can tell is called unknown and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..stages.base import Rule
from .batch import TEXT
from .fate import Judgement, judgement
from .manifest import describe_columns, describe_rules
from .output import Output
from .plan import Plan
from .try_source import Document
from .walk import Seen, walk

Outcome = Literal["pass", "fail", "null", "unknown"]


@dataclass(frozen=True)
class RuleSeen:
    """One rule on the document. `null`: what it reads is null, and `nulls` (pass, fail, quarantine) says what follows;
    `unknown`: it reads what only the whole corpus can tell."""

    name: str
    outcome: Outcome
    nulls: str
    judged: Judgement


@dataclass(frozen=True)
class End:
    """How a stage ends the document: as `decision`, `stage`, `rule`, `failed` and `reason` of a ledger row."""

    decision: Literal["drop", "quarantine"]
    stage: str | None
    rule: str | None
    failed: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True)
class StageSeen:
    """One stage: `ran` is False where its `where` let the document go by; `values`: what it added, by column; `end`: how
    it would end the document if it came so far; `unknown`: its columns that only the whole corpus can tell; `blind`:
    those that it reads."""

    name: str
    kind: str
    where: str | None
    tags: bool
    ran: bool
    before: str
    after: str
    values: Mapping[str, Any]
    rules: tuple[RuleSeen, ...]
    end: End | None
    unknown: tuple[str, ...]
    blind: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """The whole. `identity`: the system columns; `text`: the source text; `end`: None where the document is kept as far
    as one document can tell; `notes` of where it came from."""

    recipe: str
    identity: Mapping[str, Any]
    text: str
    stages: tuple[StageSeen, ...]
    end: End | None
    notes: tuple[str, ...]

    @property
    def decision(self) -> str:
        """keep, drop or quarantine."""
        return self.end.decision if self.end else "keep"


def try_document(document: Document) -> Trial:
    """Runs every stage on the document, also those behind the one that ends it. Raises StageError for a bug in one."""
    plan = document.plan
    row = {
        name: values[0].as_py() for name, values in zip(document.row.column_names, document.row.columns, strict=True)
    }
    identity = {name: row[name] for name in ("doc_id", "source_file", "source_row", "source_hash", "url", "date")}
    name, reason = plan.recipe.path or plan.recipe.name, row["reason"]
    if reason is not None:
        end = End("quarantine", None, None, (), reason)
        return Trial(name, identity, "", (), end, document.notes)
    for stage in plan.graph.stages:
        stage.stage.warm()
    inputs = {canonical: plan.graph.input_names[canonical] for canonical in plan.graph.read_columns}
    columns = {column: document.row[column].combine_chunks() for column in identity}
    columns |= {canonical: document.row[column].combine_chunks() for canonical, column in inputs.items()}
    known: dict[str, Any] = {column: values[0].as_py() for column, values in columns.items()}
    described = _described(plan)
    stages = []
    for seen in walk(plan, document.row["text"].combine_chunks().cast(TEXT), columns):
        stages.append(_stage(described, seen, known))
        known |= stages[-1].values
    end = next((stage.end for stage in stages if stage.end), None)
    return Trial(name, identity, row["text"], tuple(stages), end, document.notes)


def _described(plan: Plan) -> Output:
    """What a manifest would say of stages and rules, for `fate.judgement`."""
    stages = [{"name": b.name, "use": b.use, "kind": b.stage.kind} for b in plan.graph.stages]
    manifest = {"recipe": plan.recipe.resolved(), "stages": stages, "facts": {}}
    manifest |= {"columns": describe_columns(plan), "rules": describe_rules(plan)}
    return Output(plan.recipe.output, manifest)


def _stage(described: Output, seen: Seen, known: Mapping[str, Any]) -> StageSeen:
    bound, kind = seen.bound, seen.bound.stage.kind
    before, after = seen.before[0].as_py(), seen.after[0].as_py()
    ledger = {added.name for added in bound.added if added.column.ledger} | {f"{bound.name}_pass"}
    values = {name: column[0].as_py() for name, column in seen.columns.items()}
    unknown = tuple(name for name in seen.columns if name in seen.unknown and name in ledger)
    ran = kind == "resolve" or seen.counts.get("ran", 0) > 0
    row = {**known, "chars": len(before), "bytes": len(before.encode())}
    rules = tuple(_rule(described, seen, rule, row) for rule in bound.stage.rules) if kind == "decide" and ran else ()
    return StageSeen(
        name=bound.name,
        kind=kind,
        where=bound.entry.where,
        tags=bound.entry.action == "tag" and kind in ("decide", "resolve"),
        ran=ran,
        before=before,
        after=after,
        values={name: found for name, found in values.items() if name in ledger and name not in unknown},
        rules=rules,
        end=_end(seen, {rule.name for rule in rules if rule.outcome == "unknown"}),
        unknown=unknown,
        blind=tuple(sorted(seen.unknown.intersection(bound.needs))),
    )


def _rule(described: Output, seen: Seen, rule: Rule, row: Mapping[str, Any]) -> RuleSeen:
    tally = seen.counts["rules"][rule.name]
    outcome: Outcome = "null" if tally["null"] else "fail" if tally["failed"] else "pass"
    if seen.unknown.intersection(rule.needs):
        outcome = "unknown"
    return RuleSeen(rule.name, outcome, rule.nulls, judgement(described, row, rule.name))


def _end(seen: Seen, unknown: set[str]) -> End | None:
    """How the stage ends the document, by the rules that can be known."""
    fate = {name: seen.fate[name][0].as_py() for name in ("alive", "stage", "rule", "failed", "reason")}
    if fate["alive"]:
        return None
    failed = tuple(name for name in fate["failed"] or () if name not in unknown)
    if failed:
        return End("drop", fate["stage"], failed[0], failed, None)
    if fate["reason"] is not None and fate["rule"] not in unknown:
        return End("quarantine", fate["stage"], fate["rule"], (), fate["reason"])
    return None
