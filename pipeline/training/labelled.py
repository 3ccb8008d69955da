"""Labelled texts from files: read, one row per text, and split into a part to train on and a part held out.

Invariant: rows read = rows of the table + the counts of what was left out; on which side of the split a text lies depends
on the text alone (white space and case aside), so it is on the same side in every training, whatever else is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ...scorers.model_files import CHUNK, fingerprint
from ...stages._keys import hex_keys, text_keys
from ...stages.arrow import text_buffers
from ...stages.draws import draws
from ...stages.errors import RecipeError
from ..listing import InputFile, Listing, Source, list_input
from ..readers import Batch, FileLost, GroupEnd, Segment, read_segment
from ..schema import passed_name
from ..storage import storage_for
from ..terminal import plural, visible

MAX_DOC = 64_000_000  # bytes of a text, as in a recipe
BATCH_BYTES = 16_000_000
PIECE = 64_000_000  # bytes of text that are hashed at a time
UNUSABLE = ("unreadable", "null_text", "empty_text", "null_label")
MOST_LABELS = 10_000
MOST_WARNINGS = 20
PLAIN = ("url", "date")  # columns that a batch has under their own names
TRUTH = {"true": "1", "false": "0"}  # labels of a bool column
SPLIT_SEED = 0
BANDS, ROWS, NGRAM = 14, 8, 5  # of near_dedup: Jaccard similarity 0.8 shares a band with probability 0.92


@dataclass(frozen=True)
class Files:
    """Globs, files, folders or URLs. `label`: that of all their rows; None: a column says it. `name`: goes in front of the
    files' names where there are several groups."""

    patterns: tuple[str, ...]
    label: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Labelled:
    """What was read. `table`: text large_string, label string, then the columns asked for as strings, in the order of the
    files; no nulls in text and label. `left_out`: rows by reason. `files`: name (below the common folder), rows, bytes,
    xxh3_128 of the content. `warnings`: what could not be read, in words."""

    table: pa.Table
    left_out: dict[str, int] = field(default_factory=dict)
    files: tuple[dict[str, str | int], ...] = ()
    warnings: tuple[str, ...] = ()


def read_labelled(
    groups: Sequence[Files], *, text: str = "text", label: str | None = None, columns: Sequence[str] = ()
) -> Labelled:
    """All rows of the files, each with its label. `label`: the column where a group does not say it; values true and
    false become 1 and 0.

    Raises RecipeError where nothing matches, a column is missing, or the labels cannot be labels; SetupError where the
    storage cannot be reached. A row that cannot be used is counted in `left_out`.
    """
    sources, column_label = _sources(groups, text, label, columns)
    listing = list_input(sources)
    names = {name: _own_name(sources[0], name) for name in dict.fromkeys(columns)}
    label_name = _own_name(sources[0], label) if column_label and label is not None else ""
    wanted = [name for name in dict.fromkeys([*names.values(), label_name]) if name and name not in PLAIN]
    left_out: dict[str, int] = dict.fromkeys(UNUSABLE, 0)
    kept: list[pa.Table] = []
    files, warnings = [], []
    for index, file in enumerate(listing.files):
        rows = 0
        for table in _whole_groups(listing, sources, index, wanted, left_out, warnings):
            rows += len(table)
            given = groups[file.source].label
            labels = table[label_name] if given is None else pa.chunked_array([pa.repeat(pa.scalar(given), len(table))])
            reasons = _reasons(table, labels, warnings)
            for reason in left_out:
                left_out[reason] += pc.sum(pc.equal(reasons, reason)).as_py() or 0
            good = reasons.is_null()
            found = {"text": table["text"], "label": labels} | {name: table[own] for name, own in names.items()}
            kept.append(pa.table(found).filter(good))
        files.append({"name": file.name, "rows": rows, "bytes": file.size, "xxh3_128": content_hash(file)})
    schema = pa.schema([("text", pa.large_string()), ("label", pa.string()), *((name, pa.string()) for name in names)])
    table = pa.concat_tables([schema.empty_table(), *(one.cast(schema) for one in kept)])
    if column_label:
        table = _as_labels(table, label or "")
    check_labels(table["label"], label)
    more = [f"and {len(warnings) - MOST_WARNINGS:,} more"] if len(warnings) > MOST_WARNINGS else []
    return Labelled(table, left_out, tuple(files), (*warnings[:MOST_WARNINGS], *more))


