"""What every stage promises for its per-row methods, as functions that raise AssertionError with what was broken.

Invariant: nothing here knows a particular stage, so a stage from outside the repository can be held against it too.
"""

from __future__ import annotations

import itertools
import math
import pickle
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.stages._spans import SPANS
from tamis.stages.base import Stage, stage_class

ROUNDING = 1e-3  # of a sum of thousands of float32
METHODS = ("edit", "measure", "decide")
AWKWARD = (
    "",
    " ",
    "\n",
    "a",
    "\0\x01\x7f\x85\u2028\ufeff",
    "e\u0301 \u1112\u1161\u11ab \u212b \u0130stanbul",
    "line\r\nline\rline\x0bline\x1cline\u2029line",
    "word " * 300,
    "x" * 5000,
    "{ lorem ipsum } javascript, terms of use ... [1] [citation needed]",
    "1.2k likes\nREAD MORE\n2024\nSign-in\n",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0010ffff",
    "清明前的茶叶。ตลาดน้ำ नदी العربية",
)


def build(use: str, config: dict[str, Any] | None = None) -> Stage:
    """The stage as a plan would make it, under a name of its own."""
    cls = stage_class(use)
    return cls(cls.Config(**(config or {})), name=use.rpartition(":")[2].lower(), seed=7)


def batch(stage: Stage, texts: Sequence[str], rows: Sequence[dict[str, Any]] = ()) -> pa.Table:
    """A batch with `texts` and what else the stage reads: url and date from `rows`, spans of the texts, numbers for
    measured columns."""
    n = len(texts)
    columns: dict[str, pa.Array] = {"text": pa.array(texts, pa.large_string())}
    for name in ("url", "date", *stage.needs):
        if name in ("doc_id", "source_file", "source_hash", "url", "date", "host", "domain"):
            values = [(rows[i % len(rows)].get(name) if rows else None) or f"{name}-{i}" for i in range(n)]
            columns.setdefault(name, pa.array(values, pa.string()))
        elif name in stage.of_text:
            columns[name] = pa.array([None if i % 5 == 4 else _spans(text) for i, text in enumerate(texts)], SPANS)
        elif name != "text":
            columns.setdefault(name, pa.array([None if i % 5 == 4 else i % 7 for i in range(n)], pa.int32()))
    return pa.table(columns)


