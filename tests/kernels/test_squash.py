"""squash: what counts as the same text for exact deduplication."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels.squash import TABLE_SIZE, WHITE_SPACE, lower_table, squash
from tamis.stages.arrow import text_array, text_buffers

SPACES = re.compile(f"[{''.join(map(chr, WHITE_SPACE))}]+")
ODD = "aZ .\0\x1c\x1f\x85\xa0\u1680\u200b\u2003\u2028\u3000éÉßẞİıΣσςȺȾKÅ🄰𐐀𐐨𞤀日\ufeff\U0010ffff\n\t"
texts = st.lists(st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"]), max_size=30), max_size=8)


def plain(text: str) -> str:
    return "".join(c.lower()[0] for c in SPACES.sub(" ", text).strip(" "))


def squashed(array: pa.Array) -> list[str]:
    return text_array(*squash(*text_buffers(array))).to_pylist()


@settings(max_examples=300, deadline=None)
@given(texts)
def test_equals_the_plain_definition_and_is_idempotent(found) -> None:
    array = pa.array(found, pa.large_string())
    once = squashed(array)
    assert once == [plain(text) for text in found]
    assert squashed(pa.array(once, pa.large_string())) == once
    for i in range(len(found)):
        assert squashed(array.slice(i)) == once[i:]


def test_every_character_maps_as_python_says() -> None:
    every = [chr(c) for c in range(0x40000) if not 0xD800 <= c < 0xE000]
    assert squashed(pa.array([f"a{c}b" for c in every], pa.large_string())) == [plain(f"a{c}b") for c in every]
    assert len(lower_table()) == TABLE_SIZE


def test_white_space_is_the_unicode_property() -> None:
    python = {c for c in range(0x110000) if chr(c).isspace()}
    assert set(WHITE_SPACE) == python - set(range(0x1C, 0x20))


def test_only_growing_letters_fit_and_no_texts_are_fine() -> None:
    assert squashed(pa.array(["Ⱥ" * 1000], pa.large_string())) == ["ⱥ" * 1000]
    assert squashed(pa.array([], pa.large_string())) == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=12))
def test_bytes_that_are_no_utf8_never_read_or_write_out_of_bounds(data) -> None:
    guard = np.frombuffer(data + b"\xf0\x9f", np.uint8)
    out, offsets = squash(guard, np.array([0, len(data)], np.int64))
    alone, _ = squash(np.frombuffer(data, np.uint8), np.array([0, len(data)], np.int64))
    assert out.tobytes() == alone.tobytes()
    assert len(out) == offsets[-1] <= len(data) * 3 // 2 + 1
