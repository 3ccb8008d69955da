"""`normalize`: NFC, one kind of line ending, no control characters.

Invariant: edit(edit(x)) == edit(x) (without `repair`), and a batch that needs nothing comes back as the same buffers.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from .arrow import one_array, text_array, text_buffers
from .base import Column, Stage, StageConfig


class NormalizeConfig(StageConfig):
    """What `use: normalize` takes."""

    repair: bool = Field(
        default=False, description="mend mis-decoded text with ftfy first (3 MB/s per core, plain ASCII aside)"
    )
    max_newlines: int | None = Field(
        default=None, ge=1, description="cut longer runs of newlines to this many; null leaves them"
    )
    strip: bool = Field(default=False, description="take white space off both ends")


class Normalize(Stage):
    """Unicode NFC, one kind of line ending, no control characters.

    In this order: ftfy's repair if asked, with the settings of datatrove's FTFYFormatter less those that the next steps
    cover; every mandatory line break of UAX #14 becomes \\n (CR LF, CR, VT, FF, NEL U+0085, LS U+2028, PS U+2029:
    removing VT, FF and NEL as control characters would glue words); removed are U+0000-0008, U+000E-001F, U+007F,
    U+0080-0084, U+0086-009F and U+FEFF (byte order mark); runs of newlines; white space at the ends; NFC.
    Zero-width joiners and spaces, soft hyphens and no-break spaces stay: they carry meaning in several scripts.
    """

    Config = NormalizeConfig

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column("normalize_controls", pa.int32(), "control characters and U+FEFF removed"),
            Column("normalize_line_breaks", pa.int32(), "line breaks other than \\n rewritten as \\n (CR LF is one)"),
        )

    def fingerprint(self) -> str:
        if not self.config.repair:
            return f"unicode {unicodedata.unidata_version}"
        import ftfy

        return f"unicode {unicodedata.unidata_version}, ftfy {ftfy.__version__}"

    def warm(self) -> None:
        self.edit(pa.table({"text": pa.array(["a\r\n", "e\u0301"], pa.large_string())}))

    def edit(self, batch: pa.Table) -> pa.Table:
        from ..kernels import normalize as kernel
        from ..kernels.nfc import nfc_table
        from ..kernels.str_classes import str_classes

        text = one_array(batch["text"])
        if text.type != pa.large_string() or text.null_count:
            text = text.cast(pa.large_string()).fill_null("")
        if self.config.repair:
            text = _repaired(text)
        rules = nfc_table(), str_classes(), self.config.max_newlines or 0, self.config.strip
        data, offsets = text_buffers(text)
        flags = kernel.scan(data, offsets, *rules)
        controls = breaks = np.zeros(len(flags), np.int32)
        if (flags & kernel.CLEAN).any():
            data, offsets, controls, breaks = kernel.clean(data, offsets, flags, *rules)
            text = text_array(data, offsets)
        text = _mapped(text, flags & kernel.COMPOSE != 0, lambda value: unicodedata.normalize("NFC", value))
        return pa.table({"text": text, "normalize_controls": controls, "normalize_line_breaks": breaks})


def _mapped(text: pa.Array, chosen: np.ndarray, function: Any) -> pa.Array:
    """`text` with function(value) at the rows of the mask `chosen`; the same array where that changes nothing."""
    rows = np.flatnonzero(chosen)
    old = text.take(pa.array(rows)).to_pylist()
    new = [function(value) for value in old]
    changed = np.array([a != b for a, b in zip(old, new)], bool)
    if not changed.any():
        return text
    mask = np.zeros(len(text), bool)
    mask[rows[changed]] = True
    values = [value for value, differs in zip(new, changed) if differs]
    return pc.replace_with_mask(text, pa.array(mask), pa.array(values, pa.large_string()))


def _repaired(text: pa.Array) -> pa.Array:
    """ftfy's fix_text on the texts where it can find anything: not plain ASCII without `&` and escape sequences."""
    import ftfy

    config = ftfy.TextFixerConfig(
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    suspect = pc.invert(pc.match_substring_regex(text, r"\A[^\x1b&\x80-\x{10FFFF}]*\z"))
    return _mapped(text, suspect.to_numpy(zero_copy_only=False), lambda value: ftfy.fix_text(value, config))
