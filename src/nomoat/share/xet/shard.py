"""Shards: which chunks a xorb has, and of which parts of xorbs a file is made.

Source: the Xet protocol specification, "Shard format" (header version 2, footer version 1). What clients send has no
footer; what is sent to them has one, with tables to look things up.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nomoat.share.errors import RefusedError
from nomoat.share.xet.hashes import Chunk
from nomoat.share.xet.xorb import MOST_CHUNK_BYTES, MOST_CHUNKS

__all__ = ["MOST_SHARD_BYTES", "FilePart", "Shard", "ShardFile", "ShardXorb", "read_shard", "write_shard"]

MOST_SHARD_BYTES = 64 << 20
_TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_HEADER = struct.Struct("<32sQQ")
_VERSION, _FOOTER_VERSION = 2, 1
_FOOTER_BYTES = 200
_ENTRY = struct.Struct("<32sIIII")
_END = b"\xff" * 32
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30
_REMEDY = "send it again, with a newer client"


@dataclass(frozen=True)
class FilePart:
    """Chunks `start` to `end` (exclusive) of a xorb, as a part of a file. `proof` is the range hash of the chunks."""

    xorb: bytes
    size_bytes: int
    start: int
    end: int
    proof: bytes


@dataclass(frozen=True)
class ShardFile:
    """A file, in parts. `digest` is `sha256:<hex>`, or None where the client does not say."""

    hash: bytes
    parts: tuple[FilePart, ...]
    digest: str | None


@dataclass(frozen=True)
class ShardXorb:
    """A xorb, by its chunks."""

    hash: bytes
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Shard:
    """What a shard says."""

    files: tuple[ShardFile, ...]
    xorbs: tuple[ShardXorb, ...]


def read_shard(data: bytes) -> Shard:
    """Read a shard from its beginning to the second end mark. Raises `RefusedError`, naming the byte."""
    if len(data) > MOST_SHARD_BYTES:
        raise RefusedError(f"the shard has {len(data):,} bytes, more than {MOST_SHARD_BYTES:,}", "divide it")
    cursor = _Cursor(data)
    tag, version = cursor.header()
    if tag != _TAG or version != _VERSION:
        raise RefusedError("byte 0: this is no shard of version 2", _REMEDY)
    files = []
    while (file := _file(cursor)) is not None:
        files.append(file)
    xorbs = []
    while (xorb := _xorb(cursor)) is not None:
        xorbs.append(xorb)
    return Shard(tuple(files), tuple(xorbs))


def write_shard(xorbs: Sequence[ShardXorb]) -> bytes:
    """A shard that tells a client of xorbs which the server has."""
    header = _HEADER.pack(_TAG, _VERSION, _FOOTER_BYTES)
    files = _ENTRY.pack(_END, 0, 0, 0, 0)
    sections, xorb_table, chunk_table, entries = [], [], [], 0
    for xorb in xorbs:
        xorb_table.append((xorb.hash[:8], entries))
        for place, chunk in enumerate(xorb.chunks):
            chunk_table.append((chunk.hash[:8], entries, place))
        sections.append(_packed_xorb(xorb))
        entries += 1 + len(xorb.chunks)
    sections.append(_ENTRY.pack(_END, 0, 0, 0, 0))
    content = b"".join(sections)
    lookup = b"".join(key + struct.pack("<I", at) for key, at in sorted(xorb_table, key=_number))
    chunks = b"".join(
        key + struct.pack("<II", at, place) for key, at, place in sorted(chunk_table, key=_number)
    )
    begin = len(header) + len(files)
    tables = begin + len(content)
    size = sum(chunk.size_bytes for xorb in xorbs for chunk in xorb.chunks)
    footer = struct.pack(
        "<9Q32s2Q48s4Q", _FOOTER_VERSION, len(header), begin, tables, 0, tables, len(xorb_table), tables + len(lookup),
        len(chunk_table), bytes(32), int(time.time()), (1 << 64) - 1, bytes(48), size, 0, size,
        tables + len(lookup) + len(chunks),
    )  # fmt: skip
    return header + files + content + lookup + chunks + footer


def _number(row: tuple[bytes, int] | tuple[bytes, int, int]) -> tuple[int, ...]:
    return (int.from_bytes(row[0], "little"), *row[1:])


def _packed_xorb(xorb: ShardXorb) -> bytes:
    size = sum(chunk.size_bytes for chunk in xorb.chunks)
    parts, at = [_ENTRY.pack(xorb.hash, 0, len(xorb.chunks), size, size)], 0
    for chunk in xorb.chunks:
        parts.append(_ENTRY.pack(chunk.hash, at, chunk.size_bytes, 0, 0))
        at += chunk.size_bytes
    return b"".join(parts)


class _Cursor:
    """Where reading has come to."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def header(self) -> tuple[bytes, int]:
        """Tag and version."""
        tag, version, _ = self._unpacked(_HEADER)
        return tag, version

    def entry(self) -> tuple[bytes, int, int, int, int]:
        """32 bytes and four numbers."""
        hash, a, b, c, d = self._unpacked(_ENTRY)
        return hash, a, b, c, d

    def require(self, rows: int) -> None:
        """Raise where so many rows cannot follow: before anything of their size is made."""
        if rows * _ENTRY.size > len(self._data) - self._at:
            raise RefusedError(
                f"byte {self._at:,}: {rows:,} rows are announced, and the shard ends before", _REMEDY
            )

    def _unpacked(self, kind: struct.Struct) -> tuple[Any, ...]:
        try:
            values = kind.unpack_from(self._data, self._at)
        except struct.error as error:
            raise RefusedError(f"byte {self._at:,}: the shard ends in the middle", _REMEDY) from error
        self._at += kind.size
        return values


def _file(cursor: _Cursor) -> ShardFile | None:
    hash, flags, count, _, _ = cursor.entry()
    if hash == _END:
        return None
    if not flags & _VERIFIED:
        raise RefusedError("a file of the shard has no verification hashes", _REMEDY)
    cursor.require(2 * count + bool(flags & _WITH_SHA256))
    parts = [cursor.entry() for _ in range(count)]
    proofs = [cursor.entry()[0] for _ in range(count)]
    digest = None
    if flags & _WITH_SHA256:
        swapped = cursor.entry()[0]  # four numbers whose bytes lie the other way round
        digest = "sha256:" + "".join(swapped[at : at + 8][::-1].hex() for at in range(0, 32, 8))
    return ShardFile(
        hash,
        tuple(FilePart(xorb, size, start, end, proof)
              for (xorb, _, size, start, end), proof in zip(parts, proofs, strict=True)),
        digest,
    )  # fmt: skip


def _xorb(cursor: _Cursor) -> ShardXorb | None:
    hash, _, count, size, _ = cursor.entry()
    if hash == _END:
        return None
    if count > MOST_CHUNKS:
        raise RefusedError(f"a xorb of the shard has {count:,} chunks, more than {MOST_CHUNKS:,}", _REMEDY)
    cursor.require(count)
    chunks, at = [], 0
    for _ in range(count):
        chunk, start, length, _, _ = cursor.entry()
        if start != at or not 0 < length <= MOST_CHUNK_BYTES:
            raise RefusedError("the chunks of a xorb in the shard do not follow each other", _REMEDY)
        chunks.append(Chunk(chunk, length))
        at += length
    if at != size:
        raise RefusedError(f"a xorb of the shard has {at:,} bytes where {size:,} are announced", _REMEDY)
    return ShardXorb(hash, tuple(chunks))
