from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline import show_plan
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import Recipe, load_recipe
from tamis.pipeline.show_plan import plan_text as text_of
from tamis.pipeline.show_plan import planned, resolved_text
from tamis.stages.base import Stage, StageConfig
from tamis.stages.errors import RecipeError

from .small_run import PROSE, STAGES, small_recipe, small_run, write_documents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_documents(tmp_path / "in")
    return tmp_path


def test_the_resolved_recipe_loads_and_gives_the_same_plan(folder: Path) -> None:
    recipe = small_recipe(folder, seed=7, write={"shard_size": "20MB", "columns": ["url", "lang AS language"]})
    text = resolved_text(recipe)
    (folder / "resolved.yaml").write_text(text)
    again = load_recipe(folder / "resolved.yaml")
    assert plan_recipe(again).key == plan_recipe(recipe).key
    assert resolved_text(again) == text


def test_the_resolved_recipe_shows_defaults_and_changed_values(folder: Path) -> None:
    text = resolved_text(small_recipe(folder, unit_size="1MB"))
    assert "unit_size: 1000000" in text
    assert "max_doc: 64000000" in text
    assert "  min_words: 3" in text
    assert re.search(r"^    min: 40$", text, re.MULTILINE)


def test_a_key_that_other_settings_forbid_is_left_out_of_the_resolved_recipe(folder: Path) -> None:
    stages = [{"use": "exact_dedup", "key": "lower(lang)"}]
    text = resolved_text(small_recipe(folder, stages=stages))
    assert "normalize:" not in text
    (folder / "resolved.yaml").write_text(text)
    assert load_recipe(folder / "resolved.yaml").stages[0].config == {"key": "lower(lang)"}


class Tagger(Stage):
    """Measures nothing; its config has a default that a recipe may empty."""

    class Config(StageConfig):
        tags: tuple[str, ...] = ("a",)
        more: tuple[str, ...] = ()

    def measure(self, batch: pa.Table) -> pa.Table:
        return pa.table({"row": pa.nulls(len(batch))})


def plan_text(recipe: Recipe) -> str:
    return text_of(planned(recipe))


def test_a_value_that_a_recipe_empties_stays_empty(folder: Path) -> None:
    stages = [{"use": f"{__name__}:Tagger", "tags": []}]
    text = resolved_text(small_recipe(folder, stages=stages))
    assert "tags: []" in text


def test_the_plan_names_stages_columns_rules_steps_and_passes(folder: Path) -> None:
    recipe = small_recipe(folder, differs=["no language model"])
    text, plan = plan_text(recipe), plan_recipe(recipe)
    for stage in STAGES:
        assert re.search(rf"^  {stage.get('name') or stage['use']} ", text, re.MULTILINE)
    for step in plan.steps:
        assert step.folder in text
    for name in ("c4_lines_removed", "exact_kept_doc_id", "size.english", "where url IS NOT NULL", "no language model"):
        assert name in text
    assert f"the text is read {plan.text_passes} times: step 1, writing" in text
    assert "12 rows" in text


def test_a_renamed_input_column_is_noted(folder: Path) -> None:
    table = pa.table({"id": ["x"], "text": [PROSE], "lang": ["en"], "decision": ["mine"], "exact_kept_file": ["mine"]})
    pq.write_table(table, folder / "in" / "c.parquet")
    text = plan_text(small_recipe(folder))
    for name in ("decision", "exact_kept_file"):
        assert text.count(f"the input column {name} is kept as input_{name}") == 1


def test_the_plan_tells_what_is_done(folder: Path) -> None:
    recipe = small_recipe(folder, unit_size="600B")
    units = len(plan_recipe(recipe).units)
    assert units > 2
    assert plan_text(recipe).count(f"0 of {units} units done") == 2
    assert ": new" in plan_text(recipe)
    output = Path(small_run(folder, unit_size="600B").output)
    assert "finished; there is nothing to do" in plan_text(recipe)
    assert plan_text(recipe).count(f" {units} of {units} units done") == 2
    assert "of something else" in plan_text(small_recipe(folder, unit_size="600B", seed=3, name="other"))

    (output / "manifest.json").unlink()
    step = next((output / "work").glob("read-*"))
    (step / "receipts.jsonl").write_text("".join((step / "receipts.jsonl").read_text().splitlines(True)[:2]))
    text = plan_text(recipe)
    assert "not finished" in text
    assert f"2 of {units} units done" in text


def test_planning_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    plan_text(small_recipe(folder))
    resolved_text(small_recipe(folder))
    assert sorted(folder.rglob("*")) == before


def test_counts_beyond_the_footers_read_are_marked_as_estimates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for copy in range(8):
        shutil.copy(folder / "in" / "a.parquet", folder / "in" / f"c{copy}.parquet")
    exact = plan_text(small_recipe(folder))
    rows = 9 * 7 + 5
    assert f"        {rows} rows" in exact
    assert "about" not in exact
    monkeypatch.setattr(show_plan, "MAX_FOOTERS", 4)
    estimated = plan_text(small_recipe(folder))
    guess = re.search(r"estimates from 4 footers: about (\d+) rows", estimated)
    assert guess is not None
    assert abs(int(guess[1]) - rows) <= rows // 4
    assert "of about" in estimated


def test_a_broken_file_is_noted(folder: Path) -> None:
    (folder / "in" / "z.parquet").write_bytes(b"not parquet")
    (folder / "in" / "y.parquet").write_bytes(b"")
    text = plan_text(small_recipe(folder))
    assert re.search(r"^        z\.parquet: \S", text, re.MULTILINE)
    assert "y.parquet: 0 bytes" in text


def test_a_recipe_that_cannot_work_is_refused(folder: Path) -> None:
    for text in (plan_text, resolved_text):
        with pytest.raises(RecipeError, match="no column lagn"):
            text(small_recipe(folder, stages=[{"use": "rules", "rules": {"en": "lagn = 'en'"}}]))


def test_planning_imports_no_heavy_library(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(resolved_text(small_recipe(folder)))
    code = (
        "import sys; from tamis.pipeline.recipe import load_recipe; from tamis.pipeline.show_plan import plan_text, planned; "
        "plan_text(planned(load_recipe(sys.argv[1]))); print([m for m in ('ray', 'numba', 'torch', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "recipe.yaml")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
