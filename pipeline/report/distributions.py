"""How the measured values are spread, split into documents that were kept in the end and all others.

Invariant: the bars, what lies beyond them and the nulls add up to the documents that the measuring stage saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..fate import duplicate_columns
from ..output import Output
from .rows import VIEW, Rows, column_type, column_value
from .thresholds import Threshold

BINS = 48
SHOWN = 15  # values of a categorical column
LOG_FROM, LOG_RATIO = 100, 20  # counts that reach so far, and so far above the median, are drawn on a log axis
INNER = (0.005, 0.995)  # quantiles between which the bars lie; thresholds beyond widen them
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT")
REAL = ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Column:
    """A column to be looked at: who measured it, what it means, whether a rule reads it, which numbers cut it."""

    name: str
    stage: str
    doc: str
    read: bool
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class Histogram:
    """`kept` and `others`: documents per bin, `edges[i] <= value < edges[i + 1]` (the last bin holds its upper edge,
    too). `below`, `above`: (kept, others) outside the edges; `odd`: infinite or not a number; `nulls`.
    `quantiles`: of the finite values, at QUANTILES; empty where there are none. `log`: edges are even in log10(1 + x)."""

    column: Column
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    others: tuple[int, ...]
    below: tuple[int, int]
    above: tuple[int, int]
    nulls: int
    odd: int
    quantiles: tuple[float, ...]
    log: bool
    whole: bool

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value that is drawn, or could be."""
        low, high = self.edges[0], self.edges[-1]
        return (float(np.ceil(low)), float(np.floor(high))) if self.whole else (low, high)

    @property
    def documents(self) -> int:
        """With a value."""
        return sum(self.kept) + sum(self.others) + sum(self.below) + sum(self.above) + self.odd


@dataclass(frozen=True)
class TopValues:
    """(value, kept, others) of the most frequent values, None for null; `rest`: (distinct values, kept, others)."""

    column: Column
    top: tuple[tuple[str | None, int, int], ...]
    rest: tuple[int, int, int]


def columns_to_show(output: Output, cuts: Sequence[Threshold]) -> list[Column]:
    """The columns that rules read, in the order of the rules, then all others that a stage measured. Those of a
    deduplication are told elsewhere."""
    found: dict[str, Column] = {}
    measured = {c["name"]: c for c in output.manifest["columns"]}
    told = {
        name for s in output.stages for name in output.stage_columns(s["name"]) if duplicate_columns(output, s["name"])
    }
    for rule in output.manifest["rules"].values():
        for name in rule["needs"]:
            if name not in found and name not in told and column_value(output, name, rule["stage"]) is not None:
                known = measured.get(name)
                stage = known["stage"] if known else rule["stage"]
                own = tuple(cut for cut in cuts if cut.column == name)
                found[name] = Column(name, stage, _doc(output, name, rule["stage"]), True, own)
    for name, known in measured.items():
        if name not in found and name not in told:
            found[name] = Column(name, known["stage"], known["doc"], False, ())
    return list(found.values())


def _doc(output: Output, name: str, stage: str) -> str:
    known = next((c["doc"] for c in output.manifest["columns"] if c["name"] == name), None)
    if known is not None:
        return known
    if name in ("chars", "bytes"):
        unit = {"chars": "characters", "bytes": "bytes"}[name]
        return f"{unit} of the text that {stage} saw; known here for documents that no edit had changed"
    return "column of the input"


def distributions(rows: Rows, columns: Sequence[Column]) -> Iterator[Histogram | TopValues]:
    """One per column that is a number, a text or a truth value."""
    for column in columns:
        kind = column_type(rows.output, column.name)
        if kind in WHOLE or kind in REAL:
            yield _histogram(rows, column, kind in WHOLE)
        elif kind in ("VARCHAR", "BOOLEAN"):
            yield _top_values(rows, column)


