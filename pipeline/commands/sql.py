"""`tamis sql`"""

from __future__ import annotations

from collections.abc import Sequence

import click


@click.command()
@click.argument("outputs", nargs=-1, required=True, metavar='OUTPUT... ["SELECT ..."]')
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json", "parquet"]), help="json: an object a line."
)
@click.option("--to", metavar="FILE", help="Write every row there, in the format of its name.")
@click.option("--rows", type=click.IntRange(min=1), default=40, show_default=True, help="Of a table on the screen.")
def command(outputs: Sequence[str], form: str | None, to: str | None, rows: int) -> None:
    """Ask outputs anything in SQL: the views are ledger, data, quarantine, quarantine_files. Without a query it comes
    from standard input, or the views and their columns are listed.

    Example: tamis sql out/quickstart "FROM ledger WHERE words < 60 LIMIT 3"
    """
    import shutil
    import sys

    from ..query import Query
    from ..query_formats import format_of, safe_for, table, texts, write

    folders, text = _split(outputs)
    if not folders:
        raise click.UsageError(f"name an output before the query: tamis sql OUTPUT {text!r}")
    chosen = format_of(form, to)  # type: ignore[arg-type]
    query = Query(folders)
    if text is None:
        text = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    if not text:
        if form or to:
            raise click.UsageError("--format and --to need a query")
        click.echo(query.describe(), nl=False)
        return
    relation = query.relation(text)
    with query.errors(text):
        if to is not None:
            write(relation, chosen, to)
            return
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
        for line in table(relation, rows, width) if chosen == "table" else texts(relation, chosen):
            click.echo(safe_for(sys.stdout, line))


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """The folders, and the query: the last argument, if it has white space and is no folder."""
    from ..storage import storage_at

    *before, last = arguments
    if len(last.split()) > 1 and not storage_at(last).exists("manifest.json"):
        return before, last
    return arguments, None
