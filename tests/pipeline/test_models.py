"""Models on their way to workers, measures that are made together, and steps that run in actors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import model_stages
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.models import FILES, place_models, publish_models
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import Recipe, load_recipe
from tamis.pipeline.storage import storage_at
from tamis.scorers.base import ModelError
from tamis.scorers.model_files import built, fingerprint
from tamis.stages.errors import RecipeError, SetupError

USE = "model_stages:Measured"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    model_stages.Measured.calls.clear()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "small.bin").write_bytes(b"abc")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.json").write_bytes(b"{}")
    (folder / "inner" / "b.bin").write_bytes(b"12345")
    runs.write_corpus(tmp_path / "in", shards=1, documents=30)
    return tmp_path


def recipe(base: Path, stages: list, output: str = "out") -> Recipe:
    path = runs.write_recipe(base / f"{output}.yaml", base / "in", base / output, stages=stages)
    return load_recipe(path)


def stage(name: str, model: object, **more: object) -> dict[str, object]:
    return {"use": USE, "name": name, "model": str(model), **more}


def values(output: Path, name: str) -> set[int]:
    return set(runs.rows(output, "ledger")[name].to_pylist())


def test_neighbours_that_join_are_one_call_and_each_gets_its_own(base):
    run(recipe(base, [stage("one", base / "small.bin"), stage("two", base / "folder")]))
    assert set(map(tuple, model_stages.Measured.calls)) == {("one", "two")}
    assert values(base / "out", "one") == {3}
    assert values(base / "out", "two") == {7}


@pytest.mark.parametrize(
    "second",
    [
        {"where": "doc_id > 'd'"},  # other rows
        {"reads": "one"},
    ],
)
def test_what_sees_other_rows_or_reads_the_first_is_a_call_of_its_own(base, second):
    run(recipe(base, [stage("one", base / "small.bin"), stage("two", base / "small.bin", **second)]))
    assert set(map(tuple, model_stages.Measured.calls)) == {("one",), ("two",)}


def test_a_joined_run_gives_the_bytes_of_measures_that_stand_apart(base):
    together = [stage("one", base / "small.bin"), stage("two", base / "folder")]
    run(recipe(base, together))
    apart = [together[0], {"use": "rules", "rules": {"all": "true"}}, together[1]]
    run(recipe(base, apart, "apart"))
    for name in ("one", "two"):
        assert runs.rows(base / "out", "ledger")[name] == runs.rows(base / "apart", "ledger")[name]


def test_the_content_of_a_model_is_in_the_key_and_its_place_is_not(base):
    plan = plan_recipe(recipe(base, [stage("one", base / "small.bin")]))
    shutil.copy(base / "small.bin", base / "copy.bin")
    assert plan_recipe(recipe(base, [stage("one", base / "copy.bin")])).steps[0].key == plan.steps[0].key
    (base / "copy.bin").write_bytes(b"abd")
    assert plan_recipe(recipe(base, [stage("one", base / "copy.bin")])).steps[0].key != plan.steps[0].key


def test_the_manifest_names_the_models_it_used(base):
    found = run(recipe(base, [stage("one", base / "small.bin")])).manifest["models"]
    assert found == {"one": {str(base / "small.bin"): fingerprint(base / "small.bin")}}


def test_a_missing_model_is_named_with_its_line_before_anything_runs(base):
    with pytest.raises(RecipeError, match=r"out.yaml:\d+ .*nowhere.bin: No such file"):
        plan_recipe(recipe(base, [stage("one", base / "nowhere.bin")]))


def test_a_model_that_changes_during_the_run_is_an_error(base):
    plan = plan_recipe(recipe(base, [stage("one", base / "small.bin")]))
    (base / "small.bin").write_bytes(b"other")
    with pytest.raises(SetupError, match="has changed since the plan was made"):
        place_models(plan, storage_at(str(base / "work")), plan.steps[0])


@pytest.mark.parametrize("name", ["small.bin", "folder"])
def test_a_worker_elsewhere_takes_the_model_from_the_work_folder(base, name, monkeypatch):
    plan, work = plan_recipe(recipe(base, [stage("one", base / name)])), storage_at(str(base / "work"))
    publish_models(plan, work)
    publish_models(plan, work)  # once is enough
    os.rename(base / name, base / "gone")
    monkeypatch.setenv("TAMIS_CACHE", str(base / "other machine"))
    place_models(plan, work, plan.steps[0])
    local = plan.graph.stages[0].stage.local(str(base / name))
    assert local.startswith(str(base / "other machine"))
    assert fingerprint(local) == fingerprint(base / "gone")


def test_a_model_that_is_half_published_is_not_taken(base):
    plan, work = plan_recipe(recipe(base, [stage("one", base / "small.bin")])), storage_at(str(base / "work"))
    publish_models(plan, work)
    (marker,) = [path for path in work.list() if path.endswith(FILES)]
    work.remove(marker)
    os.rename(base / "small.bin", base / "gone")
    with pytest.raises(SetupError, match="is not on this machine"):
        place_models(plan, work, plan.steps[0])


def test_models_on_an_object_store_are_read_as_local_ones(base, s3):
    bucket = storage_at(s3)
    bucket.write("models/small.bin", b"abc")
    bucket.write("models/folder/a.json", b"{}")
    bucket.write("models/folder/inner/b.bin", b"12345")
    run(recipe(base, [stage("one", f"{s3}/models/small.bin"), stage("two", f"{s3}/models/folder/")]))
    assert values(base / "out", "one") == {3}
    assert values(base / "out", "two") == {7}
    with pytest.raises(RecipeError, match="there is no such file"):
        plan_recipe(recipe(base, [stage("one", f"{s3}/models/none.bin")], "none"))
    bucket.write("models/small.bin", b"abcdef")
    run(recipe(base, [stage("one", f"{s3}/models/small.bin")], "again"))
    assert values(base / "again", "one") == {6}


def test_a_fingerprint_is_content_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"x" * 100)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "a").write_bytes(b"y" * 100)
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")
    with pytest.raises(ModelError, match="No such file"):
        fingerprint(tmp_path / "c")


def test_what_fails_while_it_is_built_leaves_nothing(tmp_path):
    def broken(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        built("x", broken)
    assert (built("x", lambda folder: (folder / "whole").touch()) / "whole").exists()
    assert [p.name for p in built("x", broken).iterdir()] == ["whole"]


@pytest.mark.ray
def test_a_step_that_wants_to_stay_runs_in_one_process_beside_the_others(base):
    runs.write_corpus(base / "in", shards=3, documents=60)
    names = {"passing": "Here", "staying": "Held", "other": "Here"}
    stages = [{"use": f"model_stages:{use}", "name": name} for name, use in names.items()]
    made = recipe(base, stages)
    assert len(plan_recipe(made).steps) == 3
    run(made, executor="ray", workers=2)
    found = {name: values(base / "out", name) for name in names}
    assert len(found["staying"]) == 1
    assert not found["staying"] & (found["passing"] | found["other"])
    runs.check_accounting(base / "out")
