"""`keep_work: signatures`: the rest of the work goes, and a later run's `against` finds what it would have found in all of it."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.clean import clean
from tamis.pipeline.driver import run
from tamis.pipeline.earlier import open_run
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.status import status
from tamis.stages.errors import RecipeError
from tamis.stages.exact_dedup import ExactDedup
from tamis.stages.normalize import Normalize

from ..crashes import Crash, Crasher
from ..runs import check_accounting, file_hashes, rows, write_corpus, write_recipe

DEDUP: dict[str, Any] = {"use": "exact_dedup", "prefer": ["longest"]}
STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    {"use": "rules", "rules": {"long": "chars > $min"}, "params": {"min": 150}},
    {"use": "url_tags"},
    DEDUP,
    {"use": "rules", "name": "late", "rules": {"more": "chars > 400"}},
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "first", shards=2, documents=60, group_rows=20)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A corpus that repeats a third of the first."""
    folder = write_corpus(tmp_path / "second", shards=1, documents=60, seed=2)
    old = pq.read_table(tmp_path / "first" / "part-1.parquet", columns=["text"])["text"].to_pylist()
    table = pq.read_table(folder / "part-0.parquet")
    texts = [old[i] if i % 3 else text for i, text in enumerate(table["text"].to_pylist())]
    pq.write_table(table.set_column(1, "text", pa.array(texts)), folder / "part-0.parquet", row_group_size=20)
    return folder


def recipe(corpus: Path, output: Path, keep: str = "all", **changes: Any) -> Path:
    changes = {"stages": STAGES, "unit_size": "20kB", "keep_work": keep, **changes}
    return write_recipe(corpus.parent / f"{output.name}.yaml", corpus, output, **changes)


def go(corpus: Path, output: Path, keep: str = "all", **changes: Any) -> Path:
    open_run.cache_clear()
    run(load_recipe(recipe(corpus, output, keep, **changes)))
    return output


def against(earlier: Path, **keys: Any) -> list[dict[str, Any]]:
    return [*STAGES[:3], {**DEDUP, "against": [str(earlier)], **keys}]


def tops(work: Path) -> dict[str, int]:
    """What stands in a work folder, by what the engine calls it, and how many of each."""
    found: dict[str, int] = {}
    for path in work.iterdir() if work.is_dir() else ():
        count = len(list(path.iterdir())) if path.name == "claims" else 1
        name = path.name.rpartition("-")[0] or path.name
        found[name] = found.get(name, 0) + count
    return found


AFTER = {"signatures": 1, "listing": 1, "recipe": 1, "claims": 1, "packs.json": 1}


@pytest.mark.parametrize("scope", [None, "source", "domain"])
def test_against_gives_the_same_from_signatures_as_from_all_work(corpus, second, tmp_path, scope):
    keys = {"scope": scope} if scope else {}
    found = {}
    for keep in ("all", "signatures"):
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        go(corpus, tmp_path / "a", keep)
        out = go(second, tmp_path / f"b-{keep}", stages=against(tmp_path / "a", **keys))
        check_accounting(out)
        found[keep] = file_hashes(out)
        facts = json.loads((out / "manifest.json").read_text())["facts"]["exact_dedup"]
        assert facts["duplicates_of_earlier"] > 0
    assert found["all"] == found["signatures"]


def test_only_the_signatures_and_what_tells_of_the_run_stay(corpus, tmp_path):
    go(corpus, tmp_path / "all")
    out = go(corpus, tmp_path / "a", "signatures")
    assert file_hashes(out) == file_hashes(tmp_path / "all")
    assert tops(out / "work") == AFTER
    assert status(str(out)).state == "finished"
    assert clean(str(out)).startswith(f"{out}: nothing to remove")


