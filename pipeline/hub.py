"""Models of the Hugging Face hub that a recipe names: `org/name`, `org/name@revision`, or with `hf://` in front.

Invariant: what a name gives is a folder of exactly the files that may be read (never pickled weights), every one equal
to the checksum that the hub's cache holds it under; where the hub cannot be asked, it is what the cache has, or an error.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

from ..scorers.model_files import CHUNK, built
from ..stages.errors import RecipeError, SetupError

SCHEME = "hf://"
CODE = ("*.py",)
# folders of a repository hold other forms of the same model; consolidated weights are those of the shards once more
NEVER = ("*/*", "consolidated*")
# a path that ends so is a file that is missing, not a repository
_FILE_ENDS = (".arpa", ".bin", ".ftz", ".gguf", ".gz", ".json", ".model", ".pt", ".safetensors", ".txt", ".vec", ".zst")
_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)


class HubId(NamedTuple):
    """A repository and, where the recipe says one, the branch, tag or commit."""

    repo: str
    revision: str | None


def hub_id(model: str) -> HubId | None:
    """What a recipe's model means on the hub; None where it is a path. A path that exists is never an id, and neither is
    one below a folder that exists. RecipeError for `hf://` with something that no id can be."""
    marked = model.startswith(SCHEME)
    found = _ID.fullmatch(model.removeprefix(SCHEME).rstrip("/") if marked else model)
    if marked and not found:
        raise RecipeError(f"model {model}: is no name of the hub; they are hf://org/name or hf://org/name@revision")
    if not found:
        return None
    if not marked and (os.path.exists(model) or os.path.isdir(model.split("/")[0]) or model.endswith(_FILE_ENDS)):
        return None
    return HubId(found["repo"], found["revision"])


def fetch(model: str, wanted: HubId, files: Sequence[str], *, code: bool = False) -> Path:
    """The folder with the files of a model, below this machine's cache; its last part is the model's name.

    files: patterns of the names of those that are wanted. code: also the Python files, for models that run code of their
    own. Of several processes one fetches and the others wait (the library locks each file). RecipeError where the hub
    knows no such model or revision, or has it without safetensors; SetupError where it cannot be asked and the cache has
    nothing."""
    patterns = (*files, *CODE) if code else tuple(files)
    snapshot = _snapshot(model, wanted, patterns)
    found = {path.name: path for path in sorted(snapshot.iterdir()) if path.is_file() and _chosen(path.name, patterns)}
    if not any(name.endswith(".safetensors") for name in found) and "*.safetensors" in patterns:
        raise RecipeError(
            f"model {model}: the repository has no .safetensors file; weights of other forms may run code when they are "
            "opened and are not fetched. Convert it once where you trust it: from_pretrained(...)"
            ".save_pretrained(FOLDER), the tokenizer likewise, and name the folder"
        )
    if not found:
        raise RecipeError(f"model {model}: the repository has none of {', '.join(patterns)}")
    name = wanted.repo.rpartition("/")[2]
    commit = snapshot.name
    digests = sorted((file, _digest(path)) for file, path in found.items())
    mark = xxhash.xxh3_64_hexdigest(repr((wanted.repo, digests)).encode())
    return built(f"{commit}-{mark}-hub", lambda half: _fill(half / name, found)) / name


def commit_of(path: str | Path) -> str | None:
    """The commit that a folder of `fetch` holds; None for any other path."""
    parts = Path(path).parent.name.split("-")
    return parts[0] if len(parts) == 3 and parts[2] == "hub" else None


def _chosen(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in patterns) and not any(fnmatch.fnmatchcase(name, p) for p in NEVER)


def _snapshot(model: str, wanted: HubId, patterns: Sequence[str]) -> Path:
    """The hub library's own folder of a commit, which may hold more than was asked for."""
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.utils import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise SetupError(
            f"the model {model} is no path here, and the Hugging Face hub needs a library: pip install 'tamis[lm]'"
        ) from error
    try:
        return Path(
            snapshot_download(
                wanted.repo, revision=wanted.revision, allow_patterns=list(patterns), ignore_patterns=list(NEVER)
            )
        )
    except HFValidationError as error:
        raise RecipeError(f"model {model}: no such path, and no name of the hub: {error}") from error
    except GatedRepoError as error:
        raise SetupError(
            f"the model {model} is given to people who have agreed to its terms: agree on its page of the hub, then set "
            "HF_TOKEN or run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise RecipeError(
            f"model {model}: there is no such path here, and the hub shows no such repository; for a private one set "
            "HF_TOKEN or run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise RecipeError(f"model {model}: the repository has no revision {wanted.revision}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        off = constants.HF_HUB_OFFLINE
        tried = "HF_HUB_OFFLINE is set" if off else f"the hub at {constants.ENDPOINT} could not be asked"
        way = "unset HF_HUB_OFFLINE" if off else "give this machine a way to it"
        told = "" if off else f" ({' '.join(str(error.__cause__ or error).split())[:200]})"
        raise SetupError(
            f"the model {model} is no path here, its cache {constants.HF_HUB_CACHE} does not hold all of it, and {tried}"
            f"{told}; put its files into a folder and name that, or {way}"
        ) from error
    except OSError as error:
        raise SetupError(f"the model {model}: it could not be fetched: {' '.join(str(error).split())[:300]}") from error


def _digest(path: Path) -> str:
    """The checksum under which the cache holds a file: sha256 of a large one, git's sha1 of a small one. Where the cache
    has no links (Windows), its size and time."""
    if path.is_symlink():
        return Path(os.readlink(path)).name
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _fill(folder: Path, found: dict[str, Path]) -> None:
    """Links (copies, on another disk) of the chosen files, each read once against its checksum."""
    folder.mkdir()
    for name, path in found.items():
        whole = path.resolve()
        if not _sound(whole, _digest(path)):
            raise SetupError(
                f"{whole}: is not what the hub gave (its checksum differs): remove it and {path}, and run again"
            )
        try:
            os.link(whole, folder / name)
        except OSError:
            shutil.copyfile(whole, folder / name)


def _sound(path: Path, digest: str) -> bool:
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest):
        return True  # no checksum is known
    total = hashlib.sha256() if len(digest) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            total.update(chunk)
    return total.hexdigest() == digest
