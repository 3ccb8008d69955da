"""The benchmark itself: it runs on a tiny corpus, and what it checks of results can fail."""

from __future__ import annotations

import glob
import importlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import parse_recipe

from ..runs import write_corpus

HERE = Path(__file__).resolve().parent


def script(name: str) -> Any:
    """A script of this folder as a module; like any script, it finds the others beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        return importlib.import_module(name)


def bench(corpus: Path | str, scratch: Path, *parts: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, what it prints, and the JSON of a quick call."""
    found = scratch / "bench.json"
    arguments = [*parts, "--quick", "--corpus", f"{corpus}/*.parquet", "--scratch", scratch, "--json", found]
    command = [sys.executable, str(HERE / "run.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, json.loads(found.read_text()) if found.exists() else {}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("bench") / "in")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A finished run that keeps, drops and cuts lines."""
    folder = tmp_path_factory.mktemp("output") / "out"
    stages = [{"use": "c4_lines"}, {"use": "rules", "name": "size", "rules": {"long": "chars > 500"}}]
    recipe = {"name": "b", "input": {"files": f"{corpus}/*.parquet"}, "output": str(folder), "stages": stages}
    run(parse_recipe(recipe))
    return folder


def test_without_the_corpus_it_says_so_and_succeeds(tmp_path: Path) -> None:
    code, told, found = bench(tmp_path / "nothing", tmp_path)
    assert code == 0
    assert "nothing to measure" in told
    assert found == {}


def test_an_unknown_part_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    code, told, _ = bench(tmp_path, tmp_path, "speed")
    assert code == 2
    assert "heuristics, job, scaling, memory, estimate, commands" in told


@pytest.mark.parametrize(
    ("part", "figures"),
    [
        ("job", 1),
        pytest.param("heuristics", 2, marks=pytest.mark.slow),
        pytest.param("scaling", 1, marks=[pytest.mark.slow, pytest.mark.ray]),
        pytest.param("memory", 4, marks=[pytest.mark.slow, pytest.mark.ray]),
        pytest.param("commands", 3, marks=pytest.mark.slow),
        pytest.param("scale", 4, marks=[pytest.mark.slow, pytest.mark.ray]),
        pytest.param("near_dedup", 3, marks=pytest.mark.slow),
        pytest.param("fasttext", 4, marks=pytest.mark.slow),
        pytest.param("lm_scores", 3, marks=pytest.mark.slow),
    ],
)
def test_every_part_measures_right_results_beside_a_baseline(
    corpus: Path, tmp_path: Path, part: str, figures: int
) -> None:
    code, told, found = bench(corpus, tmp_path, part)
    assert code == 0, told
    assert len(found["rows"]) == figures
    for row in found["rows"]:
        assert row["part"] == part
        assert row["wrong"] == ""
        assert row["figure"] >= 0
        assert row["baseline"]
        assert row["met"] == ((row["figure"] >= row["target"]) == (row["better"] == "more"))
    assert told.count("| right: ") == figures
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"], "scratch is left as it was"


def test_a_wrong_result_is_never_met_and_fails_the_call() -> None:
    figures = script("figures")
    good = figures.Row("job", "what", 2.0, "times", "less", 6, "a copy", "sums")
    bad = figures.Row("job", "what", 2.0, "times", "less", 6, "a copy", "sums", "4 documents of 5")
    slow = figures.Row("job", "what", 7.0, "times", "less", 6, "a copy", "sums")
    assert [row.met for row in (good, bad, slow)] == [True, False, False]
    assert [figures.exit_code([row]) for row in (good, bad, slow)] == [0, 1, 0]
    assert "WRONG: 4 documents of 5" in figures.table([good, bad])


def test_the_checks_pass_on_a_right_output_and_name_each_fault(output: Path, tmp_path: Path) -> None:
    checks = script("checks")
    counts = json.loads((output / "manifest.json").read_text())["counts"]
    kept = checks.kept_ids(output)
    assert 0 < len(kept) == counts["kept"] < counts["rows"]
    for told in (checks.sums(counts, 1200), checks.verified(output), checks.same_ids(kept, set(kept), "")):
        assert told == ""
    assert "1200 documents in the ledger, 1201 in the input" in checks.sums(counts, 1201)
    assert checks.sums({**counts, "kept": counts["kept"] - 1}, 1200)
    assert "1 documents" in checks.same_ids(kept - {next(iter(kept))}, kept, "")
    assert checks.same_ids(set(), set(), "") == "nothing was kept"
    assert checks.agreement(kept, kept, 1200, 0.95) == (1.0, "")
    assert "only" in checks.agreement(set(list(kept)[100:]), kept, 1200, 0.95)[1]
    assert checks.same_counts([counts, counts], "") == ""
    assert checks.same_counts([counts, {**counts, "dropped": 0}], "")
    damaged = tmp_path / "damaged"
    shutil.copytree(output, damaged)
    part = next((damaged / "data").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9] + b"x" + part.read_bytes()[-8:])
    assert "verify: data/" in checks.verified(damaged)


def test_the_checks_of_near_duplicates_pass_on_right_groups_and_name_each_fault(tmp_path: Path) -> None:
    found = script("near_checks")
    clusters = ["x", "x", None, "y", "y", "y"]
    ledger = pa.table({"doc_id": list("abcdef"), "decision": ["keep", "drop", "keep", "keep", "drop", "drop"]})
    ledger = ledger.append_column("near_cluster", pa.array(clusters))
    assert found.kept_ids(ledger) == set("acd")
    assert found.same_groups(ledger, set("acd")) == found.same_groups(ledger, set("bcf")) == 1
    assert found.same_groups(ledger, set("ac")) == found.same_groups(ledger, set("abcd")) == pytest.approx(5 / 6)

    words = [f"word{at}" for at in range(200)]
    texts = [" ".join(words), " ".join(["Other", *words[1:]]), " ".join(words[:120]), "short one"]
    pq.write_table(pa.table({"id": list("abcd"), "text": texts}), tmp_path / "texts.parquet")
    files = [tmp_path / "texts.parquet"]
    assert found.missed(files, set("acd"), 5, 0.95, 10) == (3, "")
    assert "a and b" in found.missed(files, set("abcd"), 5, 0.95, 10)[1]
    assert found.missed(files, set("abcd"), 5, 0.995, 10) == (4, "")

    draw = random.Random(1)
    right = [draw.gauss(0, 1) for _ in range(500)]
    assert found.estimates(right) == ""
    for wrong in ([error + 0.3 for error in right], [error * 1.5 for error in right], [*right, 7.0], []):
        assert found.estimates(wrong) != ""


def test_edited_copies_have_the_similarity_that_is_said() -> None:
    pairs = script("near_pairs")
    draw = random.Random(1)
    words = pairs.zipf_words(draw, pairs.vocabulary(draw, 500))
    found = pairs.pairs_of((words(draw.randint(30, 300)) for _ in range(300)), 150, 3, seed=2)
    assert len(found) == 150
    for left, right, similarity in found:
        one, other = (set(zip(text.split(), text.split()[1:], text.split()[2:])) for text in (left, right))
        assert similarity == len(one & other) / len(one | other) > 0.2
    assert min(s for *_, s in found) < 0.45
    assert max(s for *_, s in found) > 0.95
    assert (pairs.grams(["a"], 3), pairs.grams([], 3)) == (frozenset({("a",)}), frozenset())
    assert pairs.jaccard(frozenset(), frozenset()) == 1.0


def test_runs_with_other_results_are_told_apart_by_their_checksums(output: Path, tmp_path: Path) -> None:
    checks = script("checks")
    other = tmp_path / "other"
    other.mkdir()
    lines = (output / "checksums.txt").read_text()
    (other / "checksums.txt").write_text(lines)
    assert checks.same_results([output, other]) == ""
    first = next(line for line in lines.splitlines() if " data/" in line)
    (other / "checksums.txt").write_text(lines.replace(first, f"{'0' * 32}{first[32:]}"))
    assert checks.same_results([output, other]) != ""
    (other / "checksums.txt").write_text("")
    assert checks.same_results([other, other]) != ""


def test_two_perfect_workers_count_as_twice_one(tmp_path: Path) -> None:
    speed = script("part_scaling").documents_per_second

    def log(name: str, times: list[float]) -> Path:
        events = [{"event": "start", "time": 0.0}]
        events += [{"event": "unit", "time": time, "rows": 10} for time in times]
        (tmp_path / name).write_text("".join(f"{json.dumps(event)}\n" for event in events))
        return tmp_path / name

    one = speed(log("one", [50 + second for second in range(20)]), 1)
    two = speed(log("two", [80 + second for second in range(10) for _ in range(2)]), 2)
    assert one == pytest.approx(10)
    assert two == pytest.approx(20)


def test_the_corpora_that_are_made_hold_what_they_say(corpus: Path, tmp_path: Path) -> None:
    corpora = script("corpora")
    made = corpora.Bench(f"{corpus}/*.parquet", tmp_path, corpora.QUICK)
    source = read(f"{corpus}/*.parquet")
    assert (made.rows, made.text_bytes) == (1200, sum(len(text.encode()) for text in source["text"].to_pylist()))

    path, size = made.slice
    chosen = pq.read_table(path)
    assert sum(len(text.encode()) for text in chosen["text"].to_pylist()) == size
    assert 0.9 * corpora.QUICK.slice_bytes < size <= corpora.QUICK.slice_bytes
    assert set(chosen["id"].to_pylist()) < set(source["id"].to_pylist())

    twice = read(made.repeated)
    assert len(set(twice["id"].to_pylist())) == len(twice) == 2400
    assert twice["url"].null_count == 2 * source["url"].null_count
    assert sorted(twice["text"].to_pylist()) == sorted(2 * source["text"].to_pylist())

    assert len(list(tmp_path.glob("many/*.parquet"))) == 0
    assert len(read(made.many_files)) == 400
    assert len(list(tmp_path.glob("many/*.parquet"))) == corpora.QUICK.files
    lines = read(made.many_documents)
    assert len(set(lines["id"].to_pylist())) == len(lines) == corpora.QUICK.ledger_rows
    assert "" not in lines["text"].to_pylist()


def read(pattern: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(glob.glob(pattern))])
