"""Runs tour.ipynb again and stores what it printed: `python docs/run_tour.py`, whenever its outputs change.

Invariant: the notebook runs in a folder that has nothing but what it names of a fresh checkout, so what is stored shows
nothing of this machine.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"
NEEDED = ("configs", "tests/golden/pages.jsonl")
LANGUAGE = {"language_info": {"name": "python"}}
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def executed(notebook: Any, folder: Path) -> Any:
    """The notebook with fresh outputs, run below `folder`, an empty one. nbclient's CellExecutionError."""
    from nbclient import NotebookClient

    for name in NEEDED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    (folder / "docs").mkdir()
    fresh = copy.deepcopy(notebook)
    where = {"metadata": {"path": str(folder / "docs")}}
    NotebookClient(fresh, timeout=300, kernel_name="python3", resources=where).execute()
    for cell in fresh.cells:
        cell.metadata.clear()  # when each cell ran
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output["metadata"].clear()
    fresh.metadata.clear()
    fresh.metadata.update(KERNEL | LANGUAGE)
    return fresh


def main() -> None:
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(nbformat.read(TOUR, as_version=4), Path(folder)), TOUR)


if __name__ == "__main__":
    main()
