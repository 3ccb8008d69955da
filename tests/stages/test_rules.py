"""The rules stage: each option has its effect, names and order are stable, mistakes name the nearest right word."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from tamis.stages import _presets
from tamis.stages.base import stage_class
from tamis.stages.errors import RecipeError
from tamis.stages.rules import Rules, RulesConfig

QUALITY = """
source: a paper
params: {words_min: 50, words_max: 100000, alpha_min: 0.8}
nulls: pass
rules:
  words: words BETWEEN $words_min AND $words_max
  alpha: {sql: alpha_share >= $alpha_min, source: Table A1, nulls: fail}
"""
REPETITION = """
source: another
params: {dup_max: 0.3}
rules:
  dup_lines: dup_line_share <= $dup_max
"""


@pytest.fixture(autouse=True)
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of rule sets in place of configs/rules, whose contents are no concern of these tests."""
    folder = tmp_path / "rules"
    folder.mkdir()
    for name, text in {
        "gopher_quality": QUALITY,
        "gopher_quality@dolma": QUALITY.replace("words_min: 50", "words_min: 60"),
        "gopher_repetition": REPETITION,
        "gopher_repetition@dolma": REPETITION,
        "gopher_quality@dclm": QUALITY,
    }.items():
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(_presets, "FOLDER", folder)
    return folder


def stage(name: str = "rules", **config: Any) -> Rules:
    return Rules(RulesConfig.model_validate(config), name=name)


BATCH = pa.table(
    {
        "words": pa.array([10, 55, 200, None], pa.int32()),
        "alpha_share": pa.array([0.8, 0.79, None, 1.0], pa.float32()),
        "dup_line_share": pa.array([0.3, 0.31, 0.0, math.nan], pa.float32()),
        "lang": ["de", "en", "fr", None],
    }
)


def verdicts(rules: Rules, batch: pa.Table = BATCH) -> dict[str, list[bool | None]]:
    rules.check(batch.select(rules.needs).schema)
    found = rules.decide(batch.select(rules.needs))
    assert found.column_names == [rule.name for rule in rules.rules]
    assert all(column.type == pa.bool_() for column in found.columns)
    return found.to_pydict()


def test_the_stage_is_found_by_its_file_name() -> None:
    assert stage_class("rules") is Rules
    assert stage(rules={"a": "words > 1"}).kind == "decide"


def test_a_preset_gives_its_rules_in_order_with_source_params_and_three_valued_verdicts() -> None:
    rules = stage(preset="gopher_quality")
    assert verdicts(rules) == {
        "gopher_quality.words": [False, True, True, None],
        "gopher_quality.alpha": [True, False, None, True],  # float32(0.8) meets the threshold 0.8
    }
    words, alpha = rules.rules
    assert (words.nulls, words.source, words.needs) == ("pass", "a paper", ("words",))
    assert words.params == (("gopher_quality.words_max", 100000), ("gopher_quality.words_min", 50))
    assert words.sql == "words BETWEEN $words_min AND $words_max"
    assert (alpha.nulls, alpha.source) == ("fail", "Table A1")


def test_rules_stand_in_the_order_written_presets_before_own() -> None:
    rules = stage("mine", rules={"b": "words > 1", "a": "words > 2"}, preset=["gopher_repetition", "gopher_quality"])
    names = ["gopher_repetition.dup_lines", "gopher_quality.words", "gopher_quality.alpha", "mine.b", "mine.a"]
    assert [rule.name for rule in rules.rules] == list(verdicts(rules)) == names


def test_gopher_is_quality_and_repetition_in_every_variant() -> None:
    assert [r.name for r in stage(preset="gopher").rules] == [
        "gopher_quality.words",
        "gopher_quality.alpha",
        "gopher_repetition.dup_lines",
    ]
    dolma = stage(preset="gopher@dolma")
    assert [r.name.partition(".")[0] for r in dolma.rules] == [
        "gopher_quality@dolma",
        "gopher_quality@dolma",
        "gopher_repetition@dolma",
    ]
    assert verdicts(dolma)["gopher_quality@dolma.words"] == [False, False, True, None]
    assert "gopher@dclm" not in _presets.preset_names()


