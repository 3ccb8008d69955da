"""`tamis why`: the whole story of one document of a finished run, from its ledger row.

Invariant: only what the story needs is read: identities of the ledger, one row of it, and, where an edit changed the
text, one row of the source; the same of every run that the document came through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..stages.errors import RecipeError, did_you_mean
from .cluster import tell_clusters
from .cuts import passed
from .fate import DECISIONS, Row, duplicate_columns, facts_of, fate, judgement, name_of
from .origin import before, find_origin, find_upstream, reached, upstream_runs
from .output import Output
from .terminal import columns, cut, plural, value, visible, wrapped

SHOWN = 20  # matches that are listed
DIFF_LINES = 40
WIDTH = 110


def story(output: str, *, key: str | None = None, phrase: str | None = None) -> str:
    """The story of the document that `key` means, or of the first whose text holds `phrase`; ends with a newline.

    Raises SetupError where the run is not finished, RecipeError where there is no such document.
    """
    opened = Output(output)
    if phrase is not None:
        found = opened.find_text(phrase, SHOWN + 1)
        if not found:
            raise RecipeError(_no_text(opened, phrase))
    else:
        found = opened.find(key or "", SHOWN + 1)
        if not found:
            return _story_from_above(opened, key or "")
    row = opened.row(found[0]["source_file"], found[0]["source_row"])
    if row is None:
        raise RecipeError(f"{opened.name}: data/ holds it and the ledger does not: see `tamis verify {opened.name}`")
    lines = list(_matches(found)) if len(found) > 1 else []
    return _joined([*lines, *tell(opened, row), *_came_through(opened, row)])


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _matches(rows: Sequence[Row]) -> Iterator[str]:
    number = f"more than {SHOWN} documents" if len(rows) > SHOWN else f"{len(rows)} documents"
    yield f"{number} match; the story of the first is below"
    listed = [(DECISIONS[r["decision"]], r["rule"] or r["reason"] or "", name_of(r)) for r in rows[:SHOWN]]
    yield from (f"  {cut(line, WIDTH)}" for line in columns(listed))
    yield ""


# --- runs before this one -----------------------------------------------------------------------------------------


def _came_through(output: Output, row: Row) -> Iterator[str]:
    """The story in the run whose output this document was read from, and so on up."""
    earlier = before(output, row)
    if earlier is None:
        return
    yield ""
    if earlier.run.output is None:
        yield f"came through {earlier.run.title}, {earlier.run.missing}"
    elif earlier.row is None:
        yield f"came through {earlier.run.title}, whose ledger does not have it: see `tamis verify {earlier.run.place}`"
    else:
        yield f"came through {earlier.run.title}"
        further = [*tell(earlier.run.output, earlier.row), *_came_through(earlier.run.output, earlier.row)]
        yield from (f"  {line}".rstrip() for line in further)


def _story_from_above(output: Output, key: str) -> str:
    """The story of a document that this run's ledger does not have under this key: known by what it was called before
    the runs that it came through, or dropped by one of them. RecipeError where no run has it."""
    found = find_upstream(output, key, SHOWN + 1)
    if not found:
        row = find_origin(output, key)
        if row is None:
            raise RecipeError(_no_document(output, key))
        return _joined([*tell(output, row), *_came_through(output, row)])
    lines = list(_matches([one.row for one in found])) if len(found) > 1 else []
    end = reached(output, found[0])
    told = [*tell(end.output, end.row), *_came_through(end.output, end.row)]
    if not end.above:
        return _joined([*lines, *told])
    ran = f"{visible(end.output.manifest['name'])} ({visible(end.output.name)})"
    what, _, how = fate(end.output, end.row).partition(" ")
    ended = f"{what.rstrip(':')} in {ran}{':' if what.endswith(':') else ''} {how}"
    unread = ", and was not read from there" if what == "kept:" else ""
    head = [f"not in {visible(output.manifest['name'])} ({visible(output.name)}): {ended}{unread}", ""]
    return _joined([*lines, *head, *(f"  {line}".rstrip() for line in told)])


def _survivor_came_through(output: Output, row: Row) -> Iterator[str]:
    """For a duplicate whose kept document came through an earlier run: which one, and what it was called there."""
    at = duplicate_columns(output, row["stage"])
    if (
        not output.manifest.get("input_runs")
        or not at
        or row[at["kept_row"]] is None
        or row.get(at.get("kept_output", ""))
    ):
        return
    kept = {"source_file": row[at["kept_file"]], "source_row": row[at["kept_row"]]}
    earlier = before(output, kept)
    if earlier is not None:
        there = (
            f", there {name_of(earlier.row)}" if earlier.row else f", {earlier.run.missing}" * (not earlier.run.output)
        )
        yield f"        the kept one came through {earlier.run.title}{there}"


def _no_document(output: Output, key: str) -> str:
    file, _, row = key.rpartition("#")
    names = [f["name"] for f in output.manifest["input"]]
    if row.isdecimal() and file in names:
        return f"{output.name}: {visible(file)} has no document in row {row}; rows and lines count from 0"
    runs = ", ".join(run.title if run.output else f"{run.title}, {run.missing}" for run in upstream_runs(output))
    above = f", nor in the runs that it read: {runs}" if runs else ""
    hint = did_you_mean(file, names) if row.isdecimal() and file else ""
    return f"{output.name}: no document has the doc_id, file#row, URL or source_hash {visible(key)!r}{above}.{hint}"


def _no_text(output: Output, phrase: str) -> str:
    return (
        f"{output.name}: no curated document holds {visible(phrase)!r}, letter by letter. Dropped documents are only in the "
        f"source: search there, then `tamis why {output.name} FILE#ROW`"
    )


# --- one document -------------------------------------------------------------------------------------------------


def tell(output: Output, row: Row, *, brief: bool = False, diff_lines: int = DIFF_LINES) -> list[str]:
    """The lines of a story: who, fate, failed rules, and what every stage did. `brief` leaves out the stages."""
    lines = [*_who(row, brief), f"fate    {fate(output, row)}"]
    lines += [*_survivor_came_through(output, row), *_failed(output, row, brief)]
    if not brief:
        lines += [*tell_clusters(output, row), "", *_path(output, row)]
    if diff_lines and any(row.get(f"{s['name']}_changed") for s in output.stages):
        from .edits import tell_edits

        lines += ["", *tell_edits(output, row, diff_lines)]
    return lines


def _who(row: Row, brief: bool) -> Iterator[str]:
    yield f"who     {name_of(row)}"
    if row["url"]:
        yield f"url     {cut(visible(row['url']), 200)}"
    if brief:
        return
    if row["date"]:
        yield f"date    {visible(row['date'])}"
    yield f"hash    {row['source_hash'] or 'none: the text could not be read'}"
    if row["bytes_read"] is not None:
        written = f", {_size(row, 'written')} written" if row["bytes_written"] is not None else ""
        yield f"size    {_size(row, 'read')} read{written}"


def _size(row: Row, when: str) -> str:
    return f"{row[f'bytes_{when}']:,} bytes ({plural(row[f'chars_{when}'], 'character')})"


def _failed(output: Output, row: Row, brief: bool) -> Iterator[str]:
    """Where the thresholds come from, and the other rules of the stage that failed too."""
    names = row["failed"] or ([row["rule"]] if row["rule"] else [])
    first = judgement(output, row, row["rule"]) if row["rule"] else None
    if first and first.params:
        yield f"        thresholds: {first.params}"
    if first and first.source and not brief:
        yield f"        source: {visible(first.source)}"
    others = [judgement(output, row, name) for name in names if name != row["rule"]]
    if not others:
        return
    yield f"also    failed {plural(len(others), 'other rule')} of {row['stage']}"
    yield from (
        f"        {line}"
        for line in columns([(j.rule, j.values, f"needs {j.needs}" if j.needs else "") for j in others])
    )


def _path(output: Output, row: Row) -> Iterator[str]:
    """One line a stage, with the values it measured below, up to the stage that ended the document."""
    names = [s["name"] for s in output.stages]
    last = names.index(row["stage"]) if row["stage"] in names else -1 if row["decision"] != "keep" else len(names) - 1
    yield "path    through the stages in order" if last >= 0 else "path    no stage saw it"
    width = max((len(name) for name in names), default=0)
    entries = output.manifest["recipe"]["stages"]
    for number, (stage, entry) in enumerate(zip(output.stages[: last + 1], entries, strict=False)):
        did = _did(output, row, stage, stage["name"] == row["stage"])
        if entry["where"] and stage["name"] != row["stage"] and not _went_in(output, row, entry["where"]):
            did = "went by"
        did += f" (where {visible(entry['where'])})" if entry["where"] else ""
        yield f"  {number + 1:3}  {stage['name']:{width}}  {stage['kind']:7}  {did}"
        yield from _values(output, row, stage["name"])
    unseen = names[last + 1 :]
    if unseen:
        yield from wrapped([f"later stages did not see it: {unseen[0]}", *unseen[1:]], indent=" " * 7, width=WIDTH)


def _did(output: Output, row: Row, stage: dict[str, Any], ended: bool) -> str:
    name, kind = stage["name"], stage["kind"]
    tag = row.get(f"{name}_pass")
    if ended:
        return f"{DECISIONS[row['decision']]} by {row['rule'] or row['reason']}"
    if f"{name}_pass" in row:
        return f"tagged {name}_pass = {value(tag)}"
    if kind == "edit":
        return "changed the text" if row[f"{name}_changed"] else "left the text as it was"
    if kind == "measure":
        return "measured"
    if cut := passed(output, row, name):
        return f"passed ({cut})"
    if kind == "decide":
        return f"passed {plural(len(stage.get('rules', ())), 'rule')}"
    at = duplicate_columns(output, name)
    if at:
        size = row[at["cluster_size"]] if "cluster_size" in at else None
        return f"kept as the one of {plural(size, 'duplicate')}" if size else "has no duplicate"
    facts = facts_of(output, name)
    return f"passed{f' ({facts})' if facts else ''}"


def _went_in(output: Output, row: Row, where: str) -> bool:
    """Whether the stage's `where` holds for the document, as far as the ledger has the columns that it reads."""
    from ..stages import sql

    if not sql.parse(where, where="where").columns <= row.keys():
        return True
    found = output.rows(
        f"SELECT ({where}\n) AS chosen FROM ledger WHERE source_file = ? AND source_row = ?",
        [row["source_file"], row["source_row"]],
    )
    return bool(found[0]["chosen"])


def _values(output: Output, row: Row, stage: str) -> list[str]:
    known = [name for name in output.stage_columns(stage) if row.get(name) is not None]
    nulls = len(output.stage_columns(stage)) - len(known)
    words = [f"{name} = {value(row[name])}" for name in known]
    if nulls:
        words.append(f"{nulls} null")
    return wrapped(words, indent=" " * 9, width=WIDTH)
