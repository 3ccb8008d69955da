"""`tamis train preselect` as a person types it: what was planted comes out, the sums hold, and the same bytes every time."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from click.testing import CliRunner
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from tamis.pipeline.cli import main
from tamis.pipeline.training import preselect
from tamis.pipeline.training.command_preselect import command
from tamis.pipeline.training.preselect import DEVIATIONS, Choosing, train_preselect
from tamis.pipeline.training.preselect_facts import between
from tamis.pipeline.training.preselect_pool import Groups, Question, read_pool
from tamis.scorers.fasttext import FastText
from tamis.scorers.fasttext_train import Params
from tamis.stages.errors import DataError, RecipeError

from ...runs import tamis
from .scored_texts import ABILITIES, PAIRS, SMALL, scored_texts, with_column, write_abilities, write_scored

PARAMS = Params(dim=8, bucket=2000, lr=0.5, epoch=10, word_ngrams=2)
ENDINGS = ("", ".json", ".md", ".html")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def question(folder, **more):
    return Question((str(folder),), ("*_bpc",), str(folder.parent / "abilities.yaml"), **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of the input, facts, MODEL) of a training on 600 documents in four domains."""
    folder = tmp_path_factory.mktemp("trained")
    write_scored(folder / "in")
    facts = train_preselect(question(folder / "in"), folder / "m.bin", params=PARAMS, test_share=0.2)
    return folder / "in", facts, folder / "m.bin"


def test_the_planted_domain_is_the_most_predictive_and_the_reversed_one_the_least(trained):
    _, facts, _ = trained
    domains = facts["preselect"]["domains"]
    assert [one["name"] for one in domains["most"]] == ["example.org", "example.de", "example.com", "example.net"]
    best, worst = domains["most"][0], domains["most"][-1]
    assert (best["mean_strength"], best["documents"], best["perfect"], best["negative"]) == (1.0, 150, 150, 0)
    assert (worst["mean_strength"], worst["perfect"], worst["positive"]) == (0.0, 0, 0)
    assert domains["most"][2]["mean_strength"] == pytest.approx(0.5, abs=0.1), "shuffled losses"
    assert all(len(one["examples"]) == 2 for one in domains["most"])


def test_a_scorer_learns_what_was_planted(trained):
    _, facts, model = trained
    fresh = scored_texts(50, seed=9)
    scores = FastText.load(model).score(fresh["text"].combine_chunks().cast(pa.large_string()))["1"].to_numpy()
    domain = np.arange(len(fresh)) % 4
    assert roc_auc_score(domain == 0, scores) > 0.9
    assert roc_auc_score(domain == 2, scores) < 0.2
    assert facts["held_out"]["auc"] > 0.85
    assert facts["preselect"]["agreement"]["spearman_strength"] > 0.5


def test_rows_read_are_used_or_counted(trained):
    rows = dict(trained[1]["rows"])
    assert rows.pop("read") == 600 == sum(rows.values())
    classes = trained[1]["preselect"]["classes"]
    assert rows["train"] + rows["held_out"] + rows["near_duplicates"] == 2 * classes["documents"]
    assert not any("chance" in warning for warning in trained[1]["warnings"])
    assert rows["not_chosen"] == 600 - 2 * classes["documents"]


def test_the_histogram_holds_every_document_and_both_classes(trained):
    folder, facts, _ = trained
    pool = read_pool(question(folder))
    found = facts["preselect"]["strength"]
    assert [one["documents"] for one in found["levels"]] == np.bincount(pool.agreeing, minlength=PAIRS + 1).tolist()
    size = facts["preselect"]["classes"]["documents"]
    assert sum(one["positive"] for one in found["levels"]) == found["levels"][-1]["positive"] == size
    assert sum(one["negative"] for one in found["levels"]) == size
    assert found["levels"][-1]["negative"] == 0
    assert found["perfect_by_chance"] == pytest.approx(600 / 24)


