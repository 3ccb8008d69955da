"""What a person waits for: `tamis plan`, `tamis why`, the quick start. Wall seconds, start-up included.

Invariant: each is held against the bare work that it cannot do without, in a fresh process as well.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import checks
import duckdb
from corpora import ROOT, Bench
from figures import Row
from processes import BenchError, python, tamis, work
from ruamel.yaml import YAML

FOOTERS = (
    "import sys, glob, pyarrow.parquet as pq; print([pq.read_metadata(p).num_rows for p in glob.glob(sys.argv[1])])"
)
LOOK_UP = "import sys, duckdb; print(duckdb.sql(f\"FROM '{sys.argv[1]}' WHERE doc_id = '{sys.argv[2]}'\").fetchall())"


def rows(bench: Bench) -> list[Row]:
    return [_plan(bench), _why(bench), _quickstart(bench)]


def _plan(bench: Bench) -> Row:
    pattern, runs = bench.many_files, range(bench.sizes.runs)
    recipe = _write(bench, "plan", pattern)
    told = [tamis("plan", recipe) for _ in runs]
    bare = median(python(FOOTERS, pattern).seconds for _ in runs)
    files = f"{bench.sizes.files} files"
    wrong = "" if files in told[0].text else f"the plan does not speak of {files}: {told[0].text[:200]}"
    return Row(
        "commands",
        f"tamis plan, {files}",
        median(one.seconds for one in told),
        "s",
        "less",
        1,
        f"pyarrow, the same footers: {bare:.2f} s",
        "all files are planned",
        wrong,
        {"seconds": [one.seconds for one in told], "cpu_seconds": [one.cpu_seconds for one in told]},
    )


def _why(bench: Bench) -> Row:
    """The slowest of the stories of a kept and of a dropped document, by every kind of key."""
    output = bench.scratch / "why"
    recipe = bench.recipe(bench.many_documents, output, keep_work="none")
    bench.run(recipe)
    ledger = f"{output}/ledger/*.parquet"
    query = duckdb.connect().execute
    ((count,),) = query(f"SELECT count(*) FROM '{ledger}'").fetchall()
    columns = "doc_id, source_file || '#' || source_row, url, source_hash"
    keys: list[str] = []
    for fate in ("keep", "drop"):
        found = query(f"SELECT {columns} FROM '{ledger}' WHERE decision = '{fate}' ORDER BY doc_id DESC LIMIT 1")
        keys += [key for row in found.fetchall() for key in row]
    seconds, problems = {}, [] if count == bench.sizes.ledger_rows else [f"{count} rows in the ledger"]
    for position, key in enumerate(keys):
        told = tamis("why", output, key)
        seconds[key] = told.seconds
        same = keys[position // 4 * 4]
        # texts repeat, so a hash may tell the story of another copy
        if position % 4 < 3 and f"{same} (" not in told.text:
            problems.append(f"why {key} does not speak of {same}")
    bare = median(python(LOOK_UP, ledger, keys[0]).seconds for _ in range(bench.sizes.runs))
    problems.append(checks.verified(output))
    bench.forget(output)
    return Row(
        "commands",
        f"tamis why, slowest of {len(keys)} keys, ledger of {count:,} rows",
        max(seconds.values()),
        "s",
        "less",
        2,
        f"DuckDB, the row by doc_id: {bare:.2f} s",
        "each story is its document's; verify",
        checks.all_of(problems),
        {"seconds": seconds},
    )


def _quickstart(bench: Bench) -> Row:
    sample, output = bench.scratch / "sample", bench.scratch / "quickstart"
    building = tamis("sample", sample).seconds
    files = sorted(map(str, sample.glob("*.parquet")))
    if not files:
        raise BenchError("tamis sample made no Parquet file")
    told = tamis("run", ROOT / "configs" / "quickstart.yaml", "--input", f"{sample}/*.parquet", "--output", output)
    copy = work("copy", files=files, folder=str(bench.scratch / "copy"))
    bench.forget("copy")
    wrong = checks.all_of([checks.verified(output), "" if checks.kept_ids(output) else "nothing was kept"])
    return Row(
        "commands",
        f"quick start, {copy['documents']:,} documents (the sample took {building:.0f} s)",
        told.seconds,
        "s",
        "less",
        180,
        f"pyarrow copy: {copy['wall_seconds']:.2f} s",
        "verify",
        wrong,
        {"cpu_seconds": told.cpu_seconds, "told": told.text[-500:]},
    )


def _write(bench: Bench, name: str, pattern: str) -> Path:
    path = bench.scratch / f"{name}.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(bench.recipe(pattern, bench.scratch / name), file)
    return path
