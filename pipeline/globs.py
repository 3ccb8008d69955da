"""Which files a source of the recipe means: globs, folders, path columns, and the name that each file gets.

Invariant: a file's name (its `source_file`) is its path below the source's root, so the same tree read from another
place, or from an object store, gives the same names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..stages.errors import RecipeError
from .input_runs import InputRun, Runs
from .storage import explained, version_of

if TYPE_CHECKING:
    from .listing import Source

FORMATS = {".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl"}
COMPRESSED = (".gz", ".zst")
NULL_FOLDERS = {"__null__", "__HIVE_DEFAULT_PARTITION__"}

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_WILD = re.compile(r"[*?\[{]")


@dataclass(frozen=True)
class Found:
    """A file of a source. `below`: path below the root; `path_columns`: values of `{dump}`; `folders`: key=value folders;
    `run`: the run of Tamis that wrote it, `run_file`: its path below that run."""

    url: str
    below: str
    size: int
    version: str
    path_columns: dict[str, str]
    folders: dict[str, str | None]
    run: InputRun | None = None
    run_file: str | None = None


def find_files(source: Source, where: str, runs: Runs | None = None) -> list[Found]:
    """All files of a source, unsorted, each once. `where` names the source in messages. A folder that holds an output of
    Tamis means its documents. RecipeError where a pattern matches nothing, is malformed, or a file lies outside the
    source's root, and where an output is unfinished or damaged."""
    runs = runs or Runs()
    patterns = [source.files] if isinstance(source.files, str) else list(source.files)
    if not patterns:
        raise RecipeError(f"{where}: files: the list is empty")
    matches: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
    roots: list[str] = []
    for pattern in patterns:
        with explained(pattern):
            fs, path = _connect(pattern, where)
            roots.append(_url(fs, _fixed_folder(fs, path)))
            run = None if _WILD.search(path) or not fs.isdir(path) else runs.at(_url(fs, path.rstrip("/")))
            if run is not None:
                path = f"{path.rstrip('/')}/{runs.data_folder(run, _below(fs, path.rstrip('/')))}"
            found = {_url(fs, name): (info, values) for name, info, values in _expand(fs, path, where)}
        if not found:
            raise RecipeError(f"{where}: files: {pattern}: {'that run kept nothing' if run else 'nothing matches'}")
        matches.update(found)
    if source.root is not None:
        fs, path = _connect(source.root, where)
        root = _url(fs, path.rstrip("/"))
    else:
        root = _common_folder(roots, where)
    return [_found(url, root, info, values, where, runs) for url, (info, values) in matches.items()]


def format_of(url: str, source: Source, where: str) -> str:
    """`parquet` or `jsonl`, by the recipe or the ending of the name. RecipeError where neither says."""
    if source.format is not None:
        return source.format
    plain, ending = os.path.splitext(url)
    if ending in COMPRESSED:
        ending = os.path.splitext(plain)[1]
    kind = FORMATS.get(ending)
    if kind is None or (kind == "parquet" and url.endswith(COMPRESSED)):
        raise RecipeError(f"{where}: {url}: cannot tell the format by its name; add format: parquet or format: jsonl")
    return kind


def _found(url: str, root: str, info: dict[str, Any], values: dict[str, str], where: str, runs: Runs) -> Found:
    if not url.startswith(root.rstrip("/") + "/"):
        raise RecipeError(f"{where}: {url} does not lie below root: {root}")
    below = url[len(root.rstrip("/")) + 1 :]
    folders: dict[str, str | None] = {}
    for folder in below.split("/")[:-1]:
        key, equals, value = folder.partition("=")
        if equals and key:
            folders[key] = None if value in NULL_FOLDERS else unquote(value)
    if "://" in url:
        size, version = int(info["size"]), version_of(info)
    else:
        stat = os.stat(url)  # fsspec gives the time as a float, which loses the nanoseconds
        size, version = stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}"
    run, run_file = runs.above(url) or (None, None)
    if run is not None and run_file is not None:
        runs.check(run, run_file, size)
    return Found(url, below, size, version, values, folders, run, run_file)


