from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from tamis.pipeline.storage import storage_at
from tamis.pipeline.verify import verify
from tamis.stages.errors import SetupError

from .small_run import small_run

FILES = (
    "checksums.txt",
    "data/",  # the one shard
    "ledger/",  # the one file of the ledger
    "manifest.json",
    "quarantine/files.parquet",
    "quarantine/rows.parquet",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(small_run(tmp_path_factory.mktemp("verify")).output)


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def named_by(output: Path, file: str) -> str:
    """The path behind an entry of FILES."""
    if not file.endswith("/"):
        return file
    (path,) = (output / file).glob("*.parquet")
    return f"{file}{path.name}"


def named(output: Path | str) -> set[str]:
    """Which files a report blames."""
    report = verify(str(output))
    assert report.ok == (not report.problems)
    return {problem.partition(": ")[0] for problem in report.problems if ": " in problem}


def test_a_finished_output_is_ok_with_its_figures(whole: Path) -> None:
    report = verify(str(whole))
    assert report.ok, report.text
    assert report.text.startswith("OK: ")
    counts = json.loads((whole / "manifest.json").read_text())["counts"]
    kept, dropped, aside = counts["kept"], counts["dropped"], counts["quarantined"]
    assert f"12 documents = {kept} kept + {dropped} dropped + {aside} quarantined" in report.text
    assert kept + dropped + aside == 12
    assert all((whole / named_by(whole, file)).is_file() for file in FILES)


@pytest.mark.parametrize("file", FILES)
def test_any_flipped_byte_is_found_in_the_file_that_has_it(output: Path, file: str) -> None:
    file = named_by(output, file)
    path = output / file
    good = path.read_bytes()
    for at in sorted({0, len(good) // 3, len(good) // 2, len(good) - 2, len(good) - 1}):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert file in named(output), at
    path.write_bytes(good)
    assert verify(str(output)).ok


@pytest.mark.parametrize("file", FILES)
def test_any_added_or_removed_byte_and_any_missing_file_is_found(output: Path, file: str) -> None:
    file = named_by(output, file)
    path = output / file
    good = path.read_bytes()
    for damaged in (good + b"\n", good[:-1], good[1:], good[: len(good) // 2] + good[len(good) // 2 + 1 :], b""):
        path.write_bytes(damaged)
        assert file in named(output)
    path.unlink()
    assert file in named(output)


def test_a_missing_or_doubled_line_of_the_checksums_is_found(output: Path) -> None:
    path = output / "checksums.txt"
    lines = path.read_text().splitlines(keepends=True)
    for at in range(len(lines)):
        path.write_text("".join(lines[:at] + lines[at + 1 :]))
        assert "checksums.txt" in named(output)
    path.write_text("".join([lines[0], *lines]))
    assert "checksums.txt" in named(output)


@pytest.mark.parametrize(
    "file", ["data/part-9.parquet", "data/.hidden", "ledger/.part.tmp", "quarantine/a/b", "extra", "data/lock.json"]
)
def test_a_file_that_no_run_wrote_is_named(output: Path, file: str) -> None:
    (output / file).parent.mkdir(exist_ok=True)
    (output / file).write_bytes(b"")
    assert named(output) == {file}


def test_what_belongs_to_a_driver_is_not_blamed(output: Path) -> None:
    for file in ("lock.json", ".lock-guard", "work/any/thing"):
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        (output / file).write_bytes(b"x")
    (output / "log.jsonl").unlink()
    assert verify(str(output)).ok
    shutil.rmtree(output / "work")
    assert verify(str(output)).ok


@pytest.mark.parametrize("file", ["checksums.txt", "manifest.json", "report.html", "data/part-000000.parquet"])
def test_what_a_killed_run_was_writing_is_gone_when_the_next_one_ends(tmp_path: Path, file: str) -> None:
    half = tmp_path / "out" / Path(file).parent / f".{Path(file).name}.0123456789abcdef.tmp"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half of it")
    assert named(small_run(tmp_path).output) == set()
    assert not half.exists()


def test_an_output_without_a_finished_run_is_no_output(tmp_path: Path, output: Path) -> None:
    with pytest.raises(SetupError, match="no finished run"):
        verify(str(tmp_path / "nowhere"))
    (output / "manifest.json").unlink()
    (output / "checksums.txt").unlink()
    with pytest.raises(SetupError, match="no finished run"):
        verify(str(output))


# --- sums: files that were changed together with their checksums ---------------------------------------------------


def sign(output: Path) -> None:
    """Writes checksums.txt anew over what stands there: the sums alone can then find a lie."""
    lines = []
    for file in [line.split(" ", 2)[2] for line in (output / "checksums.txt").read_text().splitlines()[:-1]]:
        content = (output / file).read_bytes()
        lines.append(f"{xxhash.xxh3_128_hexdigest(content)} {len(content)} {file}\n")
    body = "".join(lines).encode()
    (output / "checksums.txt").write_bytes(body + f"{xxhash.xxh3_128_hexdigest(body)}\n".encode())


def rewrite(output: Path, file: str, change: Callable[[pa.Table], pa.Table]) -> None:
    path = output / named_by(output, file)
    pq.write_table(change(pq.read_table(path)), path)
    sign(output)


def setting(column: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(
            table.schema.get_field_index(column), table.schema.field(column), [pa.array(values, table[column].type)]
        )

    return change


LEDGER, DATA = "ledger/", "data/"
KEPT = 1  # a row of the ledger that is kept: 'edited'
SHORT = 0  # and one that is not


@pytest.mark.parametrize(
    ("file", "change", "blamed"),
    [
        (LEDGER, lambda t: t.slice(0, 11), "ledger/"),
        (LEDGER, lambda t: pa.concat_tables([t, t.slice(11)]), LEDGER),
        (LEDGER, lambda t: pa.concat_tables([t.slice(6), t.slice(0, 6)]), LEDGER),
        (LEDGER, setting("source_row", SHORT, 1), LEDGER),
        (LEDGER, setting("decision", SHORT, "quarantine"), "ledger/"),
        (LEDGER, setting("decision", KEPT, "drop"), LEDGER),
        (LEDGER, setting("decision", SHORT, "lost"), LEDGER),
        (LEDGER, setting("out_row", KEPT, 1), LEDGER),
        (LEDGER, setting("out_file", KEPT, "data/x.parquet"), LEDGER),
        (LEDGER, setting("out_file", SHORT, "data/x.parquet"), LEDGER),
        (LEDGER, setting("source_hash", KEPT, "0" * 32), DATA),
        (LEDGER, setting("source_file", 0, "0.parquet"), "manifest.json"),
        (DATA, lambda t: t.slice(1), DATA),
        (DATA, lambda t: pa.concat_tables([t, t.slice(0, 1)]), DATA),
        (DATA, lambda t: t.take([1, 0, *range(2, len(t))]), DATA),
        (FILES[5], lambda t: t.slice(1), "quarantine/rows.parquet"),
    ],
)
def test_a_lie_that_is_signed_is_found_by_the_sums(
    output: Path, file: str, change: Callable[[pa.Table], pa.Table], blamed: str
) -> None:
    rewrite(output, file, lambda t: t)
    assert verify(str(output)).ok
    rewrite(output, file, change)
    assert any(name.startswith(blamed) for name in named(output))


def test_a_manifest_that_counts_otherwise_is_found(output: Path) -> None:
    path = output / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("rows", "kept", "dropped", "quarantined", "files", "files_lost"):
        changed = {**manifest, "counts": {**manifest["counts"], name: manifest["counts"][name] + 1}}
        path.write_text(json.dumps(changed))
        sign(output)
        assert not verify(str(output)).ok, name


def test_checksums_that_point_outside_are_refused(output: Path) -> None:
    (output.parent / "outside").write_bytes(b"x")
    body = (output / "checksums.txt").read_bytes()[:-33] + f"{xxhash.xxh3_128_hexdigest(b'x')} 1 ../outside\n".encode()
    (output / "checksums.txt").write_bytes(body + f"{xxhash.xxh3_128_hexdigest(body)}\n".encode())
    assert named(output) == {"checksums.txt"}


def test_an_output_on_an_object_store_is_checked_like_a_local_one(whole: Path, s3: str) -> None:
    bucket = storage_at(s3)
    for path in whole.rglob("*"):
        if path.is_file():
            bucket.write(f"out/{path.relative_to(whole)}", path.read_bytes())
    assert verify(f"{s3}/out").ok
    shard = named_by(whole, DATA)
    good = bucket.read(f"out/{shard}")
    bucket.write(f"out/{shard}", good[:100] + bytes([good[100] ^ 1]) + good[101:])
    bucket.write("out/ledger/extra.parquet", b"")
    bucket.remove("out/quarantine/rows.parquet")
    assert named(f"{s3}/out") == {shard, "ledger/extra.parquet", "quarantine/rows.parquet"}
