"""The command line: one entry point, `tamis`. A command is a file of commands/; each imports what it needs only when it
runs, so that `--help` is quick.

Exit codes: 0 done, 1 the run or check failed, 2 the recipe or the arguments are wrong, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Any

import click

from ..stages.errors import TamisError
from . import commands


class Commands(click.Group):
    """Finds commands by file name (`try_.py` is `try`), and turns Tamis's errors into one message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
        return sorted(name.rstrip("_") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        files = {module.name.rstrip("_"): module.name for module in pkgutil.iter_modules(commands.__path__)}
        command: click.Command = importlib.import_module(f"{commands.__name__}.{files[cmd_name]}").command
        command.name = cmd_name
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **kwargs))
        except TamisError as error:
            from .terminal import visible

            # a message may quote a document's id or a file's name, which are not ours
            told = "\n".join(visible(line) for line in str(error).split("\n"))
            click.echo(f"tamis: {type(error).__name__}: {told}", err=True)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("tamis: stopped; the same command continues where it was", err=True)
            sys.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tamis")
def main() -> None:
    """Sifts raw text shards into a corpus that a language model can be pretrained on."""


if __name__ == "__main__":
    main()
