"""`tamis clean`: what nobody needs goes, what a run has claimed stays, and nothing is touched without --yes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tamis.pipeline import clean as module
from tamis.pipeline.clean import clean, clean_caches, find
from tamis.pipeline.commands.clean import command
from tamis.pipeline.driver import run
from tamis.pipeline.earlier import open_run
from tamis.pipeline.lock import Lock
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.storage import Storage, storage_at
from tamis.stages.errors import SetupError

from ..runs import check_accounting, file_hashes, write_corpus, write_recipe

FIRST = [{"use": "rules", "rules": {"long": "chars > $min"}, "params": {"min": 200}}, {"use": "exact_dedup"}]
SECOND = [{"use": "rules", "rules": {"long": "chars > $min"}, "params": {"min": 900}}, {"use": "exact_dedup"}]
TAIL = [*FIRST, {"use": "rules", "name": "tail", "rules": {"long": "chars > 300"}}]
OTHER_TAIL = [*FIRST, {"use": "rules", "name": "tail", "rules": {"long": "chars > 400"}}]  # shares two steps with TAIL


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "in", shards=2, documents=60)


def go(corpus: Path, output: Path | str, stages: list[dict], *, replace: bool = False, **changes: Any) -> None:
    name = str(output).rpartition("/")[2]
    path = write_recipe(corpus.parent / f"{name}.yaml", corpus, output, stages=stages, unit_size="20kB", **changes)
    open_run.cache_clear()
    run(load_recipe(path), replace=replace)


def files(folder: Path) -> dict[str, int]:
    """Every file, hidden ones too."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def steps(work: Path) -> set[str]:
    """Folders of steps, by what the engine calls them."""
    return {p.name for p in work.iterdir() if p.is_dir() and p.name.startswith(("read-", "exact_dedup-", "measure-"))}


def test_work_of_a_replaced_recipe_goes_and_that_of_the_new_one_stays(corpus, tmp_path):
    out = tmp_path / "out"
    go(corpus, out, FIRST)
    old = steps(out / "work")
    go(corpus, out, SECOND, replace=True)
    go(corpus, tmp_path / "fresh", SECOND)
    new = steps(tmp_path / "fresh" / "work")
    assert steps(out / "work") == old | new
    assert not old & new
    before = files(out)
    told = clean(str(out))
    assert files(out) == before, "without --yes nothing is removed"
    assert all(name in told for name in old)
    assert not any(name in told for name in new)
    clean(str(out), yes=True)
    assert steps(out / "work") == new
    after = files(out)
    assert after.items() <= before.items()
    gone = before.keys() - after.keys()
    assert gone
    assert all(path.startswith("work/") for path in gone)
    check_accounting(out)
    open_run.cache_clear()
    open_run(str(out))  # raises where a step's work is incomplete
    assert find(storage_at(str(out))).removals == []


def test_what_is_told_is_what_is_removed(corpus, tmp_path):
    out = tmp_path / "out"
    go(corpus, out, FIRST)
    go(corpus, out, SECOND, replace=True)
    told = find(storage_at(str(out)))
    before = files(out)
    clean(str(out), yes=True)
    after = files(out)
    assert sum(r.bytes for r in told.removals) == sum(before.values()) - sum(after.values())
    assert sum(r.files for r in told.removals) == len(before) - len(after)


def test_shared_work_of_another_output_is_never_touched(corpus, tmp_path):
    work = tmp_path / "work"
    go(corpus, tmp_path / "a", TAIL, work=str(work))
    of_a = steps(work)
    go(corpus, tmp_path / "b", OTHER_TAIL, work=str(work))
    assert len(of_a) == 3
    (of_b,) = steps(work) - of_a
    clean(str(tmp_path / "a"), work=True, yes=True)
    (gone,) = of_a - steps(work)
    assert gone.startswith("measure-")
    assert of_b in steps(work)
    open_run.cache_clear()
    open_run(str(tmp_path / "b"))
    clean(str(tmp_path / "b"), work=True, yes=True)
    assert steps(work) == set()
    check_accounting(tmp_path / "a")
    check_accounting(tmp_path / "b")


def test_two_outputs_of_one_plan_share_all_and_the_last_one_cleans(corpus, tmp_path):
    work = tmp_path / "work"
    for name in ("a", "b"):
        go(corpus, tmp_path / name, FIRST, work=str(work), name="same")
    all_steps = steps(work)
    clean(str(tmp_path / "a"), work=True, yes=True)
    assert steps(work) == all_steps
    open_run.cache_clear()
    open_run(str(tmp_path / "b"))
    clean(str(tmp_path / "b"), work=True, yes=True)
    assert steps(work) == set()


def test_another_output_may_use_the_work_folder_inside_this_one(corpus, tmp_path):
    go(corpus, tmp_path / "a", TAIL)
    go(corpus, tmp_path / "b", OTHER_TAIL, work=f"{tmp_path}/a/work")
    clean(str(tmp_path / "a"), work=True, yes=True)
    open_run.cache_clear()
    open_run(str(tmp_path / "b"))
    clean(str(tmp_path / "b"), yes=True)
    open_run.cache_clear()
    open_run(str(tmp_path / "b"))


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_that_keeps_no_work_leaves_that_of_others(corpus, tmp_path, shared):
    work = tmp_path / "work" if shared else tmp_path / "a" / "work"
    changes: dict[str, Any] = {"work": str(work)} if shared else {}
    if shared:
        go(corpus, tmp_path / "b", OTHER_TAIL, work=str(work))
    before = files(work) if shared else {}
    go(corpus, tmp_path / "a", TAIL, keep_work="none", **changes)
    after = files(work) if work.exists() else {}
    packs = {path: count for path, count in after.items() if path == "packs.json"}
    assert {**after, **packs} == {**before, **packs}
    check_accounting(tmp_path / "a")


