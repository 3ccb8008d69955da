"""`tamis verify`: every hash of an output, and the sum of its ledger, checked again.

Invariant: a byte that was flipped, removed or added in any file, and a file that was removed or added, is found and
named. Files are streamed: memory depends on no file's size.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from ..stages.errors import SetupError
from .finished import CHECKSUMS, MANIFEST
from .lines import BrokenStream, blocks, lines
from .output import HEX_DIGITS
from .replace import NEXT
from .storage import InputStream, Storage, storage_at
from .terminal import place, plural, size, visible

WORK = ("work/", f"{NEXT}/")  # a result that is being built in the place of this one is no part of it
OF_A_RUN = ("lock.json", "log.jsonl", ".lock-guard")  # come and go; no hash covers them
PIECE = 8 << 20
DECISIONS = {"keep": "kept", "drop": "dropped", "quarantine": "quarantined"}
BROKEN = (OSError, pa.ArrowException, ValueError, KeyError, BrokenStream)
LINES = ".jsonl.zst"


@dataclass
class Report:
    """What was found. `problems`: one line each, the file first; `facts`: what was counted where all is well."""

    output: str
    problems: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def text(self) -> str:
        if self.ok:
            lines = [f"OK: {self.output}", *(f"  {fact}" for fact in self.facts)]
        else:
            lines = [f"{self.output}: {plural(len(self.problems), 'thing')} off", *(f"  {p}" for p in self.problems)]
        return "".join(f"{line}\n" for line in lines)


def verify(output: str) -> Report:
    """Checks a finished output, local or on an object store. SetupError where no run was finished there."""
    storage = storage_at(output)
    report = Report(place(storage.root))
    standing = _standing(storage)
    if MANIFEST not in standing and CHECKSUMS not in standing:
        raise SetupError(f"{report.output}: no finished run is there; `tamis run` the same recipe again to finish it")
    _check_files(storage, standing, report)
    if report.ok:
        _check_sums(storage, standing, report)
    else:
        report.problems.append("the sum of the ledger was not checked, because files are not as they were written")
    return report


# --- files --------------------------------------------------------------------------------------------------------


def _standing(storage: Storage) -> dict[str, int]:
    """Every file of the output with its size, hidden ones too, without work/ and what belongs to a driver."""
    found: dict[str, int] = {}
    root = storage.full("")
    if storage.local:
        for folder, folders, names in os.walk(root):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]  # not walked into
            if folder == root and "work" in folders:
                folders.remove("work")
            for name in [*names, *links]:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, root).replace(os.sep, "/")] = os.lstat(path).st_size
    else:
        below = len(root.rstrip("/")) + 1
        details = storage.fs.find(root, detail=True, withdirs=False)
        found = {name[below:]: int(info["size"]) for name, info in details.items()}
    return {
        path: bytes_
        for path, bytes_ in sorted(found.items())
        if path not in OF_A_RUN and not path.startswith(WORK) and path
    }


def _check_files(storage: Storage, standing: dict[str, int], report: Report) -> None:
    named = _named(storage, standing, report)
    for path, (expected, length) in named.items():
        if path not in standing:
            report.problems.append(f"{visible(path)}: is missing")
        elif standing[path] != length:
            report.problems.append(f"{visible(path)}: has {standing[path]:,} bytes, {length:,} were written")
        elif _hash(storage, path) != expected:
            report.problems.append(f"{visible(path)}: its bytes are not those that were written (another hash)")
    if CHECKSUMS not in standing:
        return
    if MANIFEST not in named and MANIFEST not in standing:
        report.problems.append(f"{MANIFEST}: is missing")
    for path in standing:
        if path not in named and path != CHECKSUMS:
            report.problems.append(f"{visible(path)}: was not written by the run ({CHECKSUMS} does not name it)")
    report.facts.append(f"{plural(len(named) + 1, 'file')}, {size(sum(standing.values()))}: every hash is as written")


def _named(storage: Storage, standing: dict[str, int], report: Report) -> dict[str, tuple[str, int]]:
    """Path -> hash and size of checksums.txt, whose last line is the hash of the lines before it."""
    if CHECKSUMS not in standing:
        report.problems.append(f"{CHECKSUMS}: is missing, so that no hash can be checked")
        return {}
    content = storage.read(CHECKSUMS)
    body, last = content[:-33], content[-33:]
    if last != f"{xxhash.xxh3_128_hexdigest(body)}\n".encode():
        report.problems.append(f"{CHECKSUMS}: its last line is not the hash of the lines before it")
    named: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(body.decode("utf-8", "replace").split("\n")[:-1], 1):
        expected, _, rest = line.partition(" ")
        length, _, path = rest.partition(" ")
        if len(expected) != 32 or not HEX_DIGITS.issuperset(expected) or not length.isdecimal() or not path:
            report.problems.append(f"{CHECKSUMS}: line {number} cannot be read")
        elif path.startswith("/") or ".." in path.split("/"):
            report.problems.append(f"{CHECKSUMS}: line {number} names {visible(path)}, which no run writes")
        else:
            named[path] = expected, int(length)
    return named


def _hash(storage: Storage, path: str) -> str:
    digest = xxhash.xxh3_128()
    with storage.open(path) as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


# --- sums ---------------------------------------------------------------------------------------------------------


@dataclass
class _Shard:
    """Documents of one file of data/, as the ledger places them or as they stand there: number and running hash."""

    rows: int = 0
    digest: Any = field(default_factory=xxhash.xxh3_128)

    def add(self, table: pa.Table) -> None:
        """Rows in order, with `source_file`, `source_row`, `source_hash`."""
        texts = [table[name].cast(pa.large_string()) for name in ("source_file", "source_row", "source_hash")]
        end, joint = pa.scalar("", pa.large_string()), pa.scalar("\0", pa.large_string())
        for chunk in pc.binary_join_element_wise(*texts, end, joint).chunks:
            _, offsets, data = chunk.buffers()
            if len(chunk):
                ends = np.frombuffer(offsets, np.int64)[[chunk.offset, chunk.offset + len(chunk)]]
                self.digest.update(memoryview(data)[int(ends[0]) : int(ends[1])])
        self.rows += len(table)


@dataclass
class _Ledger:
    """What one pass over the ledger counts. An observing run writes nothing, so it places nothing. `sets`: written sets
    in order, and whether each is all that was kept; empty where there are none, and then that holds."""

    observing: bool
    sets: dict[str, bool] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DECISIONS.values(), 0))
    shards: dict[str, _Shard] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    last: tuple[str, int] = ("", -1)
    open: dict[str, str] = field(default_factory=dict)  # folder -> its file that holds the last row

    def add(self, table: pa.Table) -> str:
        """Takes the next rows; what is wrong with them, or nothing."""
        if not len(table):
            return ""
        for entry in pc.value_counts(table["decision"]).to_pylist():
            if entry["values"] not in DECISIONS:
                return f"holds the decision {entry['values']!r}"
            self.counts[DECISIONS[entry["values"]]] += entry["counts"]
        if not self._follows(table):
            return "its rows are not in the order of source_file and source_row, each once"
        self.files.update(pc.unique(table["source_file"]).to_pylist())
        kept = pc.and_(pc.equal(table["decision"], "keep"), not self.observing)
        for name, (file, row) in self._members(table).items():
            exact = self.observing or self.sets.get(name, True)
            if not pc.is_valid(file).equals(pc.is_valid(row)) or (exact and not pc.is_valid(file).equals(kept)):
                return f"{_column('out_file', name)} stands where nothing was written, or lacks where something was"
            if wrong := self._place(table, f"data/{name}/" if name else "data/", file, row):
                return wrong
        return self._first(table)

    def _members(self, table: pa.Table) -> dict[str, tuple[pa.ChunkedArray, pa.ChunkedArray]]:
        """File and row of every set's documents, null for the others."""
        if not self.sets:
            return {"": (table["out_file"], table["out_row"])}
        first, *further = self.sets
        own = pc.fill_null(pc.starts_with(table["out_file"], f"data/{first}/"), False)
        found = {first: (pc.if_else(own, table["out_file"], None), pc.if_else(own, table["out_row"], None))}
        return found | {name: (table[f"out_file_{name}"], table[f"out_row_{name}"]) for name in further}

    def _first(self, table: pa.Table) -> str:
        """Whether out_file and out_row are those of the first set that holds the document."""
        files, rows = zip(*self._members(table).values(), strict=True)
        if table["out_file"].equals(pc.coalesce(*files)) and table["out_row"].equals(pc.coalesce(*rows)):
            return ""
        return "out_file and out_row are not those of the first set that holds the document"

    def _place(self, table: pa.Table, folder: str, file: pa.ChunkedArray, row: pa.ChunkedArray) -> str:
        """Takes the rows of one set; what is wrong with their places, or nothing."""
        inside = pc.is_valid(file)
        table, file, row = table.filter(inside), file.filter(inside), row.filter(inside)
        for name in pc.unique(file).to_pylist():
            mine = pc.equal(file, name)
            part, rows = table.filter(mine), row.filter(mine).to_numpy()
            shard = self.shards.setdefault(name, _Shard())
            if not np.array_equal(rows, np.arange(shard.rows, shard.rows + len(part))):
                return f"the rows of {visible(name)} are not placed one after the other"
            shard.add(part)
            own = name.rpartition("/")[0]
            if not name.startswith(folder) or self.open.get(own, "") > name:
                return f"{visible(name)} is not the file in which its rows should stand"
            self.open[own] = name
        return ""

    def _follows(self, table: pa.Table) -> bool:
        """Whether these rows and those before are in strict identity order."""
        files = pa.concat_arrays([pa.array([self.last[0]]), *table["source_file"].chunks])
        rows = np.concatenate([[self.last[1]], table["source_row"].to_numpy()])
        self.last = files[-1].as_py(), int(rows[-1])
        later_file = pc.less(files[:-1], files[1:]).to_numpy(zero_copy_only=False)
        same_file = pc.equal(files[:-1], files[1:]).to_numpy(zero_copy_only=False)
        return bool((later_file | (same_file & (rows[:-1] < rows[1:]))).all())


