"""README.md of an output: a data set card in the form of the Hugging Face Hub, from the manifest, the ledger and data/.

Invariant: the same output gives the same bytes (no clock, no seconds); every figure is the manifest's or a query over
the ledger; whatever came from documents, files or recipes is shown as itself and never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .card_header import Part, data_files, header, parts
from .definitions import ORIGIN, WHO
from .located import yaml_text
from .markdown import block, code, plain, table, values
from .output import Output, quoted_name
from .terminal import plural, share, size
from .tokens import counted_tokens

GROUPS = 30  # of a column, shown with the share that was kept
PARTS = 30  # partition values that are shown, the largest
DEFINITIONS = {**WHO, "text": "the text after all edits", **ORIGIN}


def render_card(output: Output) -> bytes:
    """The whole page as UTF-8. Reads the ledger's fate columns once, and the footer of one data file."""
    files = data_files(output)
    loadable = parts(files, output.manifest["recipe"]["write"].get("sets") or {})
    lines = header(output, loadable, files)
    sections = (
        _head(output),
        _contents(output, loadable),
        _loading(loadable),
        _funnel(output),
        _rules(output),
        _duplicates(output),
        _sources(output),
        _columns(output),
        _provenance(output),
        _limits(),
        _recipe(output),
    )
    for section in map(list, sections):
        lines += ["", *section] if section else []
    return "".join(f"{line}\n" for line in lines).encode()


def _head(output: Output) -> Iterator[str]:
    manifest, counts = output.manifest, output.manifest["counts"]
    recipe = manifest["recipe"]
    yield f"# {plain(manifest['name'])}"
    yield ""
    yield (
        f"{plural(counts['kept'], 'document')} of {counts['rows']:,} ({share(counts['kept'], counts['rows'])}), "
        f"{size(counts['bytes_written'])} of text of {size(counts['bytes_read'])}, sifted by Tamis "
        f"{plain(manifest['versions']['tamis'])} from {plural(counts['files'], 'input file')}. "
        f"Dropped: {counts['dropped']:,}; set aside because they could not be read or judged: {counts['quarantined']:,}. "
        "Each of them has a row in `ledger/` that says by what."
    )
    for found in counted_tokens(output):
        without = f"; {found.uncounted:,} kept documents have no count" if found.uncounted else ""
        yield ""
        yield (
            f"Tokens ({code(found.column)}): {found.kept:,} in the documents that were kept, of {found.tokens:,} counted in "
            f"{plural(found.documents, 'document')}{without}."
        )
    if recipe.get("observe"):
        yield from ("", "**This run observed only.** It dropped nothing and wrote no documents; the ledger holds what")
        yield "every stage measured and would have decided."
    if recipe.get("sample") is not None or recipe.get("units") is not None:
        outside = counts.get("outside_sample", 0)
        yield from (
            "",
            "**This is a sample of the input**" + (f" ({outside:,} documents lie outside it)." if outside else "."),
        )
        yield "Its figures about duplicates are lower bounds: the other copy of a document may lie outside."
    if counts["files_lost"]:
        yield ""
        yield (
            f"{plural(counts['files_lost'], 'input file')} could not be read in whole, "
            f"{size(counts['bytes_lost'])}: see `quarantine/files.parquet`."
        )
    if recipe["differs"]:
        yield ""
        yield "The recipe is named after a published one, but:"
        yield ""
        yield from (f"- {plain(line, 1_000)}" for line in recipe["differs"])


def _contents(output: Output, loadable: Sequence[Part]) -> Iterator[str]:
    yield "## What is in it"
    yield ""
    whole = [part for part in loadable if part.whole]
    single = sorted((part for part in loadable if not part.whole), key=lambda part: -part.rows)
    if not whole:
        yield "There are no documents in `data/`."
    rows = [
        (code(p.name), code(p.pattern), f"{p.rows:,}", size(p.text), f"{p.files:,}", size(p.bytes))
        for p in [*whole, *single[:PARTS]]
    ]
    yield from table(
        ("configuration", "files", "documents", "text", "number of files", "stored"), rows, right=(2, 3, 4, 5)
    )
    if len(single) > PARTS:
        yield ""
        yield f"and {plural(len(single) - PARTS, 'more partition value')}, each loadable by its name in the same way."
    for name, one in (output.manifest["recipe"]["write"].get("sets") or {}).items():
        chosen = code(one["where"]) if one.get("where") else "the documents that were kept"
        drawn = f", of which a share of {one['sample']:g} was drawn" if one.get("sample") is not None else ""
        yield ""
        yield f"Set {code(name)}: {chosen}{drawn}."
    yield ""
    yield (
        "Besides `data/`: `ledger/` with one row per input document, `quarantine/` with what could not be used, "
        "`manifest.json` with recipe, versions and counts, `checksums.txt`."
    )


