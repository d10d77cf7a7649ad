"""Xorbs: chunks one behind the other, each packed, as clients send them.

Source: the Xet protocol specification, "Xorb format". The footer repeats what the chunks say; it is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import lz4.frame
import numpy as np

from nomoat.share.errors import RefusedError
from nomoat.share.xet.hashes import Chunk, chunk_hash, to_text, xorb_hash

__all__ = ["MOST_CHUNKS", "MOST_CHUNK_BYTES", "MOST_PACKED_BYTES", "MOST_XORB_BYTES", "Xorb", "read_xorb"]

MOST_XORB_BYTES = 64 << 20
"""Of unpacked content. What is sent may have the headers of its chunks and a footer on top."""
MOST_PACKED_BYTES = MOST_XORB_BYTES + (1 << 20)
MOST_CHUNK_BYTES = 128 << 10
MOST_CHUNKS = 8192
_FOOTER = b"XETBLOB"
_HEADER_BYTES = 8
_PLAIN, _LZ4, _GROUPED_LZ4 = 0, 1, 2
_REMEDY = "send it again"


class Xorb(NamedTuple):
    """A xorb's chunks, and the unpacked content of each."""

    chunks: list[Chunk]
    pieces: list[bytes | memoryview]


def read_xorb(data: bytes | bytearray, hash: bytes) -> Xorb:
    """Unpack a xorb and recompute every hash. Raises `RefusedError` where it is damaged or not what `hash` says."""
    if len(data) > MOST_PACKED_BYTES:
        raise RefusedError(f"the xorb has {len(data):,} bytes, more than {MOST_PACKED_BYTES:,}", "divide it")
    chunks: list[Chunk] = []
    pieces: list[bytes | memoryview] = []
    size = 0
    for chunk in _chunks(memoryview(data)):
        if len(chunks) == MOST_CHUNKS or size + len(chunk) > MOST_XORB_BYTES:
            raise RefusedError(
                f"the xorb has more than {MOST_CHUNKS:,} chunks or too many bytes unpacked", "divide it"
            )
        chunks.append(Chunk(chunk_hash(chunk), len(chunk)))
        pieces.append(chunk)
        size += len(chunk)
    if not chunks or xorb_hash(chunks) != hash:
        raise RefusedError(f"the chunks are not those of the xorb {to_text(hash)}", _REMEDY)
    return Xorb(chunks, pieces)


def _chunks(data: memoryview) -> Iterator[bytes | memoryview]:
    at = 0
    while at < len(data) and bytes(data[at : at + len(_FOOTER)]) != _FOOTER:
        header = data[at : at + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or header[0] != 0:
            raise RefusedError(f"the xorb has no sound chunk at byte {at:,}", _REMEDY)
        packed, size = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
        at += _HEADER_BYTES
        if not 0 < size <= MOST_CHUNK_BYTES or packed > 2 * MOST_CHUNK_BYTES or at + packed > len(data):
            raise RefusedError(f"the chunk at byte {at:,} has a size that cannot be", _REMEDY)
        yield _unpacked(data[at : at + packed], header[4], size)
        at += packed


def _unpacked(packed: memoryview, scheme: int, size: int) -> bytes | memoryview:
    content: bytes | memoryview
    if scheme == _PLAIN:
        content = packed
    elif scheme in {_LZ4, _GROUPED_LZ4}:
        content = _decompressed(packed, size)
    else:
        raise RefusedError(f"a chunk is packed in way {scheme}, which is not known", "use a known one")
    if len(content) != size:
        raise RefusedError(f"a chunk has {len(content):,} bytes where {size:,} were announced", _REMEDY)
    return _regrouped(content) if scheme == _GROUPED_LZ4 else content


def _decompressed(packed: memoryview, size: int) -> bytes:
    """Never more than was announced: a small frame can unpack to gigabytes."""
    try:
        content: bytes = lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size + 1)
    except (RuntimeError, EOFError, ValueError) as error:
        raise RefusedError(f"a chunk cannot be unpacked: {error}", _REMEDY) from error
    return content


def _regrouped(grouped: bytes | memoryview) -> bytes:
    """Undo the grouping of first, second, third and fourth bytes, which packs floats better."""
    source = np.frombuffer(grouped, np.uint8)
    target = np.empty_like(source)
    at = 0
    for place in range(4):
        count = (len(source) - place + 3) // 4
        target[place::4] = source[at : at + count]
        at += count
    return target.tobytes()
