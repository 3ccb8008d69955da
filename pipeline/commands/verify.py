"""`tamis verify`"""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("output")
def command(output: str) -> None:
    """Re-check every hash of an output and the sum of its ledger; exit 1 and a list where something is off.

    Example: tamis verify out/quickstart
    """
    from ..verify import verify

    report = verify(output)
    click.echo(report.text, nl=False)
    sys.exit(0 if report.ok else 1)
