"""`tamis show`"""

from __future__ import annotations

import click


@click.command()
@click.argument("output")
@click.option("--where", metavar="SQL", help="Only documents for which this is true of their ledger row.")
@click.option("-n", "most", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--by", metavar="COLUMN", help="In the order of a column, or SQL; `COLUMN desc` for the largest first.")
@click.option("--sample", is_flag=True, help="At random over all of them, the same ones every time.")
@click.option(
    "--near", metavar="NAME", help="The nearest on each side of a threshold: a rule, or one of its parameters."
)
@click.option("--set-name", "written", metavar="SET", help="Only documents that this written set holds.")
@click.option("--columns", metavar="A,B", help="Show the values of these ledger columns; all: every measured one.")
@click.option("--chars", type=click.IntRange(min=0), default=1500, show_default=True, help="Characters of each text.")
@click.option("--diff", is_flag=True, help="Instead of the text, what each edit changed in it.")
def command(
    output: str,
    where: str | None,
    most: int,
    by: str | None,
    sample: bool,
    near: str | None,
    written: str | None,
    columns: str | None,
    chars: int,
    diff: bool,
) -> None:
    """Documents of a finished run, with their text and values, kept and dropped ones alike.

    Example: tamis show out/quickstart --where "words < 60" --sample -n 3
    """
    from ..show_documents import Choice, shown

    if by and sample:
        raise click.UsageError("--by and --sample are two orders: take one")
    names = tuple(name.strip() for name in columns.split(",")) if columns else ()
    choice = Choice(where, by, sample, near, written, most, names, chars, diff)
    for line in shown(output, choice):
        click.echo(line)
