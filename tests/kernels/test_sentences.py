"""Sentences, paragraphs and lines: the definition, an independent version of it, and bounds on what they cost."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.kernels import paragraphs as dedup
from tamis.kernels import sentences as kernel
from tamis.stages.arrow import text_buffers

from . import naive_sentences as naive

WALKS = {
    "lines": (kernel.lines, naive.lines),
    "paragraphs": (kernel.paragraphs, naive.paragraphs),
    "sentences": (kernel.sentences, naive.sentences),
}


def found(walk, texts) -> list[list[str]]:
    data, offsets = text_buffers(pa.array(texts, pa.large_string()))
    pieces: list[list[str]] = [[] for _ in texts]
    for row, start, end in zip(*walk(data, offsets), strict=True):
        assert offsets[row] <= start < end <= offsets[row + 1]
        pieces[row].append(bytes(data[start:end]).decode())
    return pieces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four\u2026 Five", ["One.", "Two!", "Three?", "Four\u2026", "Five"]),
        ('"Go." She left. (He stayed.) "Why?!" ', ['"Go."', "She left.", "(He stayed.)", '"Why?!"']),
        (
            "\u201eGut.\u201c Er ging. \u00abOui.\u00bb Bien",
            ["\u201eGut.\u201c", "Er ging.", "\u00abOui.\u00bb", "Bien"],
        ),
        ("a line\nand. its\r\n\n end", ["a line", "and. its", "end"]),
        ("It costs 3.50 or 1,000.5 at example.com/a.b now.", ["It costs 3.50 or 1,000.5 at example.com/a.b now."]),
        ("J. R. R. Tolkien met Dr. Who, e.g. Tom. U.S. Army", ["J. R. R. Tolkien met Dr. Who, e.g. Tom.", "U.S. Army"]),
        ("On Blvd. And Brrrr. Then Schl. X", ["On Blvd. And Brrrr.", "Then Schl. X"]),
        ("On TV. And Prof. Smith", ["On TV.", "And Prof.", "Smith"]),
        (
            "approx. five (etc.) and so on. yes! but no? well",
            ["approx. five (etc.) and so on. yes!", "but no?", "well"],
        ),
        ("1. Peel. 2. Cut. In 1990. Then", ["1. Peel.", "2. Cut.", "In 1990.", "Then"]),
        ("Wait . . . And ... Then ... go ... ", ["Wait . . .", "And ...", "Then ... go ..."]),
        ("... Begin. ?! What", ["... Begin. ?!", "What"]),
        ("他说。“你好！”她走了。「はい。」３．５倍。", ["他说。", "“你好！”", "她走了。", "「はい。」", "３．５倍。"]),
        ("３．．５倍。２０００。３倍！４", ["３．．", "５倍。", "２０００。", "３倍！", "４"]),
        ("３．５．a．３", ["３．５．", "a．", "３"]),
        ("यह है। वह नहीं।हाँ", ["यह है।", "वह नहीं।", "हाँ"]),
        ("كيف الحال؟ جيد. نعم۔ لا", ["كيف الحال؟", "جيد.", "نعم۔", "لا"]),
        ("Он пришёл. Г. Иванов ушёл. т. е. да", ["Он пришёл.", "Г. Иванов ушёл. т. е. да"]),
        ("Cafe\u0301. Bar", ["Cafe\u0301.", "Bar"]),
        ("no end", ["no end"]),
        ("", []),
        (" \n\u2003\u00a0\r\n", []),
    ],
)
def test_sentences_are_cut_as_the_definition_says(text, expected):
    assert found(kernel.sentences, [text]) == [expected]
    assert naive.sentences(text) == expected


ENDS = [".", "!", "?", "\u2026", "。", "．", "！", "।", "؟"]
MARKS = ['"', "'", ")", "(", "”", "“", "»", "«", "」"]
SPACES = [" ", "  ", "\u00a0", "\u3000", "\n", "\r\n", "\n\n", "\x1c", "\x85", "\0"]
WORDS = ["a", "A", "I", "Dr", "Mrs", "vs", "TV", "Prof", "Blvds", "tschs", "etc", "e.g", "3", "12", "1234", "３"]
LETTERS = ["é", "e\u0301", "ß", "ё", "Д", "中", "文", "क", "\u093f", "ก", "\U0001f600", "\U00020000"]
PARTS = st.sampled_from([*ENDS, *MARKS, *SPACES, *WORDS, *LETTERS])


@settings(max_examples=600, deadline=None)
@given(st.lists(st.lists(PARTS, max_size=25).map("".join) | st.text(max_size=12), min_size=1, max_size=4))
@pytest.mark.parametrize("walk", WALKS)
def test_pieces_are_those_of_the_definition_in_plain_python(walk, texts):
    ours, theirs = WALKS[walk]
    assert found(ours, texts) == [theirs(text) for text in texts]


@pytest.mark.parametrize("walk", WALKS)
def test_all_but_white_space_lies_in_some_piece_of_real_text(walk, shared_data):
    texts = []
    for path in sorted((shared_data / "web").glob("*.parquet"))[:3]:
        table = next(pq.ParquetFile(path).iter_batches(batch_size=400, columns=["text"]))
        texts += table["text"].to_pylist()
    ours, theirs = WALKS[walk]
    for text, pieces in zip(texts, found(ours, texts), strict=True):
        assert re.sub(f"[{naive.SPACE}]", "", "".join(pieces)) == re.sub(f"[{naive.SPACE}]", "", text)
        assert pieces == theirs(text)
        assert all(naive.strip(piece) == piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=40).map("".join))
@pytest.mark.parametrize("whole", [False, True])
def test_lines_and_paragraphs_are_those_that_paragraph_dedup_compares(whole, text):
    data, offsets = text_buffers(pa.array([text], pa.large_string()))
    _, _, rest = dedup.paragraphs(data, offsets, whole=whole, normalize=False, min_chars=1)
    starts, sizes = rest[:, 1] & np.uint64(0xFFFFFFFF), rest[:, 1] >> np.uint64(32)
    theirs = [naive.strip(bytes(data[a : a + n]).decode()) for a, n in zip(starts, sizes, strict=True)]
    assert found(kernel.paragraphs if whole else kernel.lines, [text])[0] == theirs


def test_classes_are_pythons_own():
    table, leads = kernel._tables()
    for point in (*range(0x3000), *range(0xF900, 0x10000), *range(0x1D400, 0x1D800), *range(0x20000, 0x20100), 0xE0101):
        char = chr(point)
        kind = table[point]
        assert bool(kind & kernel.LETTER) == char.isalpha()
        assert bool(kind & kernel.WORD) == naive.is_word(char)
        assert bool(kind & kernel.DIGIT) == char.isdecimal()
        assert bool(kind & kernel.LOWER) == (unicodedata.category(char) == "Ll")
        assert bool(kind & kernel.SPACE) == bool(re.match(f"[{naive.SPACE}]", char))
        assert bool(kind & kernel.TERMINATOR) == (char in naive.TERMINATORS)
    assert all(leads[char.encode()[0]] for char in naive.TERMINATORS)
    assert not leads[list(b"a \n\xc3\xd0\x80")].any()


HOSTILE = [
    "a",
    ".",
    ". ",
    ".  ",
    "a. ",
    "a.\n",
    "\n",
    " ",
    "'",
    '."',
    ".” ",
    "。",
    "１．",
    "x" * 50 + ". ",
    "Dr. ",
    "\u3000",
]


@pytest.mark.parametrize("walk", WALKS)
def test_a_megabyte_of_anything_is_no_trouble(walk):
    """A walk that began again at every terminator, space or line feed would stay here for hours."""
    ours, theirs = WALKS[walk]
    for unit in HOSTILE:
        small, large = unit * 500, unit * (1_000_000 // len(unit))
        pieces = found(ours, ["", small, "b", large])
        assert pieces[1] == theirs(small)
        assert len(re.sub(f"[{naive.SPACE}]", "", "".join(pieces[3]))) == len(re.sub(f"[{naive.SPACE}]", "", large))


def test_texts_of_a_slice_are_found_where_they_lie():
    texts = pa.array(["One. Two", "Three! Four", "x", "Five? Six"], pa.large_string())
    data, offsets = text_buffers(texts.slice(1, 3))
    rows, starts, ends = kernel.sentences(data, offsets)
    assert rows.tolist() == [0, 0, 1, 2, 2]
    assert [bytes(data[a:b]).decode() for a, b in zip(starts, ends)] == ["Three!", "Four", "x", "Five?", "Six"]
