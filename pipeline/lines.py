"""Lines of a file that may be compressed, as a stream.

Invariant: memory is a block and the longest line that is kept, whatever a compressed file unfolds to; every byte that
can be decompressed before a break is delivered before the break is reported.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pyarrow as pa

from .footers import first_line
from .storage import InputStream

BLOCK = 1 << 20  # bytes per read, and per step of decompression
ZSTD_STEP = 64 << 10  # zstd loses a whole step at a break, so it takes short ones


class BrokenStream(Exception):
    """The rest of a compressed file cannot be read. `position`: where in the stored bytes."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position


def blocks(stream: InputStream, url: str) -> Iterator[bytes]:
    """The decompressed bytes of a file, by the ending of its name. BrokenStream."""
    if url.endswith(".gz"):
        yield from _gunzip(stream)
    elif url.endswith(".zst"):
        yield from _unzstd(stream)
    else:
        while block := stream.read(BLOCK):
            yield block


def lines(parts: Iterator[bytes], limit: int) -> Iterator[bytes | None]:
    """The lines without their newline, in order; None for one over `limit` bytes, which is passed without being held.
    The last one needs no newline. A break in `parts` passes through; the unfinished line before it is dropped."""
    held: list[bytes] = []
    size = 0

    def keep(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > limit:
            held.clear()
        elif piece:
            held.append(piece)

    for block in parts:
        *whole, rest = block.split(b"\n")
        for piece in whole:
            keep(piece)
            yield b"".join(held) if size <= limit else None
            held.clear()
            size = 0
        keep(rest)
    if size:
        yield b"".join(held) if size <= limit else None


def _gunzip(stream: InputStream) -> Iterator[bytes]:
    """Members one after the other, as gzip and bgzip write them; zero bytes after the last are padding."""
    position = 0  # stored bytes before `data`
    data = stream.read(BLOCK)
    while data:
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while not inflate.eof:
            if not data:
                data = stream.read(BLOCK)
            if not data:
                raise BrokenStream(position, "the gzip stream ends before its end mark")
            before, taken = inflate.copy(), len(data)
            try:
                block = inflate.decompress(data, BLOCK)
            except zlib.error as error:
                yield from _inflate_to_break(before, data)
                raise BrokenStream(position, first_line(error)) from error
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            position += taken - len(data)
            if block:
                yield block
        while data is not None and not data.strip(b"\0"):
            position += len(data)
            data = stream.read(BLOCK)
            if not data:
                return


def _inflate_to_break(inflate: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What zlib can still make of `data` before the byte that it cannot take: a failed call gives nothing back."""
    for index in range(len(data)):
        try:
            block = inflate.decompress(data[index : index + 1])
        except zlib.error:
            return
        if block:
            yield block


def _unzstd(stream: InputStream) -> Iterator[bytes]:
    inflated = pa.CompressedInputStream(stream, "zstd")
    while True:
        try:
            block = inflated.read(ZSTD_STEP)
        except (OSError, pa.ArrowException) as error:
            raise BrokenStream(stream.tell(), first_line(error)) from error
        if not block:
            return
        yield block
