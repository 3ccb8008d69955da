"""Before a run on Ray starts, a worker imports the stages that are not ours: else it would be tried again for ever."""

from __future__ import annotations

import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.stages.errors import SetupError

STAGE = '''
import pyarrow as pa
from tamis.stages.base import Column, Stage

class Ones(Stage):
    """Ones."""

    @property
    def adds(self):
        return (Column("ones", pa.int32(), "1"),)

    def measure(self, batch):
        return pa.table({"ones": pa.array([1] * len(batch), pa.int32())})
'''


def test_a_stage_that_workers_cannot_import_is_named(tmp_path, monkeypatch):
    here = tmp_path / "only_here"
    here.mkdir()
    (here / "only_on_the_driver.py").write_text(STAGE)
    monkeypatch.syspath_prepend(here)
    corpus = runs.write_corpus(tmp_path / "in", shards=1, documents=20)
    stages = [{"use": "only_on_the_driver:Ones"}]
    recipe = load_recipe(runs.write_recipe(tmp_path / "r.yaml", corpus, tmp_path / "out", stages=stages))
    with pytest.raises(SetupError, match=r"only_on_the_driver:Ones: a worker cannot import it .*PYTHONPATH"):
        run(recipe, executor="ray", workers=1)
    assert run(recipe).manifest["counts"]["rows"] > 0