def test_figures_of_agreement_and_association_are_those_of_independent_tools(trained):
    folder, facts, model = trained
    pool = read_pool(question(folder))
    held = np.flatnonzero(pool.held_out(0.2))
    texts = pool.texts(held).combine_chunks()
    scores = FastText.load(model).score(texts)["1"].to_numpy()
    found = facts["preselect"]["agreement"]
    assert found["documents"] == len(held)
    assert found["spearman_strength"] == pytest.approx(spearmanr(scores, pool.agreeing[held]).statistic, abs=1e-5)
    assert found["spearman_chars"] == pytest.approx(spearmanr(scores, pool.chars[held]).statistic, abs=1e-5)
    along = facts["preselect"]["associations"]
    assert along["chars"]["spearman"] == pytest.approx(spearmanr(pool.chars, pool.agreeing).statistic, abs=1e-5)
    strength = pool.agreeing / PAIRS
    for name, groups in (("domain", pool.domain), ("lang", pool.by["lang"])):
        members = [strength[groups.codes == code] for code in range(len(groups.names))]
        apart = sum(len(own) * (own.mean() - strength.mean()) ** 2 for own in members)
        assert along[name]["eta2"] == pytest.approx(apart / ((strength - strength.mean()) ** 2).sum(), abs=1e-5)
    assert along["domain"]["eta2"] > 0.5
    assert along["lang"]["epsilon2"] < 0.05
    values = np.random.default_rng(0).random(4000)
    chance = between(Groups([str(i) for i in range(1000)], np.arange(4000, dtype=np.int32) % 1000), values)
    assert chance["eta2"] == pytest.approx(999 / 3999, abs=0.06), "what a thousand groups of four show by chance"
    assert chance["epsilon2"] < 0.05
    assert facts["groups"].keys() == {"source", "lang"}


def test_what_is_held_out_is_decided_by_the_hash_of_the_text_alone(trained, tmp_path):
    folder, facts, _ = trained
    held = read_pool(question(folder)).held_out(0.2)
    assert facts["rows"]["held_out"] > 0
    rest = write_scored(tmp_path / "in", scored_texts().filter(pa.array(~held)))
    again = train_preselect(question(rest), tmp_path / "m.bin", params=PARAMS, test_share=0.2)
    assert again["rows"]["held_out"] == 0
    assert again["held_out"] is None
    assert again["preselect"]["agreement"]["spearman_strength"] is None
    assert "nothing is held out" in "\n".join(again["warnings"])


def test_two_processes_write_the_same_bytes(tmp_path):
    folder = write_scored(tmp_path / "in")
    hashes = []
    for name in ("a", "b"):
        out = tmp_path / name / "m.bin"
        told = tamis(
            "train",
            "preselect",
            folder,
            "--loss",
            "*_bpc",
            "--abilities",
            tmp_path / "abilities.yaml",
            "--out",
            out,
            *SMALL,
        )
        hashes.append([xxhash.xxh3_128_hexdigest((tmp_path / name / f"m.bin{end}").read_bytes()) for end in ENDINGS])
        assert "in perfect order" in told
        assert sorted(path.name for path in out.parent.iterdir()) == sorted(f"m.bin{end}" for end in ENDINGS)
        assert str(tmp_path) not in (tmp_path / name / "m.bin.json").read_text()
    assert hashes[0] == hashes[1]


def test_what_is_there_is_overwritten_only_by_force(tmp_path):
    folder = write_scored(tmp_path / "in")
    (tmp_path / "m.bin.html").write_text("old")
    with pytest.raises(RecipeError, match=r"m\.bin\.html exists; --force overwrites"):
        train_preselect(question(folder), tmp_path / "m.bin", params=PARAMS)
    assert (tmp_path / "m.bin.html").read_text() == "old"
    train_preselect(question(folder), tmp_path / "m.bin", params=PARAMS, force=True)
    assert (tmp_path / "m.bin.html").read_text() != "old"


def test_the_seed_and_the_cap_decide_the_draw(tmp_path):
    folder = write_scored(tmp_path / "in")
    shown = []
    for seed in (0, 0, 1):
        facts = train_preselect(
            question(folder),
            tmp_path / f"{len(shown)}.bin",
            choosing=Choosing(per_class=40),
            params=Params(dim=8, bucket=2000, seed=seed),
        )
        assert facts["preselect"]["classes"]["documents"] == 40
        shown.append((facts["training"]["words"], facts["training"]["tokens"]))
    assert shown[0] == shown[1] != shown[2]


