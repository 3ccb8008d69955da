"""`tamis sql`: one SELECT over finished outputs, whose files are the only thing in reach.

Invariant: a query can read the files of the outputs that were named and nothing else of the machine, and change nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from ..stages.errors import RecipeError, did_you_mean
from .definitions import FATE, ORIGIN, WHO
from .output import VIEWS, Output, quoted_text, readable
from .terminal import columns, cut, plural, visible, wrapped

WIDTH = 110
END = b"\0"  # no signal has this number


class Query:
    """The views `ledger`, `data`, `quarantine` and `quarantine_files` of one output or several, and the tables `stages` and
    `rules` of their manifests; of several outputs they are unions by name, with a first column `output`. SetupError where
    one is not finished."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.outputs = [Output(folder) for folder in folders]

    @functools.cached_property
    def connection(self) -> Any:
        """A locked DuckDB connection. Large sorts may spill into the machine's folder for temporary files."""
        import duckdb

        config: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        connection = duckdb.connect(":memory:", config=config)
        connection.execute("SET TimeZone = 'UTC'")
        for output in self.outputs:
            output.register(connection)
        paths = [path for output in self.outputs for view in VIEWS for path in output.paths(view)]
        for view in VIEWS:
            selects = [
                f"SELECT {f'{quoted_text(output.name)} AS output, ' if len(self.outputs) > 1 else ''}* FROM {output.reading(view)}"
                for output in self.outputs
                if output.paths(view)
            ]
            if selects:
                connection.execute(f"CREATE VIEW {view} AS {' UNION ALL BY NAME '.join(selects)}")
        for name, rows in (("stages", self._stages()), ("rules", self._rules())):
            if rows:
                connection.register(f"told_{name}", pa.Table.from_pylist(rows))
                connection.execute(f"CREATE TABLE {name} AS FROM told_{name}")
                connection.unregister(f"told_{name}")
        connection.execute(f"SET temp_directory = {quoted_text(os.path.join(tempfile.gettempdir(), 'tamis-sql'))}")
        allowed = dict.fromkeys(
            [*paths, *map(readable, paths)]
        )  # under both names: DuckDB checks the one and opens the other
        connection.execute(f"SET allowed_paths = [{', '.join(map(quoted_text, allowed))}]")
        for setting in ("enable_external_access", "python_enable_replacements"):
            connection.execute(f"SET {setting} = false")
        connection.execute("SET lock_configuration = true")
        return connection

    def _named(self, output: Output) -> dict[str, str]:
        return {"output": output.name} if len(self.outputs) > 1 else {}

    def _stages(self) -> list[dict[str, Any]]:
        """A row a stage, in order: what the manifest says of it."""
        return [
            {
                **self._named(output),
                "name": stage["name"],
                "use": stage["use"],
                "kind": stage["kind"],
                "documents_in": stage.get("in", 0),
                "documents_out": stage.get("out", 0),
                "changed": stage.get("changed"),
                "seconds": stage["seconds"],
            }
            for output in self.outputs
            for stage in output.stages
        ]

    def _rules(self) -> list[dict[str, Any]]:
        """A row a rule, in order: how many documents it dropped first, failed and could not decide."""
        return [
            {
                **self._named(output),
                "rule": rule,
                "stage": stage["name"],
                "dropped": tally["first"],
                "failed": tally["failed"],
                "nulls": tally["null"],
                "sql": output.rule(rule).get("sql") or None,
            }
            for output in self.outputs
            for stage in output.stages
            for rule, tally in stage.get("rules", {}).items()
        ]

    def relation(self, query: str) -> Any:
        """The DuckDB relation of a query. RecipeError for anything but one SELECT (or FROM, WITH, DESCRIBE, SUMMARIZE)
        that works, naming the nearest column or view."""
        import duckdb

        with self.errors(query):
            statements = self.connection.extract_statements(query)
            kinds = [statement.type for statement in statements]
            if kinds != [duckdb.StatementType.SELECT]:
                what = "nothing" if not kinds else "two statements" if len(kinds) > 1 else kinds[0].name
                raise RecipeError(
                    f"{_one_line(query)}: is {what}, must be one SELECT (or FROM, WITH, DESCRIBE, SUMMARIZE, PIVOT with its "
                    "values listed): outputs are never changed"
                )
            return self.connection.sql(query)

    @contextlib.contextmanager
    def errors(self, query: str) -> Iterator[None]:
        """Turns what DuckDB raises in this block into a RecipeError; Ctrl-C ends what it computes."""
        import duckdb

        with _interrupting(self.connection) as asked:
            try:
                yield
            except (duckdb.Error, RuntimeError) as error:
                if asked.is_set():
                    raise KeyboardInterrupt from None
                if not isinstance(error, duckdb.Error):
                    raise
                raise RecipeError(f"{_one_line(query)}: {self._explained(error)}") from None

    def _explained(self, error: Exception) -> str:
        """DuckDB's first line, with the nearest name of ours where one is unknown."""
        text = str(error).strip()
        first = visible(text.partition("\n")[0])
        unknown = re.search(r'[Cc]olumn "?([^"\s]+)"? (?:not found|does not exist)', first)
        if unknown:
            known = {view: {name for name, _ in self._described(view)} for view in self.views()}
            elsewhere = [view for view, names in known.items() if unknown[1] in names]
            if elsewhere:
                return f"no column {unknown[1]} there; it is in {', '.join(elsewhere)}"
            return f"no column {unknown[1]}.{did_you_mean(unknown[1], set().union(*known.values()))}"
        table = re.search(r"Table with name (\S+) does not exist", first)
        if table and table[1].lower() in VIEWS:
            return f"there is no {table[1]}: no document was written (an observing run writes none)"
        if table:
            return f"no view {table[1]}.{did_you_mean(table[1], self.views())}"
        if "file system operations are disabled" in first:
            return "only the files of the outputs that were named can be read, through the views " + ", ".join(
                self.views()
            )
        place = re.search(r"^LINE \d+: .*\n\s*\^", text, re.MULTILINE)
        return first if place is None else first + "\n" + "\n".join(visible(line) for line in place[0].split("\n"))

    def views(self) -> list[str]:
        """Those that have files, in order."""
        found = [view for view in VIEWS if any(output.paths(view) for output in self.outputs)]
        return [*found, *(name for name, rows in (("stages", self._stages()), ("rules", self._rules())) if rows)]

    def _described(self, view: str) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self.connection.sql(f"DESCRIBE {view}").fetchall()]

    def describe(self) -> str:
        """The views with their columns, and the definition of every measured one; a newline at the end."""
        docs: dict[str, str] = dict(SYSTEM)
        for output in self.outputs:
            docs |= {column["name"]: f"{column['stage']}: {column['doc']}" for column in output.manifest["columns"]}
            docs |= {f"{s['name']}_changed": f"{s['name']}: whether this edit changed the text" for s in output.stages}
        lines = []
        for view in self.views():
            (rows,) = self.connection.sql(f"SELECT count(*) FROM {view}").fetchall()[0]
            lines += [f"{view}  {plural(rows, 'row')}"]
            if view == "data":
                known = {name for name, _ in self._described("ledger")}
                described = self._described(view)
                same = [name for name, _ in described if name in known]
                lines += [
                    f"  {line}"
                    for line in columns((n, k.lower(), docs.get(n, "")) for n, k in described if n not in known)
                ]
                lines += (
                    wrapped([f"and as in the ledger: {same[0]}", *same[1:]], indent="  ", width=WIDTH) if same else []
                )
            else:
                rows_of = [(name, kind.lower(), docs.get(name, "")) for name, kind in self._described(view)]
                lines += [f"  {cut(line, 160)}" for line in columns(rows_of)]
            lines.append("")
        names = " ".join(output.name for output in self.outputs)
        lines.append(f'tamis sql {names} "SELECT stage, rule, count(*) FROM ledger GROUP BY ALL ORDER BY 3 DESC"')
        return "".join(f"{visible(line)}\n" for line in lines)


@contextlib.contextmanager
def _interrupting(connection: Any) -> Iterator[threading.Event]:
    """Ctrl-C reaches a query: Python's own handlers wait until DuckDB returns, so a thread reads the signal's byte."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    read, write = os.pipe()
    os.set_blocking(write, False)

    def watch() -> None:
        while (byte := os.read(read, 1)) and byte != END:
            if byte[0] == signal.SIGINT:
                asked.set()
                connection.interrupt()

    thread = threading.Thread(target=watch, daemon=True, name="tamis-interrupt")
    thread.start()
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield asked
    finally:
        signal.set_wakeup_fd(before)
        os.write(write, END)
        thread.join()
        os.close(read)
        os.close(write)


SYSTEM = {"output": "the output that the row is of", **WHO, **FATE, **ORIGIN, "text": "the curated text"}


def _one_line(query: str) -> str:
    return cut(visible(" ".join(query.split())), 200)
