"""The oracle: what datatrove's own filters say about documents, filter by filter, with the quantities behind the verdict.

Invariant: this file knows nothing of Tamis. It needs datatrove with its text extras (`datatrove[processing]` and spacy)
and pyarrow, and runs in an environment of its own; `select` alone needs only pyarrow, so both sides choose the same
documents. Figures in docs/agreement.md: datatrove 0.10.1, spaCy 3.8.18.

    python datatrove_verdicts.py --input 'web/*.parquet' --output verdicts.parquet [--docs 5000]
    python datatrove_verdicts.py --input 'web/*.parquet' --time-only

The first form runs every filter alone, with datatrove's defaults, on every document. The second prints the CPU seconds
of the four filters in the order of the FineWeb recipe, each seeing only what the one before kept: the baseline of the
speed benchmark.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import glob
import hashlib
import json
import re
import sys
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

CRAWL = "CodeCreator/WebOrganizer"  # the one source of the development corpus that is a sample of Common Crawl
FILTERS = ("gopher_repetition", "gopher_quality", "c4", "fineweb")


def select(pattern: str, docs: int = 5000, max_bytes: int = 200_000, skip: int = 0) -> pa.Table:
    """`docs` English documents (id, source, text) of the corpus at `pattern`, the same ones in every environment.

    Three fifths come from the crawl source; the rest is spread over the other sources as evenly as their sizes allow
    (one document of each in turn), so manuals, code, short items, laws and books all occur. Within a source the order
    is by the SHA-1 of the id. Documents over `max_bytes` are left out to bound the oracle's time. `skip`: the documents
    that come after the first so many in that order, for a sample that no rule was fitted on.
    """
    columns = ["id", "source", "lang", "text"]
    table = pa.concat_tables([pq.read_table(name, columns=columns) for name in sorted(glob.glob(pattern))])
    lang, source, ids, text = (table[name].to_pylist() for name in ("lang", "source", "id", "text"))
    english = [i for i in range(len(ids)) if lang[i] == "en" and text[i] and len(text[i].encode()) <= max_bytes]
    english.sort(key=lambda i: hashlib.sha1(ids[i].encode()).digest())
    crawl = [i for i in english if source[i] == CRAWL]
    rank: Counter[str] = Counter()
    others = []
    for i in english:
        if source[i] != CRAWL:
            rank[source[i]] += 1
            others.append((rank[source[i]], source[i], i))
    first, share = skip * 3 // 5, docs * 3 // 5
    crawl = crawl[first : first + share]
    rest = [i for _, _, i in sorted(others)[skip - first : skip - first + docs - len(crawl)]]
    chosen = sorted(crawl + rest)
    return table.select(["id", "source", "text"]).take(chosen).combine_chunks()


def make_filters() -> dict:
    """The four filters with datatrove's defaults."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return {
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
    }


def judge(one, text: str) -> tuple[bool, str, str]:
    """(kept, reason, text after the filter) of one filter on a fresh document; ZeroDivisionError counts as a reason."""
    from datatrove.data import Document

    doc = Document(text=text, id="")
    try:
        result = one.filter(doc)
    except ZeroDivisionError:
        return False, "error", doc.text
    kept, reason = result if isinstance(result, tuple) else (result, "")
    return bool(kept), reason, doc.text


def quantities(text: str) -> dict:
    """The numbers behind the verdicts, all of them, without datatrove's early exits. None where undefined."""
    from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
    from datatrove.pipeline.filters.gopher_repetition_filter import (
        find_all_duplicate,
        find_duplicates,
        find_top_duplicate,
        get_n_grams,
    )
    from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION, split_into_words

    def share(a: float, b: float) -> float | None:
        return a / b if b else None

    words = split_into_words(text)
    plain = [w for w in words if any(c not in PUNCTUATION_SET for c in w)]
    lines = text.splitlines()
    paragraphs = re.split(r"\n{2,}", text.strip())
    split_lines = re.split("\n+", text)
    full_lines = [line for line in text.split("\n") if line.strip() != ""]
    terminal = tuple(TERMINAL_PUNCTUATION)
    para_dups, line_dups = find_duplicates(paragraphs), find_duplicates(split_lines)
    out: dict = {
        "words": words,
        "n_words": len(words),
        "n_plain": len(plain),
        "mean_length": share(sum(map(len, plain)), len(plain)),
        "hash_ratio": share(text.count("#"), len(words)),
        "ellipsis_ratio": share(text.count("...") + text.count("…"), len(words)),
        "bullet_lines": share(sum(s.lstrip().startswith(("•", "-")) for s in lines), len(lines)),
        "ellipsis_lines": share(sum(s.rstrip().endswith(("...", "…")) for s in lines), len(lines)),
        "alpha_words": share(sum(any(c.isalpha() for c in w) for w in words), len(words)),
        "stop_words": len(set(STOP_WORDS) & set(words)),
        "dup_para_frac": share(para_dups[0], len(paragraphs)),
        "dup_para_char_frac": share(para_dups[1], len(text)),
        "dup_line_frac": share(line_dups[0], len(split_lines)),
        "dup_line_char_frac": share(line_dups[1], len(text)),
        "line_punct_ratio": share(sum(s.endswith(terminal) for s in full_lines), len(full_lines)),
        "short_line_ratio": share(sum(len(s) <= 30 for s in full_lines), len(full_lines)),
        "char_dup_ratio": share(find_duplicates(full_lines)[1], len(text.replace("\n", ""))),
        "list_ratio": share(text.count("\n"), len(words)),
    }
    for n in (2, 3, 4):
        n_grams = get_n_grams(words, n)
        out[f"top_{n}_gram"] = share(find_top_duplicate(n_grams), len(text)) if n_grams else None
    for n in range(5, 11):
        out[f"dup_{n}_gram"] = share(find_all_duplicate(words, n), len(text))
    return out


