"""Windows in plain Python, by dictionaries: oracles for `ngram_overlap` and `substring_dedup`, and tables to run them on.

Invariant: nothing of the stages or of `kernels/windows.py` is used; tokens are those of the UAX #29 oracle.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..kernels.naive_words import unicode_segments

Token = tuple[int, int, Any]  # first byte, end, what is compared


def table_of(texts: Sequence[str], **columns: Any) -> pa.Table:
    sizes = pa.array([len(t.encode()) for t in texts], pa.int64())
    return pa.table({"text": pa.array(texts, pa.large_string()), "bytes": sizes, **columns})


def white(segment: str) -> bool:
    return all(c.isspace() and not "\x1c" <= c <= "\x1f" for c in segment)


@functools.cache
def _segments(text: str) -> list[str]:
    return unicode_segments(text)


def tokens(text: str, at: int = 0) -> list[Token]:
    """Segments that are not all white space, with their places in bytes from `at`."""
    found = []
    for segment in _segments(text):
        end = at + len(segment.encode())
        if not white(segment):
            found.append((at, end, segment))
        at = end
    return found


def byte_tokens(text: str) -> list[Token]:
    return [(i, i + 1, b) for i, b in enumerate(text.encode())]


def windows(items: Sequence[Any], length: int) -> Iterator[tuple[Any, ...]]:
    return zip(*(items[i:] for i in range(length)))


def paragraphs(text: str) -> Iterator[tuple[int, int, list[Token]]]:
    """(first byte, end with the line feed, tokens) of each text between line feeds."""
    at, pieces = 0, text.split("\n")
    for i, piece in enumerate(pieces):
        end = at + len(piece.encode())
        yield at, end + (i < len(pieces) - 1), tokens(piece, at)
        at = end + 1


def overlap(texts: Sequence[str], ngram: int, least: float = 0.5, scopes: Sequence[Any] | None = None) -> list[Any]:
    """Per text (spans, share seen) of ngram_overlap, or None where the scope is null."""
    seen: set[Any] = set()
    found: list[Any] = []
    for n, text in enumerate(texts):
        scope = scopes[n] if scopes else ""
        if scope is None:
            found.append(None)
            continue
        spans, all_seen, total = [], 0, 0
        for start, end, held in paragraphs(text):
            grams = [(scope, *gram) for gram in windows([t for _, _, t in held], ngram)]
            again = sum(gram in seen for gram in grams)
            seen.update(grams)
            all_seen, total = all_seen + again, total + len(grams)
            if again and again / len(grams) >= least:
                spans.append((start, end, float(np.float32(again / len(grams))), "paragraph"))
        found.append((spans, float(np.float32(all_seen / total)) if total else None))
    return found


def old_both(texts: Sequence[str], ngram: int, threshold: float) -> list[tuple[list[tuple[int, int]], bool]]:
    """Per text (places of the paragraphs that BFF removes, whether it removes the document), texts in turn, one thread."""
    bloom: set[Any] = set()
    found = []
    for text in texts:
        removed, contained, total = [], 0, 0
        for start, end, held in paragraphs(text):
            grams = list(windows([t for _, _, t in held], ngram))
            again = sum(gram in bloom for gram in grams)
            contained, total = contained + again, total + len(grams)
            if grams and again / len(grams) > threshold:
                removed.append((start, end))
            else:
                bloom.update(grams)
        found.append((removed, total > 0 and contained / total > threshold))
    return found


def repeated(
    texts: Sequence[str], length: int, *, by_bytes: bool = False, scopes: Sequence[Any] | None = None
) -> list[Any]:
    """Per text (spans, share of bytes in repeats) of substring_dedup, byte by byte; None where the scope is null."""
    held: list[list[tuple[int, int, Any]]] = []
    for n, text in enumerate(texts):
        scope = scopes[n] if scopes else ""
        pieces = byte_tokens(text) if by_bytes else tokens(text)
        groups = [] if scope is None else windows(pieces, length)
        held.append([(w[0][0], w[-1][1], (scope, *(t for _, _, t in w))) for w in groups])
    times = Counter(key for text in held for _, _, key in text)
    known: set[Any] = set()
    found: list[Any] = []
    for n, (text, places) in enumerate(zip(texts, held)):
        size = len(text.encode())
        kinds: list[str | None] = [None] * size
        recurring = []
        for start, end, key in places:
            if times[key] > 1:
                recurring.append((start, end, times[key], "repeat" if key in known else "kept"))
            known.add(key)
        for kind in ("kept", "repeat"):
            for start, end, _, of in recurring:
                if of == kind:
                    kinds[start:end] = [kind] * (end - start)
        by_kind = {kind: [r for r in recurring if r[3] == kind] for kind in ("repeat", "kept")}
        spans, at = [], 0
        for kind, run in itertools.groupby(kinds):
            start, at = at, at + len(list(run))
            if kind:
                of = by_kind[kind]  # ascending by start and by end
                first = bisect.bisect_right(of, start, key=lambda r: r[1])
                most = max(t for _, _, t, _ in of[first : bisect.bisect_left(of, at, key=lambda r: r[0])])
                spans.append((start, at, float(most), kind))
        share = sum(k == "repeat" for k in kinds) / size if size else 0.0
        found.append(None if scopes and scopes[n] is None else (spans, float(np.float32(share))))
    return found


def given(verdict: pa.Table, spans: str, share: str) -> list[Any]:
    """The verdict in the form of the oracles."""
    return [
        None
        if row[spans] is None
        else ([(s["start"], s["end"], s["score"], s["kind"]) for s in row[spans]], row[share])
        for row in verdict.select([spans, share]).to_pylist()
    ]
