"""The data set card: its head is what the Hub and `datasets` read, its figures are the ledger's, and what documents,
files and recipes say stays text."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from tamis.pipeline.card import render_card
from tamis.pipeline.card_header import CONFIGS, DataFile, languages, parts, size_category
from tamis.pipeline.driver import run
from tamis.pipeline.markdown import block, code, plain
from tamis.pipeline.output import Output
from tamis.pipeline.recipe import Recipe, parse_recipe
from tamis.pipeline.terminal import share, size, visible

EVIL = [
    "<script>alert(1)</script>",
    "a | b || c",
    "`code` ``twice``",
    "[link](https://evil.example) ![x](https://evil.example/x.png)",
    "www.evil.example and https://evil.example, me@evil.example @admin",
    "# head",
    "- item",
    "1. item",
    "1)",
    "*bold* _under_ ~~gone~~ $$x$$ :smile: &amp; \\| \\",
    "line\nfeed\r\n---\nname: x",
    "\u202eright\u200b to \x1bleft\u2028",
    "===",
    "+",
    "{{ jinja }} {% x %}",
    "日本語 😀",
    "no",
    "<!-- comment",
]
WORDS = "The lamp stood on the table near the window of the old house and nobody had lit it for years."
STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    {"use": "rules", "name": "size", "rules": {"long": "chars >= $min"}, "params": {"min": 60}},
    {"use": "exact_dedup"},
]
LANGUAGES = ["en", "eng_Latn", "de", "no", "zh-tw", "und", None, "??"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    count = 240
    rows = {
        "text": [f"{WORDS} Number {n % 200}." if n % 5 else "Short." for n in range(count)],
        "source": [EVIL[n % len(EVIL)] for n in range(count)],
        "lang": [LANGUAGES[n % len(LANGUAGES)] if n % 5 else "fr" for n in range(count)],  # all that is French is short
        "topics": [["a", "b"], None] * (count // 2),
        "when": pa.array([n * 10**6 for n in range(count)], pa.timestamp("us", tz="UTC")),
    }
    pq.write_table(pa.table(rows), folder / "part-0.parquet", row_group_size=50)
    return folder


def finished(corpus: Path, folder: Path, **changes: Any) -> Output:
    recipe = {
        "name": "my corpus",
        "input": {"files": f"{corpus}/*.parquet"},
        "output": str(folder / "out"),
        "stages": STAGES,
        "differs": ["keeps what <b>others</b> drop", "- has no `model`"],
        **changes,
    }
    run(parse_recipe(recipe))
    return Output(str(folder / "out"))


@pytest.fixture(scope="module")
def output(corpus, tmp_path_factory) -> Output:
    return finished(corpus, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def several(corpus, tmp_path_factory) -> Output:
    """Three sets, partitioned; one shares documents with the others."""
    write = {
        "partition": ["lang"],
        "sets": {"main": {}, "near": {"where": "rule = 'size.long'"}, "all": {"where": "true", "sample": "50%"}},
        "columns": ["lang", "upper(lang) AS loud", "topics"],
        "shard_size": "1kB",
    }
    return finished(corpus, tmp_path_factory.mktemp("several"), write=write)


def head_of(card: bytes) -> str:
    return card.decode().split("---\n")[1]


def metadata(output: Output) -> dict[str, Any]:
    return yaml.safe_load(head_of(render_card(output)))


def ledger(output: Output) -> list[dict[str, Any]]:
    folder = Path(output.storage.root) / "ledger"
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def tokens(card: bytes) -> list[Any]:
    body = card.decode().split("---\n", 2)[2]
    found = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"]).parse(body)
    return [one for token in found for one in (token, *(token.children or ()))]


def tables(card: bytes) -> list[list[list[str]]]:
    """Every table as rows of the text of its cells, as a reader sees it."""
    found: list[list[list[str]]] = []
    inline = None
    for token in tokens(card):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open"):
            found[-1][-1].append("")
            inline = found[-1][-1]
        elif token.type in ("td_close", "th_close"):
            inline = None
        elif inline is not None and token.type in ("text", "code_inline", "text_special"):
            inline[-1] += token.content
    return found


def blocks(card: bytes, language: str) -> list[str]:
    return [token.content for token in tokens(card) if token.type == "fence" and token.info == language]


# --- the head -----------------------------------------------------------------------------------------------------


def test_the_head_is_one_that_the_hub_takes(several, tmp_path):
    (tmp_path / "README.md").write_bytes(render_card(several))
    data = DatasetCard.load(tmp_path / "README.md").data
    assert data.pretty_name == "my corpus"
    assert data.task_categories == ["text-generation"]
    assert data.size_categories == ["n<1K"]
    assert set(data.language) == {"en", "eng", "de", "no", "zh", "fr"}
    assert "license" not in data.to_dict()


def test_yaml_1_1_and_1_2_read_the_same(several):
    head = head_of(render_card(several))
    assert yaml.safe_load(head) == json.loads(json.dumps(YAML(typ="safe", pure=True).load(head)))


@pytest.mark.parametrize("kind", ["plain", "several", "lines"])
def test_every_configuration_selects_its_files_and_counts_their_rows(kind, corpus, request, tmp_path):
    if kind == "lines":
        output = finished(corpus, tmp_path, write={"format": "jsonl.zst", "partition": ["lang"], "columns": ["lang"]})
    else:
        output = request.getfixturevalue({"plain": "output", "several": "several"}[kind])
    root = Path(output.storage.root)
    there = {str(path.relative_to(root)) for path in (root / "data").rglob("*") if path.is_file()}
    head = metadata(output)
    counted = {info["config_name"]: info["splits"][0]["num_examples"] for info in head["dataset_info"]}
    stored = {info["config_name"]: info["download_size"] for info in head["dataset_info"]}
    whole: list[str] = []
    single: list[str] = []
    for config in head["configs"]:
        ((split,),) = [config["data_files"]]
        found = glob.glob(split["path"], root_dir=root)
        assert found
        rows = [rows_of(root / path) for path in found]
        name = config["config_name"]
        if name in counted:
            whole += found
            assert counted[name] == sum(map(len, rows))
            assert stored[name] == sum((root / path).stat().st_size for path in found)
        else:
            single += found
            value = name.rpartition("=")[2]
            languages_there = {row["lang"] for part in rows for row in part}
            assert languages_there in ({value}, {None}, {"??"})
    assert sorted(whole) == sorted(there)
    assert sorted(single) == (sorted(there) if kind != "plain" else [])
    assert [config["config_name"] for config in head["configs"] if config.get("default")] == [
        head["configs"][0]["config_name"]
    ]


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.ParquetFile(path).read().to_pylist()
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_features_are_the_columns_of_the_files(output):
    root = Path(output.storage.root)
    schema = pq.read_schema(next(iter((root / "data").glob("*.parquet"))))
    (info,) = metadata(output)["dataset_info"]
    assert [feature["name"] for feature in info["features"]] == schema.names
    kinds = {feature["name"]: {k: v for k, v in feature.items() if k != "name"} for feature in info["features"]}
    assert kinds["text"] == {"dtype": "large_string"}
    assert kinds["topics"] == {"list": "string"}
    assert kinds["when"] == {"dtype": "timestamp[us, tz=UTC]"}
    assert kinds["source_row"] == {"dtype": "int64"}


def test_languages_are_codes_of_what_was_written_the_most_frequent_first(output):
    assert "fr" not in languages(output)
    expected: Counter[str] = Counter()
    for row in ledger(output):
        code_of = {"en": "en", "eng_Latn": "eng", "de": "de", "no": "no", "zh-tw": "zh"}.get(row["lang"])
        if row["out_file"] and code_of:
            expected[code_of] += 1
    assert languages(output) == sorted(expected, key=lambda c: (-expected[c], c))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (10**9, "1B<n<10B"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
        (10**15, "n>1T"),
    ],
)
def test_size_categories_are_the_words_of_the_hub(rows, words):
    assert size_category(rows) == words


def test_too_many_partition_values_leave_the_sets():
    files = [
        DataFile(f"data/lang=x{n}/part-000000-00.parquet", 1, 1, 1, "", (f"lang=x{n}",)) for n in range(CONFIGS + 1)
    ]
    assert [part.name for part in parts(files)] == ["default"]
    assert len(parts(files[: CONFIGS - 1])) == CONFIGS


# --- the text -----------------------------------------------------------------------------------------------------


def test_the_same_output_gives_the_same_card_whatever_the_clock_said(output):
    card = render_card(output)
    changed = json.loads(json.dumps(output.manifest))
    changed |= {"seconds": 1e9, "run": "another"}
    for entry in [*changed["stages"], *changed["steps"]]:
        entry["seconds"] = 1e9
    assert render_card(Output(output.storage.root)) == card
    assert render_card(Output(output.storage.root, changed)) == card


def test_what_documents_and_recipes_say_is_text_and_no_markup(corpus, tmp_path):
    name = "evil\n---\nlicense: mit\n<img src=x onerror=alert(1)> [a](b) | `"
    output = finished(corpus, tmp_path, name=name, differs=EVIL)
    card = render_card(output)
    assert yaml.safe_load(head_of(card))["pretty_name"] == visible(name)
    assert "license" not in yaml.safe_load(head_of(card))
    kinds = {token.type for token in tokens(card)}
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "s_open", "hr", "em_open"}
    assert not any(character in card.decode() for character in "\u202e\u200b\x1b\u2028")
    headings = [token for token in tokens(card) if token.type == "heading_open"]
    calm = finished(corpus, tmp_path / "calm", name="calm", differs=["nothing"])
    assert len(headings) == sum(token.type == "heading_open" for token in tokens(render_card(calm)))
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^(`{3,}).*?^\1", "", card.decode(), flags=re.M | re.S))
    assert re.findall(r"https?://|www\.|[^\\]@", prose) == [], "what a site would make a link or a mention"


def test_groups_are_shown_by_their_own_names_with_the_figures_of_the_ledger(output):
    card = render_card(output)
    shown = next(table for table in tables(card) if table[0][0] == "source")
    expected = []
    rows = ledger(output)
    for source in {row["source"] for row in rows}:
        own = [row for row in rows if row["source"] == source]
        kept = [row for row in own if row["decision"] == "keep"]
        text, left = sum(row["bytes_read"] for row in own), sum(row["bytes_written"] for row in kept)
        figures = [f"{len(own)}", f"{len(kept)}", share(len(kept), len(own)), size(text), size(left), share(left, text)]
        expected.append([visible(source), *figures])
    assert sorted(shown[1:]) == sorted(expected)
    counts = Counter(row["source"] for row in rows)
    assert [int(row[1]) for row in shown[1:]] == sorted(counts.values(), reverse=True)


def test_the_funnel_and_the_rules_are_those_of_the_ledger(output):
    card, rows = render_card(output), ledger(output)
    funnel = next(table for table in tables(card) if table[0][0] == "stage")
    dropped = {row[0]: int(row[4].replace(",", "") or 0) for row in funnel[1:]}
    by_stage = Counter(row["stage"] for row in rows if row["decision"] == "drop")
    assert dropped == {"normalize": 0, "size": by_stage["size"], "exact_dedup": by_stage["exact_dedup"]}
    assert by_stage["size"] > 0
    assert by_stage["exact_dedup"] > 0
    rules = next(table for table in tables(card) if table[0][0] == "rule")
    (long,) = [row for row in rules if row[0] == "size.long"]
    assert long[1:4] == ["chars >= $min", "min = 60", str(by_stage["size"])]


def test_every_column_has_a_definition(several):
    shown = next(table for table in tables(render_card(several)) if table[0][0] == "column of data/")
    root = Path(several.storage.root)
    first = sorted((root / "data").rglob("*.parquet"))[0]
    assert [row[0] for row in shown[1:]] == pq.read_schema(first).names
    assert all(row[2] for row in shown[1:])
    assert next(row for row in shown if row[0] == "loud")[2] == "computed: upper(lang)"


def test_the_commands_on_the_card_work(several, monkeypatch):
    monkeypatch.chdir(several.storage.root)
    scripts = [text for text in blocks(render_card(several), "python") if "import duckdb" in text]
    assert scripts
    for script in scripts:
        exec(script, {"duckdb": duckdb})


def test_the_commands_work_on_json_lines(corpus, tmp_path, monkeypatch):
    output = finished(corpus, tmp_path, write={"format": "jsonl.zst"})
    monkeypatch.chdir(output.storage.root)
    (script,) = [text for text in blocks(render_card(output), "python") if "import duckdb" in text]
    exec(script, {})


def test_the_recipe_on_the_card_is_the_one_that_ran(corpus, tmp_path):
    write = {"sets": {"main": {}, "rest": {"where": "decision = 'drop'"}}}
    tags = {"use": "rules", "name": "tags", "action": "tag", "rules": {"a": "chars > 70"}}
    stages = [*STAGES, {"use": "c4_lines", "min_words": None, "terminal_punct": False}, tags]
    output = finished(corpus, tmp_path, write=write, stages=stages)
    (text,) = blocks(render_card(output), "yaml")
    again = parse_recipe(YAML(typ="safe", pure=True).load(text))
    said = [entry.model_copy(update={"action": entry.action or "drop"}) for entry in again.stages]
    again = again.model_copy(update={"stages": said})
    assert again.resolved() == Recipe.model_validate(output.manifest["recipe"]).resolved()


def test_an_observing_run_has_no_configuration_and_says_so(corpus, tmp_path):
    output = finished(corpus, tmp_path, observe=True)
    card = render_card(output)
    assert "configs" not in yaml.safe_load(head_of(card))
    assert "observed only" in card.decode()
    assert not os.path.exists(f"{output.storage.root}/data") or not os.listdir(f"{output.storage.root}/data")


def test_a_run_that_kept_nothing_has_a_card(corpus, tmp_path):
    stages = [{"use": "rules", "rules": {"none": "chars < 0"}}]
    card = render_card(finished(corpus, tmp_path, stages=stages))
    assert "configs" not in yaml.safe_load(head_of(card))
    assert "There are no documents" in card.decode()


def test_a_sample_says_that_its_duplicates_are_lower_bounds(corpus, tmp_path):
    card = render_card(finished(corpus, tmp_path, sample=0.5)).decode()
    assert "lower bounds" in card
    assert re.search(r"\d+ documents lie outside", card)


def test_an_object_store_has_the_same_card(corpus, tmp_path, s3):
    recipe = {"name": "x", "input": {"files": f"{corpus}/*.parquet"}, "stages": STAGES}
    cards = []
    for place in (str(tmp_path / "out"), f"{s3}/out"):
        run(parse_recipe({**recipe, "output": place}))
        cards.append(render_card(Output(place)).decode().replace(place, "PLACE"))
    assert cards[0] == cards[1]


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_any_text_reads_as_itself(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    cell, item, middle = "| x |\n|---|\n| {} |\n", "- {}\n", "word {}\n"
    cases = [(plain(text), visible(text), place) for place in (cell, item, middle)]
    cases.append((code(text), " ".join(map(visible, text.split())), cell))
    for markdown, wanted, place in cases:
        parsed = parser.parse(place.format(markdown))
        assert not {token.type for token in parsed} & {"heading_open", "ordered_list_open", "hr", "html_block", "fence"}
        children = [c for c in [t for t in parsed if t.type == "inline"][-1].children or () if c.content]
        assert {c.type for c in children} <= {"text", "text_special", "code_inline"}
        assert "".join(c.content for c in children).removeprefix("word ") == wanted


def test_a_block_ends_only_at_its_end():
    text = "a\n```\nb\n````\n~~~\n"
    (token,) = [t for t in MarkdownIt("commonmark").parse("\n".join(block(text, "yaml"))) if t.type == "fence"]
    assert token.content.rstrip("\n") == text.rstrip("\n")