def test_by_domain_every_document_has_the_strength_of_its_domain(tmp_path):
    folder = write_scored(tmp_path / "in")
    facts = train_preselect(question(folder), tmp_path / "m.bin", choosing=Choosing(level="domain"), params=PARAMS)
    found = facts["preselect"]
    assert found["level"] == "domain"
    ones = {one["name"]: (one["positive"], one["negative"]) for one in found["domains"]["most"]}
    assert ones["example.org"][0] == 150
    assert ones["example.net"] == (0, 150)
    assert found["classes"]["strongest_negative"] < found["classes"]["weakest_positive"] <= 1.0
    assert any("mean strength of its domain" in note for note in facts["notes"])
    with pytest.raises(DataError, match="--min-domain admits smaller ones"):
        train_preselect(
            question(folder), tmp_path / "n.bin", choosing=Choosing(level="domain", min_domain=1000), params=PARAMS
        )


def test_nested_models_are_warned_of_and_both_classes_shrink(tmp_path):
    table = scored_texts().take(np.arange(0, 600, 4))  # the domain in perfect order
    for name, change in (("tiny_bpc", 0.9), ("small_bpc", 0.8)):
        values = table[name].to_pylist()
        table = with_column(table, name, [change if i % 15 == 0 else loss for i, loss in enumerate(values)])
    folder = write_scored(tmp_path / "in", table)
    facts = train_preselect(question(folder), tmp_path / "m.bin", params=PARAMS)
    assert facts["preselect"]["classes"]["documents"] == 10
    assert any("the models are nested" in warning for warning in facts["warnings"])


def test_what_is_doubtful_is_said(tmp_path):
    table = scored_texts(40)
    tiny, large = table["tiny_bpc"].to_pylist(), table["large_bpc"].to_pylist()
    small = [tiny[i] if i % 4 == 3 else loss for i, loss in enumerate(table["small_bpc"].to_pylist())]
    table = with_column(table, "small_bpc", small)
    table = with_column(table, "large_bpc", [None if i % 5 == 0 else loss for i, loss in enumerate(large)])
    folder = write_scored(tmp_path / "in", table.drop_columns(["medium_bpc", "url"]))
    facts = train_preselect(question(folder), tmp_path / "m.bin", params=PARAMS)
    told = "\n".join(facts["warnings"])
    for words in (
        "no loss column for medium of the abilities file",
        "3 models make 4 levels",
        "32 documents have equal losses for two models",
        "32 of 160 rows lack a loss",
        "no document has a domain",
        "documents per class: a scorer that learns from so few is rough",
    ):
        assert words in told


def test_losses_that_are_noise_are_said_to_be(tmp_path):
    table = scored_texts(160).take(np.arange(1, 640, 4))  # the domain of shuffled losses
    facts = train_preselect(question(write_scored(tmp_path / "in", table)), tmp_path / "m.bin", params=PARAMS)
    told = "\n".join(facts["warnings"])
    assert "in perfect order where chance gives 7: the losses hardly follow the abilities" in told
    assert "one domain gives 100 % of the positives" in told


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        (lambda loss: -loss + 5, "none of 150 documents orders the models as their abilities do"),
        (lambda loss: 1.0, "none of 150 documents"),
    ],
)
def test_an_empty_class_is_an_error(tmp_path, losses, told):
    table = scored_texts().take(np.arange(0, 600, 4))
    for name in ABILITIES:
        table = with_column(table, f"{name}_bpc", [losses(loss) for loss in table[f"{name}_bpc"].to_pylist()])
    with pytest.raises(DataError, match=told):
        train_preselect(question(write_scored(tmp_path / "in", table)), tmp_path / "m.bin", params=PARAMS)
    assert not list(tmp_path.glob("m.bin*"))


