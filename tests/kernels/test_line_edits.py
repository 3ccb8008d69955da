"""The line kernels equal plain Python over str, on text made of what could go wrong."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis.kernels import c4_lines as c4_kernel
from tamis.kernels import refinedweb_lines as rw_kernel
from tamis.kernels import str_classes
from tamis.stages.arrow import text_array, text_buffers

from . import line_edits_oracle as oracle

BREAKS = ["\n", "\n\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
SPACES = [" ", "  ", "\t", "\x1f", "\x00", "\u00a0", "\u1680", "\u2003", "\u202f", "\u3000"]
LETTERS = [
    "a",
    "be",
    "See",
    "ÄÖ",
    "ß",
    "İ",
    "ı",
    "ſ",
    "K",
    "k",
    "I",
    "Σς",
    "дом",
    "漢字",
    "ひら",
    "ﷺ",
    "🙂",
    "𝒳",
    "Ⅷ",
    "e\u0301",
    "_",
]
MARKS = [".", "...", "…", "?", "!", '"', "'", "’", "-", ",", "{", "}", "[", "]", "(", ")", "«"]
DIGITS = ["1", "23", "²", "٣", "४", "Ⅳ", "½"]
C4_WORDS = ["[1]", "[]", "[٣४]", "[²]", "[edit]", "[Edit]", "[citation needed]", "[[2]]", "java[3]script", "x" * 1000]
C4_WORDS += [
    "x" * 1001,
    "é" * 1000,
    "é" * 1001,
    "JavaScript",
    "javascrİpt",
    "javaſcript",
    "Lorem Ipsum",
    "lorem  ipsum",
]
C4_WORDS += [
    "Terms of Use",
    "PRIVACY POLICY",
    "cooKie Policy",
    "cookıe policy",
    "uses cookies",
    "Use of cooKies",
    "use cookie",
]
C4_WORDS += ["use cookies", "terms o", "f use", "privac", "cookies policy", "lorem i", "psum"]
RW_WORDS = [
    "likes",
    "Views",
    "LIKES",
    "liKes",
    "bookmarKs",
    "followers",
    "downvotes",
    "views!",
    "5.1K",
    "1,234",
    "12K",
    "3k",
    "9m",
    "7G",
]
RW_WORDS += [
    "items in cart",
    "Items İn Cart",
    "ıtemſ in cart",
    "items  in cart",
    "items in cartitems in cart",
    "Read more",
    "read more...",
]
RW_WORDS += ["READ MORE »»»", "Sign-in", "ſİgn-ın", "sign-in ", "sign in", "Read moreab", "NASA"]


def texts(words: list[str]) -> st.SearchStrategy[str]:
    """Text of a few pieces: words with what may stand between, so that lines and phrases meet often."""
    piece = st.one_of(
        st.sampled_from(words),
        st.sampled_from(LETTERS + MARKS + DIGITS),
        st.sampled_from(SPACES),
        st.sampled_from([" ", "\n"]),
        st.sampled_from(BREAKS),
        st.text(st.characters(codec="utf-8"), max_size=3),
    )
    return st.lists(piece, max_size=25).map("".join)


def c4(batch: list[str], **switches) -> list[tuple[str, dict[str, int]]]:
    rules = {
        "terminal_punct": True,
        "min_words": 3,
        "max_word": 1000,
        "javascript": True,
        "policy": True,
        "citations": True,
    }
    data, offsets, counts = c4_kernel.c4_lines(*_sliced(batch), str_classes.str_classes(), *(rules | switches).values())
    out = text_array(data, offsets)
    out.validate(full=True)
    names = ("long_word", "no_punct", "short", "javascript", "policy", "citations", "curly", "lorem")
    return [(text, dict(zip(names, column))) for text, column in zip(out.to_pylist(), counts.T.tolist())]


RW_RULES = {
    "uppercase": 1,
    "numeric": 2,
    "counters": 4,
    "min_words": 8,
    "items_in_cart": 16,
    "read_more": 32,
    "sign_in": 64,
}


def refinedweb(batch: list[str], phrase_max_words: int = 10, **switches) -> list[tuple[str, dict[str, int]]]:
    values = {"uppercase": 0.5, "numeric": 0.999999, "min_words": 2} | switches
    bits = sum(bit for name, bit in RW_RULES.items() if values.get(name, True))
    limits = float(values["uppercase"]), float(values["numeric"]), int(values["min_words"])
    data, offsets, counts = rw_kernel.refinedweb_lines(
        *_sliced(batch), str_classes.str_classes(), bits, *limits, phrase_max_words
    )
    out = text_array(data, offsets)
    out.validate(full=True)
    names = ("uppercase", "numeric", "counter", "one_word", "edited", "removed", "before", "after")
    return [(text, dict(zip(names, column))) for text, column in zip(out.to_pylist(), counts.T.tolist())]


def _sliced(batch: list[str]):
    """Buffers whose first offset is above 0, as those of a slice."""
    return text_buffers(pa.array(["before. ", *batch, "after"], pa.large_string())[1:-1])


def without(counts: dict[str, int], name: str) -> dict[str, int]:
    return {key: value for key, value in counts.items() if key != name}


@settings(max_examples=300, deadline=None)
@given(st.lists(texts(C4_WORDS), max_size=4))
@example(
    [
        "One two javascript {.",
        "Lorem ipsum javascript a.",
        "A cookie policy {.",
        "No end { lorem ipsum",
        "Lorem ipsum {.",
    ]
)
@example(["\r\n\r", "A b c. [1]\n[1] d e f.", "[[1]] a b c.", "a b c....", "a b ..."])
def test_c4_equals_plain_python(batch):
    assert c4(batch) == [oracle.c4(text) for text in batch]


@settings(max_examples=200, deadline=None)
@given(
    texts(C4_WORDS),
    st.fixed_dictionaries(
        {
            "terminal_punct": st.booleans(),
            "min_words": st.sampled_from([0, 1, 3]),
            "max_word": st.sampled_from([0, 4, 1000]),
            "javascript": st.booleans(),
            "policy": st.booleans(),
            "citations": st.booleans(),
        }
    ),
)
def test_c4_equals_plain_python_under_every_switch(text, switches):
    assert c4([text], **switches) == [oracle.c4(text, **switches)]


@pytest.mark.parametrize("phrase", [*oracle.POLICY, "javascript", "lorem ipsum"])
def test_c4_finds_phrases_where_lower_finds_them(phrase):
    """Every letter replaced by every character that lower() or casefold() turns into it, and by a neighbour."""
    variants = {
        char for code in range(0x20000) if (char := chr(code)).lower()[:1] in set(phrase) and not char.isspace()
    }
    lines = [f"One two {phrase.replace(v.lower()[:1], v)} three." for v in sorted(variants)]
    lines += [f"One two {phrase.upper()} three.", f"One two {phrase[:-1]} three.", f"One two {phrase[1:]} three."]
    lines += [f"{phrase}.", f"One two {phrase[:4]}\u200d{phrase[4:]}."]
    assert c4(lines) == [oracle.c4(line) for line in lines]


def test_c4_splits_and_strips_at_every_space_and_break_of_python():
    spaces = [chr(code) for code in range(0x20000) if chr(code).isspace() or not 0x20 < code < 0x3100]
    batch = [f"{s}One{s}two three.{s}Four five{s}six.{s}" for s in spaces if not "\ud800" <= s <= "\udfff"]
    assert c4(batch) == [oracle.c4(text) for text in batch]


@settings(max_examples=300, deadline=None)
@given(st.lists(texts(RW_WORDS), max_size=4))
@example(
    [" 12\n 34 \nA word", "5K likes\n6 likeS!\n٣ views", "x items in cartitems in cart y z", "\u00a0word one\nABC d"]
)
@example(
    [
        "Sign-in Sign-in now\n Read more...",
        "Sign-in\u3000a b\nc d\u3000Read more漢字x",
        " \n  \n",
        "AB\n\n  1\n\n two words",
    ]
)
def test_refinedweb_equals_plain_python(batch):
    for (text, counts), (expected, expected_counts) in zip(
        refinedweb(batch), map(oracle.refinedweb, batch), strict=True
    ):
        assert (text, without(counts, "edited")) == (expected, expected_counts)


@settings(max_examples=300, deadline=None)
@given(
    texts(RW_WORDS),
    st.fixed_dictionaries(
        {
            "uppercase": st.sampled_from([0, 0.2, 0.5]),
            "numeric": st.sampled_from([0, 0.5, 0.999999]),
            "counters": st.booleans(),
            "min_words": st.sampled_from([0, 1, 2, 4]),
            "items_in_cart": st.booleans(),
            "read_more": st.booleans(),
            "sign_in": st.booleans(),
            "phrase_max_words": st.sampled_from([3, 10]),
        }
    ),
)
@example("Menu\n\n  \u00a0two words", {"items_in_cart": False, "read_more": False, "sign_in": False})
@example("Menu\n  two words", {"uppercase": 0, "numeric": 0, "counters": False, "min_words": 0})
def test_refinedweb_equals_plain_python_under_every_switch(text, switches):
    [(result, counts)] = refinedweb([text], **switches)
    assert (result, without(counts, "edited")) == oracle.refinedweb(text, **switches)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [*DIGITS, *"kKMB,.", "K", "likes", "liKes", "Bookmarks", " ", "\u00a0", "(", "_", "İ", "\u0307", "!", "a"]
        ),
        max_size=7,
    ).map("".join)
)
@example("1,2.3K\u00a0liKes!")
@example("(12 views)")
@example("5 bookmarKs\u0307")
def test_refinedweb_counters_equal_the_regular_expression(line):
    text = f"some words here\n{line}\nmore words here"
    [(_, counts)] = refinedweb([text], uppercase=0, numeric=0, min_words=0)
    assert counts["counter"] == bool(oracle.COUNTER.search(line.lower()))


def test_classes_are_those_of_python():
    table = str_classes.str_classes()
    for bit, test in (
        (str_classes.SPACE, str.isspace),
        (str_classes.BREAK, lambda char: len(f"a{char}b".splitlines()) == 2),
        (str_classes.UPPER, str.isupper),
        (str_classes.DIGIT, str.isdigit),
        (str_classes.DECIMAL, str.isdecimal),
        (str_classes.ALNUM, str.isalnum),
    ):
        assert [code for code in range(0x110000) if bool(table[code] & bit) != test(chr(code))] == []


def test_refinedweb_counts_edited_lines_that_stay():
    text = "12 items in cart now\nNo phrase here at all\nRead more...\nSign-in to read more..."
    [(result, counts)] = refinedweb([text])
    assert result == "12 now\nNo phrase here at all\nto"
    assert (counts["edited"], counts["removed"]) == (2, 1)


def test_a_document_of_many_lines_between_short_ones_keeps_its_neighbours():
    long = "\n".join(f"line number {i}" for i in range(5000))
    batch = ["one two", long, "three four", "", "five six"]
    assert [text for text, _ in refinedweb(batch)] == batch
    assert [text for text, _ in c4(batch, terminal_punct=False, min_words=2)] == batch


def test_kernels_equal_plain_python_on_real_text(shared_data):
    import pyarrow.parquet as pq

    batch = pq.read_table(shared_data / "web" / "web-00003.parquet", columns=["text"])["text"][:400].to_pylist()
    assert c4(batch) == [oracle.c4(text) for text in batch]
    results = [(text, without(counts, "edited")) for text, counts in refinedweb(batch)]
    assert results == [oracle.refinedweb(text) for text in batch]
