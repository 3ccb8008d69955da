"""A report page read as a browser would parse it: its tables, its figures, the elements that it is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = ("meta", "link", "img", "br", "hr", "input", "base")


@dataclass
class Table:
    attributes: dict[str, str | None]
    rows: list[list[str]] = field(default_factory=list)
    within: list[str] = field(default_factory=list)  # ids of the elements around it

    def column(self, title: str) -> list[str]:
        at = self.rows[0].index(title)
        return [row[at] for row in self.rows[1:]]


class Reading(HTMLParser):
    """`tables` in order; `elements`: (tag, attributes); `texts`: by id of every element that has one; `figures`."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[Table] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.figures: list[dict[str, Any]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._cell: list[str] | None = None
        self.text = page.decode("utf-8")
        self.feed(self.text)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes))
        if tag == "table":
            ids = [a["id"] for _, a in self._open if a.get("id")]
            self.tables.append(Table(attributes, within=[i for i in ids if i]))
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag == "small" and self._cell is not None:
            self._cell.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a start"
        assert self._open[-1][0] == tag, f"</{tag}> closes <{self._open[-1][0]}>"
        self._open.pop()
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1].rows[-1].append("".join(self._cell).strip())
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)
        for tag, attributes in self._open:
            if (name := attributes.get("id")) and tag != "script":
                self.texts[name] = self.texts.get(name, "") + data
        if self._open and self._open[-1][1].get("id") == "figures":
            self.figures = json.loads(data)

    # --- what tests ask for

    def table(self, name: str) -> Table:
        return next(t for t in self.tables if t.attributes.get("id") == name)

    def groups(self, column: str) -> Table:
        return next(t for t in self.tables if t.attributes.get("data-column") == column)

    def figure(self, title: str) -> dict[str, Any]:
        """By title, without the marks that isolate names."""
        return next(f for f in self.figures if plain(f["title"]) == title)

    def titles(self) -> list[str]:
        return [plain(f["title"]) for f in self.figures]


def plain(label: str) -> str:
    return label.replace("\u2068", "").replace("\u2069", "")


def number(cell: str) -> float:
    return float(cell.replace(",", "").replace(" %", ""))
