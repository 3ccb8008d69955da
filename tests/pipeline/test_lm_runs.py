"""Language-model scores in whole runs: what the ledger holds, a scoring worker that is killed, a model that is gone."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.stages.errors import RecipeError

from ..tiny_models import tiny_lm

LM = {"use": "lm_scores", "gpus": 0, "columns": ["n_tokens", "ppl", "bpc", "min_k_20"]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_corpus(tmp_path_factory.mktemp("lm") / "in", shards=2, documents=60, group_rows=20)


def recipe(corpus: Path, output: Path, *later: dict[str, Any], model: str | None = None) -> Any:
    stages = [{"use": "normalize"}, {**LM, "model": model or tiny_lm(), "where": "chars < 2000"}, *later]
    return load_recipe(runs.write_recipe(output.with_suffix(".yaml"), corpus, output, stages=stages, unit_size="30kB"))


def test_scores_are_in_the_ledger_and_rules_read_them(corpus, tmp_path):
    rules = {"use": "rules", "rules": {"plain": "ppl < $most OR ppl IS NULL"}, "params": {"most": 460}}
    result = run(recipe(corpus, tmp_path / "out", rules))
    runs.check_accounting(tmp_path / "out")
    ledger = runs.rows(tmp_path / "out", "ledger")
    scored = [row for row in ledger.to_pylist() if row["chars_read"] < 2000 and row["ppl"] is not None]
    assert len(scored) > 50
    for row in scored:
        assert row["bpc"] > 0
        assert row["n_tokens"] > 0
        assert (row["decision"] == "keep") == (row["ppl"] < 460) or row["stage"] not in (None, "rules")
    assert len(result.manifest["models"]["lm_scores"]) == 1


def test_a_model_that_is_gone_is_said_before_anything_runs(corpus, tmp_path):
    model = Path(shutil.copytree(tiny_lm(), tmp_path / "model"))
    (model / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"out\.yaml:\d+ .*model\.safetensors"):
        run(recipe(corpus, tmp_path / "out", model=str(model)))
    with pytest.raises(RecipeError, match=r"there is no|No such file|no such"):
        run(recipe(corpus, tmp_path / "out", model=str(tmp_path / "nothing")))
    assert not (tmp_path / "out").exists()


def test_a_model_whose_files_are_cut_short_ends_with_its_name(corpus, tmp_path):
    model = Path(shutil.copytree(tiny_lm(), tmp_path / "model"))
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(RecipeError, match=r"model: .*model"):
        run(recipe(corpus, tmp_path / "out", model=str(model)))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_scoring_worker_loses_nothing(corpus, tmp_path, monkeypatch):
    from tamis.pipeline.progress import Progress

    class Kills(Progress):
        """Kills every process that scores once the first unit is scored."""

        killed: tuple[int, ...] = ()

        def unit(self, step: str, receipt: dict[str, Any]) -> None:
            if not self.killed and "measure" in step:
                type(self).killed = tuple(scoring())
                for pid in self.killed:
                    os.kill(pid, signal.SIGKILL)

    runs.write_corpus(tmp_path / "in", shards=6, documents=60)
    run(recipe(tmp_path / "in", tmp_path / "calm"))
    run(recipe(tmp_path / "in", tmp_path / "killed"), executor="ray", workers=2, progress=Kills())
    assert Kills.killed, "nobody was killed"
    runs.check_accounting(tmp_path / "killed")
    calm, killed = (runs.rows(tmp_path / name, "ledger") for name in ("calm", "killed"))
    assert calm["n_tokens"].equals(killed["n_tokens"])
    for name in ("ppl", "bpc", "min_k_20"):
        one, other = (table[name].to_numpy() for table in (calm, killed))
        assert np.allclose(one, other, rtol=1e-3, equal_nan=True)


def scoring() -> list[int]:
    """Processes of this machine's Ray that run a step in an actor and hold torch."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command, maps = (folder / "cmdline").read_text(), (folder / "maps").read_text()
            except (OSError, UnicodeDecodeError):
                continue
            if "ray::" in command and "libtorch" in maps:
                found.append(int(folder.name))
    return found
