"""Compares the presets of Tamis with datatrove's filters, document by document, and groups what differs in classes.

Invariant: every disagreement is counted in exactly one class: a verdict by the rule behind it, a word by the shape of
the text it is cut from. docs/agreement.md holds the tables that this prints.

    python tests/bench/agreement.py verdicts.parquet [--examples 20]

verdicts.parquet comes from datatrove_verdicts.py, which runs in datatrove's own environment.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.stages.arrow import one_array, text_buffers
from tamis.stages.base import Stage, stage_class

FILTERS = ("gopher_repetition", "gopher_quality", "c4", "fineweb")


@dataclass(frozen=True)
class Quantity:
    """A rule of datatrove as a test of its quantity. `words`: it depends on how words are cut."""

    column: str
    test: Callable[[np.ndarray], np.ndarray]  # true keeps
    words: bool = False


def _most(limit: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: ~(values > limit)


def _least(limit: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: ~(values < limit)


# Rules of the presets, and datatrove's quantity and default threshold for each.
QUANTITIES = {
    "gopher_repetition.dup_para_frac": Quantity("dup_para_frac", _most(0.3)),
    "gopher_repetition.dup_para_char_frac": Quantity("dup_para_char_frac", _most(0.2)),
    "gopher_repetition.dup_line_frac": Quantity("dup_line_frac", _most(0.3)),
    "gopher_repetition.dup_line_char_frac": Quantity("dup_line_char_frac", _most(0.2)),
    "gopher_repetition.top_2gram": Quantity("top_2_gram", _most(0.2), True),
    "gopher_repetition.top_3gram": Quantity("top_3_gram", _most(0.18), True),
    "gopher_repetition.top_4gram": Quantity("top_4_gram", _most(0.16), True),
    "gopher_repetition.dup_5gram": Quantity("dup_5_gram", _most(0.15), True),
    "gopher_repetition.dup_6gram": Quantity("dup_6_gram", _most(0.14), True),
    "gopher_repetition.dup_7gram": Quantity("dup_7_gram", _most(0.13), True),
    "gopher_repetition.dup_8gram": Quantity("dup_8_gram", _most(0.12), True),
    "gopher_repetition.dup_9gram": Quantity("dup_9_gram", _most(0.11), True),
    "gopher_repetition.dup_10gram": Quantity("dup_10_gram", _most(0.10), True),
    "gopher_quality.words": Quantity("n_plain", lambda v: (v >= 50) & (v <= 100_000), True),
    "gopher_quality.mean_word_length": Quantity("mean_length", lambda v: ~((v < 3) | (v > 10)), True),
    "gopher_quality.hash_ratio": Quantity("hash_ratio", _most(0.1), True),
    "gopher_quality.ellipsis_ratio": Quantity("ellipsis_ratio", _most(0.1), True),
    "gopher_quality.bullet_line_frac": Quantity("bullet_lines", _most(0.9)),
    "gopher_quality.ellipsis_line_frac": Quantity("ellipsis_lines", _most(0.3)),
    "gopher_quality.alpha_word_frac": Quantity("alpha_words", _least(0.8), True),
    "gopher_quality.stop_words": Quantity("stop_words", _least(2), True),
    "c4.sentences": Quantity("c4_sentences", _least(5), True),
    "c4.curly_bracket": Quantity("c4_curly", lambda v: v == 0),
    "c4.lorem_ipsum": Quantity("c4_lorem", lambda v: v == 0),
    "fineweb.line_punct_ratio": Quantity("line_punct_ratio", _least(0.12)),
    "fineweb.short_line_ratio": Quantity("short_line_ratio", _most(0.67)),
    "fineweb.char_dup_ratio": Quantity("char_dup_ratio", _most(0.01)),
    "fineweb.list_ratio": Quantity("list_ratio", _most(0.3), True),
}

# Chunks (runs without white space) in which words are cut differently, by shape: the first that matches.
_FACES = r"[:;=8][-'o]?[()\[\]DPpOoXx*/|3>]|[()\[\]][-o]?[:;=8]|x+D+|\^_+\^|-_+-|<3+|o\.[oO]|[vV][._][vV]"
_BARE = (
    r"(I|i)(m|ma|d|ll|ve)|(you|he|she|it|we|they|who|what|when|where|why|how|there|that|this|these|those)(s|d|m|re|ve|ll)"
    r"|(ca|could|do|does|did|had|may|might|must|need|ought|sha|should|wo|would|ai|are|is|was|were|have|has|dare)nt(ve)?"
    r"|(could|might|must|should|would|not)ve|gonna|gotta|yall"
)
# Letters that Tamis takes one by one (see kernels/unicode_classes.py): Thai to Khmer, Kana, Han and others.
_ALONE = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
CLASSES = {
    "script without spaces: Tamis takes each letter for a word, spaCy's English tokenizer the run": _ALONE,
    "emoticon or characters that make one, `:)` `):` `8)` `:*`": re.compile(_FACES),
    "contraction without apostrophe, `dont` `Im` `id` `gonna`": re.compile(rf"(^|\W|_)({_BARE})(\W|_|$)", re.I),
    "`and/or`, `w/o`": re.compile(r"\b(and/or|w/o)\b"),
    "hour with am or pm, `10am`": re.compile(r"\d[ap]\.?m\b"),
    "name of a currency, `US$7` `$C$`": re.compile(r"(US|C|A)\$"),
    "apostrophe, `'re` `'em` `12''`": re.compile(r"['’‘]"),
    "one letter or an abbreviation and a full stop inside a chunk, `$a.Count`": re.compile(r"[A-Za-z]\."),
    "repeated `…`": re.compile("……"),
    "other": re.compile(""),
}


@dataclass
class Filter:
    """Verdicts and rules of one preset over all documents."""

    kept: np.ndarray  # bool
    rules: dict[str, np.ndarray] = field(default_factory=dict)  # bool per rule, nulls as the rule says
    columns: pa.Table = field(default_factory=lambda: pa.table({}))


def _stage(use: str, **config: Any) -> Stage:
    found = stage_class(use)
    return found(found.Config(**config), name=use)


def judge(preset: str, texts: pa.Table) -> Filter:
    """The preset with its default parameters on column `text`; for c4 after the line removal of `c4_lines`."""
    batch = texts.select(["text"])
    if preset == "c4":
        edited = _stage("c4_lines").edit(batch)
        batch = edited
    rules = _stage("rules", preset=preset)
    rules.bind({})
    signals = _stage("text_signals")
    signals.select(rules.plain_needs)
    measured = signals.measure(batch.select(["text"]))
    for name in batch.column_names:
        if name not in measured.column_names:
            measured = measured.append_column(name, batch[name])
    decided = rules.decide(measured)
    result = Filter(np.ones(texts.num_rows, bool), columns=measured)
    for rule in rules.rules:
        passed = one_array(decided[rule.name]).fill_null(rule.nulls == "pass").to_numpy(zero_copy_only=False)
        result.rules[rule.name] = passed
        result.kept &= passed
    if preset == "c4":  # a document that an edit empties is dropped there
        result.kept &= pc.greater(pc.binary_length(measured["text"]), 0).to_numpy()
    return result


def punct_cuts(texts: pa.Table) -> list[list[str]]:
    """The words of each text by the compiled `punct`, as strings."""
    from tamis.kernels.punct_words import punct_words
    from tamis.kernels.unicode_classes import classes

    data, offsets = text_buffers(texts["text"])
    longest = int(np.diff(offsets).max()) + 3
    words, ends, out = np.zeros(longest, np.uint64), np.zeros(longest, np.int64), np.zeros(16, np.int64)
    scratch = tuple(np.zeros(longest, kind) for kind in (np.uint32, np.uint32, np.int64, np.int64))
    found = []
    for i, text in enumerate(texts["text"].to_pylist()):
        n = punct_words(data, offsets[i], offsets[i + 1], classes(), words, ends, scratch, out)
        solid = "".join(text.split())
        found.append([solid[ends[j] : ends[j + 1]] for j in range(n)])
    return found


def differences(texts: pa.Table) -> list[list[tuple[str, str]]]:
    """Per document the chunks (runs without white space) in which words are cut differently, each with its class."""
    found = []
    for text, theirs, ours in zip(texts["text"].to_pylist(), texts["words"].to_pylist(), punct_cuts(texts)):
        cuts = [set(np.cumsum([len(word) for word in words]).tolist()) for words in (theirs, ours)]
        differ = sorted(cuts[0] ^ cuts[1], reverse=True)
        chunks: list[tuple[str, str]] = []
        end = 0
        for chunk in text.split() if differ else ():
            end += len(chunk)
            if differ and differ[-1] < end:
                chunks.append((next(name for name, shape in CLASSES.items() if shape.search(chunk)), chunk))
                while differ and differ[-1] < end:
                    differ.pop()
        found.append(chunks)
    return found


def rule_outcomes(texts: pa.Table, preset: str) -> dict[str, np.ndarray]:
    """datatrove's outcome of every rule of a preset (true keeps), from its quantities."""
    outcomes = {}
    for name, quantity in QUANTITIES.items():
        if name.startswith(f"{preset}."):
            outcomes[name] = quantity.test(one_array(texts[quantity.column].cast(pa.float64())).to_numpy(False))
    return outcomes


