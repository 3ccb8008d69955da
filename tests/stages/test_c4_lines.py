"""c4_lines: each switch has its effect, columns say what went, text comes out as datatrove leaves it."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from pydantic import ValidationError

from tamis.stages.base import stage_class
from tamis.stages.c4_lines import C4Lines

PAGE = "\n".join(
    [
        "  This line stays as it is.  ",
        "No end here",
        "Too short.",
        "Please enable JavaScript now.",
        "See our privacy policy here.",
        "Cited text [1] stays here.",
        f"A word {'x' * 1001} is long.",
        "",
        "A block { opens here.",
        "Lorem ipsum dolor sit amet.",
        "It trails off...",
    ]
)


def stage(**config) -> C4Lines:
    return C4Lines(C4Lines.Config(**config), name="c4_lines")


def batch(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.large_string())})


def row(text: str, **config) -> dict[str, object]:
    return stage(**config).edit(batch(text)).to_pylist()[0]


def test_defaults_on_a_page_with_one_line_for_every_test():
    assert row(PAGE) == {
        "text": "This line stays as it is.\nCited text  stays here.\nA block { opens here.\nLorem ipsum dolor sit amet.",
        "c4_lines_long_word": 1,
        "c4_lines_no_punct": 3,
        "c4_lines_short": 1,
        "c4_lines_javascript": 1,
        "c4_lines_policy": 1,
        "c4_lines_removed": 7,
        "c4_citations": 1,
        "c4_curly_lines": 1,
        "c4_lorem_lines": 1,
    }


@pytest.mark.parametrize(
    ("switch", "column", "line"),
    [
        ("terminal_punct", "c4_lines_no_punct", "Here is no end"),
        ("min_words", "c4_lines_short", "Short."),
        ("max_word_length", "c4_lines_long_word", f"A word {'x' * 1001} is long."),
        ("javascript", "c4_lines_javascript", "Please enable JavaScript now."),
        ("policy", "c4_lines_policy", "This site uses cookies."),
        ("citations", "c4_citations", "A fact[1] is here."),
    ],
)
def test_each_test_can_be_switched_off(switch, column, line):
    on = row(line)
    assert on["text"] != line
    assert on[column] == 1
    for off in (False, 0, None) if switch.startswith("m") else (False,):
        result = row(line, **{switch: off})
        assert (result["text"], result[column]) == (line, 0)


def test_thresholds_are_the_ones_asked_for():
    assert row("One two three four.", min_words=5)["text"] == ""
    assert row("One two three four.", min_words=4)["text"] == "One two three four."
    assert row("One two three.", max_word_length=5)["text"] == ""
    assert row("One two three.", max_word_length=6)["text"] == "One two three."


def test_curly_and_lorem_count_only_where_datatrove_would_drop_the_document():
    """Its tests see only lines that passed those before: end, length and, for the bracket, javascript."""
    assert row("function() {\nNo end { lorem ipsum\nShort {.")["c4_curly_lines"] == 0
    assert row("JavaScript { is removed first.")["c4_curly_lines"] == 0
    assert row("A lorem ipsum javascript line.")["c4_lorem_lines"] == 1
    assert row("Cookie policy { is counted first.")["c4_curly_lines"] == 1


def test_edges_match_datatrove():
    """Three quirks kept: words count before citations go, no second strip, the text is stripped at the end."""
    assert row("[1] [2] one.")["text"] == "one."
    assert row("One two three. [1]\nFour five six.", terminal_punct=False)["text"] == "One two three. \nFour five six."
    assert row("One two three. [1]")["c4_lines_no_punct"] == 1


def test_nulls_empty_batches_and_slices():
    table = batch("skip me.", None, "", "One two three.\r\nFour five six.").slice(1)
    out = stage().edit(table)
    assert out["text"].to_pylist() == ["", "", "One two three.\nFour five six."]
    assert [(f.name, f.type) for f in out.schema][1:] == [(c.name, c.type) for c in stage().adds]
    assert stage().edit(table.slice(0, 0)).num_rows == 0


def test_a_text_never_depends_on_its_neighbours():
    texts = [PAGE, "", "One line only here.", PAGE * 3]
    whole = stage().edit(batch(*texts))
    assert whole == pa.concat_tables([stage().edit(batch(text)) for text in texts]).combine_chunks()


def test_it_is_an_edit_found_by_name_and_survives_pickling():
    assert stage_class("c4_lines") is C4Lines
    copy = pickle.loads(pickle.dumps(stage(terminal_punct=False)))
    assert copy.kind == "edit"
    assert copy.edit(batch("no end but kept"))["text"].to_pylist() == ["no end but kept"]


@pytest.mark.parametrize("config", [{"min_words": -1}, {"max_word_length": True}, {"terminal_punkt": False}])
def test_senseless_settings_are_refused(config):
    with pytest.raises(ValidationError):
        C4Lines.Config(**config)
