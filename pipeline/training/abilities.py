"""How able each model is, from a YAML file, and which loss column is whose.

Invariant: every loss column that was asked for belongs to exactly one model of the file, and no two models are equally
able, so that every pair of models has an order.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...scorers.base import ModelError
from ...scorers.model_files import fingerprint
from ...stages.errors import RecipeError, did_you_mean
from ..located import Located, read_located

UNITS = ("bpc", "bpb", "nll", "ppl")  # a word of a column's name that says what its numbers are
PER_TOKEN = frozenset(("ppl", "perplexity", "mean", "avg", "average", "bpt", "token"))
FEW = 3  # models or fewer: at most three pairs, four levels of strength

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Models:
    """Models in order of ability, the most able first. `columns[i]` holds the losses of `names[i]`; `abilities`: the
    higher the better; `tasks`: names of the tasks that they are means over, empty where the file gives one number;
    `unused`: models of the file that no loss column belongs to."""

    names: tuple[str, ...]
    columns: tuple[str, ...]
    abilities: tuple[float, ...]
    tasks: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def array(self) -> np.ndarray:
        """The abilities as float64."""
        return np.array(self.abilities, np.float64)


def find_models(patterns: Sequence[str], columns: Mapping[str, bool], path: str) -> Models:
    """The models of the abilities file `path` whose loss columns the globs `patterns` name.

    `columns`: all columns that there are, and whether they hold numbers. RecipeError where a pattern matches nothing, a
    column holds no numbers or belongs to no model of the file, two have equal abilities, or fewer than two are left.
    """
    read, tasks = read_abilities(path)
    found: dict[str, str] = {}
    for pattern in patterns:
        matches = [name for name in columns if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise RecipeError(f"--loss {pattern}: no column matches.{did_you_mean(pattern.strip('*'), columns)}")
        for column in matches:
            if not columns[column]:
                raise RecipeError(f"--loss {pattern}: column {column} holds no numbers; name the loss columns alone")
            model = _owner(column, pattern, read)
            if model is None:
                raise RecipeError(
                    f"{path}: no ability for the model of column {column}; add a line `{_star(column, pattern)}: NUMBER`, "
                    f"or narrow --loss {pattern}.{did_you_mean(_star(column, pattern), read)}"
                )
            if found.setdefault(model, column) != column:
                raise RecipeError(f"--loss: columns {found[model]} and {column} would both be of model {model}")
    if len(found) < 2:
        raise RecipeError(
            f"--loss: {', '.join(found.values())} is one model; predictive strength compares models: two are the least, "
            "six were used by PreSelect"
        )
    order = sorted(found, key=lambda model: (-read[model].value, model))
    _check_distinct(order, read, path)
    return Models(
        names=tuple(order),
        columns=tuple(found[model] for model in order),
        abilities=tuple(read[model].value for model in order),
        tasks=tasks,
        unused=tuple(sorted(set(read) - set(found))),
    )


def read_abilities(path: str) -> tuple[dict[str, Located], tuple[str, ...]]:
    """Ability of each model, a float with the place where it stands, and the tasks, in order of name, over which it is the
    mean. RecipeError where the file is no mapping of models to numbers, or to the same tasks with a number each."""
    read = read_located(path, "abilities are a mapping, model: NUMBER or model: {task: NUMBER}")
    if not read.value:
        raise RecipeError(f"{path}: holds no model; a line is `model: NUMBER` or `model: {{task: NUMBER}}`")
    tasks: dict[str, frozenset[str]] = {}
    found: dict[str, Located] = {}
    for model, item in read.value.items():
        if isinstance(item.value, dict):
            numbers = [_number(one, f"{model}: {task}") for task, one in item.value.items()]
            if not numbers:
                raise RecipeError(f"{item.place}: {model}: has no task")
            tasks[model] = frozenset(item.value)
            found[model] = Located(math.fsum(numbers) / len(numbers), item.place)
        else:
            tasks[model] = frozenset()
            found[model] = Located(_number(item, model), item.place)
    every = frozenset().union(*tasks.values())
    for model, own in tasks.items():
        if own != every:
            lacks = ", ".join(sorted(every - own))
            raise RecipeError(
                f"{found[model].place}: {model}: lacks {lacks}, which other models have: a mean is fair only over the "
                "same tasks for all"
            )
    return found, tuple(sorted(every))


def check_units(models: Models, *, per_token: bool, tokenizers: Sequence[str]) -> None:
    """RecipeError where the losses of a document cannot be compared: means per token without proof that all models have
    one tokenizer, or two units side by side. `per_token`: the columns are such means, whatever their names say;
    `tokenizers`: the tokenizer's file of every model, in any order."""
    units = {unit for column, model in zip(models.columns, models.names) if (unit := _unit(column, model))}
    if len(units) > 1:
        raise RecipeError(f"--loss: {', '.join(models.columns)}: a mix of {' and '.join(sorted(units))}; take one unit")
    means = [c for c, model in zip(models.columns, models.names) if per_token or _words(c, model) & PER_TOKEN]
    if not means:
        if tokenizers:
            raise RecipeError("--same-tokenizer: not needed: the losses are no means per token; leave it out")
        return
    what = f"--loss: {', '.join(means)}: means per token"
    if not tokenizers:
        raise RecipeError(
            f"{what}: models that cut a text into fewer tokens look worse on it. Give bits per character or the total nll "
            "of a document, or show with one --same-tokenizer FILE per model that they all have the same tokenizer"
        )
    if len(tokenizers) != len(models.names):
        raise RecipeError(
            f"{what}: --same-tokenizer names {len(tokenizers)} of {len(models.names)} files: give each model's own"
        )
    try:
        prints = {fingerprint(Path(path)): path for path in tokenizers}
    except ModelError as error:
        raise RecipeError(f"--same-tokenizer: {error}") from error
    if len(prints) > 1:
        one, other, *_ = prints.values()
        raise RecipeError(f"{what}, and {one} is another tokenizer than {other}; give bits per character instead")


def _star(column: str, pattern: str) -> str:
    """What the wildcards of a pattern stand for; of a plain name all but the unit at its end."""
    wild = _WILD.search(pattern)
    if wild is None:
        head, _, last = column.rpartition("_")
        return head if head and last in UNITS else column
    tail = max(pattern.rfind(end) for end in "*?]") + 1
    return column[wild.start() : len(column) - (len(pattern) - tail)]


def _owner(column: str, pattern: str, read: Mapping[str, Located]) -> str | None:
    return next((name for name in (column, _star(column, pattern)) if name in read), None)


def _words(column: str, model: str) -> frozenset[str]:
    """The words of a column's name beside the model's."""
    return frozenset((column.replace(model, "_", 1) if model != column else column).lower().split("_"))


def _unit(column: str, model: str) -> str | None:
    words = _words(column, model)
    return next((unit for unit in UNITS if unit in words), None)


def _number(item: Located, what: str) -> float:
    if isinstance(item.value, bool) or not isinstance(item.value, int | float) or not math.isfinite(item.value):
        raise RecipeError(f"{item.place}: {what}: {item.plain()!r} is no ability; a number, the higher the better")
    return float(item.value)


def _check_distinct(order: Sequence[str], read: Mapping[str, Located], path: str) -> None:
    for one, other in pairwise(order):
        if read[one].value == read[other].value:
            equal = [name for name in order if read[name].value == read[one].value]
            raise RecipeError(
                f"{path}: {', '.join(equal)} are equally able ({read[one].value:g}), so no document can order them: "
                "leave all but one out, or give abilities over more tasks"
            )
