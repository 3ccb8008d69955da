"""Language-model scores: what a GPU gives, and a CPU. Needs the package with its extra `lm`, and nothing else.

Invariant: every figure stands beside the same documents through plain transformers, with the same weights and dtype, and
beside a check of the scores. Without a GPU the GPU half says so and measures nothing.

    python tests/bench/lm_scores.py --json lm.json          both halves; on one GPU about 8 minutes
    python tests/bench/lm_scores.py --gpu-only              without the CPU half
    python tests/bench/lm_scores.py --gpu-only --sizes 1.5B
    python tests/bench/lm_scores.py --quick                 tiny models: shows that it works, measures nothing
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpora import CORPUS, ROOT
from figures import Row, exit_code, machine, report, table
from lm_models import SHAPES
from part_lm_scores import cpu_rows, lm_worker, prepare

PART = "lm_scores gpu"
SIZES = ("0.1B", "0.5B", "1.5B")
FORMS = {
    "nll": "lm_scores, nll",
    "every": "lm_scores, all statistics",
    "padded": "plain loop, padded batches",
    "alone": "document by document",
}
DOCUMENTS = 600
PIPELINE = {
    "0.1B": 120_000,
    "0.5B": 60_000,
    "1.5B": 30_000,
    "tiny": 400,
}  # documents: half a minute and more of scoring
CLOSE = 5e-3  # relative, sums of losses in bfloat16
TIMES, SHARE, BUSY = 3, 0.5, 0.9


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpu-only", action="store_true", help="leave the CPU half out")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="of the GPU half (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--corpus", default=str(CORPUS), metavar="GLOB", help="Parquet files with text; else made text")
    parser.add_argument("--scratch", type=Path, default=ROOT / "build", help="where 10 GB fit for a while")
    parser.add_argument("--quick", action="store_true", help="tiny models: shows that it works, no more")
    options = parser.parse_args(arguments)
    files = sorted(glob.glob(options.corpus))
    options.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lm-scores-", dir=options.scratch) as scratch:
        facts = lm_worker("hardware")
        rows: list[Row] = []
        figures: list[str] = []
        if facts:
            sizes = ["tiny"] if options.quick else options.sizes
            rows, figures = gpu_rows(files, Path(scratch), facts, sizes)
        if not options.gpu_only:
            rows += cpu_rows(files, Path(scratch), quick=options.quick)
    print(_told(facts, files))
    print("\n".join(["", *figures, ""]) if figures else "")
    if rows:
        print(table(rows))
    if options.json:
        options.json.write_text(report(rows, {"gpu": facts, "table": figures, "quick": options.quick}))
    return exit_code(rows)


def gpu_rows(
    files: Sequence[str], scratch: Path, facts: dict[str, Any], sizes: Sequence[str]
) -> tuple[list[Row], list[str]]:
    """Targets, and a table of all that was measured: what a document costs in each form, by size of the model."""
    rows: list[Row] = []
    lines = [
        f"| model | form | tokens per s | model TFLOP per s | share of {facts['matmul'] / 1e12:,.0f} TFLOP per s | "
        "peak beyond the weights | loss off by |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for size in sizes:
        made = prepare(scratch / size, files, [size], "bfloat16", "cuda", documents=60 if size == "tiny" else DOCUMENTS)
        path = made["models"][size]
        given = {"device": "cuda", "dtype": "bfloat16", "turns": 1, "repeats": 2, "names": list(FORMS)}
        got = lm_worker("forms", path=path, texts=made["texts"], **given)
        lines += _lines(size, got, facts)
        rows += _forms_rows(size, got, facts)
        if size in ("0.1B", "tiny"):
            few = prepare(scratch / f"{size}-few", files, [size], "bfloat16", "cuda", documents=24)
            rows.append(_agreement(size, lm_worker("agreement", path=few["models"][size], texts=few["texts"])))
        cpus = max(1, min(8, (os.cpu_count() or 2) - 1))
        fed = lm_worker(
            "pipeline", path=path, scratch=str(scratch / f"{size}-run"), documents=PIPELINE[size], cpus=cpus
        )
        rows.append(_busy(size, fed))
        shutil.rmtree(scratch / size)
        shutil.rmtree(scratch / f"{size}-run")
    return rows, lines


def _lines(size: str, got: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    found = []
    for name, form in FORMS.items():
        seconds = got["tokens"] * got["seconds_per_token"][name]["wall"]
        rate = got["flops"] / seconds
        off = "the reference" if name == "alone" else f"{got['off'][name]['sum']:.1e}"
        what = f"{size} ({SHAPES[size].published} shape)" if name == "nll" else ""
        form += f" of {got['batch']}" if name == "padded" else ""
        found.append(
            f"| {what} | {form} | {got['tokens'] / seconds:,.0f} | {rate / 1e12:,.1f} | "
            f"{rate / facts['matmul']:.1%} | {got['peaks'][name] / 1e9:,.2f} GB | {off} |"
        )
    return found


def _forms_rows(size: str, got: dict[str, Any], facts: dict[str, Any]) -> list[Row]:
    """Every size beside the targets, which are meant for 1.5B."""
    wall = {name: got["tokens"] * taken["wall"] for name, taken in got["seconds_per_token"].items()}
    off = max(got["off"][name]["sum"] for name in ("nll", "every"))
    wrong = "" if off <= CLOSE else f"the sum of losses is {off:.1e} off document by document's"
    right = f"sums of losses over {got['tokens']:,} tokens agree within {off:.1e}"
    plain = f"padded batches of {got['batch']}, full logits: {got['tokens'] / wall['padded']:,.0f} tokens per s"
    rate = got["flops"] / wall["nll"]
    return [
        Row(
            PART,
            f"{size}, bfloat16: {got['tokens'] / wall['nll']:,.0f} tokens per s",
            wall["padded"] / wall["nll"],
            "times the plain loop",
            "more",
            TIMES,
            plain,
            right,
            wrong,
            got,
        ),
        Row(
            PART,
            f"{size}, bfloat16: {rate / 1e12:,.1f} model TFLOP per s",
            rate / facts["matmul"],
            "of the measured matmul rate",
            "more",
            SHARE,
            f"square bfloat16 matrices: {facts['matmul'] / 1e12:,.0f} TFLOP per s",
            right,
            wrong,
        ),
    ]


def _agreement(size: str, got: dict[str, Any]) -> Row:
    worst = max(got, key=lambda name: got[name]["median"])
    return Row(
        PART,
        f"{size}: bfloat16 on the GPU, largest difference of a document's loss",
        got["nll"]["largest"],
        "relative",
        "less",
        0.02,
        "float32 on the CPU",
        f"medians of all statistics within {got[worst]['median']:.1e} ({worst})",
        "" if got["nll"]["median"] <= 0.01 else f"half of the losses are more than {got['nll']['median']:.1e} off",
        got,
    )


def _busy(size: str, got: dict[str, Any]) -> Row:
    counted = got["counts"]["kept"] == got["counts"]["rows"]
    return Row(
        PART,
        f"{size}: GPU busy while a run feeds it, {got['tokens'] / got['seconds']:,.0f} tokens per s",
        got["called"] if got["busy"] is None else min(got["called"], got["busy"]),
        "of the scoring time",
        "more",
        BUSY,
        f"{got['called']:.1%} in calls of the model"
        + ("" if got["busy"] is None else f", nvidia-smi says {got['busy']:.1%} ({got['samples']} samples)"),
        f"{got['counts']['rows']:,} documents in the ledger, {got['tokens']:,} tokens in {got['seconds']:.0f} s",
        "" if counted else "not every document was kept",
        got,
    )


def _told(facts: dict[str, Any], files: Sequence[str]) -> str:
    here = machine()
    lines = [f"processor: {here['processor']}, {here['cores']} cores, load {here['load']}"]
    if facts:
        lines.append(
            f"GPU: {facts['gpu']}, {facts['memory'] / 2**30:.0f} GiB, driver {facts['driver'] or 'unknown'}, torch "
            f"{facts['torch']}, CUDA {facts['cuda']}; bfloat16 matmul {facts['matmul'] / 1e12:,.0f} TFLOP per s"
        )
    else:
        lines.append("GPU: torch sees none here; the GPU half was not measured")
    lines.append(f"texts: {files[0] if files else 'made words'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
