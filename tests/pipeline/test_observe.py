"""An observing run drops nothing and decides as a normal run does, document by document, resolve stages included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runs

from tamis.pipeline.driver import run
from tamis.pipeline.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT.parent / "shared" / "data" / "web"
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))

# Every kind of fate after every kind of stage: rules that quarantine, tags, `where`, a resolve stage between.
STAGES: list[dict[str, Any]] = [
    *runs.STAGES[:4],
    {"use": "url_tags", "name": "again", "where": "chars > 900"},
    {"use": "rules", "name": "site", "rules": {"odd": "again_path_depth < $most"}, "params": {"most": 1}},
    {"use": "exact_dedup", "name": "tagged", "action": "tag", "where": "source <> 'source-1'"},
    *runs.STAGES[4:],
    {"use": "rules", "name": "last", "rules": {"long": "chars >= 400", "first": "tagged_pass OR words > 200"}},
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Outputs of the same recipe over the same corpus: normal, observing."""
    folder = tmp_path_factory.mktemp("observe")
    corpus = runs.write_corpus(folder / "corpus")
    recipe = runs.write_recipe(folder / "recipe.yaml", corpus, folder / "normal", stages=STAGES, max_bad="100%")
    run(load_recipe(recipe))
    run(load_recipe(recipe, output=str(folder / "observing"), settings=["observe=true"]))
    return folder / "normal", folder / "observing"


def differing(normal: Path, observing: Path) -> int:
    """Documents whose fate differs, those that only one of the ledgers has among them."""
    found = runs.query(
        f"""SELECT count(*) FROM '{normal}/ledger/*.parquet' a FULL JOIN '{observing}/ledger/*.parquet' b
        USING (source_file, source_row) WHERE a.decision IS DISTINCT FROM b.decision OR a.stage IS DISTINCT FROM b.stage
        OR a.rule IS DISTINCT FROM b.rule OR a.reason IS DISTINCT FROM b.reason"""
    )
    return found[0][0]
