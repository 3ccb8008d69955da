"""copies: FineWeb-2's table, or one's own, over the size of a document's cluster."""

from __future__ import annotations

import bisect
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from tamis.pipeline.graph import build_graph
from tamis.pipeline.recipe import Recipe, parse_recipe
from tamis.stages.copies import Copies, CopiesConfig
from tamis.stages.errors import RecipeError

DEDUP = {"use": "exact_dedup"}
SIZES = pa.int64()


def copies(sizes: Sequence[int | None], kind: pa.DataType = SIZES, **config: Any) -> list[int]:
    stage = Copies(CopiesConfig(**config), name="copies")
    stage.bind({"*_cluster_size": "size"})
    return stage.measure(pa.table({"size": pa.array(sizes, kind)}))["copies"].to_pylist()


def needed(*stages: dict, **columns: pa.DataType) -> tuple[str, ...]:
    """What the last stage reads, in a recipe over these input columns."""
    recipe = parse_recipe({"name": "x", "input": "x.parquet", "output": "out", "stages": list(stages)})
    return build_graph(recipe, pa.schema(list(columns.items()))).stages[-1].needs


def test_the_ten_values_of_fineweb_2():
    sizes = [1, 2, 3, 4, 5, 99, 100, 999, 1000, 5000]
    assert copies(sizes) == [1, 2, 3, 3, 5, 5, 8, 8, 1, 1]
    assert copies(sizes, pa.int32()) == copies(sizes, pa.uint16()) == copies(sizes)


def test_a_document_without_duplicates_counts_once():
    assert copies([None, 1, None]) == [1, 1, 1]
    assert copies([None, 1, 2], table={1: 7, 2: 0}) == [7, 7, 0]


def test_a_size_that_is_not_in_the_table_has_the_copies_of_the_next_smaller_one():
    table = {145: 1, 1: 1, 2: 3, 3: 4, 26: 9, 17: 10, 7: 7}
    sizes = list(range(1, 200))
    keys = sorted(table)
    assert copies(sizes, table=table) == [table[keys[bisect.bisect(keys, size) - 1]] for size in sizes]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "the smallest cluster size is 1"),
        ({2: 1}, "the smallest cluster size is 1"),
        ({0: 1, 1: 1}, "the smallest cluster size is 1"),
        ({1: 1, 5: -1}, "5: -1: copies are a whole number"),
        ({1: 2**31}, "copies are a whole number"),
        ({1: 1.5}, "integer"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table, said):
    with pytest.raises(ValidationError, match=said):
        CopiesConfig(table=table)


def test_it_reads_the_last_dedup_before_it_or_the_one_named():
    first, second = {**DEDUP, "name": "urls", "key": "url"}, DEDUP
    assert needed(first, second, {"use": "copies"}) == ("exact_cluster_size",)
    assert needed(first, second, {"use": "copies", "of": "urls"}) == ("urls_exact_cluster_size",)
    assert needed(first, {"use": "c4_lines"}, {"use": "copies"}) == ("urls_exact_cluster_size",), "over an edit"


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"use": "copies"}], "nothing before it adds \\*_cluster_size: add a stage that does"),
        (
            [DEDUP, {"use": "copies", "of": "exact_dedop"}],
            "of: exact_dedop: no earlier stage. Did you mean: exact_dedup",
        ),
        ([DEDUP, {"use": "normalize"}, {"use": "copies", "of": "normalize"}], "of: normalize: adds no column"),
    ],
)
def test_a_stage_that_adds_no_cluster_size_is_refused(stages, said):
    with pytest.raises(RecipeError, match=said):
        needed(*stages)


def test_a_table_comes_back_the_same_from_a_manifest():
    entry = {"use": "copies", "table": {1: 1, 2: 4, 10: 5, 100: 6}}
    recipe = parse_recipe({"name": "x", "input": "x.parquet", "output": "out", "stages": [DEDUP, entry]})
    stored = json.loads(json.dumps(recipe.resolved(), sort_keys=True))
    keys = [
        [bound.cell_key for bound in build_graph(one, pa.schema([])).stages]
        for one in (recipe, Recipe.model_validate(stored))
    ]
    assert keys[0] == keys[1]
