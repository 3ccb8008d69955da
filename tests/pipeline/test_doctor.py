"""`tamis doctor`: it finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from tamis.pipeline import doctor, doctor_machine, doctor_packages, doctor_storage
from tamis.pipeline.commands.doctor import command
from tamis.pipeline.doctor import Check, attempt, conclusion
from tamis.pipeline.storage import Storage, storage_at

from .small_run import small_run


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


def storage_findings(place: Path | str) -> dict[str, Check]:
    return by_name(doctor_storage.storage_checks(str(place)))


def test_a_sound_machine_has_no_failure_and_nothing_stays_behind(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("no network without a URL")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    checks = list(doctor.diagnose())
    assert [check for check in checks if check.state == "fail"] == []
    assert {"python", "packages", "kernel cache", "speed", "ray", "cpu", "memory", "disk", "file system"} <= set(
        by_name(checks)
    )
    assert list(tmp_path.iterdir()) == []
    found = by_name(checks)
    assert os.environ["NUMBA_CACHE_DIR"] in found["kernel cache"].found
    assert importlib.metadata.version("ray") in found["ray"].found


def test_every_check_that_is_not_well_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_machine, "WORKER", 1e15)
    monkeypatch.setattr(doctor_machine, "SHARED", 1 << 60)
    monkeypatch.setattr(doctor_machine, "OPEN_FILES", 1 << 40)
    monkeypatch.setattr(doctor_machine, "OLDEST", 1 << 40)
    monkeypatch.setattr(doctor_machine, "cpu_quota", lambda: 0.5)
    monkeypatch.setattr(doctor_storage, "FREE", 1e18)
    checks = [c for name, check in doctor_machine.MACHINE for c in attempt(name, check)]
    checks += storage_findings(tmp_path).values()
    states = {check.name: check.state for check in checks}
    for name, state in {
        "cpu": "warn",
        "memory": "fail",
        "/dev/shm": "warn",
        "open files": "warn",
        "clock": "fail",
        "disk": "warn",
    }.items():
        assert states[name] == state
    assert all(check.remedy for check in checks if check.state != "ok")


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_cpu_quota_of_a_container(tmp_path, files, wanted):
    write(tmp_path, files)
    assert doctor_machine.cpu_quota(tmp_path) == wanted


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"memory.max": "1073741824\n"}, 1 << 30),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "1073741824\n"}, 1 << 30),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_the_memory_limit_of_a_container(tmp_path, files, wanted):
    write(tmp_path, files)
    assert doctor_machine.memory_limit(tmp_path) == wanted


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def test_a_limit_counts_although_the_machine_has_more(monkeypatch):
    monkeypatch.setattr(doctor_machine, "memory_limit", lambda: int(doctor_machine.WORKER) // 2)
    monkeypatch.setattr(doctor_machine, "CGROUP", Path("/nowhere"))
    (found,) = doctor_machine.memory()
    assert found.state == "fail"
    assert "limit of 300.0 MB" in found.found


def test_missing_and_old_packages_are_named_and_extras_count_only_if_installed(monkeypatch):
    wanted = [
        "numpy>=999",
        "no-such-package>=1",
        "pyarrow>=1",
        'other-missing>=1; extra == "lm"',
        'pytest>=999; extra == "dev"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    found = by_name(doctor_packages.python())["packages"]
    assert found.state == "fail"
    assert "no-such-package is missing" in found.found
    assert f"numpy {importlib.metadata.version('numpy')} is not >=999" in found.found
    assert "pytest" in found.found
    assert "other-missing" not in found.found
    assert "pyarrow" not in found.found


def test_code_that_is_not_compiled_or_slow_is_told(monkeypatch):
    for speed, state in ((1.0, "fail"), (20.0, "warn"), (500.0, "ok")):
        monkeypatch.setattr(doctor_packages, "kernel_speed", lambda speed=speed: speed)
        assert by_name(doctor_packages.kernels())["speed"].state == state
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert by_name(doctor_packages.kernels())["kernels"].state == "fail"


def test_the_speed_is_of_the_real_kernel_on_its_text():
    assert doctor_packages.kernel_speed() > 0


def test_storage_that_overwrites_is_a_failure(tmp_path, monkeypatch):
    def create(self: Storage, path: str, data: bytes) -> bool:
        self.write(path, data)
        return True

    monkeypatch.setattr(Storage, "create", create)
    found = storage_findings(tmp_path)["file system"]
    assert found.state == "fail"
    assert "second writer" in found.found
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links_is_told(tmp_path, monkeypatch):
    def link(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    found = storage_findings(tmp_path)["file system"]
    assert found.state == "warn"
    assert "hard links" in found.remedy


def test_clocks_that_differ_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_storage.time, "time", lambda: 1.0)
    assert storage_findings(tmp_path)["clock of files"].state == "warn"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_told():
    found = storage_findings("/proc/out")["file system"]
    assert found.state == "fail"
    assert "cannot be written" in found.found


def test_an_output_that_does_not_exist_yet_is_tried_where_it_will_be(tmp_path):
    found = storage_findings(tmp_path / "not" / "yet")
    assert found["file system"].state == "ok"
    assert found["output"].found == "new"
    assert list(tmp_path.iterdir()) == []


def test_what_an_output_holds_is_told(tmp_path):
    small_run(tmp_path)
    assert storage_findings(tmp_path / "out")["output"].found == "holds the finished run small"
    (tmp_path / "out" / "manifest.json").unlink()
    assert "not finished" in storage_findings(tmp_path / "out")["output"].found


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "server:/x /data nfs4 rw 0 0\n/dev/b /data/with\\040space xfs rw 0 0\nbroken\n/dev/a / ext4 rw 0 0\n"
    )
    for path, kind in {
        "/data/a": "nfs4",
        "/database": "ext4",
        "/data/with space/x": "xfs",
        "/data": "nfs4",
        "/": "ext4",
    }.items():
        assert doctor_storage.file_system_kind(path, mounts) == kind
    assert doctor_storage.file_system_kind("/", tmp_path / "none") == "unknown"


def test_an_object_store_is_tried_and_left_as_it_was(s3):
    found = storage_findings(f"{s3}/out")["object store"]
    assert found.state == "ok"
    assert storage_at(s3).list("") == {}


def test_an_object_store_without_conditional_writes_is_a_failure(s3, monkeypatch):
    def put(self: Storage, path: str, data: bytes) -> bool:
        self.fs.pipe_file(self.full(path), data)
        return True

    monkeypatch.setattr(Storage, "_put_if_absent", put)
    found = storage_findings(f"{s3}/out")["object store"]
    assert found.state == "fail"
    assert "conditional writes" in found.remedy
    assert storage_at(s3).list("") == {}


def test_a_bucket_that_is_not_there_is_a_finding(s3):
    found = storage_findings(f"{s3}-missing/out")["object store"]
    assert found.state == "fail"
    assert "bucket" in found.found


@pytest.mark.ray
def test_a_cluster_that_does_not_answer_is_a_failure(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(doctor_packages, "LIMIT", 3.0)
    (found,) = doctor_packages.ray()
    assert found.state == "fail"
    assert "RAY_ADDRESS=127.0.0.1:1" in found.found


def test_a_check_that_breaks_is_a_finding():
    def broken():
        yield Check("first", "ok", "fine")
        raise KeyError("oh")

    found = list(attempt("mine", broken))
    assert [(c.name, c.state) for c in found] == [("first", "ok"), ("mine", "fail")]


def test_the_command_ends_with_1_where_something_fails(monkeypatch):
    evil = [Check("a", "ok", "fine"), Check("b", "fail", "bad\x1b[31m", "mend it")]
    monkeypatch.setattr(doctor, "diagnose", lambda place: iter(evil))
    told = CliRunner().invoke(command, [])
    assert told.exit_code == 1
    assert "-> mend it" in told.output
    assert "\x1b" not in told.output
    assert told.output.endswith("1 failed, 0 to look at\n")
    data = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert data["ok"] is False
    assert [check["state"] for check in data["checks"]] == ["ok", "fail"]
    monkeypatch.setattr(doctor, "diagnose", lambda place: iter([Check("a", "warn", "hm", "look")]))
    assert CliRunner().invoke(command, []).exit_code == 0
    assert conclusion([Check("a", "ok", "fine")]) == "Tamis works here"
