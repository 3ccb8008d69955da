"""Model files on this machine: what identifies them, where they are copied to, and what is built from them once.

Invariant: a model is its bytes. Two files of equal content have one fingerprint, wherever they lie; what is built from
a model lies under its fingerprint and appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import xxhash
from filelock import FileLock

from .base import ModelError

CHUNK = 8 << 20  # bytes read at a time


def cache_folder() -> Path:
    """Where this machine keeps what it builds from models: TAMIS_CACHE, else the user's cache folder."""
    return Path(os.environ.get("TAMIS_CACHE") or platformdirs.user_cache_dir("tamis")) / "models"


def fingerprint(path: str | Path) -> str:
    """32 hex digits over the content of a file, or over names and contents of all files of a folder. Remembered by path,
    size and modification time, so that a large model is read once. ModelError where there is none."""
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    try:
        facts = [(p.relative_to(path).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    if not facts:
        raise ModelError(f"{path}: an empty folder, no model")
    known = cache_folder() / "fingerprints" / f"{xxhash.xxh3_128_hexdigest(str(path.absolute()).encode())}.json"
    written = json.dumps(facts)
    with contextlib.suppress(OSError, ValueError, KeyError):
        found = json.loads(known.read_text())
        if found["files"] == written:
            return found["fingerprint"]
    total = xxhash.xxh3_128()
    for (name, size, _), file in zip(facts, files, strict=True):
        if path.is_dir():
            total.update(f"{name}\0{size}\0".encode())
        try:
            with file.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    total.update(chunk)
        except OSError as error:
            raise ModelError(f"{file}: {error.strerror or error}") from error
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the reading again
        known.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=known.parent, delete=False) as stream:
            json.dump({"files": written, "fingerprint": total.hexdigest()}, stream)
        os.replace(stream.name, known)
    return total.hexdigest()


def built(name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` (a fingerprint and what was made of it, with the format's number) of this machine's cache, filled
    by `build(empty folder)` if it is not there. Of several processes one builds and the others wait; a build that fails
    or is killed leaves nothing behind that a later one would take for whole."""
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return folder
        half = folder.with_name(f"{folder.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        try:
            build(half)
            os.replace(half, folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return folder


def packaged(package: str, file: str) -> Path | None:
    """A data file of an installed package, which is not imported; None where the package or the file is missing."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    return None
