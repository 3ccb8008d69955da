"""The page put together: what the ledger tells, the figures, the template, and a policy that forbids all else.

Invariant: the page holds all that it shows and asks for nothing. Only scripts whose hashes its policy names run; they are
this folder's page.js and the bundled plotly.js, and the data beside them is JSON, which no browser runs.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from ...stages.errors import SetupError
from ..alarms import alarms
from ..located import yaml_text
from ..output import Output
from ..silence import suspicions
from ..terminal import seconds, size, visible
from ..tokens import counted_tokens
from . import charts
from .bias import biases, classifier_columns
from .cuts import cut_stages
from .distributions import Histogram, TopValues, columns_to_show, distributions
from .duplicates import duplicates, passages
from .examples import examples
from .funnel import Fates, group_columns, groups, rule_lines, stage_lines
from .markup import inline, lines, script_json
from .numbers import percent, short
from .rows import observing, open_rows
from .sections import edits, quarantine
from .texts import CHARACTERS, heads
from .thresholds import thresholds

HERE = Path(__file__).parent
FILES_SHOWN = 30


def render_report(output: Output) -> bytes:
    """The page as UTF-8. A second or two for a corpus of a laptop; see `rows.MOST` and `texts.BUDGET` for larger ones."""
    return render_template("page.html.jinja", _content(output))


def _content(output: Output) -> dict[str, Any]:
    """Everything that the template shows, by name."""
    manifest = output.manifest
    fates = Fates(output)
    stages = stage_lines(output, fates)
    rules = rule_lines(output, fates, stages)
    by = [groups(output, column) for column in group_columns(output)]
    cuts = thresholds(output)
    columns = columns_to_show(output, cuts)
    rows = open_rows(
        output, [*(column.name for column in columns), *group_columns(output), *classifier_columns(output)]
    )
    spreads = list(distributions(rows, columns))
    near = examples(rows, cuts)
    dedups = duplicates(output)
    wanted = [row for example in near for side in (example.asked, example.other) for row in side.nearest]
    wanted += [row for found in dedups for row in found.shown]
    figures, ids = _figures(stages, rules, by, spreads, dedups)
    return {
        "manifest": manifest,
        "counts": {"outside_sample": 0, **manifest["counts"]},
        "folder": output.name,
        "recipe": manifest["recipe"],
        "recipe_text": yaml_text(manifest["recipe"]),
        "observing": observing(output),
        "stages": stages,
        "tokens": counted_tokens(output),
        "unread": fates.count(decision="quarantine", stage=None),
        "rows_in_ledger": fates.count(),
        "rules": rules,
        "resolves": any(line.kind == "resolve" for line in stages),
        "by": by,
        "rows": rows,
        "read": [spread for spread in spreads if spread.column.read],
        "unread_columns": _by_stage([spread for spread in spreads if not spread.column.read]),
        "examples": near,
        "anchors": {example.threshold: f"near-{i}" for i, example in enumerate(near)},
        "texts": heads(output, wanted),
        "characters": CHARACTERS,
        "edits": edits(output, stages),
        "quarantine": quarantine(output),
        "alarms": alarms(output),
        "silences": suspicions(output),
        "biases": biases(rows),
        "cuts": cut_stages(output),
        "duplicates": dedups,
        "passages": passages(output),
        "total_seconds": sum(line.seconds for line in stages),
        "noted": [file for file in manifest["input"] if file["note"]][:FILES_SHOWN],
        "charts": ids,
        "heights": {figure["id"]: figure["layout"]["height"] for figure in figures},
        "figures": script_json(figures),
    }


def _by_stage(spreads: Sequence[Histogram | TopValues]) -> dict[str, list[Histogram | TopValues]]:
    found: dict[str, list[Histogram | TopValues]] = {}
    for spread in spreads:
        found.setdefault(spread.column.stage, []).append(spread)
    return found


def _figures(
    stages: Any, rules: Any, by: Any, spreads: Sequence[Histogram | TopValues], dedups: Any
) -> tuple[list[charts.Figure], dict[str, str]]:
    """The figures, and by what they show the id of each that there is."""
    found = {
        "funnel": charts.funnel(stages) if stages and stages[0].came else None,
        "rules": charts.rules(rules),
        "times": charts.times(stages),
    }
    found |= {f"by/{one.column}": charts.group_shares(one) for one in by}
    for i, one in enumerate(dedups):
        found[f"clusters/{one.stage}"] = charts.clusters(one, f"clusters-{i}")
        found[f"similarity/{one.stage}"] = charts.similarities(one, f"similarity-{i}")
    for i, spread in enumerate(spreads):
        name = f"values-{i}"
        if isinstance(spread, TopValues):
            found[f"values/{spread.column.name}"] = charts.top_values(spread, name)
        else:
            found[f"values/{spread.column.name}"] = charts.histogram(spread, name)
    figures = [figure for figure in found.values() if figure is not None]
    for i, figure in enumerate(figures):
        figure["id"] = f"chart-{i}"
    return figures, {what: figure["id"] for what, figure in found.items() if figure is not None}


# --- the template -------------------------------------------------------------------------------------------------


def render_template(name: str, content: Mapping[str, Any], *more: Path) -> bytes:
    """A page of this style as UTF-8: the template `name` of this folder or the folders `more`, whose body begins with a
    <nav> and ends with the element `figures` and `scripts`, as page.html.jinja has them."""
    texts = {path.name: path.read_text("utf-8") for folder in (HERE, *more) for path in folder.glob("*.html.jinja")}
    environment = Environment(
        loader=DictLoader(texts), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "inline": inline,
        "lines": lines,
        "short": short,
        "count": lambda n: f"{n:,}",
        "size": size,
        "seconds": seconds,
        "plain": lambda text: visible(str(text)),
    }
    environment.globals |= {"percent": percent, "kind": _kind}
    scripts = [_plotly(), (HERE / "page.js").read_text("utf-8")]
    page = environment.get_template(name).render(
        **content,
        style=Markup((HERE / "page.css").read_text("utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
    )
    return page.encode("utf-8", "backslashreplace")


def _plotly() -> str:
    """plotly.min.js as the plotly package carries it; the package itself is slow to import, and is not."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise SetupError("the report needs plotly: pip install plotly")
    path = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return path.read_text("utf-8")


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _kind(spread: Histogram | TopValues) -> str:
    return "histogram" if isinstance(spread, Histogram) else "values"
