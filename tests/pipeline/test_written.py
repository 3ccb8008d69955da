"""Written sets, partitions, columns and formats: what stands in data/ is what the ledger and the recipe say."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
import xxhash

from tamis.pipeline import ledger, resolve, run_unit, source_rows, write, write_tasks
from tamis.pipeline.output import Output
from tamis.pipeline.verify import verify
from tamis.pipeline.why import story
from tamis.stages.errors import RecipeError

from . import written as w

Where = tuple[str, int]


def identity(row: w.Row) -> Where:
    return row["source_file"], row["source_row"]


def source_texts(corpus: Path) -> dict[Where, str]:
    found: dict[Where, str] = {}
    for path in sorted(corpus.iterdir()):
        if path.suffix == ".parquet":
            texts = pq.read_table(path)["text"].to_pylist()
        else:
            texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        found |= {(path.name, row): text for row, text in enumerate(texts) if text is not None}
    return found


def check(output: Path, corpus: Path, sets: list[str], partition: list[str], shard: int) -> None:
    """All that the contract says of data/ and of the ledger's places, from the files and plain Python."""
    rows = w.ledger(output)
    wanted, files = w.expected(rows, sets, partition), w.data_files(output)
    texts = source_texts(corpus)
    by_folder: dict[str, list[w.Row]] = {}
    place: dict[tuple[str, Where], tuple[str, int]] = {}
    for path, found in files.items():
        at = path.rpartition("/")[0] + "/"
        by_folder.setdefault(at, []).extend(found)
        for number, row in enumerate(found):
            place[path.split("/")[1] if sets else "", identity(row)] = (path, number)
            assert row["source_hash"] == xxhash.xxh3_128_hexdigest(texts[identity(row)].encode())
        assert found, f"{path} is empty"
        assert sum(len(row["text"].encode()) for row in found[:-1]) < 3 * shard  # texts that were dropped count as read
    assert {at: [identity(row) for row in found] for at, found in by_folder.items()} == {
        at: [identity(row) for row in found] for at, found in wanted.items()
    }
    for row in rows:
        held = [place.get((name, identity(row))) for name in sets or [""]]
        for name, found in zip(sets[1:], held[1:], strict=True):
            assert (row[f"out_file_{name}"], row[f"out_row_{name}"]) == (found or (None, None))
        first = next((found for found in held if found), (None, None))
        assert (row["out_file"], row["out_row"]) == first
    told = {identity(row): row for row in rows}
    for found in files.values():
        for row in found:
            own = told[identity(row)]
            if own["decision"] == "keep":
                assert len(row["text"].encode()) == own["bytes_written"]
    report = verify(str(output))
    assert report.ok, report.text


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 8))])
def test_what_is_written_is_what_ledger_and_recipe_say_at_any_unit_size(tmp_path: Path, seed: int, kind: str) -> None:
    draw = random.Random(f"{seed} {kind}")
    corpus = w.write_corpus(tmp_path / "in", seed=seed, kind=kind)
    sets = draw.sample(list(w.SETS), draw.randint(0, 4))
    partition = draw.choice(w.PARTITIONS)
    shard = draw.choice([3_000, 20_000, 10**9])
    form = draw.choice(["parquet", "jsonl.zst"])
    how: dict[str, Any] = {"partition": partition, "shard_size": shard, "format": form}
    how["sets"] = {name: w.SETS[name][0] for name in sets}
    if draw.random() < 0.5:
        how["columns"] = w.COLUMNS
    one = w.written_run(corpus, tmp_path / "one", write=how)
    check(one, corpus, sets, partition, shard)
    other = w.written_run(corpus, tmp_path / "other", write=how, unit_size=draw.choice(["8kB", "128MB"]))
    assert runs.file_hashes(one) == runs.file_hashes(other)


SETS: dict[str, Any] = {name: w.SETS[name][0] for name in ("main", "lost", "all")}
WRITE: dict[str, Any] = {"partition": ["odd"], "shard_size": "8kB", "sets": SETS, "columns": w.COLUMNS}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return w.write_corpus(tmp_path_factory.mktemp("written") / "in", seed=3)


@pytest.fixture(scope="module")
def output(corpus: Path) -> Path:
    return w.written_run(corpus, corpus.parent / "out", write=WRITE)


# --- texts and columns --------------------------------------------------------------------------------------------


