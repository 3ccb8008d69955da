"""Every command tells what it does and shows an example, and every example works after `make quickstart`."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tamis.pipeline.cli import main
from tamis.pipeline.sample import SCHEMA

from ..golden.test_pages import PAGES
from ..runs import command as tamis_command

ROOT = Path(__file__).resolve().parents[2]
SLOW = ("sample",)  # reads all documentation on this machine
GUIDED = ("train preselect",)  # needs losses of models: training/test_preselect_guide.py types its commands


def commands() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def leaves() -> dict[str, click.Command]:
    """Every command, and in place of a group its commands: `train fasttext`."""
    found = {}
    for name, command in commands().items():
        if not isinstance(command, click.Group):
            found[name] = command
            continue
        context = click.Context(command)
        for inner in command.list_commands(context):
            found[f"{name} {inner}"] = command.get_command(context, inner)
    return {name: command for name, command in found.items() if command is not None}


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`tamis` with these words, typed in the folder."""
    return subprocess.run(tamis_command(*words), cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def help_of(command: click.Command) -> str:
    """As it is written, not yet filled into lines."""
    return inspect.cleandoc(command.help or "").replace("\b", "")


def examples(command: click.Command) -> Iterator[list[str]]:
    """The words of every `Example:` in the help, which may go over several lines, up to a blank one."""
    shown = help_of(command)
    for text in re.findall(r"^Example: (.*?)(?=\n\s*\n|\nExample:|\Z)", shown, re.DOTALL | re.MULTILINE):
        yield shlex.split(" ".join(text.split()))


def cases() -> Iterator[object]:
    for name, command in leaves().items():
        for words in examples(command) if name not in GUIDED else ():
            marks = [pytest.mark.slow] if name in SLOW else []
            yield pytest.param(words, id=" ".join(words)[:60], marks=marks)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> Path:
    """A folder as `make quickstart` leaves the checkout: recipes, a sample (here of the golden pages), its run."""
    folder = tmp_path_factory.mktemp("quickstart")
    shutil.copytree(ROOT / "configs", folder / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", folder)
    (folder / "data" / "sample").mkdir(parents=True)
    half = len(PAGES) // 2
    for number, pages in enumerate((PAGES[:half], PAGES[half:])):
        columns = [pa.array([page.get(name) for page in pages], kind) for name, kind in zip(SCHEMA.names, SCHEMA.types)]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        pq.write_table(table, folder / "data" / "sample" / f"sample-{number:05d}.parquet")
    done = call(folder, "run", "configs/quickstart.yaml")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", list(leaves()))
def test_every_command_says_what_it_does_and_shows_an_example(name):
    command = leaves()[name]
    first = help_of(command).partition("\n\n")[0]
    assert re.match(r"[A-Z].*[.:]$", " ".join(first.split())), "a sentence that says what the command does"
    found = list(examples(command))
    assert found, "at least one line `Example: tamis ...`"
    assert all(words[: 1 + len(name.split())] == ["tamis", *name.split()] for words in found)
    shown = CliRunner().invoke(main, [*name.split(), "--help"]).output
    assert "Example: tamis" in shown


def test_the_help_lists_every_command_with_its_first_sentence():
    shown = CliRunner().invoke(main, ["--help"]).output
    listed = dict(re.findall(r"^  ([a-z]+)\s{2,}(\S.*)$", shown[shown.index("Commands:") :], re.MULTILINE))
    assert set(listed) == set(commands())
    files = {path.stem.rstrip("_") for path in (ROOT / "pipeline" / "commands").glob("[a-z]*.py")}
    assert set(listed) == files


@pytest.mark.parametrize("words", list(cases()))
def test_every_example_works_after_the_quick_start(words, quickstart, tmp_path):
    folder = tmp_path / "checkout"
    shutil.copytree(quickstart, folder)
    done = call(folder, *words[1:])
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), "an example shows something"
    assert "Traceback" not in done.stderr


def test_the_sample_of_this_test_has_the_columns_and_names_of_the_real_one(quickstart):
    schema = pq.read_schema(quickstart / "data" / "sample" / "sample-00000.parquet")
    assert schema.names == SCHEMA.names
    assert pq.read_metadata(quickstart / "data" / "sample" / "sample-00000.parquet").num_rows > 20
    manifest = json.loads((quickstart / "out" / "quickstart" / "manifest.json").read_text())
    assert manifest["counts"]["kept"] > 0
