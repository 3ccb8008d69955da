"""The input schema of a run: which input column plays which part, and one type per column over all files.

Invariant: the schema depends on the footers and the recipe alone, never on a value, so every unit of a run casts to
the same types. What a type cannot hold is an error of the rows that hold it (`conform`), not another type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ..stages.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from .listing import Source

# Columns of every batch, and those that a run adds to ledger and data; an input column of such a name gets `input_`.
BATCH = ("doc_id", "source_file", "source_row", "source_hash", "text", "reason", "url", "date")
RESERVED = frozenset(BATCH) | {
    *("n", "row", "alive", "bytes", "chars", "decision", "stage", "rule", "failed", "tags", "out_file", "out_row"),
}
EXTRA = "extra"  # all other keys of a JSON line
VIA = "via"  # the run that a document of an earlier output came through; the nearest one
PROVENANCE = {"source_file": "origin_file", "source_row": "origin_row", "source_hash": "origin_hash"}

TYPE_NAMES = {
    "string": pa.string(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "double": pa.float64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    **{f"{sign}int{bits}": pa.type_for_alias(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": pa.float32(),
    "float64": pa.float64(),
}


def named_type(name: str, where: str) -> pa.DataType:
    """The Arrow type that a recipe names: `string`, `int64`, `double`, `date`, `list<string>`. RecipeError."""
    stripped = name.strip()
    if stripped.startswith("list<") and stripped.endswith(">"):
        return pa.list_(named_type(stripped[5:-1], where))
    if stripped not in TYPE_NAMES:
        raise RecipeError(f"{where}: {name!r} is no type.{did_you_mean(stripped, [*TYPE_NAMES, 'list<string>'])}")
    return TYPE_NAMES[stripped]


@dataclass(frozen=True)
class Roles:
    """Which columns of a file play which part. `passed`: column of this run -> column of the file."""

    text: str
    id: str | None
    url: str | None
    date: str | None
    passed: dict[str, str]


def parsed_type(text: str) -> pa.DataType | None:
    """The Arrow type that prints as `text`, for the types that a JSON line can hold; None for any other."""
    item = re.fullmatch(r"(?:large_)?list<\w+: (.+)>", text)
    if item:
        inner = parsed_type(item[1])
        return None if inner is None else pa.list_(inner)
    moment = re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", text)
    if moment:
        return pa.timestamp(moment[1], moment[2])
    try:
        kind = canonical(pa.type_for_alias(text))
    except ValueError:
        return None
    return None if pa.types.is_binary(kind) else kind


def roles(source: Source, names: Sequence[str], file: str, *, through: bool = False) -> Roles:
    """Applies a source's column names and renames to a file with the columns `names`. RecipeError naming `file` where
    the text is missing or two columns get one name; an id, url or date that this file lacks is None.

    A file that Tamis wrote keeps its identity: doc_id is its id, and its provenance becomes `origin_*`, unless it came
    from such a file itself and has `origin_*` already; then the nearer provenance is left out, the first one stays.
    `through`: the file lies in a run's output, whose name becomes the column `via`; an older `via` is left out.
    """
    present = set(names)
    if source.text not in present:
        raise RecipeError(
            f"{file}: has no column {source.text!r} for the text; name it under input: text:."
            f"{did_you_mean(source.text, present) if present else ' The file has no columns.'}"
        )
    ours = PROVENANCE.keys() <= present
    default_id = "doc_id" if ours and "doc_id" in present else "id"
    found = {"id": source.id or default_id, "url": source.url or "url", "date": source.date or "date"}
    used = {part: name if name in present else None for part, name in found.items()}
    hidden = {source.text, used["url"], used["date"]} | ({"doc_id"} if used["id"] == "doc_id" else set())
    passed: dict[str, str] = {}
    for name in names:
        if name in hidden or (through and name == VIA and name not in source.rename):
            continue
        if ours and name in PROVENANCE:
            if PROVENANCE[name] in present:
                continue
            out = PROVENANCE[name]
        else:
            out = passed_name(source, name)
        if out in passed:
            raise RecipeError(f"{file}: columns {passed[out]!r} and {name!r} would both be {out!r}; see input: rename:")
        passed[out] = name
    return Roles(source.text, used["id"], used["url"], used["date"], passed)


def passed_name(source: Source, name: str) -> str:
    """The name in this run of an input column: renamed, or with `input_` where it bears a name of ours."""
    out = source.rename.get(name, name)
    if out in RESERVED:
        if name in source.rename:
            raise RecipeError(f"input: rename: {name}: {out} is a column of Tamis itself; choose another name")
        return f"input_{out}"
    return out


def canonical(kind: pa.DataType) -> pa.DataType:
    """The one type that a batch uses for a family of encodings: plain strings and binaries, `list`, no dictionaries."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return canonical(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return canonical(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_map(kind):
        return pa.map_(canonical(kind.key_type), canonical(kind.item_type))
    if _is_list(kind):
        return pa.list_(canonical(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, canonical(field.type)) for field in kind])
    if types.is_float16(kind):
        return pa.float32()
    if types.is_date64(kind):
        return pa.date32()
    return kind


