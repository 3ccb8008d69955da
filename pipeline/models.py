"""The way of a model file to every process that scores with it.

Invariant: a process uses the very bytes that the plan was made for: the fingerprint is compared before a model is used,
and a model that is gone, changed, or was never on that machine is taken from the run's work folder or is an error.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from ..scorers.base import ModelError
from ..scorers.model_files import built, fingerprint
from ..stages.base import Stage
from ..stages.errors import RecipeError, SetupError
from .hub import SCHEME, commit_of, fetch, hub_id
from .receipts import encode
from .storage import Storage, storage_for

if TYPE_CHECKING:
    from .plan import Plan, Step

FILES = "files.json"  # names the files of a published model, and is written last


def find_models(stage: Stage) -> dict[str, str]:
    """Fingerprint of every model of a stage, by its name in the recipe. What lies at a URL or on the Hugging Face hub is
    copied to this machine first. RecipeError where there is none."""
    places = {model: str(path) for model in stage.models if (path := _brought(stage, model))}
    if places:
        stage.place(places)
    try:
        return {model: fingerprint(stage.local(model)) for model in stage.models}
    except ModelError as error:
        raise RecipeError(f"model: {error}") from error


def hub_commits(stage: Stage) -> dict[str, str]:
    """The commit that the hub had for each of a stage's models that come from there."""
    return {model: commit for model in stage.models if (commit := commit_of(stage.local(model)))}


def model_folders(plan: Plan) -> list[str]:
    """Folders of the work folder that `publish_models` fills."""
    return sorted({_folder(mark) for bound in plan.graph.stages for mark in bound.models.values()})


def publish_models(plan: Plan, work: Storage) -> None:
    """Puts every model into the work folder, from where workers on other machines take it."""
    for bound in plan.graph.stages:
        for model, mark in bound.models.items():
            folder, path = _folder(mark), Path(bound.stage.local(model))
            if work.exists(f"{folder}/{FILES}"):
                continue
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            names = [p.relative_to(path).as_posix() if path.is_dir() else p.name for p in files]
            for file, name in zip(files, names, strict=True):
                with file.open("rb") as source, work.writer(f"{folder}/model/{name}") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            work.create(f"{folder}/{FILES}", encode({"files": names, "folder": path.is_dir()}))


def place_models(plan: Plan, work: Storage, step: Step) -> None:
    """Tells the stages of a step, in this process, where their models lie on this machine. SetupError."""
    for part in step.parts:
        bound = plan.stage(part)
        if bound.models:
            bound.stage.place({model: _here(bound.stage, model, mark, work) for model, mark in bound.models.items()})


def _here(stage: Stage, model: str, mark: str, work: Storage) -> str:
    path = stage.local(model)
    try:
        if fingerprint(path) == mark:
            return path
        problem = "has changed since the plan was made"
    except ModelError:
        problem = "is not on this machine"
    if not work.exists(f"{_folder(mark)}/{FILES}"):
        raise SetupError(f"the model {model} {problem}; put it back, or start the run again")
    record = json.loads(work.read(f"{_folder(mark)}/{FILES}"))
    folder = built(f"{mark}-files", lambda half: _fetch(work, f"{_folder(mark)}/model", record["files"], half))
    return str(folder if record["folder"] else folder / record["files"][0])


def _brought(stage: Stage, model: str) -> Path | None:
    """Where a model that is no path of this machine lies now; None for a path."""
    if model.startswith(SCHEME) and not stage.hub_files:
        raise RecipeError(f"model {model}: this stage reads no models of the hub; name a file")
    if stage.hub_files and (wanted := hub_id(model)):
        return fetch(model, wanted, stage.hub_files, code=getattr(stage.config, "remote_code", False))
    return _download(model) if "://" in model else None


def _download(url: str) -> Path:
    """A file or folder at a URL, as it is now, in this machine's cache. RecipeError."""
    storage, name = storage_for(url.rstrip("/"))
    names = [path[len(name) + 1 :] for path in storage.list(name)]  # of a file: the one name ""
    if not names:
        raise RecipeError(f"model {url}: there is no such file")
    versions = [storage.version(f"{name}/{inner}" if inner else name) for inner in names]
    mark = xxhash.xxh3_128_hexdigest(json.dumps([url, names, versions]).encode())
    if names == [""]:
        return built(f"{mark}-url", lambda half: _fetch(storage, "", [name], half)) / name
    return built(f"{mark}-url", lambda half: _fetch(storage, name, names, half))


def _fetch(storage: Storage, folder: str, names: Iterable[str], into: Path) -> None:
    for name in names:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        with storage.open(f"{folder}/{name}" if folder else name) as source, (into / name).open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _folder(mark: str) -> str:
    return f"model-{mark}"
