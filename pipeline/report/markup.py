"""What documents hold, made fit for a page: as HTML text, as a label in a chart, as JSON inside a script element.

Invariant: no character of a document becomes markup, ends a script element or moves what stands beside it; one that
cannot be seen is shown by its code.
"""

from __future__ import annotations

import html
import json
import unicodedata
from typing import Any

from markupsafe import Markup

from ..terminal import cut, visible

# zero-width joiner and non-joiner shape emoji and whole scripts; isolated text can do no harm with them
_HARMLESS = frozenset("\u200c\u200d")
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_ISOLATE, _POP = "\u2068", "\u2069"  # what <bdi> does, for SVG text
LABEL = 44  # characters of a label beside a chart


def inline(text: Any, most: int | None = None) -> Markup:
    """The text isolated from its surroundings (`<bdi>`), hidden characters as codes, at most `most` characters of it."""
    whole = str(text)
    shown = cut(whole, most) if most else whole
    title = f' title="{html.escape(visible(whole))}"' if len(shown) < len(whole) else ""
    return Markup(f"<bdi{title}>{_coded(shown)}</bdi>")


def _coded(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return html.escape(text)
    return "".join(_character(c) for c in text)


def _character(c: str) -> str:
    if c == "\n":
        return '<span class="code line">↵</span> '
    if c in _HARMLESS or unicodedata.category(c) not in _HIDDEN:
        return html.escape(c)
    return f'<span class="code">{html.escape(visible(c))}</span>'


def label(text: Any, most: int = LABEL) -> str:
    """The text as a label or hover text of a chart, which reads some HTML: escaped, cut, isolated."""
    shown = "".join(c if c in _HARMLESS else visible(c) for c in cut(str(text), most))
    return f"{_ISOLATE}{html.escape(shown, quote=False)}{_POP}"


def script_json(value: Any) -> Markup:
    """JSON that may stand in a script element: ASCII, without <, > and &. ValueError for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def lines(text: str) -> Markup:
    """A text of several lines, for a <pre>."""
    return Markup("\n".join(_coded(line) for line in text.split("\n")))
