"""Lines and paragraphs in plain Python, from the definitions in docs/paragraphs.md: what the kernel and stage must equal."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tamis.kernels.squash import WHITE_SPACE

SPACES = "".join(map(chr, WHITE_SPACE))
RUNS = re.compile(f"[{SPACES}]+")


@dataclass(frozen=True)
class Piece:
    start: int  # bytes
    end: int
    form: str  # as it is compared


def squashed(text: str) -> str:
    return "".join(c.lower()[0] for c in RUNS.sub(" ", text).strip(" "))


def pieces(text: str, *, whole: bool, normalize: bool, min_chars: int) -> list[Piece]:
    """The lines, or with `whole` the paragraphs, of a text that count."""
    runs: list[list[str]] = []  # each: the lines of a piece, and the blank ones behind it
    skipped = ""
    gap = True
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        blank = not line.strip(SPACES)
        if not whole or (gap and not blank):
            runs.append([line])
        elif runs:
            runs[-1].append(line)
        else:
            skipped += line
        gap = blank
    found, at = [], len(skipped.encode())
    for run in runs:
        size = len("".join(run).encode())
        while len(run) > 1 and not run[-1].strip(SPACES):
            run.pop()
        form = re.sub(r"\r?\n\Z", "", "".join(run))
        form = squashed(form) if normalize else form
        if form.strip(SPACES) and len(form) >= min_chars:
            found.append(Piece(at, at + size, form))
        at += size
    return found
