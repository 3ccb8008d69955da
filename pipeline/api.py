"""Tamis from Python and notebooks: run recipes, open what they made, apply single stages.

Invariant: nothing here can do what the command line cannot; both call the same functions, so a notebook and a job in a
queue give the same results.

>>> from tamis.pipeline import api
>>> found = api.apply(["text_signals", {"use": "rules", "rules": {"long": "words >= 5"}}], ["Too short.", "As long as it has to be."])
>>> found.select(["words", "rules.long", "pass"]).to_pylist()
[{'words': 2, 'rules.long': False, 'pass': False}, {'words': 7, 'rules.long': True, 'pass': True}]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from .progress import Progress
from .recipe import Recipe, load_recipe, parse_recipe

AnyRecipe = str | Path | Mapping[str, Any] | Recipe
Settings = Sequence[str] | Mapping[str, Any]


class Words(str):
    """Text that a notebook or a prompt shows as it is, line by line."""

    def __repr__(self) -> str:
        return str(self)


class OpenOutput:
    """A finished output: `manifest` as a dict, `ledger` and `data` as DuckDB relations, `sql` for any query over them.

    >>> found = api.open(finished)
    >>> found.manifest["counts"]["rows"], len(found.ledger)
    (205, 205)
    >>> found.sql("SELECT decision, count(*) AS docs FROM ledger GROUP BY ALL ORDER BY ALL").fetchall()
    [('drop', 151), ('keep', 53), ('quarantine', 1)]
    """

    def __init__(self, folder: str | Path) -> None:
        from .query import Query

        self._query = Query([str(folder)])
        self.name: str = self._query.outputs[0].name
        self.manifest: dict[str, Any] = self._query.outputs[0].manifest

    def __repr__(self) -> str:
        counts = self.manifest["counts"]
        return (
            f"OpenOutput({self.name!r}): {counts['rows']:,} documents read, {counts['kept']:,} kept, "
            f"{counts['dropped']:,} dropped, {counts['quarantined']:,} set aside"
        )

    @property
    def ledger(self) -> Any:
        """One row per document of the input, as a DuckDB relation (`.filter`, `.df`, `.pl`, `.to_arrow_table` ...)."""
        return self.sql("FROM ledger")

    @property
    def data(self) -> Any:
        """The curated documents, as a DuckDB relation. RecipeError where none was kept."""
        return self.sql("FROM data")

    def sql(self, query: str) -> Any:
        """The DuckDB relation of one SELECT over the views ledger, data, quarantine and quarantine_files. RecipeError."""
        return self._query.relation(query)

    def why(self, key: str | None = None, *, text: str | None = None) -> Words:
        """A document's whole story. `key`: doc_id, file#row, URL or source_hash; `text`: a phrase of a kept one.

        >>> print(api.open(finished).why("null").splitlines()[1])
        url     https://scrap.example.org/null
        """
        from .why import story

        if (key is None) == (text is None):
            raise TypeError("give a key or text='a phrase'")
        return Words(story(str(self._query.outputs[0].storage.root), key=key, phrase=text))

    def show(
        self,
        where: str | None = None,
        *,
        n: int = 5,
        by: str | None = None,
        sample: bool = False,
        near: str | None = None,
        columns: Sequence[str] = (),
        chars: int = 500,
        diff: bool = False,
    ) -> Words:
        """Documents with text and values, as `tamis show` prints them; `near`: a rule or parameter, around its threshold.

        >>> print(api.open(finished).show("decision = 'keep'", n=1, chars=20).splitlines()[0])
        --- bread (pages.jsonl#0)
        """
        from .show_documents import Choice, shown

        choice = Choice(where, by, sample, near, None, n, tuple(columns), chars, diff)
        return Words("\n".join(shown(str(self._query.outputs[0].storage.root), choice)))

    def sweep(
        self,
        column: str,
        *,
        cuts: Sequence[float] = (),
        shares: Sequence[float] = (),
        side: Literal["top", "bottom"] = "top",
        where: str | None = None,
        by: str | None = None,
        most: int = 20,
        features: Sequence[str] | None = None,
    ) -> pa.Table:
        """What many cuts of one score, and their inverses, would keep: of all, of the `most` largest groups of `by`, and how
        other columns change; a row a figure, as `tamis sweep --csv` writes them. RecipeError.

        >>> found = api.open(finished).sweep("words", shares=[0.5]).to_pylist()
        >>> [(row["inverse"], row["kept"], row["all"]) for row in found if row["name"] == "documents"]
        [(False, 103, 204), (True, 101, 204)]
        """
        from .sweep import Question, records, sweep

        chosen = None if features is None else tuple(features)
        question = Question(column, tuple(cuts), tuple(shares), side, where, by, most, chosen)
        return pa.Table.from_pylist(records(sweep(self._query.outputs[0], question)))


def diff(old: str | Path, new: str | Path, by: Literal["place", "text"] | None = None) -> pa.Table:
    """The documents that entered or left between two finished runs, and what decided them in both, as `tamis diff --to`
    writes them. RecipeError, SetupError.

    >>> len(api.diff(finished, finished))
    0
    """
    from .diff import Difference

    return Difference.open(str(old), str(new), by).table()


def open(output: str | Path) -> OpenOutput:
    """A finished output, by its folder or URL. SetupError where the run is not finished."""
    return OpenOutput(output)


def sql(query: str, outputs: Sequence[str | Path]) -> Any:
    """The DuckDB relation of one SELECT over several outputs: in the views `ledger`, `data`, `quarantine` and
    `quarantine_files` the column `output` says which one a row is of. RecipeError.

    >>> api.sql("SELECT count(*), count(DISTINCT doc_id) FROM ledger", [finished]).fetchall()
    [(205, 204)]
    """
    from .query import Query

    return Query([str(output) for output in outputs]).relation(query)


def run(
    recipe: AnyRecipe,
    *,
    input: Sequence[str] | str = (),
    output: str | Path | None = None,
    settings: Settings = (),
    executor: Literal["inline", "ray"] = "inline",
    workers: int | None = None,
    observe: bool = False,
    sample: str | float | None = None,
    units: int | None = None,
    until: str | None = None,
    replace: bool = False,
    progress: Progress | bool = False,
) -> OpenOutput | None:
    """Runs a recipe to the end, or continues it, and opens the output; None where `until` stopped it before its end.

    `recipe`: a path, a mapping as in YAML, or a Recipe. `input`, `output` and `settings` change it as on the command
    line; settings may be a mapping: {"gopher.set.gopher_quality.words_min": 30}. `progress`: True shows it.

    Raises RecipeError (edit the recipe), SetupError, DataError, StageError.

    >>> made = api.run("configs/quickstart.yaml", input="tests/golden/pages.jsonl", output=folder / "made")
    >>> made.manifest["counts"]["kept"]
    53
    """
    from .driver import run as run_recipe

    loaded = _recipe(recipe, input, output, settings, observe=observe, sample=sample, units=units)
    if progress is True:
        from .display import Display

        progress = Display()
    shown = progress if isinstance(progress, Progress) else None
    result = run_recipe(loaded, executor=executor, workers=workers, progress=shown, until=until, replace=replace)
    return OpenOutput(result.output) if result.manifest else None


def plan(
    recipe: AnyRecipe, *, input: Sequence[str] | str = (), output: str | Path | None = None, settings: Settings = ()
) -> Words:
    """What a run would do, as `tamis plan` prints it; starts nothing. RecipeError.

    >>> print(api.plan("configs/quickstart.yaml", input="tests/golden/pages.jsonl").splitlines()[0])
    recipe  quickstart (configs/quickstart.yaml)
    """
    from .show_plan import plan_text, planned

    return Words(plan_text(planned(_recipe(recipe, input, output, settings))))


def apply(stage: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]], rows: Any, **config: Any) -> pa.Table:
    """One stage, or several in order, over texts in memory: a table with the columns that they add, one row per text.

    `stage`: a stage's name, with its keys as `config`; or an entry of a recipe; or a list of either. `rows`: strings, a
    pyarrow, pandas or polars column of them, or a table with a column `text` and whatever else the stages read. Edits
    add `text` as the last one left it; rules add a boolean each (null: undecided) and `pass`, true where all of them
    hold. Nothing is dropped: every stage sees every row. A null text has nulls everywhere.

    RecipeError for what is wrong in a config, for columns that nobody adds (a preset reads `text_signals`: put it
    before), and for a stage that needs the whole corpus (exact_dedup): run a recipe for that.

    >>> api.apply("normalize", ["Cafe\\u0301\\r\\n", None])["text"].to_pylist() == ["Caf\\u00e9\\n", None]
    True
    """
    from .apply import apply_stages

    if isinstance(stage, str | Mapping):
        entries: list[Any] = [{"use": stage, **config} if isinstance(stage, str) else {**stage, **config}]
    else:
        if config:
            raise TypeError("with a list of stages, write each one's keys beside its use: {'use': 'rules', ...}")
        entries = list(stage)
    return apply_stages(entries, rows)


def _recipe(
    recipe: AnyRecipe, input: Sequence[str] | str, output: str | Path | None, settings: Settings, **keys: Any
) -> Recipe:
    given = [settings] if isinstance(settings, str) else list(settings)
    if isinstance(settings, Mapping):
        given = [f"{key}={json.dumps(found)}" for key, found in settings.items()]
    given += [f"{key}={json.dumps(found)}" for key, found in keys.items() if found not in (None, False)]
    changes: Any = {"settings": given, "input": [input] if isinstance(input, str) else list(input)}
    changes["output"] = None if output is None else str(output)
    if isinstance(recipe, str | Path):
        return load_recipe(recipe, **changes)
    if isinstance(recipe, Recipe):
        return parse_recipe(_as_written(recipe), path=recipe.path or recipe.name, **changes)
    return parse_recipe(recipe, **changes)


def _as_written(recipe: Recipe) -> dict[str, Any]:
    """The recipe as YAML would have it: a stage's own keys beside those that all have, a dollar in a path twice."""
    from .bases import literal

    plain = {key: found for key, found in recipe.resolved().items() if found is not None}
    plain["stages"] = [
        {key: found for key, found in entry.items() if key != "config" and found is not None} | entry["config"]
        for entry in plain["stages"]
    ]
    for section, keys in [(plain, ("output", "work")), *((source, ("files", "root")) for source in plain["input"])]:
        for key in keys:
            found = section.get(key)
            section[key] = [literal(one) for one in found] if isinstance(found, list) else found and literal(found)
    return {key: found for key, found in plain.items() if found is not None}