def test_set_moves_a_parameter_of_a_preset() -> None:
    rules = stage(preset="gopher", set={"gopher_quality.words_min": 5, "gopher_repetition.dup_max": 0.31})
    found = verdicts(rules)
    assert found["gopher_quality.words"] == [True, True, True, None]
    assert found["gopher_repetition.dup_lines"] == [True, True, True, None]
    assert ("gopher_quality.words_min", 5) in rules.rules[0].params


def test_off_leaves_a_rule_out() -> None:
    rules = stage(preset="gopher_quality", off=["gopher_quality.words"])
    assert list(verdicts(rules)) == ["gopher_quality.alpha"]
    assert rules.needs == ("alpha_share",)


def test_own_rules_take_params_and_quarantine_nulls() -> None:
    rules = stage("english", rules={"lang": "lang = $code AND words >= $min"}, params={"code": "en", "min": 55})
    assert verdicts(rules) == {"english.lang": [False, True, False, None]}
    (rule,) = rules.rules
    assert (rule.nulls, rule.needs) == ("quarantine", ("lang", "words"))
    assert rule.params == (("english.code", "en"), ("english.min", 55))


def test_an_own_rule_may_state_its_source_and_nulls() -> None:
    (rule,) = stage(rules={"long": {"sql": "words > 9", "source": "me", "nulls": "fail"}}).rules
    assert (rule.sql, rule.source, rule.nulls) == ("words > 9", "me", "fail")


def test_nulls_overrides_what_presets_and_own_rules_say() -> None:
    rules = stage(preset="gopher_quality", rules={"a": "words > 1"}, nulls="fail")
    assert [rule.nulls for rule in rules.rules] == ["fail"] * 3
    assert [rule.nulls for rule in stage(preset="gopher_quality", rules={"a": "words > 1"}).rules] == [
        "pass",
        "fail",
        "quarantine",
    ]


def test_bind_renames_the_columns_of_presets_and_leaves_own_rules() -> None:
    rules = stage(preset="gopher_quality", rules={"own": "words > 50"}, of="post")
    assert rules.of == "post"
    assert rules.plain_needs == {"words", "alpha_share"}
    assert rules.needs == ("words", "alpha_share")
    rules.bind({"words": "post_words", "alpha_share": "post_alpha_share"})
    assert rules.needs == ("post_words", "post_alpha_share", "words")
    assert [rule.needs for rule in rules.rules] == [("post_words",), ("post_alpha_share",), ("words",)]
    assert rules.rules[0].sql == "post_words BETWEEN $words_min AND $words_max"
    batch = pa.table({"post_words": [60], "post_alpha_share": [0.9], "words": [1]})
    found = verdicts(rules, batch)
    assert found == {"gopher_quality.words": [True], "gopher_quality.alpha": [True], "rules.own": [False]}


def test_a_rule_set_of_ones_own_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "house.yaml"
    path.write_text("params: {no: 20}\nrules:\n  off: words >= $no\n")  # YAML 1.2: these are strings
    assert verdicts(stage(preset=str(path))) == {"house.off": [False, True, True, None]}


VALUES = {"de": {"gopher_quality.words_min": 5, "min": 10.5}, "en": {"min": 60}}


def test_by_gives_each_group_its_values_and_the_others_the_defaults() -> None:
    rules = stage(
        preset="gopher_quality", rules={"own": "words >= $min"}, params={"min": 199.5}, by="lang", values=VALUES
    )
    batch = pa.concat_tables([BATCH, BATCH])
    assert verdicts(rules, batch) == {
        "gopher_quality.words": [True, True, True, None] * 2,
        "gopher_quality.alpha": [True, False, None, True] * 2,
        "rules.own": [False, False, True, None] * 2,
    }
    assert rules.needs[0] == "lang"
    assert [rule.needs for rule in rules.rules] == [("words", "lang"), ("alpha_share",), ("words", "lang")]
    assert rules.rules[2].params == (("rules.min", 199.5),)


def test_a_grouped_float_compares_as_a_plain_parameter_does() -> None:
    batch = pa.table({"x": pa.array([0.7, 0.65], pa.float32()), "lang": ["a", "b"]})
    values = {"a": {"min": 0.7}, "b": {"min": 0.65}}
    assert verdicts(
        stage(rules={"r": "x >= $min AND x <= $min"}, params={"min": 0}, by="lang", values=values), batch
    ) == {"rules.r": [True, True]}


