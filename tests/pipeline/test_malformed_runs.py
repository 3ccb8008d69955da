"""Malformed input through whole runs: everything that can be used is used, everything else is accounted for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

from . import broken_files as make
from . import troubled_input as troubled


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the good neighbours alone."""
    folder = tmp_path_factory.mktemp("good")
    return troubled.run_over(troubled.write_good(folder / "in"), folder / "out")


@pytest.mark.parametrize("kind", troubled.KINDS)
def test_a_bad_file_costs_its_neighbours_nothing_whatever_the_units(tmp_path: Path, good: Path, kind: str) -> None:
    folder = troubled.write_good(tmp_path / "in")
    troubled.KINDS[kind](folder / kind)
    packed = troubled.run_over(folder, tmp_path / "packed", unit_size="128MB")
    assert len(list((packed / "work").glob("read-*/*.parquet"))) == 1
    for part in ("ledger", "data"):
        expected, found = troubled.rows(good, part), troubled.rows(packed, part)
        assert troubled.of_files(found, troubled.GOOD, expected.schema.names).equals(expected.combine_chunks())
    small = troubled.run_over(folder, tmp_path / "small", unit_size="1B")
    for part in ("ledger", "data"):
        assert troubled.rows(small, part).equals(troubled.rows(packed, part))
    for name in ("rows", "files"):
        path = f"quarantine/{name}.parquet"
        assert pq.read_table(small / path).equals(pq.read_table(packed / path))


@pytest.mark.parametrize("kind", troubled.KINDS)
def test_a_bad_file_alone_is_a_run_like_others(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    troubled.KINDS[kind](tmp_path / "in" / kind)
    troubled.run_over(tmp_path / "in", tmp_path / "out")
