"""The three definitions of a word in plain Python, slow and explicit: oracles for kernels/words.py and punct_words.py.

Invariant: nothing compiled is used. `punct` is the specification that was fitted to spaCy's English tokenizer on the
documents of tests/bench; its white space, letters and categories are asked of `str` and `unicodedata`.
"""

from __future__ import annotations

import re
import unicodedata

from tamis.kernels import unicode_classes as u

STRIP_RIGHT = frozenset("…,:;!?()[]{}<>_#*&'\"`—–“”‘’‚„«»´¿¡·؟،۔؛٪।。？！，、；：～「」『』（）〔〕【】《》〈〉⟦⟧")
STRIP_LEFT = STRIP_RIGHT | frozenset("§%=")  # besides: currency signs, symbols (So), '+' before a non-digit
QUOTING = frozenset("'\"`,“”‘’‚„«»´「」『』（）〔〕【】《》〈〉⟦⟧")
BEFORE_DOT = (STRIP_RIGHT - frozenset("—–")) | frozenset("0123456789%+-²")  # besides: lower letters
_UNITS = "km m dm cm mm ha nm yd in ft kg g mg t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K %"
_ABBREVIATIONS = (
    "Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. "
    "Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Sep. Sept. Tenn. Va. Wash. Wis. "
    "Adm. Bros. co. Co. Corp. Dr. Gen. Gov. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. Prof. Rep. Rev. Sen. St. "
    "vs. v.s. a.m. p.m. e.g. i.e. E.g. I.e. Ph.D."
)
UNITS = frozenset(_UNITS.split())
WHOLE = frozenset(_ABBREVIATIONS.split()) | {"'s", "’s", "''"}
NO_SPACES = (
    *("CJK UNIFIED", "CJK COMPATIBILITY I", "IDEOGRAPHIC CLOSING", "IDEOGRAPHIC NUMBER", "HANGZHOU NUMERAL"),
    *("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA LETTER", "HALFWIDTH KATAKANA-H", "VERTICAL KANA REPEAT"),
    *("THAI", "LAO", "MYANMAR", "KHMER", "TAI ", "NEW TAI LUE", "TANGUT", "NUSHU", "AHOM", "HENTAIGANA"),
)


def digit(c: str) -> bool:
    return c in "0123456789"


def upper(c: str) -> bool:
    return c.isalpha() and unicodedata.category(c) != "Ll"


def lower(c: str) -> bool:
    return c.isalpha() and unicodedata.category(c) not in ("Lu", "Lt")


def alone(c: str) -> bool:
    """A letter of a script without spaces."""
    return unicodedata.category(c) in ("Lo", "Lm", "Nl") and unicodedata.name(c, "").startswith(NO_SPACES)


def mark(c: str) -> bool:
    return (unicodedata.category(c) in ("Mn", "Me", "Mc", "Cf") and c != "\u200b") or c in "\uff9e\uff9f"


def chunks(text: str) -> list[str]:
    """Maximal runs without white space; a letter that stands alone is one, with the marks behind it."""
    found: list[str] = []
    for piece in text.split():
        start = i = 0
        while i < len(piece):
            if not alone(piece[i]):
                i += 1
                continue
            if i > start:
                found.append(piece[start:i])
            start, i = i, i + 1
            while i < len(piece) and mark(piece[i]):
                i += 1
            found.append(piece[start:i])
            start = i
        if start < len(piece):
            found.append(piece[start:])
    return found


def left(s: str) -> int:
    if s[0] == ".":
        run = len(s) - len(s.lstrip("."))
        return run if run > 1 else 0
    if s[0] == "+":
        return 0 if len(s) > 1 and digit(s[1]) else 1
    return int(s[0] in STRIP_LEFT or unicodedata.category(s[0]) in ("So", "Sc"))


def right(s: str) -> int:
    c, before = s[-1], s[-2] if len(s) > 1 else " "
    if c == ".":
        run = len(s) - len(s.rstrip("."))
        if run > 1:
            return run
        capitals = len(s) > 2 and upper(before) and upper(s[-3])
        return int(before in BEFORE_DOT or lower(before) or capitals)
    if c in "sS" and before in "'’":
        return 2
    if c in STRIP_RIGHT or unicodedata.category(c) == "So":
        return 1
    if digit(before) and (c == "+" or unicodedata.category(c) == "Sc"):
        return 1
    for n in (4, 3, 2, 1):
        if len(s) > n and digit(s[-n - 1]) and s[-n:] in UNITS:
            return n
    return 0


def whole(s: str) -> bool:
    return s in WHOLE or (len(s) == 2 and s[1] == "." and lower(s[0]))


def contraction(s: str) -> int:
    if s in ("cannot", "Cannot"):
        return 3
    if re.search(r"(?s).n['’]t\Z", s):
        return len(s) - 3
    found = re.search(r"['’](?:ll|ve|re|m|d)\Z", s)
    return found.start() if found and found.start() and s[found.start() - 1].isalpha() else 0


