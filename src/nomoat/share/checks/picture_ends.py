"""Where a picture ends by its own format, and that nothing else stands behind it.

Sources: PNG (third edition), 5.3 "Chunk layout"; WebP container specification, "RIFF file format"; JPEG (ITU-T T.81),
annex B.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from nomoat.share.errors import RefusedError

__all__ = ["refuse_more"]

_PNG_HEAD_BYTES, _MOST_CHUNKS = 8, 1_000_000
# In coded data a marker is FF and a byte that is neither stuffing, nor a restart, nor filling.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: TEM, RST, SOI
_EOI, _ZEROS = 0xD9, re.compile(rb"\0*")
_JPEG_START = b"\xff\xd8\xff"


def refuse_more(path: str, kind: str, reader: BinaryIO, size_bytes: int) -> None:
    """Raise `RefusedError` where bytes follow the end of a picture of this kind that can be decoded.

    Behind a JPEG more of them may stand, as telephones write them, and zeros.
    """
    end = {"png": _png_end, "webp": _webp_end, "jpeg": _jpeg_end}[kind](reader, size_bytes)
    if end is None or end < size_bytes:
        place = "it has no end" if end is None else f"byte {end:,}: the picture ends here"
        raise RefusedError(f"{path}: {place}, the file has {size_bytes:,} bytes",
                           "save it again: nothing may hide behind it")  # fmt: skip


def _png_end(reader: BinaryIO, size_bytes: int) -> int | None:
    at = _PNG_HEAD_BYTES
    for _ in range(_MOST_CHUNKS):
        reader.seek(at)
        head = reader.read(8)
        if len(head) < 8:
            return None
        at += 12 + int.from_bytes(head[:4], "big")
        if head[4:] == b"IEND":
            return at
    return None


def _webp_end(reader: BinaryIO, size_bytes: int) -> int | None:
    reader.seek(4)
    length = int.from_bytes(reader.read(4), "little")
    return 8 + length + length % 2


def _jpeg_end(reader: BinaryIO, size_bytes: int) -> int | None:
    reader.seek(0)
    content = reader.read(size_bytes)
    end: int | None = 0
    while end is not None and content.startswith(_JPEG_START, end):
        end = _end_of_one(content, end)
        if end is not None:
            zeros = _ZEROS.match(content, end)
            end = zeros.end() if zeros else end
    return end


def _end_of_one(content: bytes, begin: int) -> int | None:
    at = begin + 2
    while (match := _MARKER.search(content, at)) is not None:
        marker, at = content[match.end() - 1], match.end()
        if marker == _EOI:
            return at
        if marker not in _ALONE:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    return None
