"""The parts of the mini chain: nothing is in two of them, a scrambled text keeps its words, the cloze task favours none."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.training.mini_cloze import BEGINNING, CHOICES, ENDING, Item, ability, make_items
from tamis.pipeline.training.mini_models import MODELS, mixture
from tamis.pipeline.training.mini_numbers import Kept, over_base_rate
from tamis.pipeline.training.mini_parts import (
    GROUPS,
    LONG_LINE,
    ORDINARY,
    PASSAGE,
    SCRAMBLED,
    SHORTEST,
    TASK,
    Text,
    read_corpus,
    scramble,
    split,
)
from tamis.stages.errors import RecipeError

WORDS = [
    "the",
    "a",
    "sum",
    "of",
    "all",
    "parts",
    "is",
    "never",
    "more",
    "than",
    "what",
    "one",
    "had",
    "before",
    "it",
    "was",
    "cut",
    "into",
    "very",
    "small",
    "pieces",
]
LICENCE = "\n".join(f"Permission number {i} is hereby granted, free of charge, to any person" for i in range(20))


def prose(seed: int, words: int = 400) -> str:
    """Lines of ten words that no other seed gives."""
    draw = random.Random(seed)
    chosen = [f"{draw.choice(WORDS)}{draw.randrange(1000)}" for _ in range(words)]
    return "\n".join(" ".join(chosen[i : i + 10]) for i in range(0, words, 10))


def corpus(domains: int = 30) -> list[Text]:
    """Every domain has three pages of the task's kind and two others, one of them the same everywhere."""
    texts = []
    for d in range(domains):
        texts += [Text.of(prose(10 * d + i, 200 + 100 * (d % 4)), f"d{d:02}", TASK) for i in range(3)]
        texts += [Text.of(prose(10 * d + 5), f"d{d:02}", ORDINARY), Text.of(f"d{d}\n{LICENCE}", f"d{d:02}", ORDINARY)]
    return texts


def lines_of(texts: list[str]) -> set[str]:
    return {line for text in texts for line in text.splitlines() if len(line) >= LONG_LINE}


def test_no_domain_and_hardly_a_line_is_in_two_parts() -> None:
    parts = split(corpus(), 100)
    domains = [set(members) for members in parts.domains.values()]
    assert sum(map(len, domains)) == 30
    assert set.union(*domains) == {f"d{d:02}" for d in range(30)}
    assert {one.domain for one in parts.pool} <= set(parts.domains["pool"])
    trained = lines_of([*parts.models[TASK], *parts.models[ORDINARY], *parts.abilities])
    assert any(LICENCE in text for text in parts.models[ORDINARY])
    assert not lines_of([one.text for one in parts.pool if one.group != SCRAMBLED]) & trained
    assert not lines_of([*parts.models[TASK], *parts.models[ORDINARY]]) & lines_of(parts.abilities)


def test_the_pool_is_a_third_of_each_and_every_text_is_there_once() -> None:
    for asked in (2, 10, 13, 10_000):
        parts = split(corpus(), asked)
        counts = Counter(one.group for one in parts.pool)
        assert len(set(counts.values())) == 1
        assert set(counts) == set(GROUPS)
        assert counts[TASK] == asked // 2 * 2 or asked == 10_000
        assert len({one.text for one in parts.pool}) == len(parts.pool)
        assert all(SHORTEST - 2 <= len(one.text) <= PASSAGE for one in parts.pool if one.group != SCRAMBLED)


def test_a_scrambled_text_of_the_pool_has_the_words_and_the_draw_of_another_document_there() -> None:
    parts = split(corpus(), 20)
    whole = {one.draw: one for one in parts.pool if one.group != SCRAMBLED}
    scrambled = [one for one in parts.pool if one.group == SCRAMBLED]
    assert Counter(whole[one.draw].group for one in scrambled) == {TASK: 10, ORDINARY: 10}
    for one in scrambled:
        original = whole[one.draw]
        assert one.domain == original.domain
        assert sorted(one.text.split()) == sorted(original.text.split())
        assert one.text != original.text


@pytest.mark.parametrize("text", ["", " ", "one", "  two words\n", "a b\n\nc\td  e f g", prose(1)])
def test_scrambling_moves_words_and_leaves_white_space(text: str) -> None:
    found = scramble(text)
    assert sorted(found.split()) == sorted(text.split())
    assert [c for c in found if c.isspace()] == [c for c in text if c.isspace()]
    assert len(found.splitlines()) == len(text.splitlines())
    assert scramble(text) == found


