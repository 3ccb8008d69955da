"""Near-duplicate removal at scale: ten million documents with simulated band keys, from reading to the ledger.

Invariant: only the texts are simulated (a document is a number, `simulated_dedup` draws its keys); files, receipts, Ray
workers, resolve phases, ledger and shards are those of any run. The result is compared with scipy's components.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checks
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from corpora import Bench
from figures import Row
from processes import HERE, work
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from simulated_dedup import band_keys

from tamis.pipeline.receipts import Receipts
from tamis.pipeline.storage import Storage

BANDS = 14
FILES = 16
MINUTES = 10
RESIDENT = 6e9
SPREAD = 1.3
CLUSTER = "near_dedup_near_cluster"  # a stage of a module of ours has its name in front of its columns


def rows(bench: Bench) -> list[Row]:
    """Seconds and memory of the whole run; time and bytes per document against a tenth of the documents."""
    many = bench.sizes.documents
    runs = {documents: _run(bench, documents) for documents in (many // 10, many)}
    wrong = checks.all_of([problem for run in runs.values() for problem in run.pop("problems")])
    small, large = runs.values()
    checked = "components, clusters and kept documents equal to scipy's on the same keys; sums"
    raw = {str(documents): run for documents, run in runs.items()}
    what = f"near_dedup, {many:,} documents x {BANDS} bands, simulated keys, two Ray workers"
    alone = f"its resolve step alone {large['resolve_seconds']:.0f} s wall, {large['resolve_cpu_seconds']:.0f} s CPU"
    peak = large["peak_resident"]
    least = f"{small['peak_resident'] / 1e6:,.0f} MB for {many // 10:,} documents"
    found = [
        Row(
            "scale",
            f"{what}: read to ledger",
            large["wall_seconds"],
            "s",
            "less",
            60 * MINUTES,
            alone,
            checked,
            wrong,
            raw,
        ),
        Row(
            "scale",
            "the same, all processes together",
            peak / 1e6,
            "MB",
            "less",
            RESIDENT / 1e6,
            least,
            "as above",
            wrong,
        ),
    ]
    for name, key, unit in (
        ("CPU of the resolve step", "resolve_cpu_seconds", "s"),
        ("bytes that it writes", "resolve_bytes", "bytes"),
    ):
        each = [run[key] / documents for documents, run in runs.items()]
        baseline = f"{1e6 * each[0]:,.3g} {unit} per million at {many // 10:,}, {1e6 * each[1]:,.3g} at {many:,}"
        figure = each[1] / each[0] if each[0] else 0.0
        found.append(Row("scale", f"{name} per document", figure, "times", "less", SPREAD, baseline, "as above", wrong))
    return found


def _run(bench: Bench, documents: int) -> dict[str, Any]:
    """One run and what was measured of it; its files are gone afterwards."""
    folder = bench.scratch / f"scale-{documents}"
    names = _write(folder / "in", documents)
    output = folder / "out"
    recipe = {
        "name": "scale",
        "input": {"files": f"{folder}/in/*.parquet"},
        "output": str(output),
        "unit_size": "4MB",  # of numbers as texts: about half a million
        "report": {"by": [], "pages": False},
        "stages": [{"use": "simulated_dedup:Simulated", "name": "near_dedup", "bands": BANDS, "documents": documents}],
    }
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    watch = _Resident()
    try:
        found = work("run", recipe=recipe, sample=names, scratch=str(bench.scratch), executor="ray", workers=2)
    finally:
        peak = watch.stop()
    step = next((output / "work").glob("near_dedup-*"))
    cost = Receipts(Storage(str(step.parent.resolve())), step.name).load()["facts"]["cost"]
    resolved = next(event for event in _events(output) if event["event"] == "resolved")
    found |= {"resolve_seconds": resolved["seconds"], "resolve_cpu_seconds": cost["cpu_seconds"]}
    found |= {"resolve_bytes": cost["bytes"], "peak_resident": peak, "phases": _phases(step)}
    found["problems"] = [checks.sums(found["counts"], documents), *_differences(output, documents, found["facts"])]
    bench.forget(folder)
    return found


def _write(folder: Path, documents: int) -> str:
    """Files of documents that are numbers; the path of the first."""
    folder.mkdir(parents=True)
    for i, part in enumerate(np.array_split(np.arange(documents), FILES)):
        numbers = pa.array(part).cast(pa.string())
        pq.write_table(pa.table({"id": numbers, "text": numbers}), folder / f"{i:02d}.parquet", row_group_size=250_000)
    return str(folder / "00.parquet")


def _events(output: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, (output / "log.jsonl").read_text("utf-8").splitlines())


def _phases(step: Path) -> dict[str, dict[str, float]]:
    """Items, CPU seconds (of all and of the longest) and bytes of every phase, from its receipts."""
    found = {}
    for folder in sorted(path for path in step.iterdir() if path.is_dir()):
        receipts = list(Receipts(Storage(str(step.resolve())), folder.name).load().values())
        seconds = [receipt.get("cpu_seconds", 0.0) for receipt in receipts]
        size = sum(receipt.get("size") or 0 for receipt in receipts)
        found[folder.name] = {
            "items": len(receipts),
            "cpu_seconds": round(sum(seconds), 3),
            "longest": max(seconds, default=0.0),
            "bytes": size,
        }
    return found


def _differences(output: Path, documents: int, facts: dict[str, Any]) -> list[str]:
    """What is not as scipy has it on keys that are drawn again."""
    edges = np.unique(np.concatenate([_stars(documents, band) for band in range(BANDS)]))
    ends = (edges // documents, edges % documents)
    graph = coo_array((np.ones(len(edges), np.bool_), ends), shape=(documents, documents))
    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels)
    ledger = ds.dataset(output / "ledger").to_table(columns=["doc_id", CLUSTER, "decision"])
    n = ledger["doc_id"].cast(pa.int64()).to_numpy()
    member = np.asarray(ledger[CLUSTER].is_valid())
    codes = pc.dictionary_encode(ledger[CLUSTER].filter(pa.array(member))).combine_chunks().indices.to_numpy()
    pairs = len(np.unique(codes.astype(np.int64) * documents + labels[n[member]]))
    kept = np.asarray(pc.equal(ledger["decision"], "keep"))
    groups = int((sizes > 1).sum())
    of_label = np.bincount(labels[n[kept]], minlength=len(sizes))
    told = facts["near_dedup"]
    return [
        "" if told["edges"] == len(edges) else f"{told['edges']} edges, scipy's graph has {len(edges)}",
        "" if np.array_equal(member, sizes[labels[n]] > 1) else "other documents are in clusters than scipy says",
        "" if pairs == groups == codes.max(initial=-1) + 1 == told["groups"] else "other clusters than scipy's",
        "" if (of_label == 1).all() else "not one document kept of every component",
        "" if 0.3 < member.mean() < 0.5 else f"{member.mean():.0%} of the documents are in clusters: no such corpus",
    ]


def _stars(documents: int, band: int) -> np.ndarray:
    """Edges first * documents + other of one band, int64."""
    step = 1_000_000
    blocks = [np.arange(at, min(at + step, documents), dtype=np.uint64) for at in range(0, documents, step)]
    keys = np.concatenate([band_keys(block, documents, BANDS, only=band) for block in blocks])
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    first = order[np.repeat(starts, np.diff(np.append(starts, documents)))]
    return (first * documents + order)[first != order]


class _Resident(threading.Thread):
    """Adds up, four times a second, the resident memory of all processes below this one; shared pages count each time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.25):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue  # it ended while we looked
            self.peak = max(self.peak, total)

    def stop(self) -> int:
        self.done.set()
        self.join()
        return self.peak
