"""One measurement of language-model scores in a process of its own: `python lm_worker.py NAME ARGUMENTS_AS_JSON`.

Invariant: models are loaded, everything has run once and tokens lie in memory before a clock starts; all forms score the
same tokens of the same documents with the same weights, dtype and threads. Prints one line of JSON.
"""

from __future__ import annotations

import bisect
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lm_models import made_texts, model_flops
from torch.nn.functional import cross_entropy

from tamis.stages.lm_scores import LmScores, LmScoresConfig

EVERY = ("nll", "bpc", "entropy", "min_k_20", "min_k_pp_20", "fast_detect", "lastde", "log_rank", "lrr")
WINDOW = 8192  # more than any document has: each is one window
SMALL, LARGE = 8, 16  # documents that the plain loop pads to one batch, on a CPU and on a GPU
SIDES = (4096, 8192, 16384)  # of the matrices that tell how fast the machine multiplies


class Plain:
    """transformers as most people use it: all logits of a batch, then cross-entropy in float32."""

    def __init__(self, path: str, device: str, dtype: str) -> None:
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(path)
        self.model = model.to(device, getattr(torch, dtype)).eval()
        self.device, self.batch = device, SMALL if device == "cpu" else LARGE

    def padded(self, documents: Sequence[np.ndarray]) -> list[float]:
        """nll of each document, in batches of documents as they come; half as many where memory runs out."""
        found: list[float] = []
        while len(found) < len(documents):
            try:
                found += self._batch(documents[len(found) : len(found) + self.batch])
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch //= 2
                torch.cuda.empty_cache()
        return found

    def alone(self, documents: Sequence[np.ndarray]) -> list[float]:
        """nll of each document, one call of the model for each."""
        return [nll for document in documents for nll in self._batch([document])]

    @torch.inference_mode()
    def _batch(self, documents: Sequence[np.ndarray]) -> list[float]:
        ids = torch.zeros(len(documents), max(map(len, documents)) + 1, dtype=torch.int64)  # token 0 starts a document
        labels = torch.full_like(ids, -100)
        for row, document in enumerate(documents):
            ids[row, 1 : len(document) + 1] = labels[row, 1 : len(document) + 1] = torch.from_numpy(document)
        mask = None
        if len(documents) > 1:
            mask = torch.arange(ids.shape[1]) <= torch.tensor([len(d) for d in documents])[:, None]
            mask = mask.to(self.device, torch.int64)
        logits = self.model(input_ids=ids.to(self.device), attention_mask=mask, use_cache=False).logits
        targets = labels[:, 1:].to(self.device)
        rows = logits[:, :-1].float().flatten(0, 1)  # as transformers' own loss has them
        losses = cross_entropy(rows, targets.flatten(), ignore_index=-100, reduction="none")
        return losses.view(targets.shape).sum(1).tolist()


def scorer(path: str, device: str, dtype: str, columns: Sequence[str], **more: Any) -> LmScores:
    """The stage, as a recipe would make it."""
    config = {"model": path, "columns": columns, "gpus": 0 if device == "cpu" else 1, "dtype": dtype, "window": WINDOW}
    return LmScores(LmScoresConfig.model_validate(config | more), name="lm")


