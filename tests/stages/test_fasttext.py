"""The stage `fasttext`: its numbers are the real fastText's, whole or piece by piece, alone or together with others."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tamis.scorers.fasttext_file import write_model
from tamis.stages._fasttext import FastTextMeasure
from tamis.stages.base import Stage
from tamis.stages.errors import RecipeError
from tamis.stages.fasttext import Fasttext
from tamis.stages.language import Language, LanguageConfig

from ..kernels import naive_sentences as naive
from ..runs import document
from .example_models import made_up, predicted

SPLIT = {"line": naive.lines, "paragraph": naive.paragraphs, "sentence": naive.sentences}


def stage_of(**config: Any) -> Fasttext:
    return Fasttext(Fasttext.Config(**config), name="quality")


def measured(stage: Stage, texts: Sequence[str | None]) -> pa.Table:
    found = stage.measure(pa.table({"text": pa.array(texts, pa.large_string())}))
    assert {f.name: f.type for f in found.schema} == {c.name: c.type for c in stage.adds}
    return found


@pytest.fixture(scope="module")
def path() -> str:
    """A model of three labels."""
    return made_up("hq", "Web-Page", "spam")


@pytest.fixture(scope="module")
def texts() -> Sequence[str | None]:
    draw = random.Random(4)
    odd = [
        "",
        " ",
        "\n\n \u3000",
        None,
        "one",
        "no end\n\n\nbut. More here!",
        "A </s> b. C d.",
        "__label__hq the of. It.",
    ]
    return (
        [document(draw) for _ in range(60)]
        + odd
        + ["他说。“你好！”她走了。", "the " * 400, ". . .", "\0a\x85b.\x1cIs it?"]
    )


def test_probabilities_of_whole_texts_are_those_of_the_real_fasttext(path, texts):
    found = measured(stage_of(model=path, labels=["hq", "Web-Page", "spam"]), texts)
    assert found.column_names == ["hq", "web_page", "spam"]
    for row, text in zip(found.to_pylist(), texts, strict=True):
        if text is None:
            assert row == {"hq": None, "web_page": None, "spam": None}
        else:
            assert list(row.values()) == pytest.approx(predicted(path, text, ["hq", "Web-Page", "spam"]), abs=1e-5)
    [column] = measured(stage_of(model=path, label="__label__spam"), texts).columns
    assert column.equals(found["spam"])
    assert np.ptp([score for score in column.to_pylist() if score is not None]) > 0.5


@pytest.mark.parametrize("unit", SPLIT)
def test_pieces_score_as_if_each_were_a_text(path, texts, unit):
    found = measured(stage_of(model=path, label="hq", unit=unit, over=0.4, spans=True), texts).to_pylist()
    spread = []
    for row, text in zip(found, texts, strict=True):
        pieces = SPLIT[unit](text or "")
        if not pieces:
            assert row == {"max": None, "mean": None, "over": None, "spans": None if text is None else []}
            continue
        scores = [predicted(path, piece, ["hq"])[0] for piece in pieces]
        data = (text or "").encode()
        assert [data[span["start"] : span["end"]].decode() for span in row["spans"]] == pieces
        assert [span["score"] for span in row["spans"]] == pytest.approx(scores, abs=1e-5)
        assert {span["kind"] for span in row["spans"]} == {"hq"}
        assert row["max"] == pytest.approx(max(scores), abs=1e-5)
        assert row["mean"] == pytest.approx(sum(scores) / len(scores), abs=1e-5)
        assert row["over"] == pytest.approx(
            sum(span["score"] >= np.float32(0.4) for span in row["spans"]) / len(scores)
        )
        spread.append(row["over"])
    assert len(set(spread)) > 4


def test_a_piece_at_the_bound_counts_as_over_it(path):
    config = {"model": path, "label": "hq", "unit": "sentence"}
    text = "The people of water. They work in the old house! Who was it?"
    [row] = measured(stage_of(**config, spans=True), [text]).to_pylist()
    scores = sorted(span["score"] for span in row["spans"])
    for below, score in enumerate(scores):
        assert measured(stage_of(**config, over=score), [text])["over"][0].as_py() == pytest.approx((3 - below) / 3)


def test_only_what_is_asked_for_is_there(path):
    names = [column.name for column in stage_of(model=path, label="hq", unit="line").adds]
    assert names == ["max", "mean"]
    adds = stage_of(model=path, label="hq", unit="sentence", over=0.25, spans=True).adds
    assert [column.name for column in adds] == ["max", "mean", "over", "spans"]
    assert "'hq'" in adds[0].doc
    assert "0.25" in adds[2].doc
    assert all(column.ledger for column in adds)  # `tamis why` shows a cut from there


def test_a_piece_without_a_word_that_the_model_knows_counts_nowhere(tmp_path):
    path, ones = str(tmp_path / "bare.bin"), np.ones(2, np.int64)
    weights = np.eye(2, dtype=np.float32)
    write_model(path, [b"yes", b"no"], ones, [b"__label__a", b"__label__b"], ones, weights, weights)
    texts = ["yes\nwhat\nno", "what\never", "no", ""]
    found = measured(stage_of(model=path, label="a", unit="line", over=0.5, spans=True), texts).to_pylist()
    high, low = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    assert [(s["start"], s["end"]) for s in found[0]["spans"]] == [(0, 3), (9, 11)]
    assert found[0]["max"] == pytest.approx(high, abs=2e-5)
    assert found[0]["mean"] == pytest.approx(0.5, abs=2e-5)
    assert found[0]["over"] == 0.5
    assert found[1] == {"max": None, "mean": None, "over": None, "spans": []} == found[3]
    assert found[2]["mean"] == pytest.approx(low, abs=2e-5)
    whole = measured(stage_of(model=path, label="a"), texts)["score"]
    assert whole.is_valid().to_pylist() == [True, False, True, False]


def test_an_end_mark_in_the_text_ends_it_only_under_the_strict_rule(path):
    text = "Where there is water </s> all people came home by the land"
    one, other = (
        measured(stage_of(model=path, label="hq", strict=strict), [text])["score"][0].as_py()
        for strict in (True, False)
    )
    assert one == pytest.approx(predicted(path, text, ["hq"])[0], abs=1e-5)
    assert other == pytest.approx(predicted(path, text.replace("</s> ", ""), ["hq"])[0], abs=1e-5)
    assert abs(one - other) > 0.01


def test_measured_together_is_measured_alone_bit_for_bit(path, texts):
    second = made_up("en", "de", "eng_Latn")
    stages: list[FastTextMeasure] = [
        stage_of(model=path, label="hq"),
        Language(LanguageConfig(model=second), name="language"),
        stage_of(model=second, labels=["de", "en"]),
        stage_of(model=path, labels=["spam"]),
    ]
    assert len({stage.joins for stage in stages}) == 1
    batch = pa.table({"text": pa.array(texts, pa.large_string())})
    for stage, found in zip(stages, FastTextMeasure.measure_together(stages, batch), strict=True):
        assert found.equals(stage.measure(batch))
    pieces: list[FastTextMeasure] = [
        stage_of(model=path, label="hq", unit="sentence", spans=True),
        stage_of(model=second, label="de", unit="sentence", over=0.1),
    ]
    assert pieces[0].joins == pieces[1].joins
    for stage, found in zip(pieces, Fasttext.measure_together(pieces, batch), strict=True):
        assert found.equals(stage.measure(batch))


def test_stages_that_read_other_pieces_or_by_another_rule_are_measured_apart():
    config = {"model": "m.bin", "label": "a"}
    joins = {stage_of(**config, unit=unit).joins for unit in ("document", *SPLIT)}
    assert len(joins | {stage_of(**config, strict=False).joins}) == 5


def checked(**config: Any) -> None:
    stage_of(**config).check(pa.schema([("text", pa.large_string())]))


def test_labels_that_the_model_lacks_are_named_with_those_it_has(path):
    checked(model=path, label="Web-Page")
    checked(model=path, labels=["spam", "__label__hq"])
    with pytest.raises(RecipeError, match=r"^label: say which label of .*made_up\.bin is measured\. Its labels: "):
        checked(model=path)
    with pytest.raises(
        RecipeError, match=r"^label: the model has no label Spam\. Did you mean: spam\? Its labels: .*Web-Page"
    ):
        checked(model=path, label="Spam")
    with pytest.raises(RecipeError, match=r"^labels: the model has no label xyz\. Its labels: "):
        checked(model=path, labels=["hq", "xyz"])
    with pytest.raises(RecipeError, match=r"Its labels: l0, l1, .*l19 and 5 more\."):
        checked(model=made_up(*(f"l{i}" for i in range(25))))


def test_a_model_that_is_none_is_an_error_of_the_recipe_at_its_key(path, tmp_path):
    with pytest.raises(RecipeError, match=r"^model: .*none\.bin: No such file"):
        checked(model=str(tmp_path / "none.bin"), label="a")
    short = tmp_path / "short.bin"
    short.write_bytes(Path(path).read_bytes()[:-100])
    with pytest.raises(RecipeError, match=r"^model: .*short\.bin: "):
        checked(model=str(short), label="hq")
    with pytest.raises(RecipeError, match=r"^model: .*short\.bin: "):
        stage_of(model=str(short), label="hq").warm()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"label": "a", "labels": ["b"]}, "not both"),
        ({"labels": ["a", "b"], "unit": "sentence"}, "unit: sentence takes one `label:`"),
        ({"label": "a", "over": 0.5}, "over: needs pieces"),
        ({"label": "a", "spans": True}, "spans: needs pieces"),
        ({"label": "a", "unit": "word"}, "document"),
        ({"label": "a", "unit": "line", "over": 1.5}, "less than or equal to 1"),
        ({"labels": []}, "at least 1 item"),
        ({"labels": ["de-AT", "de_at"]}, "de-AT and de_at make one column name"),
        ({"labels": ["a", "__label__a"]}, "a and a make one column name"),
        ({"labels": ["да"]}, "no letter a to z"),
        ({"labels": ["ran"]}, "every stage has a column of this name"),
        ({"label": ""}, "at least 1 character"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(config, complaint):
    with pytest.raises(ValidationError, match=complaint):
        stage_of(model="m.bin", **config)


def test_a_model_is_known_by_its_content(path, tmp_path):
    copy = tmp_path / "copy.bin"
    shutil.copy(path, copy)
    one, same = stage_of(model=path, label="hq"), stage_of(model=str(copy), label="hq")
    assert one.fingerprint() == same.fingerprint() != stage_of(model=made_up("hq", "b"), label="hq").fingerprint()
    assert "model" in one.not_in_key
    moved = stage_of(model="elsewhere.bin", label="hq")
    moved.place({"elsewhere.bin": str(copy)})
    assert moved.fingerprint() == one.fingerprint()
    assert measured(moved, ["the people"]).equals(measured(one, ["the people"]))
