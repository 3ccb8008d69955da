"""`tamis plan`"""

from __future__ import annotations

from collections.abc import Sequence

import click

from ._options import recipe_options


@click.command()
@click.argument("recipe")
@click.option("--resolved", is_flag=True, help="Print the recipe as it will run.")
@click.option(
    "--from",
    "earlier",
    metavar="OUTPUT",
    help="Estimate hours, bytes and disk from a finished run, such as a 1 % sample.",
)
@click.option(
    "--times", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Estimate for so many times the input."
)
@click.option("--workers", type=click.IntRange(min=1), help="Estimate the time with so many workers.")
@click.option("--price", metavar="cpu=X,gpu=Y,disk=Z", help="Estimate the money: per CPU hour, GPU hour, TB and month.")
@click.option("--json", "as_json", is_flag=True, help="Print the estimate as JSON.")
@recipe_options
def command(
    recipe: str,
    resolved: bool,
    earlier: str | None,
    times: float,
    workers: int | None,
    price: str | None,
    as_json: bool,
    inputs: Sequence[str],
    output: str | None,
    settings: Sequence[str],
) -> None:
    """Check a recipe and print what it would do, and what that would cost; starts nothing.

    Example: tamis plan configs/quickstart.yaml

    Example: tamis plan configs/quickstart.yaml --from out/quickstart --times 1000 --workers 64 --price cpu=0.03
    """
    from ..recipe import load_recipe
    from ..show_plan import plan_text, planned, resolved_text

    if not earlier and (times != 1 or workers or price or as_json):
        raise click.UsageError("--times, --workers, --price and --json belong to an estimate: add --from OUTPUT")
    loaded = load_recipe(recipe, settings=settings, input=inputs, output=output)
    if resolved:
        click.echo(resolved_text(loaded), nl=False)
        return
    plan = planned(loaded)
    if not as_json:
        click.echo(plan_text(plan), nl=False)
    if earlier:
        from ..estimate import estimate
        from ..output import Output
        from ..show_estimate import estimate_json, estimate_text, parse_prices

        run, prices = Output(earlier), parse_prices(price)
        found = estimate(plan, run, times)
        if as_json:
            click.echo(estimate_json(found, prices), nl=False)
        else:
            text = estimate_text(found, plan, run, times=times, workers=workers, prices=prices)
            click.echo(text, nl=False)
