"""Words and shingles of near-duplicate removal in plain Python, from their definition in kernels/plain_words.py.

Invariant: nothing compiled and no hash of the kernels is used: texts are compared as tuples of words.
"""

from __future__ import annotations

import re
import unicodedata

from .naive_words import NO_SPACES

NUMBER = re.compile(r"\d+(?:[.,،٫⎖⎗⎘]\d+)?")  # \d is Nd
WORD = frozenset(["Lu", "Ll", "Lt", "Lm", "Lo", "Mc", "Me", "Nd", "Nl", "No", "So"])


def alone(char: str) -> bool:
    if 0x17000 <= ord(char) <= 0x18D08:  # Tangut: unicodedata has no names for its characters
        return unicodedata.category(char) == "Lo"
    letter = unicodedata.category(char) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Mc", "Me", "Nl")
    name = unicodedata.name(char, "")
    return letter and name.startswith(NO_SPACES) and name not in ("TANGUT ITERATION MARK", "NUSHU ITERATION MARK")


def simplified(text: str) -> str:
    """The text after steps 1 and 2."""
    parts = (part for char in text for part in unicodedata.normalize("NFD", char.lower()[0]))
    kept = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    return NUMBER.sub("0", kept.replace("ς", "σ"))


def words(text: str) -> list[str]:
    found, last = [], ""
    for char in simplified(text):
        if unicodedata.category(char) not in WORD:
            found.append(last)
            last = ""
        elif char != "0" and alone(char):
            found += [last, char]
            last = ""
        else:
            last += char
    return [word for word in [*found, last] if word]


def shingles(text: str, ngram: int) -> list[tuple]:
    """In the order of the text; [] for an empty one."""
    found = words(text)
    if len(found) >= ngram:
        return [tuple(found[k : k + ngram]) for k in range(len(found) - ngram + 1)]
    if found:
        return [tuple(found)]
    return [("", text)] if text else []


def jaccard(left: str, right: str, ngram: int) -> float:
    one, other = set(shingles(left, ngram)), set(shingles(right, ngram))
    return len(one & other) / len(one | other) if one | other else 0.0