def _check_sums(storage: Storage, standing: dict[str, int], report: Report) -> None:
    """Ledger, shards, quarantine and manifest must tell the same."""
    manifest = json.loads(storage.read(MANIFEST))
    sets = manifest["recipe"]["write"].get("sets") or {}
    whole = {name: one["where"] is None and one["sample"] is None for name, one in sets.items()}
    ledger, counts = _Ledger(manifest["recipe"]["observe"], whole), manifest["counts"]
    for path in _parquet(standing, "ledger/"):
        columns = ["decision", "source_file", "source_row", "source_hash", "out_file", "out_row"]
        columns += [_column(name, one) for one in list(sets)[1:] for name in ("out_file", "out_row")]
        if wrong := _read(storage, path, columns, ledger.add):
            report.problems.append(f"{path}: {wrong}")
    if not report.ok:
        return
    total = sum(ledger.counts.values())
    outside = counts["outside_sample"]  # in no file of the output; counted once, by the receipts
    told = {"rows": total + outside, **ledger.counts}
    for name, count in told.items():
        if counts[name] != count:
            report.problems.append(f"ledger/: {count:,} {name}, {MANIFEST} says {counts[name]:,}")
    _check_shards(storage, standing, ledger, report)
    lost = _check_quarantine(storage, standing, manifest, ledger, report)
    rows = " + ".join(f"{count:,} {name}" for name, count in ledger.counts.items())
    rows += f" + {outside:,} outside the sample" if outside else ""
    report.facts.append(f"{plural(total + outside, 'document')} = {rows}")
    if not ledger.observing:
        report.facts.append(
            f"{plural(sum(s.rows for s in ledger.shards.values()), 'row')} of data/ in "
            f"{plural(len(ledger.shards), 'file')}, each where the ledger says"
        )
    report.facts.append(
        f"{plural(counts['files'], 'input file')} = {counts['files'] - lost:,} whole + {lost:,} lost in whole or in part"
    )


