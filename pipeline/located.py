"""YAML whose every key remembers the file and line where it stands.

Invariant: joining two files never loses a place: whatever ends in the recipe, a message can name the line to edit.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ..stages.errors import RecipeError
from .storage import storage_for


@dataclass
class Located:
    """A value of a recipe and where it stands (`recipe.yaml:12`). `value`: dict of str to Located, list of Located, or a
    plain scalar."""

    value: Any
    place: str

    def plain(self) -> Any:
        """Without the places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def get(self, key: str) -> Any:
        """The plain value of a key, None where there is none."""
        item = self.value.get(key) if isinstance(self.value, dict) else None
        return None if item is None else item.plain()

    def at(self, *keys: Any) -> str:
        """The place of the deepest of these keys that there is."""
        node = self
        for key in keys:
            if isinstance(node.value, dict) and str(key) in node.value:
                node = node.value[str(key)]
            elif isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
            else:
                break
        return node.place

    def places(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """(dotted key, place) of every key of this mapping and of the mappings in it."""
        if isinstance(self.value, dict):
            for key, item in self.value.items():
                yield f"{prefix}{key}", item.place
                yield from item.places(f"{prefix}{key}.")


def read_located(
    path: Path | str, shape: str = "a recipe is a mapping with the keys name, input, output, stages"
) -> Located:
    """The recipe in a YAML 1.2 file (`off` and `no` are strings), a URL among them. RecipeError where there is no mapping,
    which says the `shape` that was expected."""
    try:
        storage, name = storage_for(str(path))
        text = storage.read(name).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{path}: cannot be read ({reason})") from error
    try:
        data = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: {shape}")
    return located(data, str(path))


def yaml_text(data: Any) -> str:
    """Plain data as block YAML, keys in their order; ends with a newline."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = False, False, 110  # type: ignore[assignment]
    yaml.dump(data, text)
    return text.getvalue()


def located(node: Any, file: str, line: int = 0) -> Located:
    """Any data, ruamel's or plain, with places in `file`; lines are known for what ruamel read."""
    place = f"{file}:{line}" if line else file
    marks = getattr(node, "lc", None)
    if isinstance(node, Mapping):
        members = ((key, value, _line(marks, "key", key)) for key, value in node.items())
        return Located({str(key): located(value, file, at or line) for key, value, at in members}, place)
    if isinstance(node, list | tuple):
        items = (located(value, file, _line(marks, "item", i) or line) for i, value in enumerate(node))
        return Located(list(items), place)
    return Located(_scalar(node), place)


def _line(marks: Any, kind: str, key: Any) -> int:
    try:
        return getattr(marks, kind)(key)[0] + 1 if marks else 0
    except (KeyError, TypeError):  # a key that came in by an anchor
        return 0


def _scalar(node: Any) -> Any:
    """ruamel's scalars as plain Python; dates as they are written in ISO 8601."""
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node.isoformat() if hasattr(node, "isoformat") else node
