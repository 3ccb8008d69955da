"""`tamis sweep`"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("output")
@click.option("--column", required=True, metavar="C", help="The score: any numeric column of the ledger.")
@click.option("--cuts", metavar="A,B", help="Numbers of the column.")
@click.option(
    "--shares", metavar="10%,50%", help="Parts of the documents that the better side keeps, instead or besides."
)
@click.option("--side", type=click.Choice(["top", "bottom"]), default="top", show_default=True, help="Better numbers.")
@click.option("--where", metavar="SQL", help="Only documents for which this is true of their ledger row.")
@click.option(
    "--by", metavar="COLUMN", help="Groups to tell apart (default: domain, source or lang, what there is first)."
)
@click.option("--most", type=click.IntRange(min=1), default=20, show_default=True, help="Groups in the files.")
@click.option(
    "--features", metavar="A,B", help="Columns to compare, kept against dropped (default: all measured ones)."
)
@click.option("--csv", "csv_file", metavar="FILE", help="Write every figure there, a row each.")
@click.option("--json", "json_file", metavar="FILE", help="The same as JSON.")
@click.option("--html", "html_file", metavar="FILE", help="A page with plots.")
def command(
    output: str,
    column: str,
    cuts: str | None,
    shares: str | None,
    side: str,
    where: str | None,
    by: str | None,
    most: int,
    features: str | None,
    csv_file: str | None,
    json_file: str | None,
    html_file: str | None,
) -> None:
    """What many cuts of one score, and their inverses, would keep: of all, of every group, and how features change.

    Example: tamis sweep out/quickstart --column words --shares 10%,50%
    """
    from ...stages._units import share
    from ..output import Output
    from ..sweep import Question, as_csv, as_json, sweep, told

    question = Question(
        column,
        tuple(_number(part) for part in _parts(cuts)),
        tuple(share(part) for part in _parts(shares)),
        side,  # type: ignore[arg-type]
        where,
        by,
        most,
        None if features is None else tuple(_parts(features)),
    )
    found = sweep(Output(output), question)
    for line in told(found):
        click.echo(line)
    for path, write in ((csv_file, as_csv), (json_file, as_json)):
        if path is not None:
            Path(path).write_text(write(found), encoding="utf-8")
    if html_file is not None:
        from ..sweep_plot import as_html

        Path(html_file).write_text(as_html(found), encoding="utf-8")


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text} is no number", param_hint="--cuts") from None
