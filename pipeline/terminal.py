"""Words and numbers as a person reads them at a terminal.

Invariant: no text of a document reaches the terminal with a character that could move the cursor, colour, hide or
reorder what stands there; every such character is shown by its code.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

LISTED = 8  # items of a list that are shown
# control, format (bidi marks, zero-width, tags), surrogate, private use, unassigned, line and paragraph separators
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def visible(text: str) -> str:
    """The text on one line, with every character that is not plainly printable as \\xNN, \\uNNNN or \\UNNNNNNNN."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def _code(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    number = ord(character)
    wide = f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
    return short or (f"\\x{number:02x}" if number < 256 else wide)


def cut(text: str, width: int) -> str:
    """The text in at most `width` characters, the last an ellipsis where some are missing."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def size(count: float) -> str:
    """Bytes in decimal units: 999 B, 1.2 kB, 34.5 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.95 or unit == "TB":
            return f"{count:,.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable: the last unit takes any count")


def share(part: float, whole: float) -> str:
    """'48.4 %'; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def seconds(duration: float) -> str:
    """'3.2 s', '4:05', '2:03:04'."""
    if duration < 59.95:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """'1 unit', '2,000 units'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def value(found: Any) -> str:
    """One value of a ledger row: floats as short as float32 allows, texts quoted only where they would mislead."""
    if found is None:
        return "null"
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, float):
        return f"{found + 0.0:.6g}"  # no -0, which statistics of Parquet files give for the smallest of zeros
    if isinstance(found, list):
        more = [f"… {len(found) - LISTED} more"] if len(found) > LISTED else []
        return f"[{', '.join([*map(value, found[:LISTED]), *more])}]"
    if isinstance(found, dict):
        return f"{{{', '.join(f'{visible(str(key))} {value(item)}' for key, item in found.items())}}}"
    if isinstance(found, str):
        text = cut(visible(found), 80)
        return text if text and text == text.strip() and " " not in text else f"'{text}'"
    return visible(str(found))


def columns(rows: Iterable[Sequence[str]], *, right: Iterable[int] = (), gap: int = 2) -> list[str]:
    """Lines of aligned columns; those in `right` are flush right, the last one is not padded."""
    table = [list(row) for row in rows]
    flush = set(right)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    lines = []
    for row in table:
        cells = [c.rjust(w) if i in flush else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append((" " * gap).join(cells).rstrip())
    return lines


def wrapped(words: Iterable[str], *, indent: str, width: int = 110, joint: str = ", ") -> list[str]:
    """The words in lines of at most `width`, each line after `indent`; a word is never broken."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(joint) + len(word) <= width:
            lines[-1] += joint + word
        else:
            if lines:
                lines[-1] += joint.rstrip()
            lines.append(indent + word)
    return lines


def place(root: str) -> str:
    """A folder as one would type it: relative where it lies below the working folder."""
    if "://" in root:
        return root
    below = os.path.relpath(root)
    return root if below.startswith("..") else below
