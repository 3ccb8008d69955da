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
from .replace import settle
from .storage import storage_at
from .terminal import place

VIEWS = ("ledger", "data", "quarantine", "quarantine_files")
HEX_DIGITS = frozenset("0123456789abcdef")


class Output:
    """`manifest` and SQL over the views `ledger` and `data`. SetupError where the folder holds no finished run.

    `manifest` is given while a run ends, before its own is written, and `name`, where the result will stand.
    """

    def __init__(self, folder: str, manifest: dict[str, Any] | None = None, *, name: str | None = None) -> None:
        self.storage = storage_at(folder)
        self.name = place(name or self.storage.root)
        if manifest is None:
            settle(self.storage)
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
        self.register(connection)
        for view in VIEWS:
            if self.paths(view):
                connection.execute(f"CREATE VIEW {view} AS FROM {self.reading(view)}")
        return connection

    def register(self, connection: Any) -> None:
        """Gives the connection the way to this output's files, where they are on an object store."""
        if not self.storage.local:
            connection.register_filesystem(self.storage.fs)

    @functools.cached_property
    def _files(self) -> dict[str, list[str]]:
        """The files of every view, below the output, in order."""
        quarantine = {"quarantine": "quarantine/rows.parquet", "quarantine_files": "quarantine/files.parquet"}
        there = self.storage.list("quarantine")
        ours = (".parquet", ".jsonl.zst")
        found = {view: [path for path in self.storage.list(view) if path.endswith(ours)] for view in VIEWS[:2]}
        return found | {view: [path] if path in there else [] for view, path in quarantine.items()}

    def paths(self, view: str) -> list[str]:
        """Paths or URLs of the files of a view, in order."""
        return [self.storage.url(path) for path in self._files[view]]

    def reading(self, view: str) -> str:
        """What stands behind FROM to read the files of a view, which has some. Where data/ holds several sets, a document
        may stand in more than one; the column `set_name` tells them apart."""
        sets = list(self.manifest["recipe"]["write"].get("sets") or ()) if view == "data" else []
        if not sets:
            return self._reading(self._files[view])
        parts = []
        for name in sets:
            own = [path for path in self._files[view] if path.startswith(f"data/{name}/")]
            if own:
                parts.append(f"SELECT *, {quoted_text(name)} AS set_name FROM {self._reading(own)}")
        return f"({' UNION ALL '.join(parts)})"

    def _reading(self, paths: Sequence[str]) -> str:
        names = ", ".join(quoted_text(readable(self.storage.url(path))) for path in paths)
        if paths[0].endswith(".parquet"):
            return f"read_parquet([{names}], hive_partitioning = false, filename = false)"
        types = [f"{quoted_name(c['name'])}: {quoted_text(c['sql'])}" for c in self.manifest["data_columns"]]
        return (
            f"read_json([{names}], format = 'newline_delimited', compression = 'zstd', columns = {{{', '.join(types)}}}, "
            f"hive_partitioning = false, filename = false, maximum_object_size = {self._longest_line})"
        )

    @functools.cached_property
    def _longest_line(self) -> int:
        """Bytes that no line of data/ has more of: an escape makes six bytes of one."""
        import duckdb

        with duckdb.connect(":memory:") as connection:
            self.register(connection)
            query = f"SELECT coalesce(max(bytes_read), 0)::BIGINT FROM {self.reading('ledger')}"
            longest = int(connection.execute(query).fetchall()[0][0])
        return max(16 << 20, 6 * longest + (1 << 20))

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
        """Written documents whose text holds the phrase, letter by letter; dicts as those of `find`."""
        if not self.paths("data"):
            return []
        written = "(source_file, source_row) IN (SELECT (source_file, source_row) FROM data WHERE contains(text, ?))"
        return self._first("ledger", "decision, rule, reason", written, [phrase], most)

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


def readable(url: str) -> str:
    """The file as DuckDB finds it; what it would take for a wildcard stands in brackets."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in url)


def quoted_text(text: str) -> str:
    """A string as SQL takes it."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def quoted_name(name: str) -> str:
    """A column's name as SQL takes it."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
