"""What decided a document's fate, in words: rules beside the values they saw, duplicates beside their survivor.

Invariant: every number that is told comes from the ledger row or the manifest; what neither holds is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..stages.errors import RecipeError
from .cuts import needed
from .output import Output
from .terminal import plural, value, visible

Row = Mapping[str, Any]
DECISIONS = {"keep": "kept", "drop": "dropped", "quarantine": "set aside"}
READING = {
    "null_text": "its text is null",
    "invalid_utf8": "its text is not UTF-8",
    "too_long": "its text is longer than max_doc",
}


@dataclass(frozen=True)
class Judgement:
    """One rule on one document: `values` it read ('words = 12'), what it `needs` with the thresholds filled in, and
    the `params` by the names under which a recipe sets them. Empty where the rule has no SQL."""

    rule: str
    values: str
    needs: str
    params: str
    source: str


def fate(output: Output, row: Row) -> str:
    """One sentence: kept where, dropped by what, or set aside why; and where it was written all the same."""
    told = _fate(output, row)
    return told if row["decision"] == "keep" or row["out_file"] is None else f"{told}; {where_written(row)}"


def _fate(output: Output, row: Row) -> str:
    stage, rule, reason = row["stage"], row["rule"], row["reason"]
    if row["decision"] == "keep":
        return f"kept: {where_written(row)}"
    if row["decision"] == "quarantine":
        return f"set aside: {_quarantine(output, row)}"
    if rule == f"{stage}.empty" and rule not in output.manifest["rules"]:
        return f"dropped by the edit {stage}, which left nothing of its text ({rule})"
    if duplicate := survivor(output, row, stage):
        return f"dropped by {rule}: {duplicate}"
    judged = judgement(output, row, rule)
    if not judged.needs:
        facts = facts_of(output, stage)
        return f"dropped by {rule}{f': {judged.values}' if judged.values else ''}{f' ({facts})' if facts else ''}"
    because = f" [{reason}]" if reason else ""
    return f"dropped by {rule}: {judged.values}, needs {judged.needs}{because}"


def _quarantine(output: Output, row: Row) -> str:
    reason = row["reason"] or "no reason was recorded"
    if row["stage"] is None:
        return f"{READING[reason]} ({reason})" if reason in READING else visible(reason)
    judged = judgement(output, row, row["rule"])
    undecided = f"{row['rule']} could not be decided: {judged.values}" if judged.values else f"{row['rule']}"
    return f"{undecided}; needs {judged.needs} ({reason})" if judged.needs else f"{undecided} ({reason})"


def where_written(row: Row) -> str:
    """'written to data/part-000000.parquet, row 12', rows counted from 0 as in `file_row_number`; of JSON Lines the
    number of the line as editors count, from 1."""
    if row["out_file"] is None:
        return "written nowhere: the run only observed, or none of its sets holds it"
    further = [name for name in row if name.startswith("out_file_") and row[name] not in (None, row["out_file"])]
    places = [_place(row[name], row[name.replace("out_file", "out_row", 1)]) for name in ("out_file", *further)]
    return f"written to {'; to '.join(places)}"


def _place(file: str, row: int) -> str:
    return f"{visible(file)}, {f'line {row + 1}' if file.endswith('.jsonl.zst') else f'row {row}'}"


def judgement(output: Output, row: Row, rule: str) -> Judgement:
    """The rule with what it read of this document and what it asks for."""
    known = output.rule(rule)
    stage = known.get("stage") or row["stage"]
    values = ", ".join(f"{name} = {measured(output, row, name, stage)}" for name in known.get("needs", ()))
    if not known.get("sql"):
        return Judgement(rule, values, needed(output, row, stage, rule), "", known.get("source", ""))
    thresholds, unknown = _thresholds(output, row, known, stage)
    params = ", ".join(f"{name} = {value(found)}" for name, found in thresholds.items())
    if unknown:
        params = ", ".join(filter(None, [params, unknown]))
    return Judgement(rule, values, _filled(known["sql"], thresholds), params, known.get("source", ""))


def measured(output: Output, row: Row, column: str, stage: str) -> str:
    """The value of a column as a stage saw it; the size of a text version that the ledger does not hold is unknown."""
    if column in row:
        return value(row[column])
    if column in ("chars", "bytes") and not any(row.get(f"{edit}_changed") for edit in _edits_before(output, stage)):
        return value(row[f"{column}_read"])
    return "(not in the ledger)"


def _edits_before(output: Output, stage: str) -> list[str]:
    names = [s["name"] for s in output.stages]
    before = output.stages[: names.index(stage)] if stage in names else output.stages
    return [s["name"] for s in before if s["kind"] == "edit"]


def _thresholds(output: Output, row: Row, rule: Mapping[str, Any], stage: str) -> tuple[dict[str, Any], str]:
    """Values of the rule's parameters for this document, and a note on those that stand in files of values per group."""
    found = dict(rule["params"])
    entries = output.manifest["recipe"]["stages"]
    config = next((e["config"] for e, s in zip(entries, output.stages, strict=True) if s["name"] == stage), {})
    by = config.get("by")
    if not by:
        return found, ""
    group = row.get(by)
    if not isinstance(config.get("values"), dict):
        return {}, f"its values for {by} = {value(group)} stand in {config.get('values')}"
    for name, own in config["values"].get(str(group), {}).items():
        for full in (name, f"{stage}.{name}"):
            if full in found:
                found[full] = own
    return found, ""