def _loading(loadable: Sequence[Part]) -> Iterator[str]:
    yield "## How to load it"
    if not loadable:
        yield ""
        yield from block(
            "import duckdb\n\nduckdb.sql(\"SELECT decision, stage, rule, count(*) FROM 'ledger/*.parquet' GROUP BY ALL\")",
            "python",
        )
        return
    first, named = loadable[0], len(loadable) > 1
    name = f", {json.dumps(first.name)}" if named else ""
    yield ""
    yield from block(
        "from datasets import load_dataset\n\n"
        'folder = "."  # this folder, or the name of its repository on the Hub\n'
        f'dataset = load_dataset(folder{name}, split="train", streaming=True)',
        "python",
    )
    reader = "read_json" if first.pattern.endswith("jsonl.zst") else "read_parquet"
    yield ""
    yield from block(
        "import duckdb\n\n"
        f"duckdb.sql(\"SELECT * FROM {reader}('{first.pattern}') LIMIT 10\").show()\n"
        "duckdb.sql(\"SELECT decision, stage, rule, count(*) FROM 'ledger/*.parquet' GROUP BY ALL\").show()",
        "python",
    )


# --- how it was made ----------------------------------------------------------------------------------------------


def _funnel(output: Output) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    rows = []
    for stage in output.stages:
        came, left = stage.get("in", 0), stage.get("in", 0) - stage.get("out", 0)
        changed = f"{stage.get('changed', 0):,}" if stage["kind"] == "edit" else ""
        used = code(stage["use"]) if stage["use"] != stage["name"] else ""
        cells = (f"{came:,}", f"{left:,}" if left else "", share(left, came) if left else "", changed)
        rows.append((code(stage["name"]), used, stage["kind"], *cells))
    yield f"{output.manifest['counts']['rows']:,} documents were read; the stages in order:"
    yield ""
    heads = ("stage", "use", "kind", "documents in", "dropped here", "share", "changed")
    yield from table(heads, rows, right=(3, 4, 5, 6))


def _rules(output: Output) -> Iterator[str]:
    tallies = {rule: tally for stage in output.stages for rule, tally in stage.get("rules", {}).items()}
    rows = []
    sources: dict[str, list[str]] = {}
    for name, rule in output.manifest["rules"].items():
        tally = tallies.get(name, {})
        counts = (f"{tally.get('first', 0):,}", f"{tally.get('failed', 0):,}")
        own = f"{name.partition('.')[0]}."
        params = {key.removeprefix(own): found for key, found in rule["params"].items()}
        rows.append((code(name), code(rule["sql"] or ""), values(params), *counts))
        if rule["source"]:
            sources.setdefault(rule["source"], []).append(name)
    if rows:
        yield "### Rules and thresholds"
        yield ""
        yield "A document stays while every condition is true. `first`: dropped by this rule before any other of its stage;"
        yield "`failed`: all that failed it."
        yield ""
        yield from table(("rule", "keeps if", "thresholds", "first", "failed"), rows, right=(3, 4))
        for source, names in sources.items():
            yield ""
            yield f"{', '.join(map(code, _shortened(names, output.manifest['rules'])))}: {plain(source, 300)}"


def _shortened(names: Sequence[str], rules: Mapping[str, Any]) -> list[str]:
    """Rules by name; those of a preset together, where all of them are among the names."""
    found: dict[str, None] = {}
    for name in names:
        preset = name.partition(".")[0]
        whole = all(other in names for other in rules if other.startswith(f"{preset}."))
        found[f"{preset}.*" if whole else name] = None
    return list(found)


def _duplicates(output: Output) -> Iterator[str]:
    facts = {name: found for name, found in output.manifest["facts"].items() if found}
    if not facts:
        return
    yield "### What stages found in the whole corpus"
    yield ""
    rows = [(code(stage), code(key), _fact(found)) for stage, all_of in facts.items() for key, found in all_of.items()]
    yield from table(("stage", "fact", "value"), rows)


def _fact(found: Any) -> str:
    if isinstance(found, int) and not isinstance(found, bool):
        return f"{found:,}"
    return code(json.dumps(found, ensure_ascii=False, sort_keys=True))