def _histogram(rows: Rows, column: Column, whole: bool) -> Histogram:
    value = column_value(rows.output, column.name, column.stage)
    assert value is not None  # `columns_to_show` asked
    values, known = rows.values(value)
    saw = rows.saw(column.stage)
    nulls = int((saw & ~known).sum())
    values, kept = values[saw & known], rows.kept[saw & known]
    finite = np.isfinite(values)
    odd = int(len(values) - finite.sum())
    values, kept = values[finite], kept[finite]
    if not len(values):
        return Histogram(column, (), (), (), (0, 0), (0, 0), nulls, odd, (), False, whole)
    edges, log = bin_edges(values, [cut.value for cut in column.thresholds], whole)
    counts = count_bins(values, ~kept, edges)
    return Histogram(
        column,
        tuple(edges.tolist()),
        tuple(counts[0][1:-1]),
        tuple(counts[1][1:-1]),
        (counts[0][0], counts[1][0]),
        (counts[0][-1], counts[1][-1]),
        nulls,
        odd,
        tuple(np.quantile(values, QUANTILES, method="inverted_cdf").tolist()),
        log,
        whole,
    )


def count_bins(values: np.ndarray, second: np.ndarray, edges: np.ndarray) -> list[list[int]]:
    """Two lists of counts, of the values where `second` is false and of the others: below the first edge, in each bin,
    above the last edge, which itself belongs to the last bin."""
    bins = len(edges) - 1
    place = np.searchsorted(edges, values, "right")
    place[values == edges[-1]] = bins
    return np.bincount(place + (bins + 2) * second, minlength=2 * (bins + 2)).reshape(2, bins + 2).tolist()


def bin_edges(values: np.ndarray, marks: Sequence[float], whole: bool) -> tuple[np.ndarray, bool]:
    """Ascending float64 edges of at most about BINS bins over the inner values and the `marks`, and whether they are
    even in log10(1 + x). Whole numbers lie in the middle of their bins; where there is one mark, a bin begins at it."""
    low, middle, high = np.quantile(values, (INNER[0], 0.5, INNER[1]), method="inverted_cdf").tolist()
    if low == high:  # nearly all documents have one value: the few others are what there is to see
        low, high = float(values.min()), float(values.max())
    beyond = 0.03 * (max([high, *marks]) - min([low, *marks]))  # a line is never at the very edge
    low, high = (
        min([low, *(m - beyond if m < 0 else max(0.0, m - beyond) for m in marks)]),
        max([high, *(m + beyond for m in marks)]),
    )
    if whole:
        low, high = np.floor(low), np.ceil(high)
    if low == high and not whole:
        low, high = low - (abs(low) / 10 or 0.5), high + (abs(high) / 10 or 0.5)
    if low >= 0 and high >= LOG_FROM and high > LOG_RATIO * max(middle, 1):
        edges = 10 ** np.linspace(np.log10(1 + low), np.log10(1 + high), BINS + 1) - 1
        if whole:
            edges = np.append(np.unique(np.round(edges)), high + 1) - 0.5
            edges = np.unique(edges)
        else:
            edges[0], edges[-1] = low, high
        return edges, True
    if whole:
        width = max(1.0, np.ceil((high - low + 1) / BINS))
        bins = int(np.ceil((high - low + 1) / width))
        return low - 0.5 + width * np.arange(bins + 1), False
    width = (high - low) / BINS
    start = marks[0] - np.ceil((marks[0] - low) / width) * width if marks else low
    bins = int(np.ceil(round((high - start) / width, 6)))
    edges = start + width * np.arange(bins + 1)
    edges[-1] = max(edges[-1], high)
    return np.unique(edges), False


def _top_values(rows: Rows, column: Column) -> TopValues:
    value, seen = column_value(rows.output, column.name, column.stage), rows.at_stage(column.stage)
    query = (
        f"SELECT {value}::VARCHAR AS value, count(*) FILTER (decision = 'keep') AS kept, "
        f"count(*) FILTER (decision <> 'keep') AS others FROM {VIEW} WHERE {seen} GROUP BY 1"
    )
    top = rows.output.rows(f"FROM ({query}) ORDER BY kept + others DESC, value LIMIT {SHOWN}")
    (whole,) = rows.output.rows(
        f"SELECT count(*) AS n, coalesce(sum(kept), 0)::BIGINT AS kept, coalesce(sum(others), 0)::BIGINT AS others "
        f"FROM ({query})"
    )
    lines = tuple((line["value"], line["kept"], line["others"]) for line in top)
    kept, others = (sum(line[at] for line in lines) for at in (1, 2))
    return TopValues(column, lines, (whole["n"] - len(lines), whole["kept"] - kept, whole["others"] - others))
