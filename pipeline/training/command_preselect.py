"""`tamis train preselect`"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .command_fasttext import PARAMS, Shown, held_out_share

DEFAULTS = {"epoch": 3, "word_ngrams": 2}  # where PreSelect's differ from fastText's; a test compares all
HELP = {
    "word_ngrams": "Longest run of words that is a feature.",
    "seed": "Of the draws, and of the vectors that training begins with.",
}


def _parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, kind, default, told in reversed(PARAMS):
        if name == "loss":  # of the training, always softmax here; --loss names the columns
            continue
        function = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=kind,
            default=DEFAULTS.get(name, default),
            show_default=True,
            help=HELP.get(name, told),
        )(function)
    return function


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--loss", "losses", multiple=True, required=True, metavar="GLOB", help="Columns of losses, such as '*_bpc'."
)
@click.option("--abilities", required=True, metavar="FILE", help="YAML: `model: NUMBER` or `model: {task: NUMBER}`.")
@click.option(
    "--out", required=True, metavar="MODEL", help="The scorer; MODEL.json, .md and .html are written beside it."
)
@click.option("--text", default="text", show_default=True, metavar="COLUMN", help="Column of the text.")
@click.option("--domain", metavar="COLUMN", show_default="domain, else of the url", help="Column of the domain.")
@click.option(
    "--by", multiple=True, metavar="COLUMN", show_default="source, lang", help="Columns to compare strength with."
)
@click.option(
    "--min-chars", type=click.IntRange(min=0), default=200, show_default=True, help="Leave out shorter texts."
)
@click.option(
    "--per-class", type=click.IntRange(min=1), default=200_000, show_default=True, help="Most documents of a label."
)
@click.option(
    "--level",
    type=click.Choice(["document", "domain"]),
    default="document",
    show_default=True,
    help="domain: every document has the mean strength of its domain.",
)
@click.option(
    "--min-domain",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Documents that a domain needs to be ranked, and to count under --level domain.",
)
@click.option("--per-token", is_flag=True, help="The losses are means per token, whatever their columns are called.")
@click.option(
    "--same-tokenizer",
    "tokenizers",
    multiple=True,
    metavar="FILE",
    help="The tokenizer's file of each model, for means per token.",
)
@click.option(
    "--test-share", default="10%", show_default=True, metavar="SHARE", help="Hold out so much, by hash of the text."
)
@click.option("--force", is_flag=True, help="Overwrite the model and what lies beside it.")
@_parameters
def command(
    inputs: tuple[str, ...],
    losses: tuple[str, ...],
    abilities: str,
    out: str,
    text: str,
    domain: str | None,
    by: tuple[str, ...],
    min_chars: int,
    per_class: int,
    level: str,
    min_domain: int,
    per_token: bool,
    tokenizers: tuple[str, ...],
    test_share: str,
    force: bool,
    **params: Any,
) -> None:
    """Train PreSelect's scorer from the losses of several models: label 1 for texts whose losses order the models as
    their abilities do, label 0 for those that do so least.

    INPUTS are outputs of Tamis, or Parquet files, folders or globs (in quotes), with a text and a loss per model: bits per
    character, or the total nll of the text.

    \b
    Example: tamis train preselect out/scored --loss '*_bpc' --abilities abilities.yaml --out models/preselect.bin
    """
    from ...scorers.base import ModelError
    from ...scorers.fasttext_train import Params
    from ...stages.errors import RecipeError
    from .preselect import Choosing, summary_lines, train_preselect
    from .preselect_pool import Question
    from .summary import summary

    try:
        chosen = Params(**params)
    except ModelError as error:
        raise RecipeError(f"--{str(error).replace('_', '-', 1)}") from error
    shown = Shown()
    facts = train_preselect(
        Question(inputs, losses, abilities, text, domain, by or None, min_chars, per_token, tokenizers),
        out,
        choosing=Choosing(level, per_class, min_domain),
        params=chosen,
        test_share=held_out_share(test_share),
        force=force,
        tell=shown.tell,
        progress=shown.progress,
    )
    for line in (*summary(facts, out), *summary_lines(facts)):
        click.echo(line)
    click.echo(f"page       {out}.html")
