"""Patches: a file told as blocks of one that is there already, and the bytes between them.

`nmpatch1`, then entries of 17 bytes, little-endian: `c`, offset and length of bytes to copy from the older file; or
`d`, 0 and a length, and so many bytes behind it. What comes out is verified by its digest, whatever the patch says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nomoat.share.blobs.store import BLOCK_BYTES
from nomoat.share.errors import RefusedError

__all__ = [
    "MOST_SMALL_BYTES",
    "MOST_SMALL_ENTRIES",
    "PATCH",
    "SMALL_BLOCK_BYTES",
    "Copied",
    "Literal",
    "Patching",
    "most_patch_bytes",
    "patch_bytes",
    "write_patch",
]

PATCH = "nomoat-patch"
"""By this name clients say that they send patches, and a hub where to."""

SMALL_BLOCK_BYTES = 4 << 10
"""Where a block differs, what differs in it is found by blocks of this size."""
MOST_SMALL_BYTES, MOST_SMALL_ENTRIES = 16 << 20, 2048
_MOST_OFFSET = 1 << 62
_MAGIC = b"nmpatch1"
_ENTRY = struct.Struct("<cQQ")
_COPY, _DATA = b"c", b"d"
_READ_BYTES = 1 << 20
_REMEDY = "send the whole file instead"


@dataclass(frozen=True)
class Copied:
    """Bytes `offset` to `offset + size_bytes` of the older file."""

    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Literal:
    """Bytes of the newer file, from `start` on."""

    start: int
    size_bytes: int


def patch_bytes(entries: list[Copied | Literal]) -> int:
    """How many bytes the patch has."""
    data = sum(entry.size_bytes for entry in entries if isinstance(entry, Literal))
    return len(_MAGIC) + _ENTRY.size * len(entries) + data


def most_patch_bytes(size_bytes: int) -> int:
    """More than this no patch has that makes a file of so many bytes."""
    return len(_MAGIC) + _ENTRY.size * _most_entries(size_bytes) + size_bytes


def write_patch(entries: list[Copied | Literal], newer: BinaryIO) -> Iterator[bytes]:
    """The patch in pieces. Raises `RefusedError` where `newer` is shorter than it was."""
    yield _MAGIC
    for entry in entries:
        if isinstance(entry, Copied):
            yield _ENTRY.pack(_COPY, entry.offset, entry.size_bytes)
            continue
        yield _ENTRY.pack(_DATA, 0, entry.size_bytes)
        newer.seek(entry.start)
        yield from _parts(newer, entry.size_bytes)


class Patching:
    """Applies a patch as it comes: what it makes of `older` goes to `write`.

    Copies shorter than a block would cost more to make than to send, so there may be few of them. Raises
    `RefusedError` for what cannot be, before more than `most_bytes` are made.
    """

    def __init__(
        self, older: BinaryIO, write: Callable[[bytes | memoryview], object], most_bytes: int
    ) -> None:
        self._older, self._write = older, write
        self._room, self._entries = most_bytes, _most_entries(most_bytes)
        self._wanted, self._head, self._data = len(_MAGIC), bytearray(), 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the bytes that follow."""
        view = memoryview(data)
        while view:
            if self._data:
                part, view = view[: self._data], view[self._data :]
                self._write(part)
                self._data -= len(part)
                continue
            missing = self._wanted - len(self._head)
            self._head += view[:missing]
            view = view[missing:]
            if len(self._head) == self._wanted:
                self._begin(bytes(self._head))

    def finish(self) -> None:
        """Nothing follows."""
        if self._data or self._head or self._wanted != _ENTRY.size:
            raise RefusedError("the patch ends in the middle", _REMEDY)

    def _begin(self, head: bytes) -> None:
        self._head.clear()
        if self._wanted == len(_MAGIC):
            if head != _MAGIC:
                raise RefusedError("this is no patch", _REMEDY)
            self._wanted = _ENTRY.size
            return
        kind, offset, size = _ENTRY.unpack(head)
        self._room -= size
        self._entries -= 1
        if (
            kind not in {_COPY, _DATA}
            or size == 0
            or offset > _MOST_OFFSET
            or self._room < 0
            or self._entries < 0
        ):
            raise RefusedError("the patch has an entry that cannot be", _REMEDY)
        if kind == _DATA:
            self._data = size
            return
        self._older.seek(offset)
        for part in _parts(self._older, size):
            self._write(part)


def _most_entries(size_bytes: int) -> int:
    return 2 * (size_bytes // BLOCK_BYTES + 2) + MOST_SMALL_ENTRIES


def _parts(source: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        part = source.read(min(size, _READ_BYTES))
        if not part:
            raise RefusedError("the patch takes bytes behind the end of a file", _REMEDY)
        size -= len(part)
        yield part
