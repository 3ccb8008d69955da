"""Lines or paragraphs that occur more than once in the corpus, as spans: one occurrence of each may stay.

Invariant: no unique line is ever in a span, and of a repeated one exactly one occurrence is not for cutting: the first
in the preferred document. Nobody is dropped and no text changes here; `cut_spans` does that.

`measure` gives each document the keys and places of its lines, so that `resolve` never reads text. Then phases:
1. sizes: lines of each unit, by which units are bundled into groups and hashes into partitions;
2. seen (a group): 32 bits of each different key, by partition; repeated (a partition): which of them two groups have;
3. lines (a group): lines whose hash is among these, by a Bloom filter sized for them; sorted by the whole key;
4. offers (a group): one record per key, with its best document; choose (a partition): sums, and the best of all;
5. spans (a group): back to the rows.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from . import _paragraphs as phases
from ._groups import bundles, part_count
from ._prefer import PreferConfig, parse_preference, preference_columns
from ._spans import SPANS
from .arrow import text_buffers
from .base import Column, Context, Runs, Stage
from .errors import DataError, RecipeError


class ParagraphDedupConfig(PreferConfig):
    """What `use: paragraph_dedup` takes. Definitions, and what differs from Dolma and CCNet: docs/paragraphs.md."""

    unit: Literal["line", "paragraph"] = Field(
        default="line", description="line: between line feeds; paragraph: between blank lines"
    )
    normalize: bool = Field(
        default=False, description="white space and case do not count; false compares the bytes, as Dolma does"
    )
    min_chars: int = Field(
        default=1, ge=1, description="a line or paragraph with fewer characters never counts; a blank one never does"
    )


class ParagraphDedup(Stage):
    """Finds the lines or paragraphs that occur more than once in the corpus; a span column says where, for cut_spans.

    Score: how often it occurs in the living documents, repeats within one document included. Kind: `kept` for the
    occurrence in the preferred document (`prefer`, then the smallest doc_id, source_file, source_row), the first one
    there; `repeat` for all others.
    """

    Config = ParagraphDedupConfig
    config: ParagraphDedupConfig
    choosing: ClassVar[frozenset[str]] = frozenset({"prefer", "scope"})

    def __init__(self, config: Any, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self.preferences = tuple(parse_preference(entry) for entry in self.config.prefer)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["text", *self.resolve_needs]))

    @property
    def resolve_needs(self) -> tuple[str, ...]:
        """What choosing reads besides the measured columns and the identity."""
        scope = (self.config.scope,) if self.config.scope else ()
        return tuple(dict.fromkeys([*scope, *preference_columns(self.preferences)]))

    @property
    def adds(self) -> tuple[Column, ...]:
        what = f"{self.config.unit}s"
        return (
            Column("paragraph_keys", pa.large_binary(), f"64 bits of the key of each of its {what}", ledger=False),
            Column("paragraph_places", pa.large_binary(), "64 more bits, start and size of each", ledger=False),
            Column("paragraph_count", pa.int32(), f"{what} that were compared", ledger=False),
            Column("paragraph_spans", SPANS, f"repeated {what}; score: occurrences in the corpus"),
            Column("paragraph_repeated", pa.float32(), f"share of its bytes in {what} that stay elsewhere, 0 to 1"),
        )

    @property
    def measured(self) -> tuple[str, ...]:
        return ("paragraph_keys", "paragraph_places", "paragraph_count")

    def check(self, schema: pa.Schema) -> None:
        for name in self.resolve_needs:
            if pa.types.is_nested(schema.field(name).type):
                raise RecipeError(
                    f"paragraph_dedup: {name} has the type {schema.field(name).type}, "
                    "which can be neither compared nor ordered"
                )

    def fingerprint(self) -> str:
        import unicodedata

        return f"unicode {unicodedata.unidata_version}"

    def warm(self) -> None:
        from ..kernels.bloom import Bloom

        self.measure(pa.table({"text": pa.array(["a line"], pa.large_string())}))
        Bloom(np.zeros(1, np.uint64)).passing(np.zeros(1, np.uint64))

    def measure(self, batch: pa.Table) -> pa.Table:
        from ..kernels.paragraphs import paragraphs

        config = self.config
        data, offsets = text_buffers(batch["text"])
        try:
            counts, first, rest = paragraphs(
                data, offsets, whole=config.unit == "paragraph", normalize=config.normalize, min_chars=config.min_chars
            )
        except ValueError as error:
            raise DataError(f"{self.name}: {error}: lower max_doc of the recipe") from error
        return pa.table(
            {
                "paragraph_keys": _binary(first, 8 * counts),
                "paragraph_places": _binary(rest.reshape(-1), 16 * counts),
                "paragraph_count": pa.array(counts, pa.int32()),
            }
        )

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        units = [u.index for u in runs.units]
        looks = {
            f"b{i:05d}": [units[at] for at in places] for i, places in enumerate(bundles([u.rows for u in runs.units]))
        }
        sizes = ctx.map("sizes", phases.sizes, looks)
        lines = [count for item in looks for count in sizes[item]["lines"]]
        total = sum(lines)
        cuts = bundles(lines, phases.LINES_PER_ITEM)
        groups = {f"g{i:05d}": [units[at] for at in places] for i, places in enumerate(cuts)}
        names = list(groups)
        parts = max(1, -(-total // phases.LINES_PER_PART)) if groups else 0
        ctx.map("seen", phases.seen, {item: [group, parts] for item, group in groups.items()})
        ctx.map("repeated", phases.repeated, {f"p{p:05d}": [p, names, parts] for p in range(parts)})
        found = ctx.map(
            "lines", phases.lines, {item: [group, item, at, parts] for at, (item, group) in enumerate(groups.items())}
        )
        parts = part_count(sum(f["keys"] for f in found.values())) if groups else 0
        ctx.map("offers", phases.offers, {item: [group, item, parts] for item, group in groups.items()})
        chosen = ctx.map("choose", phases.choose, {f"p{p:05d}": [p, names] for p in range(parts)})
        written = ctx.map(
            "spans",
            phases.spans,
            {item: [group, item, at, list(chosen)] for at, (item, group) in enumerate(groups.items())},
        )
        facts: dict[str, Any] = {"lines": total}
        if self.config.scope:
            facts["without_scope"] = sum(f["without_scope"] for f in sizes.values())
        facts |= {name: sum(f[name] for f in chosen.values()) for name in ("repeated", "occurrences")}
        facts |= {name: sum(f[name] for f in written.values()) for name in ("cut", "cut_bytes", "documents")}
        return facts | {"largest": phases.largest([line for f in chosen.values() for line in f["largest"]])}


def _binary(values: np.ndarray, sizes: np.ndarray) -> pa.Array:
    """large_binary: `sizes[i]` bytes of `values`, little-endian, for row i."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    data = np.ascontiguousarray(values, "<u8")
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(sizes), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
