"""The golden corpus is well formed, and each of its pages says in `why` what should become of it.

`why` begins with `kept:`, `quarantine:` or the full name of a rule that the page must fail, then tells the reason.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

FILE = Path(__file__).with_name("pages.jsonl")
PAGES = [json.loads(line) for line in FILE.read_text("utf-8").split("\n") if line]


def test_every_page_has_the_same_keys_and_says_what_it_is_for():
    assert {tuple(page) for page in PAGES} == {("id", "text", "url", "date", "source", "why")}
    for page in PAGES:
        fate, _, reason = page["why"].partition(": ")
        assert reason, page["id"]
        assert fate in ("kept", "quarantine") or fate.count(".") == 1, page["id"]


def test_it_is_small_enough_to_read_and_large_enough_to_count():
    assert 200 <= len(PAGES) <= 300
    assert FILE.stat().st_size < 300_000
    assert 0.3 < sum(page["why"].startswith("kept") for page in PAGES) / len(PAGES) < 0.7


def test_identifiers_are_unique_but_for_one_pair_and_one_text_is_missing():
    assert [name for name, count in Counter(page["id"] for page in PAGES).items() if count > 1] == ["chess"]
    assert [page["id"] for page in PAGES if page["text"] is None] == ["null"]
    assert [page["id"] for page in PAGES if page["text"] == ""] == ["empty"]


def test_invisible_characters_are_escaped_in_the_file():
    visible = FILE.read_text("utf-8").replace("\n", "")
    assert all(c.isprintable() for c in visible)


def test_addresses_are_reserved_names_or_broken_on_purpose():
    for page in PAGES:
        url = page["url"]
        assert url is None or ".example" in url or "example.co" in url or "10.0.0.7" in url or url == "http://[toads"
