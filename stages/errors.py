"""Errors, named by the person who must act.

TamisError
|-- RecipeError   edit the recipe or the arguments            exit code 2
|-- SetupError    install, start or free something            exit code 1
|-- DataError     the input is at fault: more bad rows than allowed, a file changed under the run    exit code 1
`-- StageError    a bug or a dead worker: stage, unit, traceback    exit code 1
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TamisError(Exception):
    """Base of all errors that Tamis shows without a traceback. `exit_code` is what the command line returns."""

    exit_code = 1


class RecipeError(TamisError):
    """The recipe or an argument is wrong. The message names file, line and key, and the nearest valid name."""

    exit_code = 2


class SetupError(TamisError):
    """Something must be installed, started, freed or unlocked first."""


class DataError(TamisError):
    """The input cannot be used as it is: too much of it is bad, or it changed while it was read."""


class StageError(TamisError):
    """A stage failed on a unit: a bug, or a process that died three times."""


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """' Did you mean: x? Valid: x, y, z.' for an error message; the nearest name first, at most 40 names."""
    names = sorted(valid)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    hint = f" Did you mean: {near[0]}?" if near else ""
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return f"{hint} Valid: {shown}."
