"""`tamis plan`"""

from __future__ import annotations

from collections.abc import Sequence

import click

from ._options import recipe_options


@click.command()
@click.argument("recipe")
@click.option("--resolved", is_flag=True, help="Print the recipe as it will run.")
@recipe_options
def command(recipe: str, resolved: bool, inputs: Sequence[str], output: str | None, settings: Sequence[str]) -> None:
    """Check a recipe and print what it would do; starts nothing.

    Example: tamis plan configs/quickstart.yaml
    """
    from ..recipe import load_recipe
    from ..show_plan import plan_text, resolved_text

    loaded = load_recipe(recipe, settings=settings, input=inputs, output=output)
    click.echo(resolved_text(loaded) if resolved else plan_text(loaded), nl=False)
