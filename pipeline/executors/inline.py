"""Everything in this process, one unit after the other: for tests, the debugger, and small inputs."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..plan import Plan
from ..receipts import Receipt
from ..storage import Storage
from .base import Failure, UnitOutcome, UnitWork, advance, perform


class InlineExecutor:
    """See `base.Executor`."""

    @property
    def gpus(self) -> float:
        """By their device files: torch, which would know better, takes seconds to import."""
        return len(glob.glob("/dev/nvidia[0-9]*"))

    def units(
        self, plan: Plan, storage: Storage, steps: Sequence[int], work: Sequence[UnitWork]
    ) -> Iterator[UnitOutcome]:
        for todo in work:
            outcome = UnitOutcome(todo.unit)
            files = list(todo.files)
            for index in steps:
                if len(files) <= index and outcome.failure is None:
                    advance(plan, storage, index, outcome, files)
            yield outcome

    def items(
        self, what: str, function: Callable[..., Receipt], shared: tuple[Any, ...], items: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[Receipt | Failure]:
        for name, arguments in items.items():
            yield perform(name, function, (*shared, *arguments))

    def close(self) -> None:
        """Nothing was started."""
