"""`tamis doctor`"""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("place", required=False, metavar="[OUTPUT|URL]")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(place: str | None, as_json: bool) -> None:
    """Look whether Tamis works on this machine, and where an output is to be; exit 1 if something fails.

    Example: tamis doctor

    Example: tamis doctor out/quickstart
    """
    from ..doctor import as_json as findings
    from ..doctor import conclusion, diagnose, sound

    checks = []
    for check in diagnose(place):
        checks.append(check)
        if not as_json:
            click.echo("\n".join(check.lines))
    click.echo(findings(checks) if as_json else conclusion(checks))
    sys.exit(0 if sound(checks) else 1)
