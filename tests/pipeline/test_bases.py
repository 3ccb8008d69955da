"""Recipes that build on others, `--set`, and `$name` in paths: what comes out, and which line an error names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamis.pipeline.graph import build_graph
from tamis.pipeline.listing import list_input
from tamis.pipeline.recipe import Recipe, load_recipe, parse_recipe
from tamis.pipeline.show_plan import resolved_text
from tamis.stages.errors import RecipeError

BASE = """\
name: base
input: {files: in/*.parquet}
output: out/base
seed: 3
write: {shard_size: 1MB, columns: [url]}
report: {by: [source]}
stages:
  - use: normalize
    max_newlines: 4
  - use: text_signals
  - use: rules
    preset: gopher_quality
    set: {gopher_quality.words_min: 20, gopher_quality.words_max: 900}
  - use: rules
    rules: {long: chars > $min}
    params: {min: 5}
  - c4_lines
  - use: exact_dedup
    name: dedup
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(reversed(files))}.yaml"


def stages(recipe: Recipe) -> dict[str, dict[str, Any]]:
    return {entry.name or entry.use: entry.config for entry in recipe.stages if entry.use != "rules"} | {
        f"rules_{n}": entry.config for n, entry in enumerate((e for e in recipe.stages if e.use == "rules"), 1)
    }


def test_a_derived_recipe_equals_the_one_that_is_written_out(tmp_path: Path) -> None:
    derived = write(
        tmp_path,
        base=BASE,
        derived="""\
base: base.yaml
name: derived
output: out/derived
write: {columns: [url, date]}
change:
  rules: {set: {gopher_quality.words_min: 100}, where: url IS NOT NULL}
  rules_2: {params: {min: 9}}
  normalize: {max_newlines: null, strip: true}
  c4_lines: off
  dedup: {prefer: [longest]}
stages:
  - use: sample
    share: 10%
""",
    )
    whole = write(
        tmp_path,
        whole="""\
name: derived
input: {files: in/*.parquet}
output: out/derived
seed: 3
write: {shard_size: 1MB, columns: [url, date]}
report: {by: [source]}
stages:
  - {use: normalize, strip: true}
  - use: text_signals
  - {use: rules, preset: gopher_quality, set: {gopher_quality.words_min: 100, gopher_quality.words_max: 900}, where: url IS NOT NULL}
  - {use: rules, rules: {long: chars > $min}, params: {min: 9}}
  - {use: exact_dedup, name: dedup, prefer: [longest]}
  - {use: sample, share: 10%}
""",
    )
    assert load_recipe(derived).resolved() == load_recipe(whole).resolved()


def test_a_base_may_have_a_base_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", base=BASE)
    write(tmp_path, middle="base: lib/base.yaml\nseed: 4\nchange: {normalize: {strip: true}}\n")
    (tmp_path / "job").mkdir()
    top = write(
        tmp_path / "job", top="base: ../middle.yaml\nname: top\nchange: {normalize: {strip: null, repair: true}}\n"
    )
    recipe = load_recipe(top)
    assert (recipe.name, recipe.seed, recipe.output) == ("top", 4, "out/base")
    assert stages(recipe)["normalize"] == {"max_newlines": 4, "repair": True}


@pytest.mark.parametrize(
    ("derived", "says"),
    [
        ("base: nowhere.yaml", r"derived\.yaml:1: base: .*nowhere\.yaml: no such file"),
        ("base: bse.yaml", r"Did you mean: base\.yaml"),
        ("base: derived.yaml", r"derived\.yaml:1: base: .*derived\.yaml -> derived\.yaml"),
        ("base: other.yaml", r"other\.yaml:1: base: derived\.yaml builds on this recipe itself"),
        ("base: [base.yaml]", r"derived\.yaml:1: base: is the path"),
        ("base: base.yaml\nchange:\n  dedupe: {normalize: false}", r"derived\.yaml:3: change: dedupe: .*mean: dedup\?"),
        ("base: base.yaml\nchange:\n  dedup: 3", r"derived\.yaml:3: change: dedup: write a mapping"),
        ("base: base.yaml\nchange: [dedup]", r"derived\.yaml:2: change: is a mapping"),
        ("name: x\nchange: {dedup: off}", r"derived\.yaml:2: change: is for a recipe with `base:`"),
        ("base: base.yaml\nwrote: {}", r"derived\.yaml:2: wrote: unknown key\. Did you mean: write\?"),
        ("base: base.yaml\nchagne: {}", r"derived\.yaml:2: chagne: unknown key\. Did you mean: change\?"),
        ("base: base.yaml\npath: x", r"derived\.yaml:2: path: unknown key"),
        ("base: base.yaml\nwrite:\n  columns: [url]\n  shards: 1", r"derived\.yaml:4: write\.shards: unknown key"),
        ("base: base.yaml\nstages: {use: sample}", r"derived\.yaml:2: stages is a list"),
    ],
)
def test_what_cannot_be_put_together_is_refused_by_file_and_line(tmp_path: Path, derived: str, says: str) -> None:
    path = write(tmp_path, base=BASE, other="base: derived.yaml\n", derived=derived)
    with pytest.raises(RecipeError, match=says):
        load_recipe(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("normalize: {strp: true}", r"derived\.yaml:6 \(normalize\): strp: unknown key.*Did you mean: strip"),
        ("normalize: {max_newlines: none}", r"derived\.yaml:6 \(normalize\): max_newlines: "),
        ("rules: {set: {gopher_quality.wods_min: 1}}", r"derived\.yaml:6 \(rules\): set: no such parameter"),
        ("rules_2: {params: {mn: 1}}", r"derived\.yaml:6 \(rules\): params: mn: no own rule"),
        ("dedup: {key: lower(}", r"derived\.yaml:6 \(dedup\): key: "),
        ("dedup: {use: exact_dedupe}", r"derived\.yaml:6 \(dedup\): use: exact_dedupe: no such stage"),
        ("rules: {where: 'wordz > 3'}", r"base\.yaml:11 \(rules\): no column wordz"),
    ],
)
def test_an_error_in_a_stage_names_the_line_where_that_key_stands(tmp_path: Path, change: str, says: str) -> None:
    path = write(tmp_path, base=BASE, derived=f"base: base.yaml\nname: x\n\n\nchange:\n  {change}\n")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(RecipeError, match=says):
        planned(path, str(tmp_path / "a.jsonl"))


def planned(path: Path, file: str) -> None:
    recipe = load_recipe(path, input=[file])
    build_graph(recipe, list_input(recipe.input).columns)


def test_a_key_of_the_base_is_named_by_the_base(tmp_path: Path) -> None:
    wrong = BASE.replace("max_newlines: 4", "max_newlines: 0")
    path = write(tmp_path, base=wrong, derived="base: base.yaml\nchange: {normalize: {strip: true}}\n")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    recipe = load_recipe(path, input=[str(tmp_path / "a.jsonl")])
    with pytest.raises(RecipeError, match=r"base\.yaml:9 \(normalize\): max_newlines: "):
        build_graph(recipe, list_input(recipe.input).columns)


def test_invalid_yaml_and_a_list_are_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"a\.yaml:3: not valid YAML"):
        load_recipe(write(tmp_path, a="name: x\nstages: [\n"))
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe(write(tmp_path, a="- x\n"))
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")


# --- --set --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("write.shard_size=64MB", lambda r: r.write.shard_size, 64_000_000),
        ("write.columns=[id]", lambda r: r.write.columns, ["id"]),
        ("write.columns=null", lambda r: r.write.columns, None),
        ("report.by=[lang]", lambda r: r.report.by, ["lang"]),
        ("seed=7", lambda r: r.seed, 7),
        ("max_bad=100%", lambda r: r.max_bad, 1.0),
        ("sample=0.1%", lambda r: r.sample, 0.001),
        ("name=other", lambda r: r.name, "other"),
        ("output=out/x", lambda r: r.output, "out/x"),
        ("input=b/*.jsonl", lambda r: r.input[0].files, "b/*.jsonl"),
        ("input.files=b/*.jsonl", lambda r: r.input[0].files, "b/*.jsonl"),
        ("input.files=[a.jsonl, b.jsonl]", lambda r: r.input[0].files, ["a.jsonl", "b.jsonl"]),
        ("input.tags.crawl=2024-10", lambda r: r.input[0].tags, {"crawl": "2024-10"}),
        ("input.rename={lang: given}", lambda r: r.input[0].rename, {"lang": "given"}),
        ("dedup.prefer=[longest]", lambda r: stages(r)["dedup"], {"prefer": ["longest"]}),
        ("dedup.action=tag", lambda r: r.stages[-1].action, "tag"),
        ("normalize.strip=true", lambda r: stages(r)["normalize"], {"max_newlines": 4, "strip": True}),
        ("c4_lines.citations=false", lambda r: stages(r)["c4_lines"], {"citations": False}),
        ("c4_lines.min_words=null", lambda r: stages(r)["c4_lines"], {"min_words": None}),
        ("rules.where=url LIKE 'https:%'", lambda r: r.stages[2].where, "url LIKE 'https:%'"),
        (
            "rules.set.gopher_quality.words_min=100",
            lambda r: stages(r)["rules_1"]["set"],
            {"gopher_quality.words_min": 100, "gopher_quality.words_max": 900},
        ),
        ("rules.off=[gopher_quality.words]", lambda r: stages(r)["rules_1"].get("off"), ["gopher_quality.words"]),
        ("rules_2.params.min=8", lambda r: stages(r)["rules_2"]["params"], {"min": 8}),
        ("rules_2.rules.short=chars < 9", lambda r: list(stages(r)["rules_2"]["rules"]), ["long", "short"]),
        (
            "rules.values.en.gopher_quality.words_min=3",
            lambda r: stages(r)["rules_1"].get("values"),
            {"en": {"gopher_quality.words_min": 3}},
        ),
        ("c4_lines=off", lambda r: [e.use for e in r.stages].count("c4_lines"), 0),
        ("stages=[normalize]", lambda r: [e.use for e in r.stages], ["normalize"]),
        ("vars.dump=x", lambda r: r.output, "out/base"),
    ],
)
def test_set_changes_one_key(tmp_path: Path, setting: str, read: Any, expected: Any) -> None:
    path = write(tmp_path, base=BASE)
    assert read(load_recipe(path)) != expected or setting.startswith(("vars", "write.columns=null"))
    assert read(load_recipe(path, settings=[setting])) == expected


def test_set_reaches_a_named_one_of_several_sources() -> None:
    sources = [{"name": "a", "files": "a/*"}, {"name": "b", "files": "b/*"}]
    data = {"name": "x", "output": "o", "input": sources}
    assert [s.files for s in parse_recipe(data, settings=["input.b.files=c/*"]).input] == ["a/*", "c/*"]
    with pytest.raises(RecipeError, match=r"there are 2 sources: write input\.NAME\.key.*Valid: a, b"):
        parse_recipe(data, settings=["input.files=c/*"])


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("seed", "write NAME.key=value"),
        ("=3", "write NAME.key=value"),
        ("write..x=3", "write NAME.key=value"),
        ("wrote.x=3", "--set wrote.x=3: no stage or section wrote. Did you mean: write"),
        ("sed=3", "--set sed=3: sed: unknown key. Did you mean: seed"),
        ("seed=x", "--set seed=x: seed: "),
        ("write.shard_sz=3", "--set write.shard_sz=3: write.shard_sz: unknown key. Did you mean: shard_size"),
        ("dedup=3", "dedup is a stage: write dedup.KEY=value, or dedup=off"),
        ("base=x.yaml", "--set base=x.yaml: base: is for recipe files"),
        ("path=x", "--set path=x: path: unknown key"),
        ("seed=[", "the value is not valid YAML"),
        ("input.tgas=x", "--set input.tgas=x: input.0.tgas: unknown key. Did you mean: tags"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_own_words(tmp_path: Path, setting: str, says: str) -> None:
    import re

    with pytest.raises(RecipeError, match=re.escape(says)):
        load_recipe(write(tmp_path, base=BASE), settings=[setting])


def test_an_error_in_a_value_that_was_set_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    recipe = load_recipe(
        write(tmp_path, base=BASE), settings=["normalize.max_newlines=0"], input=[str(tmp_path / "a.jsonl")]
    )
    with pytest.raises(RecipeError, match=r"--set normalize\.max_newlines=0 \(normalize\): max_newlines"):
        build_graph(recipe, list_input(recipe.input).columns)


# --- vars ---------------------------------------------------------------------------------------------------------

VARS = {
    "name": "v",
    "vars": {"dump": "CC-MAIN-2024-10", "part": 3},
    "input": [
        {"name": "a", "files": ["s3://b/${dump}x/*.parquet", "in/$part/$$x"], "root": "in/$dump"},
        {"name": "b", "files": "$dump/*"},
    ],
    "output": "out/$dump",
    "work": "/w/${dump}_$part/a$",
    "stages": [{"use": "rules", "rules": {"long": "chars > $min"}, "params": {"min": 1}}],
}


def test_variables_stand_in_paths_and_nowhere_else() -> None:
    recipe = parse_recipe(VARS)
    assert recipe.input[0].files == ["s3://b/CC-MAIN-2024-10x/*.parquet", "in/3/$x"]
    assert [source.root for source in recipe.input] == ["in/CC-MAIN-2024-10", None]
    assert (recipe.input[1].files, recipe.output) == ("CC-MAIN-2024-10/*", "out/CC-MAIN-2024-10")
    assert recipe.work == "/w/CC-MAIN-2024-10_3/a$"
    assert recipe.stages[0].config["rules"] == {"long": "chars > $min"}
    assert "vars" not in recipe.resolved()


def test_a_dollar_survives_the_resolved_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "a$b"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "x"}\n')
    source = {"files": f"{tmp_path}/a$$b/*.jsonl"}
    recipe = parse_recipe({"name": "x", "input": source, "output": f"{tmp_path}/o$$o"})
    path = write(tmp_path, resolved=resolved_text(recipe))
    assert load_recipe(path).output == recipe.output == f"{tmp_path}/o$o"
    assert load_recipe(path).input[0].files == f"{folder}/*.jsonl"


def test_variables_are_set_and_merged_like_other_keys(tmp_path: Path) -> None:
    assert parse_recipe(VARS, settings=["vars.dump=d"]).output == "out/d"
    base = BASE.replace("out/base", "out/$dump/$kind") + "vars: {dump: one, kind: k}\n"
    path = write(tmp_path, base=base, derived="base: base.yaml\nvars: {dump: two}\n")
    assert load_recipe(path).output == "out/two/k"
    assert load_recipe(path, output="o/$kind").output == "o/k"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"output": "out/$dmup"}, r"output: out/\$dmup: no value for \$dmup under vars.*Did you mean: dump"),
        ({"vars": None}, r"no value for \$dump.*The recipe has no `vars:`"),
        ({"vars": {"dump": 2024.1}}, r"vars: dump: must be a string; put it in quotes"),
        ({"vars": {"dump": True}}, r"vars: dump: must be a string"),
        ({"vars": {"a-b": "x"}}, r"vars: 'a-b' is no name"),
        ({"vars": ["x"]}, r"vars: is a mapping"),
    ],
)
def test_a_wrong_variable_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_recipe({**VARS, **changes})
