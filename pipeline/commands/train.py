"""`tamis train`: its subcommands are `pipeline/training/command_*.py`."""

from __future__ import annotations

import importlib
import pkgutil

import click

from .. import training

PREFIX = "command_"


class Trainings(click.Group):
    """Finds subcommands by file name; each imports what it needs only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = [module.name for module in pkgutil.iter_modules(training.__path__)]
        return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = importlib.import_module(f"{training.__name__}.{PREFIX}{cmd_name}").command
        found.name = cmd_name
        return found


@click.group(cls=Trainings)
def command() -> None:
    """Trains a model from labelled documents, or from documents with losses, and writes its card."""