def host(s: str) -> bool:
    """Whether s begins with label.label.tld (and :port), then nothing, or one of / ? # and anything."""
    inner = "[0-9A-Za-z\u00a1-\U0010ffff]"
    found = re.match(rf"(?s)((?:{inner}(?:(?:{inner}|[_-])*{inner})?\.)+)({inner}|[_-])*", s)
    if not found:
        return False
    tld, rest = s[found.end(1) : found.end()], s[found.end() :]
    if len(tld) < 2 or not all(map(lower, tld)):
        return False
    return re.match(r"(?s)(?::[0-9]{2,5})?(?:[/?#].*)?\Z", rest) is not None


def address(s: str) -> bool:
    at = s.find("://")
    start = at + 3 if at >= 2 and all(c.isalnum() or c in "_+-." for c in s[:at]) else 0
    return host(s[start:]) or any(host(s[k + 1 :]) for k in range(start, len(s)) if s[k] == "@")


def infix(s: str, i: int) -> int:
    c, p = s[i], s[i - 1]
    nx = s[i + 1] if i + 1 < len(s) else " "
    if c == "." and nx == ".":
        return len(s[i:]) - len(s[i:].lstrip("."))
    if c == "…" or unicodedata.category(c) == "So":
        return 1
    if c in "+-*^" and digit(p) and (digit(nx) or nx == "-"):
        return 1
    if c == ".":
        return int((lower(p) or p in QUOTING) and (upper(nx) or nx in QUOTING))
    if c == ",":
        return int(p.isalpha() and nx.isalpha())
    if c in ":<>=/":
        return int((p.isalpha() or digit(p)) and nx.isalpha())
    if c in "-–—~" and (p.isalpha() or digit(p)):
        most = {"-": 3, "—": 2}.get(c, 1)
        n = 1
        while n < most and s[i + n : i + n + 1] == c:
            n += 1
        return n if s[i + n : i + n + 1].isalpha() else 0
    return 0


def punct_chunk(s: str) -> list[str]:
    head, tail = [], []
    while s and not whole(s) and (n := left(s)):
        head.append(s[:n])
        s = s[n:]
    while s and not whole(s) and (n := right(s)):
        tail.insert(0, s[-n:])
        s = s[:-n]
    if not s:
        return head + tail
    middle = []
    if whole(s):
        middle = [s]
    elif n := contraction(s):
        middle = [s[:n], s[n:]]
    elif address(s):
        middle = [s]
    else:
        start, i = 0, 1
        while i < len(s):
            n = infix(s, i)
            if n:
                middle += [s[start:i]] * (i > start) + [s[i : i + n]]
                start = i = i + n
            else:
                i += 1
        middle += [s[start:]] * (start < len(s))
    return head + middle + tail


def punct_words(text: str) -> list[str]:
    return [word for chunk in chunks(text) for word in ([chunk] if alone(chunk[0]) else punct_chunk(chunk))]


def punct_sentences(line: str) -> int:
    count, ended = 0, True
    for word in punct_words(line):
        if len(word) == 1 and u.classes()[ord(word)] & u.STOP:
            count, ended = max(count, 1), True
        elif count == 0 or (ended and not all(unicodedata.category(c)[0] == "P" for c in word)):
            count, ended = count + 1, False
    return count


# --- UAX #29, rule by rule: what may stand before a place and after it for the place to be no boundary -------------

_CODES = "oAHNKXJlnbqdw"  # in the order of OTHER, LETTER, HEBREW, ... NEWLINE of unicode_classes
_RULES = [
    ("[AH]", "[AH]"),
    ("[AH]", "[lbq][AH]"),
    ("[AH][lbq]", "[AH]"),
    ("H", "q"),
    ("H", "dH"),
    ("Hd", "H"),
    ("N", "N"),
    ("[AH]", "N"),
    ("N", "[AH]"),
    ("N[nbq]", "N"),
    ("N", "[nbq]N"),
    ("K", "K"),
    ("[AHNKJ]", "J"),
    ("J", "[AHNK]"),
]
_BEFORE_AND_AFTER = [(re.compile(before + r"\Z"), re.compile(after)) for before, after in _RULES]


def unicode_segments(text: str) -> list[str]:
    """The text cut at every UAX #29 word boundary (WB3c, WB3d and WB15-16 left out)."""
    codes = "".join(_CODES[u.classes()[ord(c)] >> u.WORD_BREAK] for c in text)
    found, start = [], 0
    for i in range(1, len(text)):
        if "w" not in codes[i - 1 : i + 1]:
            if codes[i] == "X":
                continue
            bare = codes[:i].rstrip("X")
            if bare and bare[-1] != "w":
                before = bare.rpartition("w")[2].replace("X", "")
                after = codes[i : i + 40].replace("X", "")
                if any(b.search(before) and a.match(after) for b, a in _BEFORE_AND_AFTER):
                    continue
        found.append(text[start:i])
        start = i
    return [*found, text[start:]] if text else []


def unicode_words(text: str) -> list[str]:
    return [segment for segment in unicode_segments(text) if segment[0].isalnum()]


def fasttext_words(text: str) -> list[str]:
    return [word for word in re.split("[\0\t\n\v\f\r ]+", text) if word and word[0].isalnum()]
