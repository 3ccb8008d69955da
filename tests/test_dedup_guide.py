"""docs/dedup.md: its recipes are loaded, its commands typed over a small corpus, and its numbers computed again."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from ruamel.yaml import YAML

from tamis.pipeline.driver import run
from tamis.pipeline.planning import plan_recipe
from tamis.pipeline.recipe import load_recipe, parse_recipe

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT.parent / "shared" / "data" / "web"
TEXT = (ROOT / "docs" / "dedup.md").read_text("utf-8")
STAGE = {"use": "near_dedup", "prefer": ["longest"]}


def commands(title: str) -> list[str]:
    """The commands below the heading."""
    section = re.split(rf"^##+ {re.escape(title)}$", TEXT, flags=re.MULTILINE)[1]
    lines = re.split(r"^##", section, flags=re.MULTILINE)[0].splitlines()
    return [line.strip() for line in lines if line.startswith("    tamis ")]


def snippets() -> list[list[dict[str, Any]]]:
    return [YAML(typ="safe").load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)]


def word(draw: random.Random) -> str:
    return "".join(draw.choice("abcdefghij") for _ in range(4))  # a word of digits would be a number, which is 0


def corpus(draw: random.Random) -> list[dict[str, Any]]:
    """Pages of 60 to 120 rare words, a third of them copies in which some words are others; some copies of copies."""
    pages: list[dict[str, Any]] = []
    for number in range(240):
        words = [word(draw) for _ in range(draw.randint(60, 120))]
        if number > 20 and number % 3 == 0:
            words = pages[draw.randrange(len(pages))]["text"].split()
            for at in draw.sample(range(len(words)), draw.choice([0, 1, 1, 2, 3])):
                words[at] = word(draw)
            words += ["more"] * draw.randrange(3)
        date, source = f"20{draw.randrange(10, 25)}-0{draw.randrange(1, 10)}-11", f"site{draw.randrange(4)}"
        page = {"id": f"page{number:03d}", "text": " ".join(words), "date": date, "source": source, "lang": "en"}
        pages.append(page)
    return pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`web/`, `near.yaml` and the finished run `out/web`."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "web").mkdir()
    pages = corpus(random.Random(4))
    for part in range(2):
        table = pa.Table.from_pylist(pages[part * 120 : (part + 1) * 120])
        pq.write_table(table, folder / "web" / f"{part}.parquet")
    recipe = {"name": "near", "input": f"{folder}/web/*.parquet", "output": f"{folder}/out/web"}
    with (folder / "near.yaml").open("w") as file:
        YAML().dump(recipe | {"stages": [STAGE], "report": {"pages": False}}, file)
    run(load_recipe(folder / "near.yaml"))
    return folder


@pytest.fixture(scope="module")
def ledger(folder: Path) -> list[dict[str, Any]]:
    return runs.rows(folder / "out" / "web", "ledger").to_pylist()


@pytest.fixture(scope="module")
def pairs(ledger: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(duplicate, the one kept for it)."""
    at = {(row["source_file"], row["source_row"]): row for row in ledger}
    found = [row for row in ledger if row["near_kept_row"] is not None]
    return [(row, at[row["near_kept_file"], row["near_kept_row"]]) for row in found]


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


# --- numbers and recipes ------------------------------------------------------------------------------------------


def test_the_table_of_curves_is_computed_again() -> None:
    lines = [line.split("|")[1:-1] for line in TEXT.splitlines() if re.match(r"\|.*\d+ x \d+ \|", line)]
    head = next(line for line in TEXT.splitlines() if "bands x rows | half" in line).split("|")[4:-1]
    points = [float(cell.replace("s =", "")) for cell in head]
    assert len(lines) == 5
    for _, shape, half, *cells in lines:
        bands, height = (int(number) for number in shape.split("x"))
        missed = [(1 - s**height) ** bands for s in points]
        assert [cell.strip() for cell in cells] == [f"{1 - share:.4f}" for share in missed]
        assert half.strip() == f"{(1 - 0.5 ** (1 / bands)) ** (1 / height):.2f}"