def test_a_moved_output_keeps_its_work(corpus, tmp_path):
    go(corpus, tmp_path / "a", FIRST)
    go(corpus, tmp_path / "a", SECOND, replace=True)
    shutil.move(tmp_path / "a", tmp_path / "b")
    shutil.copytree(tmp_path / "b", tmp_path / "a")
    clean(str(tmp_path / "b"), yes=True)
    open_run.cache_clear()
    open_run(str(tmp_path / "b"))
    assert len(steps(tmp_path / "b" / "work")) == 2
    assert len(steps(tmp_path / "a" / "work")) == 4


def test_a_begun_run_keeps_what_it_committed_and_loses_what_was_killed(corpus, tmp_path):
    go(corpus, tmp_path / "whole", FIRST)
    out = tmp_path / "out"
    path = write_recipe(tmp_path / "out.yaml", corpus, out, stages=FIRST, unit_size="20kB")
    run(load_recipe(path), until="rules")
    (step,) = steps(out / "work")
    committed = files(out / "work")
    planted = [
        f"work/{step}/.u1.parquet.0123.tmp",
        f"work/{step}/0123.ffff.parquet",
        f"work/{step}/attempts/run/u.0",
        "data/.part-000000-000.parquet.0123.tmp",
    ]
    for name in planted:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"half")
    told = clean(str(out))
    assert "left by work that was killed" in told
    assert all((out / name).exists() for name in planted)
    clean(str(out), yes=True)
    assert not any((out / name).exists() for name in planted)
    assert files(out / "work") == committed
    run(load_recipe(path))
    assert file_hashes(out) == file_hashes(tmp_path / "whole")


def test_a_begun_replacement_counts_as_in_use(corpus, tmp_path):
    out = tmp_path / "out"
    go(corpus, out, FIRST)
    path = write_recipe(tmp_path / "out.yaml", corpus, out, stages=SECOND, unit_size="20kB")
    run(load_recipe(path), replace=True, until="rules")
    before = steps(out / "work")
    assert len(before) == 3
    clean(str(out), yes=True)
    assert steps(out / "work") == before


def test_what_no_run_claims_is_told_apart_and_stays_unless_asked_for(corpus, tmp_path):
    out = tmp_path / "out"
    go(corpus, out, FIRST)
    orphan = out / "work" / "measure-0123456789abcdef"
    orphan.mkdir()
    (orphan / "receipts.jsonl").write_text("")
    assert orphan.name in clean(str(out), yes=True)
    assert orphan.exists()
    clean(str(out), yes=True, orphans=True)
    assert not orphan.exists()
    open_run.cache_clear()
    open_run(str(out))


@pytest.mark.parametrize("yes", [False, True])
def test_a_live_driver_is_left_alone(corpus, tmp_path, yes):
    out = tmp_path / "out"
    go(corpus, out, FIRST)
    before = files(out / "work")
    with Lock(Storage(str(out)), "somebody"), pytest.raises(SetupError, match="pid"):
        clean(str(out), work=True, yes=yes)
    assert files(out / "work") == before


def test_a_dead_driver_is_no_obstacle(corpus, tmp_path):
    out = tmp_path / "out"
    go(corpus, out, FIRST)
    import socket

    record = {"run": "dead", "host": socket.gethostname(), "pid": 2**22 + 1, "started": "1", "beat": 0}
    (out / "lock.json").write_text(json.dumps(record))
    clean(str(out), work=True, yes=True)
    assert not (out / "work").exists()
    assert not (out / "lock.json").exists()


def test_all_work_of_a_finished_output_can_go_and_the_output_stays_whole(corpus, tmp_path):
    out = tmp_path / "out"
    go(corpus, out, FIRST)
    hashes = file_hashes(out)
    told = clean(str(out), work=True)
    assert "against" in told
    clean(str(out), work=True, yes=True)
    assert not (out / "work").exists()
    assert file_hashes(out) == hashes
    assert "nothing to remove" in clean(str(out), work=True)


def test_a_place_without_an_output_is_told(tmp_path):
    with pytest.raises(SetupError, match="is the path right"):
        clean(str(tmp_path / "nowhere"))


def test_an_object_store_is_cleaned_the_same_way(corpus, tmp_path, s3):
    out = f"{s3}/out"
    for stages in (FIRST, SECOND):
        go(corpus, out if stages is FIRST else f"{s3}/second", stages, work=f"{s3}/work")
    clean(f"{s3}/second", yes=True)
    clean(out, work=True, yes=True)
    left = {path.split("/")[0] for path in storage_at(f"{s3}/work").list("")}
    assert sum(name.startswith("read-") for name in left) == 1
    open_run.cache_clear()
    open_run(f"{s3}/second")


def test_only_caches_of_other_versions_go(tmp_path, monkeypatch):
    from tamis import kernels

    cache = tmp_path / "tamis"
    current, old, older = (cache / name for name in (f"numba-{kernels._sources()}", "numba-00112233", "numba"))
    for folder in (current, old, older, cache / "models"):
        folder.mkdir(parents=True)
        (folder / "x.nbc").write_bytes(b"12345")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(current))
    assert {r.path: r.bytes for r in module.old_caches()} == {"numba": 5, "numba-00112233": 5}
    assert "10 B can go" in clean_caches()
    assert old.exists()
    clean_caches(yes=True)
    assert sorted(p.name for p in cache.iterdir()) == ["models", current.name]


def test_the_command_needs_an_output_or_cache_and_not_both():
    for arguments in ([], ["out", "--cache"], ["--cache", "--work"]):
        assert CliRunner().invoke(command, arguments).exit_code == 2
