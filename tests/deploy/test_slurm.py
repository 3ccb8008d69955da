"""deploy/slurm.sh with stand-ins for Slurm and Ray: what it starts where, and that a stopped job goes on.

The stand-ins write down how they were called. `tamis` is the real one, told to use the inline executor.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120
SCONTROL = """#!/bin/bash
echo "scontrol $*" >>"$CALLS"
[[ $1 != show ]] || printf '%s\\n' $NODES
"""
SRUN = """#!/bin/bash
echo "srun $* [cpus $SRUN_CPUS_PER_TASK, auth $RAY_AUTH_MODE ${#RAY_AUTH_TOKEN}]" >>"$CALLS"
[[ $* != *hostname* ]] || { echo 10.1.2.3 10.9.9.9; exit; }
[[ -z $BROKEN ]] || exit 1
exec tail -f /dev/null
"""
RAY = """#!/bin/bash
echo "ray $*" >>"$CALLS"
[[ -z $BROKEN ]]
"""
TAMIS = f"""#!/bin/bash
echo "tamis $* [$RAY_ADDRESS]" >>"$CALLS"
exec {sys.executable} -m tamis.pipeline.cli run "$2" --executor inline
"""


class Job:
    """A submitted job: the script with an environment like Slurm's, and the calls that it made."""

    def __init__(self, folder: Path, nodes: str, documents: int = 40) -> None:
        self.calls = folder / "calls"
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (("scontrol", SCONTROL), ("srun", SRUN), ("ray", RAY), ("tamis", TAMIS)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        corpus = runs.write_corpus(folder / "corpus", shards=4, documents=documents, group_rows=250)
        self.recipe = runs.write_recipe(folder / "recipe.yaml", corpus, folder / "out", unit_size="150kB")
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "NODES": nodes,
            "SLURM_JOB_ID": "4711",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_JOB_NODELIST": "node[1-3]",
        }

    def start(self, **more: str) -> subprocess.Popen[str]:
        self.calls.write_text("")
        return subprocess.Popen(
            ["bash", ROOT / "deploy/slurm.sh", self.recipe],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def made(self, program: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith(f"{program} ")]


def test_shellcheck_finds_nothing() -> None:
    subprocess.run([Path(sys.executable).parent / "shellcheck", ROOT / "deploy/slurm.sh"], check=True)


def test_several_nodes_become_one_cluster_with_a_token_and_the_driver_on_the_first(tmp_path: Path) -> None:
    job = Job(tmp_path, "node1 node2 node3")
    process = job.start()
    told, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, told
    address = "10.1.2.3:24711"  # of the first address of the first node; a port of this job's own
    _, head, workers = sorted(job.made("srun"), key=lambda call: ("ray start" in call, "--head" not in call))
    place, _, command = head.partition(" ray start ")
    assert "--nodelist=node1" in place
    assert "--nodes=1 --ntasks=1" in place
    assert "--head --block --node-ip-address=10.1.2.3 --port=24711 --num-cpus=7 " in command
    assert "--temp-dir=/tmp/ray-4711 " in command
    place, _, command = workers.partition(" ray start ")
    assert "--nodes=2 --ntasks=2 --exclude=node1" in place
    assert f"--block --address={address} --num-cpus=8 " in command
    assert head.endswith("[cpus 8, auth token 64]")
    assert workers.endswith("[cpus 8, auth token 64]")
    assert job.made("ray") == [f"ray health-check --address {address}"]
    assert job.made("tamis") == [f"tamis run {job.recipe} --executor ray --workers 23 [{address}]"]
    assert job.made("scontrol") == ["scontrol show hostnames node[1-3]"]
    runs.check_accounting(tmp_path / "out")


def test_one_node_starts_no_cluster(tmp_path: Path) -> None:
    job = Job(tmp_path, "node1")
    process = job.start()
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert job.made("srun") == []
    assert job.made("tamis") == [f"tamis run {job.recipe} --executor ray --workers 8 []"]


def test_the_driver_hears_an_interrupt_from_its_first_moment_on(tmp_path: Path) -> None:
    job = Job(tmp_path, "node1")
    ask = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    (tmp_path / "bin" / "tamis").write_text(f"#!/bin/bash\nexec {sys.executable} -c '{ask}'\n")
    process = job.start()
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0, "bash starts a background job with SIGINT ignored"


def test_a_head_that_does_not_start_ends_the_job_and_says_so(tmp_path: Path) -> None:
    process = Job(tmp_path, "node1 node2").start(BROKEN="yes")
    told, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "Ray's head did not start on node1" in told


def test_a_preempted_job_asks_to_be_run_again_and_then_goes_on(tmp_path: Path) -> None:
    job = Job(tmp_path, "node1 node2", documents=750)
    runs.tamis("run", job.recipe, "--output", tmp_path / "undisturbed")
    log = tmp_path / "out" / "log.jsonl"
    process = job.start()
    deadline = time.monotonic() + LIMIT
    while not log.exists() or '"unit"' not in log.read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, told
    assert job.made("scontrol")[1:] == ["scontrol requeue 4711"]
    assert not (tmp_path / "out" / "manifest.json").exists(), "the signal came too late for this to show anything"
    assert not (tmp_path / "out" / "lock.json").exists(), "the next node would have to wait for the lock"
    process = job.start()
    told, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, told
    assert runs.file_hashes(tmp_path / "out") == runs.file_hashes(tmp_path / "undisturbed")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    done = [(event["step"], event["unit"]) for event in events if event["event"] == "unit"]
    assert len(done) == len(set(done)), "a unit was computed twice"


@pytest.mark.parametrize("missing", ["SLURM_CPUS_PER_TASK", "SLURM_JOB_NODELIST"])
def test_outside_of_slurm_it_says_what_it_is(tmp_path: Path, missing: str) -> None:
    job = Job(tmp_path, "node1")
    del job.environment[missing]
    process = job.start()
    told, _ = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert missing in told
