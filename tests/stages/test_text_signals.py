"""Published values of datatrove, Dolma and DCLM come out of the stage, and its presets drop what their filters drop."""

from __future__ import annotations

import pickle
import unicodedata
from typing import Any

import pyarrow as pa
import pytest

from tamis.stages.rules import Rules, RulesConfig
from tamis.stages.text_signals import SIGNALS, TextSignals, TextSignalsConfig

FRODO = (
    "Frodo Baggins was a hobbit of the Shire who inherited the One Ring from his cousin Bilbo and set out with three "
    "friends to bring it to Mordor, where alone it could be destroyed."
)


def stage(wanted: frozenset[str] | None = None) -> TextSignals:
    made = TextSignals(TextSignalsConfig(), name="text_signals")
    if wanted is not None:
        made.select(wanted)
    return made


def measure(*texts: str | None, wanted: frozenset[str] | None = None) -> list[dict[str, Any]]:
    return stage(wanted).measure(pa.table({"text": pa.array(texts, pa.large_string())})).to_pylist()


def failed(preset: str, text: str, **changes: Any) -> list[str]:
    """The rules of a preset that a text fails, in order; nulls pass."""
    rules = Rules(RulesConfig(preset=preset, set={f"{preset}.{k}": v for k, v in changes.items()}), name="rules")
    rules.bind({})
    table = stage(rules.plain_needs).measure(pa.table({"text": pa.array([text], pa.large_string())}))
    for name in ("c4_curly_lines", "c4_lorem_lines"):
        if name in rules.plain_needs:
            table = table.append_column(name, pa.array([0], pa.int32()))
    decided = rules.decide(table).to_pylist()[0]
    return [name.partition(".")[2] for name, passed in decided.items() if passed is False]


# dolma/tests/python/test_gopher.py at HEAD: the thirteen attributes of its first text, by their order there
def test_dolma_attributes_of_its_own_test_text() -> None:
    row = measure("This is a test.")[0]
    named = {
        "top_2gram_dolma": 0.5,
        "top_3gram_dolma": 0.5833333333333334,
        "top_4gram_dolma": 1.0,
        "characters": 15,
        "words_dolma": 4,
        "median_word_length_dolma": 3.0,
        "symbol_ratio_dolma": 0.0,
        "alpha_word_frac_dolma": 1.0,
        "stop_words_dolma": 0,
        "bullet_line_frac_dolma": 0.0,
        "ellipsis_line_frac_dolma": 0.0,
        "dup_line_frac_dolma": 0.0,
        "dup_line_char_frac_dolma": 0.0,
    }
    assert {name: row[name] for name in named} == named
    assert [row[f"dup_{n}gram_dolma"] for n in range(5, 11)] == [None] * 6  # no such n-gram: Dolma writes no attribute


def test_dolma_attributes_of_its_other_test_texts() -> None:
    lines = "This is a sentence. \n  \n This is another sentence.\n\n  This is a third sentence."
    row = measure(lines)[0]
    assert [row[f"top_{n}gram_dolma"] for n in (2, 3, 4)] == [
        0.3050847457627119,
        0.23728813559322035,
        0.2711864406779661,
    ]
    assert [row[f"dup_{n}gram_dolma"] for n in range(5, 11)] == [0.0] * 6
    assert (row["characters"], row["words_dolma"], row["median_word_length_dolma"]) == (79, 13, 4.0)
    assert measure("T h i s \n    \n\n\n    isoneword !!!")[0]["words_dolma"] == 6
    assert [r["stop_words_dolma"] for r in measure("The.and.that", "The and that")] == [0, 2]


