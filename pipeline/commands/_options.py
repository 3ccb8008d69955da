"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def recipe_options(command: Function) -> Function:
    """--input, --output and --set, which change a recipe from the command line; as inputs, output, settings."""
    for option in (
        click.option(
            "--input", "inputs", multiple=True, metavar="GLOB", help="Read these files instead of the recipe's."
        ),
        click.option("--output", metavar="DIR", help="Write here instead of the recipe's output."),
        click.option(
            "--set", "settings", multiple=True, metavar="NAME.key=value", help="Change a stage's or the recipe's key."
        ),
    ):
        command = option(command)
    return command
