"""OUT.md beside a model: a card in the form of the Hugging Face Hub, from the facts in OUT.json and nothing else.

Invariant: the same facts give the same bytes; labels, file names, groups and terms are shown as themselves, never as
markup; a figure that is not known is a dash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..card_header import front_matter
from ..located import yaml_text
from ..markdown import block, code, plain, table
from ..terminal import share, size, visible

SHOWN = 30  # labels, groups and confusions that are shown; the .json has more
LEFT_OUT = {
    "unreadable": "could not be read (a broken line or row group, no UTF-8, too long)",
    "null_text": "no text (null)",
    "empty_text": "an empty text",
    "null_label": "no label (null)",
    "no_loss": "a loss is missing or no finite number",
    "negative_loss": "a loss below 0",
    "short": "shorter than the least number of characters",
    "repeated": "the same text, white space and case aside, stood earlier in the input",
    "not_chosen": "neither of the strongest nor of the weakest documents that were drawn",
    "duplicates": "the same text, white space and case aside, is there already",
    "conflicting": "the same text has two labels: all of them are left out",
    "near_duplicates": "held out, but nearly a text to train on (MinHash, 14 bands of 8 minima over word 5-grams)",
    "over_cap": "more texts of a label than are trained on (balance)",
    "label_not_trained": "held out, with a label that no text to train on has",
}


def render_card(facts: Mapping[str, Any]) -> bytes:
    """The whole page as UTF-8."""
    lines = _header(facts)
    sections = (
        _head(facts),
        _use(facts),
        _quality(facts),
        _calibration(facts),
        _groups(facts),
        _probe(facts),
        _data(facts),
        _training(facts),
        _limits(facts),
    )
    for section in map(list, sections):
        lines += ["", *section] if section else []
    return "".join(f"{line}\n" for line in lines).encode()


def _header(facts: Mapping[str, Any]) -> list[str]:
    name, found = visible(_stem(facts)), facts["held_out"] or {}
    told = {"accuracy": "accuracy", "auc": "roc_auc", "average_precision": "average_precision"}
    metrics = [{"type": kind, "value": found[key]} for key, kind in told.items() if found.get(key) is not None]
    head: dict[str, Any] = {"library_name": "fasttext", "pipeline_tag": "text-classification"}
    head["tags"] = ["fasttext", "text-classification", "tamis"]
    if metrics:
        dataset = {"name": "held-out texts", "type": "held-out"}
        result = {"task": {"type": "text-classification"}, "dataset": dataset, "metrics": metrics}
        head["model-index"] = [{"name": name, "results": [result]}]
    return front_matter(head)


def _head(facts: Mapping[str, Any]) -> Iterator[str]:
    labels = [one["label"] for one in facts["labels"]]
    more = f" and {len(labels) - 10:,} more" if len(labels) > 10 else ""
    yield f"# {plain(_stem(facts))}"
    yield ""
    yield (
        f"A fastText classifier with the labels {', '.join(map(code, labels[:10]))}{more}, trained by Tamis "
        f"{plain(facts['tamis'])} on {facts['rows']['train']:,} texts and tested on {facts['rows']['held_out']:,} others."
    )
    for warning in facts["warnings"]:
        yield ""
        yield f"**Note:** {plain(warning, 1_000)}."
    if facts["notes"]:
        yield ""
        yield from (f"- {plain(note, 1_000)}" for note in facts["notes"])


def _use(facts: Mapping[str, Any]) -> Iterator[str]:
    file, label = facts["model"]["file"], facts["positive"] or facts["labels"][0]["label"]
    column = re.sub(r"[^a-z0-9_]+", "_", _stem(facts).lower()).strip("_")
    column = column if re.match(r"[a-z]", column) else f"model_{column}".rstrip("_")
    measure = {"use": "fasttext", "name": column, "model": visible(file), "label": label}
    cut = {"use": "threshold", "name": f"top_{column}", "column": column, "keep": "10%", "by": "chars"}
    yield "## How to use it"
    yield ""
    yield f"In a recipe of Tamis: the probability of {code(label)} becomes the column {code(column)}, and a stage decides."
    yield ""
    yield from block(yaml_text({"stages": [measure, cut]}).rstrip("\n"), "yaml")
    yield ""
    yield "The file is an ordinary fastText model (`.bin`), which any program for fastText models reads."
    yield "Choose a cut by the share of your own data that it keeps: a probability means something only in the mix of labels"
    yield "that the model was trained on."


def _quality(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts["held_out"]
    if found is None:
        return
    yield "## How good it is"
    yield ""
    yield f"On {found['rows']:,} texts that it was not trained on:"
    yield ""
    rows = [("accuracy (the most probable label)", _number(found["accuracy"]))]
    if facts["positive"] is not None:
        of = code(facts["positive"])
        rows += [
            (f"AUC of {of}", _number(found["auc"])),
            (f"average precision of {of}", _number(found["average_precision"])),
            (f"share of {of}", _number(found["positive_share"])),
        ]
    rows.append(("expected calibration error", _number(found["calibration"]["ece"])))
    yield from table(("figure", "value"), rows, right=(1,))
    yield ""
    names = ("precision", "recall", "f1", "auc")
    cells = [
        (code(one["label"]), f"{one['rows']:,}", *(_number(one[name]) for name in names))
        for one in found["labels"][:SHOWN]
    ]
    yield from table(("label", "texts", "precision", "recall", "F1", "AUC"), cells, right=range(1, 6))
    wrong = [one for one in found["confusion"] if one[0] != one[1]][:SHOWN]
    if wrong:
        yield from ("", "Most frequent mistakes:", "")
        cells = [(code(actual), code(taken), f"{rows:,}") for actual, taken, rows in wrong]
        yield from table(("label", "taken for", "texts"), cells, right=(2,))
    if facts["positive"] is not None:
        yield from _cuts(found)


def _cuts(found: Mapping[str, Any]) -> Iterator[str]:
    wanted = found["cut_for_precision"]
    rows = [(f"{one['cut']:g}", one) for one in found["cuts"]]
    if wanted["at"]:
        rows.append((f"{wanted['at']['cut']:.9g} (precision {wanted['precision']:g})", wanted["at"]))
    cells = [
        (
            cut,
            share(one["taken"], found["rows"]),
            *(_number(one[n]) for n in ("precision", "recall", "f1")),
            _number(one["false_positive_rate"]),
        )
        for cut, one in rows
    ]
    yield from ("", "### At a cut", "")
    yield from table(
        ("probability at least", "kept", "precision", "recall", "F1", "false positives"), cells, right=range(6)
    )
    if not wanted["at"]:
        yield from ("", f"No cut has a precision of {wanted['precision']:g}.")


def _calibration(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["held_out"] is None:
        return
    of = f"of {code(facts['positive'])}" if facts["positive"] is not None else "of the most probable label"
    yield "### Calibration"
    yield ""
    yield f"The probability {of} beside what came true. Where the two differ, read it as a rank, not as a probability."
    yield ""
    cells = [
        (f"{one['from']:g} to {one['to']:g}", f"{one['n']:,}", _number(one["mean"]), _number(one["share"]))
        for one in facts["held_out"]["calibration"]["bins"]
    ]
    yield from table(("probability", "texts", "mean", "share that came true"), cells, right=(1, 2, 3))


def _groups(facts: Mapping[str, Any]) -> Iterator[str]:
    for number, (name, found) in enumerate((facts["groups"] or {}).items()):
        yield from [""] * bool(number)
        yield f"## By {code(name)}"
        yield ""
        yield (
            f"Knowing {code(name)} alone, one would predict the label of a held-out text with an AUC of "
            f"{_number(found['auc_of_group'])} (0.5: it says nothing). Precision, recall and false positives at 0.5."
        )
        yield ""
        names = ("positive_share", "mean_score", "auc", "precision", "recall", "false_positive_rate")
        cells = [
            (
                code(one["group"]) if one["group"] is not None else "(all others)",
                f"{one['rows']:,}",
                *(_number(one[n]) for n in names),
            )
            for one in found["groups"]
        ]
        head = (
            code(name),
            "texts",
            f"share of {code(facts['positive'])}",
            "mean score",
            "AUC",
            "precision",
            "recall",
            "false positives",
        )
        yield from table(head, cells, right=range(1, 8))


def _probe(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts["probe"]
    if found is None:
        return
    label = code(facts["positive"])
    heads = [f"at {cut:g}" for cut in found["cuts"]]
    yield "## False positives by identity term"
    yield ""
    yield (
        f"{found['negatives']:,} sentences that are not {label} ({', '.join(code(str(one['name'])) for one in found['files'])}), "
        f"by the terms they contain: the share that the model takes for {label}. A term whose rate stands out is one that the "
        "model mistakes for the thing itself."
    )
    if found["auc"] is not None:
        yield f"Over all {found['rows']:,} sentences the AUC is {_number(found['auc'])}."
    if len(found["cuts"]) > 1:
        yield f"The second cut is the lowest with a precision of {facts['held_out']['cut_for_precision']['precision']:g} on held-out texts."
    yield ""
    rows = [("**all**", f"{found['negatives']:,}", "", *map(_number, found["rates"]))]
    rows += [
        (code(one["term"]), f"{one['rows']:,}", _number(one["mean_score"]), *map(_number, one["rates"]))
        for one in found["terms"]
    ]
    yield from table(("term", "sentences", "mean score", *heads), rows, right=range(1, 3 + len(heads)))


def _data(facts: Mapping[str, Any]) -> Iterator[str]:
    rows = facts["rows"]
    yield "## What it was trained on"
    yield ""
    cells = [
        (code(str(one["name"])), f"{one['rows']:,}", size(one["bytes"]), code(str(one["xxh3_128"])))
        for one in facts["files"]
    ]
    if cells:
        yield from table(("file", "rows", "bytes", "XXH3-128"), cells, right=(1, 2))
        yield ""
    reasons = [(f"{rows[key]:,}", told) for key, told in LEFT_OUT.items() if rows.get(key)]
    reasons += [
        (f"{n:,}", plain(key)) for key, n in rows.items() if n and key not in ("read", "train", "held_out", *LEFT_OUT)
    ]
    used = [(f"{rows['train']:,}", "trained on"), (f"{rows['held_out']:,}", "held out")]
    yield f"{rows['read']:,} rows:"
    yield ""
    yield from table(("rows", "what became of them"), [*used, *reasons], right=(0,))
    yield ""
    cells = [(code(one["label"]), f"{one['train']:,}", f"{one['held_out']:,}") for one in facts["labels"][:SHOWN]]
    yield from table(("label", "trained on", "held out"), cells, right=(1, 2))
    if len(facts["labels"]) > SHOWN:
        yield from ("", f"and {len(facts['labels']) - SHOWN:,} more labels.")
    yield ""
    if facts["cap"] is None:
        balance = "The labels are as frequent as in the data, so that probabilities are those of this mix."
    elif facts["cap"] == "down":
        balance = (
            "Of each label as many texts are trained on as the rarest has; what is held out keeps the mix of the data."
        )
    else:
        balance = (
            f"Of each label at most {facts['cap']:,} texts are trained on; what is held out keeps the mix of the data."
        )
    yield f"{balance} A text is held out by its own hash (a share of {facts['test_share']:g}), the same in every training."


def _training(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts["training"]
    yield "## How it was trained"
    yield ""
    yield (
        f"fastText's supervised training with one thread, over {found['words']:,} words, {found['tokens']:,} words of text in "
        f"each epoch; mean loss {_number(found['loss'])}. The same texts and parameters give the same file: "
        f"{size(facts['model']['bytes'])}, XXH3-128 {code(facts['model']['xxh3_128'])}."
    )
    yield ""
    yield from table(("parameter", "value"), [(code(key), code(str(one))) for key, one in facts["parameters"].items()])


def _limits(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield "The model sees words and short runs of words, not meaning: irony, quotation and unseen languages escape it. Held-out"
    yield "texts come from the same files as those that it was trained on; on other data expect less, and look at examples on"
    yield "both sides of a cut before you use it (`tamis show OUTPUT --near`). What a label means is what its makers took it to mean."
    if facts["probe"] is None:
        yield "Whether it is unfair to groups of people was not measured: `--probe` does that."


def _stem(facts: Mapping[str, Any]) -> str:
    return facts["model"]["file"].removesuffix(".bin")


def _number(found: float | None) -> str:
    return "-" if found is None else f"{found:.3f}"
