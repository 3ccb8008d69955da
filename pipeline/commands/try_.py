"""`tamis try`"""

from __future__ import annotations

from collections.abc import Sequence

import click


@click.command()
@click.argument("recipe")
@click.argument("file", required=False)
@click.option("--doc", "key", metavar="ID", help="A document of the recipe's input: doc_id, file#row or URL.")
@click.option(
    "--column", "columns", multiple=True, metavar="NAME=VALUE", help="A column of the FILE's document: url=https://..."
)
@click.option("--input", "inputs", multiple=True, metavar="GLOB", help="Read these files instead of the recipe's.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME.key=value", help="Change a stage's or the recipe's key."
)
def command(
    recipe: str,
    file: str | None,
    key: str | None,
    columns: Sequence[str],
    inputs: Sequence[str],
    settings: Sequence[str],
) -> None:
    """One document through a recipe: its text before and after each edit, every value beside its threshold, its fate.
    Writes nothing. FILE holds plain text; - is standard input.

    Example: tamis try configs/quickstart.yaml README.md
    """
    from pathlib import Path

    from ..recipe import load_recipe
    from ..try_document import try_document
    from ..try_source import found_document, given_text, input_plan
    from ..try_text import trial_text

    if (file is None) == (key is None):
        raise click.UsageError("give a FILE of plain text, - for standard input, or --doc ID")
    if key is not None and columns:
        raise click.UsageError("--column is for a FILE; the document of --doc has its own columns")
    loaded = load_recipe(recipe, settings=settings, input=inputs)
    if key is not None:
        document = found_document(input_plan(loaded), key, lambda line: click.echo(line, err=True))
    else:
        assert file is not None
        pairs = dict(_pair(column) for column in columns)
        try:
            with click.open_file(file, "rb") as stream:
                text = stream.read()
        except OSError as error:
            raise click.UsageError(f"{file}: cannot be read: {error.strerror}") from error
        document = given_text(loaded, "stdin" if file == "-" else Path(file).name, text, pairs)
    click.echo(trial_text(try_document(document)), nl=False)


def _pair(column: str) -> tuple[str, str]:
    name, equals, value = column.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--column {column}: write NAME=VALUE")
    return name, value
