"""The frame of a figure for plotly.js: size, margins, axes, horizontal bars.

Invariant: texts are escaped by who gives them; colours are names of the page's style sheet ('css:kept').
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Figure = dict[str, Any]
BAR = 26  # pixels of a horizontal bar with its gap


def figure(name: str, title: str, traces: list[dict[str, Any]], layout: dict[str, Any], height: int) -> Figure:
    """`layout` on top of what all figures have; a legend where there are several traces."""
    base = {
        "height": height,
        "margin": {"l": 10, "r": 24, "t": 10, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "css:ink", "size": 12},
        "hoverlabel": {
            "bgcolor": "css:panel",
            "bordercolor": "css:line",
            "font": {"color": "css:ink"},
            "align": "left",
        },
        "dragmode": False,
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
    }
    if base["showlegend"]:
        base["margin"]["t"] = 34
    return {"id": name, "title": title, "data": traces, "layout": base | layout}


def axis(**more: Any) -> dict[str, Any]:
    """An axis that a reader cannot drag."""
    return {
        "gridcolor": "css:grid",
        "zerolinecolor": "css:grid",
        "linecolor": "css:line",
        "automargin": True,
        "fixedrange": True,
        **more,
    }


def counts(most: float, **more: Any) -> dict[str, Any]:
    """An axis of documents, from 0: whole numbers only."""
    found = axis(rangemode="tozero", nticks=6, tickformat="~s" if most >= 10_000 else ",d", **more)
    return found | ({"dtick": 1} if most <= 5 else {})


def bars(name: str, colour: str, values: Sequence[float], hover: Sequence[str], **more: Any) -> dict[str, Any]:
    """Horizontal bars, one for each row of `rows`."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "x": list(values),
        "y": list(range(len(values))),
        "marker": {"color": f"css:{colour}"},
        "hoverinfo": "text",
        "hovertext": list(hover),
        **more,
    }


def rows(names: Sequence[str], *, bar: int = BAR) -> tuple[dict[str, Any], int]:
    """The y axis of horizontal bars, the first on top, and the height of the figure."""
    count = len(names)
    found = axis(
        tickvals=list(range(count)),
        ticktext=[f"{name}  " for name in names],
        range=[count - 0.4, -0.6],
        showgrid=False,
        ticks="",
        zeroline=False,
    )
    return found, bar * max(count, 2) + 90
