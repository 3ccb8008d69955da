"""Starts the processes that measure themselves, and the command line.

Invariant: every piece of work runs in a fresh process, so that no figure depends on what was measured before.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent


class Told(NamedTuple):
    """What a command printed, and its seconds from start-up to exit: on the wall, and of CPU."""

    text: str
    seconds: float
    cpu_seconds: float


class BenchError(Exception):
    """Something of the benchmark could not run; the message says what the process said."""


def work(name: str, **arguments: Any) -> dict[str, Any]:
    """A function of worker.py in a process of its own; what it found and the measures that it took of itself."""
    return found([sys.executable, HERE / "worker.py", name, json.dumps(arguments)])


def found(command: list[str | Path]) -> dict[str, Any]:
    """The JSON on the last line that a command prints. BenchError where it fails."""
    return json.loads(_told(command).text.strip().rpartition("\n")[2])


def tamis(*arguments: str | Path) -> Told:
    """A command of Tamis in a process of its own. BenchError where it fails."""
    return _told([sys.executable, "-m", "tamis.pipeline.cli", *arguments])


def python(code: str, *arguments: str | Path) -> Told:
    """A piece of Python in a process of its own: what a command is held against."""
    return _told([sys.executable, "-c", code, *arguments])


def _told(command: list[str | Path]) -> Told:
    started, started_cpu = time.perf_counter(), _children()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        said = f"{done.stdout[-1000:]}{done.stderr[-3000:]}"
        raise BenchError(f"{' '.join(map(str, command))[:300]}\nexit {done.returncode}: {said}")
    return Told(done.stdout, round(seconds, 3), round(_children() - started_cpu, 3))


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