def test_the_solved_line_of_the_table_is_what_is_solved() -> None:
    from tamis.stages._lsh import solve

    bands, height = solve(0.8, 128)
    assert f"| `similarity: 0.8` | {bands} x {height} |" in TEXT


def test_every_recipe_of_the_page_is_planned(folder: Path) -> None:
    found = snippets()
    assert len(found) == 7
    for number, stages in enumerate(found):
        told = json.loads(json.dumps(stages).replace("out/dump1", f"{folder}/out/web"))
        recipe = {"name": "n", "input": f"{folder}/web/*.parquet", "output": f"{folder}/plan{number}", "stages": told}
        assert plan_recipe(parse_recipe(recipe)).graph.stages


def test_the_defaults_that_the_page_names_are_those_of_the_stage() -> None:
    from tamis.stages.near_dedup import NearDedupConfig

    default = NearDedupConfig()
    assert (default.ngram, default.bands, default.rows) == (5, 14, 8)
    assert f"`max_cluster` ({default.max_cluster:,} documents)" in TEXT
    assert f"`max_loss` ({default.max_loss:.0%})".replace("%", " %") in TEXT


def test_every_page_that_the_guide_names_is_there() -> None:
    for name in re.findall(r"\]\(([a-z_]+\.md)\)", TEXT):
        assert (ROOT / "docs" / name).exists(), name


@pytest.mark.skipif(not WEB.is_dir(), reason="needs ../shared/data/web")
def test_the_figures_on_real_pages(tmp_path: Path) -> None:
    shards = [str(path) for path in sorted(WEB.glob("*.parquet"))[:2]]
    found = {}
    for name, more in (("plain", {}), ("verified", {"verify": "jaccard >= 0.8"})):
        stages = [{"use": "exact_dedup"}, {**STAGE, **more}]
        recipe = {"name": name, "input": {"files": shards}, "output": f"{tmp_path}/{name}", "stages": stages}
        found[name] = run(parse_recipe({**recipe, "report": {"pages": False}})).manifest
    documents = found["plain"]["counts"]["rows"]
    removed, fewer = (manifest["facts"]["near_dedup"]["duplicates"] for manifest in found.values())
    least = runs.query(f"SELECT min(near_similarity) FROM '{tmp_path}/plain/ledger/*.parquet'")[0][0]
    words = " ".join(TEXT.split())
    assert f"On {documents:,} real web pages, the default settings removed {removed} near duplicates" in words
    assert f"had a similarity of {least:.2f} to the document that stayed" in words
    assert f"{fewer} of the {removed} went, and {removed - fewer} stayed" in words


# --- questions ----------------------------------------------------------------------------------------------------


def test_the_corpus_has_clusters_chains_and_unique_pages(pairs: Any, ledger: Any) -> None:
    sizes = Counter(row["near_cluster"] for row in ledger if row["near_cluster"])
    assert len(pairs) > 50
    assert max(sizes.values()) > 4
    assert sum(row["near_cluster"] is None for row in ledger) > 50
    assert min(row["near_similarity"] for row, _ in pairs) < 0.9


def test_why_a_document_is_not_there(ask: Callable[..., str], pairs: Any) -> None:
    row, kept = pairs[0]
    said = ask(
        commands("Why is this document not in the output, and which one stands for it?")[0], DOC_ID=row["doc_id"]
    )
    assert "dropped by near_dedup.duplicate" in said
    assert f"similarity {row['near_similarity']:.2f}, estimated" in said
    assert f"the one kept is {kept['doc_id']} ({kept['source_file']}#{kept['source_row']})" in said


def test_whom_a_kept_one_stands_for(ask: Callable[..., str], pairs: Any, ledger: Any) -> None:
    members = defaultdict(list)
    for row, kept in pairs:
        members[kept["doc_id"]].append(row)
    name = max(members, key=lambda name: (len(members[name]), name))
    listed, shown = commands("Which documents does a kept one stand for?")
    found = rows(ask(listed, KEPT_ID=name))
    order = sorted(members[name], key=lambda row: (-row["near_similarity"], row["doc_id"]))
    assert [row["doc_id"] for row in found] == [row["doc_id"] for row in order]
    said = ask(f"{shown} -n 50", CLUSTER=order[0]["near_cluster"])
    told = re.findall(r"^--- (page\d+) \(", said, re.MULTILINE)
    assert sorted(told) == sorted([name, *(row["doc_id"] for row in order)])
    why = ask(commands("Why is this document not in the output, and which one stands for it?")[0], DOC_ID=name)
    assert f"kept for {len(order)} duplicates" in why


