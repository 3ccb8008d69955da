"""What Python's own `logging` and `warnings` say during a run, as events of log.jsonl.

Invariant: logging never stops a run and its volume is bounded; results never depend on it. A record belongs to the
innermost block that listens: the work on one unit or item (which may be another process, so its records travel with the
outcome), else the driver.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .events import EventLog

Record = dict[str, Any]  # level, logger, message, template
PACKAGE = "tamis"  # of which INFO counts too; of all others WARNING and above
MESSAGE = 4_000  # characters of one record; its end is kept, where a traceback tells what went wrong
TRACE = 16_000  # characters of a traceback
COLLECTED = 20  # records of one unit or item
SAME = 1_000  # records of one logger and template that a run writes
TEMPLATES = 1_000  # that are told apart; what comes after counts as one
DIGITS = re.compile(r"\d+")

_listeners: list[Callable[[Record], None]] = []
_lock = threading.RLock()


class _Handler(logging.Handler):
    """Hands each record to the innermost listener."""

    def emit(self, record: logging.LogRecord) -> None:
        own = record.name == PACKAGE or record.name.startswith(f"{PACKAGE}.")
        if record.levelno < (logging.INFO if own else logging.WARNING):
            return
        with contextlib.suppress(Exception), _lock:  # a bad format string or a full disk is no reason to stop
            if _listeners:
                _listeners[-1](_described(record))


def _described(record: logging.LogRecord) -> Record:
    try:
        message = record.getMessage()
    except Exception:
        message = f"{record.msg!r} with {record.args!r}"
    if record.exc_info and record.exc_info[1] is not None:
        message += f"\n{trace_of(record.exc_info[1])}"
    template = str(record.msg) if record.args else DIGITS.sub("0", message)
    found = {"level": record.levelname, "logger": record.name[:200], "message": shortened(message)}
    return found | {"template": template[:200]}


def shortened(message: str, most: int = MESSAGE) -> str:
    """At most `most` characters: the first quarter and the end, with a mark between."""
    if len(message) <= most:
        return message
    head, mark = message[: most // 4], f"\n[... {len(message) - most:,} characters left out ...]\n"
    return head + mark + message[len(head) + len(mark) - most :]


def trace_of(error: BaseException) -> str:
    """The traceback, with the notes of `collected_logs`, in at most TRACE characters."""
    return shortened("".join(traceback.format_exception(error)), TRACE)


@contextlib.contextmanager
def _listening(take: Callable[[Record], None]) -> Iterator[None]:
    """Records go to `take`, warnings among them, until the block ends; blocks nest."""
    root, package, handler = logging.getLogger(), logging.getLogger(PACKAGE), _Handler()
    level, shown = package.level, warnings.showwarning
    first = not _listeners
    if first:
        root.addHandler(handler)
        package.setLevel(min(logging.INFO, level) if level else logging.INFO)
        warnings.showwarning = _log_warning
    with _lock:
        _listeners.append(take)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(take)
        if first:
            root.removeHandler(handler)
            package.setLevel(level)
            warnings.showwarning = shown


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    logging.getLogger("py.warnings").warning("%s", f"{filename}:{lineno}: {category.__name__}: {message}")


@contextlib.contextmanager
def collected_logs() -> Iterator[list[Record]]:
    """What is logged inside the block, at most COLLECTED records and a last one that says how many more there were.

    Where the block raises, its records stand as notes on the exception, so that they are in its traceback.
    """
    found: list[Record] = []
    more = 0

    def take(record: Record) -> None:
        nonlocal more
        if len(found) < COLLECTED:
            found.append(record)
        else:
            more += 1

    try:
        with _listening(take):
            yield found
    except BaseException as error:
        for record in found:
            error.add_note(f"logged before: {record['level']} {record['logger']}: {shortened(record['message'], 500)}")
        raise
    finally:
        if more:
            message = f"{more:,} more records of this unit were not kept"
            found.append({"level": "INFO", "logger": __name__, "message": message, "template": "more"})


class RunLogs:
    """The driver's side: `with RunLogs(log):` writes what the driver logs; `write` what units and items collected."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.counts: dict[tuple[str, str], int] = {}
        self.warnings = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RunLogs:
        self._stack.enter_context(_listening(self._write))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        for (logger, template), count in self.counts.items():
            if count > SAME:
                self.log("log", level="INFO", logger=logger, message=template, left_out=count - SAME)

    def write(self, records: list[Record], **about: Any) -> None:
        """Records of a unit or item; `about` says which."""
        for record in records:
            self._write(record, **about)

    def _write(self, record: Mapping[str, Any], **about: Any) -> None:
        with _lock:
            key = (str(record["logger"]), str(record["template"]))
            if key not in self.counts and len(self.counts) >= TEMPLATES:
                key = ("", "loggers and templates beyond the first that were told apart")
            self.counts[key] = self.counts.get(key, 0) + 1
            self.warnings += record["level"] != "INFO"
            if self.counts[key] > SAME:
                return
        self.log("log", level=record["level"], logger=record["logger"], message=record["message"], **about)