# dclm/tests/baselines/mappers/filters/test_content_filters.py at HEAD
@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("Hello, World.", "dup_line_frac_dclm", 0.0),
        ("Hello\nHello\n\n\n\nHello", "dup_line_frac_dclm", 1.0),
        ("Hello\nHello\n\n\n\nHello", "dup_line_char_frac_dclm", 1.0),
        ("Hello, World.\nHello, World.\n\nHello", "dup_line_frac_dclm", 2 / 3),
        ("Hello, World.\nHello, World.\n\nHello", "dup_line_char_frac_dclm", 26 / 31),
        ("Hello, World.\n\nHello, World.\n\nHello, World.\nHello", "dup_para_frac_dclm", 2 / 3),
        ("Hello, World.\n\nHello, World.\n\nHello, World.\nHello", "dup_para_char_frac_dclm", 26 / 45),
        ("hello", "top_2gram_dclm", None),
        ("hello", "dup_5gram_dclm", None),
        ("hello world hello world hello world", "top_2gram_dclm", 1.0),
        ("hello world hello world hello world", "top_3gram_dclm", 1.0),
        ("hello world hello world hello world", "top_4gram_dclm", 40 / 30),
        ("hello      world hello apple.... world hello\n world hello", "top_2gram_dclm", 30 / 40),
        ("hello      world hello apple.... world hello\n world hello", "top_3gram_dclm", 30 / 40),
        ("hello      world hello apple.... world hello\n world hello", "top_4gram_dclm", 0.0),
        ("a b a b a b ab cd ab cd ab cd abc def abc def", "top_2gram_dclm", 12 / 30),
        ("a b a b a b abc def abc def ab cd ab cd ab cd", "top_2gram_dclm", 12 / 30),
        (
            "hello world hello\n world hello. apple world hello world hello world hello world",
            "dup_5gram_dclm",
            60 / 65,
        ),
    ],
)
def test_dclm_fractions_of_its_own_test_texts(text: str, name: str, value: float | None) -> None:
    assert measure(text)[0][name] == value


# datatrove/tests/pipeline/filters/test_filters.py: texts that must be dropped, and the reason
@pytest.mark.parametrize(
    ("preset", "text", "rule", "changes"),
    [
        ("gopher_repetition", "I am your father.\n" * 4, "dup_line_frac", {}),
        ("gopher_repetition", "I am your father.\n\n" * 4, "dup_para_frac", {}),
        (
            "gopher_repetition",
            "I am groot.\n\nYou are a wizard.\n\nI am your father.\n\n" + f"{'x' * 30}.\n\n" * 2,
            "dup_para_char_frac",
            {},
        ),
        (
            "gopher_repetition",
            "I am groot.\nYou are a wizard.\nI am your father.\n" + f"{'x' * 40}.\n" * 2,
            "dup_line_char_frac",
            {},
        ),
        ("gopher_repetition", "I am Frank, I am Frank, I am Frank", "top_2gram", {}),
        ("gopher_repetition", "I am Frank, you are Jhon. I am Frank. I am Frank you are Jhon", "top_3gram", {}),
        (
            "gopher_repetition",
            "I am a solo traveller " * 4 + FRODO + " Nobody who saw him go thought him able to.",
            "dup_5gram",
            {},
        ),
        ("gopher_quality", "I am too small...", "words", {}),
        ("gopher_quality", "I am " * 20, "mean_word_length", {"words_min": 10}),
        ("gopher_quality", "interconnection " * 20, "mean_word_length", {"words_min": 10}),
        ("gopher_quality", "# comment " * 20, "hash_ratio", {"words_min": 10}),
        ("gopher_quality", "... comment " * 20, "ellipsis_ratio", {"words_min": 10}),
        ("gopher_quality", "\n".join(["- bullet"] * 20), "bullet_line_frac", {"words_min": 10}),
        (
            "gopher_quality",
            "\n".join(["the bullet ends here..."] * 20),
            "ellipsis_line_frac",
            {"ellipsis_ratio_max": 1},
        ),
        ("gopher_quality", "123 1234 12345 " * 20, "alpha_word_frac", {}),
        ("gopher_quality", "kitten house purrs loud " * 20, "stop_words", {}),
        ("fineweb", "\n".join(["a"] * 50), "line_punct_ratio", {}),
        ("fineweb", "\n".join(["A line."] * 50), "short_line_ratio", {}),
        ("fineweb", "\n".join(["This line is longer than thirty characters."] * 2), "char_dup_ratio", {}),
        ("fineweb", "Nothing but one long and lonely line.\n\n\n\n\n\n", "list_ratio", {}),
        ("c4", "One sentence. Two sentences. Three. Four.", "sentences", {}),
    ],
)
def test_datatrove_presets_drop_its_probe_texts_for_its_reason(
    preset: str, text: str, rule: str, changes: dict[str, Any]
) -> None:
    assert failed(preset, text, **changes)[0] == rule


