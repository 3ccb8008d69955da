"""One piece of work in a process of its own, which measures itself: `python worker.py NAME ARGUMENTS_AS_JSON`.

Invariant: imports, start-up and compilation are over when the clock starts, and the last byte is written when it stops.
Prints one line of JSON: `cpu_seconds` (user and system of this process and its children), `wall_seconds`,
`peak_rss` (bytes), and what the work found.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from near_pairs import ASCII_WORDS, pairs_of

from tamis.pipeline.batch import Batch
from tamis.pipeline.chain import run_parts
from tamis.pipeline.driver import run as run_recipe
from tamis.pipeline.plan import Plan
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import parse_recipe
from tamis.pipeline.run_unit import prepare_process
from tamis.pipeline.source_rows import BATCH_BYTES
from tamis.stages.near_dedup import NearDedup

WARM_ROWS = 300


def cpu_seconds() -> float:
    """User and system seconds of this process and of its children that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_rss(pid: int | None = None) -> int:
    """Largest resident set so far, in bytes. `ru_maxrss` alone would start from the parent's: it outlives exec."""
    status = Path(f"/proc/{pid or 'self'}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return 0 if pid else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work gives, and its CPU and wall seconds."""
    started_cpu, started = cpu_seconds(), time.perf_counter()
    result = work()
    seconds = {"cpu_seconds": cpu_seconds() - started_cpu, "wall_seconds": time.perf_counter() - started}
    return result, {name: round(value, 4) for name, value in seconds.items()}


# --- the stages alone ---------------------------------------------------------------------------------------------


def stages(files: list[str], recipe: dict[str, Any], kept: str, repeats: int = 1) -> dict[str, Any]:
    """The recipe's chain of per-unit stages over row groups that plain pyarrow reads; ids of what it keeps go to the
    file `kept`, one a line. Nothing of readers, attributes, ledger or writing is used."""
    plan = plan_recipe(parse_recipe(recipe))
    assert len(plan.steps) == 1, "stages that need all units at once are not measured here"
    prepare_process()
    for bound in plan.graph.stages:
        bound.stage.warm()
    counts: list[dict[str, Any]] = [{} for _ in plan.steps[0].parts]
    _chain(plan, next(_groups(files[:1])).slice(0, WARM_ROWS), [{} for _ in counts])

    def work() -> int:
        documents = 0
        with open(kept, "w", encoding="utf-8") as out:
            for group in _groups(files):
                out.writelines(f"{one}\n" for one in _chain(plan, group, counts))
                documents += len(group)
        return documents

    runs = [timed(work) for _ in range(repeats)]
    median = sorted(seconds["cpu_seconds"] for _, seconds in runs)[repeats // 2]
    names = [f"{plan.stage(part).name}.{part.method}" for part in plan.steps[0].parts]
    return {
        **runs[-1][1],
        "cpu_seconds": median,
        "runs": [seconds["cpu_seconds"] for _, seconds in runs],
        "documents": runs[-1][0],
        "stage_seconds": {name: round(one["seconds"] / repeats, 3) for name, one in zip(names, counts, strict=True)},
    }


def _groups(files: list[str]) -> Iterator[pa.Table]:
    """Row groups, as many together as the engine would have in a batch."""
    for path in files:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
            start = 0
            for stop in range(1, len(sizes) + 1):
                if stop == len(sizes) or sum(sizes[start : stop + 1]) > BATCH_BYTES:
                    table = file.read_row_groups(list(range(start, stop)), columns=["id", "text"], use_threads=False)
                    yield table.set_column(1, "text", table["text"].cast(pa.large_string()))
                    start = stop


def _chain(plan: Plan, rows: pa.Table, counts: list[dict[str, Any]]) -> list[str]:
    text = rows["text"].combine_chunks()
    batch = Batch(len(rows), np.arange(len(rows)), text, {})
    run_parts(plan, plan.steps[0].parts, batch, counts)
    return rows["id"].take(pa.array(batch.live)).to_pylist()


# --- signatures of near duplicates --------------------------------------------------------------------------------


def signatures(files: list[str], config: dict[str, Any], pairs: int, repeats: int = 1) -> dict[str, Any]:
    """The measuring half of `near_dedup` over texts that lie in memory as Arrow has them; and how far its estimates are
    from the true similarity of `pairs` edited copies, in standard errors of the theory."""
    stage = NearDedup(NearDedup.Config(**config), name="near_dedup")
    batches = [group.select(["text"]).combine_chunks() for group in _groups(files)]
    stage.warm()
    runs = [timed(lambda: [len(stage.measure(batch)) for batch in batches]) for _ in range(repeats)]
    seconds = sorted((seconds for _, seconds in runs), key=lambda one: one["cpu_seconds"])[repeats // 2]
    documents = (ASCII_WORDS(text.lower()) for batch in batches for text in batch["text"].to_pylist())
    found = pairs_of(documents, pairs, stage.config.ngram, seed=1)
    texts = [text for pair in found for text in pair[:2]]
    sketches = stage.measure(pa.table({"text": pa.array(texts, pa.large_string())}))["near_sketch"].to_pylist()
    errors = [_error(sketches[2 * at], sketches[2 * at + 1], pair[2]) for at, pair in enumerate(found)]
    return {
        **seconds,
        "runs": [one["cpu_seconds"] for _, one in runs],
        "documents": sum(map(len, batches)),
        "errors": errors,
    }


def _error(left: bytes, right: bytes, similarity: float) -> float:
    """Estimate less truth, in standard errors: of the sketch's bytes, s + (1 - s)/256 are equal (Li and Koenig 2010)."""
    equal = float(np.mean(np.frombuffer(left, np.uint8) == np.frombuffer(right, np.uint8)))
    expected = similarity + (1 - similarity) / 256
    spread = np.sqrt(expected * (1 - expected) / len(left))
    return round(float((equal - expected) / spread), 4) if spread else 0.0 if equal == expected else np.inf


# --- the whole job ------------------------------------------------------------------------------------------------


def run(
    recipe: dict[str, Any],
    sample: str,
    executor: Any = "inline",
    workers: int | None = None,
    scratch: str | None = None,
) -> dict[str, Any]:
    """A whole run. Before the clock starts the same stages have run on a few rows of the Parquet file `sample`."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        rows = next(_groups([sample])).slice(0, WARM_ROWS)
        pq.write_table(rows, f"{folder}/few.parquet")
        small = {**recipe, "input": {"files": f"{folder}/few.parquet"}, "output": f"{folder}/out"}
        run_recipe(parse_recipe({**small, "report": {"by": [], "pages": False}}))
    before = cpu_seconds()
    watch = _Workers() if executor == "ray" else None
    result, seconds = timed(lambda: run_recipe(parse_recipe(recipe), executor=executor, workers=workers))
    found: dict[str, Any] = {**seconds, "counts": result.manifest["counts"], "stages": result.manifest["stages"]}
    found |= {"facts": result.manifest["facts"], "before": round(before, 4)}
    return found | ({"worker_peak_rss": watch.stop()} if watch else {})


class _Workers(threading.Thread):
    """Looks four times a second at the peak memory that the kernel keeps for every Ray worker below this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[int, int] = {}
        self.done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.25):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "".join(process.cmdline()[:1]).startswith("ray::"):
                        self.peaks[process.pid] = max(self.peaks.get(process.pid, 0), peak_rss(process.pid))
                except (psutil.Error, OSError):
                    continue  # it ended while we looked

    def stop(self) -> int:
        self.done.set()
        self.join()
        return max(self.peaks.values(), default=0)


# --- the baseline -------------------------------------------------------------------------------------------------


def copy(files: list[str], folder: str) -> dict[str, Any]:
    """Reads every file whole with pyarrow and writes it again with zstd, pyarrow's defaults otherwise."""
    Path(folder).mkdir(parents=True)
    pq.write_table(pa.table({"text": ["warm"]}), f"{folder}/warm.parquet", compression="zstd")

    def work() -> int:
        rows = 0
        for path in files:
            table = pq.read_table(path)
            pq.write_table(table, f"{folder}/{rows:012d}.parquet", compression="zstd")
            rows += len(table)
        return rows

    rows, seconds = timed(work)
    return {**seconds, "documents": rows}


def main(name: str, arguments: str) -> None:
    found = {"stages": stages, "signatures": signatures, "run": run, "copy": copy}[name](**json.loads(arguments))
    print(json.dumps({**found, "peak_rss": peak_rss()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
