"""The end of a run: quarantine, manifest, checksums.

Invariant: the manifest is written last; its presence means finished. `checksums.txt` names every file of the output
with its hash, and its own last line is the hash of the lines before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .attributes import Attributes
from .finished import CHECKSUMS, MANIFEST
from .output import Output
from .parquet import Layout, ParquetSink, write_table
from .plan import Plan
from .receipts import Receipt
from .storage import Storage

CARD, REPORT = "README.md", "report.html"
QUARANTINED = pa.schema(
    [
        ("doc_id", pa.string()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
        ("source_hash", pa.string()),
        ("stage", pa.string()),
        ("rule", pa.string()),
        ("reason", pa.string()),
    ]
)
LOST_FILES = pa.schema([("file", pa.string()), ("bytes", pa.int64()), ("error", pa.string())])


def write_quarantine(
    plan: Plan,
    storage: Storage,
    work: Storage,
    receipts: Sequence[Mapping[str, Receipt]],
    files: Sequence[Sequence[str]],
) -> list[dict[str, Any]]:
    """quarantine/rows.parquet and quarantine/files.parquet, in identity order. `receipts`: per step, by unit id."""
    layout = Layout(dictionary=("source_file", "stage", "rule", "reason"))
    rows = write_table(
        storage, "quarantine/rows.parquet", _quarantined(plan, work, receipts, files), QUARANTINED, layout
    )
    lost = [entry for unit in plan.units for entry in receipts[0][unit.id]["lost"]]
    lost.sort(key=lambda entry: entry["file"])
    table = pa.Table.from_pylist(lost, schema=LOST_FILES)
    gone = write_table(storage, "quarantine/files.parquet", [table], LOST_FILES, layout)
    return [_entry("quarantine/files.parquet", gone), _entry("quarantine/rows.parquet", rows)]


def _entry(path: str, sink: ParquetSink) -> dict[str, Any]:
    return {"file": path, "rows": sink.rows, "bytes": sink.bytes, "hash": sink.hash}


def _quarantined(
    plan: Plan, work: Storage, receipts: Sequence[Mapping[str, Receipt]], files: Sequence[Sequence[str]]
) -> Iterator[pa.Table]:
    for index, unit in enumerate(plan.units):
        steps = [step for step, by_unit in enumerate(receipts) if by_unit[unit.id].get("quarantined")]
        if not steps:
            continue
        attributes = Attributes(plan, work, files[index])
        table = attributes.read(["doc_id", "source_file", "source_row", "source_hash"])
        verdicts = [attributes.verdicts(step) for step in steps]
        for name in ("stage", "rule", "reason"):  # one step at most decides a row: the later ones see it dead
            table = table.append_column(name, pc.coalesce(*(verdict[name] for verdict in verdicts)))
        yield table.filter(pc.is_valid(table["reason"]))


def write_pages(
    storage: Storage, manifest: dict[str, Any], output: str
) -> tuple[list[dict[str, Any]], list[tuple[str, Exception]]]:
    """README.md and report.html, and what went wrong with one of them: a page is never a reason to lose a run.
    `output`: where the result will stand, which the pages name."""
    from .card import render_card
    from .report import render_report

    opened = Output(storage.root, manifest, name=output)
    written, failed = [], []
    for name, render in ((CARD, render_card), (REPORT, render_report)):
        try:
            page = render(opened)
        except Exception as error:
            failed.append((name, error))
            storage.remove(name)  # of an earlier attempt
            continue
        storage.write(name, page)
        written.append({"file": name, "bytes": len(page), "hash": xxhash.xxh3_128_hexdigest(page)})
    return written, failed


def finish(storage: Storage, manifest: dict[str, Any], files: Iterable[Mapping[str, Any]]) -> None:
    """Writes checksums.txt over `files` and the manifest, then the manifest itself."""
    storage.remove_temporary_of([CARD, REPORT, CHECKSUMS, MANIFEST])
    content = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=False).encode()
    lines = [f"{entry['hash']} {entry['bytes']} {entry['file']}" for entry in files]
    lines.append(f"{xxhash.xxh3_128_hexdigest(content)} {len(content)} {MANIFEST}")
    text = "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.split(" ", 2)[2]))
    storage.write(CHECKSUMS, f"{text}{xxhash.xxh3_128_hexdigest(text.encode())}\n".encode())
    storage.write(MANIFEST, content)
