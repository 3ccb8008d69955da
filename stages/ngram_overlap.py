"""DCLM's n-gram overlap rule ("old-both" of its BFF tool) made free of order: how much of a paragraph was seen before.

Invariant: an n-gram is *seen* if it occurs in an earlier paragraph of the fixed order (identity of the documents, then
place in the text), whether or not that paragraph is kept; so units, order and workers change nothing.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
from pydantic import Field

from ._spans import SPANS, span_column
from ._windows import MOST_TOKENS, Shape, WindowStage, found_windows, resolve_windows, save_slices
from .base import Column, Context, Runs, Stage, StageConfig, Task


class NgramOverlapConfig(StageConfig):
    """What `use: ngram_overlap` takes; the defaults are those of DCLM-Baseline."""

    ngram: int = Field(
        default=13, ge=1, le=MOST_TOKENS, description="tokens of an n-gram; a paragraph with fewer is never touched"
    )
    least: float = Field(
        default=0.5, ge=0, le=1, description="paragraphs with a smaller share of seen n-grams get no span"
    )
    scope: str | None = Field(
        default=None, description="n-grams are seen only among equal values of this column; null takes no part"
    )


class NgramOverlap(WindowStage):
    """Marks paragraphs whose n-grams occur earlier in the corpus, with the share seen (DCLM's BFF "old-both").

    A token is a segment between UAX #29 word boundaries that is not white space alone (punctuation counts), a paragraph
    the text between two line feeds, and a span includes the line feed that ends it. Source: mlfoundations/dclm,
    dedup/bff/src/main.rs, there with 13-grams, threshold 0.8 and a strict comparison:

        - use: ngram_overlap
        - use: rules
          rules: {overlap: ngram_overlap IS NULL OR ngram_overlap <= $most}
          params: {most: 0.8}
        - use: cut_spans
          spans: ngram_spans
          where: score > 0.8

    BFF goes through the texts once and inserts only what it keeps, so its result depends on their order and on how they
    are sharded; here the n-grams of cut paragraphs count as seen too. docs/overlap.md has the difference in figures.
    """

    Config = NgramOverlapConfig
    config: NgramOverlapConfig

    @property
    def shape(self) -> Shape:
        return Shape(self.config.ngram, paragraphs=True)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column(
                "ngram_spans",
                SPANS,
                "paragraphs with seen n-grams; score: seen / all n-grams of the paragraph; kind: paragraph",
            ),
            Column("ngram_overlap", pa.float32(), "seen / all n-grams of the document; null where it has none"),
        )

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        facts = resolve_windows(runs, ctx, _spans).values()
        names = ("documents", "paragraphs", "ngrams", "seen", "seen_paragraphs")
        return {"ngram": self.config.ngram, **{name: sum(f[name] for f in facts) for name in names}}


def _spans(task: Task, stage: Stage, value: Any) -> dict[str, Any]:
    from ..kernels.windows import seen_windows

    found = found_windows(task, stage, value)
    document, windows, start, end = found.runs.T
    seen = seen_windows(found.places, found.codes, len(document))
    share = seen / windows
    marked = (seen > 0) & (share >= cast(NgramOverlap, stage).config.least)
    texts = len(found.valid)
    spans = span_column(
        texts, document[marked], start[marked], end[marked], share[marked], "paragraph", valid=found.valid
    )
    ngrams = np.bincount(document, windows, texts)
    overlap = np.bincount(document, seen, texts) / np.maximum(ngrams, 1)
    share_of_document = pa.array(overlap.astype(np.float32), mask=ngrams == 0)
    save_slices(task, value, pa.table({"ngram_spans": spans, "ngram_overlap": share_of_document}))
    return {
        "documents": int(found.valid.sum()),
        "paragraphs": len(document),
        "ngrams": int(windows.sum()),
        "seen": int(seen.sum()),
        "seen_paragraphs": int(marked.sum()),
    }
