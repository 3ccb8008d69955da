"""The first characters of chosen documents: from data/ where they were written, else from the source.

Invariant: a row group is read once for all documents that are wanted of it, at most BUDGET bytes of text are read in
all, and what is shown of the source is the text that was measured: its hash is that of the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...stages.errors import TamisError
from ..edits import FOOTERS, with_row_groups
from ..listing import Listing, list_input
from ..output import Output
from ..readers import Batch, Segment, read_segment
from ..recipe import Recipe
from ..storage import storage_at

CHARACTERS = 300
BUDGET = 1_000_000_000  # bytes of text read for one page: two or three seconds
BATCH = 16_000_000
Identity = tuple[str, int]  # source_file, source_row


@dataclass(frozen=True)
class Head:
    """At most CHARACTERS characters; `cut`: there are more; `written`: of the text in data/, else of the source."""

    text: str
    cut: bool
    written: bool


@dataclass(frozen=True)
class _Piece:
    """What is read at once: a row group of a file in data/ or of the input (0 for JSON Lines); bytes of its text."""

    file: str
    group: int
    size: int
    rows: Mapping[int, Mapping[str, Any]]  # by number in the group (data/) or in the file (input)
    listing: Listing | None = None  # of the input


def heads(output: Output, documents: Iterable[Mapping[str, Any]]) -> dict[Identity, Head | str]:
    """By (source_file, source_row): the head, or in a few words why there is none. `documents`: ledger rows with
    identity, source_hash, out_file and out_row."""
    wanted = {(row["source_file"], row["source_row"]): row for row in documents}
    found: dict[Identity, Head | str] = {}
    pieces: list[_Piece] = []
    for collect, rows in (
        (_written, [row for row in wanted.values() if row["out_file"] is not None]),
        (_source, [row for row in wanted.values() if row["out_file"] is None]),
    ):
        try:
            pieces += collect(output, rows, found)
        except (TamisError, OSError, KeyError, ValueError) as error:
            found |= {_identity(row): _gone(error) for row in rows}
    left = BUDGET
    for piece in sorted(pieces, key=lambda p: (-len(p.rows), p.file, p.group)):
        if piece.size > left:
            found |= {_identity(row): "too much text to read again for this page" for row in piece.rows.values()}
            continue
        left -= piece.size
        try:
            for row, head in _read(output, piece):
                found[_identity(row)] = head
        except (TamisError, OSError, pa.ArrowException, ValueError) as error:
            found |= {_identity(row): _gone(error) for row in piece.rows.values()}
    return {identity: found.get(identity, "no longer where it was read") for identity in wanted}


def _identity(row: Mapping[str, Any]) -> Identity:
    return row["source_file"], row["source_row"]


def _gone(error: BaseException) -> str:
    return f"cannot be read again: {(str(error).splitlines() or [type(error).__name__])[0]}"


# --- what has to be read ------------------------------------------------------------------------------------------


def _written(output: Output, rows: Iterable[Mapping[str, Any]], found: Mapping[Identity, Any]) -> list[_Piece]:
    by_file: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_file[row["out_file"]].append(row)
    pieces = []
    for file, members in by_file.items():
        with output.storage.open(file) as stream:
            metadata = pq.ParquetFile(stream).metadata
        at = metadata.schema.names.index("text")
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        sizes = [group.column(at).total_uncompressed_size for group in groups]
        chosen = _by_group([group.num_rows for group in groups], members, "out_row")
        for group, (first, inside) in chosen.items():
            local = {row["out_row"] - first: row for row in inside}
            pieces.append(_Piece(file, group, sizes[group], local))
    return pieces


def _source(output: Output, rows: Iterable[Mapping[str, Any]], found: dict[Identity, Any]) -> list[_Piece]:
    by_file: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_file[row["source_file"]].append(row)
    if not by_file:
        return []
    listing = listed(output, Recipe.model_validate(output.manifest["recipe"]), by_file)
    files = {file.name: file for file in listing.files}
    pieces = []
    for name, members in by_file.items():
        file = files.get(name)
        if file is None:
            found |= {_identity(row): "its file is no longer in the input" for row in members}
        elif file.format == "jsonl":
            pieces.append(_Piece(name, 0, file.size, {row["source_row"]: row for row in members}, listing))
        else:
            chosen = _by_group([group.rows for group in file.groups], members, "source_row")
            for group, (_, inside) in chosen.items():
                size = file.groups[group].text_bytes
                pieces.append(_Piece(name, group, size, {row["source_row"]: row for row in inside}, listing))
    return pieces


def _by_group(
    counts: Iterable[int], rows: Iterable[Mapping[str, Any]], position: str
) -> dict[int, tuple[int, list[Mapping[str, Any]]]]:
    """Row group -> (its first row, the documents that stand in it)."""
    found: dict[int, tuple[int, list[Mapping[str, Any]]]] = {}
    first = 0
    for group, count in enumerate(counts):
        inside = [row for row in rows if first <= row[position] < first + count]
        if inside:
            found[group] = (first, inside)
        first += count
    return found


def listed(output: Output, recipe: Recipe, names: Iterable[str]) -> Listing:
    """The run's listing as saved in work/, or gathered again, with the row groups of the files `names`."""
    root = output.storage.root
    for folder in (recipe.work, f"{root}/work", f"{recipe.output.rstrip('/')}/work"):
        if folder:
            try:
                return Listing.from_json(storage_at(folder).read(f"listing-{output.manifest['plan']}.json"))
            except (FileNotFoundError, KeyError, TypeError, ValueError):
                continue  # gone, or of another version of Tamis
    listing = list_input(recipe.input, max_footers=FOOTERS)
    for name in names:
        listing = with_row_groups(listing, recipe, name)
    return listing


# --- reading ------------------------------------------------------------------------------------------------------


def _read(output: Output, piece: _Piece) -> Iterator[tuple[Mapping[str, Any], Head | str]]:
    if piece.listing is None:
        with output.storage.open(piece.file) as stream:
            text = pq.ParquetFile(stream).read_row_group(piece.group, columns=["text"])["text"]
        numbers = sorted(piece.rows)
        for number, head in zip(numbers, _heads(text.take(pa.array(numbers)), True), strict=True):
            yield piece.rows[number], head
        return
    recipe = Recipe.model_validate(output.manifest["recipe"])
    index = next(i for i, file in enumerate(piece.listing.files) if file.name == piece.file)
    segment = Segment(index, 0, max(1, len(piece.listing.files[index].groups)), 0)
    wanted, left = pa.array(sorted(piece.rows), pa.int64()), len(piece.rows)
    events = read_segment(
        piece.listing, recipe.input, segment, [], max_doc=recipe.max_doc, batch_bytes=BATCH, groups=[piece.group]
    )
    for event in events:
        if isinstance(event, Batch) and left:
            table = event.table.filter(pc.is_in(event.table["source_row"], wanted))
            found = zip(table["source_row"].to_pylist(), table["source_hash"].to_pylist(), _heads(table["text"], False))
            for number, source_hash, head in found:
                row = piece.rows[number]
                same = source_hash == row["source_hash"]
                yield row, head if same else "the source has changed since it was measured"
            left -= len(table)
        if not left:
            return


def _heads(texts: pa.ChunkedArray, written: bool) -> list[Head]:
    """Cut in Arrow, so that a text of a gigabyte never becomes a Python string."""
    starts = pc.utf8_slice_codeunits(texts, 0, CHARACTERS).to_pylist()
    lengths = pc.binary_length(texts).to_pylist()
    return [Head(s or "", len((s or "").encode()) < (n or 0), written) for s, n in zip(starts, lengths, strict=True)]
