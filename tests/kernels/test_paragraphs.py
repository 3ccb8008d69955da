"""Keys and places of lines and paragraphs, the hash behind them, and the filter that shrinks their number."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels import bloom
from tamis.kernels.bloom import Bloom
from tamis.kernels.paragraphs import paragraphs
from tamis.stages.arrow import text_buffers

from ..stages.plain_paragraphs import pieces

KEY = b"tamis paragraphs"
U64 = (1 << 64) - 1
lines = st.sampled_from(
    ["a", "b c", " B\u2003C ", "", " ", "\u2003", "É", "é x", "日本", "\u0130", "0123456", "01234567", "x" * 9]
)
texts = st.lists(
    st.lists(st.tuples(lines, st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\n \n"])), max_size=6).map(
        lambda found: "".join(a + b for a, b in found)
    )
    | st.lists(lines, max_size=4).map("\n".join),
    max_size=6,
)


def siphash128(data: bytes, key: bytes) -> tuple[int, int]:
    """SipHash-2-4-128 in plain Python, from the paper and the note on longer output."""

    def rounds(v: list[int], count: int) -> list[int]:
        a, b, c, d = v
        for _ in range(count):
            a, c = (a + b) & U64, (c + d) & U64
            b, d = (b << 13 | b >> 51) & U64 ^ a, (d << 16 | d >> 48) & U64 ^ c
            a = (a << 32 | a >> 32) & U64
            a, c = (a + d) & U64, (c + b) & U64
            d, b = (d << 21 | d >> 43) & U64 ^ a, (b << 17 | b >> 47) & U64 ^ c
            c = (c << 32 | c >> 32) & U64
        return [a, b, c, d]

    k0, k1 = struct.unpack("<2Q", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    padded = data + b"\0" * (-(len(data) + 1) % 8) + bytes([len(data) & 0xFF])
    for (block,) in struct.iter_unpack("<Q", padded):
        v[3] ^= block
        v = rounds(v, 2)
        v[0] ^= block
    v[2] ^= 0xEE
    v = rounds(v, 4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    v = rounds(v, 4)
    return first, v[0] ^ v[1] ^ v[2] ^ v[3]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "a3817f04ba25a8e66df67214c7550293"), (1, "da87c1d86b99af44347659119b22fc45")],
)
def test_the_plain_hash_gives_the_vectors_of_the_authors(size, expected) -> None:
    first, second = siphash128(bytes(range(size)), bytes(range(16)))
    assert struct.pack("<2Q", first, second).hex() == expected


def found(texts: list[str], **how: Any) -> list[list[tuple[int, int, tuple[int, int]]]]:
    """For each text (start, end, key) of every piece that counts."""
    counts, first, rest = paragraphs(*text_buffers(pa.array(texts, pa.large_string())), **how)
    places = [
        (int(p) & 0xFFFFFFFF, (int(p) & 0xFFFFFFFF) + (int(p) >> 32), (int(a), int(b)))
        for a, (b, p) in zip(first, rest)
    ]
    ends = np.cumsum(counts).tolist()
    return [places[end - count : end] for end, count in zip(ends, counts.tolist())]


@settings(max_examples=300, deadline=None)
@given(texts, st.booleans(), st.booleans(), st.integers(1, 4))
def test_places_and_keys_equal_the_plain_definition(given_texts, whole, normalize, least) -> None:
    how: dict[str, Any] = {"whole": whole, "normalize": normalize, "min_chars": least}
    got = found(given_texts, **how)
    assert got == [
        [(p.start, p.end, siphash128(p.form.encode(), KEY)) for p in pieces(text, **how)] for text in given_texts
    ]
    array = pa.array(["pad", *given_texts, "pad"], pa.large_string()).slice(1, len(given_texts))
    counts, _, _ = paragraphs(*text_buffers(array), **how)
    assert counts.tolist() == [len(text) for text in got]


def test_lines_of_every_length_hash_as_in_plain_python() -> None:
    for text in ("x" * n + "é" * (n % 3) for n in range(70)):
        [got] = found([text], whole=False, normalize=False, min_chars=1)
        assert [key for _, _, key in got] == [siphash128(text.encode(), KEY)] * bool(text)


def test_stored_keys_never_change() -> None:
    [[(_, _, key)]] = found(["The quick brown fox.\n"], whole=False, normalize=False, min_chars=1)
    # openssl mac -macopt hexkey:74616d69732070617261677261706873 -macopt size:16 -in FILE SIPHASH
    assert struct.pack("<2Q", *key).hex() == "727ca9e2359c9ab20823e5a235e41b7b"


def test_one_changed_bit_changes_half_of_each_half_of_a_key() -> None:
    draw = np.random.default_rng(3)
    base = bytes(draw.integers(97, 123, 40, np.uint8))
    flipped = [(base[:at] + bytes([base[at] ^ bit]) + base[at + 1 :]) for at in range(40) for bit in (1, 2, 4, 8, 16)]
    texts = [text.decode() for text in (base, *flipped)]
    keys = [key for [(_, _, key)] in found(texts, whole=False, normalize=False, min_chars=1)]
    for half in (0, 1):
        flips = [(key[half] ^ keys[0][half]).bit_count() for key in keys[1:]]
        assert 31 < np.mean(flips) < 33
        assert min(flips) > 14
        assert max(flips) < 50


def test_a_text_too_long_for_its_places_is_an_error() -> None:
    offsets = np.array([0, 1 << 32], np.int64)
    with pytest.raises(ValueError, match="4294967296 bytes"):
        paragraphs(np.zeros(8, np.uint8), offsets, whole=False, normalize=False, min_chars=1)


@pytest.mark.parametrize("count", [0, 1000, 100_000])
def test_a_filter_holds_what_was_put_in_and_few_others(count) -> None:
    draw = np.random.default_rng(count)
    members, others = (draw.integers(0, 2**64, n, np.uint64) for n in (count, 200_000))
    held = Bloom(members)
    assert held.passing(members).all()
    bits = 64 * len(held.words)
    assert bloom.BITS_PER_HASH * count <= bits <= max(64, 2 * bloom.BITS_PER_HASH * count)
    expected = (1 - np.exp(-bloom.PROBES * count / bits)) ** bloom.PROBES
    assert abs(held.passing(others).mean() - expected) < 5 * np.sqrt(expected / len(others)) + 1e-9


def test_a_filter_of_neighbouring_numbers_is_no_worse() -> None:
    members = np.arange(100_000, dtype=np.uint64) << np.uint64(32)
    assert Bloom(members).passing(members + np.uint64(1)).mean() < 0.01


def test_a_filter_of_one_bit_still_holds_everything(monkeypatch) -> None:
    monkeypatch.setattr(bloom, "bloom_bits", lambda count: 1)
    held = Bloom(np.arange(9, dtype=np.uint64))
    assert held.passing(np.arange(100, dtype=np.uint64)).all()
