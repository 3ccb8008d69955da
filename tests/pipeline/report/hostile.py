"""A run over documents, names and a recipe that try to become part of the page."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import parse_recipe

SCRIPT = "</script><script>window.hurt = 1; alert(1)</script>"
IMAGE = '<img src=x onerror="window.hurt = 2">'
PSEUDO = '<a href="javascript:alert(3)">link</a><b>bold</b>&lt;b&gt; %{x} $x^2$'
BREAKS = "a\u2028b\u2029c\x00d\x1b[31me\x07"
RIGHT = "\u202egnp.exe\u2066 \u05e9\u05dc\u05d5\u05dd \u200f"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467 emoji"
TEXTS = [
    f"{SCRIPT} A page that wants to run. " * 3,
    f"{IMAGE} A page with a picture that is none. " * 3,
    f"{PSEUDO} A page with a link. " * 3,
    f"{BREAKS} A page with characters that nobody sees. " * 3,
    f"{RIGHT} A page that runs from right to left. " * 3,
    f"{FAMILY} A page with a family. " * 3,
    "one line of a megabyte " * 45_000,
    "<!-- a comment that does not end <script> " * 3,
    "{{ 7 * 7 }} {% raw %} ${7*7} A page for templates. " * 3,
    "]]> <![CDATA[ </style></title></textarea> &#60;b&#62; " * 3,
]
NAMES = [SCRIPT, IMAGE, PSEUDO, BREAKS, RIGHT, FAMILY, "2020-01-01", "", "css:kept", "javascript:alert(4)"]
MARKER = "hurt"


def hostile_run(folder: Path) -> Output:
    """Two files, one of them JSON Lines with a broken line; every text, twice, in groups with every name."""
    source = folder / "in"
    source.mkdir(parents=True)
    count = 4 * len(TEXTS)
    table = pa.table(
        {
            "id": [NAMES[i % 10] + str(i) for i in range(count)],
            "text": [TEXTS[(i * 3) % 10] + str(i % 20) for i in range(count)],
            "url": [f"javascript:alert('{NAMES[i % 10]}')" for i in range(count)],
            "lang": [NAMES[i % 10] for i in range(count)],
            PSEUDO: [float(i) for i in range(count)],
        }
    )
    pq.write_table(table, source / "<svg onload=alert(5)>&'.parquet", row_group_size=7)
    broken = (
        '{"text": "a fine line of text, it is only here so that there is one"}\n{"text": <script>alert(6)</script>\n'
    )
    (source / "b.jsonl").write_text(broken, "utf-8")
    quoted = PSEUDO.replace('"', '""')
    recipe = {
        "name": f"</title>{SCRIPT}",
        "input": [
            {"name": "a", "files": f"{source}/*.parquet"},
            {"name": f"{IMAGE}", "files": f"{source}/*.jsonl", "columns": {"lang": "string", PSEUDO: "double"}},
        ],
        "output": str(folder / "out"),
        "max_bad": "100%",
        "differs": [SCRIPT, IMAGE, RIGHT],
        "report": {"by": ["lang", "source_file", PSEUDO]},
        "stages": [
            {"use": "normalize"},
            {"use": "text_signals"},
            {
                "use": "rules",
                "name": "own",
                "nulls": "pass",
                "rules": {"few": f'"{quoted}" <= $most', "plain": "lang <> $bad", "words": "words >= $least"},
                "params": {"most": 30, "bad": SCRIPT, "least": 3},
            },
            {"use": "exact_dedup"},
        ],
    }
    run(parse_recipe(recipe))
    return Output(str(folder / "out"))