def test_missing_drop_fails_the_rows_without_a_group_by_a_rule_that_stands_first() -> None:
    rules = stage(
        "langs", rules={"own": "words >= $min"}, by="lang", values=VALUES | {"de": {"min": 10}}, missing="drop"
    )
    assert verdicts(rules) == {"langs.missing": [True, True, False, False], "langs.own": [True, False, None, None]}
    assert rules.rules[0].needs == ("lang",)


def test_missing_error_stops_at_the_first_row_without_a_group() -> None:
    rules = stage(
        "langs", rules={"own": "words >= $min"}, by="lang", values={"de": {"min": 1}, "en": {"min": 1}}, missing="error"
    )
    assert verdicts(rules, BATCH.slice(0, 2)) == {"langs.own": [True, True]}
    with pytest.raises(RecipeError, match="langs: no values for lang = 'fr'"):
        rules.decide(BATCH)


def test_values_are_read_from_files_and_globs(tmp_path: Path) -> None:
    (tmp_path / "de.yaml").write_text("de: {min: 11}\n")
    (tmp_path / "no.yaml").write_text("no: {min: 9}\nfr: {min: 300}\n")
    config = {"rules": {"own": "words >= $min"}, "params": {"min": 50}, "by": "lang"}
    for values in (f"{tmp_path}/*.yaml", [f"{tmp_path}/de.yaml", f"{tmp_path}/no.yaml"]):
        assert verdicts(stage(**config, values=values)) == {"rules.own": [False, True, False, None]}
    with pytest.raises(RecipeError, match="de has values already"):
        stage(**config, values=[f"{tmp_path}/de.yaml"] * 2)


def test_the_fingerprint_follows_the_contents_of_files(presets: Path, tmp_path: Path) -> None:
    values = tmp_path / "v.yaml"
    values.write_text("de: {gopher_quality.words_min: 1}\n")
    config = {"preset": "gopher_quality", "by": "lang", "values": str(values)}
    seen = {stage(**config).fingerprint()}
    assert stage(**config).fingerprint() in seen
    values.write_text("de: {gopher_quality.words_min: 2}\n")
    seen.add(stage(**config).fingerprint())
    (presets / "gopher_quality.yaml").write_text(QUALITY.replace("0.8", "0.9"))
    seen.add(stage(**config).fingerprint())
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "has no rule"),
        ({"preset": "gopher_qualiti"}, r"no such preset\. Did you mean: gopher_quality\?"),
        ({"preset": "gopher@dclm"}, "no such preset"),
        ({"preset": ["gopher", "gopher_quality"]}, "given twice"),
        ({"preset": "none/there.yaml"}, "cannot be read"),
        ({"preset": "gopher", "set": {"gopher_quality.word_min": 1}}, r"Did you mean: gopher_quality\.words_min\?"),
        ({"preset": "gopher", "set": {"gopher_quality.words_min": "many"}}, "must be a number"),
        ({"preset": "gopher", "off": ["gopher_quality.word"]}, r"Did you mean: gopher_quality\.words\?"),
        (
            {"rules": {"a": "words > $min"}, "params": {"mim": 1}},
            r"no value for \$min under params\. Did you mean: mim\?",
        ),
        ({"rules": {"a": "words > $min"}, "params": {"min": 1, "max": 2}}, "max: no own rule reads it"),
        ({"rules": {"a": "sum(words) > 1"}}, "rules: a: .*aggregate"),
        ({"rules": {"a": "words > 1"}, "by": "lang"}, "go together"),
        ({"rules": {"a": "words > 1"}, "values": {"de": {}}}, "go together"),
        ({"rules": {"a": "words > 1"}, "missing": "drop"}, "needs `by: COLUMN`"),
        (
            {"rules": {"a": "words > $min"}, "params": {"min": 1}, "by": "lang", "values": {"de": {"mim": 1}}},
            "Did you mean: min",
        ),
        ({"rules": {"a": "words > $min"}, "by": "lang", "values": {"de": {"min": 1}}}, "for rows of other groups"),
        (
            {"rules": {"a": "words > $min"}, "by": "lang", "values": {"de": {"min": 1}, "en": {}}, "missing": "drop"},
            r"no value for rules\.min for lang = en",
        ),
        (
            {"rules": {"a": "words > $m"}, "params": {"m": 1}, "by": "lang", "values": {"de": {"m": "x"}}},
            "more than one type",
        ),
        ({"rules": {"a": "words > $m"}, "params": {"m": 1}, "by": "lang", "values": "none/*.yaml"}, "no such file"),
    ],
)
def test_a_mistake_in_the_recipe_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        stage(**config).check(BATCH.schema)


