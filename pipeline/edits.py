"""What the edits did to one document: its text read from the source again, the edits replayed, the difference shown.

Invariant: a difference is shown only of the text that was measured: its hash must still be that of the ledger, else
the story says why there is none.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pyarrow as pa

from ..stages.errors import TamisError
from .chain import replay
from .footers import Footer, read_footer
from .graph import BoundStage, Graph, build_graph
from .listing import InputFile, Listing, list_input
from .output import Output
from .readers import Batch, GroupEnd, Segment, read_segment
from .recipe import Recipe
from .storage import storage_at
from .terminal import plural, visible

LONG = 150  # characters of a line that are shown
BEFORE = 40  # of them, how many stand before the first difference
FOOTERS = 200  # that are read for the columns of the input where the run's listing is gone
COMPARED = 3000  # lines beyond the equal ends: difflib is quadratic


def tell_edits(output: Output, row: Mapping[str, Any], most: int) -> list[str]:
    """Per edit that changed the document, its characters before and after and the difference, in `most` lines of
    difference together; or one line that says why it cannot be shown."""
    try:
        versions = list(text_versions(output, row))
    except (TamisError, FileNotFoundError, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        return [f"edits   cannot be shown: {visible(reason)}"]
    lines: list[str] = []
    for (_, old), (name, new) in pairwise(versions):
        head = f"{name}: {len(old):,} -> {plural(len(new), 'character')}"
        lines.append(f"{'edits ' if not lines else '      '}  {head}")
        shown = list(difference(old, new, most + 1))
        lines += [f"        {line}" for line in shown[:most]]
        if len(shown) > most:
            lines.append("        … and more")
        most = max(0, most - len(shown))
    return lines


def text_versions(output: Output, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """('source', the original text), then (edit, the text it left) for each edit that changed it.

    Raises DataError where the source is gone or changed, RecipeError where the recipe no longer fits it, ValueError for
    a column that an edit needs and neither the ledger nor the source has.
    """
    recipe = Recipe.model_validate(output.manifest["recipe"])
    listing, index = _listed(output, recipe, row["source_file"])
    graph = build_graph(recipe, listing.columns)
    changed = [b for b in graph.stages if row.get(f"{b.name}_changed")]
    found = read_row(recipe, listing, index, row["source_row"], _source_columns(graph, changed, row))
    if found is None or found["source_hash"][0].as_py() != row["source_hash"]:
        raise ValueError(f"{row['source_file']} does not hold the text that was measured")
    text = found["text"].combine_chunks()
    yield "source", text[0].as_py()
    for bound in changed:
        columns = {name: _column(graph, row, found, text, name) for name in bound.needs}
        columns[f"{bound.name}_hash"] = pa.array([""])  # valid: this edit changed the document
        text = replay([bound], text, pa.table(columns))
        yield bound.name, text[0].as_py()


def _listed(output: Output, recipe: Recipe, name: str) -> tuple[Listing, int]:
    """The run's listing and the place of a file in it: as saved in work/, or gathered again where that is gone."""
    work = storage_at(recipe.work or f"{output.storage.root}/work")
    try:
        listing = Listing.from_json(work.read(f"listing-{output.manifest['plan']}.json"))
    except FileNotFoundError:
        listing = with_row_groups(list_input(recipe.input, max_footers=FOOTERS), recipe, name)
    index = next((i for i, file in enumerate(listing.files) if file.name == name), None)
    if index is None:
        raise FileNotFoundError(f"{name} is no longer in the input")
    return listing, index


def with_row_groups(listing: Listing, recipe: Recipe, name: str) -> Listing:
    """The listing with the row groups of the one file that is wanted."""

    def with_groups(file: InputFile) -> InputFile:
        if file.name != name or file.counted:
            return file
        footer = read_footer(file.url, recipe.input[file.source].text)
        return replace(file, groups=footer.groups) if isinstance(footer, Footer) else file

    return replace(listing, files=tuple(with_groups(file) for file in listing.files))