def test_a_dropped_document_is_written_with_its_last_text_version(corpus: Path, output: Path, tmp_path: Path) -> None:
    """A run without the stages that come after its end keeps it, with the text that it had there."""
    lost = {identity(r): r for p, found in w.data_files(output).items() if p.startswith("data/lost/") for r in found}
    names = [stage.get("name", stage["use"]) for stage in w.STAGES]
    seen = set()
    for row in w.ledger(output):
        if row["decision"] == "drop":
            seen.add(row["stage"])
    assert seen == {"early", "exact_dedup", "sample"}
    for stage in sorted(seen):
        earlier = w.written_run(corpus, tmp_path / stage, stages=w.STAGES[: names.index(stage)])
        texts = {identity(r): r["text"] for found in w.data_files(earlier).values() for r in found}
        mine = [row for row in w.ledger(output) if row["decision"] == "drop" and row["stage"] == stage]
        assert mine
        assert [lost[identity(row)]["text"] for row in mine] == [texts[identity(row)] for row in mine]
    before = source_texts(corpus)
    assert any(lost[at]["text"] != before[at] for at in lost), "an edit changed some of them"


def test_sql_columns_are_those_of_the_written_row(corpus: Path, output: Path) -> None:
    sources = {
        (path.name, number): row
        for path in sorted(corpus.iterdir())
        for number, row in enumerate(pq.read_table(path).to_pylist())
    }
    told = {identity(row): row for row in w.ledger(output)}
    for found in w.data_files(output).values():
        for row in found:
            source, own = sources[identity(row)], told[identity(row)]
            assert list(row) == [
                *("doc_id", "source_file", "source_row", "source_hash"),
                *("id", "url", "language", "loud", "letters", "bytes", "rule", "words", "text"),
            ]
            assert (row["id"], row["url"], row["language"]) == (source["id"], source["url"], source["odd"])
            assert (row["loud"], row["rule"], row["words"]) == (source["source"].upper(), own["rule"], own["words"])
            assert (row["letters"], row["bytes"]) == (len(row["text"]), len(row["text"].encode()))


def test_both_formats_hold_the_same_rows(corpus: Path, output: Path, tmp_path: Path) -> None:
    lines = w.written_run(corpus, tmp_path / "lines", write={**WRITE, "format": "jsonl.zst"})
    renamed = {path.removesuffix(".jsonl.zst") + ".parquet": found for path, found in w.data_files(lines).items()}
    assert renamed == w.data_files(output)
    first, second = (Output(str(out)).rows("FROM data ORDER BY ALL") for out in (lines, output))
    assert first == second


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the command zstd")
def test_zstd_unpacks_the_lines_and_tamis_reads_them(corpus: Path, tmp_path: Path) -> None:
    lines = w.written_run(corpus, tmp_path / "lines", write={"format": "jsonl.zst", "columns": ["num"]})
    (file,) = (lines / "data").iterdir()
    unpacked = subprocess.run(["zstd", "-dcq", str(file)], capture_output=True, check=True).stdout
    assert len(unpacked.splitlines()) == len(w.data_rows(file))
    again = w.written_run(lines / "data", tmp_path / "again", stages=[], input={"files": f"{lines}/data/*.jsonl.zst"})
    first, second = ([row["text"] for f in w.data_files(o).values() for row in f] for o in (lines, again))
    assert first == second


def test_a_line_longer_than_duckdb_expects_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    long = '"\\' * 10_000_000
    pq.write_table(pa.table({"id": ["a", "b"], "text": [long, "short"]}), tmp_path / "in" / "a.parquet")
    out = w.written_run(tmp_path / "in", tmp_path / "out", stages=[], write={"format": "jsonl.zst"})
    assert Output(str(out)).rows("SELECT length(text) AS n FROM data ORDER BY 1") == [{"n": 5}, {"n": len(long)}]
    assert verify(str(out)).ok


# --- layout -------------------------------------------------------------------------------------------------------


def test_more_keys_than_may_be_open_change_no_row(
    corpus: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_tasks, "OPEN_KEYS", 4)
    open_at_once: list[int] = []
    close = write._Files._close

    def counting(self: Any, key: int) -> None:
        open_at_once.append(len(self._open))
        close(self, key)

    monkeypatch.setattr(write._Files, "_close", counting)
    few = w.written_run(corpus, tmp_path / "few", write=WRITE)
    assert max(open_at_once) <= 4
    assert w.data_files(few) == w.data_files(output)


def test_where_batches_are_cut_changes_no_byte(
    corpus: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_rows, "BATCH_BYTES", 3000)
    cut = w.written_run(corpus, tmp_path / "cut", write=WRITE, unit_size="128MB")
    assert runs.file_hashes(cut) == runs.file_hashes(output)


