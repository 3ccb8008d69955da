"""MB/s per core of every group of the text-signals kernel, and of what a FineWeb-like recipe asks of it.

    python -m tests.bench.signals_speed SHARD.parquet...

Invariant: CPU time of this process, the best of five calls, compiled and warm; bytes are UTF-8 bytes of the text column.
"""

from __future__ import annotations

import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.kernels import text_signals as kernel
from tamis.stages.arrow import text_buffers

FINEWEB = ("symbols", "edges", "lines", "paragraphs", "words", "repeats")  # gopher_quality, gopher_repetition, fineweb


def main(paths: list[str]) -> None:
    if not paths:
        raise SystemExit(__doc__)
    table = pa.concat_tables([pq.read_table(path, columns=["text"]) for path in paths])
    data, offsets = text_buffers(table["text"])
    size = float(offsets[-1] - offsets[0])
    print(f"{len(offsets) - 1:,} texts, {size / 1e6:.1f} MB")

    def rate(name: str, groups: int) -> None:
        seconds = []
        for _ in range(5):
            start = time.process_time()
            kernel.text_signals(data, offsets, groups, 30)
            seconds.append(time.process_time() - start)
        print(f"{name:16} {size / 1e6 / min(seconds):8.0f} MB/s {min(seconds) * 1e9 / size:7.2f} ns a byte")

    rate("(characters)", 0)
    for name, (bit, _) in kernel.GROUPS.items():
        rate(name, bit)
    rate("fineweb recipe", sum(kernel.GROUPS[name][0] for name in FINEWEB))
    rate("everything", kernel.EVERYTHING)


if __name__ == "__main__":
    main(sys.argv[1:])
