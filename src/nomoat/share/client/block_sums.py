"""The checksums that a hub keeps of each block of a file: what of it somebody has already shows by them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import blake3

from nomoat.base.errors import NomoatError
from nomoat.share.client.connection import Connection
from nomoat.share.client.remote import RemoteFile

__all__ = ["BlockSums", "block_sums"]

_SUM_BYTES = 32


@dataclass(frozen=True)
class BlockSums:
    """BLAKE3 of each block of a file of `size_bytes`."""

    sums: bytes
    block_bytes: int
    size_bytes: int

    def __len__(self) -> int:
        return len(self.sums) // _SUM_BYTES

    def span(self, block: int) -> tuple[int, int]:
        """Where a block begins and ends."""
        return block * self.block_bytes, min((block + 1) * self.block_bytes, self.size_bytes)

    def fits(self, block: int, content: bytes) -> bool:
        """Whether this is the block's content."""
        return blake3.blake3(content).digest() == self.sums[block * _SUM_BYTES : (block + 1) * _SUM_BYTES]


def block_sums(
    connection: Connection, file: RemoteFile, span: tuple[int, int] | None = None
) -> BlockSums | None:
    """The checksums of a large file on the hub, or of the smaller blocks in a part of it; None where it has none."""
    if file.digest is None:
        return None
    size = file.size_bytes if span is None else span[1] - span[0]
    params = None if span is None else {"start": span[0], "end": span[1]}
    address = f"/api/nomoat/blobs/{quote(file.digest)}/sums"
    try:
        with connection.stream("GET", address, params=params) as answer:
            block_bytes = int(answer.headers.get("X-Block-Bytes", "0"))
            expected = -(-size // block_bytes) * _SUM_BYTES if block_bytes > 0 else 0
            sums = bytearray()
            for chunk in answer.iter_raw():
                sums += chunk
                if len(sums) > expected:
                    return None
    except (NomoatError, ValueError):
        return None
    return BlockSums(bytes(sums), block_bytes, size) if sums and len(sums) == expected else None
