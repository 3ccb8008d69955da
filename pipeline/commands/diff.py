"""`tamis diff`"""

from __future__ import annotations

import click


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--by",
    type=click.Choice(["place", "text"]),
    help="What makes two documents the same: file and row, or the original text. By default place where the inputs have a "
    "file in common, else text.",
)
@click.option("-n", "most", type=click.IntRange(min=0), default=3, show_default=True, help="Samples of each side.")
@click.option("--chars", type=click.IntRange(min=0), default=200, show_default=True, help="Characters of each text.")
@click.option("--to", metavar="FILE", help="Write every document that entered or left there: .parquet or .csv.")
def command(old: str, new: str, by: str | None, most: int, chars: int, to: str | None) -> None:
    """Which documents entered and left between two finished runs, by which rule, with samples.

    Example: tamis diff out/quickstart out/quickstart
    """
    from ..diff import Difference, told

    difference = Difference.open(old, new, by)  # type: ignore[arg-type]
    for line in told(difference, most, chars):
        click.echo(line)
    if to is not None:
        click.echo(f"\n{difference.write(to):,} documents that entered or left: {to}")
