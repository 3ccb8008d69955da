"""docs/questions.md: every command in it is typed over real pages, and its answer is computed again from the input and
the shards."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import runs
from near_documents import jaccard

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT.parent / "shared" / "data" / "web"
TEXT = (ROOT / "docs" / "questions.md").read_text("utf-8")
RECIPE = ROOT / "configs" / "fineweb.yaml"
TORN = 500_000  # bytes of the file that is cut off

pytestmark = pytest.mark.skipif(not WEB.is_dir(), reason="needs ../shared/data/web")


def commands(number: int) -> list[str]:
    """The commands below '## number.'."""
    section = re.split(rf"^## {number}\. ", TEXT, flags=re.MULTILINE)[1].partition("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    tamis ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`web/` with two shards and a torn one, `out/web` and `out/seen`."""
    folder = tmp_path_factory.mktemp("questions")
    (folder / "web").mkdir()
    (folder / "configs").symlink_to(ROOT / "configs")
    shards = sorted(WEB.glob("*.parquet"))[:3]
    for shard in shards[:2]:
        shutil.copy(shard, folder / "web" / shard.name)
    (folder / "web" / "torn.parquet").write_bytes(shards[2].read_bytes()[:TORN])
    settings = ["max_bad=100%", "report.pages=false"]
    for name, more in (("web", []), ("seen", ["observe=true"])):
        files = [f"{folder}/web/*.parquet"]
        run(load_recipe(RECIPE, input=files, output=f"{folder}/out/{name}", settings=[*settings, *more]))
    return folder


