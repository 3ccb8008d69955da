"""normalize: what it changes, that it changes nothing else, and that a second time changes nothing."""

from __future__ import annotations

import pickle
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.stages.base import stage_class
from tamis.stages.normalize import Normalize


def stage(**config) -> Normalize:
    return Normalize(Normalize.Config(**config), name="normalize")


def batch(*texts: str | None, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"text": pa.array(texts, kind or pa.large_string())})


def edited(*texts: str, **config) -> list[str]:
    return stage(**config).edit(batch(*texts))["text"].to_pylist()


PIECES = [
    "a",
    "e",
    "\u0301",
    "\u0327",
    "\u212b",
    "\u1100",
    "\u1161",
    "\r",
    "\n",
    "\x00",
    "\x85",
    "\u2029",
    "\ufeff",
    " ",
    "\u3000",
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(st.characters(codec="utf-8"), max_size=3))).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, max_size=4), st.sampled_from([None, 1, 2]), st.booleans())
def test_a_second_edit_changes_nothing(texts, max_newlines, strip):
    once = stage(max_newlines=max_newlines, strip=strip).edit(batch(*texts))
    again = stage(max_newlines=max_newlines, strip=strip).edit(once.select(["text"]))
    assert again["text"] == once["text"]
    assert all(unicodedata.is_normalized("NFC", text) for text in once["text"].to_pylist())


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=4))
def test_a_text_never_depends_on_its_neighbours(left, right):
    parts = [stage(strip=True).edit(batch(*texts)) for texts in (left, right)]
    assert stage(strip=True).edit(batch(*left, *right)).combine_chunks() == pa.concat_tables(parts).combine_chunks()


def test_line_endings_controls_and_composition():
    assert edited("a\r\nb\rc\fd\x85e\u2028f", "\ufeffx\x00y\x1b[0m\tz", "Cafe\u0301 A\u030a 가") == [
        "a\nb\nc\nd\ne\nf",
        "xy[0m\tz",
        "Café Å 가",
    ]


def test_counts_say_what_was_removed_and_rewritten():
    table = stage().edit(batch("a\r\nb\r\x00\ufeff\x7f", "plain", "e\u0301"))
    assert table["normalize_controls"].to_pylist() == [3, 0, 0]
    assert table["normalize_line_breaks"].to_pylist() == [2, 0, 0]
    assert [(f.name, f.type) for f in table.schema][1:] == [(c.name, c.type) for c in stage().adds]


def test_joiners_and_no_break_spaces_stay():
    text = "می\u200cخواهم 👩\u200d👩 soft\u00adhyphen 10\u00a0km \u200bzero"
    assert edited(text) == [text]


def test_max_newlines_cuts_longer_runs_only_when_asked():
    text = "a\n\n\n\nb\n\nc\r\n\r\n\r\nd"
    assert edited(text) == ["a\n\n\n\nb\n\nc\n\n\nd"]
    assert edited(text, max_newlines=2) == ["a\n\nb\n\nc\n\nd"]
    assert edited(text, max_newlines=1) == ["a\nb\nc\nd"]


def test_strip_takes_white_space_of_every_script_only_when_asked():
    assert edited("\u3000 a \n") == ["\u3000 a \n"]
    assert edited("\u3000 a \n", " \u00a0 ", strip=True) == ["a", ""]


def test_repair_mends_mojibake_only_when_asked():
    assert edited("schÃ¶n &amp; gut") == ["schÃ¶n &amp; gut"]
    assert edited("schÃ¶n &amp; gut", "plain", "“quoted” ﬁ Ａ", repair=True) == [
        "schön & gut",
        "plain",
        "“quoted” ﬁ Ａ",
    ]


def test_repair_skips_only_texts_that_ftfy_leaves_alone():
    import ftfy

    plain = "".join(chr(code) for code in range(0x7F) if chr(code) not in "&\x1b")
    assert ftfy.fix_text(plain, fix_line_breaks=False, remove_control_chars=False) == plain
    assert edited("a\x1b[31mb", "AT&amp;T", repair=True) == ["ab", "AT&T"]


def test_a_batch_that_needs_nothing_comes_back_as_the_same_buffers():
    table = batch("plain\n\ttext", "déjà vu", "हिन्दी")
    out = stage().edit(table)
    assert out["text"].chunk(0).buffers()[2].address == table["text"].chunk(0).buffers()[2].address


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_nulls_become_empty_texts_and_empty_batches_stay_empty(kind):
    out = stage().edit(batch(None, "a\r", None, kind=kind))
    assert out["text"].to_pylist() == ["", "a\n", ""]
    assert out["text"].type == pa.large_string()
    assert stage(repair=True, strip=True).edit(batch(kind=kind)).num_rows == 0


def test_chunks_and_slices_are_read_where_they_lie():
    table = pa.concat_tables([batch("x\r", "a\x00"), batch("e\u0301", "y\r")]).slice(1, 2)
    assert stage().edit(table)["text"].to_pylist() == ["a", "é"]


def test_one_huge_text_is_edited():
    [text] = edited("line\r\n" * 500_000 + "e\u0301")
    assert text == "line\n" * 500_000 + "é"


def test_fingerprint_names_the_unicode_version_and_ftfy_where_it_is_used():
    assert unicodedata.unidata_version in stage().fingerprint()
    assert "ftfy" in stage(repair=True).fingerprint()
    assert "ftfy" not in stage().fingerprint()


def test_it_is_an_edit_found_by_name_and_survives_pickling():
    assert stage_class("normalize") is Normalize
    copy = pickle.loads(pickle.dumps(stage(strip=True)))
    assert copy.kind == "edit"
    assert copy.edit(batch(" a\r "))["text"].to_pylist() == ["a"]


@pytest.mark.parametrize("config", [{"max_newlines": 0}, {"max_newlines": -1}, {"newlines": 2}])
def test_senseless_settings_are_refused(config):
    with pytest.raises(ValidationError):
        Normalize.Config(**config)
