"""What `tamis doctor` tries where an output is to be: create-if-absent, replace, hard links, sync, free space.

Invariant: everything it writes lies under one name of its own, `.tamis-doctor-...`, and is removed, also where a check fails.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..stages.errors import TamisError
from .doctor import Check
from .lock import holder
from .storage import Storage, storage_at
from .terminal import place, size

FREE = 10e9  # bytes: below it is worth a word
TIGHT = 500e6
SLOW_SYNC = 0.5  # seconds
SKEW = 5.0  # seconds between this clock and that of the file system
NETWORK = ("nfs", "cifs", "smb", "fuse", "lustre", "gpfs", "ceph", "gluster", "beegfs", "9p", "virtiofs")


def storage_checks(where: str | None) -> Iterator[Check]:
    """`where`: an output folder or a URL; by default the working folder."""
    storage = storage_at(where or ".")
    if storage.local:
        yield from _local(storage)
    else:
        yield from _remote(storage)
    if where is not None:
        yield from _output(storage)


def _local(storage: Storage) -> Iterator[Check]:
    folder = Path(storage.root)
    while not folder.is_dir():
        folder = folder.parent
    name = place(str(folder))
    free = shutil.disk_usage(folder).free
    state = "ok" if free >= FREE else "warn" if free >= TIGHT else "fail"
    remedy = "" if state == "ok" else "an output takes about the size of its input, and its work a tenth of that"
    yield Check("disk", state, f"{size(free)} free at {name}", remedy)
    trial = folder / f".tamis-doctor-{uuid.uuid4().hex[:12]}"
    try:
        trial.mkdir()
    except OSError as error:
        yield Check("file system", "fail", f"{name} cannot be written: {error.strerror}", "choose another --output")
        return
    try:
        yield from _file_system(trial, folder)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _file_system(trial: Path, folder: Path) -> Iterator[Check]:
    storage = Storage(str(trial.absolute()))
    kind = file_system_kind(str(folder.resolve()))
    far = kind.startswith(NETWORK)
    lacks = _lacks(storage)
    if lacks:
        remedy = "keep outputs elsewhere: two drivers could take each other's commits"
        yield Check("file system", "fail", f"{kind}: {'; '.join(lacks)}", remedy)
        return
    began = time.perf_counter()
    storage.write("synced", b"x" * 4096)
    took = time.perf_counter() - began
    links = _links(trial)
    found = f"{kind}: creates only if absent, replaces whole files{', links' if links else ''}; a sync takes {took * 1e3:.1f} ms"
    if not links:
        remedy = "it has no hard links: a power cut can leave an empty receipt, which the next run makes again"
        yield Check("file system", "warn", found, remedy)
    elif took > SLOW_SYNC:
        yield Check("file system", "warn", found, "every commit waits for a sync: larger units (unit_size) need fewer")
    else:
        remedy = "a network file system: keep `work:` on a local disk where one machine runs alone" if far else ""
        yield Check("file system", "ok", found, remedy)
    skew = (trial / "synced").stat().st_mtime - time.time()
    if abs(skew) > SKEW:
        remedy = "set both clocks: the heartbeat of a lock tells a dead driver by its age"
        yield Check("clock of files", "warn", f"{skew:+.0f} s from this machine's", remedy)


def _lacks(storage: Storage) -> list[str]:
    """What a storage does not do that commits need; works on file systems and object stores."""
    wrong = []
    if not storage.create("once", b"first"):
        wrong.append("a new file was said to exist")
    if storage.create("once", b"second") or storage.read("once") != b"first":
        wrong.append("a second writer replaced a file that was to be created only if absent")
    storage.write("replaced", b"old")
    storage.write("replaced", b"new")
    if storage.read("replaced") != b"new" or storage.list("") != {"once": 5, "replaced": 3}:
        wrong.append("what was written is not what is read or listed")
    storage.remove("replaced")
    if "replaced" in storage.list(""):
        wrong.append("a removed file is still listed")
    return wrong


def _links(trial: Path) -> bool:
    (trial / "linked").write_bytes(b"")
    try:
        os.link(trial / "linked", trial / "link")
    except OSError:
        return False
    return True


def file_system_kind(path: str, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds a path, such as ext4 or nfs4; 'unknown' where the system does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return "unknown"
    best = ("", "unknown")
    for line in lines:
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ").rstrip("/")
        if f"{path}/".startswith(f"{point}/") and len(point) >= len(best[0]):
            best = (point, words[2])
    return best[1]


def _remote(storage: Storage) -> Iterator[Check]:
    trial = Storage(f"{storage.root}/.tamis-doctor-{uuid.uuid4().hex[:12]}")
    began = time.perf_counter()
    try:
        lacks = _lacks(trial)
    except (TamisError, OSError) as error:
        yield Check("object store", "fail", str(error), "check the URL, credentials and endpoint (AWS_ENDPOINT_URL)")
        return
    finally:
        _clear(trial)
    took = (time.perf_counter() - began) / 10
    if lacks:
        remedy = "use a store with conditional writes (If-None-Match), or two drivers could take each other's commits"
        yield Check("object store", "fail", f"{storage.root}: {'; '.join(lacks)}", remedy)
    else:
        found = f"{storage.root}: creates only if absent, reads, lists, removes; about {took * 1e3:.0f} ms a request"
        yield Check("object store", "ok", found)


def _clear(trial: Storage) -> None:
    try:
        trial.remove_tree("")
    except (TamisError, OSError):
        return  # what could not be written cannot be removed


def _output(storage: Storage) -> Iterator[Check]:
    """What is there already."""
    from .finished import read_manifest

    try:
        held, manifest = holder(storage), read_manifest(storage)
        begun = manifest is None and storage.exists("log.jsonl")
    except (TamisError, OSError):
        return  # told above
    if held:
        yield Check("output", "ok", f"a run holds it: {held}")
    elif manifest is not None:
        yield Check("output", "ok", f"holds the finished run {manifest.get('name')}")
    else:
        yield Check("output", "ok", "holds a run that is not finished" if begun else "new")
