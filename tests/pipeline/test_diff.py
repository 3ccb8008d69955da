"""What `tamis diff` counts equals sets in Python, by place and by text; samples are documents that changed sides."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs

from tamis.pipeline.diff import SIDES, Difference, told
from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.stages.errors import RecipeError, SetupError

RULES: dict[str, Any] = {
    "use": "rules",
    "rules": {"long": "chars >= $least", "short": "chars <= $most"},
    "params": {"least": 300, "most": 900},
}


def made(base: Path, name: str, *, corpus: Path | None = None, **params: int) -> Path:
    stages = [{"use": "normalize"}, {**RULES, "params": RULES["params"] | params}]
    recipe = runs.write_recipe(base / f"{name}.yaml", corpus or base / "in", base / name, stages=stages, max_bad="100%")
    run(load_recipe(recipe))
    return base / name


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("diff")
    runs.write_corpus(base / "in", shards=2, documents=80)
    made(base, "old")
    made(base, "new", least=400, most=1100)
    return base


def fates(output: Path, key: tuple[str, ...]) -> dict[Any, tuple[str, str | None]]:
    """Decision and rule of every document; a text that occurs again gets its number."""
    seen: Counter[Any] = Counter()
    found = {}
    for row in runs.rows(output, "ledger").to_pylist():
        name = tuple(row[k] for k in key)
        found[(*name, seen[name])] = row["decision"], row["rule"]
        seen[name] += 1
    return found


def expected(old: dict[Any, Any], new: dict[Any, Any]) -> tuple[dict[str, int], dict[str, Counter[Any]]]:
    kept = [{k for k, (decision, _) in side.items() if decision == "keep"} for side in (old, new)]
    both = old.keys() & new.keys()
    counts = {
        "both": len(both),
        "old_alone": len(old.keys() - both),
        "new_alone": len(new.keys() - both),
        "kept": len(kept[0] & kept[1]),
        "entered": len(kept[1] - kept[0]),
        "left": len(kept[0] - kept[1]),
        "moved": sum(old[k] != new[k] for k in both - kept[0] - kept[1]),
    }
    rules = {
        "entered": Counter(old.get(k, (None, None))[1] for k in kept[1] - kept[0]),
        "left": Counter(new.get(k, (None, None))[1] for k in kept[0] - kept[1]),
    }
    return counts, rules


def check(difference: Difference, old: Path, new: Path) -> dict[str, int]:
    key = ("source_file", "source_row") if difference.by == "place" else ("source_hash",)
    counts, rules = expected(fates(old, key), fates(new, key))
    assert difference.counts() == counts
    for side in SIDES:
        assert Counter({r["rule"]: r["documents"] for r in difference.rules(side)}) == rules[side]
    return counts


def test_moved_thresholds_are_told_by_the_rules_that_decided(base):
    difference = Difference.open(str(base / "old"), str(base / "new"))
    assert difference.by == "place"
    counts = check(difference, base / "old", base / "new")
    assert min(counts["entered"], counts["left"], counts["moved"] + 1) > 0
    assert difference.values() == []


def test_a_resharded_input_is_compared_by_text(base, tmp_path):
    whole = pa.concat_tables(pq.read_table(path) for path in sorted((base / "in").glob("*.parquet")))
    order = list(range(len(whole)))[::-1]
    (tmp_path / "in").mkdir()
    pq.write_table(whole.take(order[5:]), tmp_path / "in" / "one.parquet")
    again = made(tmp_path, "again", least=400)
    difference = Difference.open(str(base / "old"), str(again))
    assert difference.by == "text"
    counts = check(difference, base / "old", again)
    assert counts["old_alone"] >= 5
    assert counts["new_alone"] == 0
    turned = check(Difference.open(str(again), str(base / "old")), again, base / "old")
    assert (turned["new_alone"], turned["entered"]) == (counts["old_alone"], counts["left"])
    lines = "\n".join(told(difference, 3, 80))
    assert "by original text; " in lines
    assert "(not in its input)" in lines


def test_an_output_does_not_differ_from_itself(base):
    difference = Difference.open(str(base / "old"), str(base / "old"))
    counts = check(difference, base / "old", base / "old")
    assert counts["entered"] == counts["left"] == counts["moved"] == 0
    assert len(list(told(difference, 3, 80))) == 4


def test_samples_show_both_fates_and_text_without_control_characters(base, tmp_path):
    (tmp_path / "in").mkdir()
    nasty = "\x1b[31mred \u202eright to left " * 20
    pq.write_table(pa.table({"id": ["nasty"], "text": [nasty]}), tmp_path / "in" / "a.parquet")
    old, new = made(tmp_path, "old"), made(tmp_path, "new", least=2000, most=5000)
    lines = list(told(Difference.open(str(old), str(new)), 2, 100))
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "--- nasty (a.parquet#0)" in text
    assert "  old     kept: written to data/part-000000.parquet, row 0" in lines
    assert any("dropped by rules.long: chars = " in line and "needs chars >= 2000" in line for line in lines)


@pytest.mark.parametrize("name", ["changes.parquet", "changes.csv"])
def test_every_change_is_written_to_a_file(base, tmp_path, name):
    difference = Difference.open(str(base / "old"), str(base / "new"))
    counts = difference.counts()
    assert difference.write(str(tmp_path / name)) == counts["entered"] + counts["left"]
    rows = runs.query(f"SELECT change, count(*) FROM '{tmp_path / name}' GROUP BY 1")
    assert dict(rows) == {side: counts[side] for side in SIDES}
    with pytest.raises(RecipeError, match=r"ends in \.parquet or \.csv"):
        difference.write(str(tmp_path / "x.txt"))


def test_values_that_a_change_moved_are_named(tmp_path):
    runs.write_corpus(tmp_path / "in", shards=1, documents=40)
    for name, edit in (("old", [{"use": "normalize"}]), ("new", [{"use": "c4_lines"}])):
        stages = [*edit, {"use": "text_signals"}, {"use": "rules", "rules": {"long": "words >= 20"}}]
        run(load_recipe(runs.write_recipe(tmp_path / f"{name}.yaml", tmp_path / "in", tmp_path / name, stages=stages)))
    (moved,) = Difference.open(str(tmp_path / "old"), str(tmp_path / "new")).values()
    one, other = (
        {r["doc_id"]: r["words"] for r in runs.rows(tmp_path / n, "ledger").to_pylist()} for n in ("old", "new")
    )
    assert moved == {"column": "words", "documents": sum(one[k] != other[k] for k in one)}


def test_the_command_prints_it_and_names_what_is_no_output(base, tmp_path):
    said = runs.tamis("diff", str(base / "old"), str(base / "new"), "-n", "1", "--to", str(tmp_path / "d.csv"))
    assert "entered: what the old run decided them by" in said
    assert "documents that entered or left" in said.splitlines()[-1]
    shutil.copytree(base / "old", tmp_path / "half", ignore=shutil.ignore_patterns("manifest.json"))
    with pytest.raises(SetupError, match="not finished"):
        Difference.open(str(base / "old"), str(tmp_path / "half"))
