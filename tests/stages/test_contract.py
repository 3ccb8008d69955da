"""Every stage keeps the contract of the per-row methods; new files in stages/ are found by themselves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.stages.base import Column, Stage, StageConfig, stage_names

from ..kenlm_models import example as kenlm_files
from ..tiny_models import tiny_lm, tokenizer, word_list
from . import contract
from .example_models import made_up

# Stages that cannot be built without arguments, or do little by default.
EXAMPLES: dict[str, dict[str, Any]] = {
    "rules": {
        "rules": {"long": "length(text) >= $least", "numbered": "words IS NULL OR words > 2"},
        "params": {"least": 20},
    },
    "sample": {"share": 0.5},
    "threshold": {"column": "words", "keep": "10%"},
    "perplexity_buckets": {"column": "ppl"},
    "sql_column": {"sql": "words / (words - 3)", "type": "float64"},
    "cut_spans": {"spans": "paragraph_spans", "replace": "[...]", "min_words": 2},
    "fasttext": {"model": made_up("a", "b", "c"), "label": "b", "unit": "sentence", "over": 0.5, "spans": True},
    "language": {"model": made_up("en", "eng_Latn", "zh")},
    "kenlm": kenlm_files(),
    "toxicity": {"words": word_list(), "unit": "sentence", "over": 1, "spans": True},
    "token_count": {"tokenizer": tokenizer()},
}
LM = {"gpus": 0, "columns": ["n_tokens", "nll", "bpc", "min_k_20", "fast_detect", "lrr"]}
LONG = {
    "lm_scores": 20_000,
    "token_count": 1_000_000,
    "kenlm": 1_000_000,
}  # bytes of a long text, where millions would take minutes
OPTIONAL = {"kenlm": ("kenlm", "sentencepiece")}  # libraries without which a stage is skipped here
PAGES = [json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "pages.jsonl").open(encoding="utf-8")]


def example(use: str) -> dict[str, Any] | None:
    return {**LM, "model": tiny_lm()} if use == "lm_scores" else EXAMPLES.get(use)  # torch takes seconds to import


@pytest.fixture(scope="module", params=stage_names())
def use(request) -> str:
    for library in OPTIONAL.get(request.param, ()):
        pytest.importorskip(library)
    return request.param


@pytest.fixture(scope="module")
def stage(use) -> Stage:
    return contract.build(use, example(use))


def golden(stage: Stage):
    return contract.batch(stage, [page["text"] or "" for page in PAGES] + list(contract.AWKWARD), PAGES)


def test_it_declares_columns_and_rules_that_people_can_write(stage):
    contract.check_declaration(stage)


def test_a_batch_without_rows_is_no_special_case(stage):
    contract.check_no_rows(stage)


def test_empty_texts_and_nulls_everywhere_else_are_no_error(stage):
    contract.check_nothing_known(stage)


def test_a_text_of_five_megabytes_is_processed_as_a_whole(stage, use):
    prose = " ".join(page["text"] for page in PAGES if page["text"])
    size = LONG.get(use, 5_000_000)
    table = contract.batch(stage, ["short", (prose * (size // len(prose) + 1))[:size], "y" * size, ""], PAGES)
    contract.check_splits(stage, table, [1, 2])


def test_a_batch_cut_anywhere_gives_the_same_rows(stage):
    table = golden(stage)
    contract.check_splits(stage, table, random.Random(1).sample(range(table.num_rows), 5))


def test_random_texts_do_not_see_their_neighbours(stage):
    texts = st.lists(st.text(max_size=40) | st.sampled_from(contract.AWKWARD), min_size=2, max_size=6)

    @settings(max_examples=15, deadline=None)
    @given(texts, st.integers(0, 6))
    def check(texts, cut):
        contract.check_splits(stage, contract.batch(stage, texts), [min(cut, len(texts))])

    check()


def test_it_gives_the_same_again_from_a_new_and_from_a_pickled_object(stage, use):
    contract.check_repeats(stage, contract.build(use, example(use)), golden(stage))


class Good(Stage):
    """Length of the text."""

    @property
    def adds(self):
        return (Column("length", pa.float64(), "characters"),)

    def measure(self, batch):
        return pa.table({"length": pc.utf8_length(batch["text"]).cast(pa.float64())})


class SeesTheBatch(Good):
    def measure(self, batch):
        return pa.table({"length": pa.array([float(batch.num_rows)] * batch.num_rows, pa.float64())})


class DividesByZero(Good):
    def measure(self, batch):
        lengths = super().measure(batch)["length"]
        return pa.table({"length": pc.divide(lengths, lengths)})


class Counts(Good):
    calls = 0.0

    def measure(self, batch):
        self.calls += 1
        return pa.table({"length": pa.array([self.calls] * batch.num_rows, pa.float64())})


class LosesARow(Good):
    def measure(self, batch):
        return super().measure(batch).slice(1)


class WrongType(Good):
    def measure(self, batch):
        return pa.table({"length": pc.utf8_length(batch["text"])})


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (SeesTheBatch, "depends on the batch"),
        (DividesByZero, "NaN"),
        (Counts, "depends on the batch|not determined"),
        (LosesARow, "rows for"),
        (WrongType, "declares"),
    ],
)
def test_a_stage_that_breaks_the_contract_is_told_how(broken, complaint):
    def check(cls):
        stage, table = cls(StageConfig(), name="length"), contract.batch(Good(StageConfig(), name="x"), ["a", "", "bc"])
        contract.check_declaration(Good(StageConfig(), name="length"))
        contract.check_splits(stage, table, [1])
        contract.check_repeats(stage, cls(StageConfig(), name="length"), table)

    check(Good)
    with pytest.raises(AssertionError, match=complaint):
        check(broken)
