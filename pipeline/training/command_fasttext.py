"""`tamis train fasttext`"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ...scorers.fasttext_train import Params
    from .labelled import Files
    from .prepare import Cap
    from .probe import Probe

LABEL = "label"  # the column where none is named
MOST_HELD_OUT = 0.9
PARAMS = (  # fastText's parameters with the defaults of scorers.fasttext_train.Params, which a test compares
    ("dim", int, 100, "Length of the vectors."),
    ("epoch", int, 5, "Times that the texts are read."),
    ("lr", float, 0.1, "Learning rate at the start."),
    ("word_ngrams", int, 1, "Longest run of words that is a feature; 2 is usual for quality and toxicity."),
    ("min_count", int, 1, "Leave out words that are rarer than this."),
    ("bucket", int, 2_000_000, "Rows for runs of words or characters."),
    ("minn", int, 0, "Shortest run of characters that is a feature."),
    ("maxn", int, 0, "Longest run of characters; 0: none."),
    ("loss", str, "softmax", "softmax, ova (labels that do not exclude each other) or hs (very many labels)."),
    ("seed", int, 0, "Of the vectors that training begins with."),
)


def _parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, kind, default, told in reversed(PARAMS):
        function = click.option(
            f"--{name.replace('_', '-')}", name, type=kind, default=default, show_default=True, help=told
        )(function)
    return function


@click.command()
@click.argument("labelled", nargs=-1)
@click.option("--out", required=True, metavar="MODEL", help="The model; MODEL.json and MODEL.md are written beside it.")
@click.option("--text", default="text", show_default=True, metavar="COLUMN", help="Column of the text.")
@click.option(
    "--label",
    metavar="COLUMN",
    help="Column of the label: strings, integers, or true and false as 1 and 0 (default: label).",
)
@click.option(
    "--positive", "positives", multiple=True, metavar="GLOB", help="Files of texts that all have the label 1."
)
@click.option(
    "--negative", "negatives", multiple=True, metavar="GLOB", help="Files of texts that all have the label 0."
)
@click.option("--names", metavar="A,B", help="Labels of --positive and --negative files (default: 1,0).")
@click.option("--positive-label", metavar="LABEL", help="The label that AUC, cuts and probes speak of (default: 1).")
@click.option(
    "--test-share", default="10%", show_default=True, metavar="SHARE", help="Hold out so much, by hash of the text."
)
@click.option(
    "--balance",
    default="none",
    show_default=True,
    metavar="none|down|cap=N",
    help="Train on all texts, which keeps probabilities true to their mix; on as many of each label as the rarest has; or on N of each.",
)
@click.option("--by", multiple=True, metavar="COLUMN", help="Figures for each value of a column, such as source.")
@click.option(
    "--probe", "probes", multiple=True, metavar="GLOB", help="Sentences to count false positives on, by term."
)
@click.option("--probe-label", metavar="COLUMN", help="Their label (default: --label; with --positive: none has it).")
@click.option("--probe-column", metavar="COLUMN", help="The term of each sentence, instead of looking for terms in it.")
@click.option(
    "--probe-terms", metavar="FILE", help="The terms, one a line (default: 50 words for identities of people)."
)
@click.option("--force", is_flag=True, help="Overwrite the model, its .json and its .md.")
@_parameters
def command(
    labelled: tuple[str, ...],
    out: str,
    text: str,
    label: str | None,
    positives: tuple[str, ...],
    negatives: tuple[str, ...],
    names: str | None,
    positive_label: str | None,
    test_share: str,
    balance: str,
    by: tuple[str, ...],
    probes: tuple[str, ...],
    probe_label: str | None,
    probe_column: str | None,
    probe_terms: str | None,
    force: bool,
    **params: Any,
) -> None:
    """Train a fastText classifier from labelled texts, test it on a part held out, and write its model card.

    LABELLED are files, folders or globs (in quotes) of Parquet or JSON Lines (.gz, .zst), here or at a URL.

    \b
    Example: tamis train fasttext "data/sample/*.parquet" --label source --bucket 200000 --out models/source.bin

    Or, instead of LABELLED, --positive and --negative files, each with one label for all its texts.
    """
    from .fit import checked_out, fit, positive_label_of
    from .labelled import read_labelled
    from .summary import summary

    chosen = _params(params)
    groups, pair = _groups(labelled, positives, negatives, names, label)
    share, cap = held_out_share(test_share), _cap(balance)
    checked_out(out, force)
    shown = Shown()
    shown.tell("reading the files")
    found = read_labelled(groups, text=text, label=label or LABEL, columns=by)
    labels = found.table["label"].unique().to_pylist()
    positive = positive_label_of(labels, positive_label or (pair[0] if pair else None))
    probe = None
    if probes:
        column = probe_label or (None if pair else label or LABEL)
        probe = _probe(probes, text, column, probe_column, probe_terms, positive, labels)
    elif probe_label or probe_column or probe_terms:
        raise click.UsageError("--probe-label, --probe-column and --probe-terms go with --probe")
    facts = fit(
        found.table,
        out,
        chosen,
        test_share=share,
        cap=cap,
        positive=positive,
        by=by,
        probe=probe,
        files=found.files,
        left_out=found.left_out,
        warnings=found.warnings,
        force=force,
        tell=shown.tell,
        progress=shown.progress,
    )
    for line in summary(facts, out):
        click.echo(line)


class Shown:
    """How far it is, on standard error where that is a terminal; silent elsewhere."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.drawn = -1  # percent that stand on the last line; below 0: none

    def tell(self, line: str) -> None:
        self.progress(1.0)
        if self.terminal:
            click.echo(line, err=True)

    def progress(self, done: float) -> None:
        """Draws the percentage over the last one; 1 ends the line."""
        percent = int(100 * done)
        if self.terminal and (percent > self.drawn >= 0 or (self.drawn < 0 and percent < 100)):
            click.echo(f"\r  {percent:3} %", nl=percent >= 100, err=True)
            self.drawn = -1 if percent >= 100 else percent


