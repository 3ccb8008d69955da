"""What Python's `str` and `re` say of each code point, for the edits, which must cut where plain Python would cut.

Invariant: every class is asked of Python itself, under its Unicode version (`unicodedata.unidata_version`).
"""

from __future__ import annotations

import functools

import numpy as np
from numba import types

from .unicode_classes import SPACE  # str.isspace: what str.strip, str.split and \s mean; `utf8.strip` asks for this bit

BREAK = 2  # str.splitlines ends a line here
UPPER = 4  # str.isupper
DIGIT = 8  # str.isdigit: superscripts too
DECIMAL = 16  # str.isdecimal: \d
ALNUM = 32  # str.isalnum: with the underscore \w
SEPARATOR = 64  # white space of fastText's tokenizer: ASCII, with NUL

# types of what the edits' kernels take: views of `arrow.text_buffers`, and the table
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
OFFSETS = types.Array(types.int64, 1, "C", readonly=True)


@functools.cache
def str_classes() -> np.ndarray:
    """uint8[0x110000], read-only: the bits above of every code point. Built once per process, in about 0.2 s."""
    table = np.zeros(0x110000, np.uint8)
    chars = [chr(code) for code in range(0x40000)]  # planes 4 and up have none of these (a test looks)
    for bit, member in (
        (SPACE, str.isspace),
        (UPPER, str.isupper),
        (DIGIT, str.isdigit),
        (DECIMAL, str.isdecimal),
        (ALNUM, str.isalnum),
    ):
        table[: len(chars)][np.fromiter(map(member, chars), bool, len(chars))] |= bit
    for code in np.flatnonzero(table & SPACE):
        table[code] |= BREAK if len(f"a{chr(code)}b".splitlines()) == 2 else 0
    table[[ord(c) for c in " \n\r\t\v\f\0"]] |= SEPARATOR
    table.flags.writeable = False
    return table
