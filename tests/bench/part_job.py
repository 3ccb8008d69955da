"""The whole job but for dedup, against a plain copy of the same columns of the same shards.

Invariant: job and copy take turns, so that a busy spell of the machine meets both; medians are compared.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import checks
from corpora import Bench
from figures import Row
from processes import work

TARGET = 6


def rows(bench: Bench) -> list[Row]:
    """CPU seconds of the job inline, as a multiple of those of the copy."""
    jobs: list[dict[str, Any]] = []
    copies: list[dict[str, Any]] = []
    outputs = [bench.scratch / f"job-{number}" for number in range(bench.sizes.runs)]
    for number, output in enumerate(outputs):
        copies.append(work("copy", files=bench.files, folder=str(bench.scratch / "copy")))
        bench.forget("copy")
        jobs.append(bench.run(bench.recipe(bench.pattern, output)))
        if number:
            bench.forget(output / "work")
    expected = bench.scratch / "kept-expected.txt"
    work("stages", files=bench.files, recipe=bench.recipe(bench.pattern, bench.scratch / "none"), kept=str(expected))
    wrong = checks.all_of(
        [
            *(checks.sums(job["counts"], bench.rows) for job in jobs),
            checks.verified(outputs[0]),
            checks.same_results(outputs),
            checks.same_ids(
                checks.kept_ids(outputs[0]), checks.listed_ids(expected), "by the run and by the stages alone"
            ),
            "" if copies[0]["documents"] == bench.rows else "the copy lacks documents",
        ]
    )
    for output in outputs:
        bench.forget(output)
    job, copy = (median(run["cpu_seconds"] for run in runs) for runs in (jobs, copies))
    return [
        Row(
            "job",
            f"CPU, read to written corpus and ledger, inline, {bench.text_bytes / 1e6 / job:.0f} MB per CPU s",
            job / copy,
            "times a copy",
            "less",
            TARGET,
            f"pyarrow read and write, zstd: {copy:.2f} CPU s (job {job:.2f})",
            f"sums, verify, kept ids, {bench.sizes.runs} equal runs",
            wrong,
            {"job": jobs, "copy": copies},
        )
    ]
