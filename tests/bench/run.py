"""`make bench`: measures what Tamis promises, each figure beside its baseline and its check.

Invariant: a figure of a wrong result counts as not met, and the exit code is 1; a missed target alone exits 0.

    python tests/bench/run.py                           all parts, about a quarter of an hour on two cores
    python tests/bench/run.py heuristics job            some parts
    python tests/bench/run.py --json bench.json --full  datatrove on two whole shards
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import part_commands
import part_estimate
import part_fasttext
import part_heuristics
import part_job
import part_lm_scores
import part_memory
import part_near_dedup
import part_scale
import part_scaling
from corpora import CORPUS, QUICK, ROOT, Bench, Sizes
from figures import exit_code, report, table
from processes import BenchError

PARTS = {
    "heuristics": part_heuristics.rows,
    "job": part_job.rows,
    "scaling": part_scaling.rows,
    "memory": part_memory.rows,
    "estimate": part_estimate.rows,
    "commands": part_commands.rows,
    "near_dedup": part_near_dedup.rows,
    "scale": part_scale.rows,
    "fasttext": part_fasttext.rows,
    "lm_scores": part_lm_scores.rows,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--corpus", default=str(CORPUS), metavar="GLOB", help="Parquet files with id, text and url")
    parser.add_argument("--scratch", type=Path, default=ROOT / "build", help="where 2 GB fit for a while")
    parser.add_argument("--full", action="store_true", help="datatrove reads the first two files whole (minutes)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the benchmark works, no more")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as scratch:
        sizes = QUICK if options.quick else Sizes()
        bench = Bench(options.corpus, Path(scratch), sizes, full=options.full)
        if not bench.files:
            print(f"nothing to measure: no Parquet files at {options.corpus}; --corpus GLOB names others")
            return 0
        rows, seconds, failed = [], {}, {}
        for name in options.parts or PARTS:
            started = time.perf_counter()
            try:
                rows += PARTS[name](bench)
            except BenchError as error:  # the other parts still have something to say
                failed[name] = str(error)
                print(f"{name}: {error}", file=sys.stderr)
            seconds[name] = round(time.perf_counter() - started, 1)
            print(f"{name}: {seconds[name]:.0f} s", file=sys.stderr)
    print(table(rows))
    if options.json:
        notes = {"part_seconds": seconds, "full": options.full, "quick": options.quick, "failed": failed}
        options.json.write_text(report(rows, notes))
    return 1 if failed else exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