def _spans(text: str) -> list[dict[str, Any]]:
    """Two pieces of a text, in bytes; they touch and may end inside a character."""
    size = len(text.encode())
    ends = [(size // 7, size // 3), (size // 3, size // 2)]
    return [{"start": a, "end": b, "score": 1.0, "kind": ("repeat", "other")[a % 2]} for a, b in ends]


def applied(stage: Stage) -> list[str]:
    """The per-row methods that an engine would call: of a resolve stage only the half that measures."""
    return ["measure"] * bool(stage.measured) if stage.kind == "resolve" else [m for m in METHODS if stage.has(m)]


def results(stage: Stage, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """(method, its result) after a look at form: rows, names, types, no NaN, text without nulls, input untouched."""
    for method in applied(stage):
        before = table.slice(0)
        found = getattr(stage, method)(table)
        assert table.equals(before), f"{method} changed its input"
        assert found.num_rows == table.num_rows, f"{method} gave {found.num_rows} rows for {table.num_rows}"
        if method == "decide":
            assert found.num_columns == len(stage.rules), "decide gives one column per rule"
            assert all(kind == pa.bool_() for kind in found.schema.types), "decide gives booleans"
        else:
            added = {column.name: column.type for column in stage.adds}
            expected = {"text": pa.large_string(), **added} if method == "edit" else added
            given = dict(zip(found.schema.names, found.schema.types))
            if stage.kind == "resolve":  # the verdict's columns come from `resolve`
                expected = {name: kind for name, kind in expected.items() if name in given}
            assert given == expected, f"{method} gave {given}, the stage declares {expected}"
        if method == "edit":
            assert found["text"].null_count == 0, "an edit gave null for a text"
            for chunk in found["text"].chunks:
                chunk.validate(full=True)  # UTF-8, cut at character boundaries
        for name in found.schema.names:
            if pa.types.is_floating(found[name].type):
                values = found[name].drop_null().to_pylist()
                assert not any(map(math.isnan, values)), f"{name} is NaN; undefined is null"
        yield method, found


def check_declaration(stage: Stage) -> None:
    """Names that people can write in SQL, a description, something to do."""
    assert (type(stage).__doc__ or "").partition("\n")[0].endswith("."), "the docstring's first line is a sentence"
    assert applied(stage) or stage.kind == "resolve", "the stage has no method"
    assert isinstance(stage.fingerprint(), str)
    assert len({column.name for column in stage.adds}) == len(stage.adds)
    for column in stage.adds:
        assert re.fullmatch("[a-z][a-z0-9_]*", column.name), column.name
        assert column.doc, f"column {column.name} has no definition"
        assert "\n" not in column.doc, f"the definition of {column.name} is one line"
    for rule in stage.rules:
        assert re.fullmatch(r"[a-z][a-z0-9_]*(@[a-z]+)?\.[a-z][a-z0-9_]*", rule.name), rule.name


def check_no_rows(stage: Stage) -> None:
    """A batch without rows, and one without chunks."""
    table = batch(stage, ["a text"])
    for empty in (table.slice(0, 0), table.schema.empty_table()):
        list(results(stage, empty))


def check_nothing_known(stage: Stage) -> None:
    """Empty texts, and null in every other column."""
    table = batch(stage, [""] * 3)
    for i, field in enumerate(table.schema):
        if field.name != "text":
            table = table.set_column(i, field, pa.nulls(3, field.type))
    list(results(stage, table))


def check_splits(stage: Stage, table: pa.Table, at: Sequence[int]) -> None:
    """f(a + b) = f(a) + f(b), for slices of one buffer, for copies, and for several chunks in one batch."""
    whole = {method: found.combine_chunks() for method, found in results(stage, table)}
    bounds = [0, *sorted(at), table.num_rows]
    slices = [table.slice(start, stop - start) for start, stop in itertools.pairwise(bounds)]
    copies = [
        pa.Table.from_batches(s.to_batches(), s.schema).take(pa.array(range(s.num_rows), pa.int64())) for s in slices
    ]
    for parts in (slices, copies):
        found: dict[str, list[pa.Table]] = {method: [] for method in whole}
        for part in parts:
            for method, result in results(stage, part):
                found[method].append(result)
        for method, tables in found.items():
            joined = pa.concat_tables(tables).combine_chunks()
            assert same(stage, joined, whole[method]), f"{method} depends on the batch"
    for method, result in results(stage, pa.concat_tables(copies)):
        assert same(stage, result.combine_chunks(), whole[method]), f"{method} depends on the chunks of a batch"


def same(stage: Stage, found: pa.Table, wanted: pa.Table) -> bool:
    """Equal; the floats of a stage that is not exact within ROUNDING, and null where the others are."""
    if stage.exact:
        return found.equals(wanted)
    for one, other in zip(found.columns, wanted.columns, strict=True):
        if not pa.types.is_floating(one.type):
            if not one.equals(other):
                return False
        elif not np.allclose(one.to_numpy(), other.to_numpy(), rtol=ROUNDING, atol=ROUNDING, equal_nan=True):
            return False
    return True


def check_repeats(stage: Stage, again: Stage, table: pa.Table) -> None:
    """The same from this object twice, from another one with the same config, and from a pickled copy."""
    first = dict(results(stage, table))
    for other in (stage, again, pickle.loads(pickle.dumps(stage))):
        for method, result in results(other, table):
            assert same(stage, result, first[method]), f"{method} is not determined by its input and config"
    assert stage.fingerprint() == again.fingerprint()
