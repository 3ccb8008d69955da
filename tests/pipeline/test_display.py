from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tamis.pipeline.display import Display
from tamis.pipeline.driver import run

from .small_run import small_recipe, write_documents


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain() -> tuple[Display, io.StringIO, Clock]:
    file, clock = io.StringIO(), Clock()
    return Display(file, clock=clock), file, clock


def receipt(rows: int = 100, alive: int = 25, read_bytes: int = 1_000_000) -> dict[str, object]:
    return {"unit": "u", "rows": rows, "alive": alive, "read_bytes": read_bytes, "seconds": 1.0}


def test_a_step_of_many_units_takes_a_dozen_plain_lines() -> None:
    display, file, clock = plain()
    display.begin("read", 5000, 0)
    for _ in range(5000):
        clock.now += 0.2
        display.unit("read", receipt())
    display.end("read")
    lines = file.getvalue().splitlines()
    assert 11 <= len(lines) <= 2 + 10 + 1000 // 30
    assert lines[0] == "read: begins, 5,000 units"
    assert lines[-1].startswith("read: ended after 16:40, 500,000 documents, 5.0 GB")


def test_a_slow_step_is_heard_of_every_half_minute_and_a_fast_one_is_not() -> None:
    for pace, expected in ((31.0, 9), (0.001, 0)):
        display, file, clock = plain()
        display.begin("read", 1000, 0)
        for _ in range(9):
            clock.now += pace
            display.unit("read", receipt())
        assert len(file.getvalue().splitlines()) - 1 == expected


def test_a_long_phase_of_a_deduplication_is_heard_of_and_short_ones_are_not() -> None:
    for pace, expected in ((12.0, 4), (0.1, 0)):
        display, file, clock = plain()
        display.begin("near_dedup", 7, 0)
        for name in ("bands", "choose"):
            for done in range(6):
                clock.now += pace
                display.phase(name, done, 5)
        display.end("near_dedup")
        told = file.getvalue().splitlines()[1:-1]
        assert len(told) == expected
        assert not told or told[0] == "near_dedup: bands 2 of 5, after 36.0 s"


def test_the_phase_that_a_deduplication_is_in_is_drawn() -> None:
    file, clock = io.StringIO(), Clock()
    display = Display(file, terminal=True, clock=clock)
    display.begin("near_dedup", 7, 0)
    display.phase("buckets", 3, 14)
    display.close()
    assert "buckets 3 of 14" in file.getvalue()


def test_the_figures_are_of_what_this_process_did() -> None:
    display, file, clock = plain()
    display.begin("read", 100, 60)
    clock.now += 10
    for _ in range(20):
        display.unit("read", receipt())
    display.unit("other", {})  # the unit that makes it 81: its receipt says nothing
    clock.now += 31
    display.unit("read", receipt(rows=0, alive=0, read_bytes=0))
    last = file.getvalue().splitlines()[-1]
    assert last == "read: 82.0 %, 82 of 100 units, 49 docs/s, 0.5 MB/s, 25.0 % kept, 33.5 s left"


def test_plain_lines_hold_no_control_characters() -> None:
    display, file, _ = plain()
    display.begin("st\x1b[31mep", 1, 0)
    display.say("first\x07\nsecond")
    display.unit("st\x1b[31mep", receipt())
    display.end("st\x1b[31mep")
    display.close()
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f]", file.getvalue()) == []
    assert "first\\x07\nsecond\n" in file.getvalue()


def test_steps_that_tell_no_units_and_writing_tasks_are_shown() -> None:
    display, file, clock = plain()
    display.begin("dedup", 7, 0)
    clock.now += 2
    display.end("dedup")
    display.begin("write", 1, 0)
    display.unit("write", {"item": "w0", "rows": 50, "alive": 50, "text_bytes": 3_000_000, "units": [50]})
    clock.now += 2
    display.end("write")
    display.begin("ledger", 1, 0)
    display.unit("ledger", {"item": "l0", "kept": 50, "dropped": 149, "quarantined": 1})
    clock.now += 1
    display.end("ledger")
    ended = [line for line in file.getvalue().splitlines() if "ended" in line]
    assert ended == [
        "dedup: ended after 2.0 s",
        "write: ended after 2.0 s, 50 documents, 3.0 MB, 25 docs/s, 1.5 MB/s",
        "ledger: ended after 1.0 s, 200 documents, 200 docs/s, 25.0 % kept",
    ]


@pytest.mark.parametrize(("columns", "bars"), [(140, True), (80, False)])
def test_a_terminal_shows_one_line_a_step_and_the_last_picture_stays(
    monkeypatch: pytest.MonkeyPatch, columns: int, bars: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "40")
    threads = threading.enumerate()
    file, clock = io.StringIO(), Clock()
    display = Display(file, terminal=True, clock=clock)
    display.begin("read", 4, 1)
    clock.now += 1
    for _ in range(3):
        display.unit("read", receipt())
    display.end("read")
    display.say("[bold]a note\x1b[2J")
    display.begin("dedup", 4, 0)
    display.end("dedup")
    display.close()
    display.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[AKh-l]|\r", "\n", file.getvalue())
    lines = re.sub(r"\x1b\[[0-9;?]*m", "", shown).splitlines()
    read, dedup = ([line for line in lines if line.startswith(name)][-1] for name in ("read", "dedup"))
    assert re.search(r"4 of 4 +300 docs/s +3\.0 MB/s +25\.0 % kept +1\.0 s$", read.rstrip())
    assert re.search(r"4 of 4 +0\.0 s$", dedup.rstrip())
    assert "[bold]a note\\x1b[2J" in shown
    assert ("━━━" in shown) == bars
    assert max(map(len, lines)) <= columns
    for thread in set(threading.enumerate()) - set(threads):
        thread.join(10)
        assert not thread.is_alive(), "closed means that nothing draws any more"


def test_more_steps_than_a_terminal_has_lines_show_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "10")
    file = io.StringIO()
    display = Display(file, terminal=True, clock=Clock())
    for step in range(30):
        display.begin(f"step{step:02}", 1, 0)
        display.unit(f"step{step:02}", receipt())
        display.end(f"step{step:02}")
    display.close()
    assert "step29" in file.getvalue()[-2000:]
    assert "step00" not in file.getvalue()[-2000:]


def test_a_whole_run_is_shown_in_plain_lines(tmp_path: Path) -> None:
    write_documents(tmp_path / "in")
    file = io.StringIO()
    run(small_recipe(tmp_path, unit_size="1kB"), progress=Display(file))
    begun = [line.partition(":")[0] for line in file.getvalue().splitlines() if "begins" in line]
    ended = [line.partition(":")[0] for line in file.getvalue().splitlines() if "ended" in line]
    assert begun == ended == ["read", "exact_dedup", "write", "ledger"]


def test_rich_is_imported_only_to_draw() -> None:
    code = (
        "import sys, io; from tamis.pipeline.display import Display; d = Display(io.StringIO()); "
        "d.begin('read', 1, 0); d.unit('read', {}); d.end('read'); d.close(); print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
