"""The stage interface: a validated config and any of four methods, Arrow in, Arrow out.

Invariant: a stage is a pure function of (rows, config, run seed). It never sees the executor, the unit or the batch
size, and split invariance holds: f(a + b) = f(a) + f(b) for the per-row methods.

A stage is one file: `use: near_dedup` imports `stages/near_dedup.py` and takes its class `NearDedup`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from .errors import RecipeError, did_you_mean

Nulls = Literal["pass", "fail", "quarantine"]
Kind = Literal["edit", "measure", "decide", "resolve"]
HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")  # settings, weights, tokenizer; nothing pickled


@dataclass(frozen=True)
class Column:
    """A column that a stage adds: plain name `[a-z][a-z0-9_]*`, Arrow type, one line with definition and unit.

    `ledger=False` keeps a bulky one (signatures, keys) out of the ledger.
    """

    name: str
    type: pa.DataType
    doc: str
    ledger: bool = True


@dataclass(frozen=True)
class Rule:
    """One rule of a decide or resolve stage. `name` is what the ledger shows (`gopher_quality.words`).

    `nulls`: what a null result means. `params`: values that the rule read (with full names), for `why` and `tune`.
    `sql`: the expression as written, parameters as `$name`; empty where the rule is no SQL.
    """

    name: str
    nulls: Nulls = "pass"
    sql: str = ""
    params: tuple[tuple[str, Any], ...] = ()
    source: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resources:
    """What one running instance holds. Stages fuse into a step only while these are equal. `actors`: on Ray it runs in
    processes that stay, because what it loads is dear; a stage with a GPU always does. `fallback`: where there is no GPU
    at all it runs without. `pool`: fewest and most of these processes; None: as many as fit."""

    cpus: float = 1.0
    gpus: float = 0.0
    actors: bool = False
    fallback: bool = False
    pool: tuple[int, int] | None = None


class StageConfig(BaseModel):
    """Base of all stage configs: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage:
    """Base of all stages. A subclass overrides `edit`, `measure`, `decide` or `resolve` (with or without `measure`).

    The names in `needs`, `adds` and in the returned tables are plain: the engine prefixes what a stage adds with the
    stage's `name` where the recipe gave one (a stage with one column takes the name itself).
    The first line of the class docstring is the description in README and `tamis list`.
    """

    Config: ClassVar[type[StageConfig]] = StageConfig
    version: ClassVar[int] = 1  # part of the cell key: raise it when results change
    cost: ClassVar[Literal["cheap", "expensive"]] = "cheap"
    exact: ClassVar[bool] = True  # False: floats from torch, equal only within rounding
    resources: ClassVar[Resources] = Resources()
    not_in_key: ClassVar[frozenset[str]] = frozenset()  # config fields that cannot change results (device, speed)
    choosing: ClassVar[frozenset[str]] = frozenset()  # of a resolve stage: config fields that `measure` does not read
    bears_name: ClassVar[bool] = False  # its columns bear its name even where the recipe gives none: toxicity_max

    def __init__(self, config: Any, *, name: str, seed: int = 0) -> None:
        self.config = config
        self.name = name
        self.seed = seed

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns read, by their full names; 'text' among them if the stage reads the text."""
        return ("text",)

    @property
    def adds(self) -> tuple[Column, ...]:
        """Columns added, by their plain names, in order."""
        return ()

    @property
    def measured(self) -> tuple[str, ...]:
        """Plain names of the columns of `adds` that `measure` yields: all, except for a resolve stage, which says so."""
        return tuple(c.name for c in self.adds) if self.kind in ("measure", "edit") else ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """For decide: one per column of `decide`, in order. For resolve: the rules it may drop by."""
        return ()

    @property
    def wishes(self) -> tuple[str, ...]:
        """Columns, by their full names, that are read as far as the run has them at this place; see `grant`."""
        return ()

    def grant(self, names: Sequence[str]) -> None:
        """Told before the run which of `wishes` there are; `needs` holds them from then on."""

    @property
    def of_text(self) -> tuple[str, ...]:
        """Columns of `needs` that must belong to the text version at hand (spans): the plan refuses an edit between."""
        return ()

    @property
    def plain_needs(self) -> frozenset[str]:
        """Plain names of columns that the plan must find (a preset's `words`); see `bind`."""
        return frozenset()

    @property
    def of(self) -> str | None:
        """Name of the stage whose columns `plain_needs` means; None: the last one before that has them."""
        return None

    def bind(self, columns: Mapping[str, str]) -> None:
        """Told before the run the full name of every name in `plain_needs`."""

    def select(self, wanted: frozenset[str]) -> None:
        """Told before the run which of its plain columns anybody reads; a stage may then leave the others out of `adds`."""

    def check(self, schema: pa.Schema) -> None:
        """Told before the run the types of the columns in `needs`; raises RecipeError for what cannot work."""

    @property
    def draws(self) -> bool:
        """Whether it draws by the run's seed, which then is part of the cell key."""
        return False

    @property
    def takes(self) -> tuple[str, str] | None:
        """(output, stage): a stage of a finished run whose frozen facts `take` is told; the config field that names it
        belongs into `not_in_key`, since what was taken is in `fingerprint`."""
        return None

    def take(self, facts: Mapping[str, Any]) -> None:
        """Told, before anything else, the facts of `takes`. RecipeError where they are of no use."""

    @property
    def taken(self) -> Mapping[str, Any] | None:
        """The facts that it was told by `take`; the manifest of this run holds them, too."""
        return None

    @property
    def models(self) -> tuple[str, ...]:
        """Model files and folders that the recipe names, as it names them; their config fields belong into `not_in_key`,
        since what they hold is in `fingerprint`."""
        return ()

    @property
    def hub_files(self) -> tuple[str, ...]:
        """Patterns of the files that it reads of a model which `models` names by its id on the Hugging Face hub (most
        often HUB_FILES); none: models are paths and URLs alone."""
        return ()

    @property
    def scored_by(self) -> tuple[str, ...]:
        """Names of the models whose numbers its columns are, where a published cut may hold for those alone."""
        return ()

    @property
    def default_action(self) -> Literal["drop", "tag"]:
        """What becomes of documents that fail, where the recipe says no `action:`. RecipeError where it must say one."""
        return "drop"

    def uncalibrated(self, scored_by: Mapping[str, tuple[str, ...]]) -> str | None:
        """Told, for each name in `plain_needs`, the models whose numbers they are (`scored_by` of their stage): why the cuts
        of this stage do not hold for these, or None. Where they do not, the plan refuses to drop by them."""
        return None

    def place(self, paths: Mapping[str, str]) -> None:
        """Told in every process, before the first call, where each of `models` lies on this machine."""
        self._places = dict(paths)

    def local(self, model: str) -> str:
        """Where one of `models` lies on this machine."""
        return getattr(self, "_places", {}).get(model, model)

    def fingerprint(self) -> str:
        """Anything besides `version` and config that results depend on (model files, Unicode tables); for the cell key.
        By default the content of `models`."""
        if not self.models:
            return ""
        from ..scorers.base import ModelError
        from ..scorers.model_files import fingerprint

        try:
            return " ".join(fingerprint(self.local(model)) for model in self.models)
        except ModelError as error:
            raise RecipeError(str(error)) from error

    def warm(self) -> None:
        """Compile or load what `edit`/`measure`/`decide` need (numba kernels); called by the driver before workers start."""

    def edit(self, batch: pa.Table) -> pa.Table:
        """New `text` (large_string, no nulls) and the columns of `adds`, row-aligned. Pure: called again on replay."""
        raise NotImplementedError

    def measure(self, batch: pa.Table) -> pa.Table:
        """The columns of `adds`, row-aligned, null where undefined, never NaN."""
        raise NotImplementedError

    def prepare(self, batch: pa.Table) -> Any:
        """The part of `measure` that needs no device (tokenising). A stage that has it is told what it gave by
        `measure_prepared`; where the stage holds a GPU, the engine prepares the next batches meanwhile in a thread."""
        raise NotImplementedError

    def measure_prepared(self, batch: pa.Table, prepared: Any) -> pa.Table:
        """`measure`, with what `prepare` gave for the same batch."""
        raise NotImplementedError

    def without_gpu(self) -> str:
        """How slow it will be on this machine's CPUs, for the person who starts a run where `fallback` takes place."""
        return ""

    @property
    def joins(self) -> str | None:
        """Neighbours in the recipe that measure, and give the same string here, are measured by one call of
        `measure_together` where they see the same rows; None: this one is measured alone."""
        return None

    @classmethod
    def measure_together(cls, stages: Sequence[Any], batch: pa.Table) -> list[pa.Table]:
        """What `measure` of each stage would give, in their order; they share what reading the text costs."""
        raise NotImplementedError

    def decide(self, batch: pa.Table) -> pa.Table:
        """One boolean column per rule, in the order of `rules`: true passes, false fails, null is the rule's `nulls`."""
        raise NotImplementedError

    def resolve(self, runs: Runs, ctx: Context) -> dict[str, Any]:
        """Sees all units; writes one verdict per unit through `Task.write`; returns small facts for the manifest."""
        raise NotImplementedError

    @classmethod
    def has(cls, method: str) -> bool:
        """Whether this class overrides the method."""
        return getattr(cls, method) is not getattr(Stage, method)

    @property
    def kind(self) -> Kind:
        """edit, measure, decide or resolve; a resolve stage may also have `measure`. A stage may override this
        where its config decides (`sample` with `per:`)."""
        for kind in ("resolve", "edit", "decide", "measure"):
            if self.has(kind):
                return kind
        raise TypeError(f"{type(self).__name__} has none of edit, measure, decide, resolve")


@dataclass(frozen=True)
class UnitRows:
    """A unit as a resolve stage sees it: index in identity order, first document ordinal `n`, number of rows."""

    index: int
    unit: str
    n0: int
    rows: int


class Runs(Protocol):
    """What a resolve stage may know on the driver: the units, no rows."""

    @property
    def units(self) -> Sequence[UnitRows]: ...


class Task(Protocol):
    """The hands of one phase function, wherever it runs. Files it saves are committed by a receipt when it returns."""

    def rows(self, unit: int, columns: Sequence[str]) -> pa.Table:
        """Living rows of a unit: `row` (int64, position in the unit), `n` (uint64, document ordinal in identity order)
        and the columns asked for: measured and edit columns, doc_id, source_file, source_row, source_hash, url, date,
        bytes, chars, and what else earlier steps hold. KeyError for an unknown one."""
        ...

    def save(self, parts: Sequence[pa.Table]) -> None:
        """This item's result: one file, `parts[i]` can be loaded alone. All parts have one schema; may be empty."""
        ...

    def load(self, phase: str, item: str, part: int) -> pa.Table:
        """Part `part` of what an earlier phase saved for `item`."""
        ...

    def save_arrays(self, parts: Sequence[np.ndarray]) -> None:
        """As `save`, for one-dimensional arrays of one dtype (records too, no objects): raw bytes behind an index, so
        that a part of millions costs two ranged reads and nothing is decoded."""
        ...

    def load_array(self, phase: str, item: str, part: int) -> np.ndarray:
        """Part `part` of what `save_arrays` saved for `item`; a writable array of its own."""
        ...

    def texts(self, unit: int, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """The text version at hand of living rows, read from the source again and every edit replayed: batches of about
        32 MB, each (int64 positions within the living rows of `rows`, large_string texts without nulls), in order.
        chosen: bool per living row. Row groups without a chosen row are not read. The stage must need `text`."""
        ...

    def write(self, unit: int, columns: pa.Table) -> None:
        """The verdict of this stage for a unit, one row per living row in the order of `rows`: the columns of `adds`
        (missing ones are null) and, if the stage drops, `rule` (string, the failing rule's full name; null = kept) and
        `undecided` (string, the rule that had no answer, whose `nulls` says what becomes of the row; null = it had)."""
        ...


class Context(Protocol):
    """The driver's side of a resolve stage."""

    @property
    def stage(self) -> Stage: ...

    def map(
        self, phase: str, function: Callable[[Task, Stage, Any], dict[str, Any]], items: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Runs `function(task, stage, value)` for every (name, value) of items, in any order and place, and returns
        the small facts (JSON) of each. Every item is committed by its own receipt and never repeated. `function` is
        a module-level function; item names match [A-Za-z0-9_-]+."""
        ...


def stage_names() -> list[str]:
    """Names that `use:` takes without a module path: the files of this folder that define a stage."""
    here = Path(__file__).parent
    helpers = {"base", "errors", "sql", "draws", "arrow"}
    return sorted(
        m.name for m in pkgutil.iter_modules([str(here)]) if m.name not in helpers and not m.name.startswith("_")
    )


def stage_class(use: str) -> type[Stage]:
    """The class behind `use:`: `near_dedup` or `my_pkg.mod:Class`. Raises RecipeError with the nearest name."""
    if ":" in use:
        module_name, _, class_name = use.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError) as error:
            raise RecipeError(f"use: {use}: cannot be imported ({error})") from error
    else:
        if use not in stage_names():
            raise RecipeError(f"use: {use}: no such stage.{did_you_mean(use, stage_names())}")
        module = importlib.import_module(f".{use}", package=__package__)
        found = getattr(module, "".join(part.capitalize() for part in use.split("_")))
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise RecipeError(f"use: {use}: is not a stage (a subclass of tamis.stages.base.Stage)")
    return found
