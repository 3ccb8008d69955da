"""The abilities file and the loss columns: who belongs to whom, and every way in which they do not fit."""

from __future__ import annotations

import pytest

from tamis.pipeline.training.abilities import check_units, find_models, read_abilities
from tamis.stages.errors import RecipeError

COLUMNS = {"text": False, "small_bpc": True, "large_bpc": True, "small_nll": True, "large_ppl": True, "note_bpc": False}


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> str:
        (tmp_path / "abilities.yaml").write_text(text, "utf-8")
        return str(tmp_path / "abilities.yaml")

    return written


def test_columns_meet_models_by_what_the_wildcard_stands_for_the_most_able_first(write):
    models = find_models(["[sl]*_bpc"], COLUMNS, write("small: 30\nlarge: 61.5\nother: 3\n"))
    assert models.names == ("large", "small")
    assert models.columns == ("large_bpc", "small_bpc")
    assert models.array.tolist() == [61.5, 30.0]
    assert models.unused == ("other",)
    assert models.tasks == ()


def test_plain_names_meet_models_without_their_unit_or_as_they_are(write):
    path = write("small: 30\nlarge_ppl: 61.5\n")
    models = find_models(["small_nll", "large_ppl"], COLUMNS, path)
    assert dict(zip(models.names, models.columns)) == {"small": "small_nll", "large_ppl": "large_ppl"}


def test_a_prefix_works_like_a_suffix(write):
    models = find_models(["bpc_*"], {"bpc_a": True, "bpc_b": True}, write("a: 1\nb: 2\n"))
    assert models.names == ("b", "a")


def test_tasks_are_averaged(write):
    read, tasks = read_abilities(write("small: {arc: 10, boolq: 20}\nlarge: {boolq: 45, arc: 15}\n"))
    assert {name: found.value for name, found in read.items()} == {"small": 15.0, "large": 30.0}
    assert tasks == ("arc", "boolq")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("small: {arc: 10, boolq: 20}\nlarge: {arc: 30}\n", r"yaml:2: large: lacks boolq"),
        ("small: {arc: 10}\nlarge: 30\n", r"large: lacks arc"),
        ("small: good\nlarge: 30\n", r"yaml:1: small: 'good' is no ability"),
        ("small: true\nlarge: 30\n", r"small: True is no ability"),
        ("small: .nan\nlarge: 30\n", r"small: nan is no ability"),
        ("small: {arc: [1]}\nlarge: {arc: 2}\n", r"small: arc: \[1\] is no ability"),
        ("small: {}\nlarge: {arc: 2}\n", r"small: has no task"),
        ("- small\n", r"model: NUMBER"),
        ("{}\n", r"holds no model"),
        ("small: 30\nlarge: 30.0\n", r"large, small are equally able \(30\)"),
        ("smal: 30\nlarge: 31\n", r"column small_bpc.*Did you mean: smal\?"),
        ("small: 1\nsmall: 2\n", r"not valid YAML"),
    ],
)
def test_abilities_that_do_not_fit_are_named(write, text, told):
    with pytest.raises(RecipeError, match=told):
        find_models(["small_bpc", "large_bpc"], COLUMNS, write(text))


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (["*_bcp"], r"no column matches.*Did you mean: "),
        (["small_bpc"], r"is one model"),
        (["*_bpc"], r"column note_bpc holds no numbers"),
        (["small_bpc", "small_nll"], r"small_bpc and small_nll would both be of model small"),
    ],
)
def test_columns_that_do_not_fit_are_named(write, patterns, told):
    with pytest.raises(RecipeError, match=told):
        find_models(patterns, COLUMNS, write("small: 1\nlarge: 2\nnote: 3\n"))


def test_all_equal_models_are_named_and_no_other(write):
    columns = {"a_bpc": True, "b_bpc": True, "c_bpc": True, "d_bpc": True}
    with pytest.raises(RecipeError, match="b, c, d are equally able"):
        find_models(["*_bpc"], columns, write("a: 4\nb: 2\nc: 2\nd: 2.0\n"))


def test_means_per_token_need_one_tokenizer(write, tmp_path):
    path = write("a: 1\nb: 2\n")
    same = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in same:
        file.write_text("{}")
    (tmp_path / "c.json").write_text("{ }")
    for name in ("ppl", "nll_mean", "nll_per_token", "avg_loss"):
        columns = {f"a_{name}": True, f"b_{name}": True}
        models = find_models([f"*_{name}"], columns, path)
        with pytest.raises(RecipeError, match="means per token: models that cut"):
            check_units(models, per_token=False, tokenizers=())
        check_units(models, per_token=False, tokenizers=list(map(str, same)))
        with pytest.raises(RecipeError, match=r"names 1 of 2"):
            check_units(models, per_token=False, tokenizers=[str(same[0])])
        with pytest.raises(RecipeError, match="is another tokenizer"):
            check_units(models, per_token=False, tokenizers=[str(same[0]), str(tmp_path / "c.json")])
        with pytest.raises(RecipeError, match="No such file"):
            check_units(models, per_token=False, tokenizers=[str(same[0]), str(tmp_path / "none.json")])


def test_totals_need_no_tokenizer_unless_the_person_says_that_they_are_means(write):
    path = write("mean: 1\nb: 2\n")  # a model may be called like a unit
    models = find_models(["*_nll"], {"mean_nll": True, "b_nll": True}, path)
    check_units(models, per_token=False, tokenizers=())
    with pytest.raises(RecipeError, match="means per token"):
        check_units(models, per_token=True, tokenizers=())
    with pytest.raises(RecipeError, match="not needed"):
        check_units(models, per_token=False, tokenizers=["x"])


def test_two_units_are_refused(write):
    models = find_models(["small_bpc", "large_ppl"], COLUMNS, write("small: 1\nlarge: 2\n"))
    with pytest.raises(RecipeError, match="a mix of bpc and ppl"):
        check_units(models, per_token=False, tokenizers=())
