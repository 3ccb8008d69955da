"""Whole runs with near_dedup: the same documents stay whatever the units, the workers, the files, the kills.

Invariant: documents have ids of their own and a preference that decides, so that a run over the same documents dealt
otherwise into files must keep the same ones.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from crashes import Crash, Crasher
from near_documents import families

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.stages import _components, _groups, _verify
from tamis.stages.errors import DataError

DOCUMENTS = families(150, seed=4)
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"prefer": ["quality desc", "longest"]},
    "verify": {"prefer": ["longest"], "verify": "jaccard >= 0.8", "scope": "source"},
}


def write_documents(folder: Path, order: random.Random | None = None, only: set[str] | None = None) -> Path:
    """The documents in four files; with `order` dealt out anew, into files of other names."""
    table = DOCUMENTS.append_column("id", pa.array([f"doc-{row:04d}" for row in range(len(DOCUMENTS))]))
    rows = [row for row, name in enumerate(table["id"].to_pylist()) if only is None or name in only]
    names = ["a", "b", "c", "d"]
    if order:
        order.shuffle(rows)
        order.shuffle(names)
    folder.mkdir()
    ends = [0, len(rows) // 9, len(rows) // 3, len(rows) // 2, len(rows)]
    for name, start, end in zip(names, ends[:-1], ends[1:], strict=True):
        columns = ["id", "text", "date", "source", "quality"]
        part = table.take(rows[start:end]).select(columns)
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=20, compression="zstd")
    return folder


def write_recipe(folder: Path, corpus: Path, config: dict[str, Any], **changes: Any) -> Path:
    stages = [{"use": "rules", "rules": {"any": "chars > $least"}, "params": {"least": 600}}]
    stages += [{"use": "near_dedup", **config}]
    settings = {"stages": stages, "unit_size": "40kB", "max_bad": "100%", **changes}
    return runs.write_recipe(folder / "recipe.yaml", corpus, folder / "out", **settings)


@pytest.fixture(scope="module", params=list(CONFIGS))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed inline run; its recipe and corpus stand beside its output."""
    folder = tmp_path_factory.mktemp(request.param)
    run(load_recipe(write_recipe(folder, write_documents(folder / "in"), CONFIGS[request.param])))
    return folder


def fates(output: Path) -> list[tuple[Any, ...]]:
    """What became of each document, in the order of the ids."""
    columns = "doc_id, decision, stage, near_cluster_size, near_kept_doc_id, near_similarity"
    return runs.query(f"SELECT {columns} FROM '{output}/ledger/*.parquet' ORDER BY doc_id")


@contextlib.contextmanager
def small_parts(*, contraction: bool) -> Any:
    """Several items in every phase; components by contraction rounds in place of one union-find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_components, "PAIRS_PER_PART", 700)
        patch.setattr(_groups, "ROWS_PER_PART", 60)
        patch.setattr(_groups, "UNITS_PER_ITEM", 3)
        patch.setattr(_verify, "SLICE_SHINGLES", 2000)
        if contraction:
            patch.setattr(_components, "ONE_WORKER", 10)
            patch.setattr(_components, "FINISH_EDGES", 20)
        yield


def test_the_sums_hold_and_both_stages_drop(base: Path) -> None:
    counts = runs.check_accounting(base / "out")
    assert counts["drop"] > 60
    assert {fate[2] for fate in fates(base / "out")} == {None, "rules", "near_dedup"}
    assert "OK" in runs.tamis("verify", base / "out")


@pytest.mark.parametrize("unit_size", ["10kB", "128MB"])
def test_the_unit_size_changes_no_byte(base: Path, tmp_path: Path, unit_size: str) -> None:
    run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "out"), settings=[f"unit_size={unit_size}"]))
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "out")


@pytest.mark.parametrize("contraction", [False, True])
def test_partitions_and_the_way_to_components_change_no_byte(base: Path, tmp_path: Path, contraction: bool) -> None:
    with small_parts(contraction=contraction):
        run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "out"), settings=["unit_size=10kB"]))
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "out")


@pytest.mark.ray
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ray_writes_the_bytes_of_an_inline_run(base: Path, tmp_path: Path, workers: int) -> None:
    run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "out")), executor="ray", workers=workers)
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(base / "out")


@pytest.mark.parametrize("seed", [1, 2])
def test_documents_dealt_otherwise_into_files_keep_the_same_ones(base: Path, tmp_path: Path, seed: int) -> None:
    corpus = write_documents(tmp_path / "in", random.Random(seed))
    recipe = write_recipe(tmp_path, corpus, CONFIGS["verify" if base.name.startswith("verify") else "plain"])
    run(load_recipe(recipe))
    assert runs.file_hashes(tmp_path / "out") != runs.file_hashes(base / "out")
    assert fates(tmp_path / "out") == fates(base / "out")


def test_an_observing_run_decides_as_a_normal_one(base: Path, tmp_path: Path) -> None:
    run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "out"), settings=["observe=true"]))
    assert not (tmp_path / "out" / "data").exists()
    assert fates(tmp_path / "out") == fates(base / "out")


def test_a_sample_is_deduplicated_as_a_corpus_of_its_documents(base: Path, tmp_path: Path) -> None:
    run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "half"), settings=["sample=50%"]))
    chosen = {fate[0] for fate in fates(tmp_path / "half")}
    assert 100 < len(chosen) < len(DOCUMENTS) - 100
    corpus = write_documents(tmp_path / "in", only=chosen)
    config = CONFIGS["verify" if base.name.startswith("verify") else "plain"]
    run(load_recipe(write_recipe(tmp_path, corpus, config)))
    assert fates(tmp_path / "half") == fates(tmp_path / "out")


class Recorder(Crasher):
    """A crasher that remembers every path, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = 0, after: bool = False) -> None:
        self.paths: list[str] = []
        super().__init__(monkeypatch, at, after)

    def _step(self, path: str) -> bool:
        before = self.count
        found = super()._step(path)
        self.paths += [path] if self.count > before else []
        return found


