"""refinedweb_lines: each switch has its effect, columns say what went, the share of words is DCLM's."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from pydantic import ValidationError

from tamis.stages.base import stage_class
from tamis.stages.refinedweb_lines import RefinedwebLines

PAGE = "\n".join(
    [
        "SHOUTING line",
        "A normal line of text, long enough to stay.",
        "20241231",
        "",
        "1,234 likes",
        "Menu",
        "3 items in cart today",
        "Read more...",
        "Sign-in to see all",
    ]
)


def stage(**config) -> RefinedwebLines:
    return RefinedwebLines(RefinedwebLines.Config(**config), name="refinedweb_lines")


def batch(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.large_string())})


def row(text: str, **config) -> dict[str, object]:
    return stage(**config).edit(batch(text)).to_pylist()[0]


def test_defaults_on_a_page_with_one_line_for_every_rule():
    assert row(PAGE) == {
        "text": "A normal line of text, long enough to stay.\n\n3 today\nto see all",
        "rw_lines_uppercase": 1,
        "rw_lines_numeric": 1,
        "rw_lines_counter": 1,
        "rw_lines_one_word": 1,
        "rw_lines_edited": 2,
        "rw_lines_removed": 5,
        "rw_words_removed_frac": 12 / 26,
    }


@pytest.mark.parametrize(
    ("switch", "line"),
    [
        ("uppercase", "SHOUTING LOUD"),
        ("numeric", "20241231"),
        ("counters", "12 followers"),
        ("min_words", "Menu"),
        ("items_in_cart", "3 items in cart today"),
        ("read_more", "All news today Read more..."),
        ("sign_in", "Sign-in to see all"),
    ],
)
def test_each_rule_can_be_switched_off(switch, line):
    text = f"one two three\n{line}\nfour five six"
    others = {"min_words": 0} if switch == "numeric" else {}
    assert row(text, **others)["text"] != text
    for off in (False, 0, None) if switch in ("uppercase", "numeric", "min_words") else (False,):
        result = row(text, **others | {switch: off})
        assert (result["text"], result["rw_lines_removed"], result["rw_words_removed_frac"]) == (text, 0, 0.0)


def test_thresholds_are_the_ones_asked_for():
    assert row("ABc de", uppercase=0.3)["text"] == ""
    assert row("ABc de", uppercase=0.4)["text"] == "ABc de"
    assert row("one 123", numeric=0.4)["text"] == ""
    assert row("one two three", min_words=4)["text"] == ""
    assert row("one items in cart two", phrase_max_words=4)["text"] == "one items in cart two"
    assert row("one items in cart two", phrase_max_words=5)["text"] == "one two"


def test_share_of_words_is_exact_at_the_cut_and_null_without_words():
    """20 words less one is 0.05 exactly, which the rule `<= 0.05` must keep."""
    words = "\n".join(["one two three four five six seven eight nine ten", "a b c d e f g h i", "Menu"])
    assert row(words)["rw_words_removed_frac"] == 0.05
    assert row("... --- ...")["rw_words_removed_frac"] is None
    assert row("")["rw_words_removed_frac"] is None


def test_white_space_is_stripped_between_rules_as_dclm_does():
    assert row(" 12\nsome words")["text"] == "some words"
    assert row("some words\n 12\nmore words", min_words=0)["text"] == "some words\n 12\nmore words"


def test_nulls_empty_batches_and_slices():
    table = batch("skip me", None, "", PAGE).slice(1)
    out = stage().edit(table)
    assert out["text"].to_pylist() == ["", "", row(PAGE)["text"]]
    assert [(f.name, f.type) for f in out.schema][1:] == [(c.name, c.type) for c in stage().adds]
    assert stage().edit(table.slice(0, 0)).num_rows == 0


def test_a_text_never_depends_on_its_neighbours():
    texts = [PAGE, "", "One line only here.", f"{PAGE}\n" * 200, PAGE]
    whole = stage().edit(batch(*texts))
    assert whole == pa.concat_tables([stage().edit(batch(text)) for text in texts]).combine_chunks()


def test_it_is_an_edit_found_by_name_and_survives_pickling():
    assert stage_class("refinedweb_lines") is RefinedwebLines
    copy = pickle.loads(pickle.dumps(stage(min_words=0)))
    assert copy.kind == "edit"
    assert copy.edit(batch("Menu"))["text"].to_pylist() == ["Menu"]


@pytest.mark.parametrize("config", [{"min_words": -1}, {"uppercase": 1.5}, {"uppercase": True}, {"upper": 0.5}])
def test_senseless_settings_are_refused(config):
    with pytest.raises(ValidationError):
        RefinedwebLines.Config(**config)
