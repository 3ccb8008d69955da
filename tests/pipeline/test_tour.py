"""docs/tour.ipynb runs from a fresh checkout and says what it said when it was stored."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "docs" / "tour.ipynb"
VARIES = [
    (re.compile(r"\b([a-z_]+)-[0-9a-f]{16}\b"), r"\1-KEY"),  # step keys: files' times, versions of Tamis and of Python
    (re.compile(r"\b\d+(\.\d+)? s\b|\d+(\.\d+)? MB/s"), "TIME"),
]


@pytest.fixture(scope="module")
def stored() -> Any:
    nbformat = pytest.importorskip("nbformat")
    found = nbformat.read(TOUR, as_version=4)
    nbformat.validate(found)
    return found


@pytest.fixture(scope="module")
def fresh(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook run again, in a folder that has nothing but what a checkout has."""
    pytest.importorskip("nbclient")
    spec = importlib.util.spec_from_file_location("run_tour", ROOT / "docs" / "run_tour.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.executed(stored, tmp_path_factory.mktemp("tour"))


def shown(cell: Any) -> list[str]:
    """What a cell printed, piece by piece, without what varies."""
    found = []
    for output in cell.get("outputs", []):
        assert output["output_type"] in ("stream", "execute_result"), output
        kinds = {"text": output["text"]} if "text" in output else output["data"]
        for kind in sorted(kinds):
            text = kinds[kind]
            for pattern, mask in VARIES:
                text = pattern.sub(mask, text)
            found.append(text)
    return found


def test_the_stored_outputs_are_what_it_prints(stored: Any, fresh: Any) -> None:
    for before, now in zip(stored.cells, fresh.cells, strict=True):
        assert shown(now) == shown(before), f"{before.source}\nif this is as it should be: python docs/run_tour.py"
    assert sum(bool(shown(cell)) for cell in stored.cells) >= 8


def test_it_names_no_place_of_a_machine_and_writes_below_out(stored: Any) -> None:
    text = TOUR.read_text("utf-8")
    assert re.findall(r"/(?:home|root|tmp|Users|work|usr|private)/\S*", text) == []
    assert all(not cell.metadata for cell in stored.cells)