def test_ledger_files_that_end_inside_units_place_the_same_rows(
    corpus: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PART_ROWS", 37)
    for module in (run_unit, resolve):
        monkeypatch.setattr(module, "LAYOUT", replace(run_unit.LAYOUT, group_rows=10))
    cut = w.written_run(corpus, tmp_path / "cut", write=WRITE, unit_size="128MB")
    assert len(list((cut / "ledger").iterdir())) > 5
    assert w.ledger(cut) == w.ledger(output)
    assert runs.file_hashes(cut, ("data",)) == runs.file_hashes(output, ("data",))


def test_row_groups_and_frames_shrink_with_the_number_of_keys(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_tasks, "OPEN_BYTES", 20_000)
    groups = {}
    for name, partition in (("one", []), ("many", ["odd"])):
        out = w.written_run(corpus, tmp_path / name, write={"partition": partition, "sets": {"main": {}}})
        sizes = [
            sum(len(t.encode()) for t in file.read_row_group(g)["text"].to_pylist())
            for path in (out / "data").rglob("*.parquet")
            for file in [pq.ParquetFile(path)]
            for g in range(file.metadata.num_row_groups)
            if file.metadata.row_group(g).num_rows > 1
        ]
        groups[name] = max(sizes)
    assert groups["many"] <= 20_000 // 10 < groups["one"] <= 20_000


def test_a_sample_lies_inside_a_larger_one(corpus: Path, tmp_path: Path) -> None:
    held = []
    for share in (0.2, 0.6):
        out = w.written_run(corpus, tmp_path / str(share), write={"sets": {"some": {"where": "true", "sample": share}}})
        held.append({identity(row) for found in w.data_files(out).values() for row in found})
    assert held[0] < held[1]


def test_an_observing_run_writes_nothing_and_says_so_in_every_column(corpus: Path, tmp_path: Path) -> None:
    out = w.written_run(corpus, tmp_path / "out", write=WRITE, observe=True)
    assert not list((out / "data").rglob("*.parquet"))
    rows = w.ledger(out)
    assert {row[name] for row in rows for name in row if name.startswith("out_")} == {None}
    assert "out_file_lost" in rows[0]
    assert verify(str(out)).ok


# --- what people see ----------------------------------------------------------------------------------------------


def test_the_view_tells_the_sets_apart_and_a_phrase_of_a_dropped_document_is_found(output: Path) -> None:
    opened = Output(str(output))
    files = w.data_files(output)
    counts = {name: sum(len(f) for p, f in files.items() if p.startswith(f"data/{name}/")) for name in SETS}
    assert {r["set_name"]: r["n"] for r in opened.rows("SELECT set_name, count(*) n FROM data GROUP BY 1")} == counts
    assert {name: one["rows"] for name, one in opened.manifest["sets"].items()} == counts
    row = next(r for r in w.ledger(output) if r["rule"] == "sample.out")
    lost = next(r for p, f in files.items() if p.startswith("data/lost/") for r in f if identity(r) == identity(row))
    (found,) = (r for r in opened.find_text(lost["text"], 9) if identity(r) == identity(row))
    assert found["decision"] == "drop"
    told = story(str(output), key=f"{row['source_file']}#{row['source_row']}")
    assert f"written to {row['out_file']}, row {row['out_row']}" in " ".join(told.split())
    assert f"to {row['out_file_all']}, row {row['out_row_all']}" in " ".join(told.split())


def test_verify_finds_a_row_that_is_in_the_wrong_set(output: Path, tmp_path: Path) -> None:
    from .test_verify import setting

    for column, value in (("out_row_all", 10**6), ("out_file_all", "data/lost/x.parquet"), ("out_file", None)):
        bad = Path(shutil.copytree(output, tmp_path / column))
        (path,) = (bad / "ledger").iterdir()
        pq.write_table(setting(column, 5, value)(pq.read_table(path)), path)
        lines = []
        for file in sorted(p for p in bad.rglob("*") if p.is_file() and "work" not in p.relative_to(bad).parts):
            name, content = str(file.relative_to(bad)), file.read_bytes()
            if name not in ("checksums.txt", "log.jsonl"):
                lines.append(f"{xxhash.xxh3_128_hexdigest(content)} {len(content)} {name}\n")
        body = "".join(lines).encode()
        (bad / "checksums.txt").write_bytes(body + f"{xxhash.xxh3_128_hexdigest(body)}\n".encode())
        assert any(problem.startswith("ledger/") for problem in verify(str(bad)).problems), column


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"columns": ["id", "ur"]}, "no column ur. Did you mean: url"),
        ({"columns": ["uper(source) AS x"]}, "no such function: uper. Did you mean: upper"),
        ({"columns": ["upper(sorce) AS x"]}, "no such column: sorce. Did you mean: source"),
        ({"columns": ["id", "url AS id"]}, "id is taken already"),
        ({"columns": ["upper(id) AS text"]}, "every row has a text of its own"),
        ({"columns": ["url AS doc_id"]}, "every row has a doc_id of its own"),
        ({"columns": ["count(*) AS n"]}, "aggregate"),
        ({"columns": ["INTERVAL 1 DAY AS x"]}, "no file can hold"),
        ({"columns": ["id::BLOB AS x"], "format": "jsonl.zst"}, "JSON cannot hold"),
        ({"columns": ["length(id)"]}, "needs a name"),
        ({"partition": ["sorce"]}, "no column sorce. Did you mean: source"),
        ({"partition": ["odd", "odd"]}, "stands there twice"),
        ({"partition": ["text"]}, "no column text"),
        ({"partition": ["failed"]}, "is list<item: string>"),
        ({"partition": ["alpha_word_ratio"]}, "no column alpha_word_ratio|is float"),
        ({"sets": {"Main": {}}}, "match pattern"),
        ({"sets": {"main": {"were": "true"}}}, "unknown key. Did you mean: where"),
        ({"sets": {"main": {"where": "rul = 'x'"}}}, "no such column: rul. Did you mean: rule"),
        ({"sets": {"main": {"where": "length(source)"}}}, "must be true or false"),
        ({"sets": {"main": {"where": "text = ''"}}}, "no such column: text"),
        ({"format": "csv"}, "'parquet' or 'jsonl.zst'"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_runs(
    corpus: Path, tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    from tamis.pipeline.driver import plan_recipe

    with pytest.raises(RecipeError, match=message):
        plan_recipe(w.recipe_over(corpus, tmp_path / "out", write=how))


def test_too_many_values_of_a_partition_name_the_column(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamis.pipeline import sets

    with pytest.raises(RecipeError, match="doc_id has more than 1,000 values"):
        sets.check_keys(_partitioned(corpus, ["doc_id"]), [f"doc_id={n}/" for n in range(1001)])
    monkeypatch.setattr(sets, "MOST_VALUES", 10)
    with pytest.raises(RecipeError, match="odd has more than 10 values"):
        w.written_run(corpus, tmp_path / "odd", write={"partition": ["source", "odd"]})
    monkeypatch.setattr(sets, "MOST_VALUES", 11)
    monkeypatch.setattr(sets, "MOST_KEYS", 30)
    with pytest.raises(RecipeError, match="source, odd make more than 30 folders"):
        w.written_run(corpus, tmp_path / "both", write={"partition": ["source", "odd"]})
    monkeypatch.setattr(sets, "LONGEST", 9)
    with pytest.raises(RecipeError, match="too long for a folder"):
        w.written_run(corpus, tmp_path / "long", write={"partition": ["source"]})


def _partitioned(corpus: Path, partition: list[str]) -> Any:
    from tamis.pipeline.driver import plan_recipe

    return plan_recipe(w.recipe_over(corpus, corpus.parent / "none", write={"partition": partition}))


def test_a_value_that_makes_an_expression_fail_names_it(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="x: CAST"):
        w.written_run(corpus, tmp_path / "a", write={"columns": ["CAST(odd AS INTEGER) AS x"]})
    with pytest.raises(RecipeError, match=r"write\.sets\.a\.where: CAST"):
        w.written_run(corpus, tmp_path / "b", write={"sets": {"a": {"where": "CAST(odd AS INTEGER) > 0"}}})


def test_the_plan_tells_sets_and_partitions_and_the_resolved_recipe_is_the_same(corpus: Path, tmp_path: Path) -> None:
    from tamis.pipeline.driver import plan_recipe
    from tamis.pipeline.recipe import load_recipe
    from tamis.pipeline.show_plan import plan_text, resolved_text

    sets = {"main": {}, "near": {"where": "rule = 'early.long'", "sample": "0.1%"}}
    recipe = w.recipe_over(corpus, tmp_path / "out", write={**WRITE, "sets": sets})
    told = plan_text(plan_recipe(recipe))
    assert "write   data/SET/odd=.../, files of 8.0 kB" in told
    assert "near                 where rule = 'early.long', a sample of 0.1 %" in told
    (tmp_path / "again.yaml").write_text(resolved_text(recipe))
    assert plan_recipe(load_recipe(tmp_path / "again.yaml")).key == plan_recipe(recipe).key
    other = w.recipe_over(corpus, tmp_path / "out", write={**WRITE, "sets": {**sets, "near": {"sample": "0.2%"}}})
    assert plan_recipe(other).key != plan_recipe(recipe).key
