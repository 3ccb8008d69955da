"""`tamis status`"""

from __future__ import annotations

import click


@click.command()
@click.argument("output")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def command(output: str, as_json: bool) -> None:
    """How far a run is, from any machine and while it goes: its steps, its pace, who holds it, what failed.

    Example: tamis status out/quickstart
    """
    from ..status import status, status_text

    found = status(output)
    click.echo(found.to_json() + "\n" if as_json else status_text(found), nl=False)
