"""The command line: one entry point, `tamis`. Each command imports what it needs, so that `--help` is quick.

Exit codes: 0 done, 1 the run or check failed, 2 the recipe or the arguments are wrong, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from ..stages.errors import TamisError


class Commands(click.Group):
    """Turns Tamis's errors into one message and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            sys.exit(super().main(*args, **kwargs))
        except TamisError as error:
            click.echo(f"tamis: {type(error).__name__}: {error}", err=True)
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


@main.command()
@click.argument("directory")
def sample(directory: str) -> None:
    """Build a small real corpus from what is installed on this machine.

    Example: tamis sample data/sample
    """
    from .sample import build_sample

    click.echo(str(build_sample(directory)))


def _recipe_options(command: click.Command) -> click.Command:
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


@main.command()
@click.argument("recipe")
@click.option("--resolved", is_flag=True, help="Print the recipe as it will run.")
@_recipe_options  # type: ignore[arg-type]
def plan(recipe: str, resolved: bool, inputs: Sequence[str], output: str | None, settings: Sequence[str]) -> None:
    """Check a recipe and print what it would do; starts nothing.

    Example: tamis plan configs/fineweb.yaml --input 'data/web/*.parquet'
    """
    from .recipe import load_recipe
    from .show_plan import plan_text, resolved_text

    loaded = load_recipe(recipe, settings=settings, input=inputs, output=output)
    click.echo(resolved_text(loaded) if resolved else plan_text(loaded), nl=False)


@main.command()
@click.argument("recipe")
@click.option("--executor", type=click.Choice(["inline", "ray"]), default="inline", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="CPUs to use under Ray (default: all).")
@_recipe_options  # type: ignore[arg-type]
def run(
    recipe: str, executor: str, workers: int | None, inputs: Sequence[str], output: str | None, settings: Sequence[str]
) -> None:
    """Run a recipe, or continue a run that was stopped or killed.

    Example: tamis run configs/quickstart.yaml
    """
    from .display import Display
    from .driver import run as run_recipe
    from .output import Output
    from .recipe import load_recipe
    from .silence import silences
    from .story import summary

    loaded = load_recipe(recipe, settings=settings, input=inputs, output=output)
    result = run_recipe(loaded, executor=executor, workers=workers, progress=Display())  # type: ignore[arg-type]
    click.echo(summary(result), nl=False)
    if loaded.strict and silences(Output(result.output)):
        click.echo("tamis: strict: the list of what is silent or suspicious is not empty", err=True)
        sys.exit(1)


@main.command()
@click.argument("output")
@click.argument("key", required=False)
@click.option("--text", "phrase", help="Find the documents whose text holds this phrase.")
def why(output: str, key: str | None, phrase: str | None) -> None:
    """Tell a document's whole story. KEY: doc_id, file#row, URL or source_hash.

    Example: tamis why out/quickstart part-00000.parquet#12
    """
    from .why import story

    if (key is None) == (phrase is None):
        raise click.UsageError("give a KEY or --text 'a phrase'")
    click.echo(story(output, key=key, phrase=phrase), nl=False)


@main.command()
@click.argument("output")
def verify(output: str) -> None:
    """Re-check every hash of an output and the sum of its ledger; exit 1 and a list where something is off.

    Example: tamis verify out/quickstart
    """
    from .verify import verify as check

    report = check(output)
    click.echo(report.text, nl=False)
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
