"""Exact repeated substrings across the corpus (Lee et al. 2022), as spans for `cut_spans`.

Invariant: a byte is in a span if and only if it lies in a window that occurs at least twice in the corpus; it is marked
'repeat' if and only if one of those windows stood before, so every byte that goes has an equal one that stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from ._spans import SPANS, span_column
from ._windows import MOST_TOKENS, Shape, WindowStage, found_windows, resolve_windows, save_slices
from .base import Column, Context, Runs, Stage, StageConfig, Task


class SubstringDedupConfig(StageConfig):
    """What `use: substring_dedup` takes."""

    length: int = Field(
        default=50,
        ge=1,
        le=MOST_TOKENS,
        description="tokens that must recur; Lee et al. take 50 (of GPT-2's tokenizer)",
    )
    bytes: int | None = Field(
        default=None, ge=1, le=MOST_TOKENS, description="bytes that must recur, in place of `length` tokens"
    )
    scope: str | None = Field(
        default=None, description="repeats count only among equal values of this column; null takes no part"
    )

    @model_validator(mode="after")
    def _one_length(self) -> SubstringDedupConfig:
        if self.bytes is not None and "length" in self.model_fields_set:
            raise ValueError("length: and bytes: exclude each other; write one of them")
        return self


class SubstringDedup(WindowStage):
    """Marks exact substrings of at least 50 tokens, or some bytes, that occur more than once in the corpus (Lee et al.).

    Every window of `length` tokens that occurs twice, in one document or in several, is found; windows that overlap are
    one span. A token is a segment between UAX #29 word boundaries that is not white space alone, compared byte for byte;
    the white space between tokens may differ. With `bytes` a window may begin or end inside a character, and `cut_spans`
    then leaves that character.

    kind 'repeat': bytes of windows that occur earlier in the fixed order (identity of the documents, then place in the
    text); score: occurrences of the most frequent of them. kind 'kept': bytes of recurring windows that are all first
    occurrences. `cut_spans` with `where: kind = 'repeat'` leaves one copy of everything; Lee et al. cut all occurrences:
    `where: kind IN ('repeat', 'kept')`.

    In place of their suffix array, which must hold the whole corpus and misses what two parts share, windows are hashed
    and meet in hash partitions (see `_windows`): nothing is missed at any size.
    """

    Config = SubstringDedupConfig
    config: SubstringDedupConfig

    @property
    def shape(self) -> Shape:
        config = self.config
        return Shape(config.bytes or config.length, by_bytes=config.bytes is not None)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column(
                "substring_spans",
                SPANS,
                "repeated substrings; score: occurrences in the corpus; kind: repeat, or kept for the first",
            ),
            Column(
                "substring_repeated", pa.float32(), "share of the text's bytes in spans of kind repeat; 0 where none is"
            ),
        )

    def warm(self) -> None:
        from ..kernels.windows import merge_windows

        super().warm()
        merge_windows(np.zeros((0, 2), np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        facts = resolve_windows(runs, ctx, _spans).values()
        names = ("documents", "windows", "recurring", "repeats", "repeat_bytes", "kept", "kept_bytes")
        return {name: sum(f[name] for f in facts) for name in names}


def _spans(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.windows import merge_windows

    found = found_windows(task, stage, value)
    of_run, windows, _, length = found.runs.T
    repeats, kept, recurring = merge_windows(found.places, found.codes, np.ascontiguousarray(of_run))
    texts = len(found.valid)
    both = np.concatenate([repeats, kept])
    order = np.lexsort((both[:, 1], both[:, 0]))
    document, start, end, times = both[order].T
    kind = pc.if_else(pa.array(order < len(repeats)), "repeat", "kept")
    spans = span_column(texts, document, start, end, times, kind, valid=found.valid)
    gone = np.bincount(repeats[:, 0], repeats[:, 2] - repeats[:, 1], texts)
    size = np.ones(texts, np.int64)
    size[of_run] = length  # the run of a document ends where it ends
    share = pa.array((gone / size).astype(np.float32), mask=~found.valid)
    save_slices(task, value, pa.table({"substring_spans": spans, "substring_repeated": share}))
    return {
        "documents": int(found.valid.sum()),
        "windows": int(windows.sum()),
        "recurring": recurring,
        "repeats": len(repeats),
        "repeat_bytes": int(gone.sum()),
        "kept": len(kept),
        "kept_bytes": int((kept[:, 2] - kept[:, 1]).sum()),
    }
