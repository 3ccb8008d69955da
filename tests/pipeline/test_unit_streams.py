"""A unit is a stream: what is held at a time is a batch and a row group, and where those are cut changes no byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs

from tamis.pipeline import ledger, resolve, run_unit, source_rows
from tamis.pipeline.attributes import LAYOUT, Attributes
from tamis.pipeline.driver import run
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.receipts import Receipts
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.storage import storage_at

from . import broken_files as make
from . import troubled_input as troubled


@pytest.mark.parametrize("group_rows", [7, 64])
def test_row_groups_of_attributes_change_no_byte_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    folder = troubled.write_good(tmp_path / "in")
    make.broken_json_lines(folder / "m.jsonl")
    make.empty_groups(folder / "n.parquet")
    # 50 rows a ledger file, so that files end inside units and inside row groups; small batches and shards
    monkeypatch.setattr(ledger, "PART_ROWS", 50)
    changes: dict[str, Any] = {"write": {"shard_size": "20kB"}, "unit_size": "128MB"}
    whole = troubled.run_over(folder, tmp_path / "whole", **changes)
    for module in (run_unit, resolve):
        monkeypatch.setattr(module, "LAYOUT", replace(LAYOUT, group_rows=group_rows))
    monkeypatch.setattr(source_rows, "GROUP_ROWS", group_rows)
    monkeypatch.setattr(source_rows, "BATCH_BYTES", 5000)
    cut = troubled.run_over(folder, tmp_path / "cut", **changes)
    plan = plan_recipe(load_recipe(tmp_path / "cut.yaml"))
    work = storage_at(str(cut / "work"))
    receipts = [Receipts(work, step.folder).load() for step in plan.steps]
    (unit,) = plan.units
    found = Attributes(plan, work, [by_unit[unit.id]["file"] for by_unit in receipts]).group_rows()
    assert set(found[:-1]) == {group_rows}
    assert runs.file_hashes(cut) == runs.file_hashes(whole)
    assert len(runs.file_hashes(cut, ("ledger",))) > 4


def test_where_batches_are_cut_changes_no_byte_and_no_count_of_a_damaged_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small batches, rows of a row group are through the chain before its bad page is met."""
    folder = troubled.write_good(tmp_path / "in")
    for kind in (*troubled.DAMAGED, "m-odd-texts.parquet", "m-corrupt.jsonl.gz"):
        troubled.KINDS[kind](folder / kind)
    whole = troubled.run_over(folder, tmp_path / "whole")
    monkeypatch.setattr(source_rows, "BATCH_BYTES", 5000)
    cut = troubled.run_over(folder, tmp_path / "cut")
    assert runs.file_hashes(cut) == runs.file_hashes(whole)
    funnels = [json.loads((output / "manifest.json").read_text())["stages"] for output in (whole, cut)]
    one, other = ([{k: v for k, v in stage.items() if k != "seconds"} for stage in funnel] for funnel in funnels)
    assert one == other
    good = sum(len(troubled.truth(path).good) for path in folder.iterdir())
    assert one[0]["in"] == good


@pytest.mark.parametrize(("name", "held"), [("a.jsonl", False), ("a.jsonl.gz", False), ("a.parquet", True)])
def test_json_lines_leave_batch_by_batch_and_a_row_group_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, held: bool
) -> None:
    folder = tmp_path / "in"
    if held:
        make.parquet(folder / name, make.documents(300), group=200)
    else:
        make.json_lines(folder / name, rows=300)
    monkeypatch.setattr(source_rows, "BATCH_BYTES", 5000)
    chained: list[int] = []
    finish = run_unit._finish

    def counting(*arguments: Any) -> Any:
        table = finish(*arguments)
        chained.append(len(table))
        return table

    monkeypatch.setattr(run_unit, "_finish", counting)
    plan = plan_recipe(load_recipe(troubled.write(folder, tmp_path / "out", unit_size="128MB")))
    facts: dict[str, Any] = {"lost": [], "parts": [{} for _ in plan.steps[0].parts]}
    passed, most = 0, 0
    for table in run_unit._first_pass(plan, 0, plan.units[0], facts):
        most = max(most, sum(chained) - passed)
        passed += len(table)
    assert passed == 300
    assert facts["parts"][0]["in"] == 300
    assert most == 200 if held else most == max(chained) < 100
    run(load_recipe(tmp_path / "out.yaml"))
    troubled.check(tmp_path / "out", folder)


@pytest.mark.parametrize(
    ("files", "group", "least", "most"),
    [(1, 400, 2, 2), (1, 100, 4, 5), (1, 5, 19, 21), (6, None, 6, 7)],
    ids=["one row group", "four row groups", "many row groups", "JSON Lines"],
)
def test_shards_are_written_side_by_side_but_no_row_group_is_read_again_and_again(
    tmp_path: Path, files: int, group: int | None, least: int, most: int
) -> None:
    """About 20 shards; each task reads the row groups that its shards lie in."""
    folder = tmp_path / "in"
    for number in range(files):
        if group:
            make.parquet(folder / f"{number}.parquet", make.documents(400, seed=number), group=group)
        else:
            make.json_lines(folder / f"{number}.jsonl", rows=120, seed=number)
    size = sum(len(text) for path in folder.iterdir() for text in troubled.truth(path).good.values()) // 20
    output = troubled.run_over(folder, tmp_path / "out", stages=[{"use": "url_tags"}], write={"shard_size": size})
    (receipts,) = (output / "work").glob("write-*/receipts.jsonl")
    assert least <= len(receipts.read_text().splitlines()) <= most
    assert 19 <= len(list((output / "data").iterdir())) <= 21
