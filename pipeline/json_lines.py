"""One line of JSON Lines: its top-level keys, with the bytes of every value as they were written.

Invariant: whether a line is good depends on the line alone: not on which columns are wanted, and not on how deep the
stack is at the call.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.encoder import encode_basestring  # type: ignore[attr-defined]
from typing import Any

import pyarrow as pa

DEEPEST = 200  # levels inside one value; far below what Python's own limit of 1,000 frames leaves in any caller

# numbers stay as written: they may be wider than any type, and Python refuses integers over 4,300 digits
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
_scan = _DECODER.scan_once  # type: ignore[attr-defined]
_open = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*(?:"|(\})[ \t\r\n]*\Z)').match
_colon = re.compile(r"[ \t\r\n]*:[ \t\r\n]*").match
_next = re.compile(r'[ \t\r\n]*(?:,[ \t\r\n]*"|(\})[ \t\r\n]*\Z)').match
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|[\[\]{}]', re.DOTALL)
_UNSAFE = re.compile(r"[\x00-\x1f\ud800-\udfff]|\\u[dD][89a-fA-F]|NaN|Infinity")
_NULLS = frozenset({"null", "NaN", "Infinity", "-Infinity"})


# The decoded string where a value is one, else None; and the value as written.
Value = tuple[str | None, str]


def parse_line(line: str) -> dict[str, Value]:
    """The members of the one object on a line; of a key that comes twice the last. ValueError says what is wrong.

    More is let through than RFC 8259 allows: control characters inside strings, and NaN and Infinity, read as null.
    """
    try:
        return _members(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from error
    except StopIteration as error:
        raise ValueError(f"a value is missing at character {error.value}") from error
    except RecursionError as error:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from error


def _members(line: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    step = _open(line)
    if step is None:
        raise ValueError("the line is not one JSON object")
    while step[1] is None:
        key, at = scanstring(line, step.end(), False)
        step = _colon(line, at)
        if step is None:
            raise ValueError(f"':' is missing at character {at}")
        start = step.end()
        value, end = _scan(line, start)
        raw = line[start:end]
        if raw[0] == '"':
            found[key] = (value, raw)
        else:
            if raw[0] in "[{":
                _check_depth(raw)
            found[key] = (None, raw)
        step = _next(line, end)
        if step is None:
            raise ValueError(f"',' or the end of the one object is missing at character {end}")
    return found


def text_bytes(value: Value | None) -> bytes | None:
    """The UTF-8 bytes of a text; None where it is null or absent. What is no Unicode (a lone surrogate, bytes that the
    line could not be decoded from) comes out as bytes that are no UTF-8 either. ValueError for another type."""
    if value is None or value[1] == "null":
        return None
    text, _ = value
    if text is None:
        raise ValueError("the text is not a string")
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _not_utf8(text)


def as_string(value: Value | None) -> str | None:
    """A value as a string column shows it: strings decoded, everything else as written; null is None."""
    if value is None or value[1] in _NULLS:
        return None
    text, raw = value
    return strict(raw) if text is None else _clean(text)


def converter(kind: pa.DataType) -> Callable[[Value | None], Any]:
    """The function that makes a value of this type: a str, a `pa.Scalar`, or None. It raises ValueError where the value
    does not fit: no number from a string, no integer from 1.5, no truth from a number; dates and times from ISO strings."""
    if kind == pa.string():
        return as_string

    def convert(value: Value | None) -> Any:
        if value is None or value[1] in _NULLS:
            return None
        try:
            return pa.scalar(_typed(json.loads(strict(value[1]), strict=False), kind), kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{value[1][:40]} is no {kind}") from error

    return convert


def _typed(value: Any, kind: pa.DataType) -> Any:
    """A parsed value as Arrow should get it. Arrow by itself cuts 1.5 to 1 and takes true for 1."""
    types = pa.types
    if value is None:
        return None
    if types.is_list(kind) and isinstance(value, list):
        return [_typed(item, kind.value_type) for item in value]
    if types.is_temporal(kind) and isinstance(value, str):
        return pa.scalar(value).cast(kind).as_py()
    if types.is_boolean(kind) and isinstance(value, bool):
        return value
    if (types.is_string(kind) or types.is_binary(kind)) and isinstance(value, str):
        return value
    if not isinstance(value, bool):
        if types.is_integer(kind) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
            return int(value)
        if types.is_floating(kind) and isinstance(value, int | float):
            return float(value)
    raise ValueError


def extra_json(members: dict[str, Value], taken: frozenset[str]) -> str | None:
    """The members that are no column, as one JSON object, values as written; None where there are none."""
    rest = [f"{_key_json(key)}:{strict(raw)}" for key, (_, raw) in members.items() if key not in taken]
    return "{" + ",".join(rest) + "}" if rest else None


@functools.lru_cache(4096)
def _key_json(key: str) -> str:
    return encode_basestring(_clean(key))


def strict(raw: str) -> str:
    """A value as written, made acceptable to strict JSON parsers (DuckDB's): control characters escaped, surrogates
    without a partner replaced by U+FFFD, NaN and Infinity by null."""
    if not _UNSAFE.search(raw):
        return raw
    return _TOKEN.sub(_strict_token, raw)


def _strict_token(match: re.Match[str]) -> str:
    token = match[0]
    if token[0] == '"':
        return encode_basestring(_clean(scanstring(token, 1, False)[0])) if _UNSAFE.search(token) else token
    return token if token in "[]{}" else "null"


def _not_utf8(text: str) -> bytes:
    """The original bytes of a text with surrogates. Escapes such as \\udcc3\\udca9 must not pass for the bytes of an é,
    so where the bytes would be UTF-8 the surrogates are encoded as they are."""
    try:
        original = text.encode("utf-8", "surrogateescape")
        original.decode()
    except UnicodeDecodeError:
        return original
    except UnicodeEncodeError:
        pass
    return text.encode("utf-8", "surrogatepass")


def _clean(text: str) -> str:
    """Without surrogates, which no UTF-8 column can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _check_depth(raw: str) -> None:
    if raw.count("[") + raw.count("{") <= DEEPEST:
        return
    depth = 0
    for token in _TOKEN.finditer(raw):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
