"""log.jsonl: what Python's logging and warnings say in driver and workers, bounded, and never part of a result."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest

from tamis.pipeline import logs
from tamis.pipeline.driver import run
from tamis.pipeline.events import EventLog
from tamis.pipeline.executors.base import Failure, perform
from tamis.pipeline.logs import RunLogs, collected_logs
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.storage import Storage
from tamis.stages.errors import StageError

from ..runs import file_hashes, tamis, write_corpus, write_recipe

TALKATIVE = """
    import logging, warnings
    import pyarrow as pa
    from tamis.stages.base import Column, Stage, StageConfig

    class Config(StageConfig):
        loud: bool = True
        fails: bool = False

    class Talks(Stage):
        Config = Config
        not_in_key = frozenset({"loud"})
        needs = ("text",)
        adds = (Column("talks", pa.int64(), "characters"),)

        def measure(self, batch):
            if self.config.loud:
                logging.getLogger("talkative").warning("seen %d rows", len(batch))
                logging.getLogger("talkative").info("nobody asked")
                logging.getLogger("tamis.talkative").info("rows of ours")
                warnings.warn("this is deprecated, row %d" % len(batch))
            if self.config.fails:
                raise ValueError("no luck")
            return pa.table({"talks": pa.array([len(t) for t in batch["text"].to_pylist()], pa.int64())})
