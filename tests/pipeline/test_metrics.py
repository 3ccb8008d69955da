"""What Prometheus is told of a run under Ray, scraped from the port it scrapes, against the manifest."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import runs

from tamis.pipeline.executors.base import Failure
from tamis.pipeline.executors.metrics import Metrics, amounts

RECIPE = 'sifted "twice"'  # a label value that has to be escaped
NODE = """
import os, sys, ray
context = ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100000000,
    logging_level="ERROR", _metrics_export_port=int(sys.argv[1]), _system_config={"metrics_report_interval_ms": 500})
mode = os.environ.get("RAY_AUTH_MODE", "disabled")
print(f"RAY_ADDRESS={context.address_info['gcs_address']} RAY_AUTH_MODE={mode}", flush=True)
sys.stdin.read()
"""
DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "dashboard.json"
SAMPLE = re.compile(r'ray_tamis_(\w+)\{.*?step="([^"]+)".*?\} (\S+)')


@pytest.fixture
def node() -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray node that runs on when the driver has gone, as a cluster does: its metrics' URL, a driver's environment."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="pip install 'tamis[metrics]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    holder = subprocess.Popen(
        [sys.executable, "-c", NODE, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin
    assert holder.stdout
    try:
        environment = dict(setting.split("=", 1) for setting in holder.stdout.readline().split())
        assert environment, "the Ray node did not start"
        yield f"http://127.0.0.1:{port}/metrics", environment
    finally:
        holder.stdin.close()
        holder.wait(60)


def scraped_page(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return answer.read().decode()


def scraped(url: str) -> dict[tuple[str, str], float]:
    """(metric without its prefix, step) -> value, of the recipe at hand; the histogram's buckets left out."""
    lines = scraped_page(url).splitlines()
    ours = [line for line in lines if line.startswith("ray_tamis_") and 'recipe="sifted \\"twice\\""' in line]
    found = [match for line in ours if "_bucket{" not in line and (match := SAMPLE.match(line))]
    return {(match[1], match[2]): float(match[3]) for match in found}


@pytest.mark.ray
def test_what_is_scraped_after_a_run_is_what_the_manifest_counts(
    tmp_path: Path, node: tuple[str, dict[str, str]]
) -> None:
    url, environment = node
    corpus = runs.write_corpus(tmp_path / "corpus", shards=2, documents=300)
    path = runs.write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "out", name=RECIPE)
    runs.tamis("run", path, "--executor", "ray", code=0, **environment)
    counts = json.loads((tmp_path / "out/manifest.json").read_text())["counts"]
    units = json.loads((tmp_path / "out/log.jsonl").read_text().splitlines()[0])["units"]
    deadline = time.monotonic() + 60
    expected = {
        ("documents_total", "ledger"): counts["rows"],
        ("documents_alive_total", "ledger"): counts["kept"],
        ("documents_total", "write"): counts["kept"],
        ("text_bytes_total", "write"): counts["bytes_written"],
        ("documents_total", "read"): counts["rows"],
        ("text_bytes_total", "read"): counts["bytes_read"],
        ("units_planned", "read"): units,
        ("units_done", "read"): units,
        ("unit_seconds_count", "read"): units,
    }
    found: dict[tuple[str, str], float] = {}
    while expected.items() - found.items() and time.monotonic() < deadline:
        found = scraped(url)  # the node takes a report from the driver every half second
    assert {key: found.get(key) for key in expected} == expected
    assert not [key for key in found if key[0].startswith("failures")]
    of_ray = set(re.findall(r"ray_node_[a-z_]+", DASHBOARD.read_text()))
    page = ""
    while not all(f"\n{name}{{" in page for name in of_ray) and time.monotonic() < deadline:
        page = scraped_page(url)
    assert [name for name in sorted(of_ray) if f"\n{name}{{" not in page] == []


def test_a_metric_that_cannot_be_recorded_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics("recipe")

    def broken(*_: object) -> None:
        raise RuntimeError("no agent")

    for kind in ("documents", "alive", "text", "failures", "planned", "done", "seconds"):
        for verb in ("inc", "set", "observe"):
            monkeypatch.setattr(getattr(metrics, kind), verb, broken, raising=False)
    metrics.begin("read", 2)
    metrics.outcome("read", {"unit": "u", "rows": 3, "alive": 2, "seconds": 0.1})
    metrics.outcome("read", Failure("unit u", "StageError", "broken"))


def test_receipts_of_every_kind_of_work_say_how_much_it_was() -> None:
    unit = {"unit": "u", "item": "u", "rows": 10, "outside": 4, "alive": 5, "read_bytes": 700}
    assert amounts(unit) == (6, 5, 700)
    assert amounts({"item": "w", "alive": 5, "text_bytes": 600, "data": []}) == (5, 5, 600)
    assert amounts({"item": "l", "kept": 5, "dropped": 3, "quarantined": 2, "data": []}) == (10, 5, 0)
    assert amounts({"item": "facts", "facts": {}}) == (0, 0, 0)
