"""`--replace`: a new result is built below the old one and swapped in through a journal.

Invariant: before the journal stands, the old result is whole; from then on the new one is, because every command that
opens the output completes the swap first. Each move can be repeated, so it does not matter where one was killed.
"""

from __future__ import annotations

import contextlib
import json
import os

from ..stages.errors import RecipeError
from .lock import Lock
from .receipts import run_identity
from .storage import Storage, storage_at

NEXT, OLD, JOURNAL, PLAN = ".next", ".old", ".replace.json", ".plan"
MANIFEST = "manifest.json"
PARTS = ("data", "ledger", "quarantine", "README.md", "report.html", "checksums.txt", MANIFEST)


def next_storage(output: Storage, plan: str) -> Storage:
    """The folder in which the result of `plan` is built; what an attempt with another plan left there is removed.

    RecipeError on an object store, which cannot rename.
    """
    if not output.local:
        raise RecipeError(f"{output.root}: --replace needs a file system that renames; write to another --output")
    storage = storage_at(output.full(NEXT))
    with contextlib.suppress(FileNotFoundError):
        if storage.read(PLAN).decode() != plan:
            output.remove_tree(NEXT)
    storage.write(PLAN, plan.encode())
    return storage


def replace_output(output: Storage) -> None:
    """Puts the finished result below `.next` in the place of the old one. The caller holds the lock."""
    output.write(JOURNAL, json.dumps({"parts": [p for p in PARTS if output.exists(f"{NEXT}/{p}")]}).encode())
    _complete(output)


def settle(output: Storage) -> None:
    """Completes a replacement that was killed, if there is one. SetupError while its driver lives."""
    if output.local and output.exists(JOURNAL):
        with Lock(output, run_identity()):
            if output.exists(JOURNAL):  # another command may have been quicker
                _complete(output)


def _complete(output: Storage) -> None:
    parts = json.loads(output.read(JOURNAL))["parts"]
    # The old manifest goes first and the new one comes last: in between the folder holds no finished run.
    for part in reversed(PARTS):
        if output.exists(part) and (part not in parts or output.exists(f"{NEXT}/{part}")):
            _move(output, part, f"{OLD}/{part}")
    for part in parts:
        if output.exists(f"{NEXT}/{part}"):
            _move(output, f"{NEXT}/{part}", part)
    _sync(output.root)
    output.remove_tree(NEXT)
    output.remove_tree(OLD)
    output.remove(JOURNAL)


def _move(output: Storage, source: str, target: str) -> None:
    os.makedirs(os.path.dirname(output.full(target)), exist_ok=True)
    os.rename(output.full(source), output.full(target))


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
