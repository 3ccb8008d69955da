"""The documents that PreSelect chooses from: one pass over text and losses that keeps a few numbers of each document, and
a second one that fetches the texts of those that were chosen.

Invariant: rows read = documents of the pool + those left out, each counted under its first reason. Memory is some 60 bytes
a document, whatever the texts are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ...stages._keys import hex_keys, text_keys
from ...stages.draws import draws
from ...stages.errors import DataError, RecipeError, did_you_mean
from ...stages.url_tags import UrlTags, UrlTagsConfig
from ..listing import Listing, Source, list_input
from ..output import Output, quoted_name, quoted_text
from ..readers import Batch, FileLost, GroupEnd, Segment, read_segment
from .abilities import Models, check_units, find_models
from .labelled import held_out
from .strength import concordant, tied

BATCH_BYTES = 32_000_000
MAX_DOC = 64_000_000  # bytes of a text, as the default of a recipe
ROUNDING = 1e-6  # a loss that is so little below zero is zero
DRAWN = 1 << 20  # hashes that are strings at a time
DOMAIN = "domain"
BY = ("source", "lang")


@dataclass(frozen=True)
class Question:
    """What is asked of the input. `losses`: globs; `domain`, `by`: column names, None for the default ones; `per_token`,
    `tokenizers`: see abilities.check_units."""

    inputs: tuple[str, ...]
    losses: tuple[str, ...]
    abilities: str
    text: str = "text"
    domain: str | None = None
    by: tuple[str, ...] | None = None
    min_chars: int = 200
    per_token: bool = False
    tokenizers: tuple[str, ...] = ()


@dataclass
class Groups:
    """A column of names as numbers. `codes`: int32 per document, -1 for none; `names`: by code."""

    names: list[str]
    codes: np.ndarray


@dataclass
class Pool:
    """Parallel arrays, one entry a document, in order of file and row.

    `agreeing`, `ties`: int32, pairs of models ordered as their abilities, and with equal losses; `chars`: int64, code
    points; `hi`, `lo`: uint64 halves of `labelled.text_hashes`; `domain`; `by`; `file`, `row`: where its text is. `rows`:
    that were read, `file_rows` of each file; `left_out`: why documents are not here; `notes`: what could not be read.
    """

    listing: Listing
    source: Source
    models: Models
    rows: int
    file_rows: list[int]
    left_out: dict[str, int]
    notes: list[str]
    agreeing: np.ndarray
    ties: np.ndarray
    chars: np.ndarray
    hi: np.ndarray
    lo: np.ndarray
    file: np.ndarray
    row: np.ndarray
    domain: Groups
    by: dict[str, Groups]
    domain_from: str
    _draws: dict[tuple[int, str], np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.agreeing)

    @cached_property
    def pairs(self) -> int:
        return len(self.models.names) * (len(self.models.names) - 1) // 2

    def held_out(self, share: float) -> np.ndarray:
        """bool per document: whether it is never trained on where so large a share is held out; see labelled.held_out."""
        return self._by_hash(lambda hashes: held_out(hashes, share))

    @property
    def digest(self) -> str:
        """32 hex digits: texts and strengths of all documents, in order."""
        found = xxhash.xxh3_128()
        for values in (self.hi, self.lo, self.agreeing):
            found.update(values.tobytes())
        return found.hexdigest()

    def hashes(self, at: np.ndarray | slice) -> pa.Array:
        """`labelled.text_hashes` of the documents at these positions: 32 hex digits."""
        return hex_keys(self.hi[at], self.lo[at])

    def draws(self, seed: int, name: str) -> np.ndarray:
        """float64 in [0, 1) per document, by its text alone."""
        if (seed, name) not in self._draws:
            self._draws[seed, name] = self._by_hash(lambda hashes: draws(hashes, seed=seed, name=name))
        return self._draws[seed, name]

    def _by_hash(self, function: Callable[[pa.Array], np.ndarray]) -> np.ndarray:
        """The function's values for all documents, whose hashes it gets a part at a time."""
        starts = range(0, len(self), DRAWN)
        return np.concatenate([function(self.hashes(slice(start, start + DRAWN))) for start in starts])

    def texts(self, at: np.ndarray) -> pa.ChunkedArray:
        """large_string: the texts at these positions, which ascend. Only row groups that hold one are read. DataError
        where a file changed since the first pass."""
        found: list[pa.Array] = []
        for index in np.unique(self.file[at]).tolist():
            rows = self.row[at[self.file[at] == index]]
            for event in read_segment(
                self.listing, [self.source], _segment(self.listing, index), [], max_doc=MAX_DOC,
                batch_bytes=BATCH_BYTES, groups=_groups_of(self.listing, index, rows),
            ):  # fmt: skip
                if isinstance(event, Batch):
                    table = event.table.filter(pc.is_in(event.table["source_row"], pa.array(rows)))
                    found += table["text"].chunks
        texts = pa.chunked_array(found, pa.large_string())
        if len(texts) != len(at):
            raise DataError(f"{len(at) - len(texts):,} documents that were read once cannot be read again")
        return texts


