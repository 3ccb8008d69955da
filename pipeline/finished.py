"""A finished output as its manifest tells it.

Invariant: the manifest is written last, so its presence means finished.
"""

from __future__ import annotations

import json
from typing import Any

from ..stages.errors import RecipeError, did_you_mean
from .replace import settle
from .storage import Storage, storage_at

MANIFEST, CHECKSUMS = "manifest.json", "checksums.txt"


def read_manifest(storage: Storage) -> dict[str, Any] | None:
    """The manifest of a finished run, or None; {} where it cannot be parsed. Completes a replacement that was killed."""
    settle(storage)
    try:
        found = json.loads(storage.read(MANIFEST))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def output_identity(output: str) -> str:
    """What changes when an output changes: the last line of its checksums. RecipeError where it is not finished."""
    storage = storage_at(output)
    if not read_manifest(storage):
        raise RecipeError(f"{output}: is no finished output of Tamis (it has no manifest.json)")
    return storage.read(CHECKSUMS).decode().splitlines()[-1]


def frozen_facts(output: str, stage: str) -> dict[str, Any]:
    """What a stage of a finished run froze in its manifest. RecipeError where the run or the stage is not there."""
    manifest = read_manifest(storage_at(output))
    if not manifest:
        raise RecipeError(f"{output}: is no finished output of Tamis (it has no manifest.json)")
    facts = manifest["facts"]
    if stage not in facts:
        raise RecipeError(f"{output}: it has no stage {stage} that froze anything.{did_you_mean(stage, facts)}")
    return facts[stage]
