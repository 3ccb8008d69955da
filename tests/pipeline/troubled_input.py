"""Inputs with every kind of trouble in a file, what of each file can be used by an oracle of its own, and the check of a run.

The oracle reads with plain pyarrow, json and zlib; which row groups are damaged it is told by whoever damaged them.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import runs
import xxhash

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe
from tamis.pipeline.verify import verify

from . import broken_files as make

GOOD = ("a-good.parquet", "z-good.parquet")  # before and after every other file
STAGES: list[dict[str, Any]] = [
    {"use": "normalize"},
    {"use": "url_tags"},
    {"use": "rules", "name": "size", "rules": {"long": "chars >= $min"}, "params": {"min": 45}},
    {"use": "c4_lines", "terminal_punct": False},
    {"use": "exact_dedup", "prefer": ["longest"]},
    {"use": "rules", "name": "late", "rules": {"web": "domain = $domain"}, "params": {"domain": "example.org"}},
    {"use": "sample", "share": 0.9},
]
PASSING = [stage | {"nulls": "pass"} if stage.get("name") == "late" else stage for stage in STAGES]
PLACE = ["out_file", "out_row"]


# --- files --------------------------------------------------------------------------------------------------------


def _kept_whole(table: Callable[[], pa.Table], group: int = 50) -> Callable[[Path], Path]:
    return lambda path: make.parquet(path, table(), group=group)


def _pages(rows: int, seed: int) -> pa.Table:
    """Documents of a few sentences with the columns of `make.documents`."""
    draw = random.Random(seed)
    return make.documents(rows, seed).set_column(1, "text", pa.array([runs.document(draw) for _ in range(rows)]))


def _huge() -> pa.Table:
    table = _pages(20, 31)
    texts = table["text"].to_pylist()
    texts[7] = "\n".join(f"This is line {number} of a very long book." for number in range(520_000))
    assert len(texts[7]) > 20_000_000
    return table.set_column(1, "text", pa.array(texts))


def _typed(kind: pa.DataType, seed: int) -> Callable[[], pa.Table]:
    """Columns in another order, one missing, one more, a narrower number, and the text of another type."""

    def table() -> pa.Table:
        pages = _pages(30, seed)
        text = pages["text"].to_pylist()
        values = [value.encode() for value in text] if kind in (pa.binary(), pa.large_binary()) else text
        narrow = pages["score"].cast(pa.float32())
        other = pa.array(range(30), pa.int32() if seed % 2 else pa.int64())
        return pa.table(
            {"score": narrow, "url": pages["url"], f"more_{seed % 3}": other, "text": pa.array(values, kind)}
        )

    return table


TEXT_TYPES = {
    "string": pa.string(),
    "large-string": pa.large_string(),
    "string-view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "binary": pa.binary(),
    "large-binary": pa.large_binary(),
}

# name of the file -> its maker; every name sorts between the good neighbours
KINDS: dict[str, Callable[[Path], Path]] = {
    "m-zero.parquet": make.zero_bytes,
    "m-zero.jsonl.gz": make.zero_bytes,
    "m-html.parquet": make.no_parquet,
    "m-truncated.parquet": make.truncated,
    "m-corrupt-text.parquet": make.corrupt_page,
    "m-corrupt-url.parquet": lambda path: make.corrupt_page(path, groups=(0, 3), column="url"),
    "m-corrupt-score.parquet": lambda path: make.corrupt_page(path, groups=(2,), column="score"),
    "m-undecodable.parquet": lambda path: make.undecodable_page(path, groups=(0, 2)),
    "m-all-undecodable.parquet": lambda path: make.undecodable_page(path, groups=(0, 1, 2, 3)),
    "m-odd-texts.parquet": make.odd_texts,
    "m-huge.parquet": _kept_whole(_huge),
    "m-broken.jsonl": make.broken_json_lines,
    "m-broken.jsonl.gz": make.broken_json_lines,
    "m-truncated.jsonl.gz": make.truncated_gzip,
    "m-corrupt.jsonl.gz": make.corrupt_gzip,
    "m-no-rows.parquet": make.zero_rows,
    "m-empty-groups.parquet": make.empty_groups,
    **{f"m-{name}.parquet": _kept_whole(_typed(kind, 40 + i)) for i, (name, kind) in enumerate(TEXT_TYPES.items())},
}
DAMAGED = {  # row groups that a maker damaged
    "m-corrupt-text.parquet": {1},
    "m-corrupt-url.parquet": {0, 3},
    "m-corrupt-score.parquet": {2},
    "m-undecodable.parquet": {0, 2},
    "m-all-undecodable.parquet": {0, 1, 2, 3},
}
LOST = {"m-html.parquet", "m-truncated.parquet", "m-truncated.jsonl.gz", "m-corrupt.jsonl.gz"}


def write_good(folder: Path) -> Path:
    """The two neighbours: pages that every stage does something to, with duplicates across the files."""
    runs.write_corpus(folder, shards=2, documents=120, group_rows=40, seed=5)
    for number, name in enumerate(GOOD):
        table = pq.read_table(folder / f"part-{number}.parquet")
        texts, urls = table["text"].to_pylist(), table["url"].to_pylist()
        texts[11] = (
            "You must enable javascript to read this page.\nPlease read our privacy policy and our terms of use."
        )
        urls = [url and url.replace("site3.example.org", "site3.example.com") for url in urls]
        table = table.set_column(1, "text", pa.array(texts)).set_column(2, "url", pa.array(urls, pa.string()))
        make.parquet(folder / name, table, group=40)
        (folder / f"part-{number}.parquet").unlink()
    return folder


def write_troubled(folder: Path) -> Path:
    """All kinds of trouble in one folder, between the good neighbours."""
    write_good(folder)
    for name, maker in KINDS.items():
        maker(folder / name)
    return folder


# --- the oracle ---------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """What a file holds: the text of every row that can be used, for the others how their reason begins."""

    good: dict[int, bytes] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)


def truth(path: Path) -> Truth:
    if path.stat().st_size == 0:
        return Truth()
    return _lines(path) if ".jsonl" in path.name else _groups(path)


def _groups(path: Path) -> Truth:
    found = Truth()
    if path.name in LOST:
        return found
    parquet, row = pq.ParquetFile(path), 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if group in DAMAGED.get(path.name, ()):
            found.bad |= {row + i: f"row_group {group}: " for i in range(rows)}
        else:
            texts = parquet.read_row_group(group, columns=["text"])["text"].to_pylist() if rows else []
            for i, text in enumerate(texts):
                _judge(found, row + i, text.encode() if isinstance(text, str) else text)
        row += rows
    return found


def _lines(path: Path) -> Truth:
    found, data = Truth(), path.read_bytes()
    if path.name.endswith(".gz"):
        inflate, stored, data = zlib.decompressobj(31), data, b""
        for byte in stored:
            try:
                data += inflate.decompress(bytes([byte]))
            except zlib.error:
                break
    whole = data.split(b"\n")
    if path.name in LOST:
        whole.pop()  # the line in which the stream broke
    for number, line in enumerate(whole):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            text = record.get("text")
            if not isinstance(text, str | None):
                raise ValueError("the text is no string")
        except (ValueError, AttributeError, RecursionError):
            found.bad[number] = f"bad_line: line {number + 1}: "
            continue
        _judge(found, number, None if text is None else text.encode())
    return found


def _judge(found: Truth, row: int, text: bytes | None) -> None:
    if text is None:
        found.bad[row] = "null_text"
        return
    try:
        text.decode()
    except UnicodeDecodeError:
        found.bad[row] = "invalid_utf8"
        return
    found.good[row] = text


# --- runs ---------------------------------------------------------------------------------------------------------


def run_over(folder: Path, output: Path, **changes: Any) -> Path:
    """Runs the recipe over all files of a folder, with max_bad=100%, and holds the result against the oracle."""
    recipe = write(folder, output, **changes)
    run(load_recipe(recipe))
    check(output, folder)
    return output


def write(folder: Path, output: Path, **changes: Any) -> Path:
    keys = {"stages": STAGES, "max_bad": "100%", "input": {"files": f"{folder}/*"}, "write": {"shard_size": "2MB"}}
    return runs.write_recipe(output.with_suffix(".yaml"), folder, output, **(keys | changes))


def check(output: Path, folder: Path) -> None:
    """Every row of every file of the input is accounted for, and every good one is where the ledger says."""
    report = verify(str(output))
    assert report.ok, report.text
    counts = runs.check_accounting(output)
    truths = {path.name: truth(path) for path in sorted(folder.iterdir())}
    ledger = runs.rows(output, "ledger")
    assert sum(counts.values()) == len(ledger) == sum(len(t.good) + len(t.bad) for t in truths.values())
    columns = ["source_file", "source_row", "source_hash", "decision", "stage", "reason"]
    for file, row, source_hash, decision, stage, reason in _tuples(ledger, columns):
        found = truths[file]
        if row in found.bad:
            assert (decision, stage) == ("quarantine", None)
            assert reason.startswith(found.bad[row])
        else:
            assert source_hash == xxhash.xxh3_128_hexdigest(found.good[row])
            assert decision in ("keep", "drop") or (stage, reason) == ("late", "late.null")
    _check_texts(output, ledger, truths)
    _check_quarantine(output, ledger, truths)


def _tuples(table: pa.Table, columns: list[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def _check_texts(output: Path, ledger: pa.Table, truths: dict[str, Truth]) -> None:
    """A kept text that no edit changed is the one that was read."""
    kept = same = ledger.filter(pc.equal(ledger["decision"], "keep"))
    for name in ledger.schema.names:
        if name.endswith("_changed"):
            same = same.filter(pc.invert(same[name]))
    unchanged = set(_tuples(same, ["source_file", "source_row"]))
    data = rows(output, "data")
    assert len(data) == len(kept)
    for file, row, text in _tuples(data, ["source_file", "source_row", "text"]) if len(data) else ():
        if (file, row) in unchanged:
            assert text.encode() == truths[file].good[row]


def _check_quarantine(output: Path, ledger: pa.Table, truths: dict[str, Truth]) -> None:
    """quarantine/ says what the ledger says, in its order; every file is whole or in files.parquet."""
    columns = ["doc_id", "source_file", "source_row", "source_hash", "stage", "rule", "reason"]
    aside = ledger.filter(pc.equal(ledger["decision"], "quarantine")).select(columns)
    assert pq.read_table(output / "quarantine/rows.parquet").to_pylist() == aside.to_pylist()
    lost = pq.read_table(output / "quarantine/files.parquet").to_pylist()
    assert [entry["file"] for entry in lost] == sorted(LOST & truths.keys())
    assert all(entry["bytes"] > 0 and entry["error"] for entry in lost)


def rows(output: Path, folder: str) -> pa.Table:
    """All rows of data/ or ledger/, without their places; no rows where there is no file."""
    if not list((output / folder).glob("*.parquet")):
        return pa.table({})
    table = runs.rows(output, folder)
    return table.drop_columns([name for name in PLACE if name in table.schema.names])


def of_files(table: pa.Table, files: Iterable[str], columns: list[str] | None = None) -> pa.Table:
    """The rows of some files, only these columns."""
    chosen = table.filter(pc.is_in(table["source_file"], pa.array(list(files)))) if len(table) else table
    return chosen.select(columns or chosen.schema.names).combine_chunks()