def compare(texts: pa.Table) -> dict[str, Any]:
    """Shares and classes. `filters`: equal verdicts; `rules`: equal outcomes; `flips`: (filter, rules) -> documents."""
    found: dict[str, Any] = {"docs": texts.num_rows, "filters": {}, "rules": {}, "flips": {}}
    for preset in FILTERS:
        ours = judge(preset, texts)
        theirs = one_array(texts[f"{preset}_kept"]).to_numpy(zero_copy_only=False)
        found["filters"][preset] = {
            "equal": float((ours.kept == theirs).mean()),
            "both keep": int((ours.kept & theirs).sum()),
            "only datatrove keeps": int((~ours.kept & theirs).sum()),
            "only Tamis keeps": int((ours.kept & ~theirs).sum()),
        }
        expected = rule_outcomes(texts, preset)
        for name, passed in expected.items():
            mine = ours.rules[name]
            found["rules"][name] = {
                "equal": float((mine == passed).mean()),
                "datatrove fails": int((~passed).sum()),
                "Tamis fails": int((~mine).sum()),
                "both fail": int((~mine & ~passed).sum()),
                "words": QUANTITIES[name].words,
            }
        if preset == "c4":
            same = pc.equal(ours.columns["text"], texts["c4_text"].cast(pa.large_string()))
            found["c4_text_equal"] = float(np.mean(same.to_numpy()))
        for i in np.flatnonzero(ours.kept != theirs):
            names = [n for n, passed in expected.items() if ours.rules[n][i] != passed[i]]
            key = (preset, ", ".join(names) or str(texts[f"{preset}_reason"][i]))
            found["flips"].setdefault(key, []).append(int(i))
    return found


