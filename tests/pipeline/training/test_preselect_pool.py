"""The pool of PreSelect: every row is in it or counted, wherever its losses stand, and its texts are found again."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import parse_recipe
from tamis.pipeline.training.labelled import held_out, text_hashes
from tamis.pipeline.training.preselect_pool import Question, first_of_equals, read_pool
from tamis.stages.errors import DataError, RecipeError

from ...runs import query
from .scored_texts import ABILITIES, MIXED, NOISE, PAIRS, PERFECT, REVERSED, scored_texts, with_column, write_scored


def question(folder, *losses, **more):
    return Question((str(folder),), losses or ("*_bpc",), str(folder.parent / "abilities.yaml"), **more)


def test_strengths_domains_and_places_are_those_of_the_documents(tmp_path):
    table = scored_texts(40)
    pool = read_pool(question(write_scored(tmp_path / "in", table)))
    assert len(pool) == pool.rows == len(table) == 160
    assert pool.left_out == {}
    losses = np.stack([table[f"{name}_bpc"].to_numpy() for name in pool.models.names], axis=1)
    expected = [sum(row[i] < row[j] for i in range(4) for j in range(i + 1, 4)) for row in losses]
    assert pool.models.names == ("large", "medium", "small", "tiny")
    assert pool.agreeing.tolist() == expected
    names = np.array(pool.domain.names)[pool.domain.codes]
    assert names.tolist() == ["example.org", "example.com", "example.net", "example.de"] * 40
    assert pool.agreeing[names == "example.org"].tolist() == [PAIRS] * 40
    assert pool.agreeing[names == "example.net"].tolist() == [0] * 40
    assert np.array(pool.by["source"].names)[pool.by["source"].codes].tolist() == table["source"].to_pylist()
    assert pool.chars.tolist() == [len(text) for text in table["text"].to_pylist()]
    some = np.array([0, 3, 79, 80, 159])
    assert pool.texts(some).to_pylist() == table["text"].take(some).to_pylist()
    assert pool.hashes(some).equals(text_hashes(table["text"].take(some).cast(pa.large_string())))
    assert pool.held_out(0.3).tolist() == held_out(text_hashes(table["text"].cast(pa.large_string())), 0.3).tolist()


def test_every_row_is_in_the_pool_or_counted(tmp_path):
    table = scored_texts(25)
    texts, tiny, large = (table[name].to_pylist() for name in ("text", "tiny_bpc", "large_bpc"))
    texts[0] = None
    texts[1] = "too short"
    texts[2] = texts[5].upper() + "  "
    tiny[3], tiny[4], large[6], large[7] = None, math.nan, math.inf, -math.inf
    large[8] = -0.5
    tiny[1] = None  # no loss comes before short
    texts[9] = "ß" * 199
    texts[10] = "ß" * 200
    for name, values in (("text", texts), ("tiny_bpc", tiny), ("large_bpc", large)):
        table = with_column(table, name, values)
    pool = read_pool(question(write_scored(tmp_path / "in", table)))
    assert pool.left_out == {"null_text": 1, "no_loss": 5, "negative_loss": 1, "short": 1, "repeated": 1}
    assert pool.rows == 100 == len(pool) + sum(pool.left_out.values())
    assert pool.file_rows == [50, 50]
    assert sorted(pool.row[pool.file == 0].tolist())[:3] == [2, 10, 11], "of equal texts the first stays"


def test_a_row_group_that_cannot_be_read_is_counted_and_named(tmp_path):
    folder = write_scored(tmp_path / "in", scored_texts(100), files=1, group=100)
    path = folder / "scored-0.parquet"
    whole = pq.ParquetFile(path).metadata
    column = next(c for c in range(whole.num_columns) if whole.row_group(1).column(c).path_in_schema == "text")
    chunk = whole.row_group(1).column(column)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start + 20 : start + chunk.total_compressed_size - 20] = b"\xff" * (chunk.total_compressed_size - 40)
    path.write_bytes(data)
    pool = read_pool(question(folder))
    assert pool.left_out == {"unreadable": 100}
    assert len(pool) == 300
    assert len(pool.notes) == 1
    assert "scored-0.parquet: row group 1, 100 rows" in pool.notes[0]
    assert set(pool.row.tolist()).isdisjoint(range(100, 200))
    assert len(pool.texts(np.arange(300))) == 300


def test_how_the_documents_lie_in_files_and_row_groups_changes_nothing(tmp_path):
    table = scored_texts(40)
    one = read_pool(question(write_scored(tmp_path / "a" / "in", table, files=1, group=1000)))
    other = read_pool(question(write_scored(tmp_path / "b" / "in", table, files=7, group=3)))
    assert one.digest == other.digest
    assert one.draws(3, "x").tolist() == other.draws(3, "x").tolist()
    assert (one.domain.names, one.domain.codes.tolist()) == (other.domain.names, other.domain.codes.tolist())
    for place in (0, 2, 3, 22, 23, 159):  # ends of row groups and of files
        assert other.texts(np.array([place])).to_pylist() == [table["text"][place].as_py()]


def test_a_domain_column_is_preferred_and_may_be_named(tmp_path):
    table = scored_texts(10).append_column("site", pa.array(["a", "b", None, ""] * 10))
    folder = write_scored(tmp_path / "in", table.append_column("domain", table["source"]))
    assert read_pool(question(folder)).domain.names == ["source-0", "source-1"]
    pool = read_pool(question(folder, domain="site", by=("lang",)))
    assert pool.domain.names == ["a", "b"]
    assert pool.domain.codes.tolist() == [0, 1, -1, -1] * 10
    assert pool.domain_from == "column site"
    assert list(pool.by) == ["lang"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"domain": "sourc"}, r"--domain sourc: the input has no such column. Did you mean: source\?"),
        ({"by": ("langg",)}, r"--by langg: .*Did you mean: lang\?"),
        ({"text": "body"}, r"has no column 'body' for the text"),
    ],
)
def test_columns_that_are_not_there_are_named(tmp_path, more, told):
    with pytest.raises(RecipeError, match=told):
        read_pool(question(write_scored(tmp_path / "in"), **more))


def test_log_likelihoods_are_refused(tmp_path):
    table = scored_texts(10)
    for name in ABILITIES:
        table = with_column(table, f"{name}_bpc", [-x for x in table[f"{name}_bpc"].to_pylist()])
    with pytest.raises(RecipeError, match=r"doc-00000 has -2.* look like log-likelihoods"):
        read_pool(question(write_scored(tmp_path / "in", table)))


def test_nothing_left_says_why(tmp_path):
    folder = write_scored(tmp_path / "in", scored_texts(10))
    with pytest.raises(DataError, match="no document is left to train on: 40 short"):
        read_pool(question(folder, min_chars=10_000))


def test_json_lines_of_others_are_refused(tmp_path):
    write_scored(tmp_path / "in")
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "x", "a_bpc": 1}).encode()))
    with pytest.raises(RecipeError, match="JSON Lines have no types"):
        read_pool(
            Question((str(tmp_path / "*.gz"), str(tmp_path / "in")), ("*_bpc",), str(tmp_path / "abilities.yaml"))
        )


@pytest.mark.parametrize(
    "write",
    [
        {},
        {"partition": ["lang"]},
        {"format": "jsonl.zst"},
        {"sets": {"main": {}, "long": {"where": "words > 84"}}},
        {"columns": ["id", "limit_bpc"]},
    ],
    ids=lambda write: next(iter(write), "plain"),
)
def test_losses_are_found_in_the_ledger_of_an_output(tmp_path, write):
    """Measured columns stand in the ledger alone; here statistics of the texts play the losses."""
    limits = pa.array(np.random.default_rng(0).integers(70, 100, 200) + 0.5)
    folder = write_scored(tmp_path / "in", scored_texts(50).append_column("limit_bpc", limits))
    recipe = {
        "name": "scored",
        "input": {"files": str(folder)},
        "output": str(tmp_path / "out"),
        "unit_size": "30kB",
        "write": {"shard_size": "20kB", **write},
        "report": {"pages": False},
        "stages": [
            {"use": "url_tags"},
            {"use": "text_signals"},
            {"use": "rules", "rules": {"some": "chars % 5 > 0"}},
        ],
    }
    run(parse_recipe(recipe))
    (tmp_path / "abilities.yaml").write_text("words: 2\nlimit: 1\nchars_read: 3\n")
    losses = ("words", "limit_bpc", "chars_read")
    pool = read_pool(Question((str(tmp_path / "out"),), losses, str(tmp_path / "abilities.yaml")))
    rows = query(
        f"SELECT g.text, l.words, g.limit_bpc, l.chars_read, l.domain FROM '{tmp_path}/out/ledger/*.parquet' l "
        f"JOIN '{folder}/*.parquet' g ON l.doc_id = g.id WHERE l.decision = 'keep'"
    )
    expected = {
        text: ((chars < words) + (chars < limit) + (words < limit), domain)
        for text, words, limit, chars, domain in rows
    }
    assert 100 < len(expected) < 200, "the run dropped some"
    assert pool.domain_from == "column domain"
    texts = pool.texts(np.arange(len(pool))).to_pylist()
    found = dict(zip(texts, zip(pool.agreeing.tolist(), np.array(pool.domain.names)[pool.domain.codes].tolist())))
    assert found == expected
    assert len({strength for strength, _ in expected.values()}) > 1


def test_the_first_of_equal_texts():
    hi, lo = np.array([5, 5, 1, 5, 1], np.uint64), np.array([2, 3, 9, 2, 9], np.uint64)
    assert first_of_equals(hi, lo).tolist() == [True, True, True, False, False]


def test_domains_of_the_helper_are_what_they_are_called():
    assert {PERFECT, NOISE, REVERSED, MIXED} == {url.split("/")[2][4:] for url in scored_texts(1)["url"].to_pylist()}