@pytest.mark.parametrize("preset", ["gopher_repetition", "fineweb", "c4"])
def test_datatrove_presets_keep_plain_prose(preset: str) -> None:
    prose = f"{FRODO} It was not easy. They met an old king who did not trust them. He did help! Did he regret it?"
    assert failed(preset, prose) == []


@pytest.mark.parametrize("preset", ["gopher_repetition", "gopher_repetition@dclm", "fineweb", "refinedweb"])
def test_presets_drop_a_text_without_text(preset: str) -> None:
    assert failed(preset, "")
    assert preset == "gopher_repetition" or failed(preset, " \n ")


def test_a_value_that_equals_a_threshold_is_on_the_references_side_of_it() -> None:
    lines = [f"Line number {i} of ten lines." for i in range(7)]
    text = "\n".join([*lines, *lines[:3]])  # 3 repeated lines of 10: not more than 0.30
    assert measure(text)[0]["dup_line_frac"] == 0.3
    assert "dup_line_frac" not in failed("gopher_repetition", text)
    assert "dup_line_frac" in failed("gopher_repetition", text + "\n" + lines[3])


def test_sentences_count_lines_and_full_stops_but_not_abbreviations() -> None:
    texts = (
        "",
        "No end",
        "Mr. Smith went. He came back!",
        'He said "Go." Then he left',
        "One.\nTwo.\n\nThree",
        "1.5 is... odd",
    )
    assert [row["sentences"] for row in measure(*texts)] == [0, 1, 2, 2, 3, 1]


def test_null_texts_have_null_values_and_nothing_is_nan() -> None:
    rows = measure(None, "", "  ", "\0", "a")
    assert set(rows[0].values()) == {None}
    assert all(value == value for row in rows for value in row.values())
    table = stage().measure(pa.table({"text": pa.nulls(3, pa.large_string())}))
    assert table.num_rows == 3
    assert all(column.null_count == 3 for column in table.columns)


def test_only_wanted_columns_are_measured_and_have_the_same_values() -> None:
    text = FRODO * 2 + "\n\n" + FRODO
    everything = measure(text)[0]
    for names in (
        {"words"},
        {"dup_5gram", "lines"},
        {"top_2gram_dclm"},
        {"characters", "symbol_ratio_dolma"},
        {"sentences"},
    ):
        assert measure(text, wanted=frozenset(names)) == [
            {name: everything[name] for name in everything if name in names}
        ]
    chosen = stage(frozenset({"words", "nothing_of_ours"}))
    assert [column.name for column in chosen.adds] == ["words"]
    assert stage(frozenset()).measure(pa.table({"text": ["a", "b"]})).num_columns == 0


def test_the_stage_travels_with_its_choice() -> None:
    chosen = pickle.loads(pickle.dumps(stage(frozenset({"words"}))))
    assert chosen.measure(pa.table({"text": ["one two"]})).to_pydict() == {"words": [2]}
    assert chosen.fingerprint() == f"unicode {unicodedata.unidata_version}"


def test_columns_come_with_the_types_they_declare() -> None:
    made = stage()
    table = made.measure(pa.table({"text": ["some text"]}))
    assert [(f.name, f.type) for f in table.schema] == [(c.name, c.type) for c in made.adds]
    assert len(SIGNALS) == len({signal.name for signal in SIGNALS})