def forms(
    path: str, texts: str, device: str, dtype: str, turns: int, repeats: int, names: Sequence[str]
) -> dict[str, Any]:
    """Seconds a token (CPU of this process, and on the wall) and peak memory on the GPU of each form over all documents,
    and how far the scores lie from those of document by document. turns: slices of documents over which the forms take
    turns; repeats: of which the fastest counts. On a CPU padded batches, the slowest, get the first slice alone."""
    torch.set_num_threads(1)
    documents = pq.read_table(texts)["text"].cast(pa.large_string()).combine_chunks()
    plain = Plain(path, device, dtype)
    stages = {"nll": scorer(path, device, dtype, ("nll",)), "every": scorer(path, device, dtype, EVERY)}
    tokens = stages["nll"].prepare(pa.table({"text": documents}))
    lengths = np.diff(tokens.offsets)
    ids = [tokens.ids[start:end].astype(np.int64) for start, end in itertools.pairwise(tokens.offsets)]

    def ours(name: str, start: int, end: int) -> list[float]:
        batch = pa.table({"text": documents.slice(start, end - start)})
        return stages[name].measure_prepared(batch, prepared[start, end])["nll"].to_pylist()

    def of_plain(form: Callable[[Sequence[np.ndarray]], list[float]]) -> Callable[[int, int], list[float]]:
        return lambda start, end: form(ids[start:end])

    work: dict[str, Callable[[int, int], list[float]]] = {
        "nll": lambda start, end: ours("nll", start, end),
        "every": lambda start, end: ours("every", start, end),
        "padded": of_plain(plain.padded),
        "alone": of_plain(plain.alone),
    }
    bounds = np.linspace(0, len(ids), turns + 1).astype(int).tolist()
    parts = [(start, end) for start, end in itertools.pairwise(bounds) if end > start]
    parts = [*parts, (0, min(4, len(ids)))] if device == "cpu" else parts  # the last: to warm up with
    prepared = {
        (start, end): stages["nll"].prepare(pa.table({"text": documents.slice(start, end - start)}))
        for start, end in parts
    }
    seconds = {name: {"cpu": float("inf"), "wall": float("inf")} for name in names}
    peaks, scores = dict.fromkeys(names, 0), {name: [] for name in names}
    for name in names:  # compiled, tuned, and memory at hand
        work[name](*parts[-1])
    if device == "cpu":
        parts = parts[:-1]
    for _ in range(repeats):
        once = {name: {"cpu": 0.0, "wall": 0.0} for name in names}
        scores = {name: [] for name in names}
        for start, end in parts:
            for name in names:
                if name == "padded" and device == "cpu" and start:
                    continue
                with _clock(device, once[name], peaks, name):
                    scores[name] += work[name](start, end)
        for name in names:
            count = int(tokens.offsets[len(scores[name])])
            seconds[name] = {kind: min(seconds[name][kind], once[name][kind] / count) for kind in ("cpu", "wall")}
    reference = np.array(scores["alone"])
    off = {name: _off(np.array(found, float), reference[: len(found)]) for name, found in scores.items()}
    return {
        "documents": len(ids),
        "tokens": int(lengths.sum()),
        "longest": int(lengths.max()),
        "flops": model_flops(plain.model, lengths.tolist()),
        "parameters": sum(p.numel() for p in plain.model.parameters()),
        "seconds_per_token": seconds,
        "peaks": peaks,
        "off": off,
        "mean": float(reference.sum() / lengths.sum()),
        "batch": plain.batch,
    }


def _off(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Relative difference of the sum, and the largest of a document."""
    each = np.abs(found - reference) / np.maximum(np.abs(reference), 1e-9)
    return {"sum": float(abs(found.sum() - reference.sum()) / reference.sum()), "document": float(each.max())}


@contextmanager
def _clock(device: str, into: dict[str, float], peaks: dict[str, int], name: str) -> Iterator[None]:
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    if device != "cpu":
        torch.cuda.synchronize()
        peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated() - before)
    into["cpu"] += time.process_time() - cpu
    into["wall"] += time.perf_counter() - wall


def window(path: str, form: str, tokens: int) -> dict[str, Any]:
    """Bytes by which resident memory grows, at its peak, over what stands when the model is loaded and has run once: for one
    document of so many tokens on a CPU. form: nll, every, or logits."""
    from tamis.scorers.lm_windows import Tokens

    torch.set_num_threads(1)
    vocabulary = json.loads((Path(path) / "config.json").read_text())["vocab_size"]
    ids = np.random.default_rng(0).integers(1, vocabulary, tokens).astype(np.int32)

    if form == "logits":
        plain = Plain(path, "cpu", "float32")

        def run(count: int) -> float:
            return plain.alone([ids[:count].astype(np.int64)])[0]
    else:
        stage = scorer(path, "cpu", "float32", ("nll",) if form == "nll" else EVERY)
        batch = pa.table({"text": pa.array(["x"], pa.large_string())})

        def run(count: int) -> float:
            given = Tokens(ids[:count], np.array([0, count], np.int64))
            return stage.measure_prepared(batch, given)["nll"][0].as_py()

        stage._loaded()
    run(16)
    before = _forget_peak()
    nll = run(tokens)
    return {"bytes": _status("VmHWM") - before, "resident": before, "nll": nll, "vocabulary": vocabulary}


def _forget_peak() -> int:
    """Resident bytes now, from which the peak is counted from now on. Linux alone."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
    return found


def hardware() -> dict[str, Any]:
    """The GPU, and the highest rate in operations a second at which it multiplies large square bfloat16 matrices."""
    if not torch.cuda.is_available():
        return {}
    rates: dict[int, float] = {}
    for side in SIDES:
        try:
            left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
            rates[side] = max(_rate(left, right, side) for _ in range(5))
        except torch.OutOfMemoryError:
            break
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "memory": properties.total_memory,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": _smi("driver_version"),
        "matmul": max(rates.values()),
        "rates": rates,
    }


