from __future__ import annotations

import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.pipeline import edits
from tamis.pipeline.edits import LONG, difference
from tamis.pipeline.storage import storage_at
from tamis.pipeline.terminal import visible
from tamis.pipeline.why import story
from tamis.stages.base import Stage
from tamis.stages.errors import RecipeError, SetupError

from .small_run import DOCUMENTS, EVIL, PROSE, small_run


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_run(tmp_path_factory.mktemp("why")).output


def line(text: str, head: str) -> str:
    return next(found for found in text.splitlines() if found.startswith(head))


# --- finding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upper", [False, True])
def test_doc_id_place_url_and_hash_tell_the_same_story(output: str, upper: bool) -> None:
    text = DOCUMENTS["b.parquet"][0][1]
    assert text is not None
    digest = xxhash.xxh3_128_hexdigest(text.encode())
    told = story(output, key="plain")
    assert line(told, "who").endswith("plain (b.parquet#0)")
    assert digest in told
    for key in ("b.parquet#0", "https://example.org/plain", digest.upper() if upper else digest):
        assert story(output, key=key) == told


def test_a_phrase_finds_kept_documents_and_says_where_dropped_ones_are(output: str) -> None:
    assert "plain (b.parquet#0)" in story(output, phrase="Then the door opened")
    with pytest.raises(RecipeError, match="source"):
        story(output, phrase="Too short")


def test_several_matches_are_listed_and_the_first_is_told(output: str) -> None:
    told = story(output, key="twice")
    assert told.startswith("2 documents match")
    assert "b.parquet#3" in told
    assert "b.parquet#4" in told
    assert line(told, "who").endswith("twice (b.parquet#3)")


def test_of_very_many_matches_twenty_are_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = pa.table({"id": ["same"] * 50, "text": [f"{PROSE} {n}" for n in range(50)]})
    pq.write_table(rows, tmp_path / "in" / "a.parquet")
    told = story(small_run(tmp_path, stages=[]).output, key="same")
    assert told.startswith("more than 20 documents match")
    assert told.count("same (a.parquet#") == 20 + 1


def test_an_unknown_key_names_the_nearest_file_and_an_absent_row(output: str) -> None:
    with pytest.raises(RecipeError, match=r"Did you mean: a\.parquet"):
        story(output, key="aa.parquet#1")
    with pytest.raises(RecipeError, match="no document in row 99"):
        story(output, key="a.parquet#99")


def test_an_unfinished_run_and_a_wrong_path_are_told_apart(tmp_path: Path, output: str) -> None:
    with pytest.raises(SetupError, match="is the path right"):
        story(str(tmp_path / "nowhere"), key="x")
    begun = tmp_path / "begun"
    shutil.copytree(output, begun)
    (begun / "manifest.json").unlink()
    with pytest.raises(SetupError, match="not finished"):
        story(str(begun), key="x")


# --- fates --------------------------------------------------------------------------------------------------------


def test_a_dropped_document_shows_each_failed_rule_with_value_and_threshold(output: str) -> None:
    told = story(output, key="short")
    assert line(told, "fate") == "fate    dropped by size.long: chars = 10, needs chars >= 40 AND chars <= 5000"
    assert "size.max = 5000, size.min = 40" in told
    assert re.search(r"size\.english +lang = de +needs lang = 'en'", told)
    assert "later stages did not see it: late, c4_lines, exact_dedup" in told


def test_a_duplicate_names_the_kept_one_and_where_that_one_stands(output: str) -> None:
    fate = line(story(output, key="repost"), "fate")
    assert "one of 2 duplicates" in fate
    assert "original (a.parquet#2), https://example.org/original" in fate
    file, row = re.search(r"written to (\S+), row (\d+)", fate).groups()  # type: ignore[union-attr]
    assert pq.read_table(Path(output) / file)["doc_id"][int(row)].as_py() == "original"
    assert "kept as the one of 2 duplicates" in story(output, key="original")


def test_what_could_not_be_read_or_decided_is_set_aside_with_the_reason(output: str) -> None:
    assert line(story(output, key="nothing"), "fate") == "fate    set aside: its text is null (null_text)"
    told = line(story(output, key="unknown"), "fate")
    assert told == "fate    set aside: size.english could not be decided: lang = null; needs lang = 'en' (size.null)"


def test_an_edit_that_leaves_nothing_is_named(output: str) -> None:
    assert "dropped by the edit c4_lines, which left nothing of its text" in story(output, key="menu")


def test_a_stage_that_where_leaves_out_says_so(output: str) -> None:
    went_in = [found for found in story(output, key="plain").splitlines() if " late " in found]
    went_by = [found for found in story(output, key="menu").splitlines() if " late " in found]
    assert went_in == ["    3  late         decide   passed 1 rule (where url IS NOT NULL)"]
    assert went_by == ["    3  late         decide   went by (where url IS NOT NULL)"]


def test_thresholds_of_the_documents_own_group_are_shown(tmp_path: Path) -> None:
    grouped = {
        "use": "rules",
        "name": "size",
        "rules": {"long": "chars >= $min"},
        "params": {"min": 1},
        "by": "lang",
        "values": {"de": {"min": 1000}},
    }
    out = small_run(tmp_path, stages=[grouped], report={"by": ["lang"]}).output
    assert "needs chars >= 1000" in line(story(out, key="german"), "fate")


# --- edits --------------------------------------------------------------------------------------------------------


