"""What `tamis doctor` looks at on this machine: CPUs and memory within the limits of its container, files, locale, clock.

Invariant: reads files of the kernel and asks the system; where a system has no such file, its limit counts as none.
"""

from __future__ import annotations

import locale
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .doctor import Check
from .terminal import size

CGROUP = Path("/sys/fs/cgroup")
WORKER = 600e6  # bytes that one worker takes at its peak (docs/performance.md)
SHARED = 256 << 20  # Ray's object store, as the Ray executor sets it
OPEN_FILES = 1024
OLDEST = 1_760_000_000  # autumn of 2025: a clock that says less is wrong


def cpus() -> Iterator[Check]:
    """CPUs of the machine, those that this process may use, and the quota of its container."""
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quota = cpu_quota()
    found = f"{machine} in this machine" + (f", {allowed} allowed" if allowed != machine else "")
    usable = min(allowed, quota or allowed)
    if quota is not None and quota < machine:
        found += f", quota of {quota:g}"
    remedy = (
        f"use --executor ray --workers {max(1, int(usable))}: by default there is a worker for each CPU of the machine"
    )
    yield Check("cpu", "ok" if usable >= machine else "warn", found, "" if usable >= machine else remedy)


def cpu_quota(root: Path = CGROUP) -> float | None:
    """CPUs that the control group grants (version 2, else 1); None without a limit."""
    for quota_file, period_file in (
        ("cpu.max", None),
        ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
    ):
        words = (_read(root / quota_file) + " " + (_read(root / period_file) if period_file else "")).split()
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal():
            return int(words[0]) / max(int(words[1]), 1)
    return None


def memory() -> Iterator[Check]:
    """Memory of the machine, what is available, and the limit of the container, against what workers take."""
    info = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in _read(Path("/proc/meminfo")).splitlines()}
    total, available = info.get("MemTotal", 0), info.get("MemAvailable", 0)
    if not total:
        yield Check("memory", "ok", "unknown on this system")
        return
    limit = memory_limit()
    used = int(_read(CGROUP / "memory.current") or 0)
    free = min(available, limit - used) if limit is not None else available
    found = f"{size(free)} available of {size(total)}" + (f", limit of {size(limit)}" if limit is not None else "")
    fits = int(free / WORKER)
    if fits < 1:
        yield Check("memory", "fail", found, f"one worker takes up to {size(WORKER)}")
    elif fits < (os.cpu_count() or 1):
        remedy = f"a worker takes up to {size(WORKER)}: use --workers {fits} under Ray"
        yield Check("memory", "warn", found, remedy)
    else:
        yield Check("memory", "ok", f"{found}; a worker takes up to {size(WORKER)}")


def memory_limit(root: Path = CGROUP) -> int | None:
    """Bytes that the control group grants (version 2, else 1); None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        word = _read(root / name).strip()
        if word.isdecimal() and int(word) < 1 << 60:  # version 1 says "no limit" with a huge number
            return int(word)
    return None


def shared_memory() -> Iterator[Check]:
    """/dev/shm, where Ray keeps its object store."""
    if not os.path.isdir("/dev/shm"):
        yield Check("/dev/shm", "ok", "absent on this system; Ray uses a folder")
        return
    free = shutil.disk_usage("/dev/shm").free
    remedy = "" if free >= SHARED else f"--executor ray needs {size(SHARED)} there: --shm-size for a container"
    yield Check("/dev/shm", "ok" if free >= SHARED else "warn", f"{size(free)} free", remedy)


def open_files() -> Iterator[Check]:
    """The limit of files that a process may have open."""
    try:
        import resource
    except ImportError:  # Windows
        yield Check("open files", "ok", "no limit known on this system")
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= OPEN_FILES
    shown = ["no limit" if value == resource.RLIM_INFINITY else f"{value:,}" for value in (soft, hard)]
    remedy = "" if enough else f"ulimit -n {OPEN_FILES * 4}"
    yield Check("open files", "ok" if enough else "warn", f"{shown[0]} (at most {shown[1]})", remedy)


def words_and_clock() -> Iterator[Check]:
    """Whether names and texts can be shown, and whether the clock can be true."""
    encodings = {"files": sys.getfilesystemencoding(), "texts": locale.getpreferredencoding(False)}
    wrong = [f"{what} in {name}" for what, name in encodings.items() if name.lower().replace("-", "") != "utf8"]
    remedy = "export PYTHONUTF8=1, or a locale such as C.UTF-8" if wrong else ""
    yield Check("locale", "warn" if wrong else "ok", ", ".join(wrong) if wrong else "UTF-8", remedy)
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    late = now < OLDEST
    remedy = "set the clock: heartbeats of locks and requests to object stores need it" if late else ""
    yield Check("clock", "fail" if late else "ok", shown, remedy)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


MACHINE: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
    ("cpu", cpus),
    ("memory", memory),
    ("/dev/shm", shared_memory),
    ("open files", open_files),
    ("locale", words_and_clock),
)
