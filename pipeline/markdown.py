"""Markdown from words that others wrote: names, URLs, expressions and numbers, each as itself and nothing more.

Invariant: whatever a document, a file name or a recipe holds, it adds no markup, no link, no HTML and no table cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from .terminal import cut, value, visible

LONG = 120  # characters of a name that are shown
# What means something in the middle of a line, in Markdown, its tables, autolinks, mentions, formulas and emoji names;
# a backslash before any punctuation of ASCII is that character.
MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&$@^]|:(?! )|(?<=www)\.)", re.IGNORECASE)
BEGINNING = re.compile(r"(?=[-+=])|(?<=\d)(?=[.)]$)")  # what would begin a list or underline a heading


def plain(text: str, most: int = LONG) -> str:
    """The text as it is, on one line, its control characters by their codes."""
    shown = MARKUP.sub(r"\\\1", cut(visible(text).strip(), most))
    first, gap, rest = shown.partition(" ")
    return BEGINNING.sub(r"\\", first, count=1) + gap + rest


def code(text: str, most: int = 1_000) -> str:
    """The text as code on one line, also inside a table."""
    shown = cut(" ".join(visible(part) for part in text.split()), most)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    gap = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{gap}{shown}{gap}{fence}".replace("|", "\\|") if shown else ""


def block(text: str, language: str = "") -> list[str]:
    """Lines of a fenced block that nothing in the text can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    lines = ["".join(c if c == "\t" else visible(c) for c in line) for line in text.split("\n")]
    return [f"{fence}{language}", *lines, fence]


def values(found: dict[str, Any]) -> str:
    """'`name` = 5, `other` = 0.8'."""
    return ", ".join(f"{code(name)} = {plain(value(one))}" for name, one in found.items())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> list[str]:
    """Lines of a table whose cells are Markdown already; columns in `right` are flush right. Empty without rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    flush = set(right)
    rule = "|".join("--:" if i in flush else "---" for i in range(len(head)))
    return [f"| {' | '.join(head)} |", f"|{rule}|", *lines] if lines else []