def test_the_difference_shows_what_an_edit_removed(output: str) -> None:
    told = story(output, key="edited")
    shown = told[told.index("edits ") :].splitlines()
    lines = DOCUMENTS["a.parquet"][1][1].split("\n")  # type: ignore[union-attr]
    kept = f"{lines[1]}\n{lines[3]}"
    assert shown[0] == f"edits   c4_lines: {len(chr(10).join(lines))} -> {len(kept)} characters"
    assert f"        - {lines[0]}" in shown
    assert f"        - {lines[2]}" in shown
    assert f"          {lines[1]}" in shown


def test_a_changed_or_missing_source_is_said_and_the_rest_is_told(tmp_path: Path) -> None:
    out = small_run(tmp_path).output
    before = story(out, key="edited")
    for change in (lambda path: path.write_bytes(path.read_bytes() + b"x"), Path.unlink):
        change(tmp_path / "in" / "a.parquet")
        told = story(out, key="edited")
        assert re.search(r"edits   cannot be shown: .*(changed|gone)", told)
        assert told[: told.index("edits ")] == before[: before.index("edits ")]


def test_another_text_in_the_documents_place_is_not_compared(tmp_path: Path) -> None:
    out = small_run(tmp_path).output
    shutil.rmtree(Path(out) / "work")
    source = tmp_path / "in" / "a.parquet"
    rows = pq.read_table(source).to_pylist()
    rows[1]["text"] += " More."
    pq.write_table(pa.Table.from_pylist(rows), source)
    assert "cannot be shown: a.parquet does not hold the text that was measured" in story(out, key="edited")


def test_the_difference_is_shown_without_the_work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [{"use": "c4_lines", "min_words": 30}]  # changes documents of both files
    out = small_run(tmp_path, stages=stages).output
    before = [story(out, key=key) for key in ("edited", EVIL, "plain")]
    assert all("\nedits   c4_lines: " in told for told in before)
    shutil.rmtree(Path(out) / "work")
    for footers in (200, 1):
        monkeypatch.setattr(edits, "FOOTERS", footers)
        assert [story(out, key=key) for key in ("edited", EVIL, "plain")] == before


def test_the_columns_that_an_edit_reads_come_from_ledger_or_source(tmp_path: Path) -> None:
    out = small_run(tmp_path, stages=[{"use": f"{__name__}:Stamp", "where": "lang IS NOT NULL"}]).output
    assert "        + de 10 10t." in story(out, key="short").splitlines()


class Stamp(Stage):
    """An edit that reads other columns than the text, and keeps its size."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ("text", "lang", "chars", "bytes")

    def edit(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        texts = ["{lang} {chars} {bytes}".format(**row)[:8] + row["text"][8:] for row in rows]
        return pa.table({"text": pa.array(texts, pa.large_string())})


def test_nothing_of_a_document_can_steer_the_terminal(output: str) -> None:
    told = story(output, key=EVIL)
    assert {c for c in told if unicodedata.category(c) in ("Cc", "Cf")} == {"\n"}
    assert "evil\\x1b[31m\\u202e\\x07" in told


@given(st.text())
def test_visible_text_is_printable_and_plain_text_is_unchanged(text: str) -> None:
    shown = visible(text)
    assert all(unicodedata.category(c)[0] in "LMNPS" or unicodedata.category(c) == "Zs" for c in shown)
    if all(unicodedata.category(c)[0] in "LMNPS" for c in text):
        assert shown == text


@settings(max_examples=200)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_a_difference_applied_to_the_old_text_gives_the_new(old: list[str], new: list[str]) -> None:
    assert apply(old, list(difference("\n".join(old), "\n".join(new), 1000))) == new


def apply(old: list[str], shown: list[str]) -> list[str]:
    """The naive reader of a difference: copies up to each place, then does as the marks say."""
    result: list[str] = []
    at = 0
    for mark in shown:
        if place := re.fullmatch(r"@@ line (\d+)", mark):
            result += old[at : int(place[1]) - 1]
            at = int(place[1]) - 1
        elif mark[0] == "+":
            result.append(mark[2:])
        else:
            assert old[at] == mark[2:]
            at += 1
            result += [mark[2:]] if mark[0] == " " else []
    return result + old[at:]


def test_a_long_line_is_cut_to_the_part_that_differs() -> None:
    old = "x" * 5000 + "OLD" + "y" * 5000
    lines = list(difference(old, old.replace("OLD", "NEW"), 10))
    assert len(lines) == 3
    assert "OLD" in lines[1]
    assert "NEW" in lines[2]
    assert max(map(len, lines)) <= LONG + 4


def test_a_story_without_edits_needs_neither_numba_nor_pandas_nor_ray(output: str) -> None:
    code = (
        "import sys; from tamis.pipeline.why import story; story(sys.argv[1], key='plain'); "
        "print([m for m in ('numba', 'pandas', 'ray', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, output], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_document_has_a_story(output: str) -> None:
    for file, rows in DOCUMENTS.items():
        for row in range(len(rows)):
            told = story(output, key=f"{file}#{row}")
            assert line(told, "who").endswith(f"{file}#{row})")
            assert line(told, "fate")


def test_an_output_on_an_object_store_tells_the_same_stories(output: str, s3: str) -> None:
    bucket = storage_at(s3)
    for path in Path(output).rglob("*"):
        if path.is_file():
            bucket.write(f"out/{path.relative_to(output)}", path.read_bytes())
    for key in ("short", "repost", "edited"):
        told = story(f"{s3}/out", key=key)
        assert told.replace(f"tamis show {s3}/out ", f"tamis show {output} ") == story(output, key=key)
    assert story(f"{s3}/out", phrase="Then the door opened") == story(output, key="plain")
