"""`tamis clean`"""

from __future__ import annotations

import click


@click.command()
@click.argument("output", required=False)
@click.option("--work", is_flag=True, help="All work of this output, not only what is no longer used.")
@click.option("--orphans", is_flag=True, help="Also what no recorded run uses.")
@click.option("--cache", is_flag=True, help="Compiled kernels of other versions; needs no OUTPUT.")
@click.option("--yes", is_flag=True, help="Remove it. Without this nothing is removed.")
def command(output: str | None, work: bool, orphans: bool, cache: bool, yes: bool) -> None:
    """Show what lies in an output's work folder that nobody needs, and remove it with --yes.

    By default: work of earlier recipes, and what killed work left. What another output's run uses is never touched.

    Example: tamis clean out/quickstart
    """
    from ..clean import clean, clean_caches

    if (output is None) != cache:
        raise click.UsageError("give an OUTPUT, or --cache")
    if cache and (work or orphans):
        raise click.UsageError("--work and --orphans are for an OUTPUT")
    click.echo(
        clean_caches(yes=yes) if output is None else clean(output, work=work, orphans=orphans, yes=yes), nl=False
    )
