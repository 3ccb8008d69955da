"""The plot of a sweep: share kept by cut, of everything and of the largest groups, and the change of features.

Invariant: one page that asks the network for nothing; names from documents are text, never markup.
"""

from __future__ import annotations

from .report.markup import label
from .sweep import Line, Sweep

GROUPS, FEATURES = 8, 8  # lines that a person can still tell apart
# Okabe and Ito's, which people who see few colours can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
SPACE = 0.08  # between plots, of the height


def as_html(found: Sweep) -> str:
    """A page of plotly figures."""
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    lines = sorted((line for line in found.lines if not line.inverse), key=lambda line: line.cut)
    cuts = [line.cut for line in lines]
    titles = ("kept of everything", f"kept of the largest groups by {label(found.by or '')}", "kept against dropped")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=SPACE)
    curves: list[dict[str, list[float | None]]] = [
        {name: [_percent(line.kept[name], whole) for line in lines] for name, whole in found.sizes.items()},
        {name: [_percent(*line.groups[name]) for line in lines] for name in found.groups[:GROUPS]},
        {name: [line.features[name][2] for line in lines] for name in _most_changed(found, lines)},
    ]
    for row, drawn in enumerate(curves, start=1):
        for place, (name, values) in enumerate(drawn.items()):
            colour = COLOURS[place % len(COLOURS)]
            legend = "legend" if row == 1 else f"legend{row}"
            trace = go.Scatter(
                x=cuts, y=values, name=label(name), mode="lines+markers", line_color=colour, legend=legend
            )
            figure.add_trace(trace, row=row, col=1)
        top = 1 - (row - 1) * (1 - 2 * SPACE) / 3 - (row - 1) * SPACE
        figure.update_layout({"legend" if row == 1 else f"legend{row}": {"y": top, "yanchor": "top"}})
        figure.update_yaxes(title_text="%" if row < 3 else "standard deviations", row=row, col=1)
    better = "high" if found.question.side == "top" else "low"
    figure.update_xaxes(title_text=f"cut on {label(found.question.column)} ({better} is better)", row=3, col=1)
    figure.update_layout(height=1000, template="plotly_white", title=f"Sweep of {label(found.question.column)}")
    return figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})


def _percent(kept: int, whole: int) -> float:
    return 100 * kept / whole if whole else 0.0


def _most_changed(found: Sweep, lines: list[Line]) -> list[str]:
    largest = {
        name: max((abs(line.features[name][2] or 0.0) for line in lines), default=0.0) for name in found.features
    }
    return sorted((name for name in largest if largest[name]), key=lambda name: (-largest[name], name))[:FEATURES]
