"""Rule sets over model scores: what they decide, when they only tag, and whose numbers they may drop by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import runs
from scipy.stats import norm

from tamis.pipeline import catalogue
from tamis.pipeline.card import render_card
from tamis.pipeline.driver import run
from tamis.pipeline.output import Output
from tamis.pipeline.plan import Plan
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import load_recipe, parse_recipe
from tamis.pipeline.show_plan import plan_text, resolved_text
from tamis.stages._presets import Calibrated, load_presets, preset_names
from tamis.stages.errors import RecipeError
from tamis.stages.rules import Rules, RulesConfig

FALCON = ["tiiuae/falcon-7b-instruct", "tiiuae/falcon-7b"]
MACHINE = [name for name in preset_names() if name.startswith("machine_text")]
UNSET = {
    "contamination": {"contamination.min_k_pp_max": -1},
    "contamination@min_k": {"contamination@min_k.min_k_max": -6},
}


def rules(preset: str | list[str], name: str = "rules", **config: Any) -> Rules:
    return Rules(RulesConfig.model_validate({"preset": preset, **config}), name=name)


def verdicts(
    preset: str, column: str, values: Sequence[float | None], n_scored: int | None = 500, **set: float
) -> list:
    """What the only rule of a preset says of these values."""
    stage = rules(preset, set={f"{preset}.{key}": value for key, value in set.items()})
    counts = pa.array([n_scored] * len(values), pa.int32())
    batch = pa.table({column: pa.array(values, pa.float32()), "n_scored": counts})
    stage.check(batch.schema)
    (found,) = stage.decide(batch).to_pydict().values()
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_corpus(tmp_path_factory.mktemp("corpus"), shards=1, documents=40)


def recipe(corpus: Path, *decide: dict[str, Any], models: list[str] = FALCON) -> dict[str, Any]:
    """Every column that a preset reads, made up by a stage that names `models`, and then `decide`."""
    scored = {"use": "tests.model_stages:ScoredBy", "models": models}
    out = {"name": "t", "input": f"{corpus}/*.parquet", "output": f"{corpus}/../out", "report": {"pages": False}}
    return {**out, "stages": [scored, *decide]}


def planned(corpus: Path, *decide: dict[str, Any], models: list[str] = FALCON) -> Plan:
    return plan_recipe(parse_recipe(recipe(corpus, *decide, models=models)))


# --- what they decide -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "cut"), [("machine_text", 0.8536432310785527), ("machine_text@f1", 0.9015310749276843)]
)
def test_binoculars_is_machine_below_the_published_cut(preset: str, cut: float) -> None:
    assert verdicts(preset, "binoculars", [cut - 1e-3, cut + 1e-3, 0.0, 9.0, None]) == [False, True, False, True, None]


NORMALS = {
    "machine_text@fast_detect": (-0.0707, 0.9520, 2.9306, 1.9039),
    "machine_text@fast_detect_neo": (-0.2489, 0.9968, 1.8983, 1.9935),
}


@pytest.mark.parametrize("preset", NORMALS)
@pytest.mark.parametrize("cut", [0.5, 0.9, 0.99])
def test_fast_detect_is_machine_where_two_normals_say_so(preset: str, cut: float) -> None:
    mean0, sd0, mean1, sd1 = NORMALS[preset]
    values = [mean0 + step / 8 for step in range(1, 80)]
    human, machine = norm.pdf(values, mean0, sd0), norm.pdf(values, mean1, sd1)
    expected = [bool(m / (h + m) < cut) for h, m in zip(human, machine)]
    assert verdicts(preset, "fast_detect", values, p_machine_max=cut) == expected
    assert {True, False} == set(expected)


@pytest.mark.parametrize("preset", NORMALS)
def test_a_text_below_the_mean_of_people_passes_however_far_and_one_far_above_fails(preset: str) -> None:
    mean0, sd0, mean1, sd1 = NORMALS[preset]
    assert norm.pdf(-8, mean1, sd1) > 100 * norm.pdf(-8, mean0, sd0)  # what the bare formula would make of it
    assert verdicts(preset, "fast_detect", [mean0, -8, -1e4, -3e38, 8, 1e4, None]) == [True] * 4 + [False] * 2 + [None]


def test_contamination_is_what_lies_above_the_cut_that_was_set() -> None:
    assert verdicts("contamination", "min_k_pp_20", [-1.5, -0.5, None], min_k_pp_max=-1) == [True, False, None]
    assert verdicts("contamination@min_k", "min_k_20", [-7, -5, None], min_k_max=-6) == [True, False, None]


@pytest.mark.parametrize("preset", [*MACHINE, *UNSET])
def test_a_text_of_too_few_tokens_is_not_judged(preset: str) -> None:
    stage = rules(preset, set=UNSET.get(preset, {}))
    (column,) = stage.plain_needs - {"n_scored"}
    least = dict(stage.rules[0].params)[f"{preset}.tokens_min"]
    worst = -9.0 if column == "binoculars" else 9.0
    set = {key.partition(".")[2]: value for key, value in UNSET.get(preset, {}).items()}
    assert verdicts(preset, column, [worst, None], n_scored=least - 1, **set) == [True, True]
    assert verdicts(preset, column, [worst, None], n_scored=least, **set) == [False, None]
    assert verdicts(preset, column, [worst], n_scored=None, **set) == [None]


@pytest.mark.parametrize("preset", [*MACHINE, *UNSET])
def test_they_read_columns_of_lm_scores(preset: str) -> None:
    from tamis.stages.lm_scores import LmScores, LmScoresConfig

    needs = sorted(rules(preset, set=UNSET.get(preset, {})).plain_needs)
    config = LmScoresConfig(model="m", observer="o", columns=(*dict.fromkeys([*needs, "binoculars"]),))
    assert {column.name for column in LmScores(config, name="lm").adds} >= {*needs}


@pytest.mark.parametrize("preset", UNSET)
def test_a_number_that_nobody_published_must_be_set(preset: str) -> None:
    (key,) = UNSET[preset]
    with pytest.raises(RecipeError, match=rf"set: {preset}\.\w+ needs a number.*`set: \{{{key}: "):
        rules(preset)
    with pytest.raises(RecipeError, match=r"needs a number"):
        rules(preset, set={key: None})
    assert rules(preset, set=UNSET[preset]).rules[0].params[0] == (key, UNSET[preset][key])
    groups = {"by": "lang", "values": {"en": {key: -2}}}
    with pytest.raises(RecipeError, match=rf"no value for {key} for rows of other groups .*under `set:`"):
        rules(preset, **groups)
    assert rules(preset, **groups, missing="drop")


# --- drop or tag ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [*MACHINE, *UNSET])
def test_they_tag_unless_the_recipe_says_drop(corpus: Path, preset: str) -> None:
    use = {"use": "rules", "preset": preset, "set": UNSET.get(preset, {})}
    models = load_presets(preset)[0].calibrated
    plan = planned(corpus, use, models=models.models if models else ["any"])
    assert plan.recipe.stages[-1].action == "tag"
    assert "tags, drops nothing" in plan_text(plan)
    plan = planned(corpus, {**use, "action": "drop"}, models=models.models if models else ["any"])
    assert plan.recipe.stages[-1].action == "drop"


def test_other_stages_drop_as_ever(corpus: Path) -> None:
    plan = planned(corpus, {"use": "rules", "rules": {"a": "chars > 1"}}, {"use": "exact_dedup"})
    assert [entry.action for entry in plan.recipe.stages] == ["drop"] * 3
    said = planned(corpus, {"use": "rules", "rules": {"a": "chars > 1"}, "action": "drop"}).graph.stages[-1]
    assert said.cell_key == plan.graph.stages[1].cell_key


def test_presets_of_different_defaults_in_one_stage_need_a_word(corpus: Path, tmp_path: Path) -> None:
    own = {"use": "rules", "preset": "machine_text", "rules": {"a": "chars > 1"}}
    with pytest.raises(
        RecipeError, match=r"\(rules\): action: machine_text tags by default and a rule of one's own drops"
    ):
        planned(corpus, own)
    assert planned(corpus, {**own, "action": "tag"})
    (tmp_path / "house.yaml").write_text("rules: {few: n_scored > 1}")
    house = {"use": "rules", "preset": ["machine_text", str(tmp_path / "house.yaml")]}
    with pytest.raises(RecipeError, match=r"machine_text tags by default and house drops: write `action: tag`"):
        planned(corpus, house)
    assert planned(corpus, {**house, "off": ["house.few"]}).recipe.stages[-1].action == "tag"
    assert planned(corpus, {**house, "off": ["machine_text.binoculars"]}).recipe.stages[-1].action == "drop"


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([], "here binoculars is measured by a stage that names no model"),
        (["tiiuae/falcon-7b-instruct"], "here binoculars is measured by tiiuae/falcon-7b-instruct"),
        (FALCON[::-1], "falcon-7b with the observer tiiuae/falcon-7b-instruct"),
        (
            ["models/gpt2", "models/distilgpt2"],
            "here binoculars is measured by models/gpt2 with the observer models/distilgpt2",
        ),
    ],
)
def test_a_cut_drops_with_the_models_it_was_calibrated_for_and_tags_with_others(
    corpus: Path, models: list[str], said: str
) -> None:
    use = {"use": "rules", "preset": "machine_text"}
    with pytest.raises(RecipeError) as refused:
        planned(corpus, {**use, "action": "drop", "set": {"machine_text.binoculars_min": 0.7}}, models=models)
    assert "calibrated for falcon-7b-instruct with the observer falcon-7b, and" in str(refused.value)
    assert said in str(refused.value)
    assert "`action: tag`" in str(refused.value)
    notes = planned(corpus, use, models=models).graph.notes
    assert [said in note for note in notes] == [True]
    assert planned(
        corpus, {**use, "off": ["machine_text.binoculars"], "rules": {"own": "binoculars > 0.7"}}, models=models
    )
    assert planned(corpus, use).graph.notes == []


def test_the_refusal_names_the_line(corpus: Path, tmp_path: Path) -> None:
    text = f"name: t\ninput: {corpus}/*.parquet\noutput: out\nstages:\n"
    text += "  - use: tests.model_stages:ScoredBy\n    models: [a, b]\n  - use: rules\n    preset: machine_text\n    action: drop\n"
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml:9 \(rules\): action: drop: the cut of machine_text on binoculars"):
        plan_recipe(load_recipe(tmp_path / "r.yaml"))


@pytest.mark.parametrize(
    ("models", "same"),
    [
        (["falcon-7b-instruct", "falcon-7b"], True),
        (["/data/models/Falcon-7B-Instruct/", "tiiuae/falcon-7b@898df13"], True),
        (["hf://tiiuae/falcon-7b-instruct@main", "FALCON-7B"], True),
        (["falcon-7b-instruct-8bit", "falcon-7b"], False),
        (["falcon-7b", "falcon-7b"], False),
    ],
)
def test_models_are_told_apart_by_the_last_part_of_their_name(models: list[str], same: bool) -> None:
    assert Calibrated(columns=["x"], models=["falcon-7b-instruct", "falcon-7b"]).by(models) == same


def test_a_model_that_observes_itself_is_as_one_without_an_observer() -> None:
    neo = Calibrated(columns=["x"], models=["gpt-neo-2.7B"])
    assert neo.by(["EleutherAI/gpt-neo-2.7B"])
    assert neo.by(["a/gpt-neo-2.7b", "b/gpt-neo-2.7B"])
    assert not neo.by([])


# --- what is shown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "action"), [({}, "tag"), ({"action": "drop"}, "drop")])
def test_a_run_does_what_its_manifest_its_card_and_the_resolved_recipe_say(
    corpus: Path, tmp_path: Path, said: dict[str, str], action: str
) -> None:
    stage = {"use": "rules", "name": "ai", "preset": "machine_text", **said}
    told = parse_recipe({**recipe(corpus, stage), "output": str(tmp_path / "out")})
    run(told)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["recipe"]["stages"][-1]["action"] == action
    assert f"action: {action}" in render_card(Output(str(tmp_path / "out"))).decode()
    rows = runs.rows(tmp_path / "out", "ledger").to_pylist()
    expected = [row["n_scored"] < 100 or row["binoculars"] >= 0.8536432310785527 for row in rows]
    assert {True, False} == set(expected)
    if action == "tag":
        assert {row["decision"] for row in rows} == {"keep"}
        assert [row["ai_pass"] for row in rows] == expected
    else:
        assert [row["decision"] == "keep" for row in rows] == expected
    (tmp_path / "again.yaml").write_text(resolved_text(told))
    assert f"action: {action}" in (tmp_path / "again.yaml").read_text()
    again = plan_recipe(load_recipe(tmp_path / "again.yaml"))
    assert again.key == plan_recipe(told).key


def test_the_list_of_presets_says_what_they_are_calibrated_for() -> None:
    told = " ".join(catalogue.presets_text("machine_text").split())
    assert "its cut on binoculars is calibrated for falcon-7b-instruct with the observer falcon-7b" in told
    assert "tags, unless the recipe says `action: drop`" in told
    assert "min_k_pp_max: null (to be set)" in catalogue.presets_text("contamination")
    assert "calibrated" not in catalogue.presets_text("gopher_quality")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("calibrated: {columns: [b], models: [m]}", r"calibrated\.columns: b: no rule reads it"),
        ("calibrated: {columns: [a], models: []}", r"calibrated\.models"),
        ("calibrated: {columns: [a], models: [m], model: [m]}", r"calibrated\.model: .*Did you mean: models\?"),
        ("action: keep", "action: Input should be 'drop' or 'tag'"),
    ],
)
def test_a_mistake_in_the_keys_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "house.yaml").write_text(f"rules: {{r: a > 1}}\n{text}\n")
    with pytest.raises(RecipeError, match=message):
        rules(str(tmp_path / "house.yaml"))


def test_every_set_that_is_calibrated_tags() -> None:
    sets = [load_presets(name)[0] for name in preset_names() if not name.startswith("gopher")]
    calibrated = [preset for preset in sets if preset.calibrated]
    assert {preset.name for preset in calibrated} == {*MACHINE}
    assert {preset.action for preset in calibrated} == {"tag"}
