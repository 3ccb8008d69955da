"""`tamis clean`: what lies in an output's work folder that nobody needs any more, and its removal.

Invariant: nothing is removed that a finished or begun run of this output, or any run of another output, has claimed;
and nothing at all while a driver holds the output. A work folder is only added to elsewhere; this alone removes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..stages.errors import SetupError
from .claims import FOLDER as CLAIMS
from .claims import Claim, read_claims, write_claim
from .finished import read_manifest
from .lock import Lock, holder
from .receipts import Receipts, run_identity
from .replace import NEXT
from .signatures import signature_folder
from .storage import Storage, storage_at
from .terminal import columns, place, plural, size, visible

RECORDS = ("listing-", "recipe-")
KINDS = {  # of removals, in the order in which they are told
    "work": "all work of this output",
    "old": "work of earlier recipes or inputs of this output, or that its recipe does not keep",
    "killed": "left by work that was killed",
    "cache": "compiled kernels of other versions",
}


@dataclass(frozen=True)
class Removal:
    """A file, or a folder with all that is in it. `kind`: see KINDS, or `orphan`."""

    storage: Storage
    path: str
    kind: str
    bytes: int
    files: int
    tree: bool

    def remove(self) -> None:
        if self.tree:
            self.storage.remove_tree(self.path)
        else:
            self.storage.remove(self.path)


@dataclass
class Found:
    """What may go. `kept`: bytes of work that stay. `notes`: what the output can no longer do when it is gone."""

    removals: list[Removal] = field(default_factory=list)
    orphans: list[Removal] = field(default_factory=list)
    kept: int = 0
    notes: list[str] = field(default_factory=list)


def clean(output: str, *, work: bool = False, orphans: bool = False, yes: bool = False) -> str:
    """Tells what can go, and removes it if `yes`. `work`: everything that this output alone uses. `orphans`: also what
    no recorded run uses. SetupError while a driver holds the output, or where there is none."""
    storage = storage_at(output)
    name = place(storage.root)
    if not any(storage.exists(path) for path in ("manifest.json", "log.jsonl", "work")):
        raise SetupError(f"{name}: there is no output of Tamis here; is the path right?")
    if not yes:
        if held := holder(storage):
            raise SetupError(f"{name}: a run is going on ({held}); wait for it, or stop it")
        return _text(name, find(storage, work=work, orphans=orphans), done=False)
    with Lock(storage, run_identity()):
        if not work:
            _claim_signatures(storage)
        found = find(storage, work=work, orphans=orphans)
        for removal in found.removals:
            removal.remove()
    return _text(name, found, done=True)


def find(storage: Storage, *, work: bool = False, orphans: bool = False) -> Found:
    """What of an output's work nobody needs. Reads only."""
    history = _starts(storage)
    manifest = read_manifest(storage) or {}
    keep, signatures = _kept(manifest, history)
    last = history[-1]["plan"] if history else None
    everything = work or keep == "none"  # a finished run that keeps nothing has none left, had nothing killed it
    current = set() if everything else {plan for plan in (manifest.get("plan"), last) if plan}
    found = Found()
    for place_of_work in _work_folders(storage, history, manifest):
        _find_in(storage, place_of_work, current, found, everything, signatures)
    for folder in ("data", "ledger", "quarantine", NEXT):
        found.removals += _temporary(storage, folder)
    if work:
        if storage.local and os.path.isdir(storage.full(NEXT)):
            found.removals.append(_tree(storage, NEXT, "killed"))
        found.notes.append("without it, other runs can take nothing from this output (`against`)")
        if not manifest:
            found.notes.append("the run of this output is not finished: it would begin again")
    if orphans:
        found.removals, found.orphans = [*found.removals, *found.orphans], []
    return found


def remove_work(storage: Storage, keep: str) -> None:
    """Removes all work that this output, which is finished, alone uses; where it keeps signatures, all but these. The
    caller holds the lock. After a kill in between, the next call removes the rest."""
    _claim_signatures(storage)
    for removal in _given_up(storage, keep):
        removal.remove()


