"""A recipe put together: the recipes it builds on, the changes by stage name, --set, and `$name` in paths.

Invariant: what comes out is a recipe that could have been written in one file, and every key of it still knows the file
and line (or the --set) that it comes from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..stages.errors import RecipeError, did_you_mean
from .located import Located, located, read_located

MERGED = ("write", "report", "vars")  # of the other top-level keys, the derived recipe's value replaces the base's
OWN = ("base", "change", "vars")  # keys that are gone when the recipe is put together
VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)
STAGE_DICTS = ("set", "values")  # keys of a stage below which names have dots: set.gopher_quality.words_min


def with_bases(recipe: Located, folder: Path, above: tuple[Path, ...] = ()) -> Located:
    """The recipe with its bases under it. `folder`: where a relative `base:` begins; `above`: the files that led here.
    Raises RecipeError for a base that is not there or builds on itself, and for a change of a stage that it lacks."""
    own = dict(recipe.value)
    base, change = own.pop("base", None), own.pop("change", None)
    if base is None:
        if change is not None:
            raise RecipeError(f"{change.place}: change: is for a recipe with `base:`; edit the stages themselves")
        return recipe
    if not isinstance(base.value, str):
        raise RecipeError(f"{base.place}: base: is the path of another recipe")
    path = Path(os.path.normpath(folder / os.path.expanduser(base.value)))
    if path.resolve() in above:
        loop = " -> ".join([*(file.name for file in above), path.name])
        raise RecipeError(f"{base.place}: base: {base.value} builds on this recipe itself: {loop}")
    if not path.is_file():
        near = did_you_mean(path.name, (file.name for file in path.parent.glob("*.y*ml")))
        raise RecipeError(f"{base.place}: base: {path}: no such file.{near}")
    below = with_bases(read_located(path), path.parent, (*above, path.resolve()))
    found = dict(below.value)
    stages = _changed(found.get("stages"), change, str(path))
    for key, item in own.items():
        if key == "stages":
            stages = Located([*_list(stages), *_list(item)], item.place)
        elif key in MERGED and key in found:
            found[key] = _merged(found[key], item, deep=False)
        else:
            found[key] = item
    if stages is not None:
        found["stages"] = stages
    return Located(found, recipe.place)


def names_of(stages: Sequence[Located]) -> list[str]:
    """The name of every stage: its own, else that of its file, numbered from the second on (`rules`, `rules_2`)."""
    seen: dict[str, int] = {name: 1 for entry in stages if isinstance(name := entry.get("name"), str)}
    names = []
    for entry in stages:
        name = entry.get("name")
        if not isinstance(name, str):
            use = entry.get("use") if isinstance(entry.value, dict) else entry.value
            name = str(use).rpartition(":")[2].lower()
            seen[name] = seen.get(name, 0) + 1
            name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        names.append(name)
    return names


def _changed(stages: Located | None, change: Located | None, path: str) -> Located | None:
    """The base's stages with the changes by name: mappings merge, `off` removes a stage, null removes a key."""
    if change is None:
        return stages
    if not isinstance(change.value, dict):
        raise RecipeError(f"{change.place}: change: is a mapping of stage names: {{near_dedup: {{bands: 20}}}}")
    entries = _list(stages)
    names = names_of(entries)
    for name, asked in change.value.items():
        if name not in names:
            raise RecipeError(f"{asked.place}: change: {name}: {path} has no such stage.{did_you_mean(name, names)}")
        index = names.index(name)
        if _is_off(asked):
            del entries[index], names[index]
        elif isinstance(asked.value, dict):
            entry = entries[index]
            entry = entry if isinstance(entry.value, dict) else Located({"use": entry}, entry.place)
            entries[index] = Located(_merged(entry, asked).value, entry.place)
        else:
            raise RecipeError(f"{asked.place}: change: {name}: write a mapping of its keys, or off to leave it out")
    return Located(entries, stages.place if stages else change.place)


def _merged(base: Located, top: Located, *, deep: bool = True) -> Located:
    """`top` over `base`: mappings join key by key, `deep` ones within them too, a null takes a key away, anything else
    replaces."""
    if not (isinstance(base.value, dict) and isinstance(top.value, dict)):
        return top
    found = dict(base.value)
    for key, item in top.value.items():
        if item.value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found[key], item) if deep and key in found else item
    return Located(found, top.place)


def _is_off(item: Located) -> bool:
    return item.value is False or item.value == "off"


def _list(node: Located | None) -> list[Located]:
    if node is None or node.value is None:
        return []
    if not isinstance(node.value, list):
        raise RecipeError(f"{node.place}: stages is a list of mappings, each with `use:`")
    return list(node.value)


# --- --set --------------------------------------------------------------------------------------------------------


