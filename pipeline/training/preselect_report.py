"""OUT.html beside a PreSelect scorer: what its training documents are, and how well it follows strength, from OUT.json.

Invariant: the same facts give the same bytes; the page holds all that it shows, and no text of a document becomes markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..report import figures
from ..report.figures import Figure
from ..report.markup import script_json
from ..report.page import render_template
from .model_card import LEFT_OUT

TOLD = {"read": "read", "train": "trained on", "held_out": "held out", **LEFT_OUT}  # what became of rows
HERE = Path(__file__).parent
TICKS = 16  # levels of strength that are named below the bars


def render(facts: Mapping[str, Any]) -> bytes:
    """The whole page as UTF-8."""
    drawn = [_strength(facts["preselect"]), _scores(facts["preselect"])]
    charts = [{**one, "id": f"chart-{i}"} for i, one in enumerate(drawn)]
    return render_template(
        "preselect.html.jinja",
        {
            "facts": facts,
            "found": facts["preselect"],
            "told": TOLD,
            "stem": facts["model"]["file"].removesuffix(".bin"),
            "charts": {what["title"]: one["id"] for what, one in zip(drawn, charts)},
            "heights": {one["id"]: one["layout"]["height"] for one in charts},
            "figures": script_json(charts),
        },
        HERE,
    )


def _strength(found: Mapping[str, Any]) -> Figure:
    """Documents by the pairs that they order rightly, and which of them were chosen."""
    levels = found["strength"]["levels"]
    at = [one["pairs"] for one in levels]
    rest = [one["documents"] - one["positive"] - one["negative"] for one in levels]
    hover = [
        f"{one['pairs']} of {found['pairs']} pairs<br>{one['documents']:,} documents<br>{one['positive']:,} positive, "
        f"{one['negative']:,} negative"
        for one in levels
    ]
    traces = [
        _upright("chosen, label 0", "dropped", at, [one["negative"] for one in levels], hover),
        _upright("chosen, label 1", "kept", at, [one["positive"] for one in levels], hover),
        _upright("not chosen", "faint", at, rest, hover),
    ]
    most = max(one["documents"] for one in levels)
    layout = {
        "barmode": "stack",
        "bargap": 0.15,
        "xaxis": _levels(found["pairs"], "pairs of models ordered as their abilities"),
        "yaxis": figures.counts(most, title={"text": "documents"}),
    }
    return figures.figure("strength", "strength", traces, layout, 340)


def _scores(found: Mapping[str, Any]) -> Figure:
    """Where the scorer places held-out documents of each strength: 0 % is the lowest score of all, noise gives 50 %."""
    levels = found["agreement"]["levels"]
    hover = [
        f"{one['pairs']} of {found['pairs']} pairs<br>{one['documents']:,} held-out documents<br>higher than "
        f"{100 * one['mean_place']:.1f} % of all, mean score {one['mean_score']:.3f}"
        for one in levels
    ]
    bars = _upright(
        "mean place", "second", [one["pairs"] for one in levels], [100 * one["mean_place"] for one in levels], hover
    )
    layout = {
        "bargap": 0.15,
        "xaxis": _levels(found["pairs"], "pairs of models ordered as their abilities"),
        "yaxis": figures.axis(title={"text": "mean place among all scores"}, range=[0, 100], ticksuffix=" %"),
    }
    return figures.figure("scores", "scores", [bars], layout, 300)


def _upright(
    name: str, colour: str, at: Sequence[int], heights: Sequence[float], hover: Sequence[str]
) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": list(at),
        "y": list(heights),
        "marker": {"color": f"css:{colour}"},
        "hoverinfo": "text",
        "hovertext": list(hover),
    }


def _levels(pairs: int, title: str) -> dict[str, Any]:
    step = -(-(pairs + 1) // TICKS)
    ticks = list(range(0, pairs + 1, step))
    return figures.axis(
        title={"text": title},
        tickvals=ticks,
        ticktext=[f"{i}" for i in ticks],
        range=[-0.7, pairs + 0.7],
        showgrid=False,
    )