def test_signatures_hold_the_kept_documents_with_all_plain_columns_and_the_keys(corpus, tmp_path):
    out = go(corpus, tmp_path / "a", "signatures")
    (folder,) = (out / "work").glob("signatures-*")
    receipts = {r["item"]: r for r in map(json.loads, (folder / "receipts.jsonl").read_text().splitlines())}
    stored = pa.concat_tables([pq.read_table(folder / receipts[unit]["file"]) for unit in receipts["about"]["units"]])
    ledger = rows(out, "ledger")
    kept = ledger.filter(pa.array([decision == "keep" for decision in ledger["decision"].to_pylist()]))
    assert 20 < len(kept) < len(ledger)
    shared = [name for name in kept.column_names if name in stored.column_names]
    assert {"doc_id", "source_file", "source_row", "url", "date", "source", "domain"} <= set(shared)
    for name in shared:
        assert stored[name].to_pylist() == kept[name].to_pylist(), name
    assert stored["chars"].to_pylist() == kept["chars_written"].to_pylist()
    texts = rows(out, "data")["text"].combine_chunks()
    stage = ExactDedup(ExactDedup.Config(), name="exact_dedup")
    keys = stage.measure(pa.table({"text": texts}))
    assert stored.select(keys.column_names).to_pydict() == keys.to_pydict()


def test_signatures_serve_when_the_input_is_gone_and_other_stages_have_changed(corpus, second, tmp_path, monkeypatch):
    go(corpus, tmp_path / "a", "signatures")
    shutil.rmtree(corpus)
    monkeypatch.setattr(Normalize, "version", 99)
    out = go(second, tmp_path / "b", stages=against(tmp_path / "a"))
    assert json.loads((out / "manifest.json").read_text())["facts"]["exact_dedup"]["duplicates_of_earlier"] > 0


@pytest.mark.parametrize("keep", ["all", "signatures"])
@pytest.mark.parametrize("what", ["settings", "version", "scope"])
def test_values_of_another_meaning_are_refused_before_anything_runs(corpus, second, tmp_path, monkeypatch, keep, what):
    go(corpus, tmp_path / "a", keep)
    stages = against(tmp_path / "a")
    said = "holds no exact_dedup with the same key settings; its exact_dedup measured with other settings"
    if what == "settings":
        stages[-1]["normalize"] = False
    elif what == "scope":
        stages[-1]["scope"] = "url_host"
        stages[2] = {"use": "url_tags", "name": "url"}
        said = "did not store url_host, the scope"
    else:
        monkeypatch.setattr(ExactDedup, "version", 99)
        said = said if keep == "signatures" else "another version"
    with pytest.raises(RecipeError, match=said):
        go(second, tmp_path / "b", stages=stages)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("keep", "said"), [("none", "its recipe says keep_work: none"), ("all", "removed, or never")])
def test_where_the_work_is_gone_that_is_said_before_anything_runs(corpus, second, tmp_path, keep, said):
    go(corpus, tmp_path / "a", keep)
    clean(str(tmp_path / "a"), work=True, yes=True)
    with pytest.raises(
        RecipeError, match=rf"its work folder is gone \({said}.*run it again with keep_work: signatures"
    ):
        go(second, tmp_path / "b", stages=against(tmp_path / "a"))
    assert not (tmp_path / "b").exists()


def test_clean_removes_signatures_only_when_all_work_is_to_go(corpus, tmp_path):
    out = go(corpus, tmp_path / "a", "signatures")
    clean(str(out), yes=True)
    assert tops(out / "work") == AFTER
    assert "against" in clean(str(out), work=True)
    clean(str(out), work=True, yes=True)
    assert not (out / "work").exists()


def test_work_that_another_output_shares_stays_for_it(corpus, second, tmp_path):
    work = str(tmp_path / "work")
    go(corpus, tmp_path / "b", work=work, stages=[*STAGES[:4]])
    before = tops(tmp_path / "work")
    go(corpus, tmp_path / "a", "signatures", work=work)
    after = tops(tmp_path / "work")
    assert {name: after[name] for name in before} == {**before, "claims": 2, "listing": 2, "recipe": 2}
    assert set(after) - set(before) == {"signatures"}
    for earlier in ("a", "b"):
        go(second, tmp_path / f"after-{earlier}", stages=against(tmp_path / earlier))


