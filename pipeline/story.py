"""What a run came to: alarms, the funnel, what stayed silent, three documents' stories, and the commands to type next.

Invariant: the same output gives the same text; stories are picked by what the ledger holds, never by chance.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .alarms import alarms
from .fate import duplicate_columns
from .output import Output
from .silence import suspicions
from .terminal import columns, plural, seconds, share, size, visible

if TYPE_CHECKING:
    from .driver import Result

RULES_SHOWN = 3
SHORT = 2_000  # characters of a document that is good to show
DIFF_LINES = 12


def summary(result: Result) -> str:
    """The text that `tamis run` ends with, a newline at its end."""
    output = Output(result.output)
    lines = [] if result.fresh else [f"nothing to do: {output.name} holds the finished run of this recipe", ""]
    counts = output.manifest["counts"]
    funnel = _funnel(output.stages, counts["rows"] - counts["outside_sample"], counts["kept"])
    lines += _totals(output)
    raised = alarms(output)
    lines += ["", "alarms", *(f"  {line}" for line in raised)] if raised else []
    lines += ["", *funnel]
    if result.fresh:
        found = suspicions(output)
        lines += ["", "silent or suspicious", *(f"  {line}" for line in found)] if found else []
        lines += _stories(output)
        lines += ["", *_next(output)]
    return "".join(f"{line}\n" for line in lines)


def unfinished_summary(result: Result) -> str:
    """The text that `tamis run --until STAGE` ends with: the funnel of the stages that are done."""
    done = [stage for stage in result.stages if "in" in stage]
    rows = done[0]["in"] if done else 0
    lines = [*_funnel(done, rows), "", f"stopped after {done[-1]['name'] if done else 'reading'}, as asked"]
    lines.append("the same command without --until goes on from here")
    return "".join(f"{line}\n" for line in lines)


def _totals(output: Output) -> Iterator[str]:
    counts, took = output.manifest["counts"], output.manifest["seconds"]
    observing, outside = output.manifest["recipe"]["observe"], counts["outside_sample"]
    rows, kept = counts["rows"] - outside, counts["kept"]
    of_all = f" of {counts['rows']:,}" if outside else ""
    would = "would be " if observing else ""
    yield (
        f"{output.manifest['name']}: {rows:,}{of_all} {'document' if counts['rows'] == 1 else 'documents'} read, "
        f"{kept:,} {would}kept ({share(kept, rows)}), {counts['dropped']:,} {would}dropped, {counts['quarantined']:,} set aside"
    )
    speed = f", {counts['bytes_read'] / took / 1e6:,.1f} MB/s" if took else ""
    written = f"{size(counts['bytes_written'])} {would}written ({share(counts['bytes_written'], counts['bytes_read'])})"
    yield f"  {size(counts['bytes_read'])} of text read, {written}, in {seconds(took)}{speed}"
    if outside:
        yield "  a sample: what it tells of duplicates is a lower bound"
    if observing:
        yield "  an observing run: every stage measured every document, and nothing was written but the ledger"
    lost = (
        f"; {size(counts['bytes_lost'])} could not be read, see quarantine/files.parquet"
        if counts["files_lost"]
        else ""
    )
    yield f"  {plural(counts['files'], 'input file')}, {counts['files_lost']:,} of them lost in whole or in part{lost}"


def _funnel(stages: Sequence[Mapping[str, Any]], before: int, kept: int | None = None) -> Iterator[str]:
    """A row a stage: documents in, dropped, their share of what came in, seconds, the rules that dropped most."""
    rows = [("stage", "kind", "in", "dropped", "", "seconds", "first failed")]
    unread = before - stages[0].get("in", 0) if stages else 0
    if unread:
        rows.append(("(reading)", "", f"{before:,}", f"{unread:,}", share(unread, before), "", "set aside"))
    for stage in stages:
        came, left = stage.get("in", 0), stage.get("in", 0) - stage.get("out", 0)
        cells = (f"{came:,}", f"{left:,}" if left else "", share(left, came) if left else "")
        rows.append((stage["name"], stage["kind"], *cells, f"{stage['seconds']:.1f}", _why(stage)))
    if kept is not None:
        rows.append(("kept", "", f"{kept:,}", "", "", "", ""))
    yield from columns(rows, right=(2, 3, 4, 5))


def _why(stage: Mapping[str, Any]) -> str:
    tallies = {rule: tally["first"] for rule, tally in stage.get("rules", {}).items() if tally["first"]}
    if stage.get("empty"):
        tallies[f"{stage['name']}.empty"] = stage["empty"]
    most = sorted(tallies.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{rule} {count:,}" for rule, count in most[:RULES_SHOWN]]
    if len(most) > RULES_SHOWN:
        words.append(f"{len(most) - RULES_SHOWN} more rules {sum(count for _, count in most[RULES_SHOWN:]):,}")
    if stage.get("quarantined"):
        words.append(f"set aside {stage['quarantined']:,}")
    if stage["kind"] == "edit":
        words.insert(0, f"changed {stage.get('changed', 0):,}")
    return ", ".join(words)


# --- stories ------------------------------------------------------------------------------------------------------


def _stories(output: Output) -> list[str]:
    """A dropped document, a duplicate and an edited one: the first short ones in input order that are clear cases."""
    from .why import tell

    lines: list[str] = []
    for title, at in (
        ("one that was dropped", _dropped(output)),
        ("one duplicate", _duplicate(output)),
        ("one that was edited and kept", _edited(output)),
    ):
        row = output.row(at["source_file"], at["source_row"]) if at else None
        if row is not None:
            diff = DIFF_LINES if row["decision"] == "keep" else 0
            lines += ["", title, *(f"  {line}" for line in tell(output, row, brief=True, diff_lines=diff) if line)]
    return lines


def _first(output: Output, condition: str, values: list[Any], better: str = "true") -> dict[str, Any] | None:
    """The first document in input order, of the short ones that are also `better` if there are any."""
    found = output.rows(
        f"SELECT source_file, source_row FROM ledger WHERE {condition} "
        f"ORDER BY NOT coalesce(chars_read <= {SHORT} AND {better}, false), source_file, source_row LIMIT 1",
        values,
    )
    return found[0] if found else None


def _dropped(output: Output) -> dict[str, Any] | None:
    """Dropped by one rule with SQL whose few columns all stand in the ledger: value beside threshold."""
    known = {*output.columns, "chars", "bytes"}
    clear = [
        name
        for name, rule in output.manifest["rules"].items()
        if rule["sql"] and 0 < len(rule["needs"]) <= 2 and known.issuperset(rule["needs"])
    ]
    if not clear:
        return None
    return _first(output, "decision = 'drop' AND rule IN (SELECT unnest(?))", [clear], "len(failed) = 1")


def _duplicate(output: Output) -> dict[str, Any] | None:
    for stage in output.stages:
        names = duplicate_columns(output, stage["name"])
        if names:
            here = f"{names['kept_file']} IS NOT NULL AND decision = 'drop' AND stage = ?"
            if found := _first(output, here, [stage["name"]]):
                return found
    return None


def _edited(output: Output) -> dict[str, Any] | None:
    """One whose edits left most of it, so that the difference is short."""
    edits = [f"{s['name']}_changed" for s in output.stages if s["kind"] == "edit"]
    if not edits:
        return None
    better = "chars_written < chars_read AND chars_written > 0.5 * chars_read"
    return _first(output, f"decision = 'keep' AND ({' OR '.join(edits)})", [], better)


# --- what to type next --------------------------------------------------------------------------------------------


def _next(output: Output) -> Iterator[str]:
    name = shlex.quote(output.name)
    row = output.rows(
        "SELECT source_file, source_row FROM ledger ORDER BY decision = 'keep', source_file, source_row LIMIT 1"
    )
    key = shlex.quote(f"{row[0]['source_file']}#{row[0]['source_row']}") if row else "FILE#ROW"
    if output.storage.exists("report.html"):
        yield f"report  {visible(output.name)}/report.html"
        yield ""
    yield "next"
    yield f"  tamis why {name} {visible(key)}"
    yield f"  tamis show {name} --where \"decision = 'drop'\" --sample -n 3"
    yield f'  tamis sql {name} "SELECT stage, rule, count(*) FROM ledger GROUP BY ALL ORDER BY 3 DESC"'
    yield f"  tamis verify {name}"
