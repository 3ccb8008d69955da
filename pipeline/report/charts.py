"""The figures of the page, as plain data for plotly.js.

Invariant: what comes from documents or names is text made by `label`, its place on an axis is a number of ours, so that
it is never read as a date, a template, a colour or markup. Colours are names of the page's style sheet ('css:kept').
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from . import figures
from .distributions import Histogram, TopValues
from .duplicates import Duplicates
from .figures import Figure
from .funnel import Groups, RuleLine, StageLine
from .markup import label
from .numbers import short

TALL = 30  # the highest bar this much above the middle one: counts are drawn on a log axis
SIZES = (2, 3, 4, 5, 10, 20, 50, 100, 1_000, 10_000)  # of clusters: lower ends of the bars
RULES = 25
PLOT, BOTTOM, FLOOR = 175, 52, 17  # pixels: bars of a histogram, what stands below them, a threshold's label


def funnel(stages: Sequence[StageLine]) -> Figure:
    """Per stage: documents that go on, and those that it dropped or set aside."""
    names = [label(stage.name) for stage in stages]
    hover = [
        f"{name}<br>{s.came:,} came<br>{s.dropped:,} dropped<br>{s.set_aside:,} set aside<br>{s.left:,} left"
        for name, s in zip(names, stages, strict=True)
    ]
    axis, height = figures.rows(names)
    traces = [
        figures.bars("left", "kept", [s.left for s in stages], hover),
        figures.bars("dropped here", "dropped", [s.dropped for s in stages], hover),
    ]
    if any(s.set_aside for s in stages):
        traces.append(figures.bars("set aside here", "aside", [s.set_aside for s in stages], hover))
    layout = {
        "barmode": "stack",
        "bargap": 0.28,
        "yaxis": axis,
        "xaxis": figures.counts(stages[0].came, title={"text": "documents"}),
    }
    return figures.figure("funnel", "Documents through the stages", traces, layout, height)


def rules(lines: Sequence[RuleLine]) -> Figure | None:
    """The rules that most documents failed; None where no rule failed any."""
    chosen = sorted((line for line in lines if line.failed), key=lambda line: -line.failed)[:RULES]
    if not chosen:
        return None
    names = [label(line.rule) for line in chosen]
    hover = [
        f"{name}<br>{line.failed:,} failed it<br>{line.first:,} of them by it first"
        for name, line in zip(names, chosen, strict=True)
    ]
    axis, height = figures.rows(names)
    traces = [
        figures.bars("decided by it (first rule that failed)", "dropped", [line.first for line in chosen], hover),
        figures.bars(
            "failed it, after another had decided", "faint", [line.failed - line.first for line in chosen], hover
        ),
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.28,
        "yaxis": axis,
        "xaxis": figures.counts(chosen[0].failed, title={"text": "documents"}),
    }
    return figures.figure("rules", "Documents that failed a rule", traces, layout, height)


def group_shares(found: Groups) -> Figure | None:
    """Kept share of documents and of bytes per group; None where there is one group."""
    lines = [*found.top, *([found.rest] if found.rest else [])]
    if len(lines) < 2:
        return None
    names = [label(group_name(line.name)) if line is not found.rest else others(line.members) for line in lines]
    documents = [100 * line.kept / line.documents if line.documents else 0 for line in lines]
    size = [100 * line.bytes_written / line.bytes_read if line.bytes_read else 0 for line in lines]
    hover = [
        f"{name}<br>{line.kept:,} of {line.documents:,} documents kept ({one:.1f} %)<br>{other:.1f} % of bytes"
        for name, line, one, other in zip(names, lines, documents, size, strict=True)
    ]
    axis, height = figures.rows(names)
    traces = [figures.bars("of documents", "kept", documents, hover), figures.bars("of bytes", "second", size, hover)]
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        "bargroupgap": 0.06,
        "yaxis": axis,
        "xaxis": figures.axis(title={"text": "kept, %"}, range=[0, 102], ticksuffix=" %"),
    }
    return figures.figure(f"by-{found.column}", f"Kept share by {label(found.column)}", traces, layout, height)


def group_name(name: str | None) -> str:
    return "(null)" if name is None else name or "(empty)"


def others(members: int) -> str:
    return f"{members:,} other{'' if members == 1 else 's'}"


def histogram(found: Histogram, name: str) -> Figure | None:
    """Bars of kept and other documents over a column's values, and a line for every threshold; None where all
    documents have one value."""
    if len(found.edges) < 3:
        return None
    place = (lambda x: math.log10(1 + max(x, -0.5))) if found.log else float
    edges = [place(edge) for edge in found.edges]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    widths = [b - a for a, b in pairwise(edges)]
    spans = [_span(found, i) for i in range(len(middles))]
    bars = {"type": "bar", "x": middles, "width": widths, "hoverinfo": "text", "meta": {"edges": list(found.edges)}}
    traces = [
        bars | _bar("not kept", "faint", found.others, [f"{n:,} not kept" for n in found.others]),
        bars | _bar("kept", "kept", found.kept, [f"{s}<br>{n:,} kept" for s, n in zip(spans, found.kept, strict=True)]),
    ]
    heights = sorted(n for n in [*found.kept, *found.others] if n)
    steep = bool(heights) and heights[-1] > TALL * heights[(len(heights) - 1) // 2]
    traces.append(_outline(edges, found.others, 0.5 if steep else 0))
    if steep:
        span = [math.log10(0.7), math.log10(heights[-1] * 1.3)]
        yaxis = figures.axis(title={"text": "documents, log axis"}, type="log", range=span, dtick=1, tickformat="~s")
    else:
        yaxis = figures.counts(heights[-1] if heights else 1, title={"text": "documents"})
    xaxis = figures.axis(range=[edges[0], edges[-1]], showgrid=False)
    if found.log:
        xaxis |= _log_ticks(found.edges[0], found.edges[-1])
    elif found.whole:
        xaxis |= {"tickformat": "d"} | ({"dtick": 1} if edges[-1] - edges[0] <= 12 else {})
    lines, notes, floors = _lines(found, place, edges)
    layout = {
        "barmode": "overlay",
        "bargap": 0,
        "hovermode": "x",
        "xaxis": xaxis,
        "yaxis": yaxis,
        "shapes": lines,
        "annotations": notes,
        "margin": {"l": 10, "r": 24, "t": 8 + FLOOR * floors, "b": BOTTOM},
        "legend": {
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": -0.13,
            "yanchor": "top",
            "traceorder": "reversed",
        },
    }
    return figures.figure(name, label(found.column.name), traces, layout, PLOT + BOTTOM + 8 + FLOOR * floors)


def _bar(name: str, colour: str, counts: Sequence[int], hover: Sequence[str]) -> dict[str, Any]:
    return {"name": name, "y": list(counts), "hovertext": list(hover), "marker": {"color": f"css:{colour}"}}


def _outline(edges: Sequence[float], counts: Sequence[int], least: float) -> dict[str, Any]:
    """The contour of bars that others stand before. `least`: what 0 is drawn as, on a log axis below its lower end."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(edges),
        "y": [max(n, least) for n in [*counts, counts[-1]]],
        "line": {"color": "css:dropped", "width": 1.3, "shape": "hv"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _span(found: Histogram, i: int) -> str:
    low, high = found.edges[i], found.edges[i + 1]
    if found.whole:
        first, last = math.ceil(low), math.ceil(high) - 1
        return short(first) if first >= last else f"{short(first)} to {short(last)}"
    return f"{short(low)} to {short(high)}"


def _lines(found: Histogram, place: Any, edges: Sequence[float]) -> tuple[list[Any], list[Any], int]:
    """Shapes and labels of the thresholds, each label on a floor of its own above the bars; how many floors."""
    shapes, notes, drawn = [], [], {}
    for cut in found.column.thresholds:
        drawn.setdefault((cut.value, cut.sign, cut.title), cut)
    for floor, cut in enumerate(drawn.values()):
        x = min(max(place(cut.value), edges[0]), edges[-1])
        top = 1 + FLOOR * floor / PLOT
        shapes.append(
            {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": top}
            | {"line": {"color": "css:mark", "width": 1.5, "dash": "dash"}}
        )
        right = x > (edges[0] + edges[-1]) / 2
        value = f"{cut.sign} {short(cut.value)}".replace(">=", "≥").replace("<=", "≤")
        text = f"{label(cut.title)} {value.replace('<', '&lt;').replace('>', '&gt;')}"
        notes.append(
            {"xref": "x", "yref": "paper", "x": x, "y": top, "showarrow": False, "text": text, "bgcolor": "css:panel"}
            | {"xanchor": "right" if right else "left", "yanchor": "bottom", "font": {"color": "css:mark", "size": 12}}
        )
    return shapes, notes, len(notes)


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """Round numbers on an axis of log10(1 + x)."""
    ticks = [0.0] if low <= 0 else []
    decades = range(0, int(math.log10(max(high, 1))) + 1)
    steps = (1, 2, 5) if len(decades) < 3 else (1,)
    ticks += [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
    return {"tickvals": [math.log10(1 + t) for t in ticks], "ticktext": [short(t) for t in ticks]}


def top_values(found: TopValues, name: str) -> Figure | None:
    """Documents by value, kept and not; None where there is one value at most."""
    lines = [(label(group_name(value), 30), kept, rest) for value, kept, rest in found.top]
    members, kept, rest = found.rest
    if members:
        lines.append((others(members), kept, rest))
    if len(lines) < 2:
        return None
    hover = [f"{text}<br>{kept:,} kept<br>{rest:,} not kept" for text, kept, rest in lines]
    axis, height = figures.rows([text for text, _, _ in lines], bar=20)
    traces = [
        figures.bars("kept", "kept", [kept for _, kept, _ in lines], hover),
        figures.bars("not kept", "dropped", [rest for _, _, rest in lines], hover),
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.28,
        "yaxis": axis,
        "xaxis": figures.counts(max(kept + rest for _, kept, rest in lines), title={"text": "documents"}),
    }
    return figures.figure(name, label(found.column.name), traces, layout, height)


def clusters(found: Duplicates, name: str) -> Figure | None:
    """Clusters by size; None where there is none."""
    bars = cluster_bars(found)
    if not bars:
        return None
    names = [text for text, _, _ in bars]
    hover = [
        f"clusters of {text}<br>{count:,} clusters<br>{more:,} documents beyond the first" for text, count, more in bars
    ]
    at = list(range(len(bars)))
    upright = {"type": "bar", "x": at, "hoverinfo": "text", "hovertext": hover}
    traces = [
        {**upright, "name": "clusters", "y": [count for _, count, _ in bars], "marker": {"color": "css:second"}},
        {
            **upright,
            "name": "documents beyond the first",
            "y": [m for _, _, m in bars],
            "marker": {"color": "css:dropped"},
        },
    ]
    layout = {
        "barmode": "group",
        "bargap": 0.35,
        "xaxis": figures.axis(tickvals=at, ticktext=names, title={"text": "documents in the cluster"}, showgrid=False),
        "yaxis": figures.counts(max(max(count, more) for _, count, more in bars)),
    }
    return figures.figure(name, f"Clusters of {label(found.stage)} by size", traces, layout, 300)


def cluster_bars(found: Duplicates) -> list[tuple[str, int, int]]:
    """(sizes, clusters, documents beyond the first of each cluster), by the bounds in SIZES."""
    bars = []
    for low, high in zip(SIZES, [*SIZES[1:], None], strict=True):
        inside = [(size, count) for size, count in found.sizes if low <= size and (high is None or size < high)]
        if inside:
            text = f"{low:,}" if high == low + 1 else f"{low:,} or more" if high is None else f"{low:,} to {high - 1:,}"
            bars.append((text, sum(n for _, n in inside), sum((size - 1) * n for size, n in inside)))
    return bars


def similarities(found: Duplicates, name: str) -> Figure | None:
    """Duplicates by their similarity to the kept document, in percent; None where the stage tells none."""
    if not found.similarity:
        return None
    counts = dict(found.similarity)
    at = list(range(min(counts), 101))
    hover = [f"similarity {percent / 100:.2f}<br>{counts.get(percent, 0):,} duplicates" for percent in at]
    bars = {
        "type": "bar",
        "x": [percent / 100 for percent in at],
        "y": [counts.get(percent, 0) for percent in at],
        "marker": {"color": "css:dropped"},
        "hoverinfo": "text",
        "hovertext": hover,
    }
    layout = {
        "bargap": 0.1,
        "xaxis": figures.axis(
            title={"text": "similarity to the kept document"}, showgrid=False, range=[at[0] / 100 - 0.01, 1.01]
        ),
        "yaxis": figures.counts(max(counts.values()), title={"text": "duplicates"}),
    }
    return figures.figure(name, f"Similarity of {label(found.stage)}", [bars], layout, 300)


def times(lines: Sequence[StageLine]) -> Figure | None:
    """Seconds per stage; None where nothing took any."""
    if not any(line.seconds for line in lines):
        return None
    names = [label(line.name) for line in lines]
    total = sum(line.seconds for line in lines)
    hover = [
        f"{name}<br>{s.seconds:,.2f} s<br>{100 * s.seconds / total:.1f} %" for name, s in zip(names, lines, strict=True)
    ]
    axis, height = figures.rows(names)
    traces = [figures.bars("seconds", "second", [line.seconds for line in lines], hover)]
    layout = {"bargap": 0.28, "yaxis": axis, "xaxis": figures.axis(title={"text": "seconds"}, rangemode="tozero")}
    return figures.figure("times", "Seconds per stage", traces, layout, height)
