"""A cluster of three Ray nodes and an S3 server: a worker node that dies in the middle of a run changes nothing.

The head has no CPU, as in deploy/rayjob.yaml. What is killed is a whole node at once, its raylet and its workers.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import runs
import xxhash

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.storage import storage_at

LIMIT = 300  # seconds after which a run that does not end has failed
UNITS = 12
CLUSTER = """
import contextlib, os, psutil, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80000000})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=80000000) for _ in range(2)]
cluster.wait_for_nodes()
print(f"RAY_ADDRESS={cluster.address} RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', 'disabled')}", flush=True)
sys.stdin.readline()
workers = psutil.Process(nodes[0].all_processes["raylet"][0].process.pid).children(recursive=True)
for process in workers:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
cluster.remove_node(nodes[0], allow_graceful=False)
print("killed", flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def cluster(s3: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The process that holds the cluster (a line on its stdin kills a node), and what a driver needs to join it.
    The nodes take the AWS variables of the S3 server with them."""
    holder = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert holder.stdin
    assert holder.stdout
    try:
        environment = dict(setting.split("=", 1) for setting in holder.stdout.readline().split())
        assert environment, "the cluster did not start"
        yield holder, environment
    finally:
        holder.stdin.close()
        holder.wait(60)


def tell_to_kill(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin
    assert holder.stdout
    holder.stdin.write("kill\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "killed\n"


def progress(output: str) -> tuple[int, int]:
    """Units of the first step that have a receipt, and those that are being worked on: begun, not committed."""
    paths = [path for path in storage_at(output).list("work") if path.startswith("work/read-")]
    done = {path.rpartition("/")[2].removesuffix(".json") for path in paths if path.endswith(".json")}
    begun = {path.rpartition("/")[2].partition(".")[0] for path in paths if "/attempts/" in path}
    return len(done), len(begun - done)


def hashes(output: str) -> dict[str, str]:
    storage = storage_at(output)
    paths = [path for folder in ("data", "ledger", "quarantine") for path in storage.list(folder)]
    return {path: xxhash.xxh3_128_hexdigest(storage.read(path)) for path in paths}


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_killed_in_the_middle_of_a_run_on_s3_changes_nothing(
    tmp_path: Path, s3: str, cluster: tuple[subprocess.Popen[str], dict[str, str]]
) -> None:
    holder, environment = cluster
    corpus = runs.write_corpus(tmp_path / "corpus", shards=4, documents=750, group_rows=250)
    path = runs.write_recipe(tmp_path / "recipe.yaml", corpus, tmp_path / "out", unit_size="150kB")
    local = run(load_recipe(path)).output
    bucket = storage_at(s3)
    for file in corpus.iterdir():
        bucket.write(f"corpus/{file.name}", file.read_bytes())
    output = f"{s3}/out"
    driver = subprocess.Popen(
        runs.command(
            "run", path, "--input", f"{s3}/corpus/*.parquet", "--output", output, "--executor", "ray", "--workers", "2"
        ),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + LIMIT
    done, at_hand = 0, 0
    while (done < 2 or at_hand < 2) and driver.poll() is None:  # two units at hand: one on each node
        assert time.monotonic() < deadline, "the run does not begin"
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(0.05)
        done, at_hand = progress(output)
    tell_to_kill(holder)
    told, _ = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 0, told
    print(f"a node was killed after {done} of {UNITS} units, with {at_hand} at hand")
    assert at_hand == 2, "the node died too late for this to show anything"
    assert hashes(output) == hashes(local)
    assert "OK" in runs.tamis("verify", output)
