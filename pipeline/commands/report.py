"""`tamis report`"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("output")
@click.option("--to", metavar="FILE", help="Render the page again, with this version of Tamis, and write it here.")
def command(output: str, to: str | None) -> None:
    """Say where a run's report page is, or render it again.

    Example: tamis report out/quickstart --to report.html
    """
    from ..report.render import existing_page, write_page

    click.echo(existing_page(output) if to is None else write_page(output, Path(to)))