def _below(fs: Any, folder: str) -> dict[str, int]:
    """Size of every file below `data/` of a run, by its path below the run."""
    if not fs.isdir(f"{folder}/data"):
        return {}
    found = fs.find(f"{folder}/data", detail=True, withdirs=False)
    return {name[len(folder) + 1 :]: int(info["size"]) for name, info in found.items()}


def _connect(pattern: str, where: str) -> tuple[Any, str]:
    """The file system and the absolute path there, wildcards and variables as written."""
    import fsspec

    pattern = os.path.expanduser(pattern.removeprefix("file://"))
    try:
        fs, _ = fsspec.url_to_fs(pattern.partition("{")[0] or ".", use_listings_cache=False)
    except (ImportError, ValueError) as error:
        hint = "; pip install 'tamis[s3]'" if pattern.startswith(("s3://", "s3a://")) else ""
        raise RecipeError(f"{where}: files: {pattern}: {error}{hint}") from error
    return fs, os.path.abspath(pattern) if "://" not in pattern else fs._strip_protocol(pattern)


def _url(fs: Any, path: str) -> str:
    return path if "file" in _protocols(fs) else fs.unstrip_protocol(path)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _fixed_folder(fs: Any, path: str) -> str:
    """The longest folder before the first wildcard; of a path without one, its folder, or itself if it is a folder."""
    wild = _WILD.search(path)
    if wild:
        return path[: wild.start()].rpartition("/")[0]
    return path if fs.isdir(path) else path.rpartition("/")[0]


def _expand(fs: Any, path: str, where: str) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """(path, fsspec info, values of path columns) of every file that a pattern or folder means."""
    if not _WILD.search(path) or fs.isfile(path):
        if fs.isdir(path):
            for name, info in fs.find(path, detail=True, withdirs=False).items():
                known = os.path.splitext(name.removesuffix(".gz").removesuffix(".zst"))[1] in FORMATS
                if known and not _hidden(name[len(path) :]):
                    yield name, info, {}
        elif fs.exists(path):
            yield path, fs.info(path), {}
        return
    glob = _VARIABLE.sub("*", path)
    if "{" in glob or "}" in glob:
        raise RecipeError(f"{where}: files: {path}: {{name}} makes a column of [a-z0-9_]; for alternatives give a list")
    fixed = _fixed_folder(fs, path)
    pattern = _regex(path)
    for name, info in fs.glob(glob, detail=True).items():
        match = pattern.fullmatch(name)
        is_file = info["type"] == "file" or (info["type"] != "directory" and fs.isfile(name))  # or a link to one
        if is_file and match and not _hidden(name[len(fixed) :]):
            yield name, info, match.groupdict()


def _hidden(below: str) -> bool:
    """As Spark and Arrow do: what begins with '.' or '_' (temporary files, _SUCCESS, _metadata) is no data."""
    return any(part.startswith((".", "_")) for part in below.split("/"))


def _regex(path: str) -> re.Pattern[str]:
    """A glob with `{name}` groups as a regular expression; a name that occurs twice must have one value."""
    out, seen = [], set()
    for token in re.findall(r"\{\w+\}|\*\*/|\*\*|\*|\?|\[[^\]]*\]|.", path, re.DOTALL):
        variable = _VARIABLE.fullmatch(token)
        if variable:
            name = variable[1]
            out.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)")
            seen.add(name)
        elif len(token) > 2 and token[0] == "[":
            out.append("[" + token[1:-1].replace("\\", r"\\").replace("!", "^", 1 if token[1] == "!" else 0) + "]")
        else:
            out.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token, re.escape(token)))
    return re.compile("".join(out), re.DOTALL)


def _common_folder(folders: list[str], where: str) -> str:
    parts = [folder.split("/") for folder in folders]
    common = parts[0]
    for other in parts[1:]:
        same = [a == b for a, b in zip(common, other)]
        common = common[: same.index(False) if False in same else len(same)]
    if not common:
        raise RecipeError(f"{where}: files: the patterns have no folder in common; give them as sources with names")
    return "/".join(common)
