"""Tokens, winnowed seeds and window hashes against plain Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels import windows
from tamis.kernels.segments import segments as segments_of
from tamis.kernels.unicode_classes import classes

from .naive_words import unicode_segments

GOLDEN_BYTES = [
    [17566367834966075009, 12255867536242900992],
    [14435753597220897951, 2436173753156108288],
]  # of this code; files of a run that was killed hold them
GOLDEN_TOKENS = [354785460002589462, 12880291287852384256]
GOLDEN_SEEDS = [9587554828106410892, 4073871505719455510]
PAGES = [json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "pages.jsonl").open(encoding="utf-8")]


def segments(text: str, pad: str = "") -> list[str]:
    data = np.frombuffer((text + pad).encode(), np.uint8)
    size = len(text.encode())
    starts, ends, hashes = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint64)
    n = segments_of(data, 0, size, classes(), starts, ends, hashes)
    raw = data.tobytes()
    return [raw[a:b].decode() for a, b in zip(starts[:n], ends[:n])]


def naive(text: str) -> list[str]:
    found = unicode_segments(text)
    return [s for s in found if not all(c.isspace() and not "\x1c" <= c <= "\x1f" for c in s)]


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="ab1.,:'\"_ \n\r\x1cé\u0301א中カ\u200d٠-\u00a0", max_size=40) | st.text(max_size=30))
def test_segments_are_those_of_the_rules(text):
    if any(0x1F1E6 <= ord(c) <= 0x1F1FF for c in text):
        return
    assert segments(text) == naive(text)
    assert segments(text, pad="abcdefghij") == segments(text)


@pytest.mark.parametrize("page", range(0, len(PAGES), 7))
def test_segments_of_real_pages(page):
    text = PAGES[page]["text"] or ""
    assert segments(text) == naive(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 x", ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "x"]),
        ("a\u200d\u2764\ufe0f", ["a\u200d\u2764\ufe0f"]),
        (
            "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1ec",
            ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7", "\U0001f1ec"],
        ),
        ("\U0001f469\U0001f469", ["\U0001f469", "\U0001f469"]),
        ("\U0001f44d\U0001f3fd!", ["\U0001f44d\U0001f3fd", "!"]),
    ],
)
def test_emoji_and_flags_are_one_segment(text, found):
    assert segments(text) == found


def select(texts: list[bytes], length: int, *, salts=None, paragraphs=False, by_bytes=True) -> np.ndarray:
    data = np.frombuffer(b"".join(texts), np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    salts = np.zeros(len(texts), np.uint64) if salts is None else np.array(salts, np.uint64)
    return windows.select_seeds(data, offsets, salts, length, paragraphs=paragraphs, by_bytes=by_bytes)


def hashed(texts: list[bytes], length: int, living=None, **how):
    data = np.frombuffer(b"".join(texts), np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    salts = np.zeros(len(texts), np.uint64)
    living = np.ones(len(data), np.uint8) if living is None else living
    return windows.candidate_windows(
        data, offsets, salts, length, living, 0, **{"paragraphs": False, "by_bytes": True, **how}
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=30).map(lambda b: bytes(c % 3 for c in b)), max_size=4), st.integers(1, 7))
def test_hashes_are_equal_for_equal_windows_alone_and_each_selects_one_seed(texts, length):
    found, places, runs, used = hashed(texts, length)
    expected = [t[i : i + length] for t in texts for i in range(len(t) - length + 1)]
    keys = [tuple(pair) for pair in found.tolist()]
    assert len(set(keys)) == len(set(expected)) == len(set(zip(expected, keys)))
    assert (places[:, 1] >> np.uint64(32)).tolist() == [i for t in texts for i in range(len(t) - length + 1)]
    assert runs[:, 1].tolist() == [len(t) - length + 1 for t in texts if len(t) >= length]
    seeds = select(texts, length)
    assert used == len(seeds)
    # a window is found exactly where its own seed, known from the window alone, is the living one
    for seed in dict.fromkeys(seeds.tolist()):
        kept = hashed(texts, length, (seeds == seed).astype(np.uint8))[0]
        own = [w for w in expected if seed in select([w], length).tolist()]
        assert sorted(set(map(tuple, kept.tolist()))) == sorted({k for w, k in zip(expected, keys) if w in own})


def test_seeds_are_as_rare_as_winnowing_says():
    noise = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
    for length in (13, 50, 100):
        assert len(select([noise], length)) == pytest.approx(len(noise) * windows.seed_share(length), rel=0.03)


def test_hashes_stay_the_same_from_release_to_release():
    found = hashed([b"abcde", "é fg\n".encode()], 3)[0]
    assert found[[0, -1]].tolist() == GOLDEN_BYTES
    found = hashed([b"One, two; three-four."], 3, by_bytes=False)[0]
    assert found[0].tolist() == GOLDEN_TOKENS
    assert select([b"abcde"], 3).tolist() == GOLDEN_SEEDS


def test_salts_keep_equal_texts_apart():
    assert len(set(select([b"abcdefgh"] * 2, 8, salts=[1, 2]).tolist())) == 2
    assert len(set(select([b"abcdefgh"] * 2, 8, salts=[7, 7]).tolist())) == 1


def test_first_places_are_those_of_a_dictionary():
    rng = np.random.default_rng(1)
    high, low = rng.integers(0, 40, 500, np.uint64), rng.integers(0, 3, 500, np.uint64)
    first: dict[tuple[int, int], int] = {}
    pairs = list(zip(high.tolist(), low.tolist()))
    expected = [first.setdefault(pair, i) for i, pair in enumerate(pairs)]
    assert windows.first_places(high, low).tolist() == expected
