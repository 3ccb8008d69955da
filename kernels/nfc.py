"""One value per code point for `normalize`: removed, a line break, or what NFC needs to know of it.

Invariant: everything but the lists below is asked of `unicodedata`, so the quick check agrees with
`unicodedata.normalize` of the running interpreter.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np

CODE_POINTS = 0x110000
ASSIGNED = 0x40000  # planes 4 and up hold nothing with a combining class or a decomposition (a test checks it)

# values besides a canonical combining class (at most 240)
REMOVED = 253  # C0 without \t and the line breaks, DEL, C1 without NEL, U+FEFF
LINE_BREAK = 254  # mandatory breaks of UAX #14 that are not \n: VT, FF, CR, NEL, LS, PS
MAY_COMPOSE = 255  # NFC_Quick_Check No or Maybe (UAX #15)


@functools.cache
def nfc_table() -> np.ndarray:
    """uint8[0x110000], read-only: what `normalize` must know of a code point. Takes about 0.1 s once.

    0: stays as it is. 1 to 240: its canonical combining class; text stays NFC while classes do not fall within a run
    of them. REMOVED, LINE_BREAK, MAY_COMPOSE: above.
    """
    table = np.zeros(CODE_POINTS, np.uint8)
    seconds = set()
    for code in range(ASSIGNED):
        char = chr(code)
        table[code] = unicodedata.combining(char)
        parts = unicodedata.decomposition(char)
        if parts and parts[0] != "<":
            if unicodedata.normalize("NFC", char) != char:
                table[code] = MAY_COMPOSE
            elif " " in parts:
                seconds.add(int(parts.split()[1], 16))
    table[list(seconds)] = MAY_COMPOSE
    table[0x1161:0x1176] = table[0x11A8:0x11C3] = MAY_COMPOSE  # Hangul vowels and finals compose by rule, not by table
    table[:0x20] = table[0x7F:0xA0] = table[0xFEFF] = REMOVED
    table[[0x9, 0xA]] = 0
    table[[0xB, 0xC, 0xD, 0x85, 0x2028, 0x2029]] = LINE_BREAK
    table.flags.writeable = False
    return table