def _check_shards(storage: Storage, standing: dict[str, int], ledger: _Ledger, report: Report) -> None:
    """Every document that the ledger places stands at its place, and nothing else does."""
    for path in [*_parquet(standing, "data/"), *(path for path in standing if path.endswith(LINES))]:
        found, told = _Shard(), ledger.shards.get(path, _Shard())
        if wrong := _read(storage, path, ("source_file", "source_row", "source_hash"), found.add):
            report.problems.append(f"{path}: {wrong}")
        elif found.rows != told.rows:
            report.problems.append(f"{path}: has {found.rows:,} rows, the ledger places {told.rows:,} there")
        elif found.digest.digest() != told.digest.digest():
            report.problems.append(f"{path}: its rows are not the documents that the ledger places there")
    for path in sorted(set(ledger.shards) - set(standing)):
        report.problems.append(f"{visible(path)}: is missing, and the ledger places documents there")


def _check_quarantine(
    storage: Storage, standing: dict[str, int], manifest: dict[str, Any], ledger: _Ledger, report: Report
) -> int:
    """Rows and files that were set aside are those of the ledger and the manifest; returns how many files were lost."""
    counts = manifest["counts"]
    rows: list[int] = [0]
    lost: list[str] = []
    reads = {
        "quarantine/rows.parquet": (("source_row",), lambda table: rows.append(len(table))),
        "quarantine/files.parquet": (("file",), lambda table: lost.extend(table["file"].to_pylist())),
    }
    for path, (columns, take) in reads.items():
        if wrong := "is missing" if path not in standing else _read(storage, path, columns, take):
            report.problems.append(f"{path}: {wrong}")
    if sum(rows) != ledger.counts["quarantined"]:
        report.problems.append(
            f"quarantine/rows.parquet: {sum(rows):,} rows, the ledger sets {ledger.counts['quarantined']:,} aside"
        )
    names = {entry["name"] for entry in manifest["input"]}
    if counts["files"] != len(names) or counts["files_lost"] != len(set(lost)):
        report.problems.append(
            f"{MANIFEST}: says {counts['files']:,} files, {counts['files_lost']:,} of them lost; "
            f"it lists {len(names):,}, and quarantine/files.parquet {len(set(lost)):,}"
        )
    for name in sorted((ledger.files | set(lost)) - names):
        report.problems.append(f"{MANIFEST}: the input does not list {visible(name)}, whose documents the ledger has")
    return len(set(lost))


