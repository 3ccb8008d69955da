"""`copies`: how often a document should be taken, by how many duplicates it stands for.

Invariant: the number depends on the cluster's size and the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from .arrow import one_array
from .base import Column, Stage, StageConfig
from .errors import RecipeError

SIZE = "*_cluster_size"  # the plain name of the column that a dedup stage adds
FINEWEB2 = {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}
MOST = 2**31 - 1


class CopiesConfig(StageConfig):
    """What `use: copies` takes."""

    of: str | None = Field(
        default=None, description="name of the dedup stage whose cluster sizes count (default: the last before)"
    )
    table: dict[int, int] = Field(
        default=FINEWEB2,
        description="cluster size -> copies; a size that is not there has the copies of the next smaller one",
    )

    @field_validator("table")
    @classmethod
    def _from_one_on(cls, table: dict[int, int]) -> dict[int, int]:
        """In the order of sizes, which a manifest does not keep."""
        if min(table, default=0) != 1:
            raise ValueError("the smallest cluster size is 1, a document without duplicates: {1: 1, 2: 2, ...}")
        for size, copies in table.items():
            if not 0 <= copies <= MOST:
                raise ValueError(f"{size}: {copies}: copies are a whole number from 0 to {MOST:,}")
        return dict(sorted(table.items()))


class Copies(Stage):
    """How often to take a document, by the size of its cluster of duplicates: deduplicated, yet common texts count more.

    The default table is FineWeb-2's (its README and misc/rehydration): 1 -> 1, 2 -> 2, 3 to 4 -> 3, 5 to 99 -> 5,
    100 to 999 -> 8, 1000 and more -> 1. A document in no cluster has the size 1. Nothing is written twice here: the
    column is for rules, for `write` and for exports.
    """

    Config = CopiesConfig
    config: CopiesConfig

    def __init__(self, config: CopiesConfig, *, name: str, seed: int = 0) -> None:
        super().__init__(config, name=name, seed=seed)
        self.size = SIZE  # until `bind`

    @property
    def plain_needs(self) -> frozenset[str]:
        return frozenset([SIZE])

    @property
    def of(self) -> str | None:
        return self.config.of

    def bind(self, columns: Mapping[str, str]) -> None:
        self.size = columns[SIZE]

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.size,)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (Column("copies", pa.int32(), "how often to take the document, by the size of its cluster"),)

    def check(self, schema: pa.Schema) -> None:
        kind = schema.field(self.size).type
        if not pa.types.is_integer(kind):
            raise RecipeError(f"of: {self.size} is {kind}; the size of a cluster is a whole number")

    def measure(self, batch: pa.Table) -> pa.Table:
        sizes = pc.fill_null(one_array(batch[self.size]), 1).to_numpy()
        least = np.array(list(self.config.table))
        place = np.searchsorted(least, np.maximum(sizes, 1), side="right") - 1
        return pa.table({"copies": np.array(list(self.config.table.values()), np.int32)[place]})
