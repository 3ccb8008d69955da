"""Receipts: the commit of every (step, item), and the only thing that readers and resume believe.

Invariant: an item is done when its receipt exists and the file it names has the recorded size. The first receipt
stands; a later attempt of a retried task or of a dead driver is a loser and is swept when the step ends.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from .array_file import describe, write_arrays
from .parquet import Hashing, Layout, ParquetSink
from .storage import Storage

COMPACTED = "receipts.jsonl"
Receipt = dict[str, Any]


class Receipts:
    """The receipts of one folder (a step, or a phase of a resolve step). Picklable; caches nothing on workers."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def load(self) -> dict[str, Receipt]:
        """All valid receipts by item name. One listing; receipts whose file is missing or has another size do not count."""
        sizes = self._sizes()
        found: dict[str, Receipt] = {}
        if COMPACTED in sizes:
            for line in self.storage.read(self.path(COMPACTED)).splitlines():
                receipt = json.loads(line)
                found[receipt["item"]] = receipt
        for name in sizes:
            if name.endswith(".json") and "/" not in name:
                receipt = self._parse(name)
                if receipt is not None:
                    found.setdefault(receipt["item"], receipt)
        return {item: r for item, r in found.items() if r.get("file") is None or sizes.get(r["file"]) == r["size"]}

    def _sizes(self) -> dict[str, int]:
        skip = len(self.folder) + 1
        return {path[skip:]: size for path, size in self.storage.list(self.folder).items()}

    def forget(self, items: Iterable[str]) -> None:
        """Takes receipts back: what they name was lost, and is to be made again."""
        gone = set(items)
        rest = {item: r for item, r in self._compacted().items() if item not in gone}
        if self.storage.exists(self.path(COMPACTED)):
            self.storage.write(self.path(COMPACTED), _lines(rest))
        for item in gone:
            self.storage.remove(self.path(f"{item}.json"))

    def _parse(self, name: str) -> Receipt | None:
        try:
            receipt = json.loads(self.storage.read(self.path(name)))
        except (ValueError, FileNotFoundError):
            return None
        return receipt if isinstance(receipt, dict) and "item" in receipt else None

    def get(self, item: str) -> Receipt | None:
        """The receipt of one item, if it is committed. A receipt whose file was swept lost to the compacted one."""
        receipt = self._parse(f"{item}.json")
        return receipt if receipt is not None and self._whole(receipt) else self._compacted().get(item)

    def _compacted(self) -> dict[str, Receipt]:
        try:
            lines = self.storage.read(self.path(COMPACTED)).splitlines()
        except FileNotFoundError:
            return {}
        return {r["item"]: r for r in map(json.loads, lines)}

    def commit(
        self,
        item: str,
        facts: Mapping[str, Any],
        schema: pa.Schema | None = None,
        layout: Layout | None = None,
        tables: Callable[[ParquetSink], Iterable[pa.Table]] | None = None,
    ) -> Receipt:
        """Writes the attempt's file from `tables` (called with the sink), then creates the receipt only if absent.

        Returns the receipt that stands, which is the first one. `facts` is read after `tables` is exhausted, so a
        caller may fill it while it streams.
        """
        receipt: Receipt = {"item": item, "file": None}
        if schema is not None and tables is not None:
            name = f"{item}.{uuid.uuid4().hex[:12]}.parquet"
            with (
                self.storage.writer(self.path(name)) as file,
                ParquetSink(file, schema, layout or Layout(level=1)) as sink,
            ):
                for table in tables(sink):
                    sink.write(table)
            receipt.update(file=name, size=sink.bytes, hash=sink.hash, rows=sink.rows)
        receipt.update(facts)
        return self._stand(item, receipt)

    def commit_arrays(self, item: str, facts: Mapping[str, Any], parts: Sequence[np.ndarray]) -> Receipt:
        """The same for a file of arrays (see `array_file`): the receipt names their dtype."""
        name = f"{item}.{uuid.uuid4().hex[:12]}.arrays"
        with self.storage.writer(self.path(name)) as file:
            hashing = Hashing(file)
            write_arrays(cast(BinaryIO, hashing), parts)
        receipt = {"item": item, "file": name, "size": hashing.written, "hash": hashing.hash.hexdigest()}
        return self._stand(item, {**receipt, "dtype": describe(parts[0].dtype), **facts})

    def _stand(self, item: str, receipt: Receipt) -> Receipt:
        if self.storage.create(self.path(f"{item}.json"), encode(receipt)):
            return receipt
        standing = self.get(item)
        if standing is None:
            # a receipt that is empty (a crash on a file system without hard links) or whose file is gone commits nothing
            self.storage.write(self.path(f"{item}.json"), encode(receipt))
            return receipt
        return standing

    def _whole(self, receipt: Receipt) -> bool:
        if receipt.get("file") is None:
            return True
        try:
            return self.storage.size(self.path(receipt["file"])) == receipt["size"]
        except FileNotFoundError:
            return False

    def compact(self, receipts: Mapping[str, Receipt]) -> None:
        """Folds all receipts into one file and sweeps them and the losers. Safe to be killed anywhere in between."""
        self.storage.write(self.path(COMPACTED), _lines(receipts))
        self.sweep(receipts)

    def sweep(self, receipts: Mapping[str, Receipt]) -> None:
        """Removes everything in the folder (not below it) that no receipt names."""
        keep = {COMPACTED, *(r["file"] for r in receipts.values() if r.get("file"))}
        for name in self._sizes():
            if "/" not in name and name not in keep:
                self.storage.remove(self.path(name))


def encode(receipt: Mapping[str, Any]) -> bytes:
    return json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()


def _lines(receipts: Mapping[str, Receipt]) -> bytes:
    return b"".join(encode(receipts[item]) + b"\n" for item in sorted(receipts))


def run_identity() -> str:
    """A name for this run of the driver, for locks and attempts."""
    return f"{os.getpid():x}-{uuid.uuid4().hex[:8]}"
