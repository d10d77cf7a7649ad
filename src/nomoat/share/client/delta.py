"""Takes from an older version of a file what the newer one still has, so that only the rest is fetched.

The hub tells the checksum of each block of the new file. Which bytes of the old one belong there is a guess: the
weights of two GGUF files lie at the same distance from each other, behind headers of different lengths. A block whose
checksum fits is taken; the digest of the whole file is compared in the end in any case.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import blake3

from nomoat.base.errors import NomoatError
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_parse import parse_header
from nomoat.share.client.block_sums import block_sums
from nomoat.share.client.connection import Connection
from nomoat.share.client.partial import PIECE_BYTES, PartialFile, PieceSum
from nomoat.share.client.ranges import RangeSource
from nomoat.share.client.remote import RemoteFile

__all__ = ["Older", "older_version"]

_SUM_BYTES = 32


@dataclass(frozen=True)
class Older:
    """An older version at `path`, and the checksums (BLAKE3) of the newer one's blocks."""

    path: Path
    sums: bytes
    block_bytes: int

    def take_over(self, partial: PartialFile, source: RangeSource) -> int:
        """Fill the pieces of the new file that the old one has.

        Its first piece is fetched, if it is not there; returns how many bytes that took.
        """
        fetched_bytes = 0 if partial.has(0) else _fetch_first(partial, source)
        shift = _shift(partial, self.path)
        with self.path.open("rb") as reader:
            for index in partial.missing():
                start, end = partial.span(index)
                if start < shift:
                    continue
                reader.seek(start - shift)
                content = reader.read(end - start)
                if len(content) == end - start and self._fits(start, content):
                    partial.write(start, content)
                    partial.finish(index, PieceSum(content).hexdigest())
        return fetched_bytes

    def _fits(self, start: int, content: bytes) -> bool:
        view, first = memoryview(content), start // self.block_bytes
        return all(
            blake3.blake3(view[at : at + self.block_bytes]).digest()
            == self._sum(first + at // self.block_bytes)
            for at in range(0, len(content), self.block_bytes)
        )

    def _sum(self, block: int) -> bytes:
        return self.sums[block * _SUM_BYTES : (block + 1) * _SUM_BYTES]


def older_version(connection: Connection, file: RemoteFile, path: Path) -> Older | None:
    """What to take from the file at `path` for `file`; None where the hub keeps no checksums of blocks."""
    if file.digest is None or file.size_bytes <= PIECE_BYTES:
        return None
    found = block_sums(connection, file)
    if found is None or PIECE_BYTES % found.block_bytes:
        return None
    return Older(path, found.sums, found.block_bytes)


def _fetch_first(partial: PartialFile, source: RangeSource) -> int:
    start, end = partial.span(0)
    content = bytearray()
    source.read(start, end, content.extend)
    partial.write(start, bytes(content))
    partial.finish(0, PieceSum(bytes(content)).hexdigest())
    return len(content)


def _shift(partial: PartialFile, older: Path) -> int:
    """By how much the weights of the new file lie further back; 0 where they are no GGUF files."""
    try:
        now = parse_header(partial.read(0), partial.file.size_bytes, partial.path)
        return now.data_offset - read_gguf(older).data_offset
    except (NomoatError, struct.error, IndexError, ValueError):
        return 0
