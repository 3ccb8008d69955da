"""Killed anywhere, the same command finishes with the bytes of an undisturbed run.

The k-th kill falls (37 k mod 200) ms after the driver has logged k/21 of all receipts, so that every step, the writing,
the folding of receipts and the manifest are hit; the test prints where each fell.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import runs

KILLS = 20
CLUSTER = """
import os, sys, ray
context = ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100000000, logging_level="ERROR")
mode = os.environ.get("RAY_AUTH_MODE", "disabled")
print(f"RAY_ADDRESS={context.address_info['gcs_address']} RAY_AUTH_MODE={mode}", flush=True)
sys.stdin.read()
"""
LIMIT = 300  # seconds after which a run that does not end has failed


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpus of about 3 MB in 12 units, the recipe, and an undisturbed run of it."""
    folder = tmp_path_factory.mktemp("kills")
    corpus = runs.write_corpus(folder / "corpus", shards=4, documents=750, group_rows=250)
    runs.write_recipe(folder / "recipe.yaml", corpus, folder / "out", unit_size="150kB")
    runs.tamis("run", folder / "recipe.yaml")
    return folder


def events(output: Path) -> list[dict[str, object]]:
    """What drivers have logged so far; a line cut by a kill is left out."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in (output / "log.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def receipts(output: Path) -> int:
    return sum(event["event"] in ("unit", "item") for event in events(output))


def start(base: Path, output: Path, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    arguments = runs.command("run", base / "recipe.yaml", "--output", output, *options)
    return subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def wait_for_receipts(process: subprocess.Popen[bytes], output: Path, count: int) -> None:
    deadline = time.monotonic() + LIMIT
    while receipts(output) < count and process.poll() is None:
        assert time.monotonic() < deadline, "the run neither ends nor gets on"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.005)


def kill_after(process: subprocess.Popen[bytes], output: Path, count: int, milliseconds: int) -> str:
    """Kills the process group so long after `count` receipts; returns where it fell."""
    wait_for_receipts(process, output, count)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(milliseconds / 1000)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    last = events(output)[-1:] or [{"event": "nothing yet"}]
    where = " ".join(str(last[0].get(key, "")) for key in ("event", "step", "phase", "unit", "item")).strip()
    return where + (" and the manifest" if (output / "manifest.json").exists() else "")


def finish(base: Path, output: Path, *options: str) -> None:
    runs.tamis("run", base / "recipe.yaml", "--output", output, *options)
    assert runs.file_hashes(output) == runs.file_hashes(base / "out")
    runs.tamis("verify", output)


def kill_again_and_again(base: Path, output: Path, kills: list[int], *options: str) -> None:
    total = receipts(base / "out")
    for k in kills:
        process = start(base, output, *options)
        where = kill_after(process, output, k * total // (KILLS + 1), 37 * k % 200)
        print(f"kill {k:2d} of {total} receipts fell after: {where}")
    finish(base, output, *options)


def test_fifteen_kills_of_an_inline_run_change_nothing(base: Path, tmp_path: Path) -> None:
    kill_again_and_again(base, tmp_path / "out", [k for k in range(1, KILLS + 1) if k % 4])


@pytest.mark.slow
def test_all_twenty_kills_each_on_a_run_of_its_own(base: Path, tmp_path: Path) -> None:
    for k in range(1, KILLS + 1):
        kill_again_and_again(base, tmp_path / f"out{k}", [k])


@pytest.mark.slow
@pytest.mark.ray
def test_five_kills_of_driver_and_cluster_change_nothing(base: Path, tmp_path: Path) -> None:
    kill_again_and_again(base, tmp_path / "out", [4, 8, 12, 16, 20], "--executor", "ray", "--workers", "2")


def _workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Ray worker processes below a driver that are at work on something of ours."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                title = " ".join(child.cmdline()[:1])
                # not Ray's own processes, which hold the cluster together
                if title.startswith(("ray::MapBatches", "ray::_run_item")):
                    found.append(child)
    return found


@pytest.mark.ray
def test_a_worker_killed_five_times_changes_nothing(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start(base, output, "--executor", "ray", "--workers", "2")
    killed = 0
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and killed < 5:
        assert time.monotonic() < deadline
        before = receipts(output)
        worker = next(iter(_workers(process)), None)
        if worker is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            print(f"worker killed at receipt {before}: {worker.cmdline()[0]}")
            worker.kill()
            killed += 1
        # a unit is tried three times in a run: the next kill falls on another
        wait_for_receipts(process, output, before + 3)
    assert process.wait(LIMIT) == 0
    assert killed == 5
    finish(base, output)


@pytest.mark.ray
def test_a_driver_killed_alone_is_followed_at_once_while_its_workers_still_write(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin
    assert holder.stdout
    try:
        environment = dict(line.split("=", 1) for line in holder.stdout.readline().split())
        process = start(base, output, "--executor", "ray", **environment)
        wait_for_receipts(process, output, 3)
        process.kill()  # the driver alone: workers belong to the cluster and go on for a while
        process.wait()
        runs.tamis("run", base / "recipe.yaml", "--output", output, "--executor", "ray", **environment)
    finally:
        holder.stdin.close()
        holder.wait(60)
    assert runs.file_hashes(output) == runs.file_hashes(base / "out")
