"""paragraph_dedup: every repeated line stays once, no unique one is in a span, however the work is cut or interrupted."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tamis.kernels import bloom
from tamis.kernels import paragraphs as kernel
from tamis.stages import _groups, _paragraphs
from tamis.stages._spans import SPANS, span_column
from tamis.stages.errors import RecipeError
from tamis.stages.paragraph_dedup import ParagraphDedup

from ..runs import query, tamis, write_corpus, write_recipe
from .local_context import LocalContext, resolve, resolve_killed_at_every_receipt, with_identity
from .plain_paragraphs import pieces
from .test_exact_dedup import PREFERENCES, SOURCES, TYPES

few = st.sampled_from
LINES = ["a", "b c", "B\u2003C", " b  c", "", " ", "É x", "é\tX", "日本", "unique?"]
texts = st.lists(st.tuples(few(LINES), few(["\n", "\n", "\r\n", "\n\n", "\n \n", ""])), max_size=6).map(
    lambda found: "".join(a + b for a, b in found)
)
documents = st.fixed_dictionaries(
    {
        "text": texts,
        "date": few([None, "2019-05-01", "2020-01-01"]),
        "lang": few([None, "de", "en"]),
        "chars": few([1, 2, 3]),
        "score": few([None, 0.5, -1.0]),
        "source": few([None, "cc", "wiki", "other"]),
        "doc_id": few(["a", "b", "B", "é"]),
    }
)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    names = [name for name in TYPES if not rows or name in rows[0]]
    table = with_identity(pa.table({n: pa.array([r[n] for r in rows], TYPES[n]) for n in names}))
    return with_bytes(table)


def with_bytes(table: pa.Table) -> pa.Table:
    sizes = [len(text.encode()) for text in table["text"].to_pylist()]
    return table.append_column("bytes", pa.array(sizes, pa.int64()))


def stage_of(name: str = "paragraph_dedup", **config: Any) -> ParagraphDedup:
    return ParagraphDedup(ParagraphDedup.Config.model_validate(config), name=name)


def ranks(rows: list[dict[str, Any]], prefer: list[Any]) -> list[int]:
    """The place of each row in the order of preference, by stable sorts."""
    order = sorted(
        range(len(rows)),
        key=lambda n: (rows[n]["doc_id"].encode(), rows[n]["source_file"].encode(), rows[n]["source_row"]),
    )
    for entry in reversed(prefer):
        if isinstance(entry, dict):
            order.sort(key=lambda n: SOURCES.index(s) if (s := rows[n]["source"]) in SOURCES else 9)
            continue
        column, down = PREFERENCES[entry]
        known = sorted((n for n in order if rows[n][column] is not None), key=lambda n: rows[n][column], reverse=down)
        order = known + [n for n in order if rows[n][column] is None]
    place = [0] * len(rows)
    for at, n in enumerate(order):
        place[n] = at
    return place


def oracle(rows: list[dict[str, Any]], scope: str | None = None, prefer: list[Any] | None = None, **how: Any) -> Any:
    """For each row its spans, by a dictionary from line to places."""
    how = {"whole": False, "normalize": False, "min_chars": 1, **how}
    place = ranks(rows, prefer or [])
    occurrences: dict[Any, list[tuple[int, int, int]]] = defaultdict(list)
    for n, row in enumerate(rows):
        if scope is None or row[scope] is not None:
            for piece in pieces(row["text"], **how):
                occurrences[piece.form, row[scope] if scope else None].append((n, piece.start, piece.end))
    spans: list[list[dict[str, Any]]] = [[] for _ in rows]
    for found in occurrences.values():
        if len(found) > 1:
            kept = min(found, key=lambda x: (place[x[0]], x[1]))
            for n, start, end in found:
                kind = "kept" if (n, start, end) == kept else "repeat"
                spans[n].append({"start": start, "end": end, "score": float(len(found)), "kind": kind})
    return [sorted(row, key=lambda span: span["start"]) for row in spans]


def check(rows: list[dict[str, Any]], verdict: pa.Table, expected: list[list[dict[str, Any]]]) -> None:
    assert verdict["paragraph_spans"].type == SPANS
    assert verdict["paragraph_spans"].to_pylist() == expected
    for row, got, spans in zip(rows, verdict["paragraph_repeated"].to_pylist(), expected):
        cut = sum(s["end"] - s["start"] for s in spans if s["kind"] == "repeat")
        size = len(row["text"].encode())
        assert got == (np.float32(cut / size) if size else None)
    assert set(verdict["rule"].to_pylist()) <= {None}


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(documents, max_size=14),
    unit=few(["line", "paragraph"]),
    normalize=st.booleans(),
    least=few([1, 1, 2, 4]),
    scope=few([None, "source"]),
    prefer=st.lists(few([*PREFERENCES, {"values(source)": SOURCES}]), max_size=2),
    data=st.data(),
)
def test_spans_equal_a_dictionary_for_any_units_order_and_partitions(
    rows, unit, normalize, least, scope, prefer, data
) -> None:
    table = table_of(rows)
    rows = table.to_pylist()
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_paragraphs, "LINES_PER_ITEM", data.draw(few([1, 5, 100])))
        patch.setattr(_paragraphs, "LINES_PER_PART", data.draw(few([1, 7, 100])))
        patch.setattr(_groups, "ROWS_PER_PART", data.draw(few([1, 3, 100])))
        stage = stage_of(unit=unit, normalize=normalize, min_chars=least, scope=scope, prefer=prefer)
        verdict, facts = resolve(stage, table, cuts=cuts, order=data.draw(st.integers(0, 99)))
    how: dict[str, Any] = {"whole": unit == "paragraph", "normalize": normalize, "min_chars": least}
    expected = oracle(rows, scope, prefer, **how)
    check(rows, verdict, expected)
    spans = [span for row in expected for span in row]
    in_scope = [row for row in rows if scope is None or row[scope] is not None]
    assert facts.pop("lines") == sum(len(pieces(row["text"], **how)) for row in rows)
    assert facts.pop("without_scope", 0) == len(rows) - len(in_scope)
    top = facts.pop("largest")
    scores = sorted(s["score"] for s in spans if s["kind"] == "kept")
    assert [line["occurrences"] for line in top] == scores[::-1][:10]
    for line in top:
        [at] = [n for n, row in enumerate(rows) if all(row[k] == line[k] for k in ("source_file", "source_row"))]
        span = {"start": line["start"], "end": line["end"], "score": line["occurrences"], "kind": "kept"}
        assert span in expected[at]
        assert rows[at]["doc_id"] == line["doc_id"]
    cut = [[s for s in row if s["kind"] == "repeat"] for row in expected]
    assert facts == {
        "repeated": len(spans) - sum(map(len, cut)),
        "occurrences": len(spans),
        "cut": sum(map(len, cut)),
        "cut_bytes": sum(s["end"] - s["start"] for row in cut for s in row),
        "documents": sum(map(bool, cut)),
    }


@pytest.fixture(scope="module")
def web(request) -> list[str]:
    shared: Path = request.getfixturevalue("shared_data")
    file = sorted((shared / "web").glob("*.parquet"))[4]
    return pq.read_table(file, columns=["text"])["text"].to_pylist()[:1500]


@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_on_real_text_unique_lines_stay_and_repeated_ones_stay_once(web, unit) -> None:
    table = with_bytes(with_identity(pa.table({"text": pa.array(web, pa.large_string())})))
    verdict, facts = resolve(stage_of(unit=unit), table, cuts=[100, 101, 900], order=1)
    how: dict[str, Any] = {"whole": unit == "paragraph", "normalize": False, "min_chars": 1}
    before, after = Counter(), Counter()
    for text, spans in zip(web, verdict["paragraph_spans"].to_pylist()):
        data, left, at = text.encode(), b"", 0
        for span in spans:
            data[span["start"] : span["end"]].decode()  # cut at characters
            if span["kind"] == "repeat":
                left, at = left + data[at : span["start"]], span["end"]
        before.update(p.form for p in pieces(text, **how))
        after.update(p.form for p in pieces((left + data[at:]).decode(), **how))
    assert facts["cut"] > 2000
    assert after == Counter(dict.fromkeys(before, 1))
    check(table.to_pylist(), verdict, oracle(table.to_pylist(), whole=unit == "paragraph"))


def pages(count: int = 60) -> pa.Table:
    texts = ["\n".join(f"line {i * k * k % 17}" for k in range(1, 6)) + "\nhome" for i in range(count)]
    return with_bytes(with_identity(pa.table({"text": texts, "chars": [i % 3 for i in range(count)]})))


def test_a_kill_after_every_receipt_changes_nothing(monkeypatch) -> None:
    monkeypatch.setattr(_paragraphs, "LINES_PER_ITEM", 80)
    monkeypatch.setattr(_paragraphs, "LINES_PER_PART", 100)
    monkeypatch.setattr(_groups, "ROWS_PER_PART", 20)
    stage, table, how = stage_of(prefer=["longest"]), pages(), {"cuts": [3, 9, 9, 20, 31]}
    undisturbed = resolve(stage, table, **how)
    assert resolve_killed_at_every_receipt(stage, table, order=4, **how) == undisturbed
    assert undisturbed[1]["cut"] > 100


def test_a_filter_that_lets_everything_pass_changes_nothing(monkeypatch, web) -> None:
    table = with_bytes(with_identity(pa.table({"text": web[:300]})))

    def passed(context: LocalContext) -> tuple[Any, Any, int]:
        facts = context.resolve()
        lines = [context.map("lines", _paragraphs.lines, {i: 0})[i] for p, i in context.receipts if p == "lines"]
        return context.verdict, facts, sum(f["passed"] for f in lines)

    verdict, facts, few_lines = passed(LocalContext(stage_of(), table, cuts=[50, 200]))
    assert few_lines < facts["lines"] / 2
    monkeypatch.setattr(bloom, "bloom_bits", lambda count: 1)
    assert passed(LocalContext(stage_of(), table, cuts=[50, 200])) == (verdict, facts, facts["lines"])


@pytest.mark.parametrize("kept_bits", [0, 3, 7 << 40])
@pytest.mark.parametrize("half", [0, 1])
def test_lines_that_share_half_of_their_key_are_no_repeats(monkeypatch, half, kept_bits) -> None:
    true_keys = kernel.paragraphs

    def with_collisions(*args: Any, **how: Any) -> Any:
        counts, first, rest = true_keys(*args, **how)
        (first if half == 0 else rest[:, 0])[:] &= np.uint64(kept_bits)
        return counts, first, rest

    table = pages()
    expected = resolve(stage_of(), table, cuts=[7, 30])
    monkeypatch.setattr(kernel, "paragraphs", with_collisions)
    assert resolve(stage_of(), table, cuts=[7, 30]) == expected


def test_a_line_that_is_everywhere_is_one_record_per_group(monkeypatch) -> None:
    monkeypatch.setattr(_paragraphs, "LINES_PER_ITEM", 4000)
    table = with_bytes(with_identity(pa.table({"text": ["same\n" * 4] * 5000})))
    context = LocalContext(stage_of(), table, cuts=list(range(500, 5000, 500)))
    facts = context.resolve()
    assert (facts["repeated"], facts["occurrences"], facts["cut"]) == (1, 20_000, 19_999)
    assert len(context.files["choose", "p00000"]) == 5
    task = context.map("lines", _paragraphs.lines, {f"g{i:05d}": 0 for i in range(5)})
    assert [f["keys"] for f in task.values()] == [1] * 5


def test_dead_documents_neither_keep_nor_count() -> None:
    table = with_identity(pa.table({"text": ["x\ny\n", "y\nz\n", "z\nx\n"], "alive": [False, True, True]}))
    verdict, facts = resolve(stage_of(), with_bytes(table), cuts=[1])
    assert verdict["paragraph_spans"].to_pylist() == [
        [{"start": 2, "end": 4, "score": 2.0, "kind": "kept"}],
        [{"start": 0, "end": 2, "score": 2.0, "kind": "repeat"}],
    ]
    assert facts["lines"] == 4


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ({}, "a\nb\na\n", [(0, 2, "kept"), (4, 6, "repeat")]),
        ({}, "a\r\nb\na", [(0, 3, "kept"), (5, 6, "repeat")]),  # the line end does not count
        ({}, "a\nA\n a\n", []),
        ({"normalize": True}, "a\nA\n a\n", [(0, 2, "kept"), (2, 4, "repeat"), (4, 7, "repeat")]),
        ({}, "\n\n \n \n", []),
        ({"min_chars": 2}, "a\néé\na\néé", [(2, 7, "kept"), (9, 13, "repeat")]),
        ({"unit": "paragraph"}, "\na\nb\n\n\na\nb\n\na", [(1, 7, "kept"), (7, 12, "repeat")]),
        ({"unit": "paragraph"}, "a\n \u2003\na\n\t\n", [(0, 7, "kept"), (7, 11, "repeat")]),
    ],
)
def test_what_a_line_and_a_paragraph_is(config, text, expected) -> None:
    verdict, _ = resolve(stage_of(**config), table_of([]).schema.empty_table())
    assert len(verdict) == 0
    table = with_bytes(with_identity(pa.table({"text": [text]})))
    verdict, _ = resolve(stage_of(**config), table)
    [spans] = verdict["paragraph_spans"].to_pylist()
    assert [(s["start"], s["end"], s["kind"]) for s in spans] == expected


def test_mistakes_in_a_recipe_are_told() -> None:
    wrong: list[dict[str, Any]] = [{"unit": "sentence"}, {"min_chars": 0}, {"prefer": ["best"]}]
    for config, complaint in zip(wrong, ["'line' or 'paragraph'", "greater", "no preference"]):
        with pytest.raises(ValidationError, match=complaint):
            stage_of(**config)
    with pytest.raises(RecipeError, match="host has the type list"):
        stage_of(scope="host").check(pa.schema([("host", pa.list_(pa.string()))]))


def test_spans_that_overlap_or_stray_are_refused() -> None:
    good = span_column(3, np.array([0, 2, 2]), np.array([1, 0, 5]), np.array([4, 5, 6]), np.array([1, 2, 3]), "x")
    assert good.type == SPANS
    assert [len(row) for row in good.to_pylist()] == [1, 0, 2]
    masked = span_column(3, np.array([2]), np.array([0]), np.array([1]), np.ones(1), "x", valid=np.array([1, 0, 1]) > 0)
    assert masked.to_pylist() == [[], None, [{"start": 0, "end": 1, "score": 1.0, "kind": "x"}]]
    for rows, start, end in (([0, 0], [0, 3], [4, 5]), ([1, 0], [0, 0], [1, 1]), ([3], [0], [1]), ([0], [2], [1])):
        with pytest.raises(ValueError, match="spans"):
            span_column(3, np.array(rows), np.array(start), np.array(end), np.ones(len(rows)), "x")
    with pytest.raises(ValueError, match="not valid"):
        span_column(1, np.array([0]), np.array([0]), np.array([1]), np.ones(1), "x", valid=np.array([False]))


def test_a_whole_run_writes_the_same_spans_for_any_units(tmp_path) -> None:
    corpus = write_corpus(tmp_path / "in", shards=2, documents=150)
    stages = [
        {"use": "rules", "name": "some", "rules": {"not_one": "source != 'source-1'"}},
        {"use": "paragraph_dedup", "unit": "paragraph", "prefer": ["newest"], "where": "url IS NOT NULL"},
        {"use": "rules", "name": "copied", "rules": {"most": "paragraph_repeated <= 0.5"}},
        {"use": "cut_spans", "spans": "paragraph_spans", "where": "kind = 'repeat' AND score >= 3"},
    ]
    found, texts = [], []
    for size in ("40kB", "10MB"):
        output = tmp_path / size
        tamis("run", write_recipe(tmp_path / "r.yaml", corpus, output, stages=stages, unit_size=size))
        ledger = f"'{output}/ledger/*.parquet'"
        found.append(query(f"SELECT source_file, source_row, paragraph_repeated, rule FROM {ledger} ORDER BY 1, 2"))
        data = f"'{output}/data/*.parquet'"
        texts.append(query(f"SELECT source_file, source_row, text FROM {data} ORDER BY 1, 2"))
    assert found[0] == found[1]
    assert texts[0] == texts[1]
    rows = pa.concat_tables([pq.read_table(path) for path in sorted(corpus.glob("*.parquet"))]).to_pylist()
    for at, row in enumerate(rows):
        row |= {"doc_id": row["id"], "source_file": f"part-{at // 150}.parquet", "source_row": at % 150}
    seen = [row for row in rows if row["source"] != "source-1" and row["url"] is not None]
    shares, left = {}, {}
    for row, spans in zip(seen, oracle(seen, prefer=["newest"], whole=True)):
        cut = sum(s["end"] - s["start"] for s in spans if s["kind"] == "repeat")
        shares[row["source_file"], row["source_row"]] = np.float32(cut / len(row["text"].encode()))
        text = row["text"].encode()
        for span in reversed(spans):
            if span["kind"] == "repeat" and span["score"] >= 3:
                text = text[: span["start"]] + text[span["end"] :]
        left[row["source_file"], row["source_row"]] = text.decode()
    assert {(file, row): share for file, row, share, _ in found[0] if share is not None} == shares
    assert {share > 0.5 for share in shares.values()} == {True, False}
    for file, row, share, rule in found[0]:
        if share is not None:
            assert (rule == "copied.most") == (share > 0.5), (file, row)
    written = {(file, row): text for file, row, text in texts[0] if (file, row) in left}
    assert written == {key: text for key, text in left.items() if shares[key] <= 0.5 and text}
    assert any(
        written[key] != row["text"] for row in seen if (key := (row["source_file"], row["source_row"])) in written
    )
