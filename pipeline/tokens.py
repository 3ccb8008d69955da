"""How many tokens a finished run counted, for the pages that tell of it.

Invariant: only what was counted is told: a run without such a column has no figure of tokens, never an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

from .output import Output, quoted_name

COLUMN = "n_tokens"  # of an input whose documents come with their count


@dataclass(frozen=True)
class Tokens:
    """A column of token counts. `stage`: that counted, None for a column of the input. `documents` have a count,
    `tokens` together; `kept` of these tokens are in kept documents, `uncounted` kept documents have no count."""

    column: str
    stage: str | None
    documents: int
    tokens: int
    kept: int
    uncounted: int


def counted_tokens(output: Output) -> list[Tokens]:
    """One per `token_count` of the recipe, in its order; else of the input's column n_tokens, if the ledger has it."""
    counting = {stage["name"] for stage in output.stages if stage["use"] == "token_count"}
    columns = {c["name"]: c["stage"] for c in output.manifest["columns"] if c["stage"] in counting}
    if not columns and _is_whole_number(output):
        columns = {COLUMN: None}
    return [_tokens(output, name, stage) for name, stage in columns.items() if name in output.columns]


def _is_whole_number(output: Output) -> bool:
    if COLUMN not in output.columns or COLUMN in {c["name"] for c in output.manifest["columns"]}:
        return False
    kinds = {row["column_name"]: row["column_type"] for row in output.rows("DESCRIBE ledger")}
    return kinds[COLUMN].removeprefix("U").endswith("INT") or kinds[COLUMN].endswith("INTEGER")


def _tokens(output: Output, name: str, stage: str | None) -> Tokens:
    column = quoted_name(name)
    (found,) = output.rows(
        f"SELECT count({column}) AS documents, coalesce(sum({column}), 0)::BIGINT AS tokens, "
        f"coalesce(sum({column}) FILTER (decision = 'keep'), 0)::BIGINT AS kept, "
        f"count(*) FILTER (decision = 'keep' AND {column} IS NULL) AS uncounted FROM ledger"
    )
    return Tokens(name, stage, **found)