def read_pool(question: Question) -> Pool:
    """Reads the whole input once. RecipeError for columns, abilities or files that do not fit the question; DataError
    where no document is left."""
    source = Source(files=list(question.inputs), text=question.text)
    listing = list_input([source])
    reader = _Reader(listing, source, question)
    parts: list[dict[str, np.ndarray]] = []
    for index in range(len(listing.files)):
        parts += reader.file(index)
    columns = {name: _joined(parts, name) for name in ("agreeing", "ties", "chars", "hi", "lo", "file", "row")}
    codes = {name: _joined(parts, name) for name in (DOMAIN, *(f"by {name}" for name in reader.by))}
    reader.check_signs()
    first = first_of_equals(columns["hi"], columns["lo"])
    reader.left_out["repeated"] += int((~first).sum())
    names = {name: reader.codes[name].names for name in codes}
    if not first.any():
        why = ", ".join(f"{count:,} {reason}" for reason, count in _told(reader.left_out).items()) or "it is empty"
        raise DataError(f"{' '.join(question.inputs)}: no document is left to train on: {why}")
    return Pool(
        listing=listing,
        source=source,
        models=reader.models,
        rows=sum(reader.rows),
        file_rows=reader.rows,
        left_out=_told(reader.left_out),
        notes=reader.notes,
        agreeing=columns["agreeing"][first],
        ties=columns["ties"][first],
        chars=columns["chars"][first],
        hi=columns["hi"][first],
        lo=columns["lo"][first],
        file=columns["file"][first],
        row=columns["row"][first],
        domain=Groups(names[DOMAIN], codes[DOMAIN][first]),
        by={name: Groups(names[f"by {name}"], codes[f"by {name}"][first]) for name in reader.by},
        domain_from=reader.domain_from,
    )


def first_of_equals(hi: np.ndarray, lo: np.ndarray) -> np.ndarray:
    """bool: true for the first document of every text."""
    order = np.lexsort((lo, hi))
    new = np.ones(len(order), bool)
    new[1:] = (hi[order][1:] != hi[order][:-1]) | (lo[order][1:] != lo[order][:-1])
    first = np.zeros(len(order), bool)
    first[order[new]] = True
    return first


