"""What a deduplication found: its figures, clusters by size, the largest with their members, buckets, similarities.

Invariant: sizes count documents of this run; a cluster whose kept document is in an earlier output has none here. All
counts are of the whole ledger or frozen by the stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...stages._lsh import probability
from ..cuts import cut_facts
from ..fate import compared, duplicate_columns
from ..output import Output, quoted_name
from .examples import IDENTITY
from .losses import Ages, Loss, ages, losses

LARGEST = 10
MEMBERS = 2  # of one of the largest clusters that are shown beside the kept one
CURVE = (0.5, 0.6, 0.7, 0.8, 0.9)
TOLD = frozenset(("documents", "groups", "duplicates", "duplicates_of_earlier", "newcomer_preferred", "largest"))
TOLD |= frozenset(("ngram", "bands", "rows", "jaccard", "candidates", "false_candidates"))


@dataclass(frozen=True)
class Cluster:
    """`documents` of this run; ledger rows of the kept one (None: it is in an earlier output) and of the members that
    are least like it, which have `similarity` (None where the stage does not tell)."""

    name: str
    documents: int
    kept: dict[str, Any] | None
    members: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Bucket:
    """`documents` that agree in a band; in several bands, the most of them. `first`: the ledger row of the first of
    them, None where the ledger has none."""

    documents: int
    bands: tuple[int, ...]
    first: dict[str, Any] | None


@dataclass(frozen=True)
class Duplicates:
    """`compared` documents, of which `removed` were duplicates (or tagged, see `action`). `sizes`: (documents in a
    cluster, how many clusters of that size), ascending. `similarity`: (percent, duplicates), ascending, by the rounded
    similarity to the kept one. `curve`: (Jaccard, share of pairs found). `facts`: what the stage froze in the manifest,
    `further`: those that are not told by name."""

    stage: str
    column: str
    action: str
    compared: int
    removed: int
    sizes: tuple[tuple[int, int], ...]
    largest: tuple[Cluster, ...]
    buckets: tuple[Bucket, ...]
    similarity: tuple[tuple[int, int], ...]
    curve: tuple[tuple[float, float], ...]
    losses: tuple[Loss, ...]
    ages: Ages | None
    facts: Mapping[str, Any]
    further: Mapping[str, Any]

    @property
    def clusters(self) -> int:
        return sum(count for _, count in self.sizes)

    @property
    def median(self) -> float | None:
        """The lower median of the similarities, as rounded."""
        left = (sum(count for _, count in self.similarity) + 1) // 2
        for percent, count in self.similarity:
            left -= count
            if left <= 0:
                return percent / 100
        return None

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Ledger rows of all documents whose text is to be shown."""
        rows = [row for cluster in self.largest for row in (cluster.kept, *cluster.members) if row]
        return rows + [bucket.first for bucket in self.buckets if bucket.first]


def duplicates(output: Output) -> list[Duplicates]:
    """One for every deduplication, in order."""
    return [
        _of_stage(output, stage, entry)
        for stage, entry in zip(output.stages, output.manifest["recipe"]["stages"], strict=True)
        if {"cluster", "cluster_size"} <= duplicate_columns(output, stage["name"]).keys()
    ]


def passages(output: Output) -> dict[str, dict[str, Any]]:
    """What the other stages that see the whole corpus froze (repeated lines and passages), as far as it is numbers."""
    found = {}
    for stage in output.stages:
        facts = output.manifest["facts"].get(stage["name"], {})
        told = duplicate_columns(output, stage["name"]) or cut_facts(output, stage["name"])
        if stage["kind"] == "resolve" and not told:
            found[stage["name"]] = {name: value for name, value in facts.items() if isinstance(value, int | float)}
    return {name: facts for name, facts in found.items() if facts}


def _of_stage(output: Output, stage: Mapping[str, Any], entry: Mapping[str, Any]) -> Duplicates:
    columns = duplicate_columns(output, stage["name"])
    names = {meaning: quoted_name(name) for meaning, name in columns.items()}
    sizes = _sizes(output, names)
    facts = dict(output.manifest["facts"].get(stage["name"], {}))
    return Duplicates(
        stage["name"],
        columns["cluster"],
        entry["action"],
        compared(output, stage),
        output.rows(f"SELECT count({names['kept_row']}) AS n FROM ledger")[0]["n"],
        sizes,
        _largest(output, names, sizes),
        _buckets(output, facts.get("largest_buckets", ())),
        _similarity(output, names),
        tuple((s, probability(s, facts["bands"], facts["rows"])) for s in CURVE) if "bands" in facts else (),
        losses(output, stage["name"], names, entry["config"]),
        ages(output, stage["name"], names),
        facts,
        {
            name: found
            for name, found in facts.items()
            if found and name not in TOLD and isinstance(found, int | float | str)
        },
    )


def _sizes(output: Output, names: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    lines = output.rows(
        f"SELECT {names['cluster_size']} AS size, count(*) AS documents FROM ledger "
        f"WHERE {names['cluster']} IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return tuple((line["size"], line["documents"] // line["size"]) for line in lines)


def _largest(output: Output, names: Mapping[str, str], sizes: Sequence[tuple[int, int]]) -> tuple[Cluster, ...]:
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
    similar = names.get("similarity", "NULL::FLOAT")
    rows = output.rows(
        f"SELECT {names['cluster']} AS cluster, {similar} AS similarity, {names['kept_row']} IS NULL AS stays, {IDENTITY} "
        f"FROM ledger WHERE {names['cluster_size']} >= {least} AND {names['cluster']} IN (SELECT unnest(?)) "
        f"QUALIFY row_number() OVER (PARTITION BY {names['cluster']}, stays "
        f"ORDER BY {similar}, source_file, source_row) <= CASE WHEN stays THEN 1 ELSE {MEMBERS} END "
        "ORDER BY similarity, source_file, source_row",
        [[line["cluster"] for line in chosen]],
    )
    found = []
    for line in chosen:
        own = [row for row in rows if row["cluster"] == line["cluster"]]
        kept = next((row for row in own if row["stays"]), None)
        found.append(Cluster(line["cluster"], line["size"], kept, tuple(row for row in own if not row["stays"])))
    return tuple(found)


def _buckets(output: Output, told: Sequence[Mapping[str, Any]]) -> tuple[Bucket, ...]:
    rows = output.rows(
        f"SELECT {IDENTITY} FROM ledger WHERE source_row IN (SELECT unnest(?)) AND source_file IN (SELECT unnest(?))",
        [[bucket["source_row"] for bucket in told], [bucket["source_file"] for bucket in told]],
    )
    at = {(row["source_file"], row["source_row"]): row for row in rows}
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for bucket in told:  # the same documents agree in many bands
        found.setdefault((bucket["source_file"], bucket["source_row"]), []).append(bucket)
    return tuple(
        Bucket(same[0]["documents"], tuple(sorted(bucket["band"] for bucket in same)), at.get(place))
        for place, same in found.items()
    )


def _similarity(output: Output, names: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    if "similarity" not in names:
        return ()
    lines = output.rows(
        f"SELECT round({names['similarity']}::DOUBLE * 100)::INTEGER AS percent, count(*) AS documents FROM ledger "
        f"WHERE {names['similarity']} IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return tuple((line["percent"], line["documents"]) for line in lines)