def test_which_replaced_which(ask: Callable[..., str], pairs: Any) -> None:
    found = rows(ask(commands("Which document replaced which?")[0]))
    told = {(row["source_file"], row["source_row"]): (row["near_kept_file"], row["near_kept_row"]) for row in found}
    assert told == {
        (row["source_file"], row["source_row"]): (kept["source_file"], kept["source_row"]) for row, kept in pairs
    }
    assert all(kept["decision"] == "keep" for _, kept in pairs)


def test_which_clusters_are_chains(ask: Callable[..., str], pairs: Any) -> None:
    similar = defaultdict(list)
    for row, _ in pairs:
        similar[row["near_cluster"]].append(row["near_similarity"])
    expected = sorted((min(values), name, len(values)) for name, values in similar.items())[:10]
    found = rows(ask(commands("Which clusters are chains?")[0]))
    assert [(row["near_cluster"], row["duplicates"]) for row in found] == [(name, n) for _, name, n in expected]


def test_how_many_would_stay(ask: Callable[..., str], pairs: Any) -> None:
    [found] = rows(ask(commands("How many documents would stay at a stricter threshold?")[0]))
    for percent in (70, 80, 90):
        expected = sum(row["near_similarity"] >= pa.scalar(percent / 100, pa.float32()).as_py() for row, _ in pairs)
        assert found[f"removed_at_{percent}"] == expected


def test_which_sources_lost_most(ask: Callable[..., str], pairs: Any, ledger: Any) -> None:
    documents, removed = Counter(row["source"] for row in ledger), Counter(row["source"] for row, _ in pairs)
    found = rows(ask(commands("Which sources lost most?")[0]))
    order = sorted(documents, key=lambda name: (-removed[name] / documents[name], name))
    assert [(row["source"], row["documents"], row["removed"]) for row in found] == [
        (name, documents[name], removed[name]) for name in order
    ]


def test_which_sources_copy_from_each_other(ask: Callable[..., str], pairs: Any) -> None:
    expected = Counter((row["source"], kept["source"]) for row, kept in pairs)
    found = rows(ask(commands("Which sources copy from each other?")[0]))
    assert {(row["removed_from"], row["kept_in"]): row["documents"] for row in found} == expected


def test_does_the_older_or_the_newer_stay(ask: Callable[..., str], pairs: Any) -> None:
    [found] = rows(ask(commands("Does the older or the newer document stay?")[0]))
    assert found["older_stays"] == sum(kept["date"] < row["date"] for row, kept in pairs) > 0
    assert found["newer_stays"] == sum(kept["date"] > row["date"] for row, kept in pairs) > 0


def test_how_much_text_it_was(ask: Callable[..., str], pairs: Any) -> None:
    [found] = rows(ask(commands("How much text was it?")[0]))
    size = sum(row["bytes_read"] for row, _ in pairs)
    assert found == {"rule": "near_dedup.duplicate", "documents": len(pairs), "bytes": size}


def test_tagging_keeps_everybody_and_finds_the_same(ask: Callable[..., str], folder: Path, ledger: Any) -> None:
    ask(commands("Undoing it")[0])
    tagged = runs.rows(folder / "out" / "tagged", "ledger").to_pylist()
    assert {row["decision"] for row in tagged} == {"keep"}
    assert [row["near_cluster"] for row in tagged] == [row["near_cluster"] for row in ledger]
    assert [row["near_dedup_pass"] for row in tagged] == [row["near_kept_row"] is None for row in ledger]


def test_every_command_of_the_page_is_typed_by_a_test() -> None:
    source = Path(__file__).read_text("utf-8")
    for title in re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE):
        if commands(title):
            assert f'commands("{title}")' in source, title