class _Reader:
    """One pass, file by file."""

    def __init__(self, listing: Listing, source: Source, question: Question) -> None:
        self.listing, self.source, self.question = listing, source, question
        self.ledgers = {run.root: Output(run.root) for run in listing.runs}
        schema = _all_columns(listing, self.ledgers)
        self.models = find_models(
            question.losses, {name: _is_number(kind) for name, kind in schema.items()}, question.abilities
        )
        check_units(self.models, per_token=question.per_token, tokenizers=question.tokenizers)
        self.by = [name for name in question.by or BY if question.by or name in schema]
        asked = question.domain or DOMAIN
        for option, name in (*(("--by", name) for name in self.by), ("--domain", question.domain)):
            if name is not None and name not in schema:
                raise RecipeError(f"{option} {name}: the input has no such column.{did_you_mean(name, schema)}")
        self.domain_column = asked if asked in schema else None
        self.domain_from = (
            f"column {asked}" if self.domain_column else "the registered domain of the URL, else its host"
        )
        wanted = [*self.models.columns, *self.by, *([self.domain_column] if self.domain_column else [])]
        self.wanted = list(dict.fromkeys(wanted))
        self.tagger = UrlTags(UrlTagsConfig(), name="url_tags")
        self.codes = {name: _Codes() for name in (DOMAIN, *(f"by {name}" for name in self.by))}
        self.rows = [0] * len(listing.files)
        self.left_out: Counter[str] = Counter()
        self.notes: list[str] = []
        self.negative: str | None = None
        self.abilities = self.models.array

    def file(self, index: int) -> Iterator[dict[str, np.ndarray]]:
        """The narrow columns of a file's documents, a piece a row group."""
        file = self.listing.files[index]
        if file.format == "jsonl" and file.run is None:
            raise RecipeError(f"{file.url}: JSON Lines have no types; give Parquet, or an output of Tamis")
        ledger = self._ledger(index)
        own = [name for name in self.wanted if name in self.listing.columns.names]
        held: list[dict[str, np.ndarray]] = []
        counts: Counter[str] = Counter()
        rows = 0
        for event in read_segment(
            self.listing, [self.source], _segment(self.listing, index), own, max_doc=MAX_DOC, batch_bytes=BATCH_BYTES
        ):
            if isinstance(event, Batch):
                rows += len(event.table)
                held.append(self._narrow(index, _with_ledger(event.table, ledger, file.url), counts))
            elif isinstance(event, GroupEnd):
                if event.error is None:
                    self.rows[index] += rows
                    self.left_out += counts
                    yield from held
                else:
                    self.rows[index] += event.rows
                    self.left_out["unreadable"] += event.rows
                    self.notes.append(f"{file.name}: row group {event.group}, {event.rows:,} rows: {event.error}")
                held, counts, rows = [], Counter(), 0
            elif isinstance(event, FileLost):
                self.notes.append(f"{file.name}: {event.bytes:,} bytes could not be read: {event.error}")

    def _narrow(self, index: int, table: pa.Table, counts: Counter[str]) -> dict[str, np.ndarray]:
        """The numbers of the documents of a batch that stay; the others go into `counts`."""
        losses = np.stack(
            [table[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in self.models.columns], axis=1
        )
        chars = pc.utf8_length(table["text"]).to_numpy().astype(np.int64)
        reasons = table["reason"].to_numpy(zero_copy_only=False)
        judged = {
            "no_loss": ~np.isfinite(losses).all(axis=1),
            "negative_loss": (losses < -ROUNDING).any(axis=1),
            "short": chars < self.question.min_chars,
        }
        left = table["reason"].is_null().to_numpy(zero_copy_only=False)
        counts.update("null_text" if reason == "null_text" else "unreadable" for reason in reasons[~left])
        for reason, wrong in judged.items():
            counts[reason] += int((left & wrong).sum())
            if reason == "negative_loss" and self.negative is None and (left & wrong).any():
                at = int(np.flatnonzero(left & wrong)[0])
                self.negative = f"{table['doc_id'][at]} has {losses[at].min():g}"
            left &= ~wrong
        kept = table.filter(pa.array(left))
        losses = losses[left]
        keys = text_keys(kept["text"], normalize=True)
        found = {
            "agreeing": concordant(losses, self.abilities),
            "ties": tied(losses, self.abilities),
            "chars": chars[left],
            "hi": keys["hi"].to_numpy(),
            "lo": keys["lo"].to_numpy(),
            "file": np.full(len(losses), index, np.int32),
            "row": kept["source_row"].to_numpy(),
            DOMAIN: self.codes[DOMAIN].of(self._domains(kept)),
        }
        return found | {f"by {name}": self.codes[f"by {name}"].of(kept[name]) for name in self.by}

    def _domains(self, table: pa.Table) -> pa.ChunkedArray | pa.Array:
        if self.domain_column is not None:
            return table[self.domain_column]
        tags = self.tagger.measure(pa.table({"url": table["url"]}))
        return pc.coalesce(tags["domain"], tags["host"])

    def _ledger(self, index: int) -> pa.Table | None:
        """Of a file that Tamis wrote: the wanted columns that its documents have in the ledger and not in data/, in the
        order of the file's rows; None where there is none to fetch."""
        run = self.listing.run_of(self.listing.files[index])
        if run is None:
            return None
        output, path = self.ledgers[run.root], self.listing.files[index].run_file
        only = [n for n in self.wanted if n not in self.listing.columns.names and n in output.columns]
        if not only:
            return None
        places = [name.removeprefix("out_file") for name in output.columns if name.startswith("out_file")]
        mine = " OR ".join(f"{quoted_name(f'out_file{end}')} = {quoted_text(str(path))}" for end in places)
        row = " ".join(
            f"WHEN {quoted_name(f'out_file{end}')} = {quoted_text(str(path))} THEN {quoted_name(f'out_row{end}')}"
            for end in places
        )
        query = (
            f"SELECT CASE {row} END AS out_row, {', '.join(map(quoted_name, only))} FROM ledger WHERE {mine} ORDER BY 1"
        )
        return output.connection.sql(query).to_arrow_table()

    def check_signs(self) -> None:
        """RecipeError where losses look like log-likelihoods."""
        if self.left_out["negative_loss"] * 2 > sum(self.rows) - self.left_out["no_loss"]:
            raise RecipeError(
                f"--loss: most documents have a negative loss ({self.negative}): these look like log-likelihoods, which "
                "order models the other way round; give their negatives"
            )


class _Codes:
    """Names numbered in the order in which they come."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def of(self, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
        """int32 per value, -1 for null and the empty string."""
        encoded = pc.cast(column, pa.string()).combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        numbers = np.full(len(encoded.dictionary) + 1, -1, np.int32)  # the last one: null
        for at, name in enumerate(encoded.dictionary.to_pylist()):
            if name:
                numbers[at] = self._numbers.setdefault(name, len(self._numbers))
                if numbers[at] == len(self.names):
                    self.names.append(name)
        places = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        return numbers[places]


def _joined(parts: Sequence[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([part[name] for part in parts]) if parts else np.zeros(0, np.int64)


def _told(left_out: Counter[str]) -> dict[str, int]:
    """Reasons that met a document, in order."""
    return {reason: count for reason, count in sorted(left_out.items()) if count > 0}


def _segment(listing: Listing, index: int) -> Segment:
    return Segment(index, 0, len(listing.files[index].groups), 0)


def _groups_of(listing: Listing, index: int, rows: np.ndarray) -> list[int]:
    """The row groups of a file that hold these rows; JSON Lines is group 0."""
    groups = listing.files[index].groups
    if not groups:
        return [0]
    ends = np.cumsum([group.rows for group in groups])
    return np.unique(np.searchsorted(ends, rows, "right")).tolist()


def _all_columns(listing: Listing, ledgers: dict[str, Output]) -> dict[str, pa.DataType]:
    """Columns of the files, and of the ledgers of the runs that wrote them."""
    found = {column.name: column.type for column in listing.columns}
    for output in ledgers.values():
        schema = output.connection.sql("FROM ledger LIMIT 0").to_arrow_table().schema
        found = {column.name: column.type for column in schema} | found
    return found


def _with_ledger(table: pa.Table, ledger: pa.Table | None, url: str) -> pa.Table:
    if ledger is None:
        return table
    rows = table["source_row"]
    if len(rows) and (len(ledger) <= pc.max(rows).as_py() or ledger["out_row"][-1].as_py() != len(ledger) - 1):
        raise DataError(f"{url}: the ledger of its output tells of other rows; see `tamis verify`")
    found = ledger.take(rows)
    for name in found.column_names[1:]:
        table = table.append_column(name, found[name])
    return table


def _is_number(kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
