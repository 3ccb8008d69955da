"""`tamis show`: documents of a finished run with their text and values, chosen by SQL, at random, or around a threshold.

Invariant: the same output and options show the same documents; text is read for those that are shown and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..stages import sql
from ..stages.errors import RecipeError, did_you_mean
from .document_text import TextOf
from .fate import fate, name_of
from .output import Output, quoted_name
from .terminal import cut, plural, value, visible, wrapped

WIDTH = 110
VALUE_LINES = 3  # of values where nobody said which
NUMERIC = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "FLOAT",
    "DOUBLE",
)
SYSTEM = ("doc_id", "source_file", "source_row", "source_hash", "url", "date", "decision", "stage", "rule", "failed")


@dataclass(frozen=True)
class Choice:
    """Which documents, and what of them. `where` and `by`: SQL over a row's ledger columns, `by` with asc or desc behind
    it (nulls come last); `sample`: in the order of a draw, else in identity order; `near`: a rule or a parameter, half
    of `most` on each side of its threshold; `written`: those that this written set holds; `columns`: their values,
    ('all',) for every one; `chars` of text, or the differences that edits made."""

    where: str | None = None
    by: str | None = None
    sample: bool = False
    near: str | None = None
    written: str | None = None
    most: int = 20
    columns: tuple[str, ...] = ()
    chars: int = 1500
    diff: bool = False


def shown(folder: str, choice: Choice) -> Iterator[str]:
    """The lines that `tamis show` prints. SetupError where the run is not finished, RecipeError for a mistake in the
    choice: no such column, rule, parameter or set."""
    output = Output(folder)
    texts = TextOf(output)
    if choice.near is not None:
        yield from _near(output, texts, choice)
        return
    rows, total = chosen_rows(output, choice)
    columns = _columns(output, choice, [choice.where, _order(choice.by)[0] if choice.by else None])
    for number, row in enumerate(rows):
        yield from ([""] if number else [])
        yield from _document(output, texts, row, columns, choice)
    yield from ([""] if rows else [])
    which = {True: "by draw", False: f"by {choice.by}" if choice.by else "in input order"}[choice.sample]
    yield f"{len(rows):,} of {plural(total, 'document')}, {which}; `tamis why {output.name} KEY` tells a whole story"


def chosen_rows(output: Output, choice: Choice) -> tuple[list[dict[str, Any]], int]:
    """Ledger rows of the documents, and how many there are in all. Not for `near`."""
    condition = _condition(output, choice)
    order = "source_file, source_row"
    if choice.by:
        expression, direction = _order(choice.by)
        _check(output, expression, f"--by {choice.by}")
        order = f"({expression}\n) {direction} NULLS LAST, {order}"
    if choice.sample:
        order = f"md5(concat(source_file, '#', source_row)), {order}"
    total = _query(output, f"SELECT count(*) AS total FROM ledger WHERE {condition}", (), choice)[0]["total"]
    rows = _query(output, f"FROM ledger WHERE {condition} ORDER BY {order} LIMIT {choice.most}", (), choice)
    return rows, total


# --- the choice ---------------------------------------------------------------------------------------------------


def _condition(output: Output, choice: Choice) -> str:
    conditions = ["true"]
    if choice.where is not None:
        _check(output, choice.where, "--where")
        conditions.append(f"({choice.where}\n)")
    if choice.written is not None:
        conditions.append(_written(output, choice.written))
    return " AND ".join(conditions)


def _written(output: Output, name: str) -> str:
    """Where a document stands in this written set."""
    sets = list(output.manifest["recipe"]["write"].get("sets") or {})
    if name not in sets:
        hint = did_you_mean(name, sets) if sets else " The recipe writes one set, without a name."
        raise RecipeError(f"--set-name {name}: no such written set.{hint}")
    own = f"out_file_{name}"
    return f"{quoted_name(own)} IS NOT NULL" if own in output.columns else f"starts_with(out_file, 'data/{name}/')"


def _check(output: Output, expression: str, where: str) -> None:
    parsed = sql.parse(expression, where=where)
    for column in sorted(parsed.columns - set(output.columns)):
        raise RecipeError(f"{where}: the ledger has no column {column}.{did_you_mean(column, output.columns)}")
    for param in sorted(parsed.params):
        raise RecipeError(f"{where}: write the value of ${param} itself")


def _order(by: str) -> tuple[str, str]:
    """'words desc' -> ('words', 'DESC')."""
    head, _, last = by.strip().rpartition(" ")
    if head and last.lower() in ("asc", "desc"):
        return head, last.upper()
    return by, "ASC"


def _query(output: Output, query: str, values: Sequence[Any], choice: Choice) -> list[dict[str, Any]]:
    import duckdb

    try:
        return output.rows(query, values)
    except duckdb.Error as error:
        asked = "; ".join(f"--{name} {found}" for name, found in (("where", choice.where), ("by", choice.by)) if found)
        raise RecipeError(f"{asked or output.name}: {str(error).strip().partition(chr(10))[0]}") from None


# --- around a threshold -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """A parameter of a rule over one numeric column."""

    rule: str
    param: str
    column: str
    at: Any


def thresholds(output: Output, name: str, *, where: str = "--near") -> list[Threshold]:
    """Those that `name` means: all of a rule, or the one of a parameter (of every rule that reads it). RecipeError."""
    rules = output.manifest["rules"]
    meant = {name: rules[name]} if name in rules else {r: k for r, k in rules.items() if name in k["params"]}
    if not meant:
        valid = [*rules, *(param for known in rules.values() for param in known["params"])]
        raise RecipeError(f"{where} {name}: no such rule or parameter.{did_you_mean(name, valid)}")
    types = {row["column_name"]: row["column_type"] for row in output.rows("DESCRIBE ledger")}
    found = []
    for rule, known in meant.items():
        needs = [_stored(output, known["stage"], column) for column in known["needs"]]
        numeric = [column for column in needs if types.get(column) in NUMERIC]
        params = {p: v for p, v in known["params"].items() if p == name or name == rule}
        if len(numeric) == 1:
            numbers = {p: v for p, v in params.items() if isinstance(v, int | float) and not isinstance(v, bool)}
            found += [Threshold(rule, param, numeric[0], at) for param, at in numbers.items()]
    if found:
        return found
    rule, known = next(iter(meant.items()))
    reads = ", ".join(known["needs"]) or "no column"
    raise RecipeError(
        f"{where} {name}: is no threshold on one numeric column of the ledger: {rule} reads {reads}"
        f"{', needs ' + known['sql'] if known['sql'] else ''}. Write --where and --by instead"
    )


def _stored(output: Output, stage: str, column: str) -> str:
    """The ledger's column for one that a rule reads: sizes of the text as read, where no edit stands before the rule."""
    edits = [s["name"] for s in output.stages[: [s["name"] for s in output.stages].index(stage)] if s["kind"] == "edit"]
    return f"{column}_read" if column in ("chars", "bytes") and not edits else column


