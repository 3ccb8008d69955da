"""What stops a run from outside is one clean message, exit 1, and a run that continues when it is mended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import runs

from tamis.pipeline.driver import run, storage_at
from tamis.pipeline.lock import NAME, Lock
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.progress import Progress
from tamis.pipeline.recipe import load_recipe
from tamis.stages.errors import DataError, SetupError


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    corpus = runs.write_corpus(tmp_path / "corpus", documents=120)
    return runs.write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "out")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_message_and_the_run_goes_on_when_there_is_room(recipe: Path, small_disk: Path) -> None:
    said = runs.tamis("run", recipe, "--output", small_disk / "out", code=1)
    assert "the disk is full" in said
    assert "Traceback" not in said
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    runs.tamis("run", recipe, "--output", small_disk / "out")
    runs.tamis("run", recipe)
    assert runs.file_hashes(small_disk / "out") == runs.file_hashes(recipe.parent / "out")


def test_a_file_system_that_refuses_writes_is_one_message(recipe: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    said = runs.tamis("run", recipe, "--output", small_disk / "out", code=1)
    assert "SetupError" in said
    assert "Traceback" not in said


def test_a_source_file_changed_between_the_passes_stops_the_run(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    plan = plan_recipe(loaded)
    changed = recipe.parent / "corpus" / "part-1.parquet"

    class Meddler(Progress):
        def begin(self, step: str, units: int, done: int) -> None:
            if step == "write":
                pq.write_table(pq.read_table(changed).slice(1), changed)

    with pytest.raises(DataError, match=r"part-1\.parquet.* changed since it was measured"):
        run(loaded, progress=Meddler())
    assert not (recipe.parent / "out" / "manifest.json").exists()
    assert plan_recipe(loaded).key != plan.key


def test_a_second_driver_is_refused_by_the_name_of_the_first(recipe: Path) -> None:
    with Lock(storage_at(str(recipe.parent / "out")), "the-first-run"):
        said = runs.tamis("run", recipe, code=1)
        assert "the-first-run" in said
        assert str(os.getpid()) in said
    runs.tamis("run", recipe)


def test_the_lock_of_a_dead_process_is_taken_over_at_once(recipe: Path) -> None:
    storage = storage_at(str(recipe.parent / "out"))
    with Lock(storage, "dead"):
        record = json.loads(storage.read(NAME))
    record["started"] = "1"  # the pid is alive, but another process has it now
    storage.write(NAME, json.dumps(record).encode())
    assert run(load_recipe(recipe)).fresh
    assert not storage.exists(NAME)


def test_the_lock_of_another_host_holds_while_its_heart_beats(recipe: Path) -> None:
    storage = storage_at(str(recipe.parent / "out"))
    with Lock(storage, "far"):
        record = json.loads(storage.read(NAME))
    record["host"] = "elsewhere"
    storage.write(NAME, json.dumps(record).encode())
    with pytest.raises(SetupError, match="elsewhere"):
        run(load_recipe(recipe))
    record["beat"] -= 61
    storage.write(NAME, json.dumps(record).encode())
    assert run(load_recipe(recipe)).fresh


def test_ctrl_c_ends_with_130_and_the_same_command_continues(recipe: Path) -> None:
    process = subprocess.Popen(
        runs.command("run", recipe), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    log = recipe.parent / "out" / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"unit"' in log.read_text()):
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (0, 130), said
    assert "Traceback" not in said
    assert not (recipe.parent / "out" / NAME).exists()
    runs.tamis("run", recipe)
    runs.check_accounting(recipe.parent / "out")
