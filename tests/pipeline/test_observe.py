"""An observing run drops nothing and decides as a normal run does, document by document, resolve stages included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT.parent / "shared" / "data" / "web"
# A recipe whose model the user trains or brings cannot run here; what its stages do has tests of its own.
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml") if "model:" not in path.read_text("utf-8"))

# Every kind of fate after every kind of stage: rules that quarantine, tags, `where`, a resolve stage between.
STAGES: list[dict[str, Any]] = [
    *runs.STAGES[:4],
    {"use": "url_tags", "name": "again", "where": "chars > 900"},
    {"use": "rules", "name": "site", "rules": {"odd": "again_path_depth < $most"}, "params": {"most": 2}},
    {"use": "exact_dedup", "name": "tagged", "action": "tag", "where": "source <> 'source-1'"},
    *runs.STAGES[4:],
    {"use": "rules", "name": "last", "rules": {"long": "chars >= 400", "first": "tagged_pass OR words > 200"}},
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Outputs of the same recipe over the same corpus: normal, observing."""
    folder = tmp_path_factory.mktemp("observe")
    corpus = runs.write_corpus(folder / "corpus")
    recipe = runs.write_recipe(folder / "recipe.yaml", corpus, folder / "normal", stages=STAGES, max_bad="100%")
    run(load_recipe(recipe))
    run(load_recipe(recipe, output=str(folder / "observing"), settings=["observe=true"]))
    return folder / "normal", folder / "observing"


def differing(normal: Path, observing: Path) -> int:
    """Documents whose fate differs, those that only one of the ledgers has among them."""
    found = runs.query(
        f"""SELECT count(*) FROM '{normal}/ledger/*.parquet' a FULL JOIN '{observing}/ledger/*.parquet' b
        USING (source_file, source_row) WHERE a.decision IS DISTINCT FROM b.decision OR a.stage IS DISTINCT FROM b.stage
        OR a.rule IS DISTINCT FROM b.rule OR a.reason IS DISTINCT FROM b.reason"""
    )
    return found[0][0]


def test_every_document_meets_the_fate_of_a_normal_run(pair: tuple[Path, Path]) -> None:
    assert differing(*pair) == 0
    decisions = dict(runs.query(f"SELECT decision, count(*) FROM '{pair[1]}/ledger/*.parquet' GROUP BY 1"))
    assert min(decisions[name] for name in ("keep", "drop", "quarantine")) > 10


def test_the_funnel_is_that_of_a_normal_run(pair: tuple[Path, Path]) -> None:
    normal, observing = (json.loads((output / "manifest.json").read_text()) for output in pair)
    for stage in [*normal["stages"], *observing["stages"]]:
        del stage["seconds"]
    assert observing["stages"] == normal["stages"]
    assert observing["facts"] == normal["facts"]
    assert observing["counts"] == normal["counts"]
    assert (observing["recipe"]["observe"], normal["recipe"]["observe"]) == (True, False)


def test_it_writes_no_data_and_verifies(pair: tuple[Path, Path]) -> None:
    assert not (pair[1] / "data").exists()
    assert "OK" in runs.tamis("verify", pair[1])
    assert runs.query(f"SELECT count(out_file), count(out_row) FROM '{pair[1]}/ledger/*.parquet'") == [(0, 0)]


def test_every_readable_document_is_measured(pair: tuple[Path, Path]) -> None:
    [found] = runs.query(
        f"""SELECT count(*), count(words), count(post_words), count(*) FILTER (decision <> 'keep')
        FROM '{pair[1]}/ledger/*.parquet'"""
    )
    assert found[0] == found[1] == found[2]
    assert found[3] > 100


def test_failed_rules_of_later_stages_follow_those_that_a_normal_run_knows(pair: tuple[Path, Path]) -> None:
    normal, observing = pair
    rows = runs.query(
        f"""SELECT a.failed, b.failed, a.decision FROM '{normal}/ledger/*.parquet' a
        JOIN '{observing}/ledger/*.parquet' b USING (source_file, source_row)"""
    )
    dropped = [(known or [], more or []) for known, more, decision in rows if decision == "drop"]
    assert all(more[: len(known)] == known for known, more in dropped)
    assert all(not more for _, more, decision in rows if decision == "keep")
    assert any(len({name.split(".")[0] for name in more}) > 1 for _, more in dropped)


def test_a_rule_alone_to_blame_is_one_without_which_the_document_is_kept(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """`failed` with one entry means "dropped only by": the run without that rule keeps those documents."""
    corpus = pair[0].parent / "corpus"
    query = "SELECT source_file, source_row FROM '{}/ledger/*.parquet' WHERE {}"
    only = "len(failed) = 1 AND failed[1] = 'gopher_quality.words' AND decision = 'drop'"
    stages = [stage for stage in runs.STAGES if stage["use"] not in ("exact_dedup", "sample")]
    stages[3] = {**stages[3], "set": {"gopher_quality.words_min": 90}}
    recipe = runs.write_recipe(tmp_path / "r.yaml", corpus, tmp_path / "seen", stages=stages)
    run(load_recipe(recipe, settings=["observe=true"]))
    run(load_recipe(recipe, output=str(tmp_path / "normal")))
    run(load_recipe(recipe, output=str(tmp_path / "without"), settings=["rules.off=[gopher_quality.words]"]))
    blamed = set(runs.query(query.format(tmp_path / "seen", only)))
    normal, without = (
        set(runs.query(query.format(tmp_path / name, "decision = 'keep'"))) for name in ("normal", "without")
    )
    assert len(blamed) > 5
    assert without - normal == blamed


@pytest.mark.ray
def test_ray_observes_the_same(pair: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = pair[0].parent / "recipe.yaml"
    settings = ["observe=true", "unit_size=60kB"]
    run(load_recipe(recipe, output=str(tmp_path / "out"), settings=settings), executor="ray", workers=2)
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(pair[1])


def test_what_could_not_be_read_is_quarantined_and_seen_by_nobody(tmp_path: Path) -> None:
    page = b"A page of words. " * 30
    texts = [page, None, b"\xff\xfe", b"Another " + page, page]
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"text": pa.array(texts, pa.binary())}), tmp_path / "corpus" / "a.parquet")
    stages = [{"use": "text_signals"}, {"use": "exact_dedup"}, {"use": "text_signals", "name": "later"}]
    changes: dict[str, Any] = {"stages": stages, "max_bad": "100%"}
    recipe = runs.write_recipe(tmp_path / "r.yaml", tmp_path / "corpus", tmp_path / "normal", **changes)
    run(load_recipe(recipe))
    run(load_recipe(recipe, output=str(tmp_path / "observing"), settings=["observe=true"]))
    assert differing(tmp_path / "normal", tmp_path / "observing") == 0
    assert runs.rows(tmp_path / "observing", "ledger")["later_words"].null_count == 2


@pytest.mark.slow
@pytest.mark.skipif(not WEB.is_dir(), reason="needs ../shared/data/web")
@pytest.mark.parametrize("name", RECIPES)
def test_observing_decides_alike_on_real_text(name: str, tmp_path: Path) -> None:
    recipe = ROOT / "configs" / f"{name}.yaml"
    for output, observe in (("normal", "false"), ("observing", "true")):
        settings = [f"observe={observe}", "report.pages=false"]
        run(load_recipe(recipe, input=[f"{WEB}/*.parquet"], output=str(tmp_path / output), settings=settings))
    assert differing(tmp_path / "normal", tmp_path / "observing") == 0
