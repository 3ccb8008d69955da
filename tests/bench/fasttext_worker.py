"""One measurement of fastText models in a process of its own: `python fasttext_worker.py NAME ARGUMENTS_AS_JSON`.

Invariant: models are loaded, compiled code has run once and texts lie in memory before a clock starts; ours and
fastText's own predict read the same texts by turns. Prints one line of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.kernels.squash import squash
from tamis.scorers.fasttext import FastText, Labels, Top, pieces_of, score_together

TURN = 500  # documents that fastText gets in a call


def texts_of(path: str) -> pa.Array:
    return pq.read_table(path, columns=["text"])["text"].cast(pa.large_string()).combine_chunks()


def cpu_seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def ask_of(model: FastText) -> Labels | Top:
    """The probability of one of few labels; the two most probable of many."""
    return Labels((0,)) if len(model.labels) < 10 else Top(2)


def speed(model: str, texts: str, repeats: int) -> dict[str, Any]:
    """CPU seconds of both, by turns, and the largest difference of the first label's (or the best label's) number."""
    import fasttext

    ours, column = FastText.load(model), texts_of(texts)
    pieces, ask = pieces_of(column), ask_of(ours)
    fasttext.FastText.eprint = lambda _: None
    theirs = fasttext.load_model(model)
    lines = [text.replace("\n", " ") for text in column.to_pylist()]
    count = len(ours.labels) if isinstance(ask, Labels) else ask.k
    expected: list[tuple[Any, Any]] = []

    def predict() -> None:
        expected.clear()
        for at in range(0, len(lines), TURN):
            expected.extend(zip(*theirs.predict(lines[at : at + TURN], k=count), strict=True))

    score_together([(ours, ask)], *pieces)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        seconds["ours"].append(cpu_seconds(lambda: score_together([(ours, ask)], *pieces)))
        seconds["theirs"].append(cpu_seconds(predict))
    (found,) = score_together([(ours, ask)], *pieces)
    if isinstance(ask, Labels):
        first = f"__label__{ours.labels[0]}"
        wanted = [dict(zip(names, values, strict=True))[first] for names, values in expected]
        got = found[:, 0]
    else:
        wanted, got = [values[0] for _, values in expected], found[1][:, 0]
    off = np.abs(np.minimum(wanted, 1) - got)
    size = int(pieces[2][-1] - pieces[1][0])
    return {**seconds, "bytes": size, "documents": len(lines), "off": [float(off.max()), int((off > 1e-5).sum())]}


def together(models: list[str], texts: str, repeats: int) -> dict[str, Any]:
    """CPU seconds of each alone and of all in one call, by turns; whether the numbers are the same bits."""
    loaded = [FastText.load(model) for model in models]
    asks = [(model, ask_of(model)) for model in loaded]
    pieces = pieces_of(texts_of(texts))
    score_together(asks, *pieces)
    seconds: dict[str, list[float]] = {str(place): [] for place in range(len(asks))} | {"together": []}
    for _ in range(repeats):
        for place, ask in enumerate(asks):
            seconds[str(place)].append(cpu_seconds(lambda ask=ask: score_together([ask], *pieces)))
        seconds["together"].append(cpu_seconds(lambda: score_together(asks, *pieces)))
    alone = [score_together([ask], *pieces)[0] for ask in asks]
    return {**seconds, "same": _bits(score_together(asks, *pieces)) == _bits(alone)}


def _bits(found: list[Any]) -> bytes:
    return b"".join(part.tobytes() for one in found for part in (one if isinstance(one, tuple) else (one,)))


def memory(model: str | None, texts: str, bytes: int) -> dict[str, Any]:
    """Resident memory, private and shared, after `bytes` of text have been read batch by batch: by another kernel, and
    scored with the model if there is one, whose tables this process builds itself."""
    scorer = FastText.load(model) if model else None
    column = texts_of(texts)
    done, scored = 0, 0
    while done < bytes:
        for at in range(0, len(column), TURN):
            data, starts, ends = pieces_of(column.slice(at, TURN))
            squash(data, np.append(starts, ends[-1]))
            if scorer:
                scored += len(score_together([(scorer, ask_of(scorer))], data, starts, ends)[0])
            done += int(ends[-1] - starts[0])
    del column, data, starts, ends
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(
        0
    )  # what the heap keeps of freed memory differs by 10 MB from run to run, model or not
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (resident,) = (int(line.split()[1]) * 1024 for line in rollup if line.startswith("Rss:"))
    return {"resident": resident, "scored": scored, "bytes": done}


if __name__ == "__main__":
    print(json.dumps({"speed": speed, "together": together, "memory": memory}[sys.argv[1]](**json.loads(sys.argv[2]))))
