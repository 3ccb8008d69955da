"""fastText's words, hashes, n-grams and tree: against definitions in plain Python, whatever the windows."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels import fasttext_characters, fasttext_words
from tamis.kernels.fasttext_scores import LEFT, PARENT, RIGHT, sigmoid_table, tree_of
from tamis.kernels.fasttext_words import COUNT, CUTS, END, LEAD, NO_LENGTH, Windows, key_of, ngram_buckets

SPACE = b" \n\r\t\v\f\0"
PIECES = st.lists(
    st.one_of(
        st.text(alphabet=" \n\t\0ab<é日_", max_size=30),
        st.lists(
            st.sampled_from(["</s>", "__label__x", "__label__", "a", "日本", "__label", "</s>x", "\v"]), max_size=12
        ).map(" ".join),
        st.text(max_size=40),
    ),
    max_size=8,
)


def hash_of(word: bytes) -> int:
    """Dictionary::hash of fastText: FNV-1a over signed bytes, in 32 bits."""
    value = 2166136261
    for byte in word:
        signed = byte if byte < 128 else byte - 256
        value = ((value ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return value


def words_of(text: bytes, strict: bool, prefixed: bool) -> list[bytes]:
    for space in SPACE[1:]:
        text = text.replace(bytes([space]), b" ")
    words = [word for word in text.split(b" ") if word]
    if strict and b"</s>" in words:
        words = words[: words.index(b"</s>")]
    kept = [word for word in words if word != b"</s>"]
    return kept if prefixed else [word for word in kept if not word.startswith(b"__label__")]


def buckets_of(words: list[bytes], length: int, buckets: int) -> list[int]:
    """Of n-grams of exactly so many words, by the word they end with; the definition of Dictionary::addWordNgrams."""
    signed = [hash_of(word) - (1 << 32 if hash_of(word) >= 1 << 31 else 0) for word in words]
    found = []
    for last in range(length - 1, len(words)):
        value = signed[last - length + 1] % 2**64
        for one in signed[last - length + 2 : last + 1]:
            value = (value * 116049371 + one) % 2**64
        found.append(value % buckets)
    return found


def characters_of(word: bytes, minn: int, maxn: int, buckets: int) -> list[int]:
    """Dictionary::computeSubwords, over whole characters."""
    letters = [letter.encode() for letter in f"<{word.decode()}>"]
    return [
        hash_of(b"".join(letters[i : i + n])) % buckets
        for i in range(len(letters))
        for n in range(max(1, minn), maxn + 1)
        if i + n <= len(letters) and not (n == 1 and (i == 0 or i + n == len(letters)))
    ]


def laid_out(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    raw = [text.encode() for text in texts]
    ends = np.cumsum([0, *(len(one) for one in raw)]).astype(np.int64)
    return np.frombuffer(b"".join(raw), np.uint8), ends[:-1], ends[1:]


@settings(deadline=None)
@given(PIECES, st.booleans(), st.booleans(), st.integers(0, 3), st.sampled_from([2, 3, 7, 8192]))
def test_windows_give_the_words_of_every_piece_however_small_they_are(texts, strict, prefixed, keep, size) -> None:
    data, starts, ends = laid_out(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasttext_words, "WINDOW", size)
        windows = Windows(data, starts, ends, keep=keep, strict=strict, prefixed=prefixed)
    pieces: list[list[bytes]] = [[]]
    before = []
    while windows.next():
        state = windows.state
        found = [
            b"</s>" if length == NO_LENGTH else bytes(data[begin : begin + length])
            for begin, length in zip(windows.begins[: state[COUNT]], windows.lengths[: state[COUNT]], strict=True)
        ]
        assert all(windows.keys[i] & 0xFFFFFFFF == hash_of(word) for i, word in enumerate(found))
        assert found[: state[LEAD]] == before[len(before) - state[LEAD] :], "the last words of the piece that goes on"
        assert state[LEAD] == min(keep, len(pieces[-1]))
        at = state[LEAD]
        for cut in windows.cuts[: state[CUTS]]:
            pieces[-1] += found[at:cut]
            pieces.append([])
            at = cut
        pieces[-1] += found[at:]
        before = found
    assert pieces == [[*words_of(text.encode(), strict, prefixed), b"</s>"] for text in texts] + [[]]


@numba.njit
def keys_of(data, ends):
    keys = np.empty(len(ends) - 1, np.uint64)
    for i in range(len(keys)):
        keys[i] = key_of(data, ends[i], ends[i + 1])
    return keys


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12).filter(lambda word: not set(word) & set(SPACE)), min_size=1, max_size=40))
def test_the_low_half_of_a_key_is_the_hash_of_fasttext(words) -> None:
    ends = np.cumsum([0, *(len(word) for word in words)]).astype(np.int64)
    keys = keys_of(np.frombuffer(b"".join(words), np.uint8), ends)
    assert [int(key) & 0xFFFFFFFF for key in keys] == [hash_of(word) for word in words]


def test_keys_of_all_short_words_differ() -> None:
    """All of one and two bytes, and a million of three: with signed bytes alone, pairs of two bytes met."""
    short = [bytes([a]) for a in range(256)] + [bytes([a, b]) for a in range(256) for b in range(256)]
    draw = np.random.default_rng(0).integers(0, 256, (1_000_000, 3), np.uint8)
    long = np.unique(draw, axis=0)
    data = np.frombuffer(b"".join(short) + long.tobytes(), np.uint8)
    sizes = np.array([len(word) for word in short] + [3] * len(long))
    ends = np.cumsum(np.concatenate([[0], sizes])).astype(np.int64)
    keys = keys_of(data, ends)
    assert len(np.unique(keys)) == len(keys)


def test_the_key_of_the_end_is_that_of_its_four_bytes() -> None:
    assert key_of(np.frombuffer(b"x</s>", np.uint8), 1, 5) == END


@pytest.mark.parametrize("buckets", [1, 2, 700, (1 << 16) - 1, 1 << 16, 65_537, 2_000_000, 10_000_019, 2**31 - 1])
def test_word_ngrams_fall_into_the_buckets_of_fasttext(buckets: int) -> None:
    draw = np.random.default_rng(buckets)
    words = [bytes(draw.integers(1, 256, draw.integers(1, 9), np.uint8)) for _ in range(3_000)]
    words = [word for word in words if not set(word) & set(SPACE)]
    keys = np.array([hash_of(word) for word in words], np.uint64) | (draw.integers(0, 2**31, len(words)) << 32).astype(
        np.uint64
    )
    out = np.zeros((3, len(words)), np.uint32)
    ngram_buckets(keys, len(words), np.uint64(buckets), np.empty((2, len(words)), np.uint64), out)
    for length in (2, 3, 4):
        assert out[length - 2, length - 1 :].tolist() == buckets_of(words, length, buckets)


NONE = np.zeros(0, np.int32)
add_characters = numba.njit(fasttext_characters.add_characters)


@settings(deadline=None)
@given(
    st.one_of(st.text(min_size=1, max_size=20), st.text(alphabet="abc<>", min_size=60, max_size=200)),
    st.integers(0, 4),
    st.integers(1, 6),
    st.sampled_from([1, 3, 1000, 65_537]),
)
def test_character_ngrams_add_the_rows_of_their_buckets(word, minn, maxn, buckets) -> None:
    data = np.frombuffer(f"..{word}..".encode(), np.uint8)
    rows = np.random.default_rng(buckets).integers(-50, 50, 2 * (5 + buckets)).astype(np.float32)
    expected = [5 + bucket for bucket in characters_of(word.encode(), minn, maxn, buckets)]
    sums = np.array([1.0, 2.0])
    count = add_characters(
        data,
        2,
        len(data) - 4,
        rows,
        2,
        5,
        np.zeros(0, np.uint64),
        NONE,
        NONE,
        minn,
        maxn,
        buckets,
        *fasttext_characters.work_areas(),
        sums,
    )
    assert count == len(expected)
    assert np.array_equal(sums - [1, 2], rows.reshape(-1, 2)[expected].sum(axis=0, dtype=np.float64))


def test_a_tree_of_labels_is_huffmans() -> None:
    """Children of every node are the two lightest that stand alone at that time, so the cost is the least there is."""
    draw = np.random.default_rng(3)
    for labels in (1, 2, 3, 30, 500):
        counts = np.sort(draw.integers(1, 10_000, labels))[::-1]
        tree = tree_of(counts)
        depth = np.zeros(2 * labels - 1, int)
        for node in range(2 * labels - 3, -1, -1):
            depth[node] = depth[tree[PARENT, node]] + 1
            assert node in (tree[LEFT, tree[PARENT, node]], tree[RIGHT, tree[PARENT, node]])
        heap = sorted(counts.tolist())
        least = 0
        while len(heap) > 1:
            both = heap[0] + heap[1]
            least += both
            heap = sorted([*heap[2:], both])
        assert (depth[:labels] * counts).sum() == least


def test_the_sigmoid_table_is_that_of_fasttext() -> None:
    table = sigmoid_table()
    assert table.shape == (513,)
    assert table[256] == np.float32(0.5)
    assert np.abs(table - 1 / (1 + np.exp(-np.linspace(-8, 8, 513)))).max() < 1e-7
