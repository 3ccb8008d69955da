"""The law of banded MinHash: pairs of the similarity s are found with probability 1 - (1 - s^rows)^bands, no other way.

Every pair has a scope of its own, so a document can meet its edited copy and nothing else; similarities are those of
Python sets of words.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.stages.near_dedup import NearDedup, NearDedupConfig

from ..bench.near_pairs import ASCII_WORDS, grams, jaccard, pairs_of, vocabulary, zipf_words
from .local_context import resolve

N = 5
PAIRS = 4000
SPREAD = 3.9  # standard errors: one bin in ten thousand is farther off by chance, and 40 are looked at
Pair = tuple[str, str, float]


@pytest.fixture(scope="module")
def prose() -> list[Pair]:
    """Pairs of 60 to 400 words from a Zipf vocabulary."""
    draw = random.Random(5)
    words = zipf_words(draw, vocabulary(draw, 5000))
    return pairs_of((words(draw.randint(60, 400)) for _ in range(PAIRS)), PAIRS, N, seed=6)


@pytest.fixture(scope="module")
def web(shared_data: Path) -> list[Pair]:
    """Pairs of real documents, of their ASCII words; one of each group of documents that begin alike."""
    texts = pq.read_table(sorted((shared_data / "web").glob("*.parquet"))[0], columns=["text"])["text"].to_pylist()
    documents = {tuple(words[:20]): words for words in (ASCII_WORDS(text.lower())[:1500] for text in texts)}
    return pairs_of(documents.values(), PAIRS, N, seed=7)


def found(pairs: Sequence[Pair], **config: Any) -> tuple[list[bool], dict[str, Any], list[dict[str, Any]]]:
    """Of each pair whether its documents came together; the facts; the verdicts. Half a dozen units cut pairs apart."""
    texts = [text for left, right, _ in pairs for text in (left, right)]
    numbers = [number // 2 for number in range(len(texts))]
    rows = pa.table({"text": pa.array(texts, pa.large_string()), "pair": numbers})
    stage = NearDedup(NearDedupConfig.model_validate({"ngram": N, "scope": "pair", **config}), name="near_dedup")
    verdict, facts = resolve(stage, rows, cuts=range(1, len(texts), 1501))
    dropped = [rule is not None for rule in verdict["rule"].to_pylist()]
    assert not any(one and other for one, other in zip(dropped[::2], dropped[1::2], strict=True))
    together = [one or other for one, other in zip(dropped[::2], dropped[1::2], strict=True)]
    return together, facts, verdict.to_pylist()


def law(similarity: float, bands: int, rows: int) -> float:
    return 1 - (1 - similarity**rows) ** bands


def check(pairs: Sequence[Pair], together: Sequence[bool], bands: int, rows: int, start: float = 0.4) -> None:
    """In every bin of 0.05 from `start` to 1, and over all, the number found is what the law says, pair by pair."""
    bins: dict[int, list[tuple[bool, float]]] = defaultdict(list)
    for (_, _, similarity), hit in zip(pairs, together, strict=True):
        if similarity >= start:
            bins[min(19, int(similarity * 20 + 1e-9))].append((hit, law(similarity, bands, rows)))
    assert sorted(bins) == list(range(round(start * 20), 20))
    bins[-1] = [one for of_bin in list(bins.values()) for one in of_bin]
    for number, of_bin in bins.items():
        assert len(of_bin) >= 100, (number, len(of_bin))
        expected = sum(chance for _, chance in of_bin)
        error = math.sqrt(sum(chance * (1 - chance) for _, chance in of_bin))
        hits = sum(hit for hit, _ in of_bin)
        # where the law is all but certain, a whole pair more or less is nothing but chance
        assert abs(hits - expected) <= SPREAD * error + 1, (number / 20, len(of_bin), hits, expected, error)


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 13), (32, 10), (9, 13)])
def test_generated_pairs_are_found_as_often_as_the_law_says(prose: list[Pair], bands: int, rows: int) -> None:
    together, facts, _ = found(prose, bands=bands, rows=rows)
    check(prose, together, bands, rows)
    assert (facts["bands"], facts["rows"]) == (bands, rows)
    assert facts["duplicates"] == facts["groups"] == sum(together)
    assert facts["documents"] == 2 * len(prose)


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 13), (5, 25)])
def test_real_documents_are_found_as_often_as_the_law_says(web: list[Pair], bands: int, rows: int) -> None:
    together, _, _ = found(web, bands=bands, rows=rows)
    check(web, together, bands, rows)


def test_estimated_similarity_is_as_near_to_the_truth_as_theory_says(prose: list[Pair]) -> None:
    """Of pairs that were found by chance of one band, the bias of having been found included: below 0.75 estimates
    lean upwards, above 0.9 nearly every pair is found and there is none."""
    _, _, verdict = found(prose, bands=14, rows=8)
    told = [max((row["near_similarity"] or -1.0) for row in verdict[at : at + 2]) for at in range(0, len(verdict), 2)]
    sure = [(told[at], similarity) for at, (_, _, similarity) in enumerate(prose) if 0.9 <= similarity < 1]
    errors = [(estimate - s) / math.sqrt(s * (1 - s) / 112) for estimate, s in sure if estimate >= 0]
    assert len(errors) > 300
    assert abs(sum(errors) / len(errors)) < 0.3
    assert 0.7 < sum(error * error for error in errors) / len(errors) < 1.3


@pytest.mark.parametrize("least", [0.8, 0.6])
def test_with_verify_precision_is_one_and_recall_follows_the_law(prose: list[Pair], least: float) -> None:
    together, facts, verdict = found(prose, verify=f"jaccard >= {least}")
    for at, (left, right, similarity) in enumerate(prose):
        if together[at]:
            assert similarity >= least
            told = max((row["near_similarity"] or 0.0) for row in verdict[2 * at : 2 * at + 2])
            assert told == pytest.approx(jaccard(grams(left.split(), N), grams(right.split(), N)), abs=1e-6)
    check([pair for pair in prose if pair[2] >= least], _of(prose, together, least), 14, 8, start=least)
    unverified, _, _ = found(prose)
    candidates, true = sum(unverified), sum(together)
    assert facts["candidates"] == candidates
    assert facts["false_candidates"] == candidates - true > 0
    assert [hit for hit, pair in zip(unverified, prose, strict=True) if pair[2] >= least] == _of(prose, together, least)


def _of(pairs: Sequence[Pair], together: Sequence[bool], least: float) -> list[bool]:
    return [hit for hit, (_, _, similarity) in zip(together, pairs, strict=True) if similarity >= least]
