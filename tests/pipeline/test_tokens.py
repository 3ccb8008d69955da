"""Pages tell tokens where a recipe or its input counted them, exactly and nowhere else."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.card import render_card
from tamis.pipeline.output import Output
from tamis.pipeline.report.page import render_report
from tamis.pipeline.tokens import counted_tokens

from .. import runs
from ..tiny_models import tokenizer

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return runs.write_corpus(tmp_path_factory.mktemp("corpus"), shards=1, documents=60)


def run(folder, corpus, stages, **changes):
    runs.tamis("run", runs.write_recipe(folder / "recipe.yaml", corpus, folder / "out", stages=stages, **changes))
    output = Output(str(folder / "out"))
    return output, render_card(output).decode(), render_report(output).decode()


def test_card_and_report_tell_the_tokens_of_the_documents_kept(corpus, tmp_path):
    stages = [
        {"use": "rules", "name": "first", "rules": {"short": "chars < 1200"}},
        {"use": "token_count", "tokenizer": tokenizer()},
        {"use": "rules", "name": "second", "rules": {"few": "n_tokens < 600"}},
    ]
    output, card, page = run(tmp_path, corpus, stages)
    ledger = runs.rows(tmp_path / "out", "ledger").to_pylist()
    counted = [row["n_tokens"] for row in ledger if row["n_tokens"] is not None]
    kept = sum(row["n_tokens"] for row in ledger if row["decision"] == "keep")
    assert 0 < kept < sum(counted)
    assert 0 < len(counted) < len(ledger)
    assert f"Tokens (`n_tokens`): {kept:,} in the documents that were kept, of {sum(counted):,} counted in" in card
    assert "tokens kept: n_tokens" in page
    (found,) = counted_tokens(output)
    assert (found.stage, found.documents, found.tokens, found.kept) == ("token_count", len(counted), sum(counted), kept)
    assert found.uncounted == 0


def test_two_tokenizers_have_a_figure_each_and_where_leaves_documents_uncounted(corpus, tmp_path):
    stages = [
        {"use": "token_count", "name": "ours", "tokenizer": tokenizer()},
        {"use": "token_count", "name": "theirs", "tokenizer": tokenizer(), "where": "chars < 1000"},
    ]
    output, card, _ = run(tmp_path, corpus, stages)
    ours, theirs = counted_tokens(output)
    assert (ours.column, theirs.column) == ("ours", "theirs")
    assert ours.uncounted == 0 < theirs.uncounted
    assert f"{theirs.uncounted:,} kept documents have no count" in card


def test_a_run_that_counted_none_tells_none(corpus, tmp_path):
    output, card, page = run(tmp_path, corpus, [{"use": "text_signals"}])
    assert counted_tokens(output) == []
    assert "Tokens" not in card
    assert "tokens kept" not in page


def test_counts_that_came_with_the_input_are_told(tmp_path):
    (tmp_path / "in").mkdir()
    table = pa.table({"text": ["one two", "three"], "n_tokens": pa.array([2, 1], pa.int32())})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    output, card, _ = run(tmp_path, tmp_path / "in", [{"use": "rules", "rules": {"more": "n_tokens > 1"}}])
    assert "Tokens (`n_tokens`): 2 in the documents that were kept, of 3 counted in 2 documents." in card
    (found,) = counted_tokens(output)
    assert found.stage is None