def test_the_parts_depend_on_the_documents_alone(tmp_path: Path) -> None:
    rows = [(one.text, one.domain, "page" if one.group == TASK else "other") for one in corpus()]
    rows.append(rows[0])  # a copy counts once
    found = []
    for seed, files in ((0, 1), (1, 4)):
        random.Random(seed).shuffle(rows)
        folder = tmp_path / str(seed)
        folder.mkdir()
        for i in range(files):
            columns = zip(*rows[i::files])
            pq.write_table(pa.table(dict(zip(("text", "source", "kind"), columns))), folder / f"{i}.parquet")
        found.append(split(read_corpus(str(folder), "page"), 50))
    assert found[0] == found[1]
    assert found[0] == split(sorted(corpus(), key=lambda one: (one.domain, one.draw)), 50)


def test_a_corpus_that_cannot_be_split_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no \*\.parquet there\. `tamis sample"):
        read_corpus(str(tmp_path), "module")
    pq.write_table(pa.table({"text": ["a"], "source": ["b"], "kind": ["modul"]}), tmp_path / "a.parquet")
    with pytest.raises(RecipeError, match=r"no document of kind 'module'\. Did you mean: modul\?"):
        read_corpus(str(tmp_path), "module")
    for texts in ([], corpus(1), [one for one in corpus() if one.group == TASK]):
        with pytest.raises(RecipeError, match="too small to be cut into models, abilities and pool"):
            split(texts, 10)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_models_text_has_the_shares_of_its_mix(model: Any) -> None:
    groups = {group: [f"{group} {prose(i)}" for i in range(8)] for group in GROUPS}
    chosen = mixture(groups, model.mix)
    sizes = Counter(dict.fromkeys(GROUPS, 0))
    for text in chosen:
        sizes[next((group for group in GROUPS if text.startswith(group)), "?")] += len(text.encode())
    assert sum(model.mix) == pytest.approx(1)
    for group, share in zip(GROUPS, model.mix):
        assert sizes[group] / sum(sizes.values()) == pytest.approx(share, abs=0.001)


def test_a_model_keeps_to_its_share_where_text_is_scarce() -> None:
    groups = {TASK: ["t" * 1000], ORDINARY: ["o" * 100_000], SCRAMBLED: ["s"]}
    assert [len(text) for text in mixture(groups, (0.1, 0.9, 0.0))] == [1000, 9000]


def test_every_ending_is_true_once_and_wrong_in_three_others() -> None:
    texts = [prose(i) for i in range(50)]
    items = make_items([*texts, "too short", ""], 40)
    assert len(items) == 40
    true, wrong = Counter(i.endings[0] for i in items), Counter(e for i in items for e in i.endings[1:])
    assert set(true.values()) == {1}
    assert set(wrong.values()) == {CHOICES - 1}
    assert set(wrong) == set(true)
    for item in items:
        assert len(item.beginning) == BEGINNING
        assert {len(ending) for ending in item.endings} == {ENDING}
        assert item.endings[0].startswith(b" ")
        assert any(item.beginning + item.endings[0] in text.encode() for text in texts)
    assert make_items(texts[::-1], 40) == items
    assert make_items(texts[:3], 40) == []


class Likelihood:
    """A model of which the likelihoods are given by a function."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def log_likelihoods(self, beginnings: list[bytes], endings: list[bytes]) -> np.ndarray:
        return np.array([self.of(*pair) for pair in zip(beginnings, endings)], np.float64)


def test_a_model_that_does_not_read_the_beginning_has_no_ability() -> None:
    """However much it prefers some endings to others."""
    items = make_items([prose(i) for i in range(60)], 60)
    blind = Likelihood(lambda _, ending: -float(sum(ending)))
    assert ability(cast(Any, blind), items).margin == pytest.approx(0, abs=1e-9)
    known = {item.beginning: item.endings[0] for item in items}
    able = Likelihood(lambda beginning, ending: -float(sum(ending)) + 1e9 * (known[beginning] == ending))
    found = ability(cast(Any, able), items)
    assert found.accuracy == 1
    assert found.margin == pytest.approx(1e9 / np.log(2) / ENDING, rel=1e-6)
    half = [*items[:30], *(Item(i.beginning, (*i.endings[1:], i.endings[0])) for i in items[30:])]
    assert ability(cast(Any, able), half).accuracy == 0.5


def test_the_rate_is_the_share_of_what_was_kept_over_the_share_of_the_pool() -> None:
    kept = {
        (TASK, True): Kept(100, 1000, 30, 300),
        (TASK, False): Kept(50, 500, 5, 100),
        (ORDINARY, True): Kept(150, 3000, 10, 100),
        (SCRAMBLED, False): Kept(50, 500, 5, 0),
    }
    assert over_base_rate(kept, TASK) == {"docs": 35 / 50 / (150 / 350), "chars": 400 / 500 / (1500 / 5000)}
    assert over_base_rate(kept, SCRAMBLED, seen=False) == {"docs": 1.0, "chars": 0.0}
    assert np.isnan(over_base_rate(kept, ORDINARY, seen=False)["docs"])
