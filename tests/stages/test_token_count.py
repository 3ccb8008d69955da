"""Tokens are counted exactly, and a recipe with a tokenizer that cannot be used is refused before anything runs."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from tamis.stages.errors import RecipeError, SetupError
from tamis.stages.token_count import TokenCount, TokenCountConfig

from .. import runs
from ..tiny_models import TEXTS, tokenizer_json

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tokenizer_json(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


def stage_of(path):
    return TokenCount(TokenCountConfig(tokenizer=str(path)), name="token_count")


def test_every_text_gets_its_tokens_and_a_null_text_null(file):
    texts = [*TEXTS, "", None]
    oracle = tokenizers.Tokenizer.from_file(str(file))
    found = stage_of(file).measure(pa.table({"text": pa.array(texts, pa.large_string())}))
    expected = [None if t is None else len(oracle.encode(t, add_special_tokens=False).ids) for t in texts]
    assert found["n_tokens"].to_pylist() == expected


def test_of_a_folder_only_the_tokenizer_decides(file):
    folder, alone = stage_of(file.parent), stage_of(file)
    assert folder.models == alone.models == (str(file),)
    before = folder.fingerprint()
    (file.parent / "weights.bin").write_bytes(b"x")
    assert folder.fingerprint() == before == alone.fingerprint()
    table = pa.table({"text": pa.array(TEXTS, pa.large_string())})
    assert folder.measure(table).equals(alone.measure(table))


def test_another_tokenizer_is_another_fingerprint(file, tmp_path):
    other = tokenizer_json(tmp_path / "other.json", "words")
    assert stage_of(other).fingerprint() != stage_of(file).fingerprint()


def test_a_tokenizer_that_cannot_be_used_is_refused_at_plan_time(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="no such file"):
        stage_of(tmp_path / "none.json").check(pa.schema([]))
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"model": {"type": "Magic"}}))
    stage_of(bad).check(pa.schema([]))
    with pytest.raises(RecipeError, match="cannot use it"):
        stage_of(bad).warm()


def test_without_the_library_it_says_what_to_install(file, monkeypatch):
    import sys

    from tamis.scorers import token_count

    token_count._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SetupError, match=r"pip install 'tamis\[lm\]'"):
        stage_of(file).warm()


def test_a_run_has_the_column_in_ledger_and_data_and_can_cut_by_it(file, tmp_path):
    corpus = runs.write_corpus(tmp_path / "in", shards=1, documents=40)
    recipe = runs.write_recipe(
        tmp_path / "recipe.yaml",
        corpus,
        tmp_path / "out",
        stages=[
            {"use": "token_count", "tokenizer": str(file)},
            {"use": "rules", "rules": {"long": "n_tokens >= $least"}, "params": {"least": 200}},
        ],
    )
    runs.tamis("run", recipe, TOKENIZERS_PARALLELISM="true")
    runs.check_accounting(tmp_path / "out")
    oracle = tokenizers.Tokenizer.from_file(str(file))
    data = runs.rows(tmp_path / "out", "data").to_pylist()
    assert data
    for row in data:
        assert row["n_tokens"] == len(oracle.encode(row["text"], add_special_tokens=False).ids) >= 200
    ledger = runs.rows(tmp_path / "out", "ledger")
    dropped = ledger.filter(pa.compute.equal(ledger["decision"], "drop"))
    assert dropped.num_rows
    assert max(dropped["n_tokens"].to_pylist()) < 200
