"""The alarms of a run in words: a cluster that grew too large, a group that lost too much.

Invariant: an alarm is a fact that a resolve stage froze in the manifest; nothing is judged again here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .output import Output
from .terminal import plural, value, visible

SHOWN = 10  # of a stage


def alarms(output: Output) -> list[str]:
    """One line each, in the order of the stages; empty where all is well."""
    return [line for stage in output.stages for line in _of_stage(output, stage["name"])]


def _of_stage(output: Output, stage: str) -> Iterator[str]:
    facts = output.manifest["facts"].get(stage, {})
    raised = facts.get("alarms", ())
    for alarm in raised[:SHOWN]:
        yield f"{stage}: {_words(alarm)}"
    if len(raised) > SHOWN:
        yield f"{stage}: and {plural(len(raised) - SHOWN, 'more alarm')}; the facts in manifest.json have them"


def _words(alarm: Mapping[str, Any]) -> str:
    kind = alarm.get("kind")
    if kind == "cluster":
        documents = plural(alarm["documents"], "document")
        most = f" ({alarm['most']:,})" if "most" in alarm else ""
        return f"a cluster of {documents}, over max_cluster{most}; first {visible(str(alarm['doc_id']))}"
    if kind == "loss":
        group = f"{alarm['column']} = {value(alarm['value'])}"
        return f"{group} lost {alarm['lost']:,} of {plural(alarm['documents'], 'document')}"
    return ", ".join(f"{visible(name)} = {value(found)}" for name, found in alarm.items())  # of a stage of one's own
