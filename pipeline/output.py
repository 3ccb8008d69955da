"""A finished output, opened for reading: its manifest, and its ledger and shards as DuckDB views.

Invariant: nothing is written, and only what a query names is read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from ..stages.errors import SetupError
from .finished import MANIFEST
from .storage import storage_at
from .terminal import place

HEX_DIGITS = frozenset("0123456789abcdef")


class Output:
    """`manifest` and SQL over the views `ledger` and `data`. SetupError where the folder holds no finished run.

    `manifest` is given while a run ends, before its own is written.
    """

    def __init__(self, folder: str, manifest: dict[str, Any] | None = None) -> None:
        self.storage = storage_at(folder)
        self.name = place(self.storage.root)
        try:
            found = json.loads(self.storage.read(MANIFEST)) if manifest is None else manifest
        except FileNotFoundError:
            raise SetupError(f"{self.name}: {self._unfinished()}") from None
        except ValueError as error:
            raise SetupError(f"{self.name}/{MANIFEST} is damaged ({error}); see `tamis verify {self.name}`") from error
        self.manifest: dict[str, Any] = found
        self.stages: list[dict[str, Any]] = found["stages"]

    def _unfinished(self) -> str:
        if self.storage.exists("log.jsonl") or self.storage.exists("lock.json"):
            return "the run is not finished; type the same `tamis run` again, it continues where it was"
        return "no run of Tamis ended here (there is no manifest.json); is the path right?"

    @functools.cached_property
    def connection(self) -> Any:
        """A DuckDB connection with the views. It may read files and nothing is installed or loaded for it."""
        import duckdb

        config: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        connection = duckdb.connect(":memory:", config=config)
        connection.execute("SET TimeZone = 'UTC'")
        if not self.storage.local:
            connection.register_filesystem(self.storage.fs)
        for view in ("ledger", "data"):
            paths = [path for path in self.storage.list(view) if path.endswith(".parquet")]
            if paths:
                names = ", ".join(_quoted(self._readable(path)) for path in paths)
                connection.execute(
                    f"CREATE VIEW {view} AS FROM read_parquet([{names}], hive_partitioning = false, filename = false)"
                )
        return connection

    def _readable(self, path: str) -> str:
        """The file as DuckDB finds it; what it would take for a wildcard stands in brackets."""
        url = self.storage.url(path)
        return "".join(f"[{c}]" if c in "*?[" else c for c in url)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query as dicts."""
        cursor = self.connection.execute(query, list(values))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @functools.cached_property
    def columns(self) -> list[str]:
        """Names of the ledger's columns, in order."""
        return [row["column_name"] for row in self.rows("DESCRIBE ledger")]

    # --- documents

    def find(self, key: str, most: int) -> list[dict[str, Any]]:
        """Documents that a key means, at most `most`, in identity order: by doc_id, else by `file#row`, else by URL,
        else by source_hash. Dicts of identity and fate: doc_id, source_file, source_row, decision, rule, reason."""
        file, _, row = key.rpartition("#")
        tries: list[tuple[str, list[Any]]] = [("doc_id = ?", [key])]
        if file and row.isdecimal() and row.isascii():
            tries.append(("source_file = ? AND source_row = ?", [file, int(row)]))
        tries.append(("url = ?", [key]))
        if len(key) == 32 and HEX_DIGITS.issuperset(key.lower()):
            tries.append(("source_hash = ?", [key.lower()]))
        for condition, values in tries:
            found = self._first("ledger", "decision, rule, reason", condition, values, most)
            if found:
                return found
        return []

    def find_text(self, phrase: str, most: int) -> list[dict[str, Any]]:
        """Kept documents whose text holds the phrase, letter by letter; dicts as those of `find`."""
        if not self.manifest["counts"]["kept"]:
            return []
        return self._first(
            "data", "'keep' AS decision, NULL AS rule, NULL AS reason", "contains(text, ?)", [phrase], most
        )

    def _first(self, view: str, fate: str, condition: str, values: Sequence[Any], most: int) -> list[dict[str, Any]]:
        return self.rows(
            f"SELECT doc_id, source_file, source_row, {fate} FROM {view} WHERE {condition} "
            f"ORDER BY source_file, source_row LIMIT {most}",
            values,
        )

    def row(self, source_file: str, source_row: int) -> dict[str, Any] | None:
        """The whole ledger row of a document."""
        found = self.rows("FROM ledger WHERE source_file = ? AND source_row = ? LIMIT 1", [source_file, source_row])
        return found[0] if found else None

    def rule(self, name: str | None) -> dict[str, Any]:
        """What the manifest says of a rule; empty for one that it does not list (`<edit>.empty`)."""
        return self.manifest["rules"].get(name or "", {})

    def stage_columns(self, stage: str) -> list[str]:
        """Ledger columns that a stage added, in order."""
        return [c["name"] for c in self.manifest["columns"] if c["stage"] == stage]


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def quoted_name(name: str) -> str:
    """A column's name as SQL takes it."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
