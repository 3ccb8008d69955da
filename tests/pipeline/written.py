"""A small corpus with odd values, a recipe that drops in several ways, and an oracle for what is written where."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import runs
import xxhash

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import Recipe, parse_recipe

Row = Mapping[str, Any]
ODD = ["en", "de", "", None, "__null__", "a/b", "x y", "..", "é", "%41", "A=B"]
STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    {"use": "text_signals"},
    {"use": "rules", "name": "early", "rules": {"long": "words >= 40", "known": "num >= 0"}, "params": {}},
    {"use": "c4_lines", "terminal_punct": False},
    {"use": "rules", "name": "flag", "action": "tag", "rules": {"first": "source = 'source-0'"}},
    {"use": "exact_dedup"},
    {"use": "sample", "share": 0.7},
]
COLUMNS = ["id", "url", "odd AS language", "upper(source) AS loud", "length(text) AS letters", "bytes", "rule", "words"]
# name -> what the recipe says, and the same in Python over ledger rows
SETS: dict[str, tuple[dict[str, Any], Callable[[Row], bool]]] = {
    "main": ({}, lambda row: row["decision"] == "keep"),
    "half": ({"sample": 0.5}, lambda row: row["decision"] == "keep"),
    "short": ({"where": "rule = 'early.long'", "sample": "60%"}, lambda row: row["rule"] == "early.long"),
    "lost": ({"where": "decision = 'drop'"}, lambda row: row["decision"] == "drop"),
    "all": ({"where": "true"}, lambda row: True),
    "unsure": ({"where": "reason = 'early.null'"}, lambda row: row["reason"] == "early.null"),
    "tagged": (
        {"where": "flag_pass AND c4_lines_changed AND list_contains(coalesce(failed, []), 'sample.out')"},
        lambda row: bool(row["flag_pass"] and row["c4_lines_changed"] and "sample.out" in (row["failed"] or [])),
    ),
}
PARTITIONS = [[], ["odd"], ["source", "odd"], ["num"], ["yes"], ["decision", "rule"], ["words"]]


def write_corpus(folder: Path, *, seed: int, kind: str = "parquet", files: int = 3, documents: int = 90) -> Path:
    """Parquet or JSON Lines; some texts are null, some documents twice."""
    draw = random.Random(seed)
    pages = [runs.document(draw) for _ in range(files * documents)]
    for at in range(5, len(pages), 11):
        pages[at] = pages[draw.randrange(at)]
    folder.mkdir(parents=True)
    for file in range(files):
        numbers = range(file * documents, (file + 1) * documents)
        rows = [
            {
                "id": f"doc-{n:04d}",
                "text": None if draw.random() < 0.03 else pages[n],
                "url": f"https://example.org/{n}" if n % 4 else None,
                "source": f"source-{n % 3}",
                "odd": draw.choice(ODD),
                "num": draw.choice([None, *range(12)]),
                "yes": draw.choice([True, False, None]),
            }
            for n in numbers
        ]
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{file}.parquet", row_group_size=25)
        else:
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (folder / f"part-{file}.jsonl").write_text(text)
    return folder


def recipe_over(corpus: Path, output: Path, **changes: Any) -> Recipe:
    (first, *_) = corpus.iterdir()
    columns = {"source": "string", "odd": "string", "num": "int64", "yes": "bool"}
    source: dict[str, Any] = {"files": f"{corpus}/*{first.suffix}", "id": "id"}
    if first.suffix == ".jsonl":
        source["columns"] = columns
    data = {
        "name": "written",
        "input": source,
        "output": str(output),
        "unit_size": "60kB",
        "max_bad": "100%",
        "stages": STAGES,
    }
    return parse_recipe({**data, **changes})


def written_run(corpus: Path, output: Path, **changes: Any) -> Path:
    run(recipe_over(corpus, output, **changes))
    return output


def ledger(output: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((output / "ledger").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def data_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one file of data/."""
    if path.name.endswith(".parquet"):
        return pq.ParquetFile(path).read().to_pylist()
    with pa.input_stream(str(path), compression="zstd") as stream:
        return [json.loads(line) for line in stream.read().decode().splitlines()]


def data_files(output: Path) -> dict[str, list[dict[str, Any]]]:
    """Path below the output -> rows, in order of the paths."""
    found = sorted(path for path in (output / "data").rglob("*") if path.is_file())
    return {str(path.relative_to(output)): data_rows(path) for path in found}


def folder(row: Row, partition: list[str]) -> str:
    """'odd=a%2Fb/' for a ledger row, by the words of the contract."""
    return "".join(f"{column}={_value(row[column])}/" for column in partition)


def _value(value: Any) -> str:
    if value is None:
        return "__null__"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text == "__null__":
        return "%5F_null__"  # so that it is not taken for null
    kept = [c if re.fullmatch(r"[A-Za-z0-9_-]", c) else None for c in text]
    return "".join(k or "".join(f"%{byte:02X}" for byte in c.encode()) for k, c in zip(kept, text, strict=True))


def drawn(row: Row, name: str, share: float | None, seed: int = 0) -> bool:
    """The draw as the contract says it: xxh3 of seed and set name, then of doc_id, as a number from 0 to 1."""
    if share is None:
        return True
    salt = xxhash.xxh3_64_intdigest(f"{seed}\x00{name}".encode())
    return (xxhash.xxh3_64_intdigest(row["doc_id"].encode(), salt) >> 11) / 2**53 < share


def expected(rows: list[dict[str, Any]], sets: list[str], partition: list[str]) -> dict[str, list[Row]]:
    """Folder below data/ -> the ledger rows of its documents, in identity order."""
    found: dict[str, list[Row]] = {}
    for name in sets or [""]:
        written, chooses = SETS[name or "main"]
        share = written.get("sample")
        share = float(share.rstrip("%")) / 100 if isinstance(share, str) else share
        for row in rows:
            readable = row["reason"] is None or row["stage"] is not None
            if readable and chooses(row) and drawn(row, name, share):
                at = f"data/{name}/" if name else "data/"
                found.setdefault(at + folder(row, partition), []).append(row)
    return found