def apply_setting(recipe: Located, setting: str, sections: Iterable[str]) -> None:
    """`NAME.key=value` sets a stage's key, `NAME=off` leaves the stage out; `key=value`, `write.key=value` set the
    recipe's own (`sections` are its keys), `input.key=value` those of the only source, `input.NAME.key=value` those of
    a named one. The value is YAML. RecipeError."""
    target, equals, text = setting.partition("=")
    place = f"--set {setting}"
    head, *rest = target.strip().split(".")
    if not equals or not head or not all([*rest, "-"]):
        raise RecipeError(f"{place}: write NAME.key=value or key=value")
    if head in ("base", "change"):
        raise RecipeError(f"{place}: {head}: is for recipe files; set the keys of a stage by its name")
    try:
        value = located(YAML(typ="rt", pure=True).load(text), place)
    except YAMLError as error:
        raise RecipeError(f"{place}: the value is not valid YAML; quote it: --set '{target}=\"...\"'") from error
    value = _placed(value, place)
    entries = _list(recipe.value.get("stages"))
    names = names_of(entries)
    if head in names and (rest or (head not in sections and _is_off(value))):
        _set_in_stage(recipe, names, head, rest, value)
    elif head == "input" and rest:
        _put(_source(recipe, rest, place), rest, value)
    elif head in sections:
        _put(recipe, [head, *rest], value)
    elif head in names:
        raise RecipeError(f"{place}: {head} is a stage: write {head}.KEY=value, or {head}=off to leave it out")
    elif rest:
        valid = [*names, *sections]
        raise RecipeError(f"{place}: no stage or section {head}.{did_you_mean(head, valid)}")
    else:
        recipe.value[head] = value  # refused with the other unknown keys


def _set_in_stage(recipe: Located, names: Sequence[str], head: str, rest: list[str], value: Located) -> None:
    stages = recipe.value["stages"]
    index = names.index(head)
    if not rest:
        del stages.value[index]
        return
    entry = stages.value[index]
    if not isinstance(entry.value, dict):
        entry = stages.value[index] = Located({"use": entry}, entry.place)
    if rest[0] in STAGE_DICTS:
        depth = 1 + STAGE_DICTS.index(rest[0])  # set.PARAMETER, values.GROUP.PARAMETER
        rest = [*rest[:depth], ".".join(rest[depth:])] if len(rest) > depth else rest
    _put(entry, rest, value)


def _source(recipe: Located, rest: list[str], place: str) -> Located:
    """The source that `input.` means; its name is taken from `rest`."""
    sources = recipe.value.get("input")
    if sources is None or not isinstance(sources.value, list):
        if sources is None or not isinstance(sources.value, dict):
            files = {} if sources is None or sources.value is None else {"files": sources}
            recipe.value["input"] = Located(files, place)
        return recipe.value["input"]
    named = {source.get("name"): source for source in sources.value}
    if rest[0] in named and len(rest) > 1:
        return named[rest.pop(0)]
    if len(sources.value) == 1 and isinstance(sources.value[0].value, dict):
        return sources.value[0]
    names = [str(name) for name in named if name is not None]
    raise RecipeError(
        f"{place}: there are {len(sources.value)} sources: write input.NAME.key.{did_you_mean(rest[0], names)}"
    )


def _put(node: Located, keys: Sequence[str], value: Located) -> None:
    for key in keys[:-1]:
        item = node.value.get(key)
        if item is None or not isinstance(item.value, dict):
            item = node.value[key] = Located({}, value.place)
        node = item
    node.value[keys[-1]] = value


def _placed(node: Located, place: str) -> Located:
    """Every value in it at this one place: lines of a command line mean nothing."""
    if isinstance(node.value, dict):
        return Located({key: _placed(item, place) for key, item in node.value.items()}, place)
    if isinstance(node.value, list):
        return Located([_placed(item, place) for item in node.value], place)
    return Located(node.value, place)


# --- variables ----------------------------------------------------------------------------------------------------


def fill_paths(recipe: Located) -> None:
    """Puts the values of `vars:` in place of `$name` and `${name}` in files, root, output and work; `$$` is a dollar.
    Takes `vars` away. RecipeError for an unknown name."""
    given = recipe.value.pop("vars", None)
    values: dict[str, str] = {}
    if given is not None and given.value is not None:
        if not isinstance(given.value, dict):
            raise RecipeError(f"{given.place}: vars: is a mapping: {{dump: CC-MAIN-2024-10}}")
        for name, item in given.value.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                raise RecipeError(f"{item.place}: vars: {name!r} is no name: letters, digits and _")
            if isinstance(item.value, bool) or not isinstance(item.value, str | int):
                raise RecipeError(f'{item.place}: vars: {name}: must be a string; put it in quotes: {name}: "..."')
            values[name] = str(item.value)
    for key in ("output", "work"):
        _fill(recipe.value, key, values)
    sources = recipe.value.get("input")
    for source in sources.value if sources is not None and isinstance(sources.value, list) else []:
        if isinstance(source.value, dict):
            for key in ("files", "root"):
                _fill(source.value, key, values)


def _fill(section: dict[str, Located], key: str, values: Mapping[str, str]) -> None:
    item = section.get(key)
    if item is not None and isinstance(item.value, str):
        section[key] = Located(_filled(item.value, values, f"{item.place}: {key}"), item.place)
    elif item is not None and isinstance(item.value, list):
        filled = [
            Located(_filled(one.value, values, f"{one.place}: {key}"), one.place) if isinstance(one.value, str) else one
            for one in item.value
        ]
        section[key] = Located(filled, item.place)


def _filled(text: str, values: Mapping[str, str], where: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        name = match[2] or match[3]
        if match[1]:
            return "$"
        if name not in values:
            hint = did_you_mean(name, values) if values else " The recipe has no `vars:`."
            raise RecipeError(f"{where}: {text}: no value for ${name} under vars:, and $$ is a dollar.{hint}")
        return values[name]

    return VARIABLE.sub(replaced, text)


def literal(path: str) -> str:
    """The path as a recipe must write it, so that `fill_paths` gives it back."""
    return path.replace("$", "$$")
