"""Clusters of duplicates: how many of which size, and the largest with the document that was kept.

Invariant: sizes count documents of this run; a cluster whose kept document is in an earlier output has none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..fate import duplicate_columns
from ..output import Output, quoted_name
from .examples import IDENTITY

LARGEST = 10


@dataclass(frozen=True)
class Clusters:
    """`sizes`: (documents in a cluster, how many clusters of that size), ascending. `largest`: cluster, size, and
    `kept`, the ledger row of its kept document or None. `facts`: what the stage froze in the manifest."""

    stage: str
    sizes: tuple[tuple[int, int], ...]
    largest: tuple[tuple[str, int, dict[str, Any] | None], ...]
    facts: dict[str, Any]


def clusters(output: Output) -> list[Clusters]:
    """One for every deduplication, in order."""
    found = []
    for stage in output.stages:
        columns = duplicate_columns(output, stage["name"])
        if {"cluster", "cluster_size"} <= columns.keys():
            names = {meaning: quoted_name(name) for meaning, name in columns.items()}
            sizes = _sizes(output, names)
            largest = _largest(output, names, sizes)
            found.append(Clusters(stage["name"], sizes, largest, dict(output.manifest["facts"].get(stage["name"], {}))))
    return found


def _sizes(output: Output, names: dict[str, str]) -> tuple[tuple[int, int], ...]:
    lines = output.rows(
        f"SELECT {names['cluster_size']} AS size, count(*) AS documents FROM ledger "
        f"WHERE {names['cluster']} IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return tuple((line["size"], line["documents"] // line["size"]) for line in lines)


def _largest(output: Output, names: dict[str, str], sizes: tuple[tuple[int, int], ...]) -> Any:
    """Only clusters of the largest sizes are looked at, so that millions of pairs cost nothing."""
    least, enough = 0, 0
    for size, count in reversed(sizes):
        least, enough = size, enough + count
        if enough >= LARGEST:
            break
    chosen = output.rows(
        f"SELECT {names['cluster']} AS cluster, any_value({names['cluster_size']}) AS size FROM ledger "
        f"WHERE {names['cluster_size']} >= {least} AND {names['cluster']} IS NOT NULL "
        f"GROUP BY 1 ORDER BY size DESC, cluster LIMIT {LARGEST}"
    )
    kept = output.rows(
        f"SELECT {names['cluster']} AS cluster, {IDENTITY} FROM ledger WHERE {names['cluster_size']} >= {least} "
        f"AND {names['kept_row']} IS NULL AND {names['cluster']} IN (SELECT unnest(?))",
        [[line["cluster"] for line in chosen]],
    )
    by_cluster = {line["cluster"]: line for line in kept}
    return tuple((line["cluster"], line["size"], by_cluster.get(line["cluster"])) for line in chosen)
