"""A document among its duplicates: for how many it stands, who they are, and the command that shows them all.

Invariant: members are counted in the ledger, and only identity, cluster and similarity of it are read.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from .fate import Row, duplicate_columns, named_at, similarity, survivor
from .output import Output, quoted_name
from .terminal import plural, visible

SHOWN = 3  # of those that a kept document stands for


def tell_clusters(output: Output, row: Row) -> Iterator[str]:
    """For every deduplication that found duplicates of the document: what its fate does not tell, and the command that
    shows the whole cluster."""
    for stage in output.stages:
        name = stage["name"]
        at = duplicate_columns(output, name)
        if "cluster" not in at or row[at["cluster"]] is None:
            continue
        if row[at["kept_row"]] is None:
            yield f"cluster {name}: {_stands_for(output, row, name)}"
        elif row["stage"] != name:
            yield f"cluster {name}: {survivor(output, row, name)}"
        where = f"{at['cluster']} = '{row[at['cluster']]}'"
        yield f'        all of them: tamis show {visible(shlex.quote(output.name))} --where "{where}"'


def _stands_for(output: Output, row: Row, stage: str) -> str:
    """'kept for 12 duplicates (cluster ab12), the least similar with similarity 0.81, estimated: a (f#1), b (f#2) ...'."""
    at = duplicate_columns(output, stage)
    names = {meaning: quoted_name(name) for meaning, name in at.items()}
    similar = names.get("similarity", "NULL::FLOAT")
    own = f"FROM ledger WHERE {names['cluster']} = ? AND {names['kept_file']} = ? AND {names['kept_row']} = ?"
    values = [row[at["cluster"]], row["source_file"], row["source_row"]]
    (whole,) = output.rows(f"SELECT count(*) AS documents, min({similar}) AS least {own}", values)
    if not whole["documents"]:
        return f"no other of its cluster ({row[at['cluster']]}) is a duplicate of it"
    first = output.rows(
        f"SELECT doc_id, source_file, source_row {own} ORDER BY {similar}, source_file, source_row LIMIT {SHOWN}",
        values,
    )
    least = (
        f", the least similar with {similarity(output, stage, whole['least'])}" if whole["least"] is not None else ""
    )
    told = ", ".join(named_at(m["doc_id"], m["source_file"], m["source_row"]) for m in first)
    more = f" and {whole['documents'] - len(first):,} more" if whole["documents"] > len(first) else ""
    return f"kept for {plural(whole['documents'], 'duplicate')} (cluster {row[at['cluster']]}){least}: {told}{more}"