def work_is_left(storage: Storage, keep: str) -> bool:
    """Whether `remove_work` would have something to do. Reads only."""
    return bool(_given_up(storage, keep))


def _given_up(storage: Storage, keep: str) -> list[Removal]:
    found = find(storage, work=keep == "none")
    return [removal for removal in found.removals if removal.kind in ("work", "old")]


def _kept(manifest: Mapping[str, Any], history: Sequence[dict[str, str]]) -> tuple[str, str]:
    """What the finished run keeps of its work, 'all' as long as a later run is under way; the folder of its signatures,
    '' where these are not what it keeps."""
    if not manifest or (history and history[-1]["plan"] != manifest["plan"]):
        return "all", ""
    keep = manifest["recipe"].get("keep_work", "all")
    return keep, signature_folder(manifest["plan"]) if keep == "signatures" else ""


def _claim_signatures(storage: Storage) -> None:
    """From now on a finished run that keeps its signatures needs these alone."""
    history, manifest = _starts(storage), read_manifest(storage) or {}
    _, folder = _kept(manifest, history)
    for work in _work_folders(storage, history, manifest) if folder else ():
        for claim in _own(storage, work, read_claims(work)):
            if folder in claim.folders and not claim.replaces:
                write_claim(work, claim.alone(folder))


def _starts(storage: Storage) -> list[dict[str, str]]:
    """The `start` events of the output's log: which plans it ran, and in which work folder."""
    try:
        lines = storage.read("log.jsonl").decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        if '"event": "start"' in line:
            try:
                found.append(json.loads(line))
            except ValueError:  # a line that a full disk cut off
                continue
    return found


def _work_folders(storage: Storage, history: Sequence[dict[str, str]], manifest: dict) -> list[Storage]:
    named = [event.get("work") for event in history] + [manifest.get("recipe", {}).get("work")]
    roots = {storage_at(root).root: None for root in (f"{storage.root}/work", *filter(None, named))}
    return [work for work in map(Storage, roots) if work.list("")]


def _own(storage: Storage, work: Storage, claims: Sequence[Claim]) -> list[Claim]:
    """Those of this output."""
    below = work.root == f"{storage.root}/work"
    return [c for c in claims if (below if c.below else c.output == storage.root)]


def _find_in(
    storage: Storage, work: Storage, current: set[str], found: Found, everything: bool, signatures: str
) -> None:
    """Adds what can go of one work folder. `current`: plans of this output that need theirs; the one that claims the
    folder `signatures` needs nothing else."""
    claims = read_claims(work)
    below = work.root == f"{storage.root}/work"
    own = _own(storage, work, claims)
    replaced = {c.replaces for c in own}
    held = [c for c in own if c.plan in current and c.writing not in replaced]
    held = [c.alone(signatures) if signatures in c.folders and not c.replaces else c for c in held]
    needed = [c for c in claims if c not in own or c in held]
    free = [c for c in own if c not in needed]
    sizes = work.list("")
    kind = "work" if everything else "old"
    if everything and below and not needed:
        if sizes or (work.local and os.path.isdir(work.root)):
            found.removals.append(Removal(work, "", kind, sum(sizes.values()), len(sizes), tree=True))
        return
    for top, files in _by_top(sizes).items():
        entry = Removal(work, top, kind, sum(files.values()), len(files), tree=files.keys() != {top})
        if top == CLAIMS or top == "packs.json":
            continue
        if _uses(needed, top):
            found.kept += entry.bytes
            if not _uses([c for c in claims if c not in own], top):
                found.removals += _killed(work, top, files)
        elif _uses(free, top):
            found.removals.append(entry)
        else:
            found.orphans.append(Removal(work, top, "orphan", entry.bytes, entry.files, entry.tree))
    found.removals += [Removal(work, c.path, kind, sizes.get(c.path, 0), 1, tree=False) for c in free]


def _by_top(sizes: dict[str, int]) -> dict[str, dict[str, int]]:
    """Files by the first part of their path."""
    found: dict[str, dict[str, int]] = {}
    for path, count in sizes.items():
        found.setdefault(path.partition("/")[0], {})[path] = count
    return found