def _rate(left: torch.Tensor, right: torch.Tensor, side: int) -> float:
    rounds = max(3, int(2e14 / (2 * side**3)))
    torch.mm(left, right)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        torch.mm(left, right)
    torch.cuda.synchronize()
    return rounds * 2 * side**3 / (time.perf_counter() - started)


def _smi(query: str) -> str | None:
    program = shutil.which("nvidia-smi")
    if not program:
        return None
    command = [program, f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().partition("\n")[0]


def agreement(path: str, texts: str) -> dict[str, Any]:
    """bfloat16 on the GPU beside float32 on the CPU, all statistics: medians and largest of the relative differences."""
    batch = pa.table({"text": pq.read_table(texts)["text"].cast(pa.large_string()).combine_chunks()})
    one = scorer(path, "cuda", "bfloat16", EVERY).measure(batch)
    other = scorer(path, "cpu", "float32", EVERY).measure(batch)
    found = {}
    for name in EVERY:
        a, b = (np.array(table[name].to_pylist(), float) for table in (one, other))
        both = ~(np.isnan(a) | np.isnan(b))
        off = np.abs(a - b)[both] / np.maximum(np.abs(b[both]), 1e-3)
        found[name] = {"median": float(np.median(off)), "largest": float(off.max()), "documents": int(both.sum())}
    return found


def pipeline(path: str, scratch: str, documents: int, cpus: int, gpus: int = 1) -> dict[str, Any]:
    """A whole run of `lm_scores`, inline. Scoring time: from the first call of the model to the end of the
    last. `called`: its share in which a call was going on (the rest waited for text); `busy`: the mean of nvidia-smi's
    utilization in that time, None where there is no nvidia-smi."""
    from tamis.pipeline.driver import run
    from tamis.pipeline.recipe import parse_recipe
    from tamis.scorers.causal_lm import CausalLM

    folder = Path(scratch)
    (folder / "in").mkdir(parents=True)
    for part in range(4):
        table = pa.table({"text": made_texts(documents // 4, seed=part + 10)})
        pq.write_table(table, folder / "in" / f"{part}.parquet", row_group_size=2000)
    calls: list[tuple[float, float]] = []
    scored = 0
    original = CausalLM.measure

    def timed(self: CausalLM, tokens: Any, **asked: bool) -> Any:
        nonlocal scored
        started = time.perf_counter()
        found = original(self, tokens, **asked)  # ends with a copy to the host: nothing is left on the device's queue
        calls.append((started, time.perf_counter()))
        scored += len(found.logprob)
        return found

    CausalLM.measure = timed
    stage = {"use": "lm_scores", "model": path, "gpus": gpus, "cpus": cpus, "columns": ["n_tokens", "nll", "ppl"]}
    recipe = {
        "name": "bench",
        "input": {"files": f"{folder}/in/*.parquet"},
        "output": str(folder / "out"),
        "stages": [stage],
        "report": {"pages": False},
    }
    with _sampled() as samples:
        found = run(parse_recipe(recipe), executor="inline")
    begun, ended = calls[0][0], calls[-1][1]
    times = [at for at, _ in samples]
    inside = samples[bisect.bisect(times, begun) : bisect.bisect(times, ended)]
    return {
        "tokens": scored,
        "seconds": ended - begun,
        "called": sum(end - start for start, end in calls) / (ended - begun),
        "calls": len(calls),
        "busy": sum(value for _, value in inside) / len(inside) / 100 if inside else None,
        "samples": len(inside),
        "counts": found.manifest["counts"],
    }


@contextmanager
def _sampled() -> Iterator[list[tuple[float, float]]]:
    """(time, percent of GPU 0 in use), ten times a second until the block ends; empty without nvidia-smi."""
    samples: list[tuple[float, float]] = []
    program = shutil.which("nvidia-smi")
    if not program:
        yield samples
        return
    command = [program, "-i", "0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def read() -> None:
        samples.extend((time.perf_counter(), float(line)) for line in process.stdout or () if line.strip().isdigit())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield samples
    finally:
        process.terminate()
        thread.join()
        process.wait()


def model(folder: str, shape: str, tokenizer: str, dtype: str, device: str) -> dict[str, Any]:
    """Writes a model; in a process of its own, so that its memory is given back."""
    from lm_models import SHAPES, write_model
    from tokenizers import Tokenizer

    write_model(Path(folder), SHAPES[shape], Tokenizer.from_file(tokenizer), dtype, device)
    return {"bytes": sum(p.stat().st_size for p in Path(folder).iterdir())}


if __name__ == "__main__":
    WORK = {f.__name__: f for f in (forms, window, hardware, agreement, pipeline, model)}
    print(json.dumps(WORK[sys.argv[1]](**json.loads(sys.argv[2]))))
