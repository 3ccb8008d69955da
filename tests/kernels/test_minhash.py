"""Signatures, band keys and sketches: their definition, the laws that random sets must follow, and datasketch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels.minhash import estimate, measure, permutations, signatures
from tamis.kernels.shingles import jaccard, shingle_sets
from tamis.stages._lsh import probability
from tamis.stages.arrow import text_buffers

from .known_pairs import pairs
from .naive_minhash import words

PAGES = [json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "pages.jsonl").open(encoding="utf-8")]
TEXTS = [page["text"] or "" for page in PAGES]
M64 = 2**64 - 1


def buffers(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return text_buffers(pa.array(texts, pa.large_string()))


def fold(h: int, chunk: int) -> int:
    h = (h ^ chunk) * 0x9E3779B97F4A7C15 & M64
    return h ^ h >> 32


def spread(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & M64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & M64
    return x ^ x >> 31


def byte(x: int) -> int:
    x = (x ^ x >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return x >> 24


def band_key(minima: list[int]) -> int:
    h = len(minima)
    for minimum in minima:
        h = fold(h, minimum)
    return spread(h)


def test_permutations_are_splitmix64_and_a_shorter_list_begins_a_longer_one() -> None:
    # the reference's first outputs for the seed 1234567 (Vigna, splitmix64.c)
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    a, b = permutations(2, 1234567)
    assert a.tolist() == [outputs[0] >> 32 | 1, outputs[2] >> 32 | 1]
    assert b.tolist() == [outputs[1] >> 32, outputs[3] >> 32]
    for count in (1, 17, 112):
        for short, long in zip(permutations(count), permutations(320)):
            assert short.dtype == np.uint32
            assert short.tolist() == long[:count].tolist()
    assert (permutations(10_000)[0] % 2 == 1).all()


@pytest.mark.parametrize("count", [1, 7, 16, 112, 113, 128, 250, 320])
@pytest.mark.parametrize("ngram", [1, 2, 5, 13, 255])
def test_a_signature_is_the_least_value_of_every_permutation_over_the_set(count: int, ngram: int) -> None:
    a, b = permutations(count, seed=ngram)
    data, offsets = buffers(TEXTS)
    values, ends = shingle_sets(data, offsets, ngram)
    found, shingles = signatures(data, offsets, ngram, a, b)
    for d, text in enumerate(TEXTS):
        x = values[ends[d] : ends[d + 1]]
        lows, highs = (x & np.uint64(0xFFFFFFFF)).astype(np.uint32), (x >> np.uint64(32)).astype(np.uint32)
        halves = np.where(np.arange(count) % 2 == 0, lows[:, None], highs[:, None])
        wanted = (halves * a + b).min(axis=0, initial=np.uint32(0xFFFFFFFF))
        assert found[d].tolist() == wanted.tolist()
        assert shingles[d] == (max(1, len(words(text)) - ngram + 1) if text else 0)


@pytest.mark.parametrize(("bands", "rows", "more"), [(14, 8, 0), (1, 1, 0), (3, 5, 2), (9, 13, 11)])
def test_keys_and_sketches_are_those_of_the_signature(bands: int, rows: int, more: int) -> None:
    a, b = permutations(bands * rows + more)
    data, offsets = buffers([*TEXTS, "", "one word", "!"])
    minima, counts = signatures(data, offsets, 5, a, b)
    keys, sketches, shingles = measure(data, offsets, 5, a, b, bands, rows)
    assert (keys.dtype, keys.shape) == (np.dtype(np.uint64), (len(counts), bands))
    assert (sketches.dtype, sketches.shape) == (np.dtype(np.uint8), (len(counts), len(a)))
    assert shingles.tolist() == counts.tolist()
    for d, row in enumerate(minima.tolist()):
        some = int(counts[d] > 0)
        assert keys[d].tolist() == [some * band_key(row[k * rows : (k + 1) * rows]) for k in range(bands)]
        assert sketches[d].tolist() == [some * byte(minimum) for minimum in row]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*TEXTS[:8], "", " ", "one", "two words"]), min_size=1, max_size=12), st.data())
def test_neighbours_cuts_and_where_a_buffer_begins_change_nothing(texts: list[str], data) -> None:
    a, b = permutations(40)
    array = pa.array(texts, pa.large_string())
    whole = measure(*text_buffers(array), 3, a, b, 4, 10)
    cut = data.draw(st.integers(0, len(texts)))
    parts = [measure(*text_buffers(part), 3, a, b, 4, 10) for part in (array[:cut], array[cut:])]
    for together, first, second in zip(whole, *parts):
        assert together.tolist() == [*first.tolist(), *second.tolist()]


def test_texts_without_an_ngram() -> None:
    a, b = permutations(112)
    texts = ["", "one two three four", "ONE, two three - four!", "one two three", " ", "  ", "one two three four five"]
    keys, sketches, shingles = measure(*buffers(texts), 5, a, b, 14, 8)
    assert shingles.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert not keys[0].any()
    assert not sketches[0].any()
    assert keys[1].tolist() == keys[2].tolist()
    assert sketches[1].tolist() == sketches[2].tolist()
    for band in range(14):
        assert len(set(keys[:, band].tolist())) == len(texts) - 1
    kept, _, counts = measure(*buffers(texts), 5, a, b, 14, 8, short=False)
    assert counts.tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert kept[6].tolist() == keys[6].tolist()
    assert not kept[:6].any()


def test_a_band_of_two_rows_tells_single_shingles_apart_as_64_bits_do() -> None:
    """With 32-bit shingles about 20 pairs of 400,000 one-shingle texts would share all bands."""
    number = 400_000
    none = np.zeros(number // 2, np.int64)
    a, b = permutations(2)
    data, offsets = pairs(none, none + 2, seed=0)
    keys, _, shingles = measure(data, offsets, 5, a, b, 1, 2)
    assert (shingles == 1).all()
    assert len(np.unique(keys)) == len(np.unique(data.reshape(number, 9)[:, :8].copy().view(np.uint64)))


SIZES = (2, 3, 7, 20, 100, 1000, 5000)


@pytest.mark.parametrize("size", SIZES)
def test_the_share_of_equal_minima_is_unbiased_and_spreads_like_independent_draws(size: int) -> None:
    count = 320
    number = max(60, min(3000, 300_000 // size))
    shared = np.resize(np.unique(np.maximum(1, np.array([0.1, 0.5, 0.8, 0.95]) * size).astype(np.int64)), number)
    true = shared / size
    a, b = permutations(count)
    minima, _ = signatures(*pairs(shared, size - shared, seed=size), 1, a, b)
    equal = minima[0::2] == minima[1::2]
    z = (equal.mean(axis=1) - true) / np.maximum(1e-9, np.sqrt(true * (1 - true) / count))
    z = z[true < 1]
    assert abs(z.mean()) < 4.5 / len(z) ** 0.5
    assert abs((z**2).mean() - 1) < 4.5 * (2 / len(z)) ** 0.5
    # and for every permutation by itself
    by_permutation = (equal - true[:, None]).sum(axis=0) / np.sqrt((true * (1 - true)).sum())
    assert abs(by_permutation).max() < 4.8


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 13), (32, 10), (9, 13)])
def test_pairs_share_a_band_as_often_as_the_law_says(bands: int, rows: int) -> None:
    rng = np.random.default_rng(bands)
    a, b = permutations(bands * rows)
    for wanted in np.arange(0.1, 1.01, 0.1):
        size = np.exp(rng.uniform(np.log(5), np.log(300), 1500)).astype(np.int64)
        shared = np.maximum(1, np.round(wanted * size)).astype(np.int64)
        keys, _, _ = measure(*pairs(shared, size - shared, seed=bands), 1, a, b, bands, rows)
        found = (keys[0::2] == keys[1::2]).any(axis=1).sum()
        chances = np.array([probability(s, bands, rows) for s in shared / size])
        assert abs(found - chances.sum()) <= 4.5 * np.sqrt((chances * (1 - chances)).sum()) + 1e-9, wanted


def test_the_estimate_from_bytes_is_unbiased() -> None:
    count = 256
    a, b = permutations(count)
    for similarity in (0.25, 0.5, 0.9):
        shared = np.full(1000, int(similarity * 200), np.int64)
        _, sketches, _ = measure(*pairs(shared, 200 - shared, seed=1), 1, a, b, 1, 1)
        found = estimate(sketches, np.arange(0, 2000, 2), np.arange(1, 2000, 2))
        assert found.dtype == np.float32
        chance = similarity + (1 - similarity) / 256
        spread_of_one = np.sqrt(chance * (1 - chance) / count) * 256 / 255
        assert abs(found.mean() - similarity) < 4.5 * spread_of_one / 1000**0.5
        assert abs(found.std() / spread_of_one - 1) < 4.5 / 2000**0.5


def test_the_estimate_is_one_for_equal_texts_and_never_leaves_0_to_1() -> None:
    a, b = permutations(112)
    _, sketches, _ = measure(*buffers(TEXTS), 5, a, b, 14, 8)
    left, right = np.divmod(np.arange(len(TEXTS) ** 2), len(TEXTS))
    found = estimate(sketches, left, right).reshape(len(TEXTS), -1)
    assert (np.diag(found) == 1).all()
    assert (found == found.T).all()
    assert found.min() == 0
    assert estimate(sketches, left[:0], right[:0]).tolist() == []


def edited(texts: list[str], seed: int) -> list[str]:
    """Each text with a share of its words replaced."""
    rng = np.random.default_rng(seed)
    result = []
    for k, text in enumerate(texts):
        found = text.split()
        for place in np.flatnonzero(rng.random(len(found)) < k % 10 / 40):
            found[place] = f"new{rng.integers(10**6)}x"
        result.append(" ".join(found))
    return result


def check_estimates_on(texts: list[str]) -> None:
    """Against the true similarity: within theory, and not worse than datasketch over the very same shingles."""
    count = 128
    every = [text for both in zip(texts, edited(texts, seed=0)) for text in both]
    data, offsets = buffers(every)
    values, ends = shingle_sets(data, offsets, 5)
    left, right = np.arange(0, len(every), 2), np.arange(1, len(every), 2)
    true = jaccard(values, ends, left, right)
    a, b = permutations(count)
    minima, _ = signatures(data, offsets, 5, a, b)
    ours = (minima[left] == minima[right]).mean(axis=1)
    hashed = [MinHash(num_perm=count, seed=1, hashfunc=lambda x: x & 0xFFFFFFFF) for _ in every]
    for d, one in enumerate(hashed):
        one.update_batch(values[ends[d] : ends[d + 1]].tolist())
    theirs = np.array([hashed[i].jaccard(hashed[j]) for i, j in zip(left, right)])
    inner = (true > 0.02) & (true < 0.98)
    assert inner.sum() > 0.5 * len(texts)
    sigma = np.sqrt(true[inner] * (1 - true[inner]) / count)
    ours_z, theirs_z = ((found[inner] - true[inner]) / sigma for found in (ours, theirs))
    assert abs(ours_z).max() < 5
    assert abs((ours_z**2).mean() - 1) < 5 * (2 / len(sigma)) ** 0.5
    assert (ours_z**2).mean() < (theirs_z**2).mean() + 7 * (2 / len(sigma)) ** 0.5
    assert (ours[true == 1] == 1).all()


def test_on_pages_the_estimate_is_as_good_as_datasketch() -> None:
    check_estimates_on(TEXTS * 3)


def test_on_real_documents_the_estimate_is_as_good_as_datasketch(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "web" / "web-00003.parquet", columns=["text"])
    check_estimates_on([text for text in table["text"].slice(0, 600).to_pylist() if len(text) > 500])


def test_two_texts_of_one_word_changed() -> None:
    """t1 and t2 of datatrove's test: 18 of 20 shingles in common; datatrove finds 99 of 112 minima equal, 6 of 14 bands."""
    one = "the quick brown fox jumps over the lazy dog and runs away from the big bad wolf in the dark forest at night"
    a, b = permutations(112)
    minima, _ = signatures(*buffers([one, one.replace("night", "noon")]), 5, a, b)
    equal = (minima[0] == minima[1]).mean()
    assert abs(equal - 0.9) < 3 * (0.9 * 0.1 / 112) ** 0.5


