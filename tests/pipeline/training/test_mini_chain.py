"""The whole mini chain as `make preselect-mini` runs it: the same bytes again, and a planted pool that it must sift."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.sample import build_sample
from tamis.pipeline.training.mini_numbers import kept_by_part, over_base_rate
from tamis.pipeline.training.mini_parts import ORDINARY, SCRAMBLED, TASK

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LIMIT = 600  # seconds for the chain on two idle cores
SMALL = ("--steps", "150", "--documents", "90", "--items", "100")


def chain(corpus: Path, folder: Path, *more: str, told: bool = False) -> Path:
    """Runs the commands of the make target in `folder`, with more options for the first; gives back the output folder.
    told: abilities by the mean losses, since models so young have none of their own that any text would follow."""
    pytest.importorskip("transformers")
    lines = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    at = lines.index("preselect-mini: $(MINI)/mini.json")
    commands = [line for line in lines[at - 3 : at + 4] if line.startswith("\t")]
    assert len(commands) == 4
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "sample").symlink_to(corpus)
    (folder / "configs").symlink_to(ROOT / "configs")
    for i, command in enumerate(commands):
        command = command.replace("$(BIN)", str(Path(sys.executable).parent)).replace("$(MINI)", "out/preselect-mini")
        asked = " ".join(more) if i == 0 else ""
        done = subprocess.run(
            ["bash", "-c", f"{command} {asked}"], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if told and i == 0:
            tell_abilities(folder / "out" / "preselect-mini")
    print(done.stdout)
    return folder / "out" / "preselect-mini"


def tell_abilities(out: Path) -> None:
    losses = pq.read_table(out / "losses")
    names = [name for name in losses.column_names if name.endswith("_bpc")]
    means = {name.removesuffix("_bpc"): pc.mean(losses[name]).as_py() for name in names}
    assert len(means) == 5
    lines = [f"{name}: {-mean!r}\n" for name, mean in means.items()]
    (out / "abilities.yaml").write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    build_sample(str(folder))
    return folder


def hashes(out: Path) -> dict[str, str]:
    """Of every file but the run's notes of when it did what."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and (not name.startswith("run/") or re.match(r"run/(data|ledger)/", name)):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_two_runs_of_the_chain_give_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    """Models, abilities, losses, scorer with card and page, curated documents and ledger, whatever the workers."""
    first = hashes(chain(sample, tmp_path / "first", *SMALL, "--workers", "1", told=True))
    second = hashes(chain(sample, tmp_path / "second", *SMALL, "--workers", "2", told=True))
    assert first == second
    for name in ("models/task/model.safetensors", "abilities.yaml", "losses/part-00000.parquet", "preselect.bin"):
        assert name in first
    assert any(name.startswith("run/data/") for name in first)


def check_planted_pool(out: Path) -> None:
    """A third of the pool is of the task's kind, a third ordinary, a third the words of both in random order."""
    kept = kept_by_part(str(out / "run"))
    docs = {
        group: sum(one.docs for (name, _), one in kept.items() if name == group)
        for group in (TASK, ORDINARY, SCRAMBLED)
    }
    assert len(set(docs.values())) == 1
    for unit in ("docs", "chars"):
        assert over_base_rate(kept, TASK)[unit] >= 1.5
        assert over_base_rate(kept, SCRAMBLED)[unit] <= 0.3
        # what the scorer had not seen, it sorts as well
        assert over_base_rate(kept, TASK, seen=False)[unit] >= 1.5
        assert over_base_rate(kept, SCRAMBLED, seen=False)[unit] <= 0.3


def test_the_chain_keeps_the_tasks_kind_and_drops_scrambled_words(sample: Path, tmp_path: Path) -> None:
    before = os.times()
    out = chain(sample, tmp_path / "chain")
    after = os.times()
    # of both cores, so that a busy machine does not fail what an idle one passes
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 2 * LIMIT
    check_planted_pool(out)
