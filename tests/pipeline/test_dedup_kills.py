"""Killed in any phase of any deduplication, the same command finishes with the bytes of an undisturbed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from near_documents import families

from .test_kills import events, finish, kill_after, start

STAGES: list[dict[str, Any]] = [
    {"use": "exact_dedup"},
    {"use": "near_dedup", "prefer": ["longest"], "verify": "jaccard >= 0.8"},
    {"use": "near_dedup", "name": "loose", "bands": 40, "rows": 3},
    {"use": "paragraph_dedup", "prefer": ["longest"]},
    {"use": "substring_dedup", "length": 20},
    {"use": "cut_spans", "spans": ["paragraph_spans", "substring_spans"], "min_words": 5},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dedup_kills")
    (folder / "corpus").mkdir()
    rows = families(400, seed=6)
    lines = [text.replace(" ", "\n", 9) for text in rows["text"].to_pylist()]  # words are lines, which repeat
    table = rows.set_column(0, "text", pa.array(lines, pa.large_string())).select(["text", "source"])
    for at in range(4):
        pq.write_table(table.slice(at * 250, 250), folder / "corpus" / f"{at}.parquet", row_group_size=50)
    changes = {"stages": STAGES, "unit_size": "60kB", "max_bad": "100%"}
    runs.write_recipe(folder / "recipe.yaml", folder / "corpus", folder / "out", **changes)
    runs.tamis("run", folder / "recipe.yaml")
    return folder


def first_of_each_phase(output: Path) -> dict[str, int]:
    """How many receipts an undisturbed run has logged before the first one of each phase."""
    done = [event for event in events(output) if event["event"] in ("unit", "item")]
    found: dict[str, int] = {}
    for count, event in enumerate(done):
        found.setdefault(str(event.get("phase", event.get("step"))), count)
    return found


@pytest.mark.slow
def test_a_kill_in_each_phase_changes_nothing(base: Path, tmp_path: Path) -> None:
    phases = first_of_each_phase(base / "out")
    assert {"near_dedup/buckets", "near_dedup/verify", "loose/choose", "paragraph_dedup/lines"} <= phases.keys()
    for k, (phase, count) in enumerate(phases.items()):
        where = kill_after(start(base, tmp_path / "out"), tmp_path / "out", count, 7 * k % 30)
        print(f"killed before the first receipt of {phase}, after: {where}")
    finish(base, tmp_path / "out")
    ledger = f"'{base}/out/ledger/*.parquet'"
    rules = {rule for (rule,) in runs.query(f"SELECT DISTINCT rule FROM {ledger} WHERE decision = 'drop'")}
    assert {"exact_dedup.duplicate", "near_dedup.duplicate", "loose.duplicate"} <= rules
