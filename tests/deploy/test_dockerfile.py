"""deploy/Dockerfile, read line by line: what it copies exists and reaches the builder, and it keeps its promises."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> Iterator[tuple[str, str]]:
    """(INSTRUCTION, arguments), continuation lines joined, comments left out."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        if line.strip():
            verb, _, rest = line.strip().partition(" ")
            yield verb.upper(), rest.strip()


@pytest.fixture
def stages() -> list[list[tuple[str, str]]]:
    """Instructions by build stage, what stands before the first FROM left out."""
    found: list[list[tuple[str, str]]] = []
    for verb, rest in instructions():
        if verb == "FROM":
            found.append([])
        if found:
            found[-1].append((verb, rest))
    return found


def settings(stage: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [pair for verb, rest in stage if verb == "ENV" for pair in rest.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def sent(path: str) -> bool:
    """Whether .dockerignore lets a path (of the root or one folder below) through: the last line that matches decides."""
    keep = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            name = pattern.removeprefix("!")
            if fnmatch.fnmatch(path, name) or path.startswith(f"{name}/") or name.startswith(f"{path}/"):
                keep = pattern.startswith("!")
    return keep


def test_everything_copied_exists_and_is_sent_to_the_builder() -> None:
    copied = [rest.split()[:-1] for verb, rest in instructions() if verb == "COPY" and "--from" not in rest]
    for source in (path for paths in copied for path in paths):
        assert (ROOT / source).exists(), source
        assert sent(source), f"{source} is kept back by .dockerignore"
    for path in (".git", ".venv", "out", "data", "tests", "README.md.bak"):
        assert not sent(path), path


def test_every_package_of_the_project_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.split("/")[0] for path in project["tool"]["setuptools"]["package-dir"].values()}
    copied = {rest.split()[0] for verb, rest in instructions() if verb == "COPY"}
    assert folders <= copied


def test_only_wheels_of_pinned_versions_are_installed_with_extras_that_exist() -> None:
    installs = [rest for verb, rest in instructions() if verb == "RUN" and "pip install" in rest]
    assert len(installs) == 1
    assert "--only-binary=:all:" in installs[0]
    assert "-c constraints.txt" in installs[0]
    assert '".[${EXTRAS}]"' in installs[0]
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    asked = re.findall(r"^ARG EXTRAS=(\S+)$|--build-arg EXTRAS=(\S+)", text, re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for_gpus, default = (set((default + given).split(",")) for default, given in asked)
    assert for_gpus == {*default, "lm"}
    assert for_gpus <= set(extras)
    assert not [rest for verb, rest in instructions() if verb == "ADD"]


def test_it_runs_as_a_number_that_is_not_root_and_the_program_gets_the_signals(
    stages: list[list[tuple[str, str]]],
) -> None:
    final = dict(stages[-1])
    assert int(final["USER"].split(":")[0]) > 0  # a number: runAsNonRoot cannot check a name
    assert json.loads(final["ENTRYPOINT"]) == ["tamis"]  # exec form: no shell in between
    assert json.loads(final["CMD"]) == ["--help"]


def test_kernels_are_shipped_where_they_are_looked_for_and_for_the_same_processor(
    stages: list[list[tuple[str, str]]],
) -> None:
    build, final = stages
    warm = next(rest for verb, rest in build if verb == "RUN" and "deploy/warm.py" in rest)
    env = settings(final)
    cache = re.search(r"XDG_CACHE_HOME=(\S+)", warm)
    assert cache is not None
    assert env["TAMIS_KERNELS"] == f"{cache[1]}/tamis"
    assert env["TAMIS_KERNELS"].startswith("/opt/tamis/")
    assert ("COPY", "--from=build /opt/tamis /opt/tamis") in final
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        assert f"{name}={env[name]}" in warm
    kept = [{rest for verb, rest in stage if verb == "ARG" and rest.startswith("CPU")} for stage in (build, final)]
    assert kept[0] == kept[1] != set()


def test_whatever_is_written_goes_below_tmp(stages: list[list[tuple[str, str]]]) -> None:
    env = settings(stages[-1])
    assert env["HOME"] == "/tmp"
    assert env["XDG_CACHE_HOME"].startswith("/tmp/")
