"""The three parts of a small corpus that the mini chain needs: text to train models on, a cloze task, a pool to curate.

Invariant: no domain (a package, a site) and no text is in two parts, and which part is a matter of names and bytes
alone: domains by size, documents by the hash of their text, so the parts are the same on every run.
"""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ...stages.errors import RecipeError, did_you_mean

TASK, ORDINARY, SCRAMBLED = "task", "ordinary", "scrambled"
GROUPS: tuple[str, ...] = (TASK, ORDINARY, SCRAMBLED)
SHARES = {"models": 0.5, "abilities": 0.15, "pool": 0.35}  # of the bytes of each group
PASSAGE = 1200  # characters of a pool document; the models read all of it
SHORTEST = 600
LONG_LINE = 40  # characters; two texts with a line like that in common have it from one another
TRAINING_BYTES = 4_000_000  # of each group, that models are trained on


@dataclass(frozen=True)
class Text:
    """A text, the domain that it is from, and what it is: one of GROUPS. `draw` (uint64) orders texts where some are
    chosen; a scrambled text has that of its original."""

    text: str
    domain: str
    group: str
    draw: int

    @classmethod
    def of(cls, text: str, domain: str, group: str) -> Text:
        return cls(text, domain, group, xxhash.xxh3_64_intdigest(text.encode()))


@dataclass(frozen=True)
class Parts:
    """`models`: whole documents by group (the SCRAMBLED ones are the task's).
    `abilities`: whole documents of the task's kind. `pool`: passages, as many of each group."""

    models: dict[str, list[str]]
    abilities: list[str]
    pool: list[Text]
    domains: dict[str, list[str]]

    def facts(self) -> dict[str, object]:
        """Small facts for a person: domains, documents and bytes of each part."""

        def size(texts: list[str]) -> int:
            return sum(len(text.encode()) for text in texts)

        return {
            "domains": {part: len(domains) for part, domains in self.domains.items()},
            "models": {group: {"documents": len(texts), "bytes": size(texts)} for group, texts in self.models.items()},
            "abilities": {"documents": len(self.abilities), "bytes": size(self.abilities)},
            "pool": {
                group: {"documents": len(texts), "bytes": size(texts)}
                for group in GROUPS
                if (texts := [one.text for one in self.pool if one.group == group]) is not None
            },
        }


def read_corpus(folder: str, kind: str) -> list[Text]:
    """The documents of Parquet files with columns `text`, `source` (the domain) and `kind`, equal texts once; those of
    `kind` are the task's. RecipeError where there are none, or none of that kind."""
    files = sorted(glob.glob(str(Path(folder) / "*.parquet")))
    if not files:
        raise RecipeError(f"{folder}: no *.parquet there. `tamis sample {folder}` makes a corpus.")
    table = pa.concat_tables([pq.read_table(file, columns=["text", "source", "kind"]) for file in files])
    columns = (table[name].to_pylist() for name in ("text", "source", "kind"))
    found: dict[str, Text] = {}
    for text, source, its in zip(*columns, strict=True):
        if text and source is not None:
            found.setdefault(text, Text.of(text, source, TASK if its == kind else ORDINARY))
    texts = sorted(found.values(), key=lambda one: (one.domain, one.draw))
    if not any(one.group == TASK for one in texts):
        kinds = [k for k in set(table["kind"].to_pylist()) if k is not None]
        raise RecipeError(f"{folder}: no document of kind {kind!r}.{did_you_mean(kind, kinds)}")
    return texts


def split(texts: Sequence[Text], documents: int) -> Parts:
    """The parts. `documents`: of each group in the pool; fewer where the corpus has fewer, and then the three groups have
    as many as the smallest. RecipeError where the corpus is too small to have all three parts."""
    domains = _assign(texts)
    of = {part: [one for one in texts if one.domain in members] for part, members in domains.items()}
    elsewhere = {line for part in ("models", "abilities") for one in of[part] for line in _long_lines(one.text)}
    pool = {
        group: _passages((one for one in of["pool"] if one.group == group), elsewhere) for group in (TASK, ORDINARY)
    }
    count = min(documents, *(len(passages) for passages in pool.values())) // 2 * 2
    models = {group: _within([one for one in of["models"] if one.group == group]) for group in (TASK, ORDINARY)}
    abilities = [one.text for one in of["abilities"] if one.group == TASK]
    if count < 2 or not abilities or not all(models.values()):
        raise RecipeError(
            f"a corpus of {len({one.domain for one in texts})} domains is too small to be cut into models, abilities and pool; "
            "each needs a domain of its own with texts of the task's kind, models and pool also ordinary ones"
        )
    chosen = {group: passages[:count] for group, passages in pool.items()}
    halves = [one for passages in chosen.values() for one in passages[::2]]
    models[SCRAMBLED] = [scramble(text) for text in models[TASK]]
    scrambled = [Text(scramble(one.text), one.domain, SCRAMBLED, one.draw) for one in halves]
    return Parts(
        models=models,
        abilities=abilities,
        pool=sorted([*chosen[TASK], *chosen[ORDINARY], *scrambled], key=lambda one: (one.draw, one.group)),
        domains={part: sorted(members) for part, members in domains.items()},
    )