"""


@pytest.fixture
def talkative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two shards, a stage that logs and a recipe that uses it; `loud` is in no key."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "talkative_stage.py").write_text(textwrap.dedent(TALKATIVE))
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "talkative_stage", raising=False)
    write_corpus(tmp_path / "in", shards=2, documents=40, group_rows=20)
    return tmp_path


def recipe(folder: Path, name: str, **config: bool) -> Path:
    stages = [{"use": "talkative_stage:Talks", "name": "talks", **config}]
    return write_recipe(folder / f"{name}.yaml", folder / "in", folder / name, stages=stages, unit_size="1kB")


def events(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def logged(output: Path) -> list[dict]:
    return [event for event in events(output) if event["event"] == "log"]


def check_units(output: Path) -> None:
    """Every unit of the run told its warning, its own information and its deprecation, under its own id."""
    units = {event["unit"] for event in events(output) if event["event"] == "unit"}
    assert len(units) == 4
    found = [event for event in logged(output) if "unit" in event]  # libraries may warn in the driver
    assert {event["logger"] for event in found} == {"talkative", "tamis.talkative", "py.warnings"}
    for logger, level, words in (
        ("talkative", "WARNING", "seen 20 rows"),
        ("tamis.talkative", "INFO", "rows of ours"),
        ("py.warnings", "WARNING", "UserWarning: this is deprecated, row 20"),
    ):
        of_logger = [event for event in found if event["logger"] == logger]
        assert {event["unit"] for event in of_logger} <= units
        assert all(event["level"] == level and words in event["message"] for event in of_logger)
        if logger != "py.warnings":  # Python itself shows a warning once per place and process
            assert {event["unit"] for event in of_logger} == units


def test_what_a_unit_logs_is_an_event_with_its_id(talkative, capfd):
    path = recipe(talkative, "out")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run(load_recipe(path))
    check_units(talkative / "out")
    assert "seen 20 rows" not in "".join(capfd.readouterr())


@pytest.mark.ray
def test_workers_in_other_processes_tell_the_same(talkative):
    said = tamis("run", recipe(talkative, "out"), "--executor", "ray", "--workers", "2", PYTHONWARNINGS="always")
    check_units(talkative / "out")
    assert "warnings in" in said
    assert "log.jsonl" in said


def test_results_and_receipts_do_not_depend_on_what_is_logged(talkative):
    for name, loud in (("loud", True), ("silent", False)):
        run(load_recipe(recipe(talkative, name, loud=loud)))
    assert len(logged(talkative / "loud")) > 0
    assert logged(talkative / "silent") == []
    assert file_hashes(talkative / "loud") == file_hashes(talkative / "silent")
    receipts = [line for path in talkative.rglob("receipts.jsonl") for line in path.read_text().splitlines()]
    assert receipts
    assert all("log" not in json.loads(line) for line in receipts)
    assert "seen 20" not in (talkative / "loud" / "manifest.json").read_text()


def test_a_failure_carries_its_traceback_and_what_was_logged_before(talkative):
    with pytest.raises(StageError):
        run(load_recipe(recipe(talkative, "out", fails=True)))
    failures = [event for event in events(talkative / "out") if event["event"] == "failure"]
    assert len(failures) == 4
    for failure in failures:
        assert "no luck" in failure["error"]
        assert "talkative_stage.py" in failure["traceback"]
        assert "logged before: WARNING talkative: seen 20 rows" in failure["traceback"]
    assert events(talkative / "out")[-1]["event"] == "failed"


def test_an_error_of_a_known_kind_has_a_traceback_in_the_log_and_none_in_its_message():
    def refuse() -> dict:
        raise StageError("it cannot be")

    found = perform("unit u", refuse, ())
    assert isinstance(found, Failure)
    assert found.message == "unit u: it cannot be"
    assert "in refuse" in found.trace


def test_records_of_a_unit_are_few_and_short():
    with collected_logs() as records:
        for number in range(50):
            logging.getLogger("many").warning("number %d", number)
        logging.getLogger("long").warning("x" * 100_000)
    assert [record["message"] for record in records[:20]] == [f"number {n}" for n in range(20)]
    assert records[20]["message"].startswith("31 more records")
    assert len(records) == 21
    with collected_logs() as records:
        logging.getLogger("long").warning("begin %s end", "x" * 100_000)
    assert len(records[0]["message"]) == logs.MESSAGE
    assert records[0]["message"].startswith("begin x")
    assert records[0]["message"].endswith("x end")


def test_a_run_writes_a_thousand_of_a_kind_and_counts_the_rest(tmp_path):
    log = EventLog(Storage(str(tmp_path)), "run")
    with RunLogs(log) as mine:
        for number in range(2500):
            logging.getLogger("many").warning("number %d", number)
            logging.getLogger("many").warning(f"item {number} of a text that was put together before")
        logging.getLogger("other").error("once")
        mine.write([{"level": "INFO", "logger": "unit", "message": "from afar", "template": "t"}], unit="u1")
    found = logged(tmp_path)
    assert [e["message"] for e in found if e["logger"] == "many" and "number" in e["message"]][:2] == [
        "number 0",
        "number 1",
    ]
    assert sum(e["logger"] == "many" and "left_out" not in e for e in found) == 2 * logs.SAME
    assert {(e["message"], e["left_out"]) for e in found if "left_out" in e} == {
        ("number %d", 1500),
        ("item 0 of a text that was put together before", 1500),
    }
    assert sum(e["logger"] == "other" for e in found) == 1
    assert [e["unit"] for e in found if e["logger"] == "unit"] == ["u1"]
    assert mine.warnings == 5001


def test_messages_without_end_are_told_apart_only_so_far(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "TEMPLATES", 10)
    monkeypatch.setattr(logs, "SAME", 3)
    with RunLogs(EventLog(Storage(str(tmp_path)), "run")):
        for number in range(200):
            logging.getLogger("f").warning(f"unlike {'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10 % 10]}")
    assert len(logged(tmp_path)) <= 11 * 3 + 11


def test_a_broken_record_or_a_full_disk_stops_nobody(tmp_path):
    class Full(EventLog):
        def __call__(self, event: str, **facts: object) -> None:
            raise OSError("no space left on device")

    with RunLogs(Full(Storage(str(tmp_path)), "run")):
        logging.getLogger("x").warning("goes nowhere")
    broken = logging.LogRecord("x", logging.WARNING, "x.py", 1, "%d rows", ("not a number",), None)
    with collected_logs() as records:
        logs._Handler().handle(broken)  # the logger itself would also ask the handlers of pytest, which raise
    assert records[0]["message"] == "'%d rows' with ('not a number',)"


def test_everything_is_as_before_when_the_run_has_ended(tmp_path):
    root, package = logging.getLogger(), logging.getLogger("tamis")
    before = (list(root.handlers), package.level, warnings.showwarning)
    with RunLogs(EventLog(Storage(str(tmp_path)), "run")), collected_logs():
        assert warnings.showwarning is not before[2]
    assert (root.handlers, package.level, warnings.showwarning) == before


def test_the_innermost_block_gets_the_record_and_other_threads_are_heard(tmp_path):
    with RunLogs(EventLog(Storage(str(tmp_path)), "run")), collected_logs() as records:
        thread = threading.Thread(target=lambda: logging.getLogger("thread").warning("from a thread"))
        thread.start()
        thread.join()
    assert [record["message"] for record in records] == ["from a thread"]
    assert not (tmp_path / "log.jsonl").exists()
