"""Each text is scored by the model of its language; what cannot work is refused before a run, with the key that is wrong."""

from __future__ import annotations

import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.scorers.kenlm import KenLM
from tamis.stages.errors import RecipeError, SetupError
from tamis.stages.kenlm import Kenlm, KenlmConfig

from .. import kenlm_models, runs

pytest.importorskip("kenlm")
pytest.importorskip("sentencepiece")

TEXTS = [*kenlm_models.pages()[:30], "", "\n", "Ça va."]


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, str]]:
    """Models of two languages with one tokenizer."""
    tokenizer = kenlm_models.tokenizer()
    return {
        "en": {"model": kenlm_models.toy(), "tokenizer": tokenizer},
        "fr": {"model": kenlm_models.toy(25, 50), "tokenizer": tokenizer},
    }


def stage_of(**config) -> Kenlm:
    return Kenlm(KenlmConfig(**config), name="kenlm")


def batch(texts, languages=None) -> pa.Table:
    columns = {"text": pa.array(texts, pa.large_string())}
    return pa.table(columns | ({"lang": pa.array(languages, pa.string())} if languages is not None else {}))


def direct(files, name, texts, **config) -> list[float | None]:
    scorer = KenLM.load(files[name]["model"], files[name]["tokenizer"], **config)
    return scorer.score(pa.array(texts, pa.large_string()))["kenlm_ppl"].to_pylist()


def test_one_model_scores_every_text_with_every_option(files):
    for config in ({}, {"normalize": False}, {"per_line": True}):
        found = stage_of(**files["en"], **config).measure(batch(TEXTS))
        assert found["kenlm_ppl"].to_pylist() == direct(files, "en", TEXTS, **config)
        assert found["kenlm_ppl"].null_count == 2
    assert (
        len(
            {
                stage_of(**files["en"], **c).measure(batch(TEXTS[:1]))["kenlm_ppl"][0].as_py()
                for c in ({}, {"normalize": False}, {"per_line": True})
            }
        )
        == 3
    )


def test_each_text_is_scored_by_the_model_of_its_language_and_others_by_none(files):
    languages = [("en", "fr", "de", None, "EN")[i % 5] for i in range(len(TEXTS))]
    expected = {name: direct(files, name, TEXTS) for name in files}
    found = stage_of(languages=files).measure(batch(TEXTS, languages))["kenlm_ppl"].to_pylist()
    assert found == [expected[lang][i] if lang in files else None for i, lang in enumerate(languages)]
    assert expected["en"][:30] != expected["fr"][:30]


def test_the_column_of_languages_may_be_another_one_and_encoded(files):
    languages = pa.array(["fr"] * len(TEXTS)).dictionary_encode()
    table = batch(TEXTS).append_column("tongue", languages)
    stage = stage_of(languages=files, by="tongue")
    assert stage.needs == ("text", "tongue")
    stage.check(pa.schema([("tongue", languages.type)]))
    assert stage.measure(table)["kenlm_ppl"].to_pylist() == direct(files, "fr", TEXTS)


def test_null_texts_have_no_perplexity_and_may_have_a_language(files):
    table = batch([None, "a text", None], ["en", None, None])
    assert stage_of(languages=files).measure(table)["kenlm_ppl"].to_pylist() == [None] * 3
    assert stage_of(**files["en"]).measure(table)["kenlm_ppl"].to_pylist()[::2] == [None] * 2


def test_a_file_of_two_languages_is_one_model(files):
    assert stage_of(languages=files).models == (files["en"]["model"], files["en"]["tokenizer"], files["fr"]["model"])


def test_what_it_depends_on_is_what_the_files_hold_and_for_which_language(files, tmp_path):
    first = stage_of(languages=files).fingerprint()
    copies = {}
    for name, one in files.items():
        copies[name] = {key: str(shutil.copy(path, tmp_path / f"{name}-{key}")) for key, path in one.items()}
    assert stage_of(languages=copies).fingerprint() == first
    assert stage_of(languages=dict(reversed(files.items()))).fingerprint() == first
    others = [
        stage_of(languages={"en": files["fr"], "fr": files["en"]}),
        stage_of(languages={"en": files["en"], "de": files["fr"]}),
        stage_of(languages={"en": files["en"]}),
        stage_of(**files["en"]),
        stage_of(**files["fr"]),
    ]
    assert len({first, *(stage.fingerprint() for stage in others)}) == 6


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, "model: give model and tokenizer, or languages"),
        ({"model": "a"}, "tokenizer: give model and tokenizer"),
        ({"model": "a", "tokenizer": "b", "by": "lang"}, "by: means nothing without languages"),
        ({"model": "a", "languages": {"en": {"model": "a", "tokenizer": "b"}}}, "model: give it inside languages"),
        ({"languages": {}}, "at least 1"),
        ({"languages": {"en": {"model": "a"}}}, "tokenizer"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(config, complaint):
    with pytest.raises(ValidationError, match=complaint):
        KenlmConfig(**config)


def test_files_that_are_no_models_are_refused_by_their_keys_and_without_the_libraries(files, monkeypatch):
    for name in ("kenlm", "sentencepiece"):
        monkeypatch.setitem(sys.modules, name, None)
    schema, (model, tokenizer) = pa.schema([("lang", pa.string())]), files["en"].values()
    stage_of(languages=files).check(schema)
    with pytest.raises(RecipeError, match=r"^languages.en.model: .* no KenLM model"):
        stage_of(languages={"en": {"model": tokenizer, "tokenizer": tokenizer}}).check(schema)
    with pytest.raises(RecipeError, match=r"^tokenizer: .* no SentencePiece model"):
        stage_of(model=model, tokenizer=model).check(schema)
    with pytest.raises(RecipeError, match="by: lang has the type int64"):
        stage_of(languages=files).check(pa.schema([("lang", pa.int64())]))


@pytest.mark.parametrize("missing", ["kenlm", "sentencepiece"])
def test_without_the_libraries_it_says_what_to_install(files, missing, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    copy = {key: str(shutil.copy(path, tmp_path / key)) for key, path in files["en"].items()}  # not loaded yet
    with pytest.raises(SetupError, match=r"pip install 'tamis\[kenlm\]'"):
        stage_of(**copy).warm()


def test_a_model_that_breaks_off_is_told_before_the_first_document(tmp_path, files):
    path = tmp_path / "half.arpa"
    path.write_text(kenlm_models.folder().joinpath("toy-0-25.arpa").read_text()[:5000])
    with pytest.raises(RecipeError, match=r"kenlm: .*half.arpa: KenLM cannot use it"):
        stage_of(model=str(path), tokenizer=files["en"]["tokenizer"]).warm()


def test_a_run_writes_the_column_under_the_name_of_the_stage(tmp_path, files):
    corpus = runs.write_corpus(tmp_path / "corpus", shards=1, documents=60)
    stages = [{"use": "kenlm", "name": "wiki", "languages": files, "by": "tongue", "where": "chars > 300"}]
    source = {"files": f"{corpus}/*.parquet", "tags": {"tongue": "fr"}}
    recipe = runs.write_recipe(tmp_path / "r.yaml", corpus, tmp_path / "out", stages=stages, input=source)
    run(load_recipe(recipe))
    texts = pq.read_table(corpus)["text"].to_pylist()
    scores = direct(files, "fr", texts)
    ledger = runs.rows(tmp_path / "out", "ledger")
    assert ledger["wiki"].to_pylist() == [s if len(t) > 300 else None for s, t in zip(scores, texts)]
    runs.check_accounting(tmp_path / "out")