def _near(output: Output, texts: TextOf, choice: Choice) -> Iterator[str]:
    if choice.by or choice.sample:
        raise RecipeError("--near has an order of its own: leave out --by and --sample")
    condition = _condition(output, choice)
    for number, threshold in enumerate(thresholds(output, choice.near or "")):
        yield from ([""] if number else [])
        below, above = (_side(output, threshold, sign, condition, choice) for sign in ("<", ">="))
        columns = _columns(output, choice, [quoted_name(threshold.column), choice.where])
        for row in reversed(below[0]):
            yield from [*_document(output, texts, row, columns, choice), ""]
        line = f"{threshold.param} = {value(threshold.at)} on {threshold.column}"
        yield f"{'=' * 8} {line}; {threshold.rule} needs {' '.join(output.rule(threshold.rule)['sql'].split())} {'=' * 8}"
        for row in above[0]:
            yield from ["", *_document(output, texts, row, columns, choice)]
        yield ""
        yield (
            f"{line}: the nearest {len(below[0]):,} of {plural(below[1], 'document')} below it and {len(above[0]):,} of "
            f"{above[1]:,} at or above it; a document that never reached the stage that measures it is on neither side"
        )


def _side(
    output: Output, threshold: Threshold, sign: str, condition: str, choice: Choice
) -> tuple[list[dict[str, Any]], int]:
    """The nearest rows on one side, the nearest first, and how many there are."""
    column, values = quoted_name(threshold.column), [sql.bound(threshold.at)]
    inside = f"FROM ledger WHERE {condition} AND {column} {sign} ?"
    order = f"{column} {'DESC' if sign == '<' else 'ASC'}, source_file, source_row"
    rows = _query(output, f"{inside} ORDER BY {order} LIMIT {max(1, choice.most // 2)}", values, choice)
    return rows, _query(output, f"SELECT count(*) AS total {inside}", values, choice)[0]["total"]


# --- one document -------------------------------------------------------------------------------------------------


def _columns(output: Output, choice: Choice, expressions: Sequence[str | None]) -> list[str]:
    """The columns whose values are shown: those asked for, else those that the choice reads, else all measured ones."""
    if choice.columns and choice.columns != ("all",):
        for name in choice.columns:
            if name not in output.columns:
                raise RecipeError(
                    f"--columns {name}: the ledger has no such column.{did_you_mean(name, output.columns)}"
                )
        return list(choice.columns)
    if not choice.columns:
        read = [c for text in expressions if text for c in sorted(sql.parse(text, where="show").columns)]
        read = [name for name in dict.fromkeys(read) if name in output.columns and name not in SYSTEM]
        if read:
            return read
    return [column["name"] for column in output.manifest["columns"] if column["name"] in output.columns]


def _document(
    output: Output, texts: TextOf, row: dict[str, Any], columns: Sequence[str], choice: Choice
) -> Iterator[str]:
    yield f"--- {name_of(row)}"
    if row["url"]:
        yield f"url     {cut(visible(row['url']), 200)}"
    yield f"fate    {fate(output, row)}"
    values = [f"{name} = {value(row[name])}" for name in columns if row[name] is not None or choice.columns]
    lines = wrapped(values, indent=" " * 8, width=WIDTH)
    most = len(lines) if choice.columns else VALUE_LINES
    yield from (f"values  {line[8:]}" if number == 0 else line for number, line in enumerate(lines[:most]))
    if len(lines) > most:
        told = sum(line.count(" = ") for line in lines[:most])
        yield f"        … and {len(values) - told} more: --columns all"
    if row["bytes_read"] is None or row["source_hash"] is None:
        return
    if choice.diff:
        from .edits import tell_edits

        yield from tell_edits(output, row, 40) or ["edits   none changed it"]
        return
    text, missing = texts(row)
    if text is None:
        yield f"text    cannot be shown: {visible(missing)}"
        return
    yield f"text    {plural(len(text), 'character')}{'' if row['decision'] == 'keep' else ', as the last edit left it'}"
    yield from (f"  | {visible(line)}" for line in text[: choice.chars].split("\n"))
    if len(text) > choice.chars:
        yield f"  … {len(text) - choice.chars:,} more characters: --chars {len(text)}"