def test_all_in_perfect_order_is_an_error(tmp_path):
    table = scored_texts().take(np.arange(0, 600, 4))
    with pytest.raises(DataError, match=r"all of 150 documents order the models .* are nested"):
        train_preselect(question(write_scored(tmp_path / "in", table)), tmp_path / "m.bin", params=PARAMS)


def test_the_card_lists_deviations_and_how_labels_came_about(trained):
    card = trained[2].with_name("m.bin.md").read_text("utf-8")
    plain = re.sub(r"\\(.)", r"\1", card)
    for line in DEVIATIONS:
        assert line in plain
    assert "the share of the 6 pairs of 4 models" in plain
    assert "large > medium > small > tiny" in plain


def test_the_json_is_what_was_returned(trained):
    assert json.loads(trained[2].with_name("m.bin.json").read_text("utf-8")) == json.loads(json.dumps(trained[1]))


def test_equal_abilities_end_with_exit_code_2(tmp_path):
    folder = write_scored(tmp_path / "in")
    write_abilities(tmp_path, {**ABILITIES, "small": 40})
    call = (
        "train",
        "preselect",
        folder,
        "--loss",
        "*_bpc",
        "--abilities",
        tmp_path / "abilities.yaml",
        "--out",
        tmp_path / "m",
    )
    told = tamis(*call, code=2)
    assert "medium, small are equally able (40)" in told
    assert "Traceback" not in told


def test_means_per_token_need_one_tokenizer(tmp_path):
    write_scored(tmp_path / "in", scored_texts(suffix="_ppl"))
    with pytest.raises(RecipeError, match="--same-tokenizer"):
        train_preselect(
            Question((str(tmp_path / "in"),), ("*_ppl",), str(tmp_path / "abilities.yaml")),
            tmp_path / "m.bin",
            params=PARAMS,
        )


def test_the_defaults_of_the_command_are_those_of_the_method():
    defaults: dict[str, Any] = {str(option.name): option.default for option in command.params}
    params = {name: defaults[name] for name in asdict(preselect.PARAMS) if name not in ("loss", "lr_update_rate")}
    assert Params(**params) == preselect.PARAMS == Params(dim=100, epoch=3, lr=0.1, word_ngrams=2, min_count=1)
    assert preselect.PARAMS.loss == "softmax"
    choosing = Choosing(*(defaults[name] for name in ("level", "per_class", "min_domain")))
    assert choosing == Choosing() == Choosing("document", 200_000, 10)
    assert defaults["min_chars"] == Question.min_chars == 200


def test_the_options_of_the_command_reach_the_training(tmp_path):
    folder = write_scored(
        tmp_path / "in", scored_texts(40, suffix="_loss").append_column("body", pa.array(["x"] * 160))
    )
    (tmp_path / "tokenizer.json").write_text("{}")
    own = ["--same-tokenizer", str(tmp_path / "tokenizer.json")] * 4
    call = [
        str(folder),
        "--loss",
        "*_loss",
        "--abilities",
        str(tmp_path / "abilities.yaml"),
        "--out",
        str(tmp_path / "m.bin"),
    ]
    call += [
        "--per-token",
        *own,
        "--domain",
        "source",
        "--by",
        "lang",
        "--min-chars",
        "310",
        "--per-class",
        "20",
        *SMALL,
    ]
    call += ["--level", "domain", "--min-domain", "3", "--test-share", "25%", "--seed", "7"]
    done = CliRunner().invoke(main, ["train", "preselect", *call])
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "m.bin.json").read_text("utf-8"))
    found = facts["preselect"]
    assert (found["level"], found["domains"]["from"]) == ("domain", "column source")
    assert found["options"] == {"min_chars": 310, "per_class": 20, "min_domain": 3}
    assert facts["groups"].keys() == {"lang"}
    assert (facts["test_share"], facts["parameters"]["seed"], facts["parameters"]["dim"]) == (0.25, 7, 8)
    assert found["classes"]["documents"] == 20
    assert facts["rows"]["short"] > 0
    refused = CliRunner().invoke(main, ["train", "preselect", *call, "--force", "--dim", "0"])
    assert refused.exit_code == 2
    assert CliRunner().invoke(main, ["train", "preselect", *call, "--force", "--text", "body"]).exit_code == 1
