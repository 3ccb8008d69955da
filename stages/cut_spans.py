"""`cut_spans`: removes or replaces the pieces of text that a stage before it found and that `where` picks.

Invariant: what is cut follows from the text, its span columns and the config alone, so the cut moves with `where` and
nothing is measured again; a text without a picked span stays byte for byte.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from ._spans import SPANS
from .arrow import one_array, text_array, text_buffers
from .base import Column, Stage, StageConfig
from .errors import RecipeError, StageError

SPAN = pa.schema([("score", pa.float32()), ("kind", pa.string()), ("bytes", pa.int64())])  # what `where` reads


class CutSpansConfig(StageConfig):
    """What `use: cut_spans` takes. Its `where` picks spans, not documents."""

    spans: str | tuple[str, ...] = Field(
        description="span columns, one or a list, all measured on the text as it is here: paragraph_spans"
    )
    where: str = Field(
        default="kind = 'repeat'",
        description="SQL over score, kind and bytes (the length) of a span: those for which it is true are cut",
    )
    replace: str = Field(default="", description="text put in place of each cut: '[...]'")
    min_words: int = Field(
        default=0,
        ge=0,
        description="a document that a cut leaves with fewer words (white space; replacements do not count) is dropped",
    )

    @field_validator("spans")
    @classmethod
    def _each_once(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = span_columns(given)
        if not names:
            raise ValueError("name at least one span column")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} stands there twice")
        return given

    @field_validator("replace")
    @classmethod
    def _is_text(cls, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{text!r} holds half a character (a lone surrogate)") from error
        return text


def span_columns(given: str | tuple[str, ...]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given


class CutSpans(Stage):
    """Removes or replaces the spans of text that other stages found, those that its `where` picks.

    Spans of all columns are cut together: what overlaps or touches is one cut, with one replacement. Start and end are
    bytes of the text version at hand; one that falls inside a character moves inwards, so that whole characters are
    cut. With `min_words` a document that lost something and keeps fewer words is emptied, and so dropped by the rule
    `<name>.empty`; a document without a cut never is.
    """

    Config = CutSpansConfig
    config: CutSpansConfig

    def __init__(self, config: CutSpansConfig, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self.spans = span_columns(config.spans)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("text", *self.spans, "doc_id")

    @property
    def of_text(self) -> tuple[str, ...]:
        return self.spans

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column("cut_bytes", pa.int64(), "bytes of text in the spans that were cut"),
            Column("cut_count", pa.int32(), "spans cut, merged where they overlap or touch"),
        )

    def check(self, schema: pa.Schema) -> None:
        from .sql import check_types

        for name in self.spans:
            kind = schema.field(name).type
            if kind != SPANS:
                raise RecipeError(f"spans: {name} is {kind}, must hold spans: {SPANS}")
        check_types({"spans": self.config.where}, {}, SPAN, where="where", boolean=True)

    def fingerprint(self) -> str:
        return f"unicode {unicodedata.unidata_version}" if self.config.min_words else ""

    def warm(self) -> None:
        span = [{"start": 0, "end": 1, "score": 1.0, "kind": "repeat"}]
        columns = {name: pa.array([span], SPANS) for name in self.spans}
        self.edit(pa.table({"text": pa.array(["a b"], pa.large_string()), "doc_id": ["warm"], **columns}))

    def edit(self, batch: pa.Table) -> pa.Table:
        """StageError where a span reaches beyond its text or ends before it starts."""
        data, offsets = text_buffers(batch["text"])
        found = [self._chosen(batch, name, np.diff(offsets)) for name in self.spans]
        rows, starts, ends = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if not len(rows):
            zeros = np.zeros(len(batch), np.int64)
            columns = {"cut_bytes": pa.array(zeros), "cut_count": pa.array(zeros, pa.int32())}
            return pa.table({"text": one_array(batch["text"]), **columns})
        from ..kernels.cut import cut
        from ..kernels.str_classes import str_classes

        order = np.lexsort((starts, rows))
        spans = np.searchsorted(rows[order], np.arange(len(batch) + 1))
        replacement = np.frombuffer(self.config.replace.encode(), np.uint8)
        arguments = (spans, starts[order], ends[order], replacement, self.config.min_words)
        data, offsets, cut_bytes, cut_count = cut(data, offsets, str_classes(), *arguments)
        return pa.table({"text": text_array(data, offsets), "cut_bytes": cut_bytes, "cut_count": cut_count})

    def _chosen(self, batch: pa.Table, name: str, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, start, end) of the spans that `where` picks, int64 each."""
        column = one_array(batch[name])
        spans = pc.list_flatten(column)
        rows = pc.list_parent_indices(column).to_numpy()
        starts, ends = (pc.fill_null(pc.struct_field(spans, part), -1).to_numpy() for part in ("start", "end"))
        wrong = np.flatnonzero((starts < 0) | (ends < starts) | (ends > lengths[rows]))
        if len(wrong):
            row = int(rows[wrong[0]])
            start, end = (pc.struct_field(spans, part)[wrong[0]].as_py() for part in ("start", "end"))
            raise StageError(
                f"stage {self.name}: document {batch['doc_id'][row].as_py()}: a span of {name} goes from byte {start} to "
                f"{end}, and the text has {lengths[row]} bytes here: the column was measured on another text"
            )
        from .sql import evaluate

        values = {part: pc.struct_field(spans, part) for part in ("score", "kind")}
        picked = evaluate(pa.table({**values, "bytes": ends - starts}), {"spans": self.config.where}, {})["spans"]
        chosen = pc.fill_null(one_array(picked), False).to_numpy(zero_copy_only=False) & (ends > starts)
        return rows[chosen], starts[chosen], ends[chosen]
