"""Lines, paragraphs and sentences from their definition in kernels/sentences.py, by regular expressions over characters."""

from __future__ import annotations

import re
import unicodedata

SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TIGHT = "\u0964\u0965\u104a\u104b\u17d4\u17d5\u3002\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61"
VOWEL = re.compile("[aeiouy]", re.IGNORECASE)


def terminators() -> str:
    """Sentence_Terminal as the rules' preset has it, and the ellipsis."""
    from tamis.kernels.unicode_classes import _STOP, _ranges

    return "".join(chr(point) for first, last in _ranges(_STOP) for point in range(first, last)) + "\u2026"


TERMINATORS = frozenset(terminators())


def strip(text: str) -> str:
    return re.sub(f"^[{SPACE}]+|[{SPACE}]+$", "", text)


def closes(char: str, run: str) -> bool:
    category = unicodedata.category(char)
    return char in "\"'" or category in ("Pe", "Pf") or (category == "Pi" and not set(run) & set(TIGHT))


def is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def abbreviates(sentence: str) -> bool:
    """Whether a full stop behind these characters of its sentence is none."""
    if re.fullmatch("[0-9]{1,3}", sentence):
        return True
    if sentence[-1].isalpha() and not is_word(sentence[-2:-1] or " "):
        return True
    letters = re.search("[A-Za-z]{2,4}$", sentence)
    if not letters or is_word(sentence[: letters.start()][-1:] or " "):
        return False
    return not VOWEL.search(letters[0]) and not letters[0].isupper()


def ends(sentence: str, run: str, rest: str) -> bool:
    """Whether `sentence`, what stands before `run` in it, ends with `run` before `rest` of the line."""
    if not sentence:
        return False
    if not rest:
        return True
    if set(run) & set(TIGHT):
        return not (run == "\uff0e" and sentence[-1].isdecimal() and rest[0].isdecimal())
    if not re.match(f"[{SPACE}]", rest):
        return False
    after = strip(rest)[0]
    if after in TERMINATORS:
        return False
    if set(run) & TERMINATORS <= {".", "\u2026"} and unicodedata.category(after) == "Ll":
        return False
    return run != "." or not abbreviates(sentence)


def lines(text: str) -> list[str]:
    return [line for line in map(strip, text.split("\n")) if line]


def paragraphs(text: str) -> list[str]:
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if strip(line):
            found[-1].append(line)
        else:
            found.append([])
    return [strip("\n".join(part)) for part in found if part]


def sentences(text: str) -> list[str]:
    found = []
    for line in lines(text):
        start = at = 0
        while at < len(line):
            if line[at] not in TERMINATORS:
                at += 1
                continue
            stop = at
            while stop < len(line) and (line[stop] in TERMINATORS or closes(line[stop], line[at:stop])):
                stop += 1
            if ends(line[start:at], line[at:stop], line[stop:]):
                found.append(line[start:stop])
                while stop < len(line) and re.match(f"[{SPACE}]", line[stop]):
                    stop += 1
                start = stop
            at = stop
        if start < len(line):
            found.append(line[start:])
    return found
