"""The line edits as plain Python over str, written from datatrove's and DCLM's definitions: what the kernels must equal."""

from __future__ import annotations

import re

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
COUNTER = re.compile(
    r"^\W*\d(?:,|\.|\d)*(?:K|k|M|m|B|b)?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes"
    r"|downloads|views|followers)\W*$"
)
CART = re.compile(r"\s?(?:items in cart)", re.I)
READ_MORE = re.compile(r"\s?(?:read more...)$", re.I)
SIGN_IN = re.compile(r"^(?:sign-in)\s?", re.I)


def c4(
    text: str,
    *,
    terminal_punct: bool = True,
    min_words: int = 3,
    max_word: int = 1000,
    javascript: bool = True,
    policy: bool = True,
    citations: bool = True,
) -> tuple[str, dict[str, int]]:
    """C4QualityFilter's loop without its two early exits, which are counted instead."""
    names = ["long_word", "no_punct", "short", "javascript", "policy", "citations", "curly", "lorem"]
    counts: dict[str, int] = dict.fromkeys(names, 0)
    kept = []
    for raw in text.splitlines():
        line = raw.strip()
        words = line.split()
        if max_word and any(len(word) > max_word for word in words):
            counts["long_word"] += 1
            continue
        marks = 0
        if citations:
            line, marks = CITATION.subn("", line)
        if terminal_punct and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            counts["no_punct"] += 1
            continue
        if len(words) < min_words:
            counts["short"] += 1
            continue
        lower = line.lower()
        counts["lorem"] += "lorem ipsum" in lower
        if javascript and "javascript" in lower:
            counts["javascript"] += 1
            continue
        counts["curly"] += "{" in line
        if policy and any(phrase in lower for phrase in POLICY):
            counts["policy"] += 1
            continue
        counts["citations"] += marks
        kept.append(line)
    return "\n".join(kept).strip(), counts


def tokens(text: str) -> int:
    """Words of a page as DCLM counts them: fastText's tokens that begin with a letter or digit."""
    return sum(token[0].isalnum() for token in re.split("[ \n\r\t\v\f\0]+", text) if token)


def refinedweb(
    text: str,
    *,
    uppercase: float = 0.5,
    numeric: float = 0.999999,
    counters: bool = True,
    min_words: int = 2,
    items_in_cart: bool = True,
    read_more: bool = True,
    sign_in: bool = True,
    phrase_max_words: int = 10,
) -> tuple[str, dict[str, int]]:
    """DCLM's modifiers one after the other, each from text to text; 0 or False leaves one out."""
    counts: dict[str, int] = dict.fromkeys(["uppercase", "numeric", "counter", "one_word", "removed"], 0)
    counts["before"] = tokens(text)

    def drop(name: str, fails) -> None:
        nonlocal text
        lines = text.split("\n")
        kept = [line for line in lines if not line or not fails(line)]
        counts[name] += len(lines) - len(kept)
        counts["removed"] += len(lines) - len(kept)
        text = "\n".join(kept)

    if uppercase:
        drop("uppercase", lambda line: sum(c.isupper() for c in line) / len(line) > uppercase)
        text = text.strip()
    if numeric:
        drop("numeric", lambda line: sum(c.isdigit() for c in line) / len(line) > numeric)
        text = text.strip()
    if counters:
        drop("counter", lambda line: COUNTER.search(line.lower()))
        text = text.strip()
    if min_words:
        drop("one_word", lambda line: len(line.split()) < min_words)
    for on, pattern in ((items_in_cart, CART), (read_more, READ_MORE), (sign_in, SIGN_IN)):
        if on:
            kept = []
            for line in text.split("\n"):
                cut = line
                if len(line.split()) <= phrase_max_words:
                    cut = pattern.sub("", line)
                    if line and (not cut or cut.isspace()):
                        counts["removed"] += 1
                        continue
                kept.append(cut)
            text = "\n".join(kept).strip()
    counts["after"] = tokens(text)
    return text, counts
