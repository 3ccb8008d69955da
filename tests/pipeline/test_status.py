"""`tamis status` tells from files alone how far a run is: counts equal those of the receipts, and nothing is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.lock import Lock
from tamis.pipeline.progress import Progress
from tamis.pipeline.receipts import Receipts
from tamis.pipeline.recipe import Recipe, load_recipe
from tamis.pipeline.status import status, status_text
from tamis.pipeline.storage import storage_at
from tamis.stages.errors import SetupError, StageError

STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    {"use": "rules", "rules": {"long": "chars > $min"}, "params": {"min": 200}},
    {"use": "exact_dedup"},
    {"use": "c4_lines"},
]


class Stops(Progress):
    """Raises KeyboardInterrupt after so many units, as a second Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.left = after

    def unit(self, step: str, receipt: dict[str, Any]) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def recipe(folder: Path, **changes: Any) -> Recipe:
    if not (folder / "in").exists():
        runs.write_corpus(folder / "in", documents=120, group_rows=30)
    changes = {"unit_size": "20kB", "stages": STAGES, **changes}
    return load_recipe(runs.write_recipe(folder / "recipe.yaml", folder / "in", folder / "out", **changes))


def stopped(found: Recipe, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(found, progress=Stops(after))


def every_file(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_stopped_run_is_told_by_its_receipts_and_nothing_is_touched(tmp_path: Path) -> None:
    stopped(recipe(tmp_path), 5)
    before = every_file(tmp_path)
    found = status(str(tmp_path / "out"))
    assert every_file(tmp_path) == before
    (folder,) = (path for path in (tmp_path / "out" / "work").iterdir() if path.name.startswith("read-"))
    receipts = Receipts(storage_at(str(tmp_path / "out" / "work")), folder.name).load()
    first = found.steps[0]
    assert (first.name, first.done, first.units) == ("read", len(receipts), found.units)
    assert (first.rows, first.alive) == tuple(sum(r[key] for r in receipts.values()) for key in ("rows", "alive"))
    assert 5 <= first.done < (first.units or 0)
    assert [step.done for step in found.steps[1:]] == [0, 0]
    assert (found.state, found.why, found.held) == ("stopped", "it was interrupted", "")
    told = status_text(found)
    assert "the same `tamis run` continues where it was" in told
    assert f"{first.done} of {first.units}" in told


def test_a_finished_run_has_the_counts_of_its_manifest(tmp_path: Path) -> None:
    made = run(recipe(tmp_path))
    found = status(made.output)
    assert (found.state, found.counts, found.steps) == ("finished", made.manifest["counts"], ())
    assert found.to_json() == json.dumps(json.loads(found.to_json()))
    assert json.loads(runs.tamis("status", made.output, "--json"))["plan"] == made.manifest["plan"]


def test_one_who_holds_the_output_is_named_and_the_dead_are_told_from_the_living(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    stopped(found, 3)
    out = storage_at(found.output)
    with Lock(out, "somebody"):
        living = status(found.output)
        record = json.loads(out.read("lock.json"))
    assert living.state == "running"
    assert living.held.startswith("pid ")
    assert living.beat is not None
    assert "state    running: pid" in status_text(living)
    out.write("lock.json", json.dumps(record | {"host": "elsewhere", "beat": record["beat"] - 1000}).encode())
    dead = status(found.output)
    assert dead.state == "stopped"
    assert "its lock is left behind, heartbeat 1" in status_text(dead)
    assert out.exists("lock.json")
    out.write("lock.json", json.dumps(record | {"host": "elsewhere", "beat": record["beat"] + 5}).encode())
    assert "on elsewhere, heartbeat" in status(found.output).held


def test_after_a_kill_it_says_that_the_process_is_gone(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    code = (
        "import os, sys\n"
        "from tamis.pipeline.driver import run\n"
        "from tamis.pipeline.progress import Progress\n"
        "from tamis.pipeline.recipe import load_recipe\n"
        "class Dies(Progress):\n"
        "    def unit(self, step, receipt): os._exit(9)\n"
        "run(load_recipe(sys.argv[1]), progress=Dies())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "recipe.yaml")], check=False)
    assert done.returncode == 9
    told = status(found.output)
    assert told.state == "stopped"
    assert "ended without a word" in told.why
    assert told.steps[0].done >= 1
    run(found)
    assert status(found.output).state == "finished"


def test_failures_of_the_last_driver_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_stage.py").write_text(
        "from tamis.stages.base import Stage\n"
        "class Broken(Stage):\n"
        "    @property\n"
        "    def adds(self):\n"
        "        from tamis.stages.base import Column\n"
        "        import pyarrow as pa\n"
        "        return (Column('x', pa.int32(), 'x'),)\n"
        "    def measure(self, batch):\n"
        "        raise ValueError('no \\x1b[31mluck')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = recipe(tmp_path, stages=[{"use": "broken_stage:Broken"}])
    with pytest.raises(StageError):
        run(found)
    told = status(found.output)
    assert told.failed == told.units
    assert 0 < len(told.failures) <= 5
    assert "no \\x1b[31mluck" in status_text(told)
    assert "\x1b" not in status_text(told)
    assert "StageError" in told.why


def test_units_that_the_input_no_longer_has_do_not_count(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    run(found, until="rules")
    (tmp_path / "in" / "part-2.parquet").unlink()
    fewer = recipe(tmp_path)
    run(fewer, until="normalize")
    told = status(fewer.output)
    assert told.steps[0].done == told.units == told.steps[0].units
    assert told.why.startswith("it was to stop after read-")


def test_work_that_lies_elsewhere_is_found(tmp_path: Path) -> None:
    found = recipe(tmp_path, work=str(tmp_path / "elsewhere"))
    stopped(found, 4)
    assert status(found.output).steps[0].done >= 4


def test_the_pace_is_that_of_the_units_since_the_driver_started(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    stopped(found, 6)
    (folder,) = (path for path in (tmp_path / "out" / "work").iterdir() if path.name.startswith("read-"))
    receipts = sorted(folder.glob("*.json"))
    started = status(found.output).started or 0
    for number, path in enumerate(receipts):  # two before this driver, the others one every ten seconds
        when = started - 500 if number < 2 else started + 10 * number
        os.utime(path, (when, when))
    told = status(found.output).steps[0]
    assert told.units is not None
    assert told.left == pytest.approx((told.units - told.done) * 10)


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no run of Tamis was started here"):
        status(str(tmp_path))


def test_a_run_on_an_object_store_is_told_while_it_goes(tmp_path: Path, s3: str) -> None:
    asked = []

    class Asks(Progress):
        def unit(self, step: str, receipt: dict[str, Any]) -> None:
            if not asked:
                asked.append(status(f"{s3}/out"))

    run(recipe(tmp_path).model_copy(update={"output": f"{s3}/out"}), progress=Asks())
    (found,) = asked
    assert (found.state, found.recipe) == ("running", "test")
    assert found.steps[0].done >= 1
    assert found.steps[0].units == found.units
    assert status(f"{s3}/out").state == "finished"
