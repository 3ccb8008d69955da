"""datatrove's four filters in FineWeb's order, from the first byte read to the last id written: the baseline.

Invariant: it knows nothing of Tamis, runs in datatrove's own environment, and imports and models are loaded before the
clock starts. `python datatrove_recipe.py FILE KEPT` reads columns id and text of the Parquet FILE, writes the ids that
all filters keep to KEPT, one a line, and prints JSON.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import pyarrow.parquet as pq
from datatrove_verdicts import FILTERS, make_filters


def keeps(filters: dict, text: str) -> bool:
    """Whether all filters keep a text; each sees what the one before left of it."""
    from datatrove.data import Document

    doc = Document(text=text, id="")
    try:
        return all(filters[name].filter(doc) is True for name in FILTERS)
    except ZeroDivisionError:  # a text without words, in one of the ratios: a run of datatrove would stop here
        return False


def main(file: str, kept: str) -> None:
    from datatrove.pipeline.filters import C4QualityFilter

    filters = make_filters() | {"c4": C4QualityFilter(filter_no_terminal_punct=False)}
    keeps(filters, "The models load at their first use, and this is a text. " * 30)
    started = time.process_time()
    table = pq.read_table(file, columns=["id", "text"])
    with open(kept, "w", encoding="utf-8") as out:
        for one, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
            if keeps(filters, text):
                out.write(f"{one}\n")
    seconds = time.process_time() - started
    print(json.dumps({"cpu_seconds": seconds, "documents": len(table), "version": version("datatrove")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
