"""One flat table of character classes, indexed by code point, for the loops that read UTF-8 bytes.

Invariant: every class that Python's `str` knows (white space, letters, line breaks) is asked of Python itself, so that
a kernel agrees with `str.split`, `str.isalpha` and `str.splitlines` of the running interpreter. What `unicodedata` does
not hold (UAX #29 word breaks, sentence ends) stands below as ranges; tests compare them with the Unicode database.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np

# classes, one bit each
SPACE = 1  # str.isspace; what str.split and str.strip take
ALPHA = 2  # str.isalpha
ALNUM = 4  # str.isalnum
SYMBOL = 8  # in datatrove's PUNCTUATION_SET: a word of these alone is no word
STOP = 16  # ends a sentence or line
BREAK = 32  # str.splitlines breaks here (a CR LF pair breaks once)
ALONE = 64  # a letter of a script written without spaces: a word by itself
PUNCT = 128  # category P
LOWER = 256  # a letter that is not Lu or Lt; so one without case is LOWER and UPPER
UPPER = 512  # a letter that is not Ll
DIGIT = 1024  # ASCII 0 to 9
CURRENCY = 2048  # category Sc
ICON = 4096  # category So
STRIP_RIGHT = 1 << 13  # split off at the end of a chunk by the `punct` tokenizer
STRIP_LEFT = 1 << 14  # ... and at its start
QUOTING = 1 << 15  # a quotation mark or bracket on either side of a full stop inside a chunk
BEFORE_DOT = 1 << 16  # a full stop behind it is split off (as behind a LOWER letter)
INSIDE = 1 << 17  # may split a chunk in its middle
WORD_BREAK = 24  # the four bits from here up: the UAX #29 class

# UAX #29 classes; those of no consequence for words that begin with a letter or digit are OTHER
OTHER, LETTER, HEBREW, NUMERIC, KATAKANA, EXTEND, JOIN, MID_LETTER, MID_NUM, MID_BOTH, APOSTROPHE, QUOTE, NEWLINE = (
    range(13)
)

# Scripts without spaces (Thai, Lao, Myanmar, Khmer, Tai, Hiragana, Han, Ahom, Tangut, Nushu ...): letters that UAX #29
# leaves to a dictionary or breaks around. Katakana are ALONE too, but UAX #29 joins them.
_ALONE = """E01-EDF 1000-109F 1780-17DC 1950-19C9 1A20-1AA7 3006-3007 3021-3029 3038-303A 3041-3096 309D-309F 3400-4DBF
4E00-9FFF A9E0-A9FE AA60-AADD F900-FAD9 11700-11746 17000-18D08 1B001-1B11F 1B150-1B152 1B170-1B2FB 20000-3FFFD"""
_KATAKANA = """3031-3035 309B-309C 30A0-30FA 30FC-30FF 31F0-31FF 32D0-32FE 3300-3357 FF66-FF9D 1AFF0-1AFF3 1AFF5-1AFFB
1AFFD-1AFFE 1B000 1B120-1B122 1B124-1B128 1B155 1B164-1B168"""
_HEBREW = "5D0-5EA 5EF-5F2 FB1D FB1F-FB28 FB2A-FB36 FB38-FB3C FB3E FB40-FB41 FB43-FB44 FB46-FB4F"
# Word_Break=ALetter without being a letter by category
_LETTER_LIKE = """B8 2C2-2C5 2D2-2D7 2DE-2DF 2E5-2EB 2ED 2EF-2FF 55A-55C 55E 58A 5F3 70F 24B6-24E9 A708-A716 A720-A721
A789-A78A AB5B 1F130-1F149 1F150-1F169 1F170-1F189"""
_NUMERIC_LIKE = "600-605 66B 6DD 890-891 8E2 19DA 110BD 110CD"
_EXTEND_LIKE = "200C FF9E-FF9F 1F3FB-1F3FF E0020-E007F"
_MID_LETTER = "3A B7 387 55F 5F4 2027 FE13 FE55 FF1A"
_MID_NUM = "2C 3B 37E 589 60C 60D 66C 7F8 2044 FE50 FE54 FF0C FF1B"
_MID_BOTH = "2E 2018 2019 2024 FE52 FF07 FF0E"
_NEWLINE = "A-D 85 2028 2029"

# Sentence ends: datatrove's TERMINAL_PUNCTUATION, that is Unicode's Sentence_Terminal with small differences.
# spaCy's sentencizer, which datatrove uses to count sentences, knows all but 31 of them (rare or new scripts).
_STOP = """21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6
17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C
2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01
FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF
11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43
11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88"""

# datatrove's PUNCTUATION besides sentence ends and control characters (which it counts as punctuation, tab and
# line feed apart; those two are never inside a word).
_SYMBOLS = "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"

# For the `punct` tokenizer, after spaCy's English punctuation rules (see punct_words).
_STRIP_RIGHT = "…,:;!?()[]{}<>_#*&'\"`—–“”‘’‚„«»´¿¡·؟،۔؛٪।。？！，、；：～「」『』（）〔〕【】《》〈〉⟦⟧"
_INSIDE = ".…+-*^,:<>=/–—~"
_QUOTING = "'\"`,“”‘’‚„«»´「」『』（）〔〕【】《》〈〉⟦⟧"


def _ranges(text: str) -> list[tuple[int, int]]:
    pairs = (item.partition("-") for item in text.split())
    return [(int(first, 16), int(last or first, 16) + 1) for first, _, last in pairs]


def _mark(column: np.ndarray, text: str, value: int) -> None:
    for first, last in _ranges(text):
        column[first:last] = value


def unspaced() -> np.ndarray:
    """bool[0x110000]: code points of the scripts written without spaces, kana among them, letters or not."""
    found = np.zeros(0x110000, bool)
    _mark(found, _ALONE, 1)
    _mark(found, _KATAKANA, 1)
    return found


@functools.cache
def classes() -> np.ndarray:
    """uint32, 0x110000 entries (4.4 MB, of which a text touches a few lines): the class bits of every code point.

    Built once per process, in about 0.3 s. Code points of planes 4 to 13 are unassigned and have no class.
    """
    points = [*range(0x40000), *range(0xE0000, 0x110000)]
    chars = [chr(p) for p in points]
    index = np.array(points)
    size = 0x110000

    def where(test) -> np.ndarray:
        flags = np.zeros(size, bool)
        flags[index] = np.fromiter(map(test, chars), bool, len(chars))
        return flags

    alpha, alnum = where(str.isalpha), where(str.isalnum)
    names = np.array(list(map(unicodedata.category, chars)))
    category = np.full(size, "Cn")
    category[index] = names
    alone = np.zeros(size, bool)
    _mark(alone, _ALONE, 1)
    katakana = np.zeros(size, bool)
    _mark(katakana, _KATAKANA, 1)
    letter = np.isin(category, ["Lu", "Ll", "Lt", "Lm", "Lo", "Nl"])
    mark = np.isin(category, ["Mn", "Me", "Mc"])

    breaks = np.zeros(size, np.uint32)
    breaks[letter & ~alone] = LETTER
    _mark(breaks, _LETTER_LIKE, LETTER)
    _mark(breaks, _HEBREW, HEBREW)
    breaks[category == "Nd"] = NUMERIC
    _mark(breaks, _NUMERIC_LIKE, NUMERIC)
    breaks[katakana] = KATAKANA
    breaks[mark | ((category == "Cf") & (np.arange(size) != 0x200B) & (breaks == OTHER))] = EXTEND
    _mark(breaks, _EXTEND_LIKE, EXTEND)
    breaks[category == "Pc"] = JOIN
    breaks[0x202F] = JOIN
    _mark(breaks, _MID_LETTER, MID_LETTER)
    _mark(breaks, _MID_NUM, MID_NUM)
    _mark(breaks, _MID_BOTH, MID_BOTH)
    breaks[0x27] = APOSTROPHE
    breaks[0x22] = QUOTE
    _mark(breaks, _NEWLINE, NEWLINE)

    stop = np.zeros(size, bool)
    _mark(stop, _STOP, 1)
    symbol = stop.copy()
    symbol[[ord(c) for c in _SYMBOLS]] = True
    for first, last in ((0, 9), (11, 13), (13, 32), (127, 160)):
        symbol[first:last] = True
    table = breaks << np.uint32(WORD_BREAK)
    for bit, member in (
        (SPACE, where(str.isspace)),
        (ALPHA, alpha),
        (ALNUM, alnum),
        (SYMBOL, symbol),
        (STOP, stop),
        (BREAK, where(lambda c: len(("a" + c + "a").splitlines()) == 2)),
        (ALONE, letter & (alone | katakana)),
        (PUNCT, np.isin(category, ["Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"])),
        (LOWER, alpha & (category != "Lu") & (category != "Lt")),
        (UPPER, alpha & (category != "Ll")),
        (CURRENCY, category == "Sc"),
        (ICON | INSIDE, category == "So"),
    ):
        table[member] |= np.uint32(bit)
    for bit, members in (
        (DIGIT, "0123456789"),
        (STRIP_RIGHT, _STRIP_RIGHT),
        (STRIP_LEFT, _STRIP_RIGHT + "§%="),
        (QUOTING, _QUOTING),
        (INSIDE, _INSIDE),
        (BEFORE_DOT, _STRIP_RIGHT.replace("—", "").replace("–", "") + "0123456789%+-²"),
    ):
        table[[ord(c) for c in members]] |= np.uint32(bit)
    table.setflags(write=False)
    return table
