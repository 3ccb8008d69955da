"""What the report says of classifiers that merely sort sources, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.report import render_report
from tamis.pipeline.report.bias import LEAST, biases, grouped_auc
from tamis.pipeline.report.rows import open_rows

from .reading import Reading


def naive_auc(groups: np.ndarray, above: np.ndarray) -> float | None:
    """One row per document."""
    names, counts = np.unique(groups, return_counts=True)
    small = set(names[counts < LEAST].tolist())
    groups = np.array(["small" if g in small else f"g{g}" for g in groups.tolist()])
    if len(set(groups.tolist())) < 2 or above.all() or not above.any():
        return None
    return float(roc_auc_score(above, [above[groups == g].mean() for g in groups]))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=120))
def test_counts_per_group_give_the_auc_of_every_document(rows):
    groups, above = np.array([g for g, _ in rows]), np.array([a for _, a in rows])
    names = np.unique(groups)
    positive = np.array([above[groups == g].sum() for g in names])
    documents = np.array([(groups == g).sum() for g in names])
    found, wanted = grouped_auc(positive, documents), naive_auc(groups, above)
    assert (found is None) == (wanted is None)
    assert found is None or found == pytest.approx(wanted)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("bias")
    (base / "m.bin").write_bytes(b"x")
    stages = [
        {"use": "model_stages:Scored", "name": "sorter", "model": str(base / "m.bin")},
        {"use": "model_stages:Scored", "name": "blind", "model": str(base / "m.bin"), "by": "doc_id"},
        {"use": "rules", "rules": {"some": "blind > 0.05"}},
    ]
    runs.write_corpus(base / "in", documents=150)
    recipe = runs.write_recipe(base / "r.yaml", base / "in", base / "out", stages=stages)
    return Output(run(load_recipe(recipe)).output)


def test_a_score_that_sorts_sources_is_told_from_one_that_does_not(output):
    by_score = {bias.column: bias for bias in biases(open_rows(output, []))}
    assert by_score["sorter"].marked
    assert not by_score["blind"].marked
    ledger = pq.read_table(output.storage.full("ledger")).to_pandas()
    for name, bias in by_score.items():
        scores, sources = ledger[name].to_numpy(), ledger["source"].to_numpy()
        assert bias.documents == len(scores)
        for quantile, found in ((0.5, bias.half), (0.9, bias.tenth)):
            cut = np.sort(scores)[int(np.ceil(quantile * len(scores))) - 1]
            assert found == pytest.approx(naive_auc(sources, scores > cut))


def test_the_page_shows_it_and_marks_the_sorter(output):
    (table,) = [t for t in Reading(render_report(output)).tables if t.attributes.get("id") == "table-bias"]
    assert table.column("score") == ["sorter", "blind"]
    assert float(table.column("AUC, better half")[0]) > 0.8 > float(table.column("AUC, better half")[1])


def test_a_recipe_without_a_model_has_no_such_section(tmp_path):
    runs.write_corpus(tmp_path / "in", shards=1, documents=20)
    recipe = runs.write_recipe(tmp_path / "r.yaml", tmp_path / "in", tmp_path / "out", stages=[{"use": "text_signals"}])
    page = render_report(Output(run(load_recipe(recipe)).output))
    assert b'id="bias"' not in page
