"""A sweep's figures equal sums in NumPy over the ledger, for cuts and shares, both sides, groups, nulls and odd names."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.sweep import Question, as_csv, as_json, sweep, told
from tamis.pipeline.sweep_plot import as_html
from tamis.stages.errors import RecipeError

NASTY = "</script><b>\u202ebold"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 documents with two scores (one of them mostly ties, with nulls), columns named as the query's own, a nasty group."""
    base = tmp_path_factory.mktemp("sweep")
    random = np.random.default_rng(3)
    words = ["word " * int(n) for n in random.integers(1, 60, 400)]
    (base / "in").mkdir()
    texts = pa.array([f"{text}{i}" for i, text in enumerate(words)])
    sources = pa.array([(NASTY, "a", "b", None)[i % 4] for i in range(400)], pa.string())
    pq.write_table(pa.table({"text": texts, "source": sources}), base / "in" / "a.parquet")
    sql_column = {"use": "sql_column", "type": "float64"}
    stages = [
        {"use": "rules", "rules": {"some": "chars > $least"}, "params": {"least": 20}},
        {**sql_column, "name": "score", "sql": "(chars * 37 % 101) / 100.0"},
        {**sql_column, "name": "ties", "sql": "CASE WHEN chars % 5 > 0 THEN floor(chars / 60) END"},
        {**sql_column, "name": "bucket", "sql": "chars % 7"},
        {**sql_column, "name": "name", "sql": "1"},
    ]
    run(load_recipe(runs.write_recipe(base / "r.yaml", base / "in", base / "out", stages=stages)))
    return base / "out"


def table(output: Path, where: Any = lambda row: True) -> list[dict[str, Any]]:
    return [row for row in runs.rows(output, "ledger").to_pylist() if where(row)]


@pytest.mark.parametrize("column", ["score", "ties"])
@pytest.mark.parametrize("side", ["top", "bottom"])
def test_figures_are_sums_over_the_ledger(output, column, side):
    cuts = (0.5, 0.1, 0.9) if column == "score" else (2.0, 0.0, 4.0)
    found = sweep(Output(str(output)), Question(column, cuts, side=side, by="source", where="chars_read < 250"))
    rows = table(output, lambda row: row["chars_read"] < 250)
    known = [row for row in rows if row[column] is not None]
    assert found.unmeasured == len(rows) - len(known) > 0
    assert [line.cut for line in found.lines] == [cut for cut in cuts for _ in range(2)]
    numbers = np.array([row[column] for row in known])
    for line in found.lines:
        inside = numbers >= line.cut if side == "top" else numbers <= line.cut
        inside = inside ^ line.inverse
        assert line.kept["documents"] == inside.sum()
        assert line.kept["characters"] == sum(row["chars_read"] for row, one in zip(known, inside) if one)
        for group, (kept, whole) in line.groups.items():
            here = np.array([(row["source"] or "(none)") == group for row in known])
            assert (kept, whole) == ((here & inside).sum(), here.sum())
        assert len(line.groups) == 4
        for name, (mean_kept, mean_dropped, change) in line.features.items():
            values = np.array([math.nan if row[name] is None else float(row[name]) for row in known])
            sides = [values[part & ~np.isnan(values)] for part in (inside, ~inside)]
            for mean, part in zip((mean_kept, mean_dropped), sides):
                assert mean is None if not len(part) else mean == pytest.approx(part.mean())
            spread = np.nanstd(values)
            if change is None:
                assert not len(sides[0]) or not len(sides[1]) or spread == 0
            else:
                assert change == pytest.approx((sides[0].mean() - sides[1].mean()) / spread)
    assert {"bucket", "name", "chars_read"} <= set(found.features)
    assert found.lines[0].features["name"][2] is None, "a feature of one value has no change"


@pytest.mark.parametrize("side", ["top", "bottom"])
def test_a_share_is_met_by_the_least_cut_that_reaches_it(output, side):
    shares = (0.1, 0.5, 1.0)
    found = sweep(Output(str(output)), Question("ties", shares=shares, side=side))
    numbers = np.array([row["ties"] for row in table(output) if row["ties"] is not None])
    for wanted, line in zip(shares, found.lines[::2]):
        kept = line.kept["documents"] / found.sizes["documents"]
        assert kept >= wanted - 1e-9
        stricter = numbers > line.cut if side == "top" else numbers < line.cut
        assert stricter.sum() / len(numbers) < wanted


def test_a_filter_and_its_inverse_are_everything(output):
    found = sweep(Output(str(output)), Question("score", (0.3, 2.0, -1.0)))
    for one, other in zip(found.lines[::2], found.lines[1::2]):
        assert one.kept["documents"] + other.kept["documents"] == found.sizes["documents"]
    assert found.lines[3].kept["documents"] == found.sizes["documents"], "no number reaches 2, so its inverse keeps all"


def test_files_hold_every_figure_and_the_page_no_markup_of_documents(output):
    found = sweep(Output(str(output)), Question("score", (0.5,), by="source"))
    rows = list(csv.DictReader(as_csv(found).splitlines()))
    told_rows = json.loads(as_json(found))["rows"]
    assert len(rows) == len(told_rows) == 2 * (2 + 4 + len(found.features))
    size = next(row for row in told_rows if row["what"] == "size" and row["name"] == "documents")
    assert size["kept"] == found.lines[0].kept["documents"]
    page = as_html(found)
    assert NASTY not in page
    assert "</script><b>" not in page
    assert "\u202e" not in page
    assert not any("\u202e" in line for line in told(found))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question("scor", (1.0,)), r"no such column\. Did you mean: score"),
        (Question("source", (1.0,)), "not numbers"),
        (Question("score"), "give --cuts"),
        (Question("score", (1.0,), by="sorce"), "Did you mean: source"),
        (Question("score", (1.0,), where="wordz > 1"), "no column wordz"),
        (Question("score", (1.0,), features=("decision",)), "not numbers"),
    ],
)
def test_what_cannot_be_swept_is_named(output, question, message):
    with pytest.raises(RecipeError, match=message):
        sweep(Output(str(output)), question)


def test_the_command_writes_what_it_is_asked_for(output, tmp_path):
    files = [tmp_path / name for name in ("s.csv", "s.json", "s.html")]
    asked = [part for option, file in zip(("--csv", "--json", "--html"), files) for part in (option, str(file))]
    said = runs.tamis("sweep", str(output), "--column", "score", "--cuts", "0.2,0.8", "--shares", "10%", *asked)
    assert "the best 10." in said
    assert "< 0.8" in said
    assert all(file.stat().st_size > 100 for file in files)
    assert "is no number" in runs.tamis("sweep", str(output), "--column", "score", "--cuts", "x", code=2)
