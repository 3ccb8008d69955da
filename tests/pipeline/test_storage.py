"""Storage: the commit primitive, on a local folder and on a server that speaks the S3 protocol."""

from __future__ import annotations

import os
import pickle
import stat
import threading
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.pipeline import storage as module
from tamis.pipeline.storage import Storage, explained, storage_for
from tamis.stages.errors import SetupError


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(str(tmp_path / "root"))
    return Storage(f"{request.getfixturevalue('s3')}/root")


def test_what_is_written_is_read_and_replaced(store: Storage) -> None:
    store.write("a/b.json", b"one")
    assert store.read("a/b.json") == b"one"
    first = store.version("a/b.json")
    store.write("a/b.json", b"another")
    assert store.read("a/b.json") == b"another"
    assert store.version("a/b.json") != first
    assert store.size("a/b.json") == 7
    assert store.exists("a/b.json")
    assert not store.exists("a/c.json")


def test_an_absent_file_is_a_file_not_found_error(store: Storage) -> None:
    for ask in (store.read, store.size, store.version, store.open):
        with pytest.raises(FileNotFoundError):
            ask("no/such.json")
    store.remove("no/such.json")
    store.remove_tree("no")
    assert store.list("no") == {}
    assert store.list() == {}


def test_create_writes_once(store: Storage) -> None:
    assert store.create("receipts/u1.json", b"first")
    assert not store.create("receipts/u1.json", b"second")
    assert store.read("receipts/u1.json") == b"first"


def test_of_racing_creators_exactly_one_wins_and_its_bytes_stand(store: Storage) -> None:
    for turn in range(12):
        start = threading.Barrier(4)
        won: dict[int, bool] = {}

        def attempt(
            number: int, turn: int = turn, start: threading.Barrier = start, won: dict[int, bool] = won
        ) -> None:
            start.wait()
            won[number] = store.create(f"race/{turn}", b"%d" % number)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, wins in won.items() if wins]
        assert len(won) == 4
        assert len(winners) == 1
        assert store.read(f"race/{turn}") == b"%d" % winners[0]
    assert len(store.list("race")) == 12


@pytest.mark.parametrize("size", [0, 10, 40_000_000])
def test_a_writer_commits_at_its_end_and_leaves_nothing_when_it_fails(store: Storage, size: int) -> None:
    store.write("kept", b"old")
    for path in ("new", "kept"):
        with pytest.raises(KeyError), store.writer(path) as file:  # noqa: PT012
            file.write(b"x" * size)
            raise KeyError
    assert store.list() == {"kept": 3}
    assert store.read("kept") == b"old"
    with store.writer("new") as file:
        file.write(b"x" * size)
        assert not store.exists("new")
    assert store.list() == {"kept": 3, "new": size}
    if store.local:
        assert sorted(os.listdir(store.root)) == ["kept", "new"]


def test_list_shows_files_of_all_folders_below_a_prefix_and_no_hidden_ones(store: Storage) -> None:
    for path in ("z", "a/b/c", "a/d", "ab/e", "a/.tmp", "a/.next/f"):
        store.write(path, path.encode())
    assert list(store.list().items()) == [("a/b/c", 5), ("a/d", 3), ("ab/e", 4), ("z", 1)]
    assert store.list("a") == {"a/b/c": 5, "a/d": 3}
    assert store.list("a/.next") == {"a/.next/f": 9}
    store.remove_tree("a")
    store.remove("z")
    assert store.list() == {"ab/e": 4}
    assert not store.exists("a/.tmp")


def test_parquet_round_trips_through_writer_and_open(store: Storage) -> None:
    table = pa.table({"x": range(1000)})
    with store.writer("t.parquet") as file:
        pq.write_table(table, file)
    with store.open("t.parquet") as stream:
        assert pq.read_table(stream).equals(table)
        assert stream.failure is None


def test_a_storage_can_be_pickled_before_and_after_use(store: Storage) -> None:
    store.write("x", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert again.read("x") == b"1"
    assert again.root == store.root


def test_a_url_is_split_into_folder_and_name(store: Storage) -> None:
    store.write("a/b.bin", b"1")
    inner, name = storage_for(store.url("a/b.bin"))
    assert (inner.read(name), name) == (b"1", "b.bin")
    assert inner.root == f"{store.root}/a"


def test_a_relative_path_is_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inner, name = storage_for("x/y")
    assert (inner.root, name) == (f"{tmp_path}/x", "y")
    with pytest.raises(ValueError, match="absolute"):
        Storage("x/y")


def test_create_works_where_hard_links_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module.os, "link", refuse)
    store = Storage(str(tmp_path))
    assert store.create("r", b"1")
    assert not store.create("r", b"2")
    assert os.listdir(tmp_path) == ["r"]
    assert store.read("r") == b"1"


@pytest.mark.parametrize(("number", "says"), [(28, "full"), (122, "quota"), (30, "read-only"), (13, "permissions")])
def test_disk_errors_name_the_path_and_what_to_do(number: int, says: str) -> None:
    with pytest.raises(SetupError, match=rf"/out/x: .*{says}"), explained("/out/x"):
        raise OSError(number, "reason")


def test_a_folder_without_permission_is_a_setup_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(SetupError, match="not allowed"):
        Storage(str(tmp_path)).write("x", b"")
    tmp_path.chmod(stat.S_IRWXU)


def test_a_full_device_is_a_setup_error() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with pytest.raises(SetupError, match="disk is full"), explained("/out/x"), open("/dev/full", "wb", 0) as file:
        file.write(b"x")


def test_a_bucket_that_does_not_exist_is_a_setup_error(s3_endpoint: str) -> None:
    nowhere = Storage(f"s3://{uuid.uuid4().hex}/x")
    for write in (nowhere.write, nowhere.create):
        with pytest.raises(SetupError, match="bucket"):
            write("a", b"")
    assert nowhere.list() == {}


def test_an_unknown_protocol_is_a_setup_error() -> None:
    with pytest.raises(SetupError, match="nosuch"):
        Storage("nosuch://x").read("y")
