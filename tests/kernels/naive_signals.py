"""Every column of text_signals in plain Python, written from the filters that define it: the oracle of the kernel.

Invariant: a value is the same quotient of the same integers, so tests compare with ==; None where it is undefined.
Sources: datatrove 0.10.1 filters, Dolma taggers/gopher.py and c4.py, DCLM content_filters.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import median
from typing import Any

from tamis.kernels import unicode_classes as u

from .naive_words import fasttext_words, punct_sentences, punct_words, unicode_words

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def _share(above: float, below: float) -> float | None:
    return above / below if below else None


def _has(c: str, bit: int) -> bool:
    return bool(u.classes()[ord(c)] & bit)


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _repeats(items: Sequence[str]) -> tuple[int, int]:
    """(items that were there before, their characters)."""
    seen: set[str] = set()
    number = chars = 0
    for item in items:
        if item in seen:
            number, chars = number + 1, chars + len(item)
        seen.add(item)
    return number, chars


def _occurrences(items: Sequence[str]) -> tuple[int, int]:
    """(occurrences of items that occur twice or more, their characters)."""
    often = {item: times for item, times in Counter(items).items() if times > 1}
    return sum(often.values()), sum(len(item) * times for item, times in often.items())


def _first_most_common(grams: Sequence[Hashable]) -> tuple[Any, int]:
    return Counter(grams).most_common(1)[0]


def datatrove(text: str, short: int) -> dict[str, Any]:
    words = punct_words(text)
    plain = [w for w in words if any(not _has(c, u.SYMBOL) for c in w)]
    rows = text.splitlines()
    lines = [line for line in text.split("\n") if line.strip()]
    out: dict[str, Any] = {
        "characters": len(text),
        "words": len(plain),
        "words_all": len(words),
        "mean_word_length": _share(sum(map(len, plain)), len(plain)),
        "hash_ratio": _share(text.count("#"), len(words)),
        "ellipsis_ratio": _share(text.count("...") + text.count("…"), len(words)),
        "bullet_line_frac": _share(sum(row.lstrip().startswith(("•", "-")) for row in rows), len(rows)),
        "ellipsis_line_frac": _share(sum(row.rstrip().endswith(("...", "…")) for row in rows), len(rows)),
        "alpha_word_frac": _share(sum(any(c.isalpha() for c in w) for w in words), len(words)),
        "stop_words": len(STOP_WORDS & set(words)),
        "sentences": sum(map(punct_sentences, rows)),
        "lines": len(lines),
        "line_punct_ratio": _share(sum(_has(line[-1], u.STOP) for line in lines), len(lines)),
        "short_line_ratio": _share(sum(len(line) <= short for line in lines), len(lines)),
        "char_dup_ratio": _share(_repeats(lines)[1], len(text.replace("\n", ""))),
        "list_ratio": _share(text.count("\n"), len(words)),
        "curly_brackets": text.count("{"),
        "lorem_ipsum": text.lower().count("lorem ipsum"),
        "javascript": text.lower().count("javascript"),
    }
    for name, pieces in (("line", re.split("\n+", text)), ("para", re.split("\n{2,}", text.strip()))):
        number, chars = _repeats(pieces)
        out[f"dup_{name}_frac"] = number / len(pieces) if text else None
        out[f"dup_{name}_char_frac"] = _share(chars, len(text))
    for n in (2, 3, 4):
        grams = [" ".join(gram) for gram in _grams(words, n)]
        gram, times = _first_most_common(grams) if grams else ("", 0)
        out[f"top_{n}gram"] = _share(len(gram) * times, len(text)) if grams else None
    for n in range(5, 11):
        seen: set[tuple[str, ...]] = set()
        chars = i = 0
        grams = _grams(words, n)
        while i < len(grams):
            if grams[i] in seen:
                chars += sum(map(len, grams[i]))
                i += n
            else:
                seen.add(grams[i])
                i += 1
        out[f"dup_{n}gram"] = _share(chars, len(text))
    return out


def dolma(text: str) -> dict[str, Any]:
    words = text.split()
    number, chars = max(len(words), 1), max(sum(map(len, words)), 1)
    lines = text.split("\n")
    occurrences, line_chars = _occurrences(lines)
    out: dict[str, Any] = {
        "words_dolma": len(words),
        "median_word_length_dolma": float(median(map(len, words))) if words else 0.0,
        "symbol_ratio_dolma": sum("#" in w or "…" in w for w in words) / number,
        "alpha_word_frac_dolma": sum(any(c.isalpha() for c in w) for w in words) / number,
        "stop_words_dolma": sum(w in STOP_WORDS for w in words),
        "bullet_line_frac_dolma": sum(line.startswith(("*", "-")) for line in lines) / len(lines),
        "ellipsis_line_frac_dolma": sum(line.endswith("…") for line in lines) / len(lines),
        "dup_line_frac_dolma": occurrences / len(lines),
        "dup_line_char_frac_dolma": line_chars / chars,
    }
    for n in range(2, 11):
        grams = Counter(_grams(words, n))
        if n < 5:
            gram, times = grams.most_common(1)[0] if grams else ((), 0)
            out[f"top_{n}gram_dolma"] = times * sum(map(len, gram)) / chars if grams else None
        else:
            lengths = {gram: times * sum(map(len, gram)) for gram, times in grams.items()}
            often = sum(length for gram, length in lengths.items() if grams[gram] > 1)
            out[f"dup_{n}gram_dolma"] = often / sum(lengths.values()) if grams else None
    return out


def dclm(text: str) -> dict[str, Any]:
    split, words = text.split(), unicode_words(text)
    chars = sum(map(len, words))
    segments = {
        "line": [s.strip() for s in text.split("\n") if s.strip()],
        "para": [s.strip() for s in text.split("\n\n") if s.strip()],
    }
    lines = segments["line"]
    symbols = sum(text.count(symbol) for symbol in ("#", "...", ". . .", "…"))
    out: dict[str, Any] = {
        "words_dclm": len(fasttext_words(text)),
        "words_unicode": len(words),
        "mean_word_length_dclm": _share(sum(map(len, split)), len(split)),
        "symbol_ratio_dclm": _share(symbols, len(split)),
        "bullet_line_frac_dclm": _share(sum(line.startswith(("●", "•", "*", "-")) for line in lines), len(lines)),
        "ellipsis_line_frac_dclm": _share(sum(line.endswith(("...", ". . .", "…")) for line in lines), len(lines)),
        "nonalpha_word_frac_dclm": _share(sum(not any(c.isalpha() for c in w) for w in split), len(split)),
        "stop_words_dclm": sum(w.lower() in STOP_WORDS for w in split),
    }
    for name, found in segments.items():
        number, repeated = _occurrences(found)
        out[f"dup_{name}_frac_dclm"] = _share(number, len(found))
        out[f"dup_{name}_char_frac_dclm"] = _share(repeated, sum(map(len, found)))
    for n in range(2, 11):
        grams = _grams(words, n)
        counts = Counter(grams)
        most = max(counts.values(), default=0)
        if not grams:
            value = None
        elif n < 5:
            longest = max(sum(map(len, gram)) for gram, times in counts.items() if times == most)
            value = most * longest / chars if most > 1 else 0.0
        else:
            inside = {i + k for i, gram in enumerate(grams) if counts[gram] > 1 for k in range(n)}
            value = sum(len(words[i]) for i in inside) / chars
        out[f"{'top' if n < 5 else 'dup'}_{n}gram_dclm"] = value
    return out


def signals(text: str | None, short: int = 30) -> dict[str, Any]:
    """Column -> value, for all columns; all None for a null text."""
    found = {**datatrove(text or "", short), **dolma(text or ""), **dclm(text or "")}
    return found if text is not None else dict.fromkeys(found)
