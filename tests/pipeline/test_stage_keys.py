"""`where`, `action: tag`, `by:` and `values:` in whole runs, on every kind of stage, against the documents themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from ruamel.yaml import YAML

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import parse_recipe
from tamis.pipeline.why import story
from tamis.stages.errors import RecipeError

Row = dict[str, Any]
LANGS = ("en", "de", None)
LEAST = {"en": 30, "de": 60}  # characters, for tests of `by`


def documents() -> list[Row]:
    """36 documents: three languages, lengths around the thresholds, each text twice in every language."""
    found = []
    for n in range(36):
        lang = LANGS[n % 3]
        body = f"Text {n % 6}\r\n{'word ' * (n % 6 * 4)}end of it."
        found.append({"id": f"d{n:02d}", "text": body, "lang": lang, "url": f"https://x.org/{n}" if n % 2 else None})
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for part in (0, 1):
        pq.write_table(pa.Table.from_pylist(documents()[part * 18 : part * 18 + 18]), folder / f"{part}.parquet")
    return folder


@pytest.fixture
def sift(corpus: Path, tmp_path: Path) -> Any:
    def sifted(*stages: Row, files: str = "", name: str = "out", **more: Any) -> tuple[dict[str, Row], dict[str, Row]]:
        """Ledger and data rows by doc_id."""
        recipe = {"name": name, "input": {"files": files or f"{corpus}/*"}, "output": f"{tmp_path}/{name}", **more}
        output = run(parse_recipe({**recipe, "stages": list(stages), "max_bad": 1})).output
        runs.check_accounting(Path(output))
        found = [runs.rows(Path(output), folder).to_pylist() for folder in ("ledger", "data")]
        return {row["doc_id"]: row for row in found[0]}, {row["doc_id"]: row for row in found[1]}

    return sifted


def test_an_edit_leaves_the_rows_that_where_leaves_out(sift: Any) -> None:
    ledger, data = sift({"use": "normalize", "where": "lang = 'en'"})
    for document in documents():
        row, english = ledger[document["id"]], document["lang"] == "en"
        expected = document["text"].replace("\r\n", "\n") if english else document["text"]
        assert data[document["id"]]["text"] == expected
        assert row["normalize_changed"] == english
        assert row["normalize_line_breaks"] == (1 if english else None)


def test_a_measure_is_null_for_the_rows_that_where_leaves_out(sift: Any) -> None:
    ledger, data = sift({"use": "url_tags", "where": "lang IS NULL"}, {"use": "text_signals", "where": "bytes > 60"})
    for document in documents():
        row = ledger[document["id"]]
        host = "x.org" if document["lang"] is None and document["url"] else None
        assert row["host"] == host
        long = len(document["text"].encode()) > 60
        assert row["characters"] == (len(document["text"]) if long else None)
        assert data[document["id"]]["characters"] == row["characters"]


def test_a_decision_lets_the_rows_go_by_that_where_leaves_out(sift: Any) -> None:
    rules = {"use": "rules", "name": "r", "rules": {"long": "chars >= $min"}, "params": {"min": 40}}
    ledger, data = sift({**rules, "where": "lang = 'de'"})
    kept = {d["id"] for d in documents() if d["lang"] != "de" or len(d["text"]) >= 40}
    assert set(data) == kept
    assert {i for i, row in ledger.items() if row["rule"] == "r.long"} == set(ledger) - kept
    assert 0 < len(kept) < len(ledger)


def test_a_tag_drops_nobody_and_later_rules_read_it(sift: Any) -> None:
    tag = {"use": "rules", "name": "long", "rules": {"r": "chars >= 40"}, "action": "tag", "where": "lang = 'de'"}
    ledger, _ = sift(tag)
    for document in documents():
        expected = len(document["text"]) >= 40 if document["lang"] == "de" else None
        assert ledger[document["id"]]["long_pass"] is expected
        assert ledger[document["id"]]["decision"] == "keep"
    later = {"use": "rules", "name": "later", "rules": {"r": "coalesce(long_pass, true)"}, "where": "url IS NOT NULL"}
    ledger, data = sift(tag, later, name="later")
    short = {d["id"] for d in documents() if d["lang"] == "de" and d["url"] and len(d["text"]) < 40}
    assert set(ledger) - set(data) == short
    assert {row["rule"] for row in ledger.values()} == {None, "later.r"}


def test_a_tag_is_null_where_a_rule_cannot_be_decided(sift: Any) -> None:
    ledger, _ = sift({"use": "rules", "name": "t", "rules": {"r": "lang = 'en'"}, "action": "tag"})
    assert {(r["t_pass"], r["lang"]) for r in ledger.values()} == {(True, "en"), (False, "de"), (None, None)}


def test_tags_are_written_and_a_later_run_reads_them(sift: Any, tmp_path: Path) -> None:
    tag = {"use": "rules", "name": "long", "rules": {"r": "chars >= 40"}, "action": "tag"}
    _, first = sift(tag)
    assert {row["long_pass"] for row in first.values()} == {True, False}
    drop = {"use": "rules", "name": "later", "rules": {"r": "input_long_pass"}}
    ledger, data = sift(tag, drop, files=f"{tmp_path}/out", name="second")
    assert set(data) == {d["id"] for d in documents() if len(d["text"]) >= 40}
    assert all(row["long_pass"] == row["input_long_pass"] for row in ledger.values())


@pytest.mark.parametrize("where", [None, "lang = 'en'"])
@pytest.mark.parametrize("action", ["drop", "tag"])
def test_deduplication_with_where_and_tag(sift: Any, where: str | None, action: str) -> None:
    stage = {"use": "exact_dedup", "action": action, **({"where": where} if where else {})}
    ledger, data = sift(stage)
    groups: dict[str, list[str]] = {}
    for document in documents():
        if where is None or document["lang"] == "en":
            groups.setdefault(document["text"], []).append(document["id"])
    lost = {i for ids in groups.values() for i in sorted(ids)[1:]}
    seen = {i for ids in groups.values() for i in ids}
    assert lost
    assert set(data) == set(ledger) - (lost if action == "drop" else set())
    for ids in groups.values():
        assert {ledger[i]["exact_cluster"] for i in ids} == {ledger[ids[0]]["exact_cluster"]} != {None}
        assert {ledger[i]["exact_cluster_size"] for i in ids} == {len(ids)}
        assert [ledger[i]["exact_kept_doc_id"] for i in sorted(ids)] == [None] + [min(ids)] * (len(ids) - 1)
    assert all(ledger[i]["exact_cluster"] is None for i in set(ledger) - seen)
    if action == "tag":
        passed = {i: row["exact_dedup_pass"] for i, row in ledger.items()}
        assert passed == {i: None if i not in seen else i not in lost for i in ledger}


@pytest.mark.parametrize("action", ["drop", "tag"])
def test_samples_with_where_and_tag(sift: Any, action: str) -> None:
    """A share is a decision, a quota is a resolve stage: both see only the chosen rows."""
    for number, keys in enumerate(({"share": 0.5}, {"per": "lang", "docs": 4})):
        ledger, data = sift({"use": "sample", "action": action, "where": "lang = 'en'", **keys}, name=f"s{number}")
        english = {d["id"] for d in documents() if d["lang"] == "en"}
        chosen = english & set(data) if action == "drop" else {i for i in english if ledger[i]["sample_pass"]}
        assert 0 < len(chosen) < len(english)
        if number:
            assert len(chosen) == 4
        assert set(ledger) - set(data) == (english - chosen if action == "drop" else set())
        if action == "tag":
            assert {ledger[i]["sample_pass"] for i in set(ledger) - english} == {None}


def by_lang(**more: Any) -> Row:
    values = {lang: {"min": least} for lang, least in LEAST.items()}
    stage = {"use": "rules", "name": "r", "rules": {"long": "chars >= $min"}, "by": "lang", "values": values}
    return {**stage, "params": {"min": 45}, **more}


@pytest.mark.parametrize("missing", ["default", "drop"])
def test_every_group_has_its_own_threshold(sift: Any, missing: str, tmp_path: Path) -> None:
    ledger, _ = sift(by_lang(missing=missing))
    for document in documents():
        row, lang = ledger[document["id"]], document["lang"]
        long = len(document["text"]) >= LEAST.get(str(lang), 45)
        rule = "r.missing" if missing == "drop" and lang is None else None if long else "r.long"
        assert row["rule"] == rule, document
    told = story(f"{tmp_path}/out", key="d01")
    assert "needs chars >= 60" in told


def test_a_group_without_values_stops_the_run_if_asked(sift: Any) -> None:
    with pytest.raises(RecipeError, match="no values for lang = None, and `missing: error`"):
        sift(by_lang(missing="error"))


def test_thresholds_of_groups_come_from_files_and_presets(sift: Any, tmp_path: Path) -> None:
    with (tmp_path / "languages.yaml").open("w") as file:
        YAML().dump({"en": {"gopher_quality.words_min": 3}, "de": {"gopher_quality.words_min": 12}}, file)
    preset = {
        "use": "rules",
        "preset": "gopher_quality",
        "off": [f"gopher_quality.{rule}" for rule in ("stop_words", "alpha_word_frac", "mean_word_length")],
        "by": "lang",
        "values": f"{tmp_path}/languages.yaml",
        "set": {"gopher_quality.words_min": 20},
    }
    ledger, _ = sift({"use": "text_signals"}, preset)
    least = {"en": 3, "de": 12, None: 20}
    for document in documents():
        row = ledger[document["id"]]
        assert (row["rule"] == "gopher_quality.words") == (row["words"] < least[document["lang"]])
    assert len({row["decision"] for row in ledger.values()}) == 2


def test_the_same_stages_over_the_outputs_of_three_runs_keep_all_values(sift: Any, tmp_path: Path) -> None:
    """Each run has its own `words`; what earlier runs measured stands beside it."""
    tag = {"use": "rules", "name": "t", "rules": {"r": "words > 9"}, "action": "tag"}
    stages = [{"use": "normalize"}, {"use": "text_signals"}, tag]
    _, first = sift(*stages, name="one")
    _, second = sift(*stages, name="two", files=f"{tmp_path}/one")
    _, third = sift(*stages, name="three", files=f"{tmp_path}/two")
    for key, row in third.items():
        assert row["words"] == row["input_words"] == row["input_input_words"] == first[key]["words"]
        assert row["input_normalize_line_breaks"] == first[key]["normalize_line_breaks"] == 1
        assert row["input_input_normalize_line_breaks"] == second[key]["normalize_line_breaks"] == 0
        assert (row["origin_row"], row["via"]) == (first[key]["source_row"], "two")
