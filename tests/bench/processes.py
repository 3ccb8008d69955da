"""Starts the processes that measure themselves, and the command line.

Invariant: every piece of work runs in a fresh process, so that no figure depends on what was measured before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class BenchError(Exception):
    """Something of the benchmark could not run; the message says what the process said."""


def work(name: str, **arguments: Any) -> dict[str, Any]:
    """A function of worker.py in a process of its own; what it found and the measures that it took of itself."""
    return json.loads(output_of([sys.executable, HERE / "worker.py", name, json.dumps(arguments, default=str)]))


def output_of(command: list[str | Path]) -> str:
    """Last line that a command prints. BenchError where it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(map(str, command))[:300]}\nexit {done.returncode}: {done.stderr[-3000:]}")
    return done.stdout.strip().rpartition("\n")[2]


def tamis(*arguments: str | Path) -> tuple[str, float]:
    """What a command of Tamis prints, and its wall seconds from start-up to exit. BenchError where it fails."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "tamis.pipeline.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise BenchError(f"tamis {arguments[0]}: exit {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout, seconds


def python_seconds(code: str, *arguments: str | Path) -> float:
    """Wall seconds of a piece of Python in a fresh process, from start-up to exit: what a command is held against."""
    started = time.perf_counter()
    output_of([sys.executable, "-c", code, *arguments])
    return time.perf_counter() - started
