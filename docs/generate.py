"""Rewrites the parts of README.md that are made from the code: a golden run, the annotated tree, the table of stages.

Run it with `make docs`. tests/test_project.py fails while README.md differs from what this would write.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.story import summary
from tamis.stages.base import stage_class, stage_names

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100  # of what the tree says about a file

# Files that cannot say in their own first line what they are for.
NAMED = {
    ".ci/run": "what CI runs, on a clean clone",
    ".gitignore": "what is built, never committed",
    "LICENSE": "Apache-2.0",
    "README.md": "this page",
    "deploy/dashboard.json": "Grafana: how far a run is, how fast, what is left of the documents",
    "docs/tour.ipynb": "ten minutes with Tamis in a notebook; a test runs it and compares what it shows",
    "pipeline/report/bias.html.jinja": "the section of the report page on what classifiers follow",
    "pipeline/report/cuts.html.jinja": "the section of the report page on what thresholds asked and reached",
    "pipeline/report/duplicates.html.jinja": "the section of the report page on deduplications",
    "pipeline/report/macros.html.jinja": "pieces of the report page: tables, folded lists, documents with their text",
    "pipeline/report/page.css": "how the report page looks, light, dark and printed",
    "pipeline/report/page.html.jinja": "the report page, section by section",
    "pipeline/report/page.js": "draws the charts of the report page from the JSON in it",
    "pipeline/training/preselect.html.jinja": "the page that `tamis train preselect` writes beside the model",
    "pyproject.toml": "packaging, dependencies, settings of ruff, pytest and pyright",
    "tests/golden/pages.jsonl": "200 pages written for the tests, each with what should become of it, and why",
}


def purpose(path: Path) -> str:
    """First line of a docstring, first comment or first heading of a file; '' where it has none."""
    name = path.relative_to(ROOT).as_posix()
    if name in NAMED:
        return NAMED[name]
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        found = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        if not found and path.name.startswith("test_"):  # tests mirror the tree
            found = f"tests of {name.removeprefix('tests/').replace('test_', '')}"
    else:
        line = next((line for line in text.splitlines() if re.match(r"#+ ", line)), "")
        found = line.lstrip("# ")
    found = found.rstrip(".")
    if len(found) <= WIDTH:
        return found
    clauses = [m.start() for m in re.finditer(r"[,;:] ", found[:WIDTH]) if m.start() > WIDTH // 3]
    return found[: clauses[-1]] if clauses else found[: WIDTH - 4].rsplit(" ", 1)[0] + " ..."


def files() -> list[str]:
    """Files of the project by path: those that git knows or does not ignore. CalledProcessError outside a checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({name for name in found if name and (ROOT / name).is_file()})


def tree(names: list[str]) -> str:
    """The annotated tree as a code block: folders before the files of the top. ValueError names files without a purpose."""
    silent = [name for name in names if (ROOT / name).stat().st_size and not purpose(ROOT / name)]
    if silent:
        raise ValueError(f"the first line does not say what it is for (or name it in docs/generate.py): {silent}")
    lines, shown = [], ()
    for name in sorted(names, key=lambda n: ("/" not in n, n.split("/"))):
        *folders, file = name.split("/")
        for depth, folder in enumerate(folders):
            if tuple(folders[: depth + 1]) != shown[: depth + 1]:
                lines.append(f"{'    ' * depth}{folder}/")
        shown = tuple(folders)
        if (ROOT / name).stat().st_size or file != "__init__.py":
            lines.append(f"{'    ' * len(folders) + file:<34} {purpose(ROOT / name)}")
    return "\n".join(["```text", *lines, "```"])


def stages() -> str:
    """The stages as a table: name, kind, first line of the class docstring."""
    rows = ["| stage | kind | what it does |", "|---|---|---|"]
    for name in stage_names():
        cls = stage_class(name)
        kinds = [kind for kind in ("edit", "decide", "resolve") if cls.has(kind)] or ["measure"]
        rows.append(f"| `{name}` | {' or '.join(kinds)} | {(cls.__doc__ or '').partition(chr(10))[0]} |")
    return "\n".join(rows)


def golden_run() -> str:
    """What `tamis run` prints of the quickstart recipe over the golden pages, without what a clock measured."""
    recipe = ROOT / "configs" / "quickstart.yaml"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        loaded = load_recipe(recipe, input=[str(ROOT / "tests/golden/pages.jsonl")], output=str(output))
        result = run(loaded)
        manifest = json.loads((output / "manifest.json").read_text())
        manifest["seconds"] = 0.0
        for stage in manifest["stages"]:
            stage["seconds"] = 0.0
        (output / "manifest.json").write_text(json.dumps(manifest))
        text = summary(result).replace(str(output), "out/golden")
    text = re.sub(r", in 0[^\n]*", "", text)
    return "\n".join(["```text", *(line.rstrip() for line in text.splitlines()), "```"])


def filled(readme: str) -> str:
    """README.md with its generated sections as they should be; ValueError where a pair of marks is missing."""
    for mark, body in (("run", golden_run()), ("tree", tree(files())), ("stages", stages())):
        begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
        if begin not in readme or end not in readme:
            raise ValueError(f"README.md lacks {begin} or {end}")
        head, _, rest = readme.partition(begin)
        readme = f"{head}{begin}\n{body}\n{end}{rest.partition(end)[2]}"
    return readme


def main() -> int:
    path = ROOT / "README.md"
    before = path.read_text("utf-8")
    after = filled(before)
    if after != before:
        path.write_text(after, "utf-8")
        print("README.md rewritten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
