"""128-bit keys of texts, URLs and other values: documents with equal keys are exact duplicates.

Invariant: equal normalised values have equal keys whatever their Arrow type, batch or neighbours; null has none.
Two different values share a key with probability below 2^-68 among 10^9 documents (xxh3-128).
"""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .arrow import one_array, text_buffers

Column: TypeAlias = pa.ChunkedArray | pa.Array
SCOPE_SEED = 1  # so that a scope's hash is unrelated to the hash of an equal key


def text_keys(text: Column, *, normalize: bool) -> pa.Table:
    """Keys of texts. `normalize`: runs of Unicode White_Space are one space, none at the ends, letters in their simple
    lower case. A text that is empty, or becomes so, has a key like any other: such documents are equal.
    """
    data, offsets = text_buffers(text)
    if normalize:
        from ..kernels.squash import squash

        data, offsets = squash(data, offsets)
    return _keys(data, offsets, np.asarray(one_array(text.is_valid())))


def url_keys(url: Column, *, normalize: bool) -> pa.Table:
    """Keys of URLs, as written or normalised by `normal_url`; an empty URL has none."""
    urls = url.cast(pa.large_string())
    return value_keys(normal_url(urls) if normalize else pc.if_else(pc.equal(urls, ""), None, urls))


def value_keys(values: Column, *, seed: int = 0) -> pa.Table:
    """Columns `hi`, `lo` (uint64, null where the value is): xxh3-128 of the value's bytes, of its text where it is no
    string. Raises pa.ArrowInvalid or pa.ArrowNotImplementedError for types that have no text (lists, structs)."""
    binary = pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    array = one_array(values if binary else values.cast(pa.large_string())).cast(pa.large_binary())
    offsets = np.frombuffer(array.buffers()[1] or b"\0" * 8, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    return _keys(data, offsets, np.asarray(array.is_valid()), seed)


def in_scope(keys: pa.Table, scope: Column) -> pa.Table:
    """The keys, each made unequal to the same key under another scope value; null where the scope is null."""
    encoded = one_array(scope.cast(pa.large_string())).dictionary_encode()
    salts = value_keys(encoded.dictionary, seed=SCOPE_SEED).take(encoded.indices)
    return pa.table({half: pc.bit_wise_xor(keys[half], salts[half]) for half in ("hi", "lo")})


def normal_url(urls: Column) -> pa.ChunkedArray | pa.Array:
    """URLs without what does not change the page: `http://` or `https://`, its default port, the fragment and one slash
    at the end of the path; the ASCII letters of scheme and host in lower case. Empty ones become null.

    Conservative: `www.`, queries, percent-encoding and the path's case stay, because sites differ in them. Other
    schemes stay; what has no scheme is read as beginning with the host, as browsers do.
    """
    found = pc.replace_substring_regex(pc.utf8_trim_whitespace(urls), r"(?s)#.*$", "")
    for scheme, port in (("http", 80), ("https", 443)):
        pattern = rf"(?s)^(?i:{scheme}):(//[^/?]*):{port}([/?]|$)"
        found = pc.replace_substring_regex(found, pattern, rf"{scheme}:\1\2")
    found = pc.replace_substring_regex(found, r"^(?:(?i:https?):)?//", "")
    split = pc.extract_regex(
        found, r"(?s)^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)?(?P<user>[^/?]*@)?(?P<host>[^/?]*)(?P<path>.*)$"
    )
    scheme, user, host, path = (pc.struct_field(split, name) for name in ("scheme", "user", "host", "path"))
    path = pc.replace_substring_regex(path, r"(?s)^([^?]*)/(\?|$)", r"\1\2")
    joined = pc.binary_join_element_wise(
        pc.ascii_lower(scheme), user, pc.ascii_lower(host), path, pa.scalar("", pa.large_string())
    )
    return pc.if_else(pc.equal(joined, ""), None, joined)


def _keys(data: np.ndarray, offsets: np.ndarray, valid: np.ndarray, seed: int = 0) -> pa.Table:
    """`hi`, `lo` of data[offsets[i]:offsets[i + 1]]; null where not valid."""
    view, bounds = data.data, offsets.tolist()
    # 0.4 us a document beside 5 us for reading and normalising its text: xxh3 has no vectorised form in Arrow
    digests = b"".join([xxhash.xxh3_128_digest(view[a:b], seed) for a, b in itertools.pairwise(bounds)])
    halves = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
    return pa.table({"hi": pa.array(halves[:, 0], mask=~valid), "lo": pa.array(halves[:, 1], mask=~valid)})


def hex_keys(hi: np.ndarray, lo: np.ndarray) -> pa.Array:
    """The keys as strings of 32 hex digits."""
    pairs = np.stack([hi, lo], axis=1).astype(">u8").view(np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.stack([digits[pairs >> 4], digits[pairs & 15]], axis=-1).reshape(-1)
    offsets = np.arange(0, 32 * len(hi) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(len(hi), pa.py_buffer(offsets), pa.py_buffer(text))
