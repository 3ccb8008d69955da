"""The presets against the real datatrove, installed into an environment of its own under build/ and run on real text.

Invariant: the shares asserted here are the product's promise; docs/agreement.md gives those of 5,000 documents.
"""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
DOCS = 1000


def _script(name: str) -> Any:
    """A script of this folder as a module; like any script, it finds the others beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def datatrove() -> Path:
    """The interpreter of an environment that has datatrove; skips where there is none and pip cannot make it."""
    try:
        return _script("environments").python_of("datatrove")
    except _script("processes").BenchError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def found(datatrove: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `agreement.compare` finds between datatrove's verdicts and ours."""
    output = tmp_path_factory.mktemp("agreement") / "verdicts.parquet"
    corpus = f"{shared_data}/web/*.parquet"
    script = [HERE / "datatrove_verdicts.py", "--input", corpus, "--output", output, "--docs", str(DOCS)]
    subprocess.run([datatrove, *script], check=True)
    return _script("agreement").compare(pq.read_table(output))


@pytest.mark.parametrize("preset", ["gopher_repetition", "gopher_quality", "c4", "fineweb"])
def test_each_filter_alone_gives_datatroves_verdict_on_95_percent(found: dict[str, Any], preset: str) -> None:
    assert found["docs"] == DOCS
    assert found["filters"][preset]["equal"] >= 0.95
    assert 0 < found["filters"][preset]["both keep"] < DOCS  # the sample has documents of both fates


def test_rules_that_need_no_words_give_datatroves_outcome_on_99_percent(found: dict[str, Any]) -> None:
    rows = {name: row for name, row in found["rules"].items() if not row["words"]}
    assert len(rows) == 11
    for name, row in rows.items():
        assert row["equal"] >= 0.99, name
        either = row["datatrove fails"] + row["Tamis fails"] - row["both fail"]
        assert row["both fail"] >= 0.95 * either, name  # a rule that hardly ever fails agrees on 99 percent for nothing


def test_rules_over_words_give_datatroves_outcome_on_99_percent(found: dict[str, Any]) -> None:
    shares = {name: row["equal"] for name, row in found["rules"].items() if row["words"]}
    assert len(shares) == 17
    assert min(shares.values()) >= 0.99, shares  # above the promise, so that a change for the worse shows


def test_line_removal_leaves_datatroves_text_on_99_percent(found: dict[str, Any]) -> None:
    assert found["c4_text_equal"] >= 0.99


def test_both_environments_choose_the_same_documents(datatrove: Path, shared_data: Path) -> None:
    chosen = _script("datatrove_verdicts").select(f"{shared_data}/web/*.parquet", docs=50)["id"].to_pylist()
    script = "import sys, datatrove_verdicts as v; print(*v.select(sys.argv[1], docs=50)['id'].to_pylist())"
    command = [datatrove, "-c", script, f"{shared_data}/web/*.parquet"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE).stdout
    assert printed.split() == chosen
