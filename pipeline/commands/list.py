"""`tamis list`"""

from __future__ import annotations

import click


@click.command()
@click.argument("what", required=False, type=click.Choice(["stages", "signals", "presets", "columns"]))
@click.argument("names", nargs=-1, metavar="[RECIPE] [NAME]")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a recipe, for editors.")
def command(what: str | None, names: tuple[str, ...], schema: bool) -> None:
    """What can be written in a recipe, with defaults, units and definitions; NAME or a part of it chooses.

    \b
    Example: tamis list stages
    Example: tamis list stages exact_dedup
    Example: tamis list presets gopher_quality
    Example: tamis list columns configs/quickstart.yaml
    Example: tamis list --schema

    Editors that know the YAML language server check recipes as you type after `tamis list --schema >
    tamis.schema.json`, with `# yaml-language-server: $schema=tamis.schema.json` as the first line of the recipe.
    """
    import json

    from .. import catalogue
    from ..recipe import load_recipe
    from ..recipe_schema import recipe_schema

    recipe = what == "columns"
    if len(names) > 1 + recipe or (names and what is None):
        raise click.UsageError(f"too many names: {' '.join(names)}")
    if recipe and not names:
        raise click.UsageError("columns of which recipe? tamis list columns RECIPE")
    name = names[recipe] if len(names) > recipe else None
    if schema:
        text = json.dumps(recipe_schema(), indent=2) + "\n"
    elif what is None:
        text = catalogue.overview()
    elif what == "columns":
        text = catalogue.columns_text(load_recipe(names[0]), name)
    else:
        text = {
            "stages": catalogue.stages_text,
            "signals": catalogue.signals_text,
            "presets": catalogue.presets_text,
        }[what](name)
    click.echo(text, nl=False)
