"""What the benchmark reads: the real corpus, slices and multiples of it, all below one scratch folder.

Invariant: every input is a pure function of the corpus and the sizes, so that two calls measure the same work.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from processes import HERE, work
from ruamel.yaml import YAML

ROOT = HERE.parents[1]
CORPUS = ROOT.parent / "shared" / "data" / "web" / "*.parquet"


@dataclass(frozen=True)
class Sizes:
    """How much of everything: the real benchmark, or the quick one that only shows that it works."""

    slice_bytes: int = 5_000_000  # of text, which datatrove gets
    repeats: int = 5  # passes over the slice
    runs: int = 3  # of job and copy
    copies: int = 16
    unit: str = "64MB"
    big_unit: str = "1GB"
    ledger_rows: int = 1_000_000
    files: int = 200
    dedup_bytes: int = 20_000_000  # of text, which datatrove's dedup gets
    pairs: int = 2_000  # whose similarity is computed by hand
    sample: int = 400  # kept documents, held against all others by hand
    documents: int = 10_000_000  # with simulated band keys


QUICK = Sizes(100_000, 1, 1, 2, "300kB", "10MB", 2_000, 5, 300_000, 200, 50, 20_000)


class Bench:
    """One call of the benchmark. `files`: the corpus; `scratch`: where everything is made, removed at the end."""

    def __init__(self, corpus: str, scratch: Path, sizes: Sizes, *, full: bool = False) -> None:
        self.files = sorted(glob.glob(corpus))
        self.scratch, self.sizes, self.full = scratch, sizes, full

    # --- recipes

    def recipe(self, files: str, output: Path, *, normalize: bool = True, **changes: Any) -> dict[str, Any]:
        """configs/fineweb.yaml without its dedup, over `files` into `output`; with `normalize` in front,
        and without the pages at the end, whose cost does not grow with the corpus."""
        plain = YAML(typ="safe", pure=True).load(ROOT / "configs" / "fineweb.yaml")
        stages = [stage for stage in plain["stages"] if not stage["use"].endswith("_dedup")]
        head = [{"use": "normalize"}] if normalize else []
        made = {"name": "bench", "input": {"files": files}, "output": str(output), "stages": [*head, *stages]}
        return {**made, "max_bad": "100%", "report": {"pages": False}, **changes}

    @property
    def pattern(self) -> str:
        """Glob of the whole corpus."""
        return f"{Path(self.files[0]).parent}/*.parquet"

    def run(self, recipe: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """A whole run in a process of its own; see `worker.run`."""
        return work("run", recipe=recipe, sample=self.files[0], scratch=str(self.scratch), **arguments)

    # --- facts of the corpus

    @functools.cached_property
    def rows(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.files)

    @functools.cached_property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return sum(pc.sum(pc.binary_length(pq.read_table(p, columns=["text"])["text"])).as_py() for p in self.files)

    @functools.cached_property
    def largest_group(self) -> int:
        """Compressed bytes of the largest row group."""
        sizes = []
        for path in self.files:
            meta = pq.read_metadata(path)
            groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
            sizes += [sum(g.column(c).total_compressed_size for c in range(g.num_columns)) for g in groups]
        return max(sizes)

    # --- corpora that are made

    @functools.cached_property
    def slice(self) -> tuple[Path, int]:
        """(file, bytes of text) for datatrove and Tamis alike, `slice_bytes` of the corpus."""
        return self._sliced("slice", self.sizes.slice_bytes)

    @functools.cached_property
    def dedup_slice(self) -> tuple[Path, int]:
        """As `slice`, with `dedup_bytes`."""
        return self._sliced("dedup-slice", self.sizes.dedup_bytes)

    def _sliced(self, name: str, most: int) -> tuple[Path, int]:
        """(file, bytes of text): by SHA-1 of the id, the first `most` bytes of the first two files; with `full` all."""
        table = pa.concat_tables([pq.read_table(path, columns=["id", "text"]) for path in self.files[:2]])
        sizes = pc.binary_length(table["text"]).to_pylist()
        ids = table["id"].to_pylist()
        order = sorted(range(len(ids)), key=lambda row: hashlib.sha1(ids[row].encode()).digest())
        ends = itertools.accumulate(sizes[row] for row in order)
        most = sum(sizes) if self.full else most
        chosen = sorted(row for row, end in zip(order, ends, strict=True) if end <= most)
        path = self.scratch / f"{name}.parquet"
        pq.write_table(table.take(chosen), path, compression="zstd", row_group_size=2000)
        return path, sum(sizes[row] for row in chosen)

    @functools.cached_property
    def repeated(self) -> str:
        """Glob of the corpus `copies` times, ids and URLs made distinct, row groups as they were."""
        for number in range(self.sizes.copies):
            folder = self.scratch / "repeated" / f"copy-{number:02d}"
            folder.mkdir(parents=True)
            for path in self.files:
                with (
                    pq.ParquetFile(path) as source,
                    pq.ParquetWriter(folder / Path(path).name, source.schema_arrow, compression="zstd") as sink,
                ):
                    for group in range(source.num_row_groups):
                        sink.write_table(_renamed(source.read_row_group(group), f"#{number:02d}"))
        return f"{self.scratch}/repeated/*/*.parquet"

    @functools.cached_property
    def many_files(self) -> str:
        """Glob of `files` small files: the first rows of the corpus, dealt out."""
        table = pq.read_table(self.files[0])
        folder = self.scratch / "many"
        folder.mkdir()
        each = max(1, len(table) // self.sizes.files)
        for number in range(self.sizes.files):
            pq.write_table(table.slice(number * each, each), folder / f"{number:04d}.parquet", compression="zstd")
        return f"{folder}/*.parquet"

    @functools.cached_property
    def many_documents(self) -> str:
        """Glob of `ledger_rows` documents, one for each non-empty line of the corpus, in ten files."""
        folder = self.scratch / "documents"
        folder.mkdir()
        most = self.sizes.ledger_rows
        each = max(1, most // 10)
        lines, done = pa.array([], pa.string()), 0
        for path in itertools.cycle(self.files):
            lines = pa.concat_arrays([lines, _lines(path)])
            while len(lines) >= each and done < most:
                ids = [f"line-{number:07d}" for number in range(done, done + each)]
                urls = [f"https://example.org/{one}" for one in ids]
                rows = pa.table({"id": ids, "text": lines.slice(0, each), "url": urls})
                pq.write_table(rows, folder / f"{done:07d}.parquet", compression="zstd")
                lines, done = lines.slice(each), done + each
            if done >= most:
                break
        return f"{folder}/*.parquet"

    def forget(self, folder: str | Path) -> None:
        """Removes something that was made below scratch."""
        shutil.rmtree(self.scratch / folder)


def _lines(path: str) -> pa.Array:
    """Lines of a file's texts that are not empty."""
    lines = pc.list_flatten(pc.split_pattern(pq.read_table(path, columns=["text"])["text"], "\n")).combine_chunks()
    return lines.cast(pa.string()).filter(pc.greater(pc.binary_length(lines), 0))


def _renamed(table: pa.Table, suffix: str) -> pa.Table:
    for name in ("id", "url"):
        if name in table.schema.names:
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pc.binary_join_element_wise(table[name], suffix, ""))
    return table