def c4_quantities(text: str) -> dict:
    """C4's text after line removal, its sentences, and its two document rules, each by a filter that has only that."""
    from datatrove.pipeline.filters import C4QualityFilter
    from datatrove.utils.text import split_into_sentences

    off = {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1}
    _, _, left = judge(C4QualityFilter(**off), text)
    return {
        "c4_text": left,
        "c4_sentences": sum(len(split_into_sentences(line)) for line in left.split("\n")) if left else 0,
        "c4_curly": not judge(C4QualityFilter(**off | {"filter_curly_bracket": True}), text)[0],
        "c4_lorem": not judge(C4QualityFilter(**off | {"filter_lorem_ipsum": True}), text)[0],
    }


def verdicts(table: pa.Table) -> tuple[pa.Table, dict[str, float]]:
    """(one row per document: id, source, text, `<filter>_kept`, `<filter>_reason`, words, quantities; CPU seconds per filter).

    The cache of tokenized texts that datatrove keeps between filters is emptied before each, so the seconds are those
    of the filter alone.
    """
    from datatrove.utils.text import split_into_parts, split_into_words

    filters = make_filters()
    split_into_words("spaCy loads at its first use.")
    seconds = dict.fromkeys(filters, 0.0)
    rows = []
    for text in table["text"].to_pylist():
        row: dict = {}
        for name, one in filters.items():
            split_into_parts.cache_clear()
            start = time.process_time()
            row[f"{name}_kept"], row[f"{name}_reason"], _ = judge(one, text)
            seconds[name] += time.process_time() - start
        rows.append(row | quantities(text) | c4_quantities(text))
    measured = pa.Table.from_pylist(rows)
    for name in measured.column_names:
        table = table.append_column(name, measured[name])
    return table, seconds


def recipe_seconds(table: pa.Table) -> dict:
    """CPU seconds of the four filters in the order of the FineWeb recipe with its settings, and how many each kept."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter
    from datatrove.utils.text import split_into_words

    filters = make_filters() | {"c4": C4QualityFilter(filter_no_terminal_punct=False)}
    split_into_words("spaCy loads at its first use.")
    seconds, kept = dict.fromkeys(FILTERS, 0.0), dict.fromkeys(FILTERS, 0)
    size = 0
    for text in table["text"].to_pylist():
        size += len(text.encode())
        doc = Document(text=text, id="")
        for name in FILTERS:
            start = time.process_time()
            result = filters[name].filter(doc)
            seconds[name] += time.process_time() - start
            if result is not True:
                break
            kept[name] += 1
    total = sum(seconds.values())
    return {
        "docs": table.num_rows,
        "mb": round(size / 1e6, 2),
        "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()} | {"all": round(total, 2)},
        "mb_per_cpu_second": round(size / 1e6 / total, 3),
        "kept_after": kept,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--input", required=True, help="glob of Parquet files with columns id, source, lang, text")
    parser.add_argument("--output", help="Parquet file of verdicts")
    parser.add_argument("--docs", type=int, default=5000)
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many documents of the selection")
    parser.add_argument("--time-only", action="store_true", help="only the CPU seconds of the recipe, as JSON")
    options = parser.parse_args(argv)
    table = select(options.input, options.docs, skip=options.skip)
    if options.time_only:
        print(json.dumps(recipe_seconds(table)))
        return
    if not options.output:
        sys.exit("--output FILE is required, or --time-only")
    result, seconds = verdicts(table)
    pq.write_table(result, options.output, compression="zstd")
    kept = {name: sum(result[f"{name}_kept"].to_pylist()) for name in FILTERS}
    print(json.dumps({"docs": result.num_rows, "kept": kept, "cpu_seconds_alone": seconds}))


if __name__ == "__main__":
    main()
