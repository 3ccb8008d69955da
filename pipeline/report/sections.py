"""What the page tells besides the funnel and the values: edits, what was set aside, seconds.

Invariant: what the ledger cannot tell is None and shown as 'not known', never as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..output import Output, quoted_name
from .funnel import StageLine

REASONS = FILES = 20


@dataclass(frozen=True)
class EditLine:
    """An edit: documents it `ran` on, `changed` and emptied; `alone`: kept documents that no other edit changed, and
    the characters that went from them; `tallies`: (column, its doc, its sum over all documents it saw)."""

    name: str
    ran: int
    changed: int
    emptied: int
    alone: int
    removed: int | None
    tallies: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Edits:
    """`several`: kept documents that more than one edit changed, and the characters that went from them. Characters
    `read` and `written` of all kept documents."""

    lines: tuple[EditLine, ...]
    several: int
    several_removed: int | None
    read: int | None
    written: int | None


def edits(output: Output, stages: Sequence[StageLine]) -> Edits | None:
    """None where the recipe has no edit."""
    names = [line.name for line in stages if line.kind == "edit"]
    if not names:
        return None
    flags = [f"coalesce({quoted_name(f'{name}_changed')}, false)" for name in names]
    many = " + ".join(f"{flag}::INTEGER" for flag in flags)
    parts = [
        f"count(*) FILTER (many = 1 AND {flag}) AS alone_{i}, sum(went) FILTER (many = 1 AND {flag})::BIGINT AS went_{i}"
        for i, flag in enumerate(flags)
    ]
    (found,) = output.rows(
        f"SELECT {', '.join(parts)}, count(*) FILTER (many > 1) AS several, "
        "sum(went) FILTER (many > 1)::BIGINT AS several_went, "
        "sum(chars_read)::BIGINT AS chars_read, sum(chars_written)::BIGINT AS chars_written "
        f"FROM (SELECT *, chars_read - chars_written AS went, {many} AS many FROM ledger WHERE decision = 'keep')"
    )
    (emptied,) = output.rows(
        "SELECT "
        + ", ".join(f"count(*) FILTER (rule = ?) AS emptied_{i}" for i in range(len(names)))
        + " FROM ledger WHERE decision = 'drop'",
        [f"{name}.empty" for name in names],
    )
    lines = []
    for i, name in enumerate(names):
        stage = next(line for line in stages if line.name == name)
        lines.append(
            EditLine(
                name,
                stage.ran,
                stage.changed,
                emptied[f"emptied_{i}"],
                found[f"alone_{i}"],
                found[f"went_{i}"] if found[f"alone_{i}"] else 0,
                _tallies(output, name),
            )
        )
    several = found["several_went"] if found["several"] else 0
    return Edits(tuple(lines), found["several"], several, found["chars_read"], found["chars_written"])


def _tallies(output: Output, edit: str) -> tuple[tuple[str, str, int], ...]:
    counted = [
        c for c in output.manifest["columns"] if c["stage"] == edit and c["type"].removeprefix("u").startswith("int")
    ]
    if not counted:
        return ()
    sums = ", ".join(f"coalesce(sum({quoted_name(c['name'])}), 0)::BIGINT AS s{i}" for i, c in enumerate(counted))
    (found,) = output.rows(f"SELECT {sums} FROM ledger")
    return tuple((c["name"], c["doc"], found[f"s{i}"]) for i, c in enumerate(counted))


@dataclass(frozen=True)
class Quarantine:
    """`reasons`: (kind of reason, stage or None, documents, one reason in full); `files`: (file, documents set aside);
    `lost`: (file, bytes, error) of files that could not be read to their end. The longest lists are cut:
    `more_files` and `more_lost` say by how many."""

    reasons: tuple[dict[str, Any], ...]
    files: tuple[dict[str, Any], ...]
    more_files: int
    lost: tuple[dict[str, Any], ...]
    more_lost: int


def quarantine(output: Output) -> Quarantine:
    """From the ledger and quarantine/files.parquet."""
    aside = "FROM ledger WHERE decision = 'quarantine'"
    reasons = output.rows(
        f"SELECT split_part(reason, ':', 1) AS kind, stage, count(*) AS documents, min(reason) AS example {aside} "
        f"GROUP BY ALL ORDER BY documents DESC, kind, stage LIMIT {REASONS}"
    )
    files = output.rows(
        f"SELECT source_file AS file, count(*) AS documents, count(*) OVER () AS files {aside} GROUP BY 1 "
        f"ORDER BY documents DESC, file LIMIT {FILES}"
    )
    lost = _lost_files(output)
    more = files[0]["files"] - len(files) if files else 0
    return Quarantine(tuple(reasons), tuple(files), more, tuple(lost[:FILES]), max(0, len(lost) - FILES))


def _lost_files(output: Output) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        with output.storage.open("quarantine/files.parquet") as stream:
            lines = pq.read_table(stream).to_pylist()
    except FileNotFoundError:
        return []
    return sorted(lines, key=lambda line: (-line["bytes"], line["file"]))
