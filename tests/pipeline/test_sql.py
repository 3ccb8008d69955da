"""`tamis sql`: the views hold what the files hold, a query reaches nothing else, and every format gives all rows."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import runs
from click.testing import CliRunner

from tamis.pipeline.commands.sql import command
from tamis.pipeline.query import Query
from tamis.stages.errors import RecipeError, SetupError

from .small_run import EVIL, small_run

COUNT = "SELECT decision, count(*) AS docs FROM ledger GROUP BY ALL ORDER BY ALL"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sql")


@pytest.fixture(scope="module")
def output(folder: Path) -> str:
    return small_run(folder).output


@pytest.fixture(scope="module")
def other(folder: Path, output: str) -> str:
    stages = [{"use": "rules", "name": "size", "rules": {"long": "chars >= 40"}}]
    return small_run(folder, output=f"{folder}/other [x]*", stages=stages).output


def asked(*arguments: str, code: int = 0, given: str | None = None) -> str:
    done = CliRunner().invoke(command, list(arguments), input=given)
    assert done.exit_code == code, done.output
    return done.stdout


def test_every_view_has_the_rows_of_its_files(output: str) -> None:
    query = Query([output])
    for view, pattern in (
        ("ledger", "ledger/*.parquet"),
        ("data", "data/*.parquet"),
        ("quarantine", "quarantine/rows.parquet"),
        ("quarantine_files", "quarantine/files.parquet"),
    ):
        wanted = [row for path in sorted(Path(output).glob(pattern)) for row in pq.read_table(path).to_pylist()]
        assert query.relation(f"FROM {view}").to_arrow_table().to_pylist() == wanted
    assert len(query.relation("FROM quarantine").fetchall()) == 2


def test_several_outputs_are_one_view_that_says_which_is_which(output: str, other: str) -> None:
    query = Query([output, other])
    both = query.relation("SELECT output, count(*) FROM ledger GROUP BY 1 ORDER BY 1").fetchall()
    assert both == sorted(
        (query.outputs[i].name, len(runs.rows(Path(p), "ledger"))) for i, p in enumerate((output, other))
    )
    # a column that only one of them has is null in the other
    alone = query.relation("SELECT DISTINCT output FROM ledger WHERE exact_cluster IS NOT NULL").fetchall()
    assert alone == [(query.outputs[0].name,)]
    joined = "SELECT count(*) FROM ledger a JOIN ledger b USING (source_file, source_row) WHERE a.output < b.output"
    assert query.relation(joined).fetchall() == [(len(runs.rows(Path(output), "ledger")),)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM '{folder}/in/a.parquet'",
        "SELECT * FROM read_text('{folder}/in/a.parquet')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "COPY ledger TO '{ledger}' (USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY ledger TO '{ledger}' (USE_TMP_FILE false)",
        "ATTACH '{folder}/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "CREATE TABLE x AS FROM ledger",
        "PRAGMA database_list",
    ],
)
def test_a_query_reaches_nothing_but_the_outputs_and_changes_nothing(folder: Path, output: str, query: str) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    text = query.format(folder=folder, ledger=next((Path(output) / "ledger").iterdir()))
    with pytest.raises(RecipeError):
        Query([output]).relation(text).fetchall()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT chars_reed FROM ledger", "no column chars_reed. Did you mean: chars_read"),
        ("FROM ledgers", "no view ledgers. Did you mean: ledger"),
        ("SELEKT 1 FROM ledger", 'syntax error at or near "SELEKT"'),
    ],
)
def test_a_mistake_is_told_with_the_nearest_name(output: str, query: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Query([output]).relation(query)
    assert "Traceback" not in runs.tamis("sql", output, query, code=2)


def test_an_error_while_rows_are_computed_is_told_too(output: str) -> None:
    assert "Could not convert" in runs.tamis("sql", output, "SELECT CAST(doc_id AS int) FROM ledger", code=2)


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_a_file_holds_every_row_and_value(output: str, tmp_path: Path, ending: str) -> None:
    wanted = runs.rows(Path(output), "ledger").select(["doc_id", "chars_read", "failed", "normalize_changed"])
    file = tmp_path / f"out.{ending}"
    asked(output, f"SELECT {', '.join(wanted.column_names)} FROM ledger", "--to", str(file))
    if ending == "parquet":
        assert pq.read_table(file).to_pylist() == wanted.to_pylist()
    elif ending == "json":
        assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == wanted.to_pylist()
    else:
        found = list(csv.DictReader(io.StringIO(file.read_bytes().decode())))
        assert [row["doc_id"] for row in found] == wanted["doc_id"].to_pylist()
        assert [row["chars_read"] for row in found] == [
            str(n) if n is not None else "" for n in wanted["chars_read"].to_pylist()
        ]
        assert [json.loads(row["failed"] or "null") for row in found] == wanted["failed"].to_pylist()
        assert {row["normalize_changed"] for row in found} == {"true", "false"}


def test_a_table_says_how_many_rows_it_leaves_out(output: str) -> None:
    total = len(runs.rows(Path(output), "ledger"))
    lines = asked(output, "SELECT doc_id FROM ledger", "--rows", "3").splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith(f"… {total - 3} more rows of {total}")
    assert "…" not in asked(output, "SELECT chars_read FROM ledger", "--rows", str(total))


def test_a_wide_row_stands_upright(output: str) -> None:
    lines = asked(output, "FROM ledger", "--rows", "1").splitlines()
    assert lines[0] == "--- row 1"
    assert any(line.startswith("source_file ") and line.endswith(" a.parquet") for line in lines)


def test_no_character_of_a_document_acts_on_the_terminal(output: str) -> None:
    told = asked(output, "SELECT doc_id, url, {'a': doc_id} FROM ledger", "--rows", "100")
    assert "\\x1b[31m" in told
    assert all(character == "\n" or character.isprintable() for character in told)
    rows = [json.loads(line) for line in asked(output, "SELECT doc_id FROM ledger", "--format", "json").splitlines()]
    assert {"doc_id": EVIL} in rows


def test_without_a_query_the_views_and_their_columns_are_listed(output: str) -> None:
    told = asked(output, given="")
    for words in ("ledger  12 rows", "data  ", "quarantine  2 rows", "exact_dedup: id of the group of duplicates"):
        assert words in told


def test_a_query_may_come_from_standard_input(output: str) -> None:
    assert asked(output, given=COUNT) == asked(output, COUNT)


@pytest.mark.parametrize("form", ["csv", "table"])
def test_a_reader_that_goes_away_is_no_error_to_tell(output: str, form: str) -> None:
    query = "SELECT range, repeat('x', 1000) FROM range(20000)"
    asking = runs.command("sql", output, query, "--format", form, "--rows", "20000")
    with subprocess.Popen(asking, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_ctrl_c_ends_a_long_query_without_a_traceback(output: str) -> None:
    query = "SELECT sum(a.range * b.range) FROM range(1000000000) a, range(1000) b"
    code = (
        "import os, signal, sys, threading, time; import tamis.pipeline.query as q; from tamis.pipeline.cli import main\n"
        "known = q._interrupting\n"
        "def interrupting(connection):\n"
        "    made = known(connection)\n"
        "    def press():\n"
        "        while connection.query_progress() < 0: time.sleep(0.01)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    threading.Thread(target=press, daemon=True).start()\n"
        "    return made\n"
        "q._interrupting = interrupting\n"
        f"sys.argv = ['tamis', 'sql', {output!r}, {query!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_output_or_no_format_is_refused(output: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no run of Tamis ended here"):
        Query([str(tmp_path)])
    for wrong in ([COUNT], [output, COUNT, "--to", f"{tmp_path}/x.xyz"], [output, COUNT, "--format", "parquet"]):
        done = CliRunner().invoke(command, wrong)
        assert done.exit_code == 2 or isinstance(done.exception, RecipeError)


def test_outputs_on_an_object_store_are_asked_the_same_way(output: str, s3: str) -> None:
    from tamis.pipeline.storage import storage_at

    bucket = storage_at(f"{s3}/out")
    for path in Path(output).rglob("*"):
        if path.is_file() and "work" not in path.parts:
            bucket.write(path.relative_to(output).as_posix(), path.read_bytes())
    assert Query([f"{s3}/out"]).relation(COUNT).fetchall() == Query([output]).relation(COUNT).fetchall()
    both = Query([output, f"{s3}/out"]).relation("SELECT count(DISTINCT output), count(*) FROM ledger").fetchall()
    assert both == [(2, 24)]