def scramble(text: str) -> str:
    """The words of a text in a random order that its hash decides; the white space between them stays where it is, so
    lines and their lengths in words are as before."""
    words = re.findall(r"\S+", text)
    order = np.random.Generator(np.random.PCG64(xxhash.xxh3_64_intdigest(text.encode()))).permutation(len(words))
    moved = (words[i] for i in order)
    return re.sub(r"\S+", lambda _: next(moved), text)


def _assign(texts: Iterable[Text]) -> dict[str, set[str]]:
    """Domains to parts, the largest first, each to the part that has least of what the domain brings."""
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys((TASK, ORDINARY), 0))
    for one in texts:
        sizes[one.domain][one.group] += len(one.text)
    total = {group: max(1, sum(size[group] for size in sizes.values())) for group in (TASK, ORDINARY)}
    filled = {part: dict.fromkeys(total, 0.0) for part in SHARES}
    parts: dict[str, set[str]] = {part: set() for part in SHARES}
    # by what they bring to their larger group, so that neither group's giants come last
    for domain in sorted(sizes, key=lambda d: (-max(sizes[d][g] / total[g] for g in total), d)):
        brings = {group: sizes[domain][group] / total[group] for group in total}

        def burden(part: str, brings: dict[str, float] = brings) -> float:
            return sum(share * (filled[part][group] + share) / SHARES[part] for group, share in brings.items())

        # the cloze task is made of the task's kind alone
        part = min(SHARES if brings[TASK] else ("models", "pool"), key=burden)
        parts[part].add(domain)
        for group, share in brings.items():
            filled[part][group] += share
    return parts


def _within(texts: list[Text]) -> list[str]:
    """TRAINING_BYTES of the texts or all of them, in the order in which every domain gives as many bytes as the others while
    it has any, so that the largest do not fill a beginning."""
    placed = []
    ends: dict[str, int] = defaultdict(int)
    for one in sorted(texts, key=lambda one: one.draw):
        ends[one.domain] += len(one.text.encode())
        placed.append((ends[one.domain], one.draw, one.text))
    chosen, spent = [], 0
    for _, _, text in sorted(placed):
        if spent >= TRAINING_BYTES:
            break
        spent += len(text.encode())
        chosen.append(text)
    return chosen


def _passages(texts: Iterable[Text], elsewhere: set[str]) -> list[Text]:
    """Every text cut at line ends into passages of SHORTEST to PASSAGE characters, each once, one domain after the other
    in turns, so that a domain of a thousand pages does not fill the pool. A passage of which half the long lines stand
    `elsewhere` is left out: licences and vendored packages are in many domains."""
    by_domain: dict[str, dict[str, Text]] = defaultdict(dict)
    for one in texts:
        for passage in _cut(one.text):
            lines = _long_lines(passage)
            if 2 * sum(line in elsewhere for line in lines) < max(1, len(lines)):
                by_domain[one.domain].setdefault(passage, Text.of(passage, one.domain, one.group))
    turns = []
    for passages in by_domain.values():
        turns += list(enumerate(sorted(passages.values(), key=lambda one: one.draw)))
    unique: dict[str, Text] = {}
    for _, one in sorted(turns, key=lambda turn: (turn[0], turn[1].draw)):
        unique.setdefault(one.text, one)
    return list(unique.values())


def _long_lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.splitlines()) if len(line) >= LONG_LINE]


def _cut(text: str) -> Iterator[str]:
    lines: list[str] = []
    length = 0
    for line in text.splitlines(keepends=True):
        line = line[:PASSAGE]
        if length + len(line) > PASSAGE:
            if length >= SHORTEST:
                yield "".join(lines).strip()
            lines, length = [], 0
        lines.append(line)
        length += len(line)
    if length >= SHORTEST:
        yield "".join(lines).strip()