def _uses(claims: Iterable[Claim], top: str) -> bool:
    """Whether one of the claims needs this folder or record."""
    for prefix in RECORDS:
        if top.startswith(prefix) and top.endswith(".json"):
            return any(c.plan == top[len(prefix) : -len(".json")] for c in claims)
    return any(c.holds(top) for c in claims)


def _killed(work: Storage, folder: str, files: dict[str, int]) -> Iterator[Removal]:
    """In a folder that stays: attempts that lost or never committed, their marks, temporary files."""
    held: dict[str, set[str]] = {}
    for path, count in files.items():
        inner, _, name = path.rpartition("/")
        if "/attempts/" in path:
            yield Removal(work, path, "killed", count, 1, tree=False)
        elif name.endswith(".parquet"):
            if inner not in held:
                held[inner] = {r["file"] for r in Receipts(work, inner).load().values() if r.get("file")}
            if name not in held[inner]:
                yield Removal(work, path, "killed", count, 1, tree=False)
    yield from _temporary(work, folder)


def _temporary(storage: Storage, folder: str) -> Iterator[Removal]:
    """Files of writers that were killed, by our name for such files; object stores have none."""
    for parent, _, names in os.walk(storage.full(folder)) if storage.local else ():
        for name in sorted(names):
            if name.startswith(".") and name.endswith(".tmp"):
                full = os.path.join(parent, name)
                yield Removal(
                    storage, os.path.relpath(full, storage.root), "killed", os.stat(full).st_size, 1, tree=False
                )


def _tree(storage: Storage, path: str, kind: str) -> Removal:
    sizes = [file.stat().st_size for file in Path(storage.full(path)).rglob("*") if file.is_file()]
    return Removal(storage, path, kind, sum(sizes), len(sizes), tree=True)


# --- compiled kernels ---------------------------------------------------------------------------------------------


def old_caches() -> list[Removal]:
    """Folders of compiled kernels in the user's cache that this version does not use. Another installed version that
    does would compile again."""
    import platformdirs

    from ..kernels import _sources

    base = platformdirs.user_cache_dir("tamis")
    used = {os.path.realpath(os.environ["NUMBA_CACHE_DIR"]), os.path.realpath(f"{base}/numba-{_sources()}")}
    old = [p for p in sorted(Path(base).glob("numba*")) if p.is_dir() and os.path.realpath(p) not in used]
    return [_tree(storage_at(base), path.name, "cache") for path in old]


def clean_caches(*, yes: bool = False) -> str:
    """Tells which caches can go, and removes them if `yes`."""
    found = Found(old_caches())
    if yes:
        for removal in found.removals:
            removal.remove()
    return _text("caches", found, done=yes)


# --- words --------------------------------------------------------------------------------------------------------


def _text(name: str, found: Found, *, done: bool) -> str:
    lines = []
    for kind, title in (*KINDS.items(), ("orphan", "of no recorded run")):
        lines += _section([r for r in found.removals if r.kind == kind], title)
    total = sum(r.bytes for r in found.removals)
    if found.orphans:
        lines += _section(found.orphans, "of no recorded run; stays unless you add --orphans")
    if not found.removals:
        lines.append(f"{name}: nothing to remove")
    elif done:
        lines.append(f"{name}: removed {size(total)}")
    else:
        lines += found.notes
        lines.append(f"{name}: {size(total)} can go; add --yes to remove them")
    if found.kept:
        lines.append(f"{size(found.kept)} of work are in use and stay")
    return "".join(f"{line}\n" for line in lines)


def _section(removals: Sequence[Removal], title: str) -> Iterator[str]:
    if not removals:
        return
    yield f"{title}: {size(sum(r.bytes for r in removals))}"
    rows = [
        (f"  {visible(place(r.storage.url(r.path)))}/", size(r.bytes), plural(r.files, "file"))
        for r in removals
        if r.tree
    ]
    single = [r for r in removals if not r.tree]
    if single:
        what = f"  and {plural(len(single), 'single file')}" if rows else f"  {plural(len(single), 'single file')}"
        rows.append((what, size(sum(r.bytes for r in single)), ""))
    yield from columns(rows, right=(1, 2))
