"""A run of a dozen documents, one of each fate, for the tests of what a person sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.pipeline.driver import Result, run
from tamis.pipeline.recipe import Recipe, parse_recipe

EVIL = "evil\x1b[31m\u202e\x07"
PROSE = "The lamp stood on the table near the window. Nobody had lit it for years."
EDITED = f"Home | About | Contact\n{PROSE}\nClick here\nIt was a cold morning in the harbour town."
DOCUMENTS: dict[str, list[tuple[str | None, str | None, str | None, str | None]]] = {  # id, text, url, lang
    "a.parquet": [
        ("short", "Too short.", "https://example.org/short", "de"),
        ("edited", EDITED, "https://example.org/edited", "en"),
        ("original", f"{PROSE} This page was copied.", "https://example.org/original", "en"),
        ("nothing", None, None, "en"),
        ("menu", "Home | About | Contact | Imprint\nBack | Forward | Reload", None, "en"),
        (EVIL, f"{EVIL} | menu\n{PROSE} And {EVIL} stands in the middle of this line.", f"https://x/{EVIL}", "en"),
        ("unknown", f"{PROSE} In what language?", None, None),
    ],
    "b.parquet": [
        ("plain", f"{PROSE} Then the door opened.", "https://example.org/plain", "en"),
        ("repost", f"{PROSE} This page was copied.", "https://example.org/repost", "en"),
        ("german", f"{PROSE} Sagte sie.", "https://example.org/german", "de"),
        ("twice", f"{PROSE} One of two.", "https://example.org/twice/1", "en"),
        ("twice", f"{PROSE} Two of two.", "https://example.org/twice/2", "en"),
    ],
}
STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    {
        "use": "rules",
        "name": "size",
        "rules": {"long": "chars >= $min AND chars <= $max", "english": "lang = $lang"},
        "params": {"min": 40, "max": 5000, "lang": "en"},
    },
    {"use": "rules", "name": "late", "where": "url IS NOT NULL", "rules": {"web": "starts_with(url, 'https')"}},
    {"use": "c4_lines"},
    {"use": "exact_dedup"},
]


def write_documents(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, rows in DOCUMENTS.items():
        columns = [pa.array(list(column), pa.string()) for column in zip(*rows, strict=True)]
        table = pa.table(dict(zip(("id", "text", "url", "lang"), columns, strict=True)))
        pq.write_table(table, folder / name, row_group_size=3)
    return folder


def small_recipe(folder: Path, **changes: Any) -> Recipe:
    """The recipe over `folder`/in, into `folder`/out; `changes` replace top-level keys."""
    recipe: dict[str, Any] = {
        "name": "small",
        "input": {"files": f"{folder}/in/*.parquet"},
        "output": f"{folder}/out",
        "max_bad": "100%",
        "stages": STAGES,
    }
    return parse_recipe({**recipe, **changes})


def small_run(folder: Path, **changes: Any) -> Result:
    """Writes the documents and runs the recipe to the end."""
    if not (folder / "in").exists():
        write_documents(folder / "in")
    return run(small_recipe(folder, **changes))
