"""`tamis report`: where the page of a finished run is, and rendering it once more elsewhere.

Invariant: the output stays as it is; its checksums cover the page that the run wrote.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ...stages.errors import RecipeError, SetupError
from ..output import Output
from .page import render_report

PAGE = "report.html"


def existing_page(folder: str) -> str:
    """The page's path. SetupError where the run is not finished or has none."""
    output = Output(folder)
    if not output.storage.exists(PAGE):
        raise SetupError(f"{output.name} has no {PAGE}; `tamis report {output.name} --to FILE` makes one")
    return output.storage.url(PAGE)


def write_page(folder: str, path: Path) -> str:
    """Renders the page into a local file, whole or not at all, and returns its path.

    RecipeError where that is the page of the output itself, SetupError where it cannot be written.
    """
    output = Output(folder)
    root = Path(output.storage.root)
    if output.storage.local and path.resolve().is_relative_to(root.resolve()):
        raise RecipeError(f"--to {path}: {output.name}/checksums.txt covers what is in there; name a file elsewhere")
    page = render_report(output)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(page)
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise SetupError(
            f"--to {path}: cannot be written ({error.strerror}); name a file in an existing folder"
        ) from error
    return str(path)