def widen(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The type that holds both of two canonical types, or None: wider integers and floats, finer timestamps, strings
    over binaries (which then must hold UTF-8), lists and structs by their members."""
    types = pa.types
    if a == b or types.is_null(b):
        return a
    if types.is_null(a):
        return b
    if types.is_integer(a) and types.is_integer(b):
        return _wider_integer(a, b)
    if types.is_floating(a) and types.is_floating(b):
        return max(a, b, key=lambda kind: kind.bit_width)
    if {a, b} == {pa.string(), pa.binary()}:
        return pa.string()
    if types.is_timestamp(a) and types.is_timestamp(b):
        if (a.tz is None) != (b.tz is None):
            return None
        unit = max(a.unit, b.unit, key=("s", "ms", "us", "ns").index)
        return pa.timestamp(unit, tz=a.tz if a.tz == b.tz else "UTC")
    if types.is_decimal(a) and types.is_decimal(b):
        scale = max(a.scale, b.scale)
        precision = max(a.precision - a.scale, b.precision - b.scale) + scale
        return None if precision > 76 else (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
    if types.is_map(a) and types.is_map(b):
        key, item = widen(a.key_type, b.key_type), widen(a.item_type, b.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if _is_list(a) and _is_list(b):
        value = widen(a.value_type, b.value_type)
        return None if value is None else pa.list_(value)
    if types.is_struct(a) and types.is_struct(b):
        members = {field.name: field.type for field in a}
        for field in b:
            both = widen(members[field.name], field.type) if field.name in members else field.type
            if both is None:
                return None
            members[field.name] = both
        return pa.struct(list(members.items()))
    return None


class Union:
    """Collects the columns of file after file into one schema, in order of first appearance."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[pa.DataType, str]] = {}

    def add(self, name: str, kind: pa.DataType, file: str) -> None:
        """RecipeError where `kind` and what an earlier file has under this name have no common type."""
        first, seen_in = self._found.get(name, (pa.null(), file))
        both = widen(first, kind)
        if both is None:
            raise RecipeError(
                f"column {name!r} is {first} in {seen_in} and {kind} in {file}, and no type holds both; "
                f"say which to use: input: columns: {{{name}: string}}"
            )
        # a message should name the file that brought the type, not one that had only nulls
        self._found[name] = (both, seen_in if both == first else file)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def type_of(self, name: str) -> pa.DataType | None:
        """The type so far, None for a column that no file has."""
        return self._found[name][0] if name in self._found else None

    def schema(self) -> pa.Schema:
        return pa.schema([(name, kind) for name, (kind, _) in self._found.items()])


def castable(kind: pa.DataType, target: pa.DataType) -> bool:
    """Whether `conform` knows a way from one type to another; single values may still not fit."""
    try:
        conform(pa.nulls(0, kind), target)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def conform(column: pa.Array, target: pa.DataType) -> pa.Array:
    """The column as `target`. Strings come out as valid UTF-8: bytes that are not become U+FFFD (labels and metadata;
    the text itself never goes this way). ArrowInvalid for a value that the type cannot hold."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return conform(pc.cast(column, kind.value_type), target)
    if pa.types.is_null(kind):
        return pa.nulls(len(column), target)
    if target == pa.string():
        if pa.types.is_fixed_size_binary(kind):
            return pa.array([None if value is None else value.hex() for value in column.to_pylist()], pa.string())
        if _is_bytes(kind):
            return _valid_utf8(column)
        if pa.types.is_timestamp(kind):
            return iso_time(column)
    elif target == pa.binary() and _is_bytes(kind):
        return column.cast(pa.binary())
    elif pa.types.is_nested(kind) and not _is_valid(column):
        column = pa.array([_repaired(value) for value in _as_bytes(column).to_pylist()], canonical(kind))
    return column.cast(target)


def iso_time(column: pa.Array) -> pa.Array:
    """Timestamps as ISO 8601 strings in whole seconds, which sort as times do: 2024-01-31T12:00:00, UTC if they are aware."""
    seconds = pc.floor_temporal(column.cast(pa.timestamp(column.type.unit)), unit="second").cast(pa.timestamp("s"))
    return pc.replace_substring(seconds.cast(pa.string()), " ", "T")


def label(column: pa.Array) -> pa.Array:
    """An id, url or date column as strings."""
    return conform(column, pa.string())


def can_label(kind: pa.DataType) -> bool:
    """Whether a column of this type can be an id, url or date."""
    return castable(kind, pa.string()) and not pa.types.is_nested(canonical(kind))


def _wider_integer(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    signed = [pa.types.is_signed_integer(kind) for kind in (a, b)]
    if signed[0] == signed[1]:
        return max(a, b, key=lambda kind: kind.bit_width)
    signed_bits, unsigned_bits = (a.bit_width, b.bit_width) if signed[0] else (b.bit_width, a.bit_width)
    bits = max(signed_bits, 2 * unsigned_bits)
    return pa.type_for_alias(f"int{bits}") if bits <= 64 else None


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return views or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return canonical(kind) in (pa.string(), pa.binary())


def _is_valid(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _valid_utf8(column: pa.Array) -> pa.Array:
    raw = column.cast(pa.binary())
    try:
        return raw.cast(pa.string())
    except pa.ArrowInvalid:
        # rare: only a batch that holds a broken string pays for Python values
        fixed = [None if value is None else value.decode("utf-8", "replace") for value in raw.to_pylist()]
        return pa.array(fixed, pa.string())


def _as_bytes(column: pa.Array) -> pa.Array:
    """A nested column with binaries in place of strings, which convert to Python whatever they hold."""

    def swapped(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_map(kind):
            return pa.map_(swapped(kind.key_type), swapped(kind.item_type))
        if pa.types.is_list(kind):
            return pa.list_(swapped(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([(field.name, swapped(field.type)) for field in kind])
        return pa.binary() if kind == pa.string() else kind

    return column.cast(swapped(canonical(column.type)))


def _repaired(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_repaired(item) for item in value)
    if isinstance(value, dict):
        return {key: _repaired(item) for key, item in value.items()}
    return value