def test_keys_of_old_outputs_stay_valid() -> None:
    """These values are stored in outputs. If this fails, raise the version of the stages that store them."""
    a, b = permutations(8)
    keys, sketches, _ = measure(*buffers(["The quick brown fox, jumped; over 13 dogs", "日本語です"]), 5, a, b, 2, 4)
    assert keys.tolist() == KEYS
    assert sketches.tolist() == SKETCHES


KEYS = [
    [18226274695876764284, 11352354878166777751],
    [13634309473317134903, 8051495834304251263],
]
SKETCHES = [
    [152, 97, 200, 129, 210, 205, 65, 147],
    [17, 103, 85, 77, 221, 187, 53, 224],
]


def test_what_cannot_be_computed_is_refused() -> None:
    a, b = permutations(8)
    data, offsets = buffers(["text"])
    for ngram in (0, 256):
        with pytest.raises(ValueError, match=f"ngram: {ngram} "):
            signatures(data, offsets, ngram, a, b)
    with pytest.raises(ValueError, match="3 bands of 3 rows do not fit 8 permutations"):
        measure(data, offsets, 5, a, b, 3, 3)
    with pytest.raises(ValueError, match="8 factors and 7 summands"):
        signatures(data, offsets, 5, a, b[:7])
    with pytest.raises(ValueError, match="at least one"):
        signatures(data, offsets, 5, a[:0], b[:0])
