"""Which run uses which folders of a work folder, so that `tamis clean` can tell what nobody needs.

Invariant: a run's claim stands before its first folder does. A work folder may be shared by the runs of several outputs,
with one version of Tamis or another: a claim names folders, so nothing has to be planned again to understand it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from .receipts import encode
from .storage import Storage

FOLDER = "claims"
ALONE = "signatures-"


@dataclass(frozen=True)
class Claim:
    """One plan of one output. `folders`: the steps' folders in the work folder. `writing`: what the names of the folders
    of the tasks that write this output end with. `below`: the work folder is the output's own, without `work:`, and goes
    where the output is moved or copied."""

    plan: str
    output: str  # absolute path or URL
    folders: tuple[str, ...]
    writing: str
    below: bool

    def holds(self, folder: str) -> bool:
        return folder in self.folders or folder.endswith(f"-{self.writing}")

    @property
    def replaces(self) -> str:
        """Of a run that keeps its signatures alone: `writing` of the claim that it had until it was finished, else ''."""
        return self.writing.removeprefix(ALONE) if self.writing.startswith(ALONE) else ""

    def alone(self, folder: str) -> Claim:
        """What remains of this claim when the run needs one folder only."""
        return replace(self, folders=(folder,), writing=f"{ALONE}{self.writing}")

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.writing}.json"


def claim(work: Storage, plan: str, output: str, folders: Sequence[str], writing: str, *, below: bool) -> None:
    """Says, before the first step, what this run will use."""
    write_claim(work, Claim(plan, output, tuple(folders), writing, below))


def write_claim(work: Storage, made: Claim) -> None:
    work.write(made.path, encode(asdict(made)))


def read_claims(work: Storage) -> list[Claim]:
    """All that are recorded, ordered by path."""
    found = []
    for path in work.list(FOLDER):
        record = json.loads(work.read(path))
        found.append(Claim(**{**record, "folders": tuple(record["folders"])}))
    return found
