"""Documents followed through the runs whose outputs a run read, back to where they were dropped or first read.

Invariant: an earlier run is believed only while its checksum is the one that was recorded when it was read; what is gone
or changed is said to be so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..stages.errors import TamisError
from .fate import Row
from .finished import output_identity
from .output import Output, quoted_name
from .terminal import visible


@dataclass(frozen=True)
class Upstream:
    """A run whose output was read. `output`: opened, or None with `missing` saying why it cannot be."""

    name: str
    place: str
    output: Output | None
    missing: str = ""

    @property
    def title(self) -> str:
        """'en-2024-10 (out/a)'."""
        return f"{visible(self.name)} ({visible(self.place)})"


@functools.lru_cache(maxsize=16)
def upstream_runs(output: Output) -> list[Upstream]:
    """The runs that this one read, in the order of the manifest; each is opened once."""
    return [_open(run) for run in output.manifest.get("input_runs", ())]


def _open(run: Mapping[str, Any]) -> Upstream:
    """Where it was when it was read, else where the same path leads now, in a tree that was moved as a whole."""
    missing = "which is gone"
    for root in dict.fromkeys((run["root"], run["output"])):
        try:
            if output_identity(root) == run["checksum"]:
                return Upstream(run["name"], run["output"], Output(root))
            missing = "which changed since it was read: its checksums are others"
        except (TamisError, OSError, ValueError, IndexError):
            continue
    return Upstream(run["name"], run["output"], None, missing)


@dataclass(frozen=True)
class Before:
    """Where a document was one run earlier: the run, and its ledger row there (None where it cannot be read)."""

    run: Upstream
    row: dict[str, Any] | None


def before(output: Output, row: Row) -> Before | None:
    """The document in the run that its input file came through; None where that file is no output of a run."""
    at = _files(output).get(row["source_file"])
    if at is None:
        return None
    run = upstream_runs(output)[at[0]]
    return Before(run, _written_as(run.output, at[1], row["source_row"]) if run.output else None)


def after(output: Output, run: int, row: Row) -> dict[str, Any] | None:
    """The other way: the ledger row here of a document of an upstream run; None where it was not read."""
    names = {at: name for name, at in _files(output).items()}
    for file, number in _places(row):
        name = names.get((run, file))
        found = output.row(name, number) if name is not None else None
        if found is not None:
            return found
    return None


def _files(output: Output) -> dict[str, tuple[int, str]]:
    """Name of an input file -> (index of the run that wrote it, its path there)."""
    return {f["name"]: (f["run"], f["run_file"]) for f in output.manifest["input"] if "run" in f}


@functools.lru_cache(maxsize=64)
def _place_columns(columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Pairs of ledger columns that say where a document was written: one, and one more for every further set."""
    rows = {name: name.replace("out_file", "out_row", 1) for name in columns if name.startswith("out_file")}
    return tuple((file, row) for file, row in rows.items() if row in columns)


def _written_as(output: Output, file: str, row: int) -> dict[str, Any] | None:
    pairs = _place_columns(tuple(output.columns))
    condition = " OR ".join(f"({quoted_name(f)} = ? AND {quoted_name(r)} = ?)" for f, r in pairs)
    found = output.rows(f"FROM ledger WHERE {condition} LIMIT 1", [file, row] * len(pairs))
    return found[0] if found else None


def _places(row: Row) -> Iterator[tuple[str, int]]:
    for file, number in _place_columns(tuple(row)):
        if row[file] is not None:
            yield row[file], row[number]


@dataclass(frozen=True)
class Found:
    """A document that a key means in a run further up. `path`: the runs that lead there, the nearest first, as indexes
    of their `upstream_runs`."""

    path: tuple[int, ...]
    run: Upstream
    row: dict[str, Any]


def find_upstream(output: Output, key: str, most: int, path: tuple[int, ...] = ()) -> list[Found]:
    """Documents that a key means in the runs above: in each run that was read, else in those above it; at most `most`."""
    found: list[Found] = []
    for index, run in enumerate(upstream_runs(output)):
        if run.output is None or len(found) >= most:
            continue
        here = (*path, index)
        rows = [run.output.row(r["source_file"], r["source_row"]) for r in run.output.find(key, most - len(found))]
        found += [Found(here, run, row) for row in rows if row is not None]
        if not rows:
            found += find_upstream(run.output, key, most - len(found), here)
    return found


@dataclass(frozen=True)
class Reached:
    """How far down a document came: the last run that read it, its row there, and how many runs it is above."""

    output: Output
    row: dict[str, Any]
    above: int


def reached(output: Output, found: Found) -> Reached:
    """Follows a document from where it was found down to `output`, as far as it goes."""
    outputs = [output]
    for index in found.path:
        run = upstream_runs(outputs[-1])[index].output
        assert run is not None, "find_upstream went through it"
        outputs.append(run)
    row = found.row
    for level in range(len(found.path) - 1, -1, -1):
        lower = after(outputs[level], found.path[level], row)
        if lower is None:
            return Reached(outputs[level + 1], row, level + 1)
        row = lower
    return Reached(output, row, 0)


def find_origin(output: Output, key: str) -> dict[str, Any] | None:
    """The ledger row of a kept document by its first file#row, which its shard still names where the runs above are
    gone; None where there is none."""
    file, _, number = key.rpartition("#")
    columns = {column["name"] for column in output.manifest.get("data_columns", ())}
    if not {"origin_file", "origin_row"} <= columns or not (number.isdecimal() and number.isascii()):
        return None
    if not output.manifest["counts"]["kept"]:
        return None
    found = output.rows(
        "SELECT source_file, source_row FROM data WHERE origin_file = ? AND origin_row = ? LIMIT 1", [file, int(number)]
    )
    return output.row(found[0]["source_file"], found[0]["source_row"]) if found else None
