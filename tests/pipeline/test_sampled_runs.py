"""`--sample`: rows by their draw, nested, counted in full; nothing about a chosen document differs from a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runs
import xxhash

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

PER_DOCUMENT = [stage for stage in runs.STAGES if stage["use"] not in ("exact_dedup", "sample")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs `whole`, `half` and `tenth` of a recipe without resolve stages, so that fates do not depend on others."""
    folder = tmp_path_factory.mktemp("sampled")
    corpus = runs.write_corpus(folder / "corpus")
    recipe = runs.write_recipe(folder / "recipe.yaml", corpus, folder / "whole", stages=PER_DOCUMENT)
    run(load_recipe(recipe))
    for name, share in (("half", "50%"), ("tenth", "10%")):
        run(load_recipe(recipe, output=str(folder / name), settings=[f"sample={share}"]))
    return folder


def documents(output: Path) -> set[tuple[str, int]]:
    return set(runs.query(f"SELECT source_file, source_row FROM '{output}/ledger/*.parquet'"))


def test_samples_nest(folder: Path) -> None:
    whole, half, tenth = (documents(folder / name) for name in ("whole", "half", "tenth"))
    assert tenth < half < whole
    assert 500 < len(half) < 700
    assert 80 < len(tenth) < 160


def test_the_draw_is_the_documents_own(folder: Path) -> None:
    """u = xxh3_64(doc_id, seed = xxh3_64(run seed, NUL, 'run.sample')) / 2^64, computed here from the definition."""
    salt = xxhash.xxh3_64_intdigest(b"0\x00run.sample")
    ids = runs.query(f"SELECT doc_id, source_file, source_row FROM '{folder}/whole/ledger/*.parquet'")
    chosen = {(file, row) for key, file, row in ids if xxhash.xxh3_64_intdigest(key.encode(), salt) / 2**64 < 0.1}
    assert documents(folder / "tenth") == chosen


def test_rows_are_accounted_for(folder: Path) -> None:
    for name in ("half", "tenth"):
        counts = json.loads((folder / name / "manifest.json").read_text())["counts"]
        assert counts["rows"] == 1200
        assert counts["kept"] + counts["dropped"] + counts["quarantined"] == len(documents(folder / name))
        assert counts["outside_sample"] == 1200 - len(documents(folder / name))
        assert "outside the sample" in runs.tamis("verify", folder / name)


def test_a_chosen_document_is_treated_as_in_the_whole_run(folder: Path) -> None:
    whole, half = (f"'{folder}/{name}/ledger/*.parquet'" for name in ("whole", "half"))
    where = "EXCLUDE (out_file, out_row)"
    same = f"SELECT * {where} FROM {half} EXCEPT SELECT * {where} FROM {whole}"
    assert runs.query(same) == []
    texts = f"SELECT source_file, source_row, text FROM '{folder}/half/data/**/*.parquet'"
    assert runs.query(f"{texts} EXCEPT {texts.replace('/half/', '/whole/')}") == []


@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_units_and_executors_change_no_byte(folder: Path, tmp_path: Path, executor: str) -> None:
    settings = ["sample=50%", "unit_size=20kB"]
    run(load_recipe(folder / "recipe.yaml", output=str(tmp_path / "out"), settings=settings), executor=executor)  # type: ignore[arg-type]
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(folder / "half")


def test_resolve_stages_and_a_later_pass_see_the_sample_alone(tmp_path: Path) -> None:
    corpus = runs.write_corpus(tmp_path / "corpus")
    stages = [*runs.STAGES, {"use": "text_signals", "name": "last"}]
    recipe = runs.write_recipe(tmp_path / "r.yaml", corpus, tmp_path / "out", stages=stages)
    run(load_recipe(recipe, settings=["sample=30%"]))
    runs.check_accounting(tmp_path / "out")
    found = runs.query(
        f"SELECT count(*) FILTER (last_words IS NULL) FROM '{tmp_path}/out/ledger/*.parquet' WHERE decision = 'keep'"
    )
    assert found == [(0,)]


def test_units_take_an_even_part_of_the_input(folder: Path, tmp_path: Path) -> None:
    recipe = folder / "recipe.yaml"
    run(load_recipe(recipe, output=str(tmp_path / "some"), settings=["units=4"]))
    some = documents(tmp_path / "some")
    assert len({file for file, _ in some}) == 3
    assert 0 < len(some) < 1200
    runs.check_accounting(tmp_path / "some")
    assert "OK" in runs.tamis("verify", tmp_path / "some")
    whole = f"SELECT * EXCLUDE (out_file, out_row) FROM '{folder}/whole/ledger/*.parquet'"
    assert runs.query(f"{whole.replace(f'{folder}/whole', f'{tmp_path}/some')} EXCEPT {whole}") == []


def test_a_share_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "sample" in runs.tamis("run", folder / "recipe.yaml", "--sample", "lots", "--output", tmp_path, code=2)