@pytest.mark.parametrize(
    ("contraction", "most"),
    [(True, 1), pytest.param(True, 5, marks=pytest.mark.slow), pytest.param(False, 5, marks=pytest.mark.slow)],
)
def test_a_stop_in_any_phase_is_continued_to_the_same_bytes(
    base: Path, tmp_path: Path, contraction: bool, most: int
) -> None:
    """At up to `most` commits of every phase, drawn at random."""
    draw = random.Random(base.name[:4])
    with small_parts(contraction=contraction):
        with pytest.MonkeyPatch.context() as patch:
            recorder = Recorder(patch)
            run(load_recipe(base / "recipe.yaml", output=str(tmp_path / "whole")))
        assert runs.file_hashes(tmp_path / "whole") == runs.file_hashes(base / "out")
        phases: dict[str, list[int]] = {}
        for number, path in enumerate(recorder.paths, 1):
            if "near_dedup" in path:
                phases.setdefault(path.rpartition("/")[0], []).append(number)
        chosen = [at for numbers in phases.values() for at in draw.sample(numbers, min(most, len(numbers)))]
        for at in chosen:
            loaded = load_recipe(base / "recipe.yaml", output=str(tmp_path / f"out{at}"))
            with pytest.MonkeyPatch.context() as patch:
                crasher = Crasher(patch, at, after=draw.random() < 0.5)
                with contextlib.suppress(Crash):
                    run(loaded)
            assert crasher.where
            run(loaded)
            assert runs.file_hashes(tmp_path / f"out{at}") == runs.file_hashes(base / "out"), crasher.where
    wanted = {"bands", "buckets", "members", "verdict"} | ({"verify"} if base.name.startswith("verify") else {"choose"})
    assert all(any(name in path for path in phases) for name in wanted), sorted(phases)


def test_after_an_alarm_that_stopped_it_a_run_goes_on_from_there(tmp_path: Path) -> None:
    corpus = write_documents(tmp_path / "in")
    config = {"max_cluster": 3}
    run(load_recipe(write_recipe(tmp_path, corpus, config)))
    loaded = load_recipe(
        write_recipe(tmp_path, corpus, config | {"on_alarm": "stop"}), output=str(tmp_path / "stopped")
    )
    with pytest.raises(DataError, match="over max_cluster"):
        run(loaded)
    assert not (tmp_path / "stopped" / "data").exists()
    assert not (tmp_path / "stopped" / "manifest.json").exists()
    told = runs.tamis("run", tmp_path / "recipe.yaml", "--output", tmp_path / "stopped", code=1)
    assert "over max_cluster (3)" in told
    assert "--set near_dedup.on_alarm=warn" in told
    settings = ["near_dedup.on_alarm=warn"]
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(patch)
        run(load_recipe(tmp_path / "recipe.yaml", output=str(tmp_path / "stopped"), settings=settings))
    assert not any("/bands/" in path for path in recorder.paths), "nothing is computed twice"
    assert runs.file_hashes(tmp_path / "stopped") == runs.file_hashes(tmp_path / "out")