def _parquet(standing: dict[str, int], folder: str) -> list[str]:
    return [path for path in standing if path.startswith(folder) and path.endswith(".parquet")]


def _read(storage: Storage, path: str, columns: Sequence[str], take: Callable[[pa.Table], str | None]) -> str:
    """Streams columns of a file to `take` until that finds something wrong; what is wrong, or nothing."""
    try:
        with storage.open(path) as stream:
            if path.endswith(LINES):
                tables = _tables(stream, path, columns)
            else:
                batches = pq.ParquetFile(stream).iter_batches(columns=list(columns), use_threads=False)
                tables = (pa.Table.from_batches([batch]) for batch in batches)
            for table in tables:
                if wrong := take(table):
                    return wrong
    except BROKEN as error:
        return f"cannot be read: {visible(str(error))}"
    return ""


def _tables(stream: InputStream, path: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The columns of JSON Lines, some lines at a time; nobody but the limits of memory says how long a line may be."""
    found = lines(blocks(stream, path), 1 << 62)
    while piece := list(itertools.islice(found, 1000)):
        rows = [json.loads(line) for line in piece if line is not None]
        yield pa.table({name: [row[name] for row in rows] for name in columns})


def _column(name: str, written: str) -> str:
    return f"{name}_{written}" if written else name
