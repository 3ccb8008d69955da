"""`tamis doctor`: what this machine has, and whether Tamis works here.

Invariant: it looks and tries, and leaves nothing behind; it opens no network connection that was not asked for by a URL
or RAY_ADDRESS. A check that breaks is a finding of its own, never the end of the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from .terminal import visible

NAME_WIDTH = 14
State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, what was found, and what to do where it is not well."""

    name: str
    state: State
    found: str
    remedy: str = ""

    @property
    def lines(self) -> list[str]:
        """For a terminal: state, name and finding, and below what to do."""
        told = [f"{self.state:<4}  {self.name:<{NAME_WIDTH}}  {visible(self.found)}"]
        return told + ([f"      -> {visible(self.remedy)}"] if self.remedy else [])


def diagnose(place: str | None = None) -> Iterator[Check]:
    """All checks, one after the other. `place`: an output folder or a URL, whose storage is tried; by default the
    working folder."""
    from .doctor_machine import MACHINE
    from .doctor_packages import PACKAGES
    from .doctor_storage import storage_checks

    for name, check in (*PACKAGES, *MACHINE, ("storage", lambda: storage_checks(place))):
        yield from attempt(name, check)


def attempt(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The findings of a check; where it breaks, that is one."""
    try:
        yield from check()
    except Exception as error:
        yield Check(name, "fail", f"the check itself broke: {error!r}", "please report this as a bug of Tamis")


def sound(checks: Sequence[Check]) -> bool:
    """Whether nothing failed; a warning is no failure."""
    return all(check.state != "fail" for check in checks)


def conclusion(checks: Sequence[Check]) -> str:
    bad, odd = (sum(check.state == state for check in checks) for state in ("fail", "warn"))
    return f"{bad} failed, {odd} to look at" if bad or odd else "Tamis works here"


def as_json(checks: Sequence[Check]) -> str:
    return json.dumps({"ok": sound(checks), "checks": [asdict(check) for check in checks]}, indent=1)
