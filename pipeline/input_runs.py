"""Outputs of Tamis as input: which run a file came through, and whether that run's data still stands whole.

Invariant: a run is an input only when it is finished and its files have the sizes that its checksums name; what is
recorded of it (its checksum) tells later whether it is still the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import xxhash

from ..stages.errors import RecipeError
from .finished import CHECKSUMS, MANIFEST, read_manifest
from .storage import Storage, explained, storage_at
from .terminal import place

DATA = "data/"


@dataclass(frozen=True)
class InputRun:
    """A finished run that is read. `output`: its folder as one would type it; `root`: the same, absolute; `plan`: key of
    its plan; `checksum`: the last line of its checksums; `columns`: its data columns, name to Arrow type as text."""

    name: str
    output: str
    root: str
    plan: str
    checksum: str
    columns: dict[str, str] = field(default_factory=dict)


class Runs:
    """Finds the run that a folder or a file belongs to; looks at each folder once."""

    def __init__(self) -> None:
        self._known: dict[str, InputRun | None] = {}
        self._sizes: dict[str, dict[str, int]] = {}

    def at(self, folder: str) -> InputRun | None:
        """The finished run that ended in this folder, if one did. RecipeError where one began and did not end, or where
        what it left does not agree with its checksums."""
        folder = folder.rstrip("/")
        if folder not in self._known:
            with explained(folder):
                self._known[folder] = self._look(storage_at(folder))
        return self._known[folder]

    def above(self, url: str) -> tuple[InputRun, str] | None:
        """The run in whose `data/` this file lies, and the file's path below the run; None for any other file."""
        at = url.rfind(f"/{DATA}")
        while at > 0:
            run = self.at(url[:at])
            if run is not None:
                return run, url[at + 1 :]
            at = url.rfind(f"/{DATA}", 0, at)
        return None

    def check(self, run: InputRun, path: str, size: int) -> None:
        """RecipeError where a file below the run is not the one that it wrote, as far as sizes tell."""
        expected = self._sizes[run.root].get(path)
        if expected is None:
            raise _damaged(run.output, f"{path} is none of its files")
        if expected != size:
            raise _damaged(run.output, f"{path} has {size:,} bytes instead of {expected:,}")

    def data_folder(self, run: InputRun, found: dict[str, int]) -> str:
        """The folder below the run that `files: OUTPUT` means: `data`, or its first set. `found`: size of every file
        there is below `data/`. RecipeError where files of the run are missing."""
        manifest = read_manifest(storage_at(run.root)) or {}
        if manifest["recipe"].get("observe"):
            raise RecipeError(f"{run.output}: is an observing run (observe: true), which writes no documents")
        sets = list(manifest["recipe"].get("write", {}).get("sets") or {})
        folder = f"{DATA}{sets[0]}" if sets else DATA.rstrip("/")
        for path in self._sizes[run.root]:
            if path.startswith(f"{folder}/") and path not in found:
                raise _damaged(run.output, f"{path} is missing")
        return folder

    def _look(self, storage: Storage) -> InputRun | None:
        manifest = read_manifest(storage)
        output = place(storage.root)
        if manifest is None:
            if _began(storage):
                raise RecipeError(
                    f"{output}: a run of Tamis began here and is not finished; type its `tamis run` again first"
                )
            return None
        if not manifest and storage.exists(CHECKSUMS):
            raise _damaged(output, f"{MANIFEST} cannot be read")
        if not {"format", "plan", "recipe", "counts"} <= manifest.keys():
            return None  # another tool's
        checksum, self._sizes[storage.root] = _checksums(storage, output)
        columns = {column["name"]: column["type"] for column in manifest.get("data_columns", ())}
        return InputRun(manifest["name"], output, storage.root, manifest["plan"], checksum, columns)


def _began(storage: Storage) -> bool:
    """Whether the folder holds the log of a run: its first line is an event."""
    try:
        with storage.open("log.jsonl") as file:
            first: Any = json.loads(file.read(1 << 16).partition(b"\n")[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return isinstance(first, dict) and {"run", "event"} <= first.keys()


def _checksums(storage: Storage, output: str) -> tuple[str, dict[str, int]]:
    """The last line of checksums.txt, and the size of every file that it names."""
    try:
        text = storage.read(CHECKSUMS).decode("utf-8")
    except FileNotFoundError as error:
        raise _damaged(output, f"{CHECKSUMS} is missing") from error
    except UnicodeDecodeError as error:
        raise _damaged(output, f"{CHECKSUMS} cannot be read") from error
    body, _, last = text.rstrip("\n").rpartition("\n")
    if xxhash.xxh3_128_hexdigest(f"{body}\n".encode()) != last:
        raise _damaged(output, f"{CHECKSUMS} does not agree with its own last line")
    sizes = {}
    for line in body.splitlines():
        _, size, path = line.split(" ", 2)
        sizes[path] = int(size)
    return last, sizes


def _damaged(output: str, what: str) -> RecipeError:
    return RecipeError(f"{output}: the output is damaged: {what}; see `tamis verify {output}`")
