"""`tamis why` on duplicates: the kept one, for whom it stands, how similar they are, and how all are seen."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tamis.pipeline.output import Output
from tamis.pipeline.why import story

from ..runs import tamis
from .known_duplicates import CLUSTER, known_run

SIMILAR = [None, 0.95, 0.81, 0.9, 0.99]
ROWS = [
    *({"id": f"a{n}", "grp": 1, "sim": s} for n, s in enumerate(SIMILAR)),
    {"id": "pair", "grp": 2},
    {"id": "other", "grp": 2, "sim": 0.8333},
    {"id": "alone"},
    {"id": "late", "grp": 3, "sim": 0.7, "elsewhere": "out/dump1"},
]
FACTS: dict[str, Any] = {"ngram": 5, "bands": 14, "rows": 8}


def told(output: Output, key: str) -> list[str]:
    return [line.strip() for line in story(output.storage.root, key=key).splitlines()]


def line(output: Output, key: str, head: str) -> str:
    return next(found for found in told(output, key) if found.startswith(head))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Output:
    return known_run(tmp_path_factory.mktemp("cluster"), ROWS, FACTS)


def test_a_duplicate_tells_similarity_cluster_and_the_kept_document_with_its_place(output: Output) -> None:
    fate = line(output, "a2", "fate")
    assert f"one of 5 duplicates (cluster {CLUSTER.format(1)}; similarity 0.81, estimated)" in fate
    assert "the one kept is a0 (part-0.parquet#0), written to data/part-000000.parquet, row 0" in fate


def test_the_kept_one_tells_for_how_many_it_stands_and_names_the_least_similar(output: Output) -> None:
    assert line(output, "a0", "cluster") == (
        f"cluster near_dedup: kept for 4 duplicates (cluster {CLUSTER.format(1)}), the least similar with similarity "
        "0.81, estimated: a2 (part-0.parquet#2), a3 (part-0.parquet#3), a1 (part-0.parquet#1) and 1 more"
    )
    assert line(output, "pair", "cluster").endswith("similarity 0.83, estimated: other (part-0.parquet#6)")


def test_a_document_without_duplicates_has_no_cluster(output: Output) -> None:
    assert not any(found.startswith(("cluster", "all of them")) for found in told(output, "alone"))


def test_a_duplicate_of_an_earlier_output_names_it(output: Output) -> None:
    fate = line(output, "late", "fate")
    assert f"a duplicate (cluster {CLUSTER.format(3)}; similarity 0.70, estimated)" in fate
    assert "the one kept is far (far#7) of the earlier output out/dump1" in fate


def test_the_command_that_is_named_shows_the_whole_cluster(output: Output) -> None:
    for key in ("a0", "a3"):
        command = line(output, key, "all of them: ").removeprefix("all of them: ")
        shown = tamis(*shlex.split(command)[1:], "-n", "20")
        assert set(re.findall(r"\b(a\d|pair|other|alone|late) \(part", shown)) >= {f"a{n}" for n in range(5)}
        assert "alone (part" not in shown


def test_what_was_verified_is_told_as_true_jaccard(tmp_path: Path) -> None:
    verified = known_run(tmp_path, ROWS, {**FACTS, "jaccard": 0.8, "candidates": 7, "false_candidates": 2})
    assert "; Jaccard 0.8333)" in line(verified, "other", "fate")
    assert "the least similar with Jaccard 0.8100: a2" in line(verified, "a0", "cluster")
    assert "estimated" not in "".join(told(verified, "a0"))


def test_a_tagged_duplicate_is_kept_and_still_tells_of_whom_it_is_one(tmp_path: Path) -> None:
    tagged = known_run(tmp_path, ROWS, FACTS, stage={"action": "tag"})
    assert line(tagged, "a2", "fate").startswith("fate    kept: ")
    found = line(tagged, "a2", "cluster")
    assert found.startswith(f"cluster near_dedup: one of 5 duplicates (cluster {CLUSTER.format(1)}; similarity 0.81")
    assert "the one kept is a0 (part-0.parquet#0)" in found


def test_the_stories_at_the_end_of_a_run_stay_short(output: Output) -> None:
    from tamis.pipeline.why import tell

    row = output.row("part-0.parquet", 0)
    assert row
    assert not any(found.startswith("cluster") for found in tell(output, row, brief=True))
