"""The PreSelect chain in small, without a network: what comes before `tamis train preselect`, and the numbers after it.

Invariant: everything written is a function of the corpus and the options, byte for byte; models, cloze task and pool
share no domain and no text; what is printed at the end is what was found, good or bad.

    python -m tamis.pipeline.training.mini models --corpus data/sample --out out/preselect-mini
    tamis train preselect 'out/preselect-mini/losses/*.parquet' --loss '*_bpc' \\
        --abilities out/preselect-mini/abilities.yaml --out out/preselect-mini/preselect.bin
    tamis run configs/preselect-mini.yaml
    python -m tamis.pipeline.training.mini numbers --out out/preselect-mini

`models` writes models/NAME/ (as `transformers` saves one), abilities.yaml, mini.json (what was split and trained),
pool/*.parquet (id, text, domain, source, seen) and losses/*.parquet: the documents of the pool that are `seen`, with the
columns NAME_bpc. `source` is what a document of the pool is: task, ordinary or scrambled.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import xxhash

from ...stages.errors import RecipeError, SetupError, TamisError
from ..parquet import Layout, ParquetSink
from .mini_cloze import make_items
from .mini_models import MODELS, Trained, train_all
from .mini_parts import GROUPS, Parts, Text, read_corpus, split

STEPS, DOCUMENTS, ITEMS = 3000, 800, 600
SEEN = 2 / 3  # of the pool has losses; the other third only the scorer sees
LAYOUT = Layout(group_rows=500)


@click.group()
def main() -> None:
    """The PreSelect chain in small: language models, abilities and losses, and the numbers at the end."""


@main.command()
@click.option(
    "--corpus", required=True, metavar="DIR", help="Parquet with text, source, kind; `tamis sample DIR` makes it."
)
@click.option("--out", required=True, metavar="DIR", help="Where everything is written; must not exist.")
@click.option("--kind", default="module", show_default=True, help="What the cloze task is made of.")
@click.option("--steps", default=STEPS, show_default=True, type=click.IntRange(min=1), help="Of training, per model.")
@click.option(
    "--documents", default=DOCUMENTS, show_default=True, type=click.IntRange(min=2), help="Of each third of the pool."
)
@click.option("--items", default=ITEMS, show_default=True, type=click.IntRange(min=4), help="Of the cloze task.")
@click.option(
    "--workers", default=os.cpu_count() or 1, type=click.IntRange(min=1), help="Processes; nothing depends on it."
)
def models(corpus: str, out: str, kind: str, steps: int, documents: int, items: int, workers: int) -> None:
    """Split the corpus, train the language models, measure abilities and losses."""
    if missing := [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]:
        raise SetupError(f"{' and '.join(missing)}: not installed; pip install 'tamis[lm]'")
    folder = Path(out)
    if folder.exists():
        raise RecipeError(f"{out} is there already; remove it, or give another --out")
    parts = split(read_corpus(corpus, kind), documents)
    tell_parts(parts)
    cloze = make_items(parts.abilities, items)
    if not cloze:
        raise RecipeError(f"{corpus}: the texts of kind {kind} are too short or too alike for a cloze task")
    seen = seen_ones(parts.pool)
    scored = [one for one, its in zip(parts.pool, seen, strict=True) if its]
    click.echo(
        f"{len(MODELS)} models, {steps:,} steps each; {len(cloze)} cloze items, {len(scored):,} documents for losses"
    )
    half = folder.with_name(f".{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    (half / "models").mkdir(parents=True)
    trained = train_all(
        parts.models,
        cloze,
        [one.text for one in scored],
        half / "models",
        steps=steps,
        workers=workers,
        told=tell_model,
    )
    pool = pool_table(parts.pool, seen)
    write(pool, half / "pool")
    write(losses_table(pool.filter(pa.array(seen)), trained), half / "losses")
    (half / "abilities.yaml").write_text(abilities_yaml(trained))
    facts = {
        "kind": kind,
        "steps": steps,
        "items": len(cloze),
        "parts": parts.facts(),
        "models": {one.model.name: model_facts(one) for one in trained},
    }
    (half / "mini.json").write_text(json.dumps(facts, indent=1) + "\n")
    half.rename(folder)


@main.command()
@click.option("--out", required=True, metavar="DIR", help="The folder of `models`, with preselect.bin and run/ in it.")
def numbers(out: str) -> None:
    """What came out: abilities, strengths, how well the scorer learned them, what was kept of each part of the pool."""
    from .mini_numbers import page

    click.echo(page(out), nl=False)


def tell_parts(parts: Parts) -> None:
    for part, domains in parts.domains.items():
        click.echo(f"{part}: {len(domains)} domains")
    for group in GROUPS:
        count = sum(one.group == group for one in parts.pool)
        size = sum(len(text) for text in parts.models[group]) / 1e6
        click.echo(f"  {group}: {size:.1f} M characters for training, {count:,} documents in the pool")


def tell_model(one: Trained) -> None:
    mix = ", ".join(f"{100 * share:.0f} % {group}" for group, share in zip(GROUPS, one.model.mix, strict=True) if share)
    click.echo(
        f"  {one.model.name}: {one.facts['parameters']:,} parameters on {mix}; {one.facts['bits_per_byte']:.2f} bits a byte "
        f"at the end of training; cloze margin {one.ability.margin:.4f} bits a byte, accuracy {one.ability.accuracy:.3f}"
    )


def seen_ones(pool: list[Text]) -> list[bool]:
    """Which documents get losses: by a hash of the draw, so a scrambled text always with its original."""
    return [xxhash.xxh3_64_intdigest(one.draw.to_bytes(8, "little")) < SEEN * 2**64 for one in pool]


def pool_table(pool: list[Text], seen: list[bool]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([f"{one.group}-{one.draw:016x}" for one in pool]),
            "text": pa.array([one.text for one in pool], pa.large_string()),
            "domain": pa.array([one.domain for one in pool]),
            "source": pa.array([one.group for one in pool]),
            "seen": pa.array(seen),
        }
    )


def losses_table(pool: pa.Table, trained: list[Trained]) -> pa.Table:
    table = pool.drop_columns(["seen"])
    for one in trained:
        table = table.append_column(f"{one.model.name}_bpc", pa.array(one.bpc, pa.float64(), mask=np.isnan(one.bpc)))
    return table


def write(table: pa.Table, folder: Path) -> None:
    folder.mkdir()
    with (folder / "part-00000.parquet").open("wb") as file, ParquetSink(file, table.schema, LAYOUT) as sink:
        sink.write(table)


def abilities_yaml(trained: list[Trained]) -> str:
    lines = ["# mean margin of the true ending over three wrong ones, bits a byte of ending; see mini_cloze.py"]
    return "\n".join([*lines, *(f"{one.model.name}: {one.ability.margin!r}" for one in trained)]) + "\n"


def model_facts(one: Trained) -> dict:
    shape = {"hidden": one.model.shape.hidden, "layers": one.model.shape.layers, "heads": one.model.shape.heads}
    mix = dict(zip(GROUPS, one.model.mix, strict=True))
    return {**shape, "mix": mix, **one.facts, "margin": one.ability.margin, "accuracy": one.ability.accuracy}


if __name__ == "__main__":
    try:
        main.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TamisError as error:
        click.echo(f"tamis: {error}", err=True)
        sys.exit(error.exit_code)
