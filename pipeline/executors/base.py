"""What the driver asks of an executor.

Invariant: work is named by ids and answered by receipts; no text crosses between driver and workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...scorers.base import BrokenDeviceError
from ...stages.errors import DataError, RecipeError, SetupError, StageError, TamisError
from ..logs import collected_logs, trace_of
from ..plan import Plan
from ..receipts import Receipt
from ..run_unit import run_unit
from ..storage import Storage

KINDS: dict[str, type[TamisError]] = {c.__name__: c for c in (RecipeError, SetupError, DataError, StageError)}
ATTEMPTS = 3  # of a unit whose process dies, per run


@dataclass
class UnitWork:
    """A unit and how far it is: names of the attribute files it has, one per finished step."""

    unit: int
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """Why a unit or item has no receipt. `trace`: the traceback with what was logged before, for log.jsonl."""

    what: str
    kind: str  # name of a TamisError
    message: str
    trace: str = ""

    def error(self) -> TamisError:
        return KINDS.get(self.kind, StageError)(self.message)


@dataclass
class UnitOutcome:
    """What came of a unit in a chain of per-unit steps: receipts by step index, or a failure. A receipt that was made
    now may have `log`, what was logged meanwhile, which the driver takes out."""

    unit: int
    receipts: dict[int, Receipt] = field(default_factory=dict)
    failure: Failure | None = None


class Executor(Protocol):
    """Runs per-unit steps and items. `gpus`: those that its workers can hold. `close` stops what it started."""

    @property
    def gpus(self) -> float: ...

    def units(
        self, plan: Plan, storage: Storage, steps: Sequence[int], work: Sequence[UnitWork]
    ) -> Iterator[UnitOutcome]:
        """Every unit through consecutive per-unit steps; a unit that has a step's file skips that step."""
        ...

    def items(
        self, what: str, function: Callable[..., Receipt], shared: tuple[Any, ...], items: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[Receipt | Failure]:
        """`perform` of every item, in any order. `shared` travels once per worker; `what` is the step or phase."""
        ...

    def close(self) -> None: ...


def advance(plan: Plan, storage: Storage, index: int, outcome: UnitOutcome, files: list[str]) -> None:
    """One step of one unit, errors as data: a bad unit must not stop the others."""
    unit = plan.units[outcome.unit]
    found = perform(f"unit {unit.id}", run_unit, (plan, storage, index, unit, files))
    if isinstance(found, Failure):
        outcome.failure = found
        return
    outcome.receipts[index] = found
    files.append(found["file"])


def perform(what: str, function: Callable[..., Receipt], arguments: tuple[Any, ...]) -> Receipt | Failure:
    """The receipt that the function commits, with what was logged meanwhile as `log` (not committed); or a failure."""
    try:
        with collected_logs() as records:
            receipt = function(*arguments)
    except Exception as error:
        return failure_of(what, error)
    return {**receipt, "log": records} if records else receipt


def failure_of(what: str, error: BaseException) -> Failure:
    trace = trace_of(error)
    if isinstance(error, TamisError):
        message = f"{what}: {error}" if isinstance(error, StageError) else str(error)
        return Failure(what, type(error).__name__, message, trace)
    if isinstance(error, BrokenDeviceError):
        return Failure(what, BrokenDeviceError.__name__, f"{what}: the device was lost: {error}; run it again", trace)
    return Failure(what, "StageError", f"{what}: {error!r}\n{trace}", trace)
