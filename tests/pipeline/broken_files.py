"""Makers of input files, whole and broken in every way that a reader must survive.

Every maker takes a path, writes one file there and returns the path.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [f"w{random.Random(i).getrandbits(40):x}" for i in range(2000)]


def documents(rows: int, seed: int = 0, words: int = 60) -> pa.Table:
    """Plain documents: id, text (texts compress badly, so pages are many), url, date, score."""
    chance = random.Random(seed)
    numbers = range(rows)
    return pa.table(
        {
            "id": [f"doc-{seed}-{i}" for i in numbers],
            "text": [" ".join(chance.choices(WORDS, k=chance.randrange(1, words))) + " é" for _ in numbers],
            "url": [f"https://example.org/{seed}/{i}" for i in numbers],
            "date": ["2024-01-31" if i % 2 else None for i in numbers],
            "score": pa.array([i * 0.5 for i in numbers], pa.float64()),
        }
    )


def parquet(
    path: Path, table: pa.Table | None = None, *, group: int = 250, checksums: bool = True, compression: str = "zstd"
) -> Path:
    """A sound Parquet file in row groups of `group` rows and pages of a few kB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        documents(1000) if table is None else table,
        path,
        row_group_size=group,
        data_page_size=4096,
        write_batch_size=16,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=checksums,
        compression=compression,
    )
    return path


def zero_bytes(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def no_parquet(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"<html>404 not found</html>\n" * 50)
    return path


def truncated(path: Path, keep: float = 0.7) -> Path:
    """A Parquet file whose end, and so its footer, is missing."""
    data = parquet(path).read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def corrupt_page(path: Path, *, groups: tuple[int, ...] = (1,), column: str = "text", at: float = 0.6) -> Path:
    """64 bits flipped in a page of a column in each of `groups`; only the page's checksum shows it (no compression)."""
    parquet(path, compression="none")
    return _damage(path, groups, column, at, flip=True)


def undecodable_page(path: Path, *, groups: tuple[int, ...] = (1,), column: str = "text", at: float = 0.6) -> Path:
    """No checksums, and a page of a column in each of `groups` that does not decompress."""
    parquet(path, checksums=False)
    return _damage(path, groups, column, at, flip=False)


def _damage(path: Path, groups: tuple[int, ...], column: str, at: float, *, flip: bool) -> Path:
    meta = pq.read_metadata(path)
    data = bytearray(path.read_bytes())
    for group in groups:
        columns = [meta.row_group(group).column(i) for i in range(meta.num_columns)]
        chunk = next(c for c in columns if c.path_in_schema == column)
        start = chunk.data_page_offset + int(chunk.total_compressed_size * at)
        if flip:
            # more than a page header, which no checksum covers, is long
            data[start : start + 64] = bytes(byte ^ 0x01 for byte in data[start : start + 64])
        else:
            # long enough to hit the header of a compressed block, whatever page it starts in
            stop = min(start + 6000, chunk.data_page_offset + chunk.total_compressed_size)
            data[start:stop] = b"\xa5" * (stop - start)
    path.write_bytes(data)
    return path


def odd_texts(path: Path) -> Path:
    """Null, empty, not UTF-8, NUL characters, duplicate and null ids, among good rows. Written as binary."""
    texts = [b"first", None, b"", b"bad \xff\xfe bytes", b"nul \x00 inside", "schön".encode(), b"\xed\xa0\x80", b"last"]
    ids = ["a", "b", "b", None, "c", "a", "d", None]
    return parquet(path, pa.table({"id": ids, "text": pa.array(texts, pa.binary())}), group=3)


def huge_text(path: Path, size: int = 20_000_000) -> Path:
    """One document of 20 MB among small ones."""
    small = documents(40)
    texts = small["text"].to_pylist()
    texts[17] = "x" * (size - 1) + "\n"
    return parquet(path, small.set_column(1, "text", pa.array(texts)), group=40)


def zero_rows(path: Path) -> Path:
    return parquet(path, documents(0))


def empty_groups(path: Path) -> Path:
    """Row groups of 0 rows between others."""
    table = documents(20)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, table.schema) as writer:
        for piece in (table.slice(0, 0), table.slice(0, 10), table.slice(0, 0), table.slice(10)):
            writer.write_table(piece)
    return path


def no_text_column(path: Path) -> Path:
    return parquet(path, documents(10).rename_columns(["id", "body", "url", "date", "score"]))


def json_lines(path: Path, rows: int = 200, seed: int = 0) -> Path:
    """Sound JSON Lines with keys that are no columns; gzip by the ending of the name."""
    lines = [json.dumps(row | {"meta": {"n": i}}, ensure_ascii=i % 2 == 0) for i, row in enumerate(_rows(rows, seed))]
    return _write(path, ("\n".join(lines) + "\n").encode())


def broken_json_lines(path: Path) -> Path:
    """Good lines (even numbers) between lines that are broken in all the ways there are, and blank ones."""
    broken = [
        b'{"id": "x", "text": "unfinished',
        b'{"text": "one"} {"text": "two"}',
        b"[1, 2, 3]",
        b'"a string"',
        b"",
        b"   \t\r",
        b'{"text": 17}',
        b'{"text": "no closing brace"',
        b'{"text" "no colon"}',
        b'{"text": }',
        b'{"text": "deep", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff\xfe\x00 no json at all",
        b'{"text": "a", }',
    ]
    lines = []
    for i, bad in enumerate(broken):
        lines += [json.dumps({"id": f"good-{i}", "text": f"text number {i}"}).encode(), bad]
    return _write(path, b"\n".join([*lines, b'{"text": "no newline at the end"}']))


def truncated_gzip(path: Path, keep: float = 0.6) -> Path:
    """A gzip stream that ends early."""
    data = json_lines(path).read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def corrupt_gzip(path: Path, at: float = 0.6) -> Path:
    """A gzip stream with a run of bytes in the middle overwritten."""
    data = bytearray(json_lines(path).read_bytes())
    start = int(len(data) * at)
    data[start : start + 64] = b"\xff" * 64
    path.write_bytes(data)
    return path


def _rows(rows: int, seed: int) -> list[dict[str, object]]:
    return documents(rows, seed).to_pylist()


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path
