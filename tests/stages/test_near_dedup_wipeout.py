"""Books that share short n-grams, a licence and footers: nobody's source is wiped out.

The case is a real one: a deduplication by character 5-grams and transitive closure took 859,090 of a source's 859,092
documents (https://github.com/marin-community/marin/issues/6854). Here it is in small: unrelated books from one
vocabulary, all of Gutenberg's with one licence around them, and a known number of edited copies among them.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from tamis.stages.errors import DataError
from tamis.stages.near_dedup import NearDedup, NearDedupConfig

from ..bench.near_pairs import edited, grams, jaccard, zipf_words
from .local_context import LocalContext, resolve

N = 5
SOURCES = ("gutenberg", "letters", "journals", "forum")
BOOKS = 24  # of each source
COPIES = 30
PAGES = 150  # copies of one page, in a source of their own


class Book(NamedTuple):
    source: str
    text: str
    copy_of: int | None = None  # index of the original


def words_of_syllables(draw: random.Random, size: int) -> list[str]:
    """Distinct words of one to three syllables out of sixty, the short ones first: unrelated texts share most of their
    character 5-grams, as in a language."""
    syllables = ["".join(parts) for parts in itertools.product("bcdfghlmnprstvw", "aeiou", ["", "n", "r", "s"])]
    draw.shuffle(syllables)
    found: dict[str, None] = {}
    while len(found) < size:
        count = 1 + (len(found) > 30) + (len(found) > 300) * draw.randint(0, 2)
        found["".join(draw.choices(syllables[:60], k=count))] = None
    return list(found)


@pytest.fixture(scope="module")
def library() -> list[Book]:
    """2,000 to 20,000 words a book; copies lie among other books of any source, and have 92 to 99 % in common."""
    draw = random.Random(6854)
    words = zipf_words(draw, words_of_syllables(draw, 3000))
    licence, footer = words(300), {source: words(40) for source in SOURCES}
    books: list[Book] = []
    for source in SOURCES:
        for number in range(BOOKS):
            text = [f"{source} presents number {number} by", *words(3), *words(int(2000 * 10 ** draw.random()))]
            if source == "gutenberg":
                text = [*licence, *text, *licence[:150]]
            books.append(Book(source, " ".join([*text, *footer[source]])))
    for original in draw.sample(range(len(books)), COPIES):
        copy = edited(books[original].text.split(), draw.uniform(0.92, 0.99), N, draw)
        books.append(Book(draw.choice(SOURCES), " ".join(copy), original))
    return books


def rows_of(books: Sequence[Book], order: Sequence[int]) -> pa.Table:
    columns = {"text": [books[at].text for at in order], "source": [books[at].source for at in order]}
    return pa.table(columns | {"doc_id": [f"book-{at:04d}" for at in order]})


def stage_of(**config: Any) -> NearDedup:
    stage = NearDedup(NearDedupConfig.model_validate(config), name="near_dedup")
    stage.grant([name for name in stage.wishes if name == "source"])  # the one that the run has
    return stage


def test_what_is_dropped_are_the_near_duplicates_and_nothing_else(library: list[Book]) -> None:
    order = list(range(len(library)))
    random.Random(1).shuffle(order)
    verdict, facts = resolve(stage_of(), rows_of(library, order), cuts=[20, 50, 51, 100], order=2)
    kept_for = {
        at: int(kept.removeprefix("book-"))
        for at, kept in zip(order, verdict["near_kept_doc_id"].to_pylist(), strict=True)
        if kept is not None
    }
    # ties fall to the smallest doc_id, which is the original's
    assert kept_for == {at: book.copy_of for at, book in enumerate(library) if book.copy_of is not None}
    assert facts["groups"] == facts["duplicates"] == COPIES
    assert facts["largest"] == 2
    assert facts["alarms"] == []


def test_the_library_is_what_the_test_above_takes_it_for(library: list[Book]) -> None:
    sets = [grams(book.text.split(), N) for book in library]
    originals = {at: book.copy_of for at, book in enumerate(library) if book.copy_of is not None}
    assert all(jaccard(sets[copy], sets[at]) > 0.9 for copy, at in originals.items())
    unrelated = [
        (library[one].source == library[other].source == "gutenberg", jaccard(sets[one], sets[other]))
        for one, other in itertools.combinations(range(len(SOURCES) * BOOKS), 2)
    ]
    assert max(similarity for _, similarity in unrelated) < 0.5
    assert min(similarity for same, similarity in unrelated if same) > 0.005, "the licence alone is in common"
    assert max(similarity for same, similarity in unrelated if same) > 0.05


def test_by_characters_the_same_library_would_be_wiped_out_and_the_guard_says_so(library: list[Book]) -> None:
    """Each character made a word, so that a shingle is five characters: what the issue describes."""
    draw = random.Random(3)
    characters = [Book(book.source, " ".join("_" if c == " " else c for c in book.text)) for book in library]
    characters = [book._replace(text=book.text.replace("_", "sp")) for book in characters]
    sets = [grams(book.text.split(), N) for book in draw.sample(characters[: len(SOURCES) * BOOKS], 12)]
    similar = sorted(jaccard(*pair) for pair in itertools.combinations(sets, 2))
    assert similar[0] > 0.3, "unrelated books"
    assert similar[len(similar) // 2] > 0.45
    stage = stage_of(max_cluster=100)
    verdict, facts = resolve(stage, rows_of(characters, range(len(characters))))
    lost = sum(rule is not None for rule in verdict["rule"].to_pylist())
    assert lost > 0.9 * len(characters)
    assert facts["largest"] > 0.9 * len(characters)
    [alarm] = facts["alarms"]
    assert (alarm["kind"], alarm["documents"]) == ("cluster", facts["largest"])
    assert alarm["cluster"] in verdict["near_cluster"].to_pylist()
    # and `verify` saves what no near duplicate stands behind, whatever the shingles are
    saved, told = resolve(stage_of(verify="jaccard >= 0.9"), rows_of(characters, range(len(characters))))
    assert sum(rule is not None for rule in saved["rule"].to_pylist()) < lost / 2
    assert told["false_candidates"] == told["candidates"] - told["duplicates"] > lost / 2


@pytest.fixture(scope="module")
def with_pages(library: list[Book]) -> list[Book]:
    """The library, and a source that is one page over and over, a word changed here and there."""
    draw = random.Random(4)
    page = library[0].text.split()[400:1000]
    pages = [Book("catalogue", " ".join(edited(page, 0.97, N, draw))) for _ in range(PAGES)]
    return [*library, *pages]


def test_a_source_that_is_wiped_out_raises_an_alarm(with_pages: list[Book]) -> None:
    rows = rows_of(with_pages, range(len(with_pages)))
    verdict, facts = resolve(stage_of(), rows, cuts=[60, 140])
    lost = Counter(
        book.source for book, rule in zip(with_pages, verdict["rule"].to_pylist(), strict=True) if rule is not None
    )
    assert lost["catalogue"] == PAGES - 1
    assert sum(lost.values()) == PAGES - 1 + COPIES
    expected = {"kind": "loss", "column": "source", "value": "catalogue", "documents": PAGES, "lost": PAGES - 1}
    assert facts["alarms"] == [expected]
    assert resolve(stage_of(max_loss="99.5%"), rows)[1]["alarms"] == []
    assert resolve(stage_of(watch=()), rows)[1]["alarms"] == []
    _, both = resolve(stage_of(max_cluster=100), rows)
    assert [(alarm["kind"], alarm["documents"]) for alarm in both["alarms"]] == [("cluster", PAGES), ("loss", PAGES)]


@pytest.mark.parametrize(
    ("config", "says"),
    [({}, "source = catalogue lost 149 of 150"), ({"watch": (), "max_cluster": 100}, "a cluster of 150")],
)
def test_with_on_alarm_stop_an_alarm_ends_the_run(with_pages: list[Book], config: dict[str, Any], says: str) -> None:
    context = LocalContext(stage_of(on_alarm="stop", **config), rows_of(with_pages, range(len(with_pages))))
    with pytest.raises(DataError, match=says):
        context.resolve()


def test_without_an_alarm_stop_changes_nothing(library: list[Book]) -> None:
    rows = rows_of(library, range(len(library)))
    assert resolve(stage_of(on_alarm="stop"), rows) == resolve(stage_of(), rows)