def report(texts: pa.Table, examples: int = 20) -> str:
    """The tables of docs/agreement.md."""
    found = compare(texts)
    lines = [
        f"{found['docs']:,} documents",
        "",
        "| filter | equal verdicts | both keep | only datatrove | only Tamis |",
    ]
    lines.append("|---|--:|--:|--:|--:|")
    for name, row in found["filters"].items():
        counts = " | ".join(f"{row[key]:,}" for key in ("both keep", "only datatrove keeps", "only Tamis keeps"))
        lines.append(f"| {name} | {row['equal']:.2%} | {counts} |")
    lines += ["", "| rule | depends on words | equal | datatrove fails | Tamis fails | both fail |"]
    lines.append("|---|---|--:|--:|--:|--:|")
    for name, row in found["rules"].items():
        words = "yes" if row["words"] else ""
        counts = " | ".join(f"{row[key]:,}" for key in ("datatrove fails", "Tamis fails", "both fail"))
        lines.append(f"| {name} | {words} | {row['equal']:.2%} | {counts} |")
    lines.append(f"| c4_lines: same text left | | {found['c4_text_equal']:.2%} | | | |")
    apart = differences(texts)
    lines += ["", "| filter | rules that differ | documents | of which words differ by |", "|---|---|--:|---|"]
    for (preset, names), rows in sorted(found["flips"].items(), key=lambda item: -len(item[1])):
        causes = Counter(name for i in rows for name in {name for name, _ in apart[i]})
        why = "; ".join(f"{name} ({count})" for name, count in causes.most_common())
        lines.append(f"| {preset} | {names} | {len(rows)} | {why} |")
    lines += ["", "| document | filter | datatrove | Tamis | chunks cut differently |", "|---|---|---|---|---|"]
    for (preset, _), rows in found["flips"].items():
        for i in rows[:examples]:
            reason = texts[f"{preset}_reason"][i].as_py()
            shown = ", ".join(f"`{chunk[:30]}`" for _, chunk in apart[i][:4])
            lines.append(
                f"| {texts['id'][i]} | {preset} | {reason or 'keeps'} | {'drops' if not reason else 'keeps'} | {shown} |"
            )
    chunks = sum(len(text.split()) for text in texts["text"].to_pylist())
    counts, often = Counter(name for one in apart for name, _ in one), defaultdict(Counter)
    for name, chunk in (pair for one in apart for pair in one):
        often[name][chunk] += 1
    same = sum(not one for one in apart) / len(apart)
    lines += [
        "",
        f"{chunks:,} chunks, {sum(counts.values()):,} cut differently; all words equal in {same:.1%} of the documents",
        "",
    ]
    lines += ["| chunks cut differently | occurrences | most frequent |", "|---|--:|---|"]
    for name, count in counts.most_common():
        shown = ", ".join(f"`{chunk[:30]}` {n}" for chunk, n in often[name].most_common(3))
        lines.append(f"| {name} | {count:,} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verdicts", help="Parquet file written by datatrove_verdicts.py")
    parser.add_argument("--examples", type=int, default=20, help="documents listed per class of verdicts")
    options = parser.parse_args()
    print(report(pq.read_table(options.verdicts), options.examples))


if __name__ == "__main__":
    main()