def test_two_outputs_of_one_plan_share_their_signatures_and_the_last_one_removes_them(corpus, second, tmp_path):
    work = str(tmp_path / "work")
    for name in ("a", "b"):
        go(corpus, tmp_path / name, "signatures", work=work, name="same")
    assert tops(tmp_path / "work") == {**AFTER, "claims": 2}
    clean(str(tmp_path / "a"), work=True, yes=True)
    go(second, tmp_path / "after", stages=against(tmp_path / "b"))
    clean(str(tmp_path / "b"), work=True, yes=True)
    assert "signatures" not in tops(tmp_path / "work")


def test_a_replaced_result_leaves_neither_its_work_nor_its_signatures(corpus, tmp_path):
    out = go(corpus, tmp_path / "a", "signatures")
    (old,) = (out / "work").glob("signatures-*")
    open_run.cache_clear()
    run(load_recipe(recipe(corpus, out, "signatures", stages=STAGES[:4])), replace=True)
    assert tops(out / "work") == AFTER
    assert not old.exists()


def test_a_run_that_stops_half_way_keeps_all_its_work(corpus, tmp_path):
    path = recipe(corpus, tmp_path / "a", "signatures")
    run(load_recipe(path), until="exact_dedup")
    before = tops(tmp_path / "a" / "work")
    assert before["read"] == before["exact_dedup"] == 1
    clean(str(tmp_path / "a"), yes=True)
    assert tops(tmp_path / "a" / "work") == before
    assert {step.name for step in status(str(tmp_path / "a")).steps} == {"read", "exact_dedup", "measure", "signatures"}


def test_the_status_of_a_run_is_not_that_of_another_that_left_its_signatures_in_the_same_work(corpus, tmp_path):
    work = str(tmp_path / "work")
    go(corpus, tmp_path / "a", "signatures", work=work, name="same")
    run(load_recipe(recipe(corpus, tmp_path / "b", "all", work=work, name="same")), until="exact_dedup")
    assert [step.name for step in status(str(tmp_path / "b")).steps] == ["read", "exact_dedup", "measure"]


@pytest.mark.slow
def test_other_executors_write_the_same_signatures(corpus, second, tmp_path):
    open_run.cache_clear()
    run(load_recipe(recipe(corpus, tmp_path / "a", "signatures")), executor="ray", workers=2)
    out = go(second, tmp_path / "b", stages=against(tmp_path / "a"))
    open_run.cache_clear()
    run(load_recipe(recipe(second, tmp_path / "c", stages=against(tmp_path / "a"))), executor="ray", workers=2)
    assert file_hashes(out) == file_hashes(tmp_path / "c")


@pytest.mark.parametrize(
    ("keep", "after"),
    [
        pytest.param("signatures", False, marks=pytest.mark.slow),
        pytest.param("signatures", True, marks=pytest.mark.slow),
        pytest.param("none", True, marks=pytest.mark.slow),
    ],
)
def test_a_stop_at_any_commit_is_finished_by_the_next_command(tmp_path, keep, after):
    corpus = write_corpus(tmp_path / "in", shards=1, documents=30, group_rows=15)
    second = write_corpus(tmp_path / "more", shards=1, documents=30)
    expected = file_hashes(go(corpus, tmp_path / "whole", keep))
    left = tops(tmp_path / "whole" / "work")
    hit = set()
    for at in range(1, 1000):
        out = tmp_path / f"out{at}"
        loaded = load_recipe(recipe(corpus, out, keep))
        with pytest.MonkeyPatch.context() as patch:
            crasher = Crasher(patch, at, after)
            with contextlib.suppress(Crash):
                run(loaded)
        if crasher.count < at:
            break
        finished = (out / "manifest.json").exists()
        hit.add((finished, crasher.where.partition("/")[0].partition("-")[0]))
        if finished and keep == "signatures":  # whatever is gone by now, `against` works
            go(second, tmp_path / f"later{at}", stages=against(out))
        if finished and at % 2:
            clean(str(out), yes=True)
        else:
            assert run(loaded).fresh is not finished
        assert file_hashes(out) == expected, f"stopped at {crasher.where}"
        assert tops(out / "work") == left, f"stopped at {crasher.where}"
    if keep == "signatures":
        assert {(False, "signatures"), (True, "claims"), (True, "read")} <= hit
    else:
        assert (True, "") in hit
