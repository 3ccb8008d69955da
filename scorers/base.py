"""What a scorer is: one model, loaded once a process; text in, numbers out. It knows no Ray, no recipe and no threshold.

Invariant: the numbers of a text depend on that text and the model's files alone, never on its neighbours in a call
(from torch: within rounding).
"""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class ModelError(ValueError):
    """A model file or folder that cannot be used: where, what is wrong with it, what to do."""


class NoDeviceError(RuntimeError):
    """The device that a model shall run on is not there."""


class BrokenDeviceError(RuntimeError):
    """The device cannot be used any more in this process (a CUDA error): the process must end, another may go on."""


class Scorer(Protocol):
    """A loaded model. A scorer is one file of this folder, with a class that has this method and a `load(path, ...)`."""

    def score(self, texts: pa.Array) -> pa.Table:
        """texts: large_string without nulls. One row per text; a number is null where the model has none, never NaN."""
        ...
