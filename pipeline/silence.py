"""What a run did not do, or did too much: rules that never fire, edits that change nothing, columns that say nothing.

Invariant: it costs one pass over two columns of the ledger per group, and its footers; never a pass over the text.
Alarms of the stages come before all else.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from .alarms import alarms
from .fate import compared, duplicate_columns
from .output import Output, quoted_name
from .terminal import plural, share, value, visible

NULL_SHARE = 0.01
LOST_SHARE = 0.9
SHOWN = 10  # of each kind


def silences(output: Output) -> list[str]:
    """The alarms, then what is silent or suspicious, one line each; empty where all is well."""
    return [*alarms(output), *suspicions(output)]


def suspicions(output: Output) -> list[str]:
    """`silences` without the alarms."""
    return [*_rules(output), *_duplicates(output), *_edits(output), *_columns(output), *_groups(output)]


def _rules(output: Output) -> Iterator[str]:
    silent: list[str] = []
    for stage in output.stages:
        ran = stage.get("ran", 0)
        if not ran:
            yield f"{stage['name']} saw no document"
            continue
        if duplicate_columns(output, stage["name"]):
            continue  # its one rule fires or not: `_duplicates` says so in plainer words
        tallies = stage.get("rules", {})
        for name in (rule for rule, facts in output.manifest["rules"].items() if facts["stage"] == stage["name"]):
            tally = tallies.get(name, {})
            set_aside = tally.get("null") and output.rule(name)["nulls"] == "quarantine"
            if not tally.get("failed") and not set_aside:
                silent.append(name)
            if tally.get("null", 0) > NULL_SHARE * ran:
                yield f"{name} was null for {tally['null']:,} of {plural(ran, 'document')} ({share(tally['null'], ran)})"
    if silent:
        yield f"{plural(len(silent), 'rule')} failed no document: {_some(silent)}"


def _duplicates(output: Output) -> Iterator[str]:
    """A deduplication that found nothing, that had nothing to compare, or whose guard does not watch."""
    for stage in output.stages:
        ran = stage.get("ran", 0)
        for column in output.manifest["facts"].get(stage["name"], {}).get("unwatched", ()):
            yield f"{stage['name']} does not watch {column}: it has too many values"
        if not ran or not duplicate_columns(output, stage["name"]):
            continue
        seen = compared(output, stage)
        if ran - seen > NULL_SHARE * ran:
            blank = f"{ran - seen:,} of {plural(ran, 'document')} ({share(ran - seen, ran)})"
            yield f"{stage['name']} had nothing to compare {blank} by"
        if seen and not any(tally.get("failed") for tally in stage.get("rules", {}).values()):
            yield f"{stage['name']} found no duplicate among {plural(seen, 'document')}"


def _some(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _edits(output: Output) -> Iterator[str]:
    for stage in output.stages:
        if stage["kind"] == "edit" and stage.get("ran") and not stage.get("changed"):
            yield f"{stage['name']} changed no document"


def _columns(output: Output) -> Iterator[str]:
    """Measured columns with one value or only nulls, by the statistics in the ledger's footers."""
    stages = [s for s in output.stages if s["kind"] in ("measure", "resolve") and s.get("ran")]
    measuring = {s["name"] for s in stages if not duplicate_columns(output, s["name"])}
    names = [c["name"] for c in output.manifest["columns"] if c["stage"] in measuring]
    ranges = _ranges(output, names)
    empty = [name for name in names if name in ranges and not ranges[name]]
    single = {name: found for name in names if len(found := ranges.get(name, ())) == 1}
    if empty:
        yield f"{plural(len(empty), 'measured column')} with nulls only: {_some(empty)}"
    if single:
        told = [f"{name} = {value(next(iter(found)))}" for name, found in single.items()]
        yield f"{plural(len(single), 'measured column')} with one value only: {_some(told)}"


def _ranges(output: Output, names: list[str]) -> dict[str, set[Any]]:
    """Smallest and largest values over all row groups; a column whose statistics are missing is left out."""
    found: dict[str, set[Any]] = {name: set() for name in names}
    seen: set[str] = set()  # a list has no statistics under its own name
    for path in output.storage.list("ledger") if names else ():
        with output.storage.open(path) as stream:
            metadata = pq.ParquetFile(stream).metadata
        for group in range(metadata.num_row_groups):
            for index in range(metadata.num_columns):
                column = metadata.row_group(group).column(index)
                name, statistics = column.path_in_schema, column.statistics
                if name not in found:
                    continue
                seen.add(name)
                if statistics is None or not (statistics.has_min_max or statistics.null_count == column.num_values):
                    del found[name]
                elif statistics.has_min_max:
                    found[name] |= {statistics.min, statistics.max}
    return {name: bounds for name, bounds in found.items() if name in seen and len(bounds) < 2}


def _groups(output: Output) -> Iterator[str]:
    by = [name for name in output.manifest["recipe"]["report"]["by"] if name in output.columns]
    for name in by:
        lost = output.rows(
            f"SELECT {quoted_name(name)} AS member, count(*) AS documents, count(*) FILTER (decision <> 'keep') AS lost "
            f"FROM ledger GROUP BY ALL HAVING lost > {LOST_SHARE} * documents "
            f"ORDER BY documents DESC, member LIMIT {SHOWN + 1}"
        )
        told = [f"{visible(str(g['member']))} ({g['lost']:,} of {g['documents']:,})" for g in lost[:SHOWN]]
        if told:
            more = ", and more" if len(lost) > SHOWN else ""
            yield f"groups of {name} that lost more than {100 * LOST_SHARE:.0f} %: {', '.join(told)}{more}"
