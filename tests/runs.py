"""Small corpora and recipes for tests of whole runs, and what must hold of every output."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from ruamel.yaml import YAML

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "with",
    "as",
    "was",
    "on",
    "be",
    "by",
    "this",
    "are",
    "from",
    "or",
    "have",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "all",
    "her",
    "there",
    "been",
    "many",
    "some",
    "time",
    "very",
    "when",
    "who",
    "more",
    "out",
    "so",
    "up",
    "said",
    "what",
    "about",
    "into",
    "than",
    "them",
    "can",
    "only",
    "other",
    "new",
    "people",
    "could",
    "first",
    "water",
    "long",
    "little",
    "work",
    "place",
    "years",
    "live",
    "back",
    "give",
    "most",
    "after",
    "thing",
    "our",
    "name",
    "good",
    "sentence",
    "man",
    "think",
    "great",
    "where",
    "help",
    "through",
    "much",
    "before",
    "line",
    "right",
    "too",
    "means",
    "old",
    "any",
    "same",
    "tell",
    "boy",
    "follow",
    "came",
    "want",
    "show",
    "also",
    "around",
    "form",
    "three",
    "small",
    "set",
    "put",
    "end",
    "does",
    "another",
    "well",
    "large",
    "must",
    "big",
    "even",
    "such",
    "because",
    "turn",
    "here",
    "why",
    "asked",
    "went",
    "men",
    "read",
    "need",
    "land",
    "different",
    "home",
    "us",
    "move",
    "try",
    "kind",
    "hand",
    "picture",
    "again",
    "change",
    "off",
    "play",
    "spell",
    "air",
    "away",
    "animal",
    "house",
    "point",
    "page",
]


def sentence(draw: random.Random) -> str:
    words = [draw.choice(WORDS) for _ in range(draw.randint(5, 18))]
    return f"{words[0].capitalize()} {' '.join(words[1:])}."


def document(draw: random.Random) -> str:
    """A page of a few paragraphs; some are short, repetitive, decomposed or carry lines that edits remove."""
    paragraphs = [" ".join(sentence(draw) for _ in range(draw.randint(2, 6))) for _ in range(draw.randint(1, 9))]
    kind = draw.random()
    if kind < 0.1:
        return sentence(draw)
    if kind < 0.2:
        return "\n".join([paragraphs[0]] * 6)
    if kind < 0.3:
        paragraphs.insert(1, "Please enable javascript to read on.\nRead our privacy policy.")
    if kind < 0.4:
        paragraphs.append("Un cafe\u0301 tre\u0300s noir\r\navec du lait et de la cre\u0300me.")
    return "\n\n".join(paragraphs)


def write_corpus(folder: Path, *, shards: int = 3, documents: int = 400, group_rows: int = 100, seed: int = 1) -> Path:
    """Parquet shards of English-like pages with exact duplicates across shards. About 1 kB a document."""
    draw = random.Random(seed)
    pages = [document(draw) for _ in range(shards * documents)]
    for at in range(7, len(pages), 13):
        pages[at] = pages[draw.randrange(at)]
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        rows = range(shard * documents, (shard + 1) * documents)
        table = pa.table(
            {
                "id": [f"doc-{row:06d}" for row in rows],
                "text": [pages[row] for row in rows],
                "url": [f"https://site{row % 17}.example.org/{row}" if row % 5 else None for row in rows],
                "date": [f"20{row % 25:02d}-01-02" for row in rows],
                "source": [f"source-{row % 3}" for row in rows],
            }
        )
        pq.write_table(table, folder / f"part-{shard}.parquet", row_group_size=group_rows, compression="zstd")
    return folder


STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    {"use": "url_tags"},
    {"use": "text_signals"},
    {"use": "rules", "preset": ["gopher_repetition", "gopher_quality"], "set": {"gopher_quality.words_min": 30}},
    {"use": "c4_lines", "terminal_punct": False},
    {"use": "text_signals", "name": "post"},
    {"use": "rules", "preset": ["c4"], "of": "post", "set": {"c4.sentences_min": 3}},
    {"use": "exact_dedup", "prefer": ["longest"]},
    {"use": "sample", "share": 0.9},
]


def write_recipe(path: Path, corpus: Path | str, output: Path | str, **changes: Any) -> Path:
    """A recipe over all stages of this project; `changes` replace top-level keys. Its pages are left out, for speed."""
    recipe: dict[str, Any] = {
        "name": "test",
        "input": {"files": f"{corpus}/*.parquet"},
        "output": str(output),
        "unit_size": "100kB",
        "write": {"shard_size": "300kB"},
        "stages": STAGES,
        "report": {"pages": False},
    }
    recipe.update(changes)
    with path.open("w") as file:
        YAML().dump(recipe, file)
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tamis.pipeline.cli", *map(str, arguments)]


def tamis(*arguments: str | Path, code: int = 0, **environment: str) -> str:
    """Runs the command line in a process of its own; returns stdout and stderr."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, env={**os.environ, **environment}, timeout=600, check=False
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def file_hashes(output: Path, folders: tuple[str, ...] = ("data", "ledger", "quarantine")) -> dict[str, str]:
    """Path -> hash of every file in the folders that hold results."""
    return {
        str(path.relative_to(output)): xxhash.xxh3_128_hexdigest(path.read_bytes())
        for folder in folders
        for path in sorted((output / folder).rglob("*"))
        if path.is_file()
    }


def rows(output: Path, folder: str) -> pa.Table:
    """All rows of data/ or ledger/ in file order."""
    return pa.concat_tables([pq.read_table(path) for path in sorted((output / folder).glob("*.parquet"))])


def check_accounting(output: Path) -> dict[str, int]:
    """The sums of the contract, from the files alone; returns documents by decision."""
    ledger, data = f"'{output}/ledger/*.parquet'", f"'{output}/data/*.parquet'"
    query = duckdb.connect().execute
    counts = dict(query(f"SELECT decision, count(*) FROM {ledger} GROUP BY 1").fetchall())
    assert set(counts) <= {"keep", "drop", "quarantine"}
    bare = query(
        f"SELECT count(*) FROM {ledger} WHERE decision = 'drop' AND (stage IS NULL OR rule IS NULL)"
    ).fetchone()
    assert bare == (0,), "every drop has a stage and a rule"
    silent = query(f"SELECT count(*) FROM {ledger} WHERE decision = 'quarantine' AND reason IS NULL").fetchone()
    assert silent == (0,), "every quarantined row has a reason"
    told = query(f"SELECT count(*) FROM {ledger} WHERE decision = 'keep' AND (rule IS NOT NULL OR out_file IS NULL)")
    assert told.fetchone() == (0,), "a kept row has a place and no rule"
    if counts.get("keep"):
        placed = query(
            f"""SELECT count(*) FROM (SELECT * FROM {ledger} WHERE decision = 'keep') l
            JOIN (SELECT *, filename AS f, file_row_number AS r FROM read_parquet({data}, filename=true, file_row_number=true)) d
            ON d.f = '{output}/' || l.out_file AND d.r = l.out_row AND d.source_file = l.source_file
            AND d.source_row = l.source_row AND strlen(d.text) = l.bytes_written"""
        ).fetchone()
        assert placed == (counts["keep"],), "every kept row stands where the ledger says"
        written = query(f"SELECT count(*) FROM {data}").fetchone()
        assert written == (counts["keep"],)
    return counts


def query(sql: str) -> list[tuple[Any, ...]]:
    """All rows of a query over files."""
    return duckdb.connect().execute(sql).fetchall()
