"""deploy/dashboard.json asks for metrics that exist, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tamis.pipeline.executors import metrics

ROOT = Path(__file__).resolve().parents[2]
OURS = re.compile(r"\bray_tamis_[a-z_]+")
LABELS = re.compile(r"by \(([^)]*)\)")


def expressions() -> list[str]:
    board = json.loads((ROOT / "deploy" / "dashboard.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return asked + [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]


def exported() -> set[str]:
    """Names under which Prometheus sees the metrics of a run: `ray_` before each, `_total` behind counters, and the
    three series of a histogram. tests/pipeline/test_metrics.py scrapes them from a real run."""
    run = metrics.Metrics("recipe")
    names = set()
    for metric in (run.documents, run.alive, run.text, run.failures, run.planned, run.done, run.seconds):
        name = f"ray_{metric.info['name']}"
        kind = type(metric).__name__
        ends = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}[kind]
        names |= {name + end for end in ends}
    return names


def test_every_metric_asked_for_exists_and_every_metric_of_a_run_is_shown() -> None:
    asked = {name for expression in expressions() for name in OURS.findall(expression)}
    assert asked <= exported()
    shown = {name.removesuffix("_bucket").removesuffix("_total") for name in asked}
    assert shown == {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in exported()}


def test_panels_group_by_labels_that_the_metrics_have() -> None:
    for expression in expressions():
        labels = {label.strip() for group in LABELS.findall(expression) for label in group.split(",")}
        allowed = {*metrics.TAGS, "le"} if "ray_tamis_" in expression else {"instance"}
        assert labels <= allowed, expression


def test_panels_neither_overlap_nor_stick_out() -> None:
    board = json.loads((ROOT / "deploy" / "dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
