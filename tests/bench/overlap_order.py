"""What DCLM's sequential BFF ("old-both") removes in one order of the documents, beside the order-free `ngram_overlap`.

Invariant: the sequential side shares only the tokens with the stage; its n-grams are a Python set filled document by
document, without a Bloom filter's chance hits.

    python tests/bench/overlap_order.py 'web/*.parquet' [--orders 3]

The first order is that of the files; the others are shuffled. Prints the table of docs/overlap.md. 250 MB of text take
about two minutes and 3 GB of memory for each order.
"""

from __future__ import annotations

import argparse
import glob
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))
from tamis.kernels.segments import segments
from tamis.kernels.unicode_classes import classes
from tamis.stages.arrow import text_buffers
from tamis.stages.ngram_overlap import NgramOverlap
from tests.stages.local_context import resolve

NGRAM, THRESHOLD = 13, 0.8
Removed = tuple[set[tuple[int, int, int]], set[int]]  # paragraphs (document, first byte, end), documents


def grams(hashes: np.ndarray) -> list[int]:
    """A key of 64 bits for each n-gram."""
    keys = np.zeros(max(0, len(hashes) - NGRAM + 1), np.uint64)
    for i in range(NGRAM):
        keys = (keys ^ hashes[i : i + len(keys)]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    return keys.tolist()


def sequential(texts: pa.Array, order: Sequence[int]) -> Removed:
    """What one thread of BFF removes that reads the documents in this order."""
    data, offsets = text_buffers(texts)
    longest = int(np.diff(offsets).max())
    starts, ends, hashes = np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.uint64)
    seen: set[int] = set()
    paragraphs, documents = set(), set()
    for d in order:
        begin, end = int(offsets[d]), int(offsets[d + 1])
        n = segments(data, begin, end, classes(), starts, ends, hashes)
        keys = grams(hashes[:n])
        feeds = np.append(np.flatnonzero(data[begin:end] == 10) + begin, end)
        tokens = [0, *np.searchsorted(starts[:n], feeds).tolist()]  # no token crosses a line feed
        contained = total = 0
        for i, (first, last) in enumerate(itertools.pairwise(tokens)):
            here = keys[first : max(first, last - NGRAM + 1)]
            again = sum(key in seen for key in here)
            contained, total = contained + again, total + len(here)
            if here and again / len(here) > THRESHOLD:
                paragraphs.add((d, int(feeds[i - 1]) + 1 - begin if i else 0, min(int(feeds[i]) + 1, end) - begin))
            else:
                seen.update(here)
        if total and contained / total > THRESHOLD:
            documents.add(d)
    return paragraphs, documents


def free_of_order(table: pa.Table, order: Sequence[int]) -> Removed:
    """What the stage and its rules remove where the documents are numbered in this order."""
    stage = NgramOverlap(NgramOverlap.Config(), name="ngram_overlap")
    verdict, _ = resolve(stage, table.take(pa.array(order)), cuts=range(4000, len(table), 4000))
    flat = verdict["ngram_spans"].combine_chunks()
    spans, row = flat.flatten(), np.asarray(order)[flat.value_parent_indices().to_numpy()]
    cut = np.flatnonzero(pc.greater(spans.field("score"), pa.scalar(0.8, pa.float32())).to_numpy(zero_copy_only=False))
    places = zip(
        row[cut].tolist(),
        spans.field("start").take(pa.array(cut)).to_pylist(),
        spans.field("end").take(pa.array(cut)).to_pylist(),
    )
    gone = pc.fill_null(pc.greater(verdict["ngram_overlap"], pa.scalar(0.8, pa.float32())), False)
    return set(places), set(np.asarray(order)[gone.to_numpy()].tolist())


def size(removed: Removed, sizes: list[int]) -> int:
    """Bytes that are gone: dropped documents, and cut paragraphs of the others."""
    paragraphs, documents = removed
    return sum(sizes[d] for d in documents) + sum(end - start for d, start, end in paragraphs if d not in documents)


def compare(name: str, one: Removed, other: Removed, sizes: list[int]) -> str:
    documents = [one[1] & other[1], one[1] - other[1], other[1] - one[1]]
    paragraphs = [one[0] & other[0], one[0] - other[0], other[0] - one[0]]
    common = both_bytes(one, other, sizes)
    amounts = [common, size(one, sizes) - common, size(other, sizes) - common]
    cells = [f"{len(d):,} | {len(p):,} | {b / 1e6:.2f}" for d, p, b in zip(documents, paragraphs, amounts)]
    return f"| {name} | " + " | ".join(cells) + " |"


def both_bytes(one: Removed, other: Removed, sizes: list[int]) -> int:
    """Bytes that both remove."""
    whole = one[1] & other[1]
    either = (one[0] & other[0]) | {p for p in one[0] if p[0] in other[1]} | {p for p in other[0] if p[0] in one[1]}
    return sum(sizes[d] for d in whole) + sum(end - start for d, start, end in either if d not in whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", help="a glob of Parquet files with a column text")
    parser.add_argument("--orders", type=int, default=3)
    arguments = parser.parse_args()
    texts = pa.concat_tables([pq.read_table(f, columns=["text"]) for f in sorted(glob.glob(arguments.files))])["text"]
    texts = texts.cast(pa.large_string()).combine_chunks()
    sizes: list[int] = pc.binary_length(texts).to_pylist()
    table = pa.table({"text": texts, "bytes": pa.array(sizes, pa.int64())})
    print(f"{len(texts):,} documents, {sum(sizes) / 1e6:.1f} MB")
    parts = [f"{what} {who}" for who in ("both", "only 1st", "only 2nd") for what in ("docs", "paragraphs", "MB")]
    print("| removed by | " + " | ".join(parts) + " |")
    first: Removed | None = None
    for k in range(arguments.orders):
        order = np.random.default_rng(k).permutation(len(texts)) if k else np.arange(len(texts))
        theirs, ours = sequential(texts, order.tolist()), free_of_order(table, order.tolist())
        name = f"shuffled {k}" if k else "as given"
        print(f"{name}: sequential {size(theirs, sizes) / 1e6:.2f} MB, ngram_overlap {size(ours, sizes) / 1e6:.2f} MB")
        print(compare(f"ngram_overlap, sequential; {name}", ours, theirs, sizes), flush=True)
        if first:
            print(compare(f"sequential as given, sequential {name}", first, theirs, sizes), flush=True)
        first = first or theirs


if __name__ == "__main__":
    main()
