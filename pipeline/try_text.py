"""A trial in words: text before and after, every value beside its threshold, and what would have become of it.

Invariant: a stage behind the one that ends the document is shown too, and it is said that a run would not come so far.
"""

from __future__ import annotations

from collections.abc import Iterator

from .edits import difference
from .fate import READING
from .terminal import columns, cut, plural, value, visible, wrapped
from .try_document import End, RuleSeen, StageSeen, Trial

WIDTH = 110
DIFF_LINES = 60
HEAD_LINES, HEAD = 6, 500  # lines and characters of the source text that are shown
NULLS = {"pass": "which passes", "fail": "which fails", "quarantine": "which sets the document aside"}


def trial_text(trial: Trial) -> str:
    """The text that `tamis try` prints, a newline at its end."""
    lines = [*_who(trial), "", f"fate    {_fate(trial)}", *_also(trial), *_undecided(trial), ""]
    width = max((len(stage.name) for stage in trial.stages), default=0)
    ended = False
    for number, stage in enumerate(trial.stages, 1):
        lines += _stage(number, stage, width, ended)
        ended = ended or stage.end is not None
    return "".join(f"{line}\n" for line in lines)


def _who(trial: Trial) -> Iterator[str]:
    at = f"{trial.identity['source_file']}#{trial.identity['source_row']}"
    doc_id = trial.identity["doc_id"]
    yield f"recipe  {visible(trial.recipe)}"
    yield f"who     {visible(at if doc_id in (None, at) else f'{doc_id} ({at})')}"
    if trial.identity["url"]:
        yield f"url     {cut(visible(trial.identity['url']), 200)}"
    yield from (f"note    {visible(note)}" for note in trial.notes)
    if not trial.stages and trial.end:
        return
    yield f"text    {plural(len(trial.text), 'character')}"
    lines = trial.text[:HEAD].split("\n")
    yield from (f"  | {cut(visible(line), WIDTH)}" for line in lines[:HEAD_LINES])
    if len(lines) > HEAD_LINES or len(trial.text) > HEAD:
        yield "  | …"


def _fate(trial: Trial) -> str:
    end = trial.end
    if end is None:
        return "kept"
    if end.stage is None:
        reason = end.reason or ""
        return f"set aside: {READING.get(reason, visible(reason))}"
    return _ended(trial, end)


def _ended(trial: Trial, end: End) -> str:
    seen = next(
        (rule for stage in trial.stages if stage.name == end.stage for rule in stage.rules if rule.name == end.rule),
        None,
    )
    if seen is None:
        return f"dropped by the edit {end.stage}, which leaves nothing of its text ({end.rule})"
    judged = f": {_judged(seen)}" if _judged(seen) else ""
    if end.decision == "quarantine":
        return f"set aside by {end.rule}{judged} ({end.reason})"
    return f"dropped by {end.rule}{judged}"


def _judged(rule: RuleSeen) -> str:
    needs = f"needs {rule.judged.needs}" if rule.judged.needs else ""
    return ", ".join(filter(None, [rule.judged.values, needs]))


def _also(trial: Trial) -> Iterator[str]:
    """The later stages that would end it too: what else to change, for a person who wants to keep it."""
    later = [stage.end for stage in trial.stages if stage.end and stage.end is not trial.end]
    if later:
        words = [f"{end.stage} ({', '.join(end.failed) or end.rule})" for end in later]
        yield from wrapped([f"also    later stages would end it too: {words[0]}", *words[1:]], indent="", width=WIDTH)


def _undecided(trial: Trial) -> Iterator[str]:
    whole = [stage.name for stage in trial.stages if stage.kind == "resolve"]
    if whole:
        yield f"open    {', '.join(whole)}: needs the whole corpus; taken as if it kept the document"


def _stage(number: int, stage: StageSeen, width: int, ended: bool) -> Iterator[str]:
    where = f"  (where {visible(stage.where)})" if stage.where else ""
    late = "  (a run does not come so far)" if ended else ""
    yield f"{number:3}  {stage.name:{width}}  {stage.kind:7}  {_did(stage)}{where}{late}"
    if stage.blind:
        yield f"       reads {', '.join(stage.blind)}, which need the whole corpus and are null here"
    if stage.kind == "edit" and stage.before != stage.after:
        lines = list(difference(stage.before, stage.after, DIFF_LINES + 1))
        yield from (f"       {line}" for line in lines[:DIFF_LINES])
        if len(lines) > DIFF_LINES:
            yield "       … and more"
    values = [f"{name} = {value(found)}" for name, found in stage.values.items()]
    yield from wrapped(values, indent=" " * 7, width=WIDTH)
    if stage.unknown and stage.kind == "resolve":
        yield from wrapped([f"unknown: {stage.unknown[0]}", *stage.unknown[1:]], indent=" " * 7, width=WIDTH)
    order = {"fail": 0, "null": 1, "unknown": 2, "pass": 3}
    rows = [_rule(rule) for rule in sorted(stage.rules, key=lambda rule: order[rule.outcome])]
    yield from (f"       {line}" for line in columns(rows))


def _did(stage: StageSeen) -> str:
    if stage.kind == "resolve":
        return "needs the whole corpus"
    if not stage.ran:
        return "goes by"
    if stage.kind == "measure":
        return "measures"
    if stage.kind == "edit":
        if stage.before == stage.after:
            return "leaves the text as it is"
        empty = ": nothing is left, dropped here" if stage.end else ""
        return f"changes the text: {len(stage.before):,} -> {plural(len(stage.after), 'character')}{empty}"
    failed = sum(rule.outcome == "fail" or (rule.outcome == "null" and rule.nulls == "fail") for rule in stage.rules)
    told = (
        f"fails {failed} of {plural(len(stage.rules), 'rule')}"
        if failed
        else f"passes {plural(len(stage.rules), 'rule')}"
    )
    if stage.tags:
        return f"{told}; tags, drops nothing"
    if stage.end:
        return f"{told}: {'set aside' if stage.end.decision == 'quarantine' else 'dropped'} here"
    return told


def _rule(rule: RuleSeen) -> tuple[str, str, str, str]:
    word = {"fail": "FAIL", "pass": "pass", "null": "null", "unknown": "?"}[rule.outcome]
    needs = f"needs {rule.judged.needs}" if rule.judged.needs else ""
    if rule.outcome == "null":
        needs = f"{needs}, {NULLS[rule.nulls]}" if needs else NULLS[rule.nulls]
    return word, rule.name, rule.judged.values, needs
