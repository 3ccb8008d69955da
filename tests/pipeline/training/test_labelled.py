"""Labelled texts from files: every row has a fate, equal texts are one, and a text's side of the split is its own."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.pipeline.storage import storage_at
from tamis.pipeline.training.labelled import (
    Files,
    check_labels,
    deduplicate,
    held_out,
    near_duplicates,
    read_labelled,
    split,
    text_hashes,
)
from tamis.pipeline.training.prepare import prepare
from tamis.stages.errors import RecipeError

from .labelled_texts import WORDS

LABELLED = st.lists(
    st.tuples(st.sampled_from(["a", "A  ", "b c", "b\n\nC", "d", "", "é"]), st.sampled_from("xyz")), max_size=30
)


def parquet(path: Path, **columns) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def jsonl(path: Path, rows, *, compressed=False) -> str:
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    return str(path)


def labelled(pairs) -> pa.Table:
    return pa.table(
        {
            "text": pa.chunked_array([[text for text, _ in pairs]], pa.large_string()),
            "label": pa.chunked_array([[label for _, label in pairs]], pa.string()),
        }
    )


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=60)) for _ in range(count)]


# --- reading


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, False, None], ["1", "0"]),
        ([3, 0, None], ["3", "0"]),
        (["high", "low", None], ["high", "low"]),
        (pa.array(["high", "low", None]).dictionary_encode(), ["high", "low"]),
    ],
)
def test_labels_are_bool_int_or_string_and_null_ones_are_counted(tmp_path, values, expected):
    found = read_labelled(
        [Files((parquet(tmp_path / "a.parquet", text=["p", "q", "r"], label=values),))], label="label"
    )
    assert found.table["label"].to_pylist() == expected
    assert found.left_out["null_label"] == 1


def test_labels_of_json_lines_are_those_of_parquet(tmp_path):
    rows = [{"text": "p", "y": True}, {"text": "q", "y": False}, {"text": "r", "y": None}, {"text": "s"}]
    one = read_labelled([Files((jsonl(tmp_path / "a.jsonl", rows),))], label="y")
    two = read_labelled([Files((jsonl(tmp_path / "b.jsonl.gz", rows, compressed=True),))], label="y")
    assert one.table["label"].to_pylist() == ["1", "0"] == two.table["label"].to_pylist()
    assert one.left_out["null_label"] == 2


def test_files_of_one_label_need_no_column(tmp_path):
    files = [Files((parquet(tmp_path / "a.parquet", text=["p"]),), "1", "positive")]
    files.append(Files((jsonl(tmp_path / "b.jsonl", [{"text": "q"}]),), "0", "negative"))
    found = read_labelled(files)
    assert set(zip(found.table["text"].to_pylist(), found.table["label"].to_pylist())) == {("p", "1"), ("q", "0")}
    assert sorted(one["name"] for one in found.files) == ["negative/b.jsonl", "positive/a.parquet"]


def test_every_row_is_in_the_table_or_counted_under_a_reason(tmp_path):
    lines = [
        {"text": "good", "label": "a", "lang": "en"},
        "this is no JSON\n",
        {"text": None, "label": "a"},
        {"text": " \n ", "label": "a"},
        {"text": "no label", "label": None},
        {"label": "a"},
        {"text": 5, "label": "a"},
    ]
    path = jsonl(tmp_path / "a.jsonl", lines)
    found = read_labelled([Files((path,))], label="label", columns=["lang"])
    assert found.left_out == {"unreadable": 2, "null_text": 2, "empty_text": 1, "null_label": 1}
    assert len(found.table) + sum(found.left_out.values()) == len(lines)
    assert found.table.to_pylist() == [{"text": "good", "label": "a", "lang": "en"}]
    assert any("a.jsonl#1: bad_line" in one for one in found.warnings)


def test_bytes_that_are_no_utf8_are_a_reason_not_a_crash(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=pa.array([b"fine", b"\xff\xfe"], pa.binary()), label=["a", "b"])
    found = read_labelled([Files((path,))], label="label")
    assert found.table["text"].to_pylist() == ["fine"]
    assert found.left_out["unreadable"] == 1


def test_a_row_group_that_cannot_be_decoded_is_counted_whole_and_named(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text number {i} of them" for i in range(200)], "label": ["a", "b"] * 100})
    pq.write_table(table, path, row_group_size=100, compression="none", use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    place = data.index(b"text number 150 of them")
    data[place : place + 4] = b"next"
    path.write_bytes(data)
    found = read_labelled([Files((str(path),))], label="label")
    assert len(found.table) == 100
    assert found.left_out["unreadable"] == 100
    assert "a.parquet: row group 1, 100 rows, cannot be read" in found.warnings[0]


def test_an_object_store_gives_the_same_table_and_the_same_content_hashes(tmp_path, s3):
    path = parquet(tmp_path / "a.parquet", text=["p", "q"], label=[True, False])
    storage_at(s3).write("data/a.parquet", Path(path).read_bytes())
    there = read_labelled([Files((f"{s3}/data/*.parquet",))], label="label")
    here = read_labelled([Files((path,))], label="label")
    assert there == here


def test_a_column_that_is_not_there_is_an_error_with_the_nearest_name(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=["p"], toxic=[True])
    with pytest.raises(RecipeError, match=r"toxc.*Did you mean: toxic"):
        read_labelled([Files((path,))], label="toxc")
    with pytest.raises(RecipeError, match="langs"):
        read_labelled([Files((path,))], label="toxic", columns=["langs"])
    with pytest.raises(RecipeError, match="cannot be the label"):
        read_labelled([Files((path,))], label="text")


def test_columns_that_bear_names_of_tamis_can_be_labels_and_groups(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=["p", "q"], decision=["keep", "drop"], url=["u", "v"], rule=["r", None])
    found = read_labelled([Files((path,))], label="decision", columns=["url", "rule"])
    assert found.table["label"].to_pylist() == ["keep", "drop"]
    assert found.table["url"].to_pylist() == ["u", "v"]
    assert found.table["rule"].to_pylist() == ["r", None]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["very good", "bad"], r"white space: 'very good' \(1 row\)"),
        (["", "bad", ""], r"white space: '' \(2 rows\)"),
        (["new\nline", "bad"], r"'new\\nline'"),
        (["a\u00a0b", "bad"], "white space"),
        ([f"label{i}" for i in range(10_001)], "10,001 different labels"),
        (["0.25", "0.5", "0.75"], "look like scores"),
    ],
)
def test_values_that_cannot_be_labels_are_errors_with_examples(labels, message):
    with pytest.raises(RecipeError, match=message):
        check_labels(pa.chunked_array([labels]), "y")


def test_ten_thousand_labels_and_whole_numbers_are_fine():
    check_labels(pa.chunked_array([[f"label{i}" for i in range(10_000)]]))
    check_labels(pa.chunked_array([["1", "2", "3"]]))


# --- one row per text


@given(LABELLED)
@settings(deadline=None)
def test_one_row_per_text_and_none_of_a_text_with_two_labels(pairs):
    found, counts = deduplicate(labelled(pairs))
    groups: dict[str, set[str]] = {}
    for text, label in pairs:
        groups.setdefault(" ".join(text.split()).lower(), set()).add(label)
    expected = {text: min(labels) for text, labels in groups.items() if len(labels) == 1}
    kept = [
        (" ".join(text.split()).lower(), label)
        for text, label in zip(*(found[c].to_pylist() for c in ("text", "label")))
    ]
    assert dict(kept) == expected
    assert len(kept) == len(expected)
    conflicting = sum(len(groups[" ".join(text.split()).lower()]) > 1 for text, _ in pairs)
    assert counts == {"conflicting": conflicting, "duplicates": len(pairs) - conflicting - len(expected)}


@given(LABELLED, st.randoms())
@settings(deadline=None)
def test_what_stays_and_its_order_do_not_depend_on_the_order_of_the_rows(pairs, draw):
    mixed = list(pairs)
    draw.shuffle(mixed)
    assert deduplicate(labelled(pairs))[0].to_pylist() == deduplicate(labelled(mixed))[0].to_pylist()


def test_the_order_is_that_of_the_hashes_and_hashes_are_of_the_text_alone():
    texts = sentences(200)
    found, _ = deduplicate(labelled([(text, "ab"[i % 2]) for i, text in enumerate(texts)]))
    hashes = found["hash"].to_pylist()
    assert hashes == sorted(hashes)
    assert text_hashes(found["text"]).to_pylist() == hashes
    assert text_hashes(pa.array(["One  two\n"], pa.large_string())) == text_hashes(
        pa.array(["one two"], pa.large_string())
    )


# --- the split


def test_a_text_is_on_the_same_side_whatever_else_is_there():
    table, _ = deduplicate(labelled([(text, "a") for text in sentences(500)]))
    whole = dict(zip(table["text"].to_pylist(), held_out(table["hash"], 0.2).tolist()))
    part = table.slice(100, 50)
    assert dict(zip(part["text"].to_pylist(), held_out(part["hash"], 0.2).tolist())).items() <= whole.items()
    assert 60 <= sum(whole.values()) <= 140
    few = held_out(table["hash"], 0.05)
    assert set(table["text"].filter(pa.array(few)).to_pylist()) <= {text for text, test in whole.items() if test}


def test_the_two_sides_are_all_texts_and_have_none_in_common():
    table, _ = deduplicate(labelled([(text, "a") for text in sentences(300)]))
    train, test = split(table, 0.3)
    sides = [set(side["hash"].to_pylist()) for side in (train, test)]
    assert sides[0] | sides[1] == set(table["hash"].to_pylist())
    assert not sides[0] & sides[1]
    assert len(split(table, 0.0)[1]) == 0


def test_near_copies_are_found_and_other_texts_are_not():
    texts = sentences(300)
    changed = [" ".join([*text.split()[:-1], "other"]) for text in texts[:100]]  # Jaccard 0.965 of 56 5-grams
    found = near_duplicates(
        pa.chunked_array([[*changed, *sentences(100, seed=1)]], pa.large_string()),
        pa.chunked_array([texts], pa.large_string()),
    )
    assert found[:100].sum() >= 98
    assert not found[100:].any()
    # equal but for case and punctuation, which the n-grams of near_dedup do not see
    loud = pa.chunked_array([[f"{text.upper()} !" for text in texts]], pa.large_string())
    assert near_duplicates(loud, pa.chunked_array([texts], pa.large_string())).all()


def test_what_is_held_out_has_no_near_copy_among_the_training_texts():
    texts = sentences(400)
    pairs = [(text, "ab"[i % 2]) for i, text in enumerate(texts)]
    pairs += [(" ".join([*text.split()[:-1], "other"]), "ab"[i % 2]) for i, text in enumerate(texts)]
    parts = prepare(labelled(pairs), 0.3, None, {"null_text": 3})
    assert parts.rows["near_duplicates"] > 50
    held = {tuple(text.split()[:-1]) for text in parts.test["text"].to_pylist()}
    trained = {tuple(text.split()[:-1]) for text in parts.train["text"].to_pylist()}
    assert len(held & trained) <= 0.02 * len(texts)  # what 14 bands of 8 miss at Jaccard 0.965
    assert parts.rows["read"] == 803 == sum(n for key, n in parts.rows.items() if key != "read")


@pytest.mark.parametrize(("cap", "most"), [(None, None), ("down", "rarest"), (20, 20)])
def test_a_cap_takes_of_each_label_the_same_texts_whatever_their_order(cap, most):
    pairs = [(text, "a" if i % 10 else "b") for i, text in enumerate(sentences(300))]
    parts = prepare(labelled(pairs), 0.1, cap, {})
    counts = {one["values"]: one["counts"] for one in parts.train["label"].value_counts().to_pylist()}
    whole = prepare(labelled(pairs), 0.1, None, {})
    before = {one["values"]: one["counts"] for one in whole.train["label"].value_counts().to_pylist()}
    limit = {None: 10**9, "rarest": min(before.values())}.get(most, most)
    assert counts == {label: min(n, limit) for label, n in before.items()}
    assert parts.rows["over_cap"] == sum(before.values()) - sum(counts.values())
    assert parts.test.to_pylist() == whole.test.to_pylist()
    again = prepare(labelled(pairs[::-1]), 0.1, cap, {})
    assert again.train.to_pylist() == parts.train.to_pylist()


def test_a_held_out_label_that_nothing_is_trained_on_is_counted():
    table, _ = deduplicate(labelled([(text, "a") for text in sentences(200)]))
    side = held_out(table["hash"], 0.5)
    labels = pc.if_else(pa.array(side & (np.arange(len(table)) % 2 == 0)), "rare", "a")
    parts = prepare(table.select(["text"]).append_column("label", labels), 0.5, None, {})
    assert parts.rows["label_not_trained"] == pc.sum(pc.equal(labels, "rare")).as_py() > 0
    assert set(parts.test["label"].to_pylist()) == {"a"}
