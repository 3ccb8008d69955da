"""docs/preselect.md: its commands typed over a small corpus, its recipe the one in configs/."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from ...runs import check_accounting, command, query
from .scored_texts import ABILITIES, PERFECT, SMALL, write_scored

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "preselect.md").read_text("utf-8")


def test_the_commands_of_the_guide_train_a_scorer_and_select_with_it(tmp_path, monkeypatch):
    abilities, recipe = (
        YAML(typ="safe").load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
    )
    assert abilities.keys() == ABILITIES.keys()
    assert recipe["stages"] == YAML(typ="safe").load((ROOT / "configs" / "preselect.yaml").read_text("utf-8"))["stages"]
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    write_scored(tmp_path / "data" / "scored")
    write_scored(tmp_path / "data" / "web")
    (tmp_path / "abilities.yaml").write_text(re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)[0])
    (tmp_path / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "preselect.yaml", tmp_path / "configs")
    lines = re.findall(r"^    (tamis .*)$", TEXT, re.MULTILINE)
    assert [shlex.split(line)[1] for line in lines] == ["train", "run", "sql"]
    for line in lines:
        words = shlex.split(line)[1:] + (SMALL if " train " in line else [])
        done = subprocess.run(command(*words), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()
    facts = json.loads((tmp_path / "models" / "preselect.bin.json").read_text("utf-8"))
    assert facts["preselect"]["tasks"] == ["arc", "boolq"]
    counts = check_accounting(tmp_path / "out" / "preselect")
    assert counts["keep"] / 600 < 0.15
    kept = query(f"SELECT url FROM '{tmp_path}/out/preselect/data/*.parquet'")
    assert sum(PERFECT in url for (url,) in kept) > 0.8 * len(kept), "the planted domain is what is kept"
