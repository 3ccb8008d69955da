"""Language-model scores on a CPU beside document by document and beside full logits: speed, and memory.

Invariant: all forms score the same tokens with the same weights, dtype and one thread, by turns; a figure counts only
where the sums of the losses agree within 1e-4.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from corpora import Bench
from figures import Row
from lm_models import SHAPES, cut, texts_of, train_tokenizer
from processes import HERE, found

PART = "lm_scores"
CLOSE = 1e-4  # relative, float32


def rows(bench: Bench) -> list[Row]:
    """Speed against document by document; memory against full logits."""
    quick = bench.sizes.slice_bytes < 1_000_000
    return cpu_rows(bench.files, bench.scratch, quick=quick)


def cpu_rows(files: Sequence[str | Path], scratch: Path, *, quick: bool = False) -> list[Row]:
    """200 documents cut at 2,048 tokens by a model of 24 M parameters; one window of 4,096 tokens at V = 150k."""
    folder = scratch / "lm-cpu"
    made = prepare(folder, files, ["tiny"] if quick else ["24M"], "float32", "cpu", documents=12 if quick else 200)
    path = made["models"]["tiny" if quick else "24M"]
    names = ["nll", "every", "padded", "alone"]
    got = lm_worker(
        "forms", path=path, texts=made["texts"], device="cpu", dtype="float32", turns=4, repeats=1, names=names
    )
    wide = prepare(folder / "wide", (), ["tiny wide" if quick else "wide"], "float32", "cpu", documents=0)
    (wide_path,) = wide["models"].values()
    tokens = 512 if quick else 4096
    used = {form: lm_worker("window", path=wide_path, form=form, tokens=tokens) for form in ("nll", "every", "logits")}
    return [_speed(got), *(_memory(used, form, tokens) for form in ("nll", "every"))]


def prepare(
    folder: Path,
    files: Sequence[str | Path],
    shapes: Sequence[str],
    dtype: str,
    device: str,
    *,
    documents: int,
    training: int = 4000,
) -> dict[str, Any]:
    """Texts in one Parquet file, cut at the longest that is read at once, and a model folder of each shape. training:
    documents that the tokenizer is made from."""
    folder.mkdir(parents=True, exist_ok=True)
    few = not documents or shapes[0].startswith("tiny")
    texts = texts_of(files, 300 if few else max(training, documents))
    tokenizer = train_tokenizer(texts, min(SHAPES[shape].settings["vocab_size"] for shape in shapes))
    tokenizer.save(str(folder / "tokenizer.json"))
    pq.write_table(pa.table({"text": cut(tokenizer, texts[:documents])}), folder / "texts.parquet")
    models = {}
    for shape in shapes:
        models[shape] = str(folder / shape.replace(" ", "-"))
        given = {"shape": shape, "tokenizer": str(folder / "tokenizer.json"), "dtype": dtype, "device": device}
        lm_worker("model", folder=models[shape], **given)
    return {"texts": str(folder / "texts.parquet"), "models": models}


def lm_worker(name: str, **arguments: Any) -> dict[str, Any]:
    """A function of lm_worker.py in a process of its own."""
    return found([sys.executable, HERE / "lm_worker.py", name, json.dumps(arguments)])


def _speed(got: dict[str, Any]) -> Row:
    speed = {name: 1 / taken["cpu"] for name, taken in got["seconds_per_token"].items()}
    largest = max(got["off"][name]["sum"] for name in ("nll", "every"))
    return Row(
        PART,
        f"{got['parameters'] / 1e6:.0f} M parameters, float32, one thread: {speed['nll']:,.0f} tokens per CPU s, "
        f"{speed['every']:,.0f} with all statistics",
        speed["nll"] / speed["alone"],
        "times document by document",
        "more",
        1,
        f"transformers, full logits: document by document {speed['alone']:,.0f} tokens per CPU s, "
        f"padded batches of {got['batch']} {speed['padded']:,.0f}",
        f"sums of losses over {got['documents']} documents, {got['tokens']:,} tokens, agree within {largest:.1e}",
        "" if largest <= CLOSE else f"the sum of losses is {largest:.1e} off document by document's",
        got,
    )


def _memory(used: dict[str, dict[str, Any]], form: str, tokens: int) -> Row:
    one, other = used[form], used["logits"]
    off = abs(one["nll"] - other["nll"]) / other["nll"]
    return Row(
        PART,
        f"{'nll alone' if form == 'nll' else 'all statistics'}: peak beyond the weights, a window of {tokens:,} tokens, "
        f"V = {one['vocabulary']:,}: {one['bytes'] / 1e6:,.0f} MB",
        one["bytes"] / other["bytes"],
        "of full logits",
        "less",
        0.25,
        f"transformers, full logits: {other['bytes'] / 1e6:,.0f} MB",
        f"the losses agree within {off:.1e}",
        "" if off <= CLOSE else f"the loss is {off:.1e} off that of full logits",
        used,
    )