def test_unknown_keys_and_values_of_the_config_are_refused() -> None:
    for config in ({"presets": "gopher"}, {"nulls": "maybe"}, {"rules": {"a": {"sq": "x"}}}, {"missing": "keep"}):
        with pytest.raises(ValidationError):
            Rules.Config.model_validate(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: {a: words > $min}\nparams: {mim: 1}", r"no value for \$min under params\. Did you mean: mim\?"),
        ("rules: {a: words > 1}\nparams: {min: 1}", "min: no rule reads it"),
        ("rules: {a: words > }", "is no expression"),
        ("rule: {a: words > 1}", "rule"),
        ("rules: {a: words > 1}\nnulls: drop", "nulls"),
        ("- a", "must be a mapping"),
        ("a: [", "house.yaml"),
    ],
)
def test_a_mistake_in_a_rule_set_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "house.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        stage(preset=str(path))


def test_check_refuses_columns_and_types_that_do_not_fit() -> None:
    with pytest.raises(RecipeError, match=r"rules: gopher_quality\.words: .*no such column: words"):
        stage(preset="gopher_quality").check(pa.schema({"word": pa.int64(), "alpha_share": pa.float32()}))
    with pytest.raises(RecipeError, match=r"rules: rules\.a: .*must be true or false"):
        stage(rules={"a": "words + 1"}).check(BATCH.schema)
    with pytest.raises(RecipeError, match="by: no such column: land"):
        stage(rules={"a": "words > $m"}, params={"m": 1}, by="land", values={"de": {"m": 2}}).check(BATCH.schema)


def test_verdicts_do_not_depend_on_the_split_and_survive_pickling() -> None:
    rules = stage(preset="gopher", rules={"own": "words >= $min"}, params={"min": 50}, by="lang", values=VALUES)
    whole = rules.decide(BATCH)
    parts = [pickle.loads(pickle.dumps(rules)).decide(BATCH.slice(i, 1)) for i in range(4)]
    assert pa.concat_tables(parts).to_pydict() == whole.to_pydict()
    assert rules.decide(BATCH.slice(0, 0)).num_rows == 0


def test_presets_that_ship_load_and_hold_no_number_but_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by DuckDB's own parser: every numeric literal of a preset must be a parameter, so that `set:` can move it."""
    duckdb = pytest.importorskip("duckdb")
    folder = Path(_presets.__file__).parents[1] / "configs" / "rules"
    files = sorted(folder.glob("*.yaml"))
    if not files:
        pytest.skip("no rule sets in configs/rules")
    monkeypatch.setattr(_presets, "FOLDER", folder)

    def literals(node: Any) -> list[str]:
        if isinstance(node, list):
            return [text for child in node for text in literals(child)]
        if not isinstance(node, dict):
            return []
        if node.get("class") == "CONSTANT" and node["literal"]["kind"] not in ("STRING", "BOOLEAN", "NULL_LITERAL"):
            return [node["literal"]["text"]]
        return literals(list(node.values()))

    connection = duckdb.connect()
    for path in files:
        (preset,) = _presets.load_presets(path.stem)
        for key, rule in preset.rules.items():
            ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT {rule.sql}"]).fetchall()
            assert set(literals(json.loads(tree)["statements"][0]["node"]["select_list"])) <= {"0", "1"}, (
                f"{path.name}: {key}"
            )
    for name in _presets.preset_names():
        unset = [f"{p.name}.{key}" for p in _presets.load_presets(name) for key, v in p.params.items() if v is None]
        assert stage(preset=name, set=dict.fromkeys(unset, 0)).plain_needs
