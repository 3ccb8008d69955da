from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels.json_strings import json_strings
from tamis.stages.arrow import text_array, text_buffers

ALL_LOW = "".join(map(chr, range(0x80))) + "\x7f\x85\u2028\u2029é漢😀"


def escaped(texts: list[str]) -> list[str]:
    return text_array(*json_strings(*text_buffers(pa.array(texts, pa.large_string())))).to_pylist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)))))
def test_every_text_is_what_json_dumps_gives(texts: list[str]) -> None:
    assert escaped(texts) == [json.dumps(text, ensure_ascii=False) for text in texts]


def test_every_control_character_and_a_slice_that_does_not_begin_at_0() -> None:
    texts = ["before", ALL_LOW, "", '"\\"']
    data, offsets = text_buffers(pa.array(texts, pa.large_string()).slice(1))
    assert offsets[0] > 0
    assert text_array(*json_strings(data, offsets)).to_pylist() == [
        json.dumps(t, ensure_ascii=False) for t in texts[1:]
    ]


def test_no_texts() -> None:
    data, offsets = json_strings(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    assert len(data) == 0
    assert offsets.tolist() == [0]
