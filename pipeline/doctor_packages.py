"""What `tamis doctor` looks at in this installation: Python, packages against their bounds, compiled kernels, Ray, GPUs.

Invariant: heavy libraries are asked in processes of their own, with a limit of time.
"""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from .doctor import Check
from .terminal import plural, size

LIMIT = 120.0  # seconds for a process that looks
REFERENCE = 200.0  # MB/s per core of the kernel on this text, on a quiet machine of 2024
SLOW, UNCOMPILED = 50.0, 5.0
WORDS = [
    "the",
    "of",
    "lamp",
    "window",
    "harbour",
    "cold",
    "morning",
    "stood",
    "never",
    "again",
    "because",
    "water",
    "and",
    "small",
    "letters",
    "question",
    "seven",
]


def python() -> Iterator[Check]:
    """The interpreter, and every package that Tamis needs against its bound."""
    found = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    enough = sys.version_info >= (3, 11)
    yield Check("python", "ok" if enough else "fail", found, "" if enough else "Tamis needs Python 3.11 or later")
    try:
        wanted = metadata.requires("tamis") or []
        own = metadata.version("tamis")
    except metadata.PackageNotFoundError:
        yield Check("packages", "fail", "tamis is not installed in this environment", "pip install .")
        return
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Check("packages", "fail", "the package packaging is missing", "pip install packaging")
        return
    wrong, good = [], 0
    for entry in map(Requirement, wanted):
        extra = entry.marker is not None and not entry.marker.evaluate({"extra": ""})
        try:
            version = metadata.version(entry.name)
        except metadata.PackageNotFoundError:
            if not extra:
                wrong.append(f"{entry.name} is missing")
            continue
        if entry.specifier.contains(version, prereleases=True):
            good += not extra
        else:
            wrong.append(f"{entry.name} {version} is not {entry.specifier}")
    if wrong:
        yield Check("packages", "fail", "; ".join(wrong), "install Tamis again: pip install -c constraints.txt .")
    else:
        yield Check("packages", "ok", f"tamis {own}; {plural(good, 'package')}, each within its bounds")


def kernels() -> Iterator[Check]:
    """Whether compiled code is kept between processes, and how fast one kernel is here."""
    from .clean import old_caches

    began = time.perf_counter()
    from ..kernels import text_signals

    took = time.perf_counter() - began
    folder = os.environ["NUMBA_CACHE_DIR"]
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        yield Check("kernels", "fail", "NUMBA_DISABLE_JIT is set: nothing is compiled", "unset NUMBA_DISABLE_JIT")
        return
    stats = text_signals._measure.stats
    warm = bool(stats.cache_hits)
    writable = bool(stats.cache_path) and os.access(stats.cache_path, os.W_OK)
    files = [entry for path, _, names in os.walk(folder) for entry in (os.path.join(path, name) for name in names)]
    stored = sum(os.path.getsize(file) for file in files)
    state = f"{'warm' if warm else 'was cold'}, {plural(len(files), 'file')}, {size(stored)}, loaded in {took:.1f} s"
    if warm or writable:
        yield Check("kernel cache", "ok", f"{folder}: {state}")
    else:
        remedy = "point NUMBA_CACHE_DIR to a folder that can be written, or every process compiles again"
        yield Check("kernel cache", "warn", f"{folder}: {state}, not writable", remedy)
    if old := old_caches():
        found = f"{plural(len(old), 'folder')} of other versions, {size(sum(r.bytes for r in old))}"
        yield Check("old caches", "ok", found, "tamis clean --cache shows them, with --yes it removes them")
    speed = kernel_speed()
    found = f"text_signals: {speed:,.0f} MB/s on one core (about {REFERENCE:,.0f} where nothing else runs)"
    if speed < UNCOMPILED:
        yield Check("speed", "fail", found, "this is not compiled code: is numba's compiler switched off?")
    elif speed < SLOW:
        yield Check("speed", "warn", found, "the machine is busy, or its cores are slow or shared")
    else:
        yield Check("speed", "ok", found)


def kernel_speed() -> float:
    """MB per CPU second of the kernel behind most rules, on a built-in text of 1 MB; the best of three."""
    import numpy as np

    from ..kernels import text_signals as kernel

    state, words = 1, []
    for _ in range(160_000):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        words.append(WORDS[(state >> 16) % len(WORDS)] + (".\n" if (state >> 10) % 13 == 0 else " "))
    data = np.frombuffer("".join(words).encode(), np.uint8)
    offsets = np.append(np.arange(0, len(data), 4_000, dtype=np.int64), len(data))
    groups = kernel.WORDS | kernel.REPEATS | kernel.LINES | kernel.SYMBOLS
    best = float("inf")
    for _ in range(4):  # the first builds tables
        began = time.process_time()
        kernel.text_signals(data, offsets, groups, 30)
        best = min(best, time.process_time() - began)
    return len(data) / max(best, 1e-9) / 1e6


def ray() -> Iterator[Check]:
    """Whether Ray can be imported, and whether the cluster at RAY_ADDRESS answers."""
    address = os.environ.get("RAY_ADDRESS")
    command = [sys.executable, "-m", "tamis.pipeline.executors.ray_check", *([address] if address else [])]
    done, error = _asked(command)
    if done is None:
        what = f"the cluster at RAY_ADDRESS={address} does not answer" if address else "cannot be imported"
        remedy = "start the cluster, or unset RAY_ADDRESS" if address else "pip install 'ray[data]'"
        yield Check("ray", "fail", f"{what}: {error}", remedy)
        return
    told = json.loads(done.splitlines()[-1])
    if not address:
        yield Check("ray", "ok", f"{told['version']}; RAY_ADDRESS is not set: --executor ray uses this machine alone")
        return
    cpus, gpus = (told["resources"].get(kind, 0) for kind in ("CPU", "GPU"))
    found = f"{told['version']}; {address}: {plural(told['nodes'], 'node')}, {cpus:g} CPU, {gpus:g} GPU"
    yield Check("ray", "ok" if cpus else "fail", found, "" if cpus else "add a worker node: the cluster has no CPU")


def gpu() -> Iterator[Check]:
    """GPUs by their driver, and whether an installed torch sees them."""
    if shutil.which("nvidia-smi"):
        done, error = _asked(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
        found = "; ".join(done.splitlines()) if done else f"nvidia-smi: {error}"
        remedy = "" if done else "the driver does not answer: look at nvidia-smi"
        yield Check("gpu", "ok" if done else "warn", found, remedy)
    else:
        yield Check("gpu", "ok", "none (there is no nvidia-smi); rules, edits and dedup need none")
    if importlib.util.find_spec("torch") is not None:
        code = "import torch; print(torch.__version__, 'with' if torch.cuda.is_available() else 'without', 'CUDA')"
        done, error = _asked([sys.executable, "-c", code])
        remedy = "" if done else "install torch again, for this Python and driver"
        yield Check("torch", "ok" if done else "warn", done.strip() if done else f"cannot be imported: {error}", remedy)


def _asked(command: list[str]) -> tuple[str | None, str]:
    """(standard output, '') or (None, what went wrong: the last line of its errors)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        told = f"no answer within {LIMIT:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        return None, told
    if done.returncode or not done.stdout.strip():
        return None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]
    return done.stdout, ""


PACKAGES: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
    ("packages", python),
    ("kernels", kernels),
    ("ray", ray),
    ("gpu", gpu),
)
