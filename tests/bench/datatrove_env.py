"""The interpreter of an environment that has datatrove, made at the first call and kept below build/.

Invariant: the pinned versions are the ones that docs/agreement.md and docs/performance.md name.
"""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

from processes import HERE, BenchError

REQUIREMENTS = ("datatrove[processing]==0.10.1", "spacy==3.8.18", "pyarrow")


def datatrove_python() -> Path:
    """The interpreter that DATATROVE_PYTHON names, else that of build/datatrove-env. BenchError where pip fails."""
    if named := os.environ.get("DATATROVE_PYTHON"):
        return Path(named)
    folder = HERE.parents[1] / "build" / "datatrove-env"
    python, done = folder / "bin" / "python", folder / "complete"
    if done.exists() and done.read_text() == " ".join(REQUIREMENTS):
        return python
    venv.create(folder, with_pip=True, clear=True)
    command = [python, "-m", "pip", "install", "--quiet", *REQUIREMENTS]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise BenchError(
            f"datatrove cannot be installed: {installed.stderr[-500:]}\n"
            "DATATROVE_PYTHON may name the interpreter of an environment that has it"
        )
    done.write_text(" ".join(REQUIREMENTS))
    return python
