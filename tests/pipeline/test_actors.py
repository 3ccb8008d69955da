"""Steps that hold a GPU: how many actors, what is refused, what runs without, and what becomes of a lost device.

The GPUs are a number that Ray is told: scheduling, admission, threads and processes are real, no kernel runs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import runs

from tamis.pipeline.ahead import ahead
from tamis.pipeline.driver import run
from tamis.pipeline.progress import Progress
from tamis.pipeline.recipe import load_recipe
from tamis.stages.base import Resources
from tamis.stages.errors import SetupError, StageError

STAYS = Resources(actors=True)


@pytest.mark.parametrize(
    ("held", "cpus", "gpus", "sizes"),
    [
        ([Resources()], 2, 0, [0]),
        ([Resources(), STAYS], 2, 0, [0, 1]),
        ([Resources(), STAYS], 1, 0, [0, 0]),  # tasks do it
        ([Resources(), Resources(gpus=1)], 16, 4, [0, 4]),
        ([Resources(), Resources(gpus=1)], 3, 4, [0, 2]),
        ([Resources(gpus=1), Resources(gpus=0.5)], 16, 4, [2, 2]),
        ([Resources(gpus=1), Resources(gpus=1)], 16, 1, [0, 0]),  # refused by the admission
        ([Resources(cpus=4, actors=True), Resources(cpus=2, gpus=1)], 13, 8, [2, 2]),
        ([Resources(gpus=1, pool=(1, 8)), STAYS], 16, 2, [(1, 8), 14]),
        ([Resources(gpus=1, pool=(3, 8))], 16, 2, [0]),  # refused
        ([Resources(cpus=2, pool=(2, 2)), STAYS], 5, 0, [(2, 2), 0]),
        ([Resources(gpus=1, pool=(1, 1)), Resources(gpus=1)], 4, 3, [(1, 1), 2]),
    ],
)
def test_pools_of_actors_fit_all_at_once(held, cpus, gpus, sizes):
    from tamis.pipeline.executors.ray import pool_sizes

    found = pool_sizes(held, cpus, gpus)
    assert found == [size if isinstance(size, tuple) else (size, size) for size in sizes]
    assert sum(h.cpus * least for h, (least, _) in zip(held, found)) < cpus
    assert sum(h.gpus * least for h, (least, _) in zip(held, found)) <= gpus


@pytest.mark.parametrize("wanted", [True, False])
def test_reading_ahead_keeps_order_and_errors(wanted):
    def broken():
        yield from range(5)
        raise ValueError("page 5")

    seen = []
    with pytest.raises(ValueError, match="page 5"):
        seen.extend(ahead(broken(), wanted=wanted))
    assert seen == list(range(5))
    assert list(ahead(iter([]), wanted=wanted)) == []


def test_no_more_than_two_are_asked_for_too_early(monkeypatch):
    asked = []

    class Counts(ThreadPoolExecutor):
        def submit(self, *arguments, **options):
            asked.append(1)
            return super().submit(*arguments, **options)

    monkeypatch.setattr("tamis.pipeline.ahead.ThreadPoolExecutor", Counts)
    for number, _ in enumerate(ahead(iter(range(10)), wanted=True), start=1):
        assert len(asked) == number + 2


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where workers find `model_stages`
    runs.write_corpus(tmp_path / "in", shards=2, documents=60)
    return tmp_path


@pytest.fixture
def two_gpus(base: Path):
    import ray

    ray.init(num_cpus=3, num_gpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def recipe(base: Path, output: str = "out", **config: Any) -> Any:
    stages = [{"use": "url_tags"}, {"use": "model_stages:Ahead", "name": "it", **config}]
    path = runs.write_recipe(base / "r.yaml", base / "in", base / output, stages=stages, unit_size="30kB")
    return load_recipe(path)


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.slow
@pytest.mark.ray
def test_a_gpu_step_prepares_ahead_and_a_lost_device_costs_a_process(base, two_gpus):
    marks = base / "marks"
    marks.mkdir()
    run(recipe(base, breaks=str(marks), times=2), executor="ray", workers=3)
    found = runs.rows(base / "out", "ledger")
    assert set(found["it_ahead"].to_pylist()) == {True}
    assert found["it_size"].to_pylist() == found["bytes_read"].to_pylist()
    lost = {int(path.name) for path in marks.iterdir()}
    assert len(lost) == 2, "two processes lost their device"
    assert not lost & set(found["it_process"].to_pylist()), "a process without a device went on"
    runs.check_accounting(base / "out")


@pytest.mark.slow
@pytest.mark.ray
def test_a_device_that_is_always_lost_ends_the_run_and_says_why(base, two_gpus):
    marks = base / "marks"
    marks.mkdir()
    with pytest.raises(StageError, match=r"its process died 3 times in: it; at last: .*illegal memory access"):
        run(recipe(base, breaks=str(marks), times=100), executor="ray", workers=3)
    assert not (base / "out" / "manifest.json").exists()
    marks.rename(base / "mended")
    marks.mkdir()
    for number in range(100):
        (marks / str(number)).touch()
    run(recipe(base, breaks=str(marks), times=100))  # the same plan goes on here
    runs.check_accounting(base / "out")


@pytest.mark.slow
@pytest.mark.ray
def test_without_a_gpu_a_step_is_refused_or_runs_on_cpus_and_says_how_slow(base):
    with pytest.raises(SetupError, match=r"r\.yaml:\d+ .*needs 1 GPU, the cluster has 0"):
        run(recipe(base), executor="ray", workers=2)
    said = Said()
    run(recipe(base, "second", fallback=True), executor="ray", workers=2, progress=said)
    assert [line for line in said.lines if "no GPU here: slower by half" in line]
    runs.check_accounting(base / "second")


def test_in_this_process_a_step_that_may_runs_without_a_gpu_and_says_how_slow(base, monkeypatch):
    monkeypatch.setattr("tamis.pipeline.executors.inline.InlineExecutor.gpus", 0.0)
    said = Said()
    run(recipe(base, fallback=True), progress=said)
    assert [line for line in said.lines if "r.yaml:" in line and line.endswith("no GPU here: slower by half")]
    assert [name for name in (base / "out" / "log.jsonl").read_text().splitlines() if '"slow"' in name]


def test_in_this_process_a_lost_device_is_an_error_that_names_the_unit(base):
    marks = base / "marks"
    marks.mkdir()
    with pytest.raises(StageError, match=r"unit .*illegal memory access"):
        run(recipe(base, breaks=str(marks), times=1))
    run(recipe(base, breaks=str(marks), times=1))
    runs.check_accounting(base / "out")
