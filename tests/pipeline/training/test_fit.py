"""From labelled texts to three files: the figures are those of the model that was written, on texts that it has not
seen; nothing vanishes, nothing is half there, and no text can act on the model or the card but by its words."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from sklearn.metrics import average_precision_score, roc_auc_score

from tamis.pipeline.training.fit import fit
from tamis.pipeline.training.labelled import Labelled, deduplicate, held_out
from tamis.pipeline.training.model_card import LEFT_OUT, render_card
from tamis.pipeline.training.probe import make_probe
from tamis.scorers.fasttext import FastText
from tamis.scorers.fasttext_train import Params
from tamis.stages.errors import RecipeError

from .labelled_texts import SMALL, labelled_texts

PARAMS = Params(**SMALL)
EVIL = [
    "<script>alert(1)</script>",
    "a|b",
    "[x](https://evil.example)",
    "`code`",
    "*bold*",
    "![i](x.png)",
    "$x$",
    "\u202eback",
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def scores(path, texts, label="1"):
    return FastText.load(path).score(pa.array(texts, pa.large_string()))[label].to_numpy()


def test_the_figures_are_those_of_the_written_model_on_what_was_held_out(tmp_path):
    table = labelled_texts()
    facts = fit(table, tmp_path / "m.bin", PARAMS, test_share=0.3)
    unique, _ = deduplicate(table)
    test = unique.filter(pa.array(held_out(unique["hash"], 0.3)))
    found = scores(tmp_path / "m.bin", test["text"].to_pylist())
    ones = [label == "1" for label in test["label"].to_pylist()]
    assert facts["held_out"]["rows"] == len(test) == facts["rows"]["held_out"]
    assert facts["held_out"]["auc"] == pytest.approx(roc_auc_score(ones, found), abs=1e-8)
    assert facts["held_out"]["average_precision"] == pytest.approx(average_precision_score(ones, found), abs=1e-8)
    assert 0.85 < facts["held_out"]["auc"] < 1  # a tenth of the labels is noise
    half = next(one for one in facts["held_out"]["cuts"] if one["cut"] == 0.5)
    assert half["taken"] == (found >= 0.5).sum()
    assert facts == json.loads((tmp_path / "m.bin.json").read_text())


def test_every_row_is_trained_on_held_out_or_has_a_reason(tmp_path):
    table = labelled_texts(300)
    again = table.slice(0, 40)
    other = table.slice(40, 20).set_column(
        1, "label", pc.if_else(pc.equal(table["label"].slice(40, 20), "1"), "0", "1")
    )
    whole = pa.concat_tables([table, again, other])
    facts = fit(whole, tmp_path / "m.bin", PARAMS, left_out={"null_text": 7, "too_short": 5})
    rows = facts["rows"]
    assert rows["read"] == 372 == sum(n for key, n in rows.items() if key != "read")
    assert rows["duplicates"] == 40
    assert rows["conflicting"] == 40
    assert facts["training"]["documents"] == rows["train"] == sum(one["train"] for one in facts["labels"])
    assert rows["held_out"] == sum(one["held_out"] for one in facts["labels"])
    card = (tmp_path / "m.bin.md").read_text()
    assert "| 40 | the same text has two labels" in card
    assert "too\\_short" in card


def test_the_order_of_the_rows_changes_no_byte(tmp_path):
    table = labelled_texts(300)
    order = list(range(300))
    random.Random(1).shuffle(order)
    fit(table, tmp_path / "a" / "m.bin", PARAMS, by=["source"])
    fit(table.take(order), tmp_path / "b" / "m.bin", PARAMS, by=["source"])
    for name in ("m.bin", "m.bin.json", "m.bin.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_text_cannot_add_a_label_or_end_its_line(tmp_path):
    table = labelled_texts(300, noise=0)
    words = " __label__1 __label__0 __label__evil </s> "
    texts = [text.replace(" ", words, 2) for text in table["text"].to_pylist()]
    poisoned = table.set_column(0, "text", pa.chunked_array([texts], pa.large_string()))
    facts = fit(poisoned, tmp_path / "m.bin", PARAMS)
    assert FastText.load(tmp_path / "m.bin").labels == ("0", "1") or FastText.load(tmp_path / "m.bin").labels == (
        "1",
        "0",
    )
    plain = fit(table, tmp_path / "plain.bin", PARAMS)
    assert facts["training"]["words"] == plain["training"]["words"]
    assert b"evil" not in (tmp_path / "m.bin").read_bytes()


def test_several_labels_have_figures_each_and_no_cuts_unless_one_is_named(tmp_path):
    table = labelled_texts(900, labels=("de", "en", "fr"))
    facts = fit(table, tmp_path / "m.bin", PARAMS, test_share=0.3)
    assert facts["positive"] is None
    assert "cuts" not in facts["held_out"]
    assert {one["label"] for one in facts["held_out"]["labels"]} == {"de", "en", "fr"}
    assert all(one["auc"] > 0.8 for one in facts["held_out"]["labels"])
    assert sum(rows for _, _, rows in facts["held_out"]["confusion"]) == facts["rows"]["held_out"]
    assert facts["held_out"]["calibration"]["ece"] < 0.2
    named = fit(table, tmp_path / "n.bin", PARAMS, test_share=0.3, positive="fr")
    assert named["held_out"]["auc"] == next(one["auc"] for one in facts["held_out"]["labels"] if one["label"] == "fr")
    assert (tmp_path / "m.bin").read_bytes() == (tmp_path / "n.bin").read_bytes()
    with pytest.raises(RecipeError, match=r"--positive-label fra: .*Did you mean: fr\?"):
        fit(table, tmp_path / "x.bin", PARAMS, positive="fra")


def test_groups_have_their_figures_and_a_column_that_gives_the_label_away_is_told(tmp_path):
    table = labelled_texts(600)
    table = table.append_column("leak", pc.binary_join_element_wise("of", table["label"], "_"))
    table = table.append_column("many", pa.chunked_array([[f"g{i % 40}" for i in range(600)]]))
    facts = fit(table, tmp_path / "m.bin", PARAMS, test_share=0.3, by=["source", "leak", "many"])
    groups = facts["groups"]
    assert groups["leak"]["auc_of_group"] == 1
    assert [one["auc"] for one in groups["leak"]["groups"]] == [None, None]
    assert 0.3 < groups["source"]["auc_of_group"] < 0.7
    assert [one for one in facts["warnings"] if "leak alone predicts the label" in one]
    assert not [one for one in facts["warnings"] if "source alone" in one]
    for found in groups.values():
        assert sum(one["rows"] for one in found["groups"]) == facts["rows"]["held_out"]
    assert len(groups["many"]["groups"]) == 31
    assert groups["many"]["groups"][-1]["group"] is None


def test_nothing_held_out_gives_a_model_without_figures_and_says_so(tmp_path):
    facts = fit(labelled_texts(200), tmp_path / "m.bin", PARAMS, test_share=0, by=["source"])
    assert facts["held_out"] is None
    assert facts["rows"]["train"] == 200
    assert "nothing is held out" in facts["warnings"][0]
    assert "nothing is held out" in (tmp_path / "m.bin.md").read_text()


def test_false_positives_count_harmless_sentences_by_term(tmp_path):
    table = labelled_texts(400, noise=0)
    ones = table["text"].filter(pc.equal(table["label"], "1")).to_pylist()
    own = next(word for word in ones[0].split() if sum(word in text.split() for text in ones) > 20)
    facts = fit(table, tmp_path / "m.bin", PARAMS)
    sentences = pa.table(
        {
            "text": pa.chunked_array(
                [["She is Gay.", "An african AMERICAN town", "an african town", ones[0], "gaysomething"]],
                pa.large_string(),
            ),
            "label": pa.chunked_array([["0", "0", "0", "1", "0"]]),
        }
    )
    probe = make_probe(
        Labelled(sentences), "1", ["0", "1"], None, ["gay", "african", "african american", own, "absent"]
    )
    facts = fit(table, tmp_path / "m.bin", PARAMS, probe=probe, force=True)
    found = scores(tmp_path / "m.bin", sentences["text"].to_pylist())
    told = {one["term"]: one for one in facts["probe"]["terms"]}
    assert set(told) == {"gay", "african", "african american"}  # only sentences without the label count
    assert all(one["rows"] == 1 for one in told.values())
    assert told["gay"]["mean_score"] == pytest.approx(found[0], abs=1e-6)
    assert told["african american"]["mean_score"] == pytest.approx(found[1], abs=1e-6)
    assert told["african"]["mean_score"] == pytest.approx(found[2], abs=1e-6)
    for one in told.values():
        assert one["rates"] == [float(one["mean_score"] >= cut) for cut in facts["probe"]["cuts"]]
    assert facts["probe"]["negatives"] == 4
    assert "`african american`" in (tmp_path / "m.bin.md").read_text()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (labelled_texts(50, labels=("1",)), "all have the label 1"),
        (labelled_texts(2).slice(0, 0), "none is left"),
        (labelled_texts(50).set_column(1, "label", pa.chunked_array([["a b"] * 50])), "white space"),
        (labelled_texts(50).set_column(1, "label", pa.chunked_array([["__label__a", "b"] * 25])), "__label__"),
    ],
)
def test_what_nothing_can_be_learned_from_is_an_error_and_leaves_nothing(tmp_path, table, message):
    with pytest.raises(RecipeError, match=message):
        fit(table, tmp_path / "m.bin", PARAMS)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_overwritten_only_if_asked(tmp_path):
    table = labelled_texts(200)
    fit(table, tmp_path / "m.bin", PARAMS)
    before = (tmp_path / "m.bin").read_bytes()
    with pytest.raises(RecipeError, match=r"exists; --force"):
        fit(table, tmp_path / "m.bin", Params(**{**SMALL, "seed": 2}))
    assert (tmp_path / "m.bin").read_bytes() == before
    fit(table, tmp_path / "m.bin", Params(**{**SMALL, "seed": 2}), force=True)
    assert (tmp_path / "m.bin").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.bin.json", "m.bin.md"]


def test_a_failure_on_the_way_leaves_the_old_model_and_nothing_else(tmp_path):
    fit(labelled_texts(200), tmp_path / "m.bin", PARAMS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(labelled_texts(300), tmp_path / "m.bin", PARAMS, force=True, progress=fail)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(RecipeError, match="is a folder"):
        fit(labelled_texts(200), tmp_path, PARAMS, force=True)
    with pytest.raises(RecipeError, match="local file"):
        fit(labelled_texts(200), "s3://bucket/m.bin", PARAMS)


# --- the card


def test_the_head_of_the_card_is_what_the_hub_reads(tmp_path):
    facts = fit(labelled_texts(300), tmp_path / "m.bin", PARAMS, test_share=0.3)
    card = ModelCard((tmp_path / "m.bin.md").read_text())
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.eval_results is not None
    told = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert told == {
        name: facts["held_out"][key]
        for name, key in (("accuracy", "accuracy"), ("roc_auc", "auc"), ("average_precision", "average_precision"))
    }


def test_the_recipe_in_the_card_names_the_model_its_label_and_a_good_column(tmp_path):
    fit(labelled_texts(300), tmp_path / "2024 Edu-Quality.bin", PARAMS)
    snippet = re.search(r"```yaml\n(.*?)```", (tmp_path / "2024 Edu-Quality.bin.md").read_text(), re.DOTALL)
    assert snippet
    measure, cut = yaml.safe_load(snippet[1])["stages"]
    assert measure == {
        "use": "fasttext",
        "name": "model_2024_edu_quality",
        "model": "2024 Edu-Quality.bin",
        "label": "1",
    }
    assert re.fullmatch(r"[a-z][a-z0-9_]*", measure["name"])
    assert cut["use"] == "threshold"
    assert cut["column"] == measure["name"]


def test_what_files_labels_groups_and_terms_say_stays_text(tmp_path):
    table = labelled_texts(400, labels=("<b>|", "[x](y)"))
    table = table.append_column("group", pa.chunked_array([[EVIL[i % len(EVIL)] for i in range(400)]]))
    sentences = labelled_texts(40, labels=("<b>|", "[x](y)")).append_column(
        "term", pa.chunked_array([[EVIL[i % len(EVIL)] for i in range(40)]])
    )
    probe = make_probe(
        Labelled(sentences, files=({"name": EVIL[0], "rows": 1, "bytes": 2, "xxh3_128": "0"},)),
        "<b>|",
        ["<b>|", "[x](y)"],
        "term",
    )
    files = [{"name": f"{evil}.parquet", "rows": 1, "bytes": 2, "xxh3_128": "0"} for evil in EVIL]
    fit(
        table,
        tmp_path / "m.bin",
        PARAMS,
        positive="<b>|",
        by=["group"],
        probe=probe,
        files=files,
        warnings=EVIL,
        notes=EVIL,
    )
    page = (tmp_path / "m.bin.md").read_text()
    body = page.split("---\n", 2)[2]
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    for tag in ("<script", "<b>", "<a ", "<img", "<strong>bold", "<em>bold"):
        assert tag not in html
    assert html.count("<table>") == len(re.findall(r"^\|[-:|]+\|$", body, re.MULTILINE))
    assert "\u202e" not in page
    for line in body.split("\n"):
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line))
            assert cells >= 3


def test_the_card_is_a_function_of_the_figures_file(tmp_path):
    fit(labelled_texts(300), tmp_path / "m.bin", PARAMS, by=["source"])
    assert render_card(json.loads((tmp_path / "m.bin.json").read_text())) == (tmp_path / "m.bin.md").read_bytes()


def test_the_card_explains_every_reason_that_prepare_counts(tmp_path):
    facts = fit(labelled_texts(100), tmp_path / "m.bin", PARAMS)
    assert set(facts["rows"]) - {"read", "train", "held_out"} <= set(LEFT_OUT)


def test_no_number_in_the_files_is_nan(tmp_path):
    facts = fit(labelled_texts(20), tmp_path / "m.bin", PARAMS, test_share=0.5, by=["source"])

    def numbers(found):
        if isinstance(found, dict):
            for one in found.values():
                yield from numbers(one)
        elif isinstance(found, list):
            for one in found:
                yield from numbers(one)
        elif isinstance(found, float):
            yield found

    assert np.isfinite(list(numbers(facts))).all()