def check_labels(labels: pa.ChunkedArray, column: str | None = None) -> None:
    """RecipeError with examples where labels are empty, contain white space, are too many, or look like scores."""
    counts = {one["values"]: one["counts"] for one in labels.value_counts().to_pylist()}
    where = f"the column {visible(column)!r}" if column else "the labels"
    bad = sorted(one for one in counts if not one or "\0" in one or any(map(str.isspace, one)))
    if bad:
        shown = ", ".join(f"'{visible(one)}' ({plural(counts[one], 'row')})" for one in bad[:5])
        raise RecipeError(
            f"{where}: a label is one word; empty or with white space: {shown}. Map them to words, or leave the rows' label null"
        )
    if len(counts) > MOST_LABELS:
        shown = ", ".join(f"'{visible(one[:40])}'" for one in sorted(counts)[:3])
        raise RecipeError(
            f"{where}: {len(counts):,} different labels, such as {shown}; more than {MOST_LABELS:,} are probably not labels: --label names the column"
        )
    if len(counts) > 2 and all(map(_fraction, counts)):
        raise RecipeError(
            f"{where}: holds numbers such as {sorted(counts)[0]}, which look like scores: make classes of them first"
        )


def deduplicate(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """One row per text, in the order of the texts' hashes: a shuffle that depends on the texts alone.

    Texts are equal if they are after runs of white space became one space and letters their lower case. Texts with two
    different labels are left out, all of them. Adds `hash` (32 hex digits of the text so normalised; see `held_out`).
    Returns (table, {duplicates, conflicting}: rows).
    """
    rows = len(table)
    normal, exact = _keys(table["text"], normalize=True), _keys(table["text"], normalize=False)
    order = np.lexsort(
        (exact[1], exact[0], normal[1], normal[0])
    )  # of equal texts the first by its bytes, then as read
    hi, lo = normal[0][order], normal[1][order]
    first = np.ones(rows, bool)
    first[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    starts = np.flatnonzero(first)
    codes = _codes(table["label"])[order]
    same = np.minimum.reduceat(codes, starts) == np.maximum.reduceat(codes, starts) if rows else np.zeros(0, bool)
    sizes = np.diff(starts, append=rows)
    chosen = starts[same]
    found = table.take(order[chosen]).drop_columns([name for name in ("hash",) if name in table.column_names])
    found = found.append_column("hash", hex_keys(hi[chosen], lo[chosen]))
    conflicting = int(sizes[~same].sum())
    return found, {"duplicates": rows - conflicting - len(chosen), "conflicting": conflicting}


def text_hashes(texts: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The `hash` that `deduplicate` adds, of any texts (large_string, no nulls)."""
    return hex_keys(*_keys(texts, normalize=True))


def held_out(hashes: pa.ChunkedArray | pa.Array, share: float, seed: int = SPLIT_SEED) -> np.ndarray:
    """bool[n]: whether the text with this hash (`text_hashes`) is never trained on where so large a share is held out.
    A larger share holds all of a smaller one."""
    return draws(hashes, seed=seed, name="held out") < share


def split(table: pa.Table, test_share: float, seed: int = SPLIT_SEED) -> tuple[pa.Table, pa.Table]:
    """(training, held out) of a deduplicated table, in its order."""
    test = held_out(table["hash"], test_share, seed)
    return table.filter(pa.array(~test)), table.filter(pa.array(test))


def near_duplicates(texts: pa.ChunkedArray, of: pa.ChunkedArray) -> np.ndarray:
    """bool[len(texts)]: whether a text shares a MinHash band (14 of 8 minima over word 5-grams) with one of `of`."""
    known, asked = _bands(of), _bands(texts)
    found = np.zeros(len(asked), bool)
    for band in range(BANDS):
        found |= np.isin(asked[:, band], known[:, band])
    return found


# --- reading


def _sources(
    groups: Sequence[Files], text: str, label: str | None, columns: Sequence[str]
) -> tuple[list[Source], bool]:
    """The sources as a recipe would have them, and whether some group has its labels in a column."""
    by_column = any(group.label is None for group in groups)
    if by_column and label is None:
        raise RecipeError("the labels: neither a column nor a label for all rows is given")
    names = [label] if by_column and label is not None else []
    for name in (*names, *columns):
        if name == text:
            raise RecipeError(f"{name}: is the column of the text and cannot be the label or a group as well")
    typed = {name: "string" for name in (*names, *columns) if name not in PLAIN}
    sources = []
    for number, group in enumerate(groups):
        name = (group.name or str(number)) if len(groups) > 1 else None
        sources.append(Source(files=list(group.patterns), name=name, text=text, columns=typed))
    return sources, by_column


def _own_name(source: Source, column: str) -> str:
    """What a batch calls a column of the files."""
    return column if column in PLAIN else passed_name(source, column)


def _whole_groups(
    listing: Listing,
    sources: Sequence[Source],
    index: int,
    columns: Sequence[str],
    left_out: dict[str, int],
    warnings: list[str],
) -> Iterator[pa.Table]:
    """The batches of the row groups that can be read in whole; the rows of the others are counted as unreadable."""
    file = listing.files[index]
    held: list[pa.Table] = []
    segment = Segment(index, 0, len(file.groups), 0)
    for event in read_segment(listing, sources, segment, columns, max_doc=MAX_DOC, batch_bytes=BATCH_BYTES):
        if isinstance(event, Batch):
            held.append(event.table)
        elif isinstance(event, GroupEnd):
            if event.error is None:
                yield from held
            else:
                left_out["unreadable"] += event.rows
                warnings.append(
                    f"{file.name}: row group {event.group}, {plural(event.rows, 'row')}, cannot be read: {event.error}"
                )
            held = []
        elif isinstance(event, FileLost):
            warnings.append(f"{file.name}: {event.bytes:,} bytes cannot be read: {event.error}")


def _reasons(table: pa.Table, labels: pa.ChunkedArray, warnings: list[str]) -> pa.ChunkedArray:
    """Why a row cannot be used; null where it can."""
    unread = pc.and_(table["reason"].is_valid(), pc.fill_null(pc.not_equal(table["reason"], "null_text"), False))
    bad = table.filter(unread).select(["source_file", "source_row", "reason"]).to_pylist()
    warnings += [f"{row['source_file']}#{row['source_row']}: {row['reason']}" for row in bad]
    reasons = pc.if_else(unread, "unreadable", table["reason"])
    reasons = pc.if_else(
        pc.and_(reasons.is_null(), pc.equal(pc.utf8_trim_whitespace(table["text"]), "")), "empty_text", reasons
    )
    return pc.if_else(pc.and_(reasons.is_null(), labels.is_null()), "null_label", reasons)


def _as_labels(table: pa.Table, column: str) -> pa.Table:
    labels = table["label"]
    for word, label in TRUTH.items():
        labels = pc.if_else(pc.equal(labels, word), label, labels)
    return table.set_column(table.column_names.index("label"), "label", labels)


def content_hash(file: InputFile) -> str:
    """xxh3-128 of the file's bytes, wherever it lies."""
    if "://" not in file.url:
        return fingerprint(file.url)
    storage, path = storage_for(file.url)
    total = xxhash.xxh3_128()
    with storage.open(path) as stream:
        while chunk := stream.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _fraction(label: str) -> bool:
    try:
        return not float(label).is_integer()
    except (ValueError, OverflowError):
        return False


# --- hashes


def pieces(texts: pa.ChunkedArray | pa.Array, most: int) -> Iterator[pa.Array]:
    """The texts in order, in arrays of at most so many bytes of text; one text may have more."""
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        _, offsets = text_buffers(chunk)
        start = 0
        while start < len(chunk):
            stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + most, "right")) - 1)
            yield chunk.slice(start, stop - start)
            start = stop


def _keys(texts: pa.ChunkedArray | pa.Array, *, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
    halves = [text_keys(piece, normalize=normalize) for piece in pieces(texts, PIECE)]
    none = np.zeros(0, np.uint64)
    return tuple(np.concatenate([none, *(keys[half].to_numpy() for keys in halves)]) for half in ("hi", "lo"))  # type: ignore[return-value]


def _codes(labels: pa.ChunkedArray) -> np.ndarray:
    return pc.index_in(labels, labels.unique()).to_numpy()


def _bands(texts: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """uint64[n, BANDS]: band keys as near_dedup's; texts without words have those of their bytes."""
    from ...kernels import minhash

    a, b = minhash.permutations(BANDS * ROWS)
    found = [np.zeros((0, BANDS), np.uint64)]
    found += [minhash.measure(*text_buffers(piece), NGRAM, a, b, BANDS, ROWS)[0] for piece in pieces(texts, PIECE)]
    return np.concatenate(found)
