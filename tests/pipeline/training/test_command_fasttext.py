"""`tamis train fasttext` as one types it: three files, a few lines, exit codes, and the same bytes in every process."""

from __future__ import annotations

import inspect
import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tamis.pipeline.cli import main
from tamis.pipeline.training.command_fasttext import PARAMS, command
from tamis.pipeline.training.probe import IDENTITY_TERMS
from tamis.scorers.fasttext_train import Params

from ...runs import tamis
from .labelled_texts import FLAGS, labelled_texts, written


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def call(*words, code: int = 0) -> str:
    """The command in this process: what it printed, or the error it ended with."""
    done = CliRunner().invoke(main, ["train", "fasttext", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def figures(path: Path) -> dict:
    return json.loads(path.with_name(f"{path.name}.json").read_text())


def test_two_processes_give_the_same_three_files_byte_for_byte(tmp_path):
    data = written(tmp_path)
    found = []
    for name in ("one", "two"):
        out = tmp_path / name / "m.bin"
        told = tamis(
            "train",
            "fasttext",
            data,
            "--out",
            out,
            "--by",
            "source",
            *FLAGS,
            TAMIS_CACHE=str(tmp_path / f"cache-{name}"),
        )
        assert "AUC" in told
        assert "%" not in told, "no progress where nobody watches"
        assert "source" in figures(out)["groups"]
        found.append([(tmp_path / name / file).read_bytes() for file in ("m.bin", "m.bin.json", "m.bin.md")])
    assert found[0] == found[1]
    for file in found[0][1:]:
        assert str(tmp_path).encode() not in file


def test_the_figures_file_names_what_was_read_by_content(tmp_path):
    data = written(tmp_path)
    call(data, "--out", tmp_path / "m.bin", *FLAGS)
    (file,) = figures(tmp_path / "m.bin")["files"]
    assert file["name"] == "labelled.parquet"
    assert file["rows"] == 600
    assert file["bytes"] == data.stat().st_size
    data.write_bytes(data.read_bytes())
    call(data, "--out", tmp_path / "n.bin", *FLAGS)
    assert figures(tmp_path / "n.bin")["files"] == [file]


def test_positive_and_negative_files_are_the_labels_one_and_zero_or_those_named(tmp_path):
    table = labelled_texts()
    for label, name in (("1", "good"), ("0", "bad")):
        rows = [{"text": row["text"]} for row in table.to_pylist() if row["label"] == label]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["--positive", tmp_path / "go*.jsonl", "--negative", tmp_path / "bad.jsonl"]
    call(*files, "--out", tmp_path / "m.bin", *FLAGS)
    call(*files, "--names", "hq,lq", "--out", tmp_path / "n.bin", *FLAGS)
    call(written(tmp_path), "--out", tmp_path / "o.bin", *FLAGS)
    one, two, three = (figures(tmp_path / f"{name}.bin") for name in "mno")
    assert one["positive"] == "1"
    assert two["positive"] == "hq"
    assert one["held_out"]["auc"] == two["held_out"]["auc"] == three["held_out"]["auc"]
    assert (tmp_path / "m.bin").read_bytes() == (tmp_path / "o.bin").read_bytes()
    assert [file["name"] for file in one["files"]] == ["negative/bad.jsonl", "positive/good.jsonl"]


def test_a_probe_takes_terms_from_a_column_a_file_or_the_fifty_known_ones(tmp_path):
    data = written(tmp_path)
    probe = labelled_texts(40, seed=5)
    terms = pa.chunked_array([[("gay", "old", None, "deaf")[i % 4] for i in range(40)]], pa.string())
    texts = [f"a {term or 'plain'} person {text}" for term, text in zip(terms.to_pylist(), probe["text"].to_pylist())]
    probe = probe.set_column(0, "text", pa.chunked_array([texts], pa.large_string())).append_column("term", terms)
    pq.write_table(probe, tmp_path / "probe.parquet")
    (tmp_path / "terms.txt").write_text("Old\n\nperson\n")
    given = [data, "--probe", tmp_path / "probe.parquet", *FLAGS]
    told = call(*given, "--out", tmp_path / "a.bin")
    assert "taken for 1 at 0.5" in told
    call(*given, "--probe-column", "term", "--out", tmp_path / "b.bin")
    call(*given, "--probe-terms", tmp_path / "terms.txt", "--out", tmp_path / "c.bin")
    rows = {
        name: {one["term"]: one["rows"] for one in figures(tmp_path / f"{name}.bin")["probe"]["terms"]}
        for name in "abc"
    }
    assert rows["a"] == rows["b"] == {"old": 10, "deaf": 10}  # every other sentence has the label 1 and does not count
    assert rows["c"] == {"Old": 10, "person": 20}
    assert len(set(IDENTITY_TERMS)) == 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which texts?"),
        (["DATA", "--positive", "DATA", "--negative", "DATA"], "do not go with"),
        (["--positive", "DATA"], "need each other"),
        (["--positive", "DATA", "--negative", "DATA", "--label", "y"], "--label names a column"),
        (["--positive", "DATA", "--negative", "DATA", "--names", "a"], "is two labels"),
        (["DATA", "--names", "a,b"], "goes with"),
        (["DATA", "--label", "lable"], "Did you mean: label"),
        (["nothing/*.parquet"], "nothing matches"),
        (["DATA", "--test-share", "95%"], "at most 90%"),
        (["DATA", "--test-share", "ten"], "a share is"),
        (["DATA", "--balance", "up"], "cap=N"),
        (["DATA", "--balance", "cap=0"], "cap=N"),
        (["DATA", "--dim", "0"], "--dim: 0"),
        (["DATA", "--word-ngrams", "99"], "--word-ngrams: 99"),
        (["DATA", "--loss", "soft"], "--loss: 'soft'"),
        (["DATA", "--positive-label", "one"], "--positive-label one"),
        (["DATA", "--label", "source", "--probe", "DATA"], "Name one with --positive-label"),
        (["DATA", "--probe", "DATA", "--probe-label", "source"], "its labels are site0, site1"),
        (["DATA", "--probe-terms", "x.txt"], "go with --probe"),
        (["DATA", "--probe", "DATA", "--probe-terms", "x.txt"], "cannot be read"),
        (["DATA", "--probe", "DATA", "--probe-terms", "x.txt", "--probe-column", "source"], "take one"),
        (["DATA", "--by", "sources"], "Did you mean: source"),
    ],
)
def test_what_cannot_be_is_exit_code_2_with_what_to_do(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    data = written(tmp_path, count=100)
    told = call(*(data if word == "DATA" else word for word in words), "--out", "m.bin", code=2)
    assert message in " ".join(told.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labelled.parquet"]


def test_an_existing_model_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "m.bin").write_text("mine")
    told = call("nothing.parquet", "--out", tmp_path / "m.bin", code=2)
    assert "--force" in told
    call(written(tmp_path), "--out", tmp_path / "m.bin", "--force", *FLAGS)
    assert (tmp_path / "m.bin").stat().st_size > 1000


def test_rows_that_could_not_be_read_are_named_at_the_end(tmp_path):
    rows = [{"text": row["text"], "label": row["label"]} for row in labelled_texts(100).to_pylist()]
    lines = [json.dumps(row) for row in rows]
    lines.insert(3, '{"text": "broken')
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    told = call(tmp_path / "a.jsonl", "--out", tmp_path / "m.bin", *FLAGS)
    assert "a.jsonl#3: bad_line" in told
    assert "1 unreadable" in told
    assert "101 read" in told


def test_the_options_have_the_defaults_of_the_trainer():
    assert {name: default for name, _, default, _ in PARAMS} == {
        name: value for name, value in asdict(Params()).items() if name != "lr_update_rate"
    }


def test_the_example_in_the_help_works_in_a_checkout_with_a_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "sample").mkdir(parents=True)
    written(tmp_path / "data" / "sample", "sample-00000.parquet", count=60)
    text = inspect.cleandoc(command.help or "").replace("\b", "")
    words = shlex.split(next(line for line in text.splitlines() if line.startswith("Example: ")))[2:]
    assert words[:2] == ["train", "fasttext"]
    told = call(*words[2:])
    assert "source.bin: " in told
    assert (tmp_path / "models" / "source.bin.md").exists()
