"""What the columns mean that every run has; for `tamis list`, `tamis sql` and the data set card.

Invariant: one definition for one name; measured columns are defined by their stages.
"""

from __future__ import annotations

WHO = {
    "doc_id": "label of the document: the input's id, else file#row; may repeat",
    "source_file": "input file, below the root of its source; with several sources their name in front",
    "source_row": "row in that file, from 0; in JSON Lines the line, from 0",
    "source_hash": "xxh3-128 of the original text's bytes",
    "url": "from the input",
    "date": "from the input",
}
FATE = {
    "bytes_read": "bytes of the text as it was read",
    "chars_read": "code points of the text as it was read",
    "bytes_written": "bytes of the text as it was kept; null where it was not",
    "chars_written": "code points of the text as it was kept",
    "decision": "keep, drop or quarantine",
    "stage": "the stage that decided; null where kept",
    "rule": "the first rule that failed",
    "failed": "all rules of that stage that failed; in an observing run those of all stages",
    "reason": "why the document was set aside",
    "out_file": "the file in data/ that holds it",
    "out_row": "its row there, from 0",
}
ORIGIN = {
    "origin_file": "input file of the first of the runs that the document came through",
    "origin_row": "row in that file",
    "origin_hash": "xxh3-128 of the text that the first of these runs read",
    "via": "name of the run that the document came through before",
}