def _source_columns(graph: Graph, edits: Sequence[BoundStage], row: Mapping[str, Any]) -> list[str]:
    needed = {name for bound in edits for name in bound.needs if name not in row}
    return [graph.input_names[name] for name in graph.input_types if name in needed]


def read_row(recipe: Recipe, listing: Listing, index: int, row: int, columns: Sequence[str]) -> pa.Table | None:
    """One row of a file, from the row group that holds it."""
    segment, groups = Segment(index, 0, 0, 0), None
    first = 0
    for number, group in enumerate(listing.files[index].groups):
        if first <= row < first + group.rows:
            segment, groups = Segment(index, number, number + 1, first), [number]
            break
        first += group.rows
    events = read_segment(
        listing, recipe.input, segment, columns, max_doc=recipe.max_doc, batch_bytes=16_000_000, groups=groups
    )
    for event in events:
        if isinstance(event, Batch):
            rows = event.table["source_row"].to_pylist()
            if row in rows:
                return event.table.slice(rows.index(row), 1)
        elif isinstance(event, GroupEnd) and event.error:
            raise ValueError(event.error)
    return None


def _column(graph: Graph, row: Mapping[str, Any], found: pa.Table, text: pa.Array, name: str) -> pa.Array:
    """One value that an edit reads, of the text version at hand: from the ledger, else from the source."""
    if name == "text":
        return text
    if name in ("bytes", "chars"):
        now = text[0].as_py()
        return pa.array([len(now) if name == "chars" else len(now.encode())], pa.int64())
    types = {a.name: a.column.type for a in graph.measured} | graph.input_types
    if name in row:
        return pa.array([row[name]], types.get(name))
    if name not in graph.input_names and name not in found.column_names:
        raise ValueError(f"{name}, which an edit reads, is not in the ledger")
    return found[graph.input_names.get(name, name)].combine_chunks()


# --- the difference -----------------------------------------------------------------------------------------------


def difference(old: str, new: str, most: int) -> Iterator[str]:
    """At most `most` lines: `- ` and `+ ` lines with one line around them, and `@@ line N` before each place; safe for
    a terminal, long lines cut to the part that differs."""
    before, after = (text.split("\n") if text else [] for text in (old, new))
    start = _equal(before, after)
    end = _equal(before[start:][::-1], after[start:][::-1])
    keep = max(start - 1, 0), max(end - 1, 0)  # one equal line stays on each side
    before, after = before[keep[0] : len(before) - keep[1]], after[keep[0] : len(after) - keep[1]]
    matcher = difflib.SequenceMatcher(None, before[:COMPARED], after[:COMPARED])
    yielded = 0
    for group in matcher.get_grouped_opcodes(1):
        for line in _group(group, before, after, keep[0]):
            if yielded >= most:
                return
            yield line
            yielded += 1


def _equal(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines are equal from the start."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _group(
    group: Sequence[tuple[str, int, int, int, int]], before: Sequence[str], after: Sequence[str], skipped: int
) -> Iterator[str]:
    yield f"@@ line {skipped + group[0][1] + 1}"
    for kind, i1, i2, j1, j2 in group:
        if kind == "equal":
            yield from (f"  {_window(line, 0)}" for line in before[i1:i2])
            continue
        olds, news = before[i1:i2], after[j1:j2]
        pairs = len(olds) == len(news)  # a line that was changed, not lines that came or went
        at = [_differs(a, b) for a, b in zip(olds, news, strict=True)] if pairs else []
        yield from (f"- {_window(line, at[n] if pairs else 0)}" for n, line in enumerate(olds))
        yield from (f"+ {_window(line, at[n] if pairs else 0)}" for n, line in enumerate(news))


def _differs(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _window(line: str, at: int) -> str:
    start = max(0, at - BEFORE) if at > LONG - BEFORE else 0
    piece = line[start : start + LONG]
    return f"{'…' if start else ''}{visible(piece)}{'…' if start + LONG < len(line) else ''}"