def _filled(sql_text: str, thresholds: Mapping[str, Any]) -> str:
    """The expression with its parameters' values in their places."""
    from ..stages import sql

    texts = {name.rpartition(".")[2]: _literal(found) for name, found in thresholds.items()}
    try:
        filled = sql.substitute(sql_text, {}, texts)
    except RecipeError:  # written by another version, with functions that this one does not know
        filled = sql_text
    return visible(" ".join(filled.split()))


def _literal(found: Any) -> str:
    if isinstance(found, str):
        escaped = found.replace("'", "''")
        return f"'{escaped}'"
    if isinstance(found, list):
        return f"[{', '.join(_literal(item) for item in found)}]"
    return value(found) if isinstance(found, bool) or found is None else str(found)


def facts_of(output: Output, stage: str | None) -> str:
    """What a resolve stage froze, as far as it is single numbers: 'kept = 100'."""
    facts = output.manifest["facts"].get(stage or "", {})
    plain = {k: v for k, v in facts.items() if isinstance(v, int | float | str)}
    return ", ".join(f"{name} = {value(found)}" for name, found in list(plain.items())[:6])


# --- duplicates ---------------------------------------------------------------------------------------------------


def duplicate_columns(output: Output, stage: str | None) -> dict[str, str]:
    """Columns of a deduplication by what they mean (cluster, cluster_size, kept_doc_id, kept_file, kept_row,
    kept_output, similarity); empty for another stage."""
    meanings = ("cluster", "cluster_size", "kept_doc_id", "kept_file", "kept_row", "kept_output", "similarity")
    names = output.stage_columns(stage) if stage else []
    found = {meaning: name for meaning in meanings for name in names if name.endswith(meaning)}
    return found if {"kept_file", "kept_row"} <= set(found) else {}


def compared(output: Output, stage: Mapping[str, Any]) -> int:
    """Documents that a deduplication compared: those it saw, less those without a text or key."""
    facts = output.manifest["facts"].get(stage["name"], {})
    blank = facts.get("without_key", facts.get("without_text", 0))
    return facts.get("documents", stage.get("ran", 0) - blank)


def similarity(output: Output, stage: str, found: float) -> str:
    """'similarity 0.91, estimated' from signatures, or 'Jaccard 0.9133' where the stage compared the texts."""
    if output.manifest["facts"].get(stage, {}).get("jaccard") is not None:
        return f"Jaccard {found:.4f}"
    return f"similarity {found:.2f}, estimated"


def survivor(output: Output, row: Row, stage: str | None) -> str:
    """'one of 3 duplicates (cluster ab12); DOC is the one kept, written to FILE, row 7'; empty if it is no duplicate."""
    columns = duplicate_columns(output, stage)
    if not stage or not columns or row[columns["kept_row"]] is None:
        return ""
    at = {meaning: row[name] for meaning, name in columns.items()}
    similar = f"; {similarity(output, stage, at['similarity'])}" if at.get("similarity") is not None else ""
    group = "a duplicate" if at["cluster_size"] == 1 else f"one of {plural(at['cluster_size'], 'duplicate')}"
    cluster = f"{group} (cluster {at['cluster']}{similar})"
    named = named_at(at["kept_doc_id"], at["kept_file"], at["kept_row"])
    if at.get("kept_output"):
        return f"{cluster}; the one kept is {named} of the earlier output {visible(at['kept_output'])}"
    kept = output.row(at["kept_file"], at["kept_row"])
    if kept is None:
        return f"{cluster}; the one kept is {named}, which the ledger does not have: see `tamis verify {output.name}`"
    url = f", {visible(kept['url'])}" if kept["url"] else ""
    if kept["decision"] == "keep":
        return f"{cluster}; the one kept is {named}{url}, {where_written(kept)}"
    return f"{cluster}; the one kept here is {named}{url}, which {kept['rule'] or kept['reason']} dropped later"


def named_at(doc_id: str | None, source_file: str, source_row: int) -> str:
    """'DOC_ID (file#row)', or 'file#row' where that is the doc_id."""
    at = f"{source_file}#{source_row}"
    return visible(at if doc_id in (None, at) else f"{doc_id} ({at})")


def name_of(row: Row) -> str:
    """'DOC_ID (file#row)', or 'file#row' where that is the doc_id."""
    return named_at(row["doc_id"], row["source_file"], row["source_row"])
