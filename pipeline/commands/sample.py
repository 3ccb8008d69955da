"""`tamis sample`"""

from __future__ import annotations

import click


@click.command()
@click.argument("directory")
def command(directory: str) -> None:
    """Build a small real corpus from what is installed on this machine.

    Example: tamis sample data/sample
    """
    from ..sample import build_sample

    click.echo(str(build_sample(directory)))
