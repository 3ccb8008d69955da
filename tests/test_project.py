"""The project holds together: README in step with the code, imports that point down, a quick start, a whole wheel."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("kernels", "scorers", "stages", "pipeline")  # each may import itself and what stands before it
HEAVY = ("ray", "torch", "transformers", "numba", "duckdb", "scipy", "pandas")


def python_files() -> Iterator[tuple[str, Path]]:
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            yield layer, path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Full names of what a module imports, `tamis.stages.base` for a relative import, with the line."""
    package = ["tamis", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, node.lineno
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno


@pytest.fixture(scope="module")
def generate():
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_point_down_only():
    wrong = []
    for layer, path in python_files():
        below = LAYERS[: LAYERS.index(layer) + 1]
        for name, line in imports(path):
            parts = name.split(".")
            if parts[0] == "tamis" and len(parts) > 1 and parts[1] not in (*below, "configs"):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_imports_between_the_folders_are_relative():
    wrong = []
    for _, path in python_files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(name.split(".")[0] in ("tamis", *LAYERS, "configs") for name in names):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert wrong == []


def test_heavy_libraries_are_imported_only_where_they_belong():
    homes: dict[str, str | tuple[str, ...]] = {
        "ray": "pipeline/executors/",
        "numba": "kernels/",
        "torch": ("scorers/", "kernels/token_stats"),
        "transformers": "scorers/",
        "triton": "kernels/token_stats_triton",
    }
    wrong = []
    for _, path in python_files():
        place = path.relative_to(ROOT).as_posix()
        for name, line in imports(path):
            home = homes.get(name.split(".")[0])
            if home and not place.startswith(home):
                wrong.append(f"{place}:{line} imports {name}, which belongs to {home}")
    assert wrong == []


@pytest.mark.skipif(not (ROOT / "pipeline" / "cli.py").exists(), reason="no command line yet")
def test_the_command_line_starts_without_heavy_libraries():
    code = f"import tamis.pipeline.cli, tamis.stages.base, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tree_in_the_readme_shows_every_file_with_what_it_is_for(generate):
    try:
        names = generate.files()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    shown = set(section("tree").split("\n"))
    missing = [line for line in generate.tree(names).split("\n") if line not in shown]
    assert missing == [], "run `make docs`; these lines are missing in the tree of README.md"
    assert section("tree") == generate.tree(names), "run `make docs`: README.md shows files that are gone"


def test_the_table_of_stages_in_the_readme_is_what_the_docstrings_say(generate):
    assert section("stages") == generate.stages(), "run `make docs`"


def test_the_recipes_in_the_readme_load(tmp_path: Path) -> None:
    from tamis.pipeline.recipe import load_recipe

    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    shutil.copy(ROOT / "configs" / "fineweb.yaml", tmp_path)
    loaded = []
    for number, block in enumerate(blocks):
        name = "" if "base:" in block else "name: example\n"
        (tmp_path / f"{number}.yaml").write_text(name + block)
        loaded.append(load_recipe(tmp_path / f"{number}.yaml"))
    first, second, third = loaded
    assert [stage.use for stage in first.stages] == ["normalize", "text_signals", "rules"]
    assert [source.name for source in second.input] == ["web", "books"]
    assert set(second.write.sets) == {"main", "near_miss"}
    assert [stage.use for stage in third.stages] == ["exact_dedup", "near_dedup", "paragraph_dedup", "cut_spans"]


def section(mark: str) -> str:
    """What stands between <!-- mark:begin --> and <!-- mark:end --> in README.md."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"<!-- {mark}:begin -->\n(.*?)\n?<!-- {mark}:end -->", text, re.DOTALL)
    assert found, f"README.md has no section {mark}"
    return found.group(1)


def test_the_example_stage_in_the_readme_keeps_the_contract(tmp_path, monkeypatch):
    from .stages import contract

    code = section("example-stage").removeprefix("```python\n").removesuffix("```")
    (tmp_path / "my_stages.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    stage, again = (contract.build("my_stages:Exclamations") for _ in range(2))
    table = contract.batch(stage, ["Stop! Now!", "", *contract.AWKWARD])
    contract.check_declaration(stage)
    contract.check_no_rows(stage)
    contract.check_nothing_known(stage)
    contract.check_splits(stage, table, [1, 3])
    contract.check_repeats(stage, again, table)
    assert stage.measure(table)["exclamations"].to_pylist()[:2] == [2, 0]


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", ".ci/run")]
    named = {name for page in pages for name in re.findall(r"\bmake ([a-z-]+)(?=[ `;,\n]|$)", page.read_text("utf-8"))}
    assert {"quickstart", "test", "check"} <= named
    assert named - targets - {"are"} == set()


def test_constraints_pin_every_dependency_once():
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    names = [line.partition("==")[0] for line in lines]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.+!]*", line) for line in lines)
    assert names == sorted(set(names))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [
        entry for name in ("dev", "kenlm", "lang", "lm", "s3") for entry in project["optional-dependencies"][name]
    ]
    free = ("tamis[", "triton")  # torch with CUDA asks for one version of triton
    wanted = [entry for entry in (*project["dependencies"], *extras) if not entry.startswith(free)]
    assert {re.split(r"[\[<>=!~ ;]", entry)[0].lower().replace("_", "-").replace(".", "-") for entry in wanted} <= set(
        names
    )


def test_packaging_names_every_folder_that_holds_modules():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for _, path in python_files()} | {"configs"}
    expected = {"tamis." + folder.replace("/", "."): folder for folder in folders}
    assert set(setup["packages"]) == set(expected)
    assert setup["package-dir"] == expected


@pytest.mark.slow
def test_the_wheel_holds_the_modules_and_the_recipes_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for layer in (*LAYERS, "configs"):
        shutil.copytree(ROOT / layer, source / layer, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path / "dist"), str(source)]
    subprocess.run(command, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    expected = {f"tamis/{path.relative_to(ROOT).as_posix()}" for _, path in python_files()}
    expected |= {
        f"tamis/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "configs").rglob("*")
        if path.suffix in (".py", ".yaml")
    }
    expected |= {
        f"tamis/{path.relative_to(ROOT).as_posix()}"
        for folder in ("report", "training")
        for path in (ROOT / "pipeline" / folder).iterdir()
        if path.suffix in (".jinja", ".css", ".js")
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
