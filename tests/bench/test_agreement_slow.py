"""The presets against the real datatrove, installed into an environment of its own under build/ and run on real text.

Invariant: the shares asserted here are the product's promise; docs/agreement.md gives those of 5,000 documents.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
REQUIREMENTS = ("datatrove[processing]==0.10.1", "spacy==3.8.18", "pyarrow")
DOCS = 1000


def _load(name: str) -> ModuleType:
    """A script of this folder as a module (tests are no package)."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _datatrove_python() -> Path:
    """The interpreter of build/datatrove-env, which is made at the first call and kept; skips where pip cannot."""
    folder = HERE.parents[1] / "build" / "datatrove-env"
    python, done = folder / "bin" / "python", folder / "complete"
    if done.exists() and done.read_text() == " ".join(REQUIREMENTS):
        return python
    venv.create(folder, with_pip=True, clear=True)
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"datatrove cannot be installed here: {installed.stderr[-300:]}")
    done.write_text(" ".join(REQUIREMENTS))
    return python


@pytest.fixture(scope="module")
def found(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `agreement.compare` finds between datatrove's verdicts and ours."""
    output = tmp_path_factory.mktemp("agreement") / "verdicts.parquet"
    corpus = f"{shared_data}/web/*.parquet"
    script = [HERE / "datatrove_verdicts.py", "--input", corpus, "--output", output, "--docs", str(DOCS)]
    subprocess.run([_datatrove_python(), *script], check=True)
    return _load("agreement").compare(pq.read_table(output))


@pytest.mark.parametrize("preset", ["gopher_repetition", "gopher_quality", "c4", "fineweb"])
def test_each_filter_alone_gives_datatroves_verdict_on_95_percent(found: dict[str, Any], preset: str) -> None:
    assert found["docs"] == DOCS
    assert found["filters"][preset]["equal"] >= 0.95
    assert 0 < found["filters"][preset]["both keep"] < DOCS  # the sample has documents of both fates


def test_rules_that_need_no_words_give_datatroves_outcome_on_99_percent(found: dict[str, Any]) -> None:
    shares = {name: row["equal"] for name, row in found["rules"].items() if not row["words"]}
    assert len(shares) == 11
    assert min(shares.values()) >= 0.99, shares


def test_line_removal_leaves_datatroves_text_on_99_percent(found: dict[str, Any]) -> None:
    assert found["c4_text_equal"] >= 0.99


def test_both_environments_choose_the_same_documents(shared_data: Path) -> None:
    chosen = _load("datatrove_verdicts").select(f"{shared_data}/web/*.parquet", docs=50)["id"].to_pylist()
    script = "import sys, datatrove_verdicts as v; print(*v.select(sys.argv[1], docs=50)['id'].to_pylist())"
    command = [_datatrove_python(), "-c", script, f"{shared_data}/web/*.parquet"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE).stdout
    assert printed.split() == chosen