def _params(given: dict[str, Any]) -> Params:
    from ...scorers.base import ModelError
    from ...scorers.fasttext_train import Params
    from ...stages.errors import RecipeError

    try:
        return Params(**given)
    except ModelError as error:
        name, _, told = str(error).partition(":")
        raise RecipeError(f"--{name.replace('_', '-')}:{told}") from error


def _groups(
    labelled: Sequence[str], positives: Sequence[str], negatives: Sequence[str], names: str | None, label: str | None
) -> tuple[list[Files], tuple[str, str] | None]:
    """What to read, and the labels of the positive and negative files where those are given."""
    from .labelled import Files

    if not positives and not negatives:
        if not labelled:
            raise click.UsageError("which texts? Give LABELLED files, or --positive and --negative files")
        if names:
            raise click.UsageError("--names goes with --positive and --negative")
        return [Files(tuple(labelled))], None
    if labelled:
        raise click.UsageError(
            f"{labelled[0]}: LABELLED files do not go with --positive and --negative; put a glob in quotes, or repeat the option"
        )
    if not positives or not negatives:
        raise click.UsageError("--positive and --negative need each other")
    if label:
        raise click.UsageError(
            "--label names a column of LABELLED files; of --positive and --negative files all have one label"
        )
    pair = [name.strip() for name in (names or "1,0").split(",")]
    if len(pair) != 2 or not all(pair) or pair[0] == pair[1]:
        raise click.UsageError(f"--names {names}: is two labels, such as hq,lq")
    return [Files(tuple(positives), pair[0], "positive"), Files(tuple(negatives), pair[1], "negative")], (
        pair[0],
        pair[1],
    )


def held_out_share(given: str) -> float:
    from ...stages._units import share

    found = share(given)
    if found > MOST_HELD_OUT:
        raise click.UsageError(
            f"--test-share {given}: leaves too little to train on; at most {100 * MOST_HELD_OUT:.0f}%"
        )
    return found


def _cap(given: str) -> Cap:
    if given == "none":
        return None
    if given == "down":
        return "down"
    word, equals, number = given.partition("=")
    if word == "cap" and equals and number.isascii() and number.isdecimal() and int(number):
        return int(number)
    raise click.UsageError(
        f"--balance {given}: is none, down, or cap=N with the most texts of a label, such as cap=10000"
    )


def _probe(
    patterns: Sequence[str],
    text: str,
    label: str | None,
    column: str | None,
    file: str | None,
    positive: str | None,
    labels: Sequence[str],
) -> Probe:
    from ...stages.errors import RecipeError
    from .labelled import Files, read_labelled
    from .probe import make_probe, read_terms

    if positive is None:
        raise RecipeError(f"--probe: of which label? Name one with --positive-label: {', '.join(sorted(labels)[:20])}")
    if column and file:
        raise click.UsageError("--probe-column and --probe-terms are two ways to name the terms: take one")
    harmless = next((one for one in labels if one != positive), "")
    found = read_labelled(
        [Files(tuple(patterns), None if label else harmless)],
        text=text,
        label=label,
        columns=[column] if column else [],
    )
    return make_probe(found, positive, labels, column, read_terms(file) if file else None)
