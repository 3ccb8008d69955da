"""`tamis run`"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ._options import recipe_options


@click.command()
@click.argument("recipe")
@click.option(
    "--executor",
    type=click.Choice(["inline", "ray"]),
    default="inline",
    show_default=True,
    help="In this process, or on Ray: the cluster at RAY_ADDRESS, else this machine.",
)
@click.option("--workers", type=click.IntRange(min=1), help="CPUs to use under Ray (default: all).")
@click.option("--observe", is_flag=True, help="Measure and decide everything, drop and write nothing but the ledger.")
@click.option("--sample", "share", metavar="SHARE", help="Only documents whose draw is below this share: 0.1%.")
@click.option("--units", type=click.IntRange(min=1), metavar="N", help="Only N units, spread evenly over the input.")
@click.option("--until", metavar="STAGE", help="Stop when the step that holds this stage is done; run again to go on.")
@click.option("--replace", is_flag=True, help="Build beside a finished result, then put it in its place.")
@recipe_options
def command(
    recipe: str,
    executor: str,
    workers: int | None,
    observe: bool,
    share: str | None,
    units: int | None,
    until: str | None,
    replace: bool,
    inputs: Sequence[str],
    output: str | None,
    settings: Sequence[str],
) -> None:
    """Run a recipe, or continue a run that was stopped or killed.

    Example: tamis run configs/quickstart.yaml
    """
    from ..display import Display
    from ..driver import run as run_recipe
    from ..output import Output
    from ..recipe import load_recipe
    from ..silence import silences
    from ..story import summary, unfinished_summary

    settings = [*settings, *(["observe=true"] if observe else []), *([f"sample={share}"] if share else [])]
    settings += [f"units={units}"] if units else []
    loaded = load_recipe(recipe, settings=settings, input=inputs, output=output)
    result = run_recipe(
        loaded,
        executor=executor,  # type: ignore[arg-type]
        workers=workers,
        progress=Display(),
        until=until,
        replace=replace,
    )
    if not result.manifest:
        click.echo(unfinished_summary(result), nl=False)
        return
    click.echo(summary(result), nl=False)
    if loaded.strict and silences(Output(result.output)):
        click.echo("tamis: strict: the list of what is silent or suspicious is not empty", err=True)
        sys.exit(1)