@pytest.fixture(scope="module")
def source(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The input's rows by file and row, read by pyarrow alone."""
    found = {}
    for path in sorted((folder / "web").glob("web-*.parquet")):
        for row, document in enumerate(pq.read_table(path).to_pylist()):
            found[(path.name, row)] = document
    return found


@pytest.fixture(scope="module")
def kept(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What stands in data/, with its place."""
    found = {}
    for path in sorted((folder / "out" / "web" / "data").glob("*.parquet")):
        for row, document in enumerate(pq.read_table(path).to_pylist()):
            place = (document["source_file"], document["source_row"])
            found[place] = {**document, "out_file": f"data/{path.name}", "out_row": row}
    return found


@pytest.fixture
def ask(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Types a command of the page in the folder, its placeholders filled in; `sql` answers come as JSON lines."""
    monkeypatch.chdir(folder)

    def typed(command: str, **values: str) -> str:
        for name, value in values.items():
            command = re.sub(rf"\b{name}\b", value, command)
        words = shlex.split(command)[1:]
        return runs.tamis(*words, *(["--format", "json"] if words[0] == "sql" else []))

    return typed


def rows(answer: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines() if line.startswith("{")]


def test_there_are_ten_questions_with_commands() -> None:
    assert [len(commands(number)) > 0 for number in range(1, 11)] == [True] * 10


def test_1_documents_characters_and_share_kept(ask: Callable[..., str], source: Any, kept: Any) -> None:
    documents, characters, stayed = Counter(), Counter(), Counter()
    for place, document in source.items():
        group = (document["source"], document["lang"])
        documents[group] += 1
        characters[group] += len(document["text"])
        stayed[group] += place in kept
    found = {(row["source"], row["lang"]): row for row in rows(ask(commands(1)[0]))}
    assert found.keys() == documents.keys()
    for group, row in found.items():
        assert (row["documents"], row["characters"]) == (documents[group], characters[group])
        assert row["kept"] == pytest.approx(stayed[group] / documents[group])


def test_2_rules_that_removed_most_and_alone(ask: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    """Without a rule, the documents that fall by it alone are kept: the recipe is run again without the two foremost."""
    found = {row["rule"]: row for row in rows(ask(commands(2)[0]))}
    per_document = [rule for rule in found if not rule.startswith("near_dedup")]
    assert sum(row["dropped"] for row in found.values()) > 5_000

    def passing(*settings: str) -> set[tuple[str, int]]:
        output = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        common = ["max_bad=100%", "report.pages=false", "near_dedup.action=tag"]
        run(load_recipe(RECIPE, input=[f"{folder}/web/*.parquet"], output=str(output), settings=[*common, *settings]))
        return set(runs.query(f"SELECT source_file, source_row FROM '{output}/data/*.parquet'"))

    everything = passing()
    for rule in sorted(per_document, key=lambda rule: -found[rule]["only_by_it"])[:2]:
        stage = "web" if rule.startswith(("c4.", "fineweb.")) else "gopher"
        assert len(passing(f"{stage}.off=[{rule}]") - everything) == found[rule]["only_by_it"] > 0


def test_3_why_a_url_is_not_in_the_output(ask: Callable[..., str], source: Any, kept: Any) -> None:
    place, document = next((p, d) for p, d in source.items() if p not in kept and len(d["text"].split()) < 20)
    said = ask(commands(3)[0], URL=document["url"])
    assert f"{place[0]}#{place[1]}" in said
    assert "dropped" in said
    assert document["url"][:60] in said


def test_4_which_document_replaced_it(ask: Callable[..., str], source: Any, kept: Any) -> None:
    found = rows(ask(commands(4)[0]))
    assert found
    for row in found:
        place, survivor = (row["source_file"], row["source_row"]), (row["near_kept_file"], row["near_kept_row"])
        assert place not in kept
        assert survivor in kept
        assert kept[survivor]["doc_id"] == row["near_kept_doc_id"]
    alike = [
        row
        for row in found
        if jaccard(
            source[(row["source_file"], row["source_row"])]["text"],
            source[(row["near_kept_file"], row["near_kept_row"])]["text"],
        )
        > 0.6
    ]
    assert len(alike) > len(found) / 2  # the others became so by edits


def test_5_ten_documents_on_each_side(ask: Callable[..., str], folder: Path) -> None:
    said = ask(commands(5)[0])
    ledger = f"'{folder}/out/web/ledger/*.parquet'"
    below = runs.query(f"SELECT words FROM {ledger} WHERE words < 50 ORDER BY words DESC LIMIT 10")
    above = runs.query(f"SELECT words FROM {ledger} WHERE words >= 50 ORDER BY words LIMIT 10")
    told = [int(value) for value in re.findall(r"^values +words = (\d+)", said, re.MULTILINE)]
    assert sorted(told)[:10] == sorted(words for (words,) in below)
    assert sorted(told)[-10:] == sorted(words for (words,) in above)


def test_6_another_threshold_without_a_run(ask: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    [answer] = rows(ask(commands(6)[0]))
    settings = [
        "max_bad=100%",
        "report.pages=false",
        "near_dedup.action=tag",
        "gopher.set.gopher_quality.words_min=100",
    ]
    run(load_recipe(RECIPE, input=[f"{folder}/web/*.parquet"], output=str(tmp_path / "out"), settings=settings))
    assert answer["kept"] == runs.query(f"SELECT count(*) FROM '{tmp_path}/out/data/*.parquet'")[0][0]


def test_7_what_an_edit_took_out(ask: Callable[..., str], source: Any, kept: Any) -> None:
    def gone(place: tuple[str, int]) -> list[str]:
        after = {line.strip() for line in kept[place]["text"].split("\n")}
        return [
            line.strip() for line in source[place]["text"].split("\n") if line.strip() and line.strip() not in after
        ]

    place = next(place for place in kept if 0 < len(gone(place)) < 6)
    said = ask(commands(7)[0], DOC_ID=kept[place]["doc_id"])
    for line in gone(place):
        assert line[:60] in said
    assert "c4_lines" in said


def test_8_where_it_was_written(ask: Callable[..., str], kept: Any) -> None:
    for document in list(kept.values())[::700]:
        [row] = rows(ask(commands(8)[0], DOC_ID=document["doc_id"]))
        assert (row["out_file"], row["out_row"]) == (document["out_file"], document["out_row"])


def test_9_files_that_gave_trouble(ask: Callable[..., str]) -> None:
    [row] = rows(ask(commands(9)[0]))
    assert (row["file"], row["bytes"]) == ("torn.parquet", TORN)
    assert rows(ask(commands(9)[1])) == []


def test_10_seconds_and_the_estimate(ask: Callable[..., str], folder: Path, source: Any) -> None:
    manifest = json.loads((folder / "out" / "web" / "manifest.json").read_text())
    found = rows(ask(commands(10)[0]))
    assert [row["name"] for row in found] == [stage["name"] for stage in manifest["stages"]]
    assert found[0]["documents_in"] == len(source)
    assert all(row["seconds"] >= 0 for row in found)
    said = ask(commands(10)[1] + " --json")
    estimate = json.loads(said)
    assert estimate["rows"] == pytest.approx(1000 * len(source), rel=0.02)
    assert estimate["kept_share"] == manifest["counts"]["kept"] / len(source)
    cpu = sum(step["cpu_seconds"] for step in manifest["costs"]["steps"])
    cpu += manifest["costs"]["write"]["cpu_seconds"] + manifest["costs"]["ledger"]["cpu_seconds"]
    assert estimate["cpu_seconds"] == pytest.approx(1000 * cpu, rel=0.05)
    assert estimate["money"] == pytest.approx(0.03 * estimate["cpu_seconds"] / 3600)


def test_the_answers_rest_on_real_text(source: Any, kept: Any) -> None:
    assert len(source) > 10_000
    assert len(kept) > 2_000
