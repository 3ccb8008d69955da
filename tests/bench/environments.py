"""The interpreters of the environments that hold the baselines, each made at the first call and kept below build/.

Invariant: the pinned versions are the ones that docs/agreement.md and docs/performance.md name.
"""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

from processes import HERE, BenchError

REQUIREMENTS = {
    "datatrove": ("datatrove[processing]==0.10.1", "spacy==3.8.18", "pyarrow"),
    "rensa": ("rensa==0.5.0", "numpy", "pyarrow"),
}


def python_of(name: str) -> Path:
    """The interpreter that DATATROVE_PYTHON (or RENSA_PYTHON) names, else that of build/datatrove-env.

    name: a key of REQUIREMENTS. BenchError where pip fails.
    """
    variable = f"{name.upper()}_PYTHON"
    if named := os.environ.get(variable):
        return Path(named)
    folder = HERE.parents[1] / "build" / f"{name}-env"
    python, done, wanted = folder / "bin" / "python", folder / "complete", " ".join(REQUIREMENTS[name])
    if done.exists() and done.read_text() == wanted:
        return python
    venv.create(folder, with_pip=True, clear=True)
    command = [python, "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise BenchError(
            f"{name} cannot be installed: {installed.stderr[-500:]}\n"
            f"{variable} may name the interpreter of an environment that has it"
        )
    done.write_text(wanted)
    return python