def _sources(output: Output) -> Iterator[str]:
    """Kept share of documents and text by every column of `report: {by: ...}` that the ledger has."""
    known = output.columns if output.storage.list("ledger") else []
    names = [name for name in output.manifest["recipe"]["report"]["by"] if name in known]
    if names:
        yield "## How much of each group was kept"
    for name in names:
        column = quoted_name(name)
        rows = output.rows(
            f"SELECT {column} AS member, count(*) AS documents, count(*) FILTER (decision = 'keep') AS kept, "
            f"sum(bytes_read) AS bytes, sum(bytes_written) FILTER (decision = 'keep') AS bytes_kept "
            f"FROM ledger GROUP BY ALL ORDER BY documents DESC, member NULLS LAST"
        )
        cells = [_group(plain(str(r["member"])) if r["member"] is not None else "(none)", [r]) for r in rows[:GROUPS]]
        if len(rows) > GROUPS:
            cells.append(_group(f"({len(rows) - GROUPS:,} others together)", rows[GROUPS:]))
        yield from ("", f"### By {code(name)}", "")
        heads = (code(name), "documents", "kept", "share", "text", "kept", "share")
        yield from table(heads, cells, right=range(1, 7))


def _group(title: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    documents, kept, text, text_kept = (
        sum(int(row[key] or 0) for row in rows) for key in ("documents", "kept", "bytes", "bytes_kept")
    )
    shares = share(kept, documents), share(text_kept, text)
    return (title, f"{documents:,}", f"{kept:,}", shares[0], size(text), size(text_kept), shares[1])


# --- columns, provenance, recipe ----------------------------------------------------------------------------------


def _columns(output: Output) -> Iterator[str]:
    measured = {c["name"]: c for c in output.manifest["columns"]}
    written = {column["name"]: column["type"] for column in output.manifest["data_columns"]}
    chosen = dict(_expressions(output.manifest["recipe"]["write"]["columns"] or ()))
    yield "## Columns"
    yield ""
    rows = []
    for name, kind in written.items():
        about = measured.get(name)
        if name in chosen:
            told = f"computed: {code(chosen[name])}"
        elif name in DEFINITIONS:
            told = DEFINITIONS[name]
        else:
            told = f"{plain(about['doc'], 500)} ({code(about['stage'])})" if about else "from the input"
        rows.append((code(name), code(kind), told))
    yield from table(("column of data/", "type", "what it is"), rows)
    others = [c for name, c in measured.items() if name not in written]
    if others:
        yield ""
        yield "In the ledger besides identity, sizes and fate:"
        yield ""
        rows = [(code(c["name"]), code(c["type"]), f"{plain(c['doc'], 500)} ({code(c['stage'])})") for c in others]
        yield from table(("column of ledger/", "type", "what it is"), rows)


def _expressions(entries: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(column, expression) of the entries of `write: {columns: ...}` that are more than a name."""
    from ..stages.sql import parse_select_item

    for entry in entries:
        expression, name = parse_select_item(entry)
        if expression.strip('"') != name:
            yield name, expression


def _provenance(output: Output) -> Iterator[str]:
    yield "## Where a document came from"
    yield ""
    yield "Every document carries the file and row that it was read from and the hash of its original text. The story of any"
    yield "document, kept or dropped, with the values that decided it:"
    yield ""
    yield from block("tamis why FOLDER DOC_ID      # or FILE#ROW, or a URL, or a source_hash", "sh")
    runs = output.manifest.get("input_runs") or []
    if runs:
        yield ""
        yield "The input came through earlier runs of Tamis:"
        yield ""
        rows = [(plain(run["name"]), code(run["output"]), code(run["plan"]), code(run["checksum"])) for run in runs]
        yield from table(("run", "output", "plan", "checksum"), rows)


def _limits() -> Iterator[str]:
    yield "## Before you use it"
    yield ""
    yield "No licence is stated here, because a recipe knows none: the terms of the sources hold. Rules over statistics judge"
    yield "form, not truth; what they keep may be wrong, offensive or personal. A rule tuned on one language may fail another,"
    yield "and the tables above say how much of each source it kept."


def _recipe(output: Output) -> Iterator[str]:
    manifest = output.manifest
    yield "## Recipe"
    yield ""
    yield "As it ran:"
    yield ""
    yield from block(yaml_text(_as_written(manifest["recipe"])).rstrip("\n"), "yaml")
    yield ""
    yield f"Plan {code(manifest['plan'])}, made with: {', '.join(f'{plain(k)} {plain(v)}' for k, v in manifest['versions'].items())}."


def _as_written(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved recipe in the form that a person writes, without the keys that say nothing. A stage's own keys stand
    beside `use`, all of them: there a null may switch off what is on by default."""
    stages = []
    for entry in recipe["stages"]:
        common = {key: found for key, found in _told(entry).items() if key != "config"}
        if common.get("action") == "drop" and not entry["config"].get("preset") and ":" not in entry["use"]:
            del common["action"]  # what happens unsaid: presets and stages of one's own may tag by default
        stages.append({**common, **entry["config"]})
    parts = {"input": [_told(source) for source in recipe["input"]], "stages": stages, "write": _told(recipe["write"])}
    return _told({**recipe, **parts})


def _told(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found for key, found in section.items() if found not in (None, [], {}, "")}
