"""`tamis why`"""

from __future__ import annotations

import click


@click.command()
@click.argument("output")
@click.argument("key", required=False)
@click.option("--text", "phrase", help="Find the documents whose text holds this phrase.")
def command(output: str, key: str | None, phrase: str | None) -> None:
    """Tell a document's whole story. KEY: doc_id, file#row, URL or source_hash.

    The story goes on in the runs of Tamis whose outputs this one read; KEY may also be what a document was called there.

    Example: tamis why out/quickstart sample-00000.parquet#12
    """
    from ..why import story

    if (key is None) == (phrase is None):
        raise click.UsageError("give a KEY or --text 'a phrase'")
    click.echo(story(output, key=key, phrase=phrase), nl=False)
