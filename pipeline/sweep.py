"""`tamis sweep`: one score, many cuts: what each would keep, of whom, and how what is kept differs from what is not.

Invariant: every figure is a sum over the ledger's rows that have a number in the column, so a cut and its inverse add up
to all of them; documents that no stage measured (dropped before it) are told and belong to neither side.

After Longpre et al. 2023 (A Pretrainer's Guide to Training Data, arXiv 2305.13169), whose tables give the share kept and
the change of features for a filter and for its inverse.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..stages import sql
from ..stages.errors import RecipeError, did_you_mean
from .output import Output, quoted_name
from .show_documents import NUMERIC
from .terminal import columns, plural, share, value, visible

Side = Literal["top", "bottom"]
GROUPS = ("domain", "source", "lang")  # what `by` is where nobody says: the first that the ledger has
NO_FEATURE = ("source_row", "out_row", "bytes_written", "chars_written", "bytes_read", "origin_row")
SIZES = {"documents": None, "characters": "chars_read"}


@dataclass(frozen=True)
class Question:
    """What is swept. `cuts`: values of the column, or `shares`: parts of the documents that the better side keeps, each
    with its cut. `side`: which numbers are better. `where`: SQL, the documents it is about. `by`: a column of groups, of
    which the `most` largest are told. `features`: numeric columns (default: all measured ones)."""

    column: str
    cuts: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    side: Side = "top"
    where: str | None = None
    by: str | None = None
    most: int = 20
    features: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Sweep:
    """The answer. `sizes`: of documents, characters, and tokens where they are counted, in all. `lines`: a filter and its
    inverse for each cut, in the order of the cuts; `unmeasured`: documents without a number in the column."""

    question: Question
    by: str | None
    sizes: Mapping[str, int]
    unmeasured: int
    features: tuple[str, ...]
    groups: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Line:
    """What one filter keeps. `groups`: (kept, all) documents of each group; `features`: (mean of the kept, mean of the
    others, their difference in standard deviations of all), None where one is not defined."""

    cut: float
    inverse: bool
    kept: Mapping[str, int]
    groups: Mapping[str, tuple[int, int]]
    features: Mapping[str, tuple[float | None, float | None, float | None]]


def sweep(output: Output, question: Question) -> Sweep:
    """Answers from the ledger alone. RecipeError for an unknown column, or one without numbers."""
    types = {row["column_name"]: row["column_type"] for row in output.rows("DESCRIBE ledger")}
    _numeric(types, question.column, "--column")
    if not question.cuts and not question.shares:
        raise RecipeError("give --cuts 0.5,0.9 (numbers of the column) or --shares 10%,50% (parts of the documents)")
    by = question.by if question.by is not None else next((name for name in GROUPS if name in types), None)
    if by is not None and by not in types:
        raise RecipeError(f"--by {by}: the ledger has no such column.{did_you_mean(by, types)}")
    if question.where is not None:
        parsed = sql.parse(question.where, where="--where")
        for name in sorted(parsed.columns - set(types)):
            raise RecipeError(f"--where: the ledger has no column {name}.{did_you_mean(name, types)}")
    features = _features(output, types, question)
    population = f"FROM ledger WHERE ({question.where or 'true'}\n)"
    number = f"{quoted_name(question.column)}::DOUBLE"
    known = f"{population} AND isfinite({number})"
    unmeasured = output.rows(f"SELECT count(*) AS n {population} AND NOT coalesce(isfinite({number}), false)")[0]["n"]
    cuts = _cuts(output, question, known, number)
    sign = ">=" if question.side == "top" else "<="
    # the bucket of a row: how many of the filters keep it, which are nested
    order = sorted(cuts, reverse=question.side == "top")  # the strictest first
    bucket = " + ".join(f"({number} {sign} {cut!r})::INT" for cut in order)
    sizes = dict(SIZES) | ({"tokens": "n_tokens"} if "n_tokens" in types else {})
    sums = _sums(output, known, bucket, sizes, features, len(order))
    groups = _groups(output, known, bucket, by, question.most, len(order))
    whole = {name: int(sums[name].sum()) for name in sizes}
    lines = []
    for cut in cuts:
        least = len(order) - order.index(cut)  # rows in buckets from here on are kept
        for inverse in (False, True):
            inside = np.arange(len(order) + 1) >= least
            lines.append(_line(cut, inverse, inside ^ inverse, sums, sizes, features, groups))
    return Sweep(question, by, whole, int(unmeasured), tuple(features), tuple(groups), tuple(lines))


def _numeric(types: Mapping[str, str], name: str, where: str) -> None:
    if name not in types:
        raise RecipeError(f"{where} {name}: the ledger has no such column.{did_you_mean(name, types)}")
    if types[name] not in NUMERIC:
        raise RecipeError(f"{where} {name}: holds {types[name]}, not numbers")


def _features(output: Output, types: Mapping[str, str], question: Question) -> list[str]:
    if question.features is not None:
        for name in question.features:
            _numeric(types, name, "--features")
        return list(question.features)
    measured = [c["name"] for c in output.manifest["columns"]]
    found = [name for name in ["chars_read", *measured] if types.get(name) in NUMERIC and name not in NO_FEATURE]
    return [name for name in dict.fromkeys(found) if name != question.column]


def _cuts(output: Output, question: Question, known: str, number: str) -> list[float]:
    """The values, and for a share the worst number that the best documents of that share have."""
    cuts = list(question.cuts)
    if question.shares:
        direction = "DESC" if question.side == "top" else "ASC"
        asked = ", ".join(f"{one!r}::DOUBLE" for one in question.shares)
        found = output.rows(f"SELECT quantile_disc({number}, [{asked}] ORDER BY {number} {direction}) AS cuts {known}")
        if found[0]["cuts"] is None:
            raise RecipeError(f"--column {question.column}: no document has a number there")
        cuts += found[0]["cuts"]
    return [float(cut) for cut in dict.fromkeys(cuts)]


def _sums(
    output: Output, known: str, bucket: str, sizes: Mapping[str, str | None], features: Sequence[str], cuts: int
) -> dict[str, np.ndarray]:
    """Per bucket: the sizes, and of every feature how many rows have it, their sum and sum of squares. float64."""
    parts = [f"{'count(*)' if name is None else f'sum({name})'} AS {size}" for size, name in sizes.items()]
    for place, feature in enumerate(features):
        one = f"CASE WHEN isfinite({quoted_name(feature)}::DOUBLE) THEN {quoted_name(feature)}::DOUBLE END"
        parts += [f"count({one}) AS n{place}", f"sum({one}) AS s{place}", f"sum({one} * {one}) AS q{place}"]
    rows = output.rows(f"SELECT {bucket} AS bucket, {', '.join(parts)} {known} GROUP BY 1")
    names = [name for name in (rows[0] if rows else {}) if name != "bucket"]
    found = {name: np.zeros(cuts + 1) for name in [*sizes, *names]}
    for row in rows:
        for name in names:
            found[name][row["bucket"]] = row[name] or 0
    return found


def _groups(output: Output, known: str, bucket: str, by: str | None, most: int, cuts: int) -> dict[str, np.ndarray]:
    """Documents per bucket of the largest groups."""
    if by is None:
        return {}
    group = f"coalesce({quoted_name(by)}::VARCHAR, '(none)')"
    rows = output.rows(
        f"""WITH counted AS (SELECT {group} AS name, {bucket} AS bucket, count(*) AS n {known} GROUP BY 1, 2),
        largest AS (SELECT name, sum(n) AS total FROM counted GROUP BY name ORDER BY total DESC, name LIMIT {most})
        SELECT name, bucket, n FROM counted JOIN largest USING (name) ORDER BY total DESC, name"""
    )
    found: dict[str, np.ndarray] = {}
    for row in rows:
        found.setdefault(row["name"], np.zeros(cuts + 1))[row["bucket"]] = row["n"]
    return found


def _line(
    cut: float,
    inverse: bool,
    inside: np.ndarray,
    sums: Mapping[str, np.ndarray],
    sizes: Mapping[str, Any],
    features: Sequence[str],
    groups: Mapping[str, np.ndarray],
) -> Line:
    kept = {name: int(sums[name][inside].sum()) for name in sizes}
    of_groups = {name: (int(counts[inside].sum()), int(counts.sum())) for name, counts in groups.items()}
    told = {}
    for place, feature in enumerate(features):
        count, total, square = (sums.get(f"{what}{place}", np.zeros(len(inside))) for what in "nsq")
        told[feature] = _compared(count, total, square, inside)
    return Line(cut, inverse, kept, of_groups, told)


def _compared(
    count: np.ndarray, total: np.ndarray, square: np.ndarray, inside: np.ndarray
) -> tuple[float | None, float | None, float | None]:
    means = [float(total[part].sum() / count[part].sum()) if count[part].sum() else None for part in (inside, ~inside)]
    everything = count.sum()
    variance = square.sum() / everything - (total.sum() / everything) ** 2 if everything else 0.0
    if means[0] is None or means[1] is None or variance <= 0:
        return means[0], means[1], None
    return means[0], means[1], (means[0] - means[1]) / math.sqrt(variance)


# --- as lines and files -------------------------------------------------------------------------------------------


def told(found: Sweep, features: int = 5, groups: int = 5) -> Iterator[str]:
    """The lines that `tamis sweep` prints."""
    question, sizes = found.question, found.sizes
    best = "high" if question.side == "top" else "low"
    yield (
        f"{question.column}: {plural(sizes['documents'], 'document')} have a number, {found.unmeasured:,} have none; "
        f"better is {best}"
    )
    head = ["", "keeps", *sizes, "most changed, in standard deviations"]
    yield from [
        "",
        *columns([head, *(_row(found, line, features) for line in found.lines)], right=range(2, 2 + len(sizes))),
    ]
    if found.groups:
        yield from ["", f"documents kept of the largest groups by {found.by}"]
        shown = found.groups[:groups]
        names = [_name(found, line) for line in found.lines]
        table = [["", *map(visible, shown)]]
        table += [
            [name, *(share(*line.groups[g]) for g in shown)] for name, line in zip(names, found.lines, strict=True)
        ]
        yield from columns(table, right=range(1, 1 + len(shown)))


def _name(found: Sweep, line: Line) -> str:
    better = ">=" if found.question.side == "top" else "<="
    worse = "<" if found.question.side == "top" else ">"
    return f"{worse if line.inverse else better} {value(line.cut)}"


def _row(found: Sweep, line: Line, most: int) -> list[str]:
    kept = [share(line.kept[name], whole) for name, whole in found.sizes.items()]
    moved = [(name, change) for name, (_, _, change) in line.features.items() if change is not None]
    moved.sort(key=lambda one: (-abs(one[1]), one[0]))
    documents = found.sizes["documents"]
    side = "worst" if line.inverse else "best"
    what = f"the {side} {share(line.kept['documents'], documents)}"
    return [_name(found, line), what, *kept, ", ".join(f"{name} {change:+.2f}" for name, change in moved[:most])]


def records(found: Sweep) -> list[dict[str, Any]]:
    """The whole answer as rows: cut, inverse, what (size, group, feature), name, and the figures of each."""
    rows: list[dict[str, Any]] = []
    empty = dict.fromkeys(("kept", "all", "share", "mean_kept", "mean_dropped", "change"))
    for line in found.lines:
        start = {"column": found.question.column, "cut": line.cut, "inverse": line.inverse}
        for what, pairs in (
            ("size", {name: (line.kept[name], whole) for name, whole in found.sizes.items()}),
            ("group", line.groups),
        ):
            for name, (kept, whole) in pairs.items():
                part = {"kept": kept, "all": whole, "share": kept / whole if whole else None}
                rows.append({**start, "what": what, "name": name, **empty, **part})
        for name, (mean_kept, mean_dropped, change) in line.features.items():
            part = {"mean_kept": mean_kept, "mean_dropped": mean_dropped, "change": change}
            rows.append({**start, "what": "feature", "name": name, **empty, **part})
    return rows


def as_csv(found: Sweep) -> str:
    out = io.StringIO()
    rows = records(found)
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(found: Sweep) -> str:
    return json.dumps({"unmeasured": found.unmeasured, "by": found.by, "rows": records(found)}, indent=1) + "\n"
