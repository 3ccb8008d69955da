"""The DuckDB connection of a thread: locked down, one thread, nothing of the machine in reach.

Invariant: after `session()` has opened it, a connection can read registered batches and nothing else, and its settings
cannot change. `functions()` says which SQL functions depend on their arguments alone.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Labelled consistent by DuckDB although they read the clock, the build or its own catalog.
_IMPURE = {"current_localtime", "current_localtimestamp", "version"}
# What a rule's `pareto(score, alpha)` becomes (see `sql.substitute`): a Lomax draw of shape alpha is above 1 - score. u: the
# document's draw in [0, 1). Null where alpha is not above 0: there is no such distribution.
_PARETO = (
    "CREATE MACRO pareto_of(u, score, alpha) AS CASE WHEN alpha > 0 THEN "
    "power(1.0 - u, -1.0::DOUBLE / alpha) - 1.0 > 1.0::DOUBLE - score END"
)
_IMPURE |= {"json_serialize_sql", "json_deserialize_sql", "json_serialize_plan", "parse_duckdb_log_message"}


@dataclass
class Session:
    """A locked connection of one thread, and statements parsed once (1 ms for 30 rules, of 4 in all)."""

    connection: Any
    pid: int
    statements: dict[str, Any] = field(default_factory=dict)

    def statement(self, query: str) -> Any:
        if query not in self.statements:
            if len(self.statements) > 64:
                self.statements.clear()
            (self.statements[query],) = self.connection.extract_statements(query)
        return self.statements[query]


_LOCAL = threading.local()


def duckdb() -> Any:
    """The module, imported at first use."""
    import duckdb  # 0.1 s: only where SQL is used

    return duckdb


def forget() -> None:
    """Drops this thread's connection: after an error it may hold half a result and the batch."""
    _LOCAL.session = None


def session() -> Session:
    """This thread's connection, opened at first use (30 ms); never one that a parent process opened."""
    current = getattr(_LOCAL, "session", None)
    if current is None or current.pid != os.getpid():
        # DuckDB starts 8 threads for I/O unless told otherwise; the calling thread is the one that works
        connection = duckdb().connect(":memory:", config={"threads": 1, "async_threads": 0})
        connection.execute(_PARETO)
        connection.execute("PRAGMA disable_optimizer")  # half of the time of a query over one batch is its optimizer
        for setting in (
            "TimeZone = 'UTC'",
            "ieee_floating_point_ops = false",
            "error_on_division_by_zero = false",
            "temp_directory = ''",
            "enable_external_access = false",
            "autoload_known_extensions = false",
            "autoinstall_known_extensions = false",
            "python_enable_replacements = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        current = _LOCAL.session = Session(connection, os.getpid())
    return current


@dataclass(frozen=True)
class Functions:
    """Names by what they may do: `pure` scalars, `macros` (their parameters and bodies, checked when used), the rest."""

    pure: frozenset[str]
    macros: Mapping[str, tuple[tuple[frozenset[str], str], ...]]
    others: Mapping[str, str]


@functools.lru_cache(maxsize=1)
def functions() -> Functions:
    """The functions of this DuckDB, sorted by `duckdb_functions()`; a name is as impure as its worst overload."""
    rows = session().connection.execute(
        "SELECT lower(function_name), function_type, stability, has_side_effects, schema_name, parameters, "
        "macro_definition FROM duckdb_functions()"
    )
    pure: set[str] = set()
    impure: set[str] = set(_IMPURE)
    macros: dict[str, tuple[tuple[frozenset[str], str], ...]] = {}
    others: dict[str, str] = {}
    for name, kind, stability, side_effects, schema, parameters, body in rows.fetchall():
        if kind == "macro" and schema == "main":
            macros[name] = (*macros.get(name, ()), (frozenset(parameters), body))
        elif kind == "scalar" and not name.startswith("__internal"):
            (pure if stability == "CONSISTENT" and not side_effects else impure).add(name)
        elif kind in ("aggregate", "window"):
            others[name] = f"is {'an aggregate' if kind == 'aggregate' else 'a window function'}: a rule sees one row"
        else:
            others.setdefault(name, "is not a scalar function")
    others.update(dict.fromkeys(impure, "is not a pure function of the row"))
    return Functions(frozenset(pure - impure), macros, others)
