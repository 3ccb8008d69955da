"""The text of single documents of a finished run: of kept ones from data/, of others from the source with their edits.

Invariant: what is returned is the last text version that the document had, or a reason why nobody can show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..stages.errors import TamisError
from .output import Output


class TextOf:
    """`TextOf(output)(row)` -> (text, '') or (None, why not), for a ledger row. Keeps the row group it read last, as
    neighbours are often asked for together."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._footers: dict[str, list[int]] = {}  # rows of each row group
        self._held: tuple[str, int, pa.ChunkedArray] | None = None

    def __call__(self, row: Mapping[str, Any]) -> tuple[str | None, str]:
        from .edits import text_versions

        name = row["out_file"]
        try:
            if name is not None and name.endswith(".parquet"):
                return self._written(name, row["out_row"]), ""
            *_, (_, text) = text_versions(self.output, row)
        except (TamisError, OSError, KeyError, ValueError, IndexError) as error:
            return None, str(error).partition("\n")[0]
        return text, ""

    def _written(self, name: str, row: int) -> str:
        """One text of a curated file."""
        if name not in self._footers:
            with self.output.storage.open(name) as file:
                meta = pq.ParquetFile(file).metadata
                self._footers[name] = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        group = 0
        while row >= self._footers[name][group]:
            row -= self._footers[name][group]
            group += 1
        if self._held is None or self._held[:2] != (name, group):
            with self.output.storage.open(name) as file:
                column = pq.ParquetFile(file).read_row_group(group, columns=["text"], use_threads=False)["text"]
            self._held = name, group, column
        return self._held[2][row].as_py()
