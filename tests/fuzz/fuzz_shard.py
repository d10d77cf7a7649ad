"""Shards, as clients of Xet send them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["nomoat"]):
    from nomoat.share.xet.hashes import Chunk, chunk_hash, range_hash, xorb_hash
    from nomoat.share.xet.shard import ShardXorb, read_shard, write_shard

from harness import fuzz

_HEADER_BYTES, _END = 48, b"\xff" * 32 + bytes(16)


def read(data: bytes) -> None:
    """Whatever is read has no more rows than the bytes can hold."""
    shard = read_shard(data)
    rows = sum(len(file.parts) for file in shard.files) + sum(len(xorb.chunks) for xorb in shard.xorbs)
    assert rows * 48 <= len(data)


def seeds() -> Iterator[bytes]:
    """A shard of a xorb, and one of a file that is made of it."""
    chunks = tuple(Chunk(chunk_hash(bytes([number])), 9000) for number in range(3))
    xorb = ShardXorb(xorb_hash(chunks), chunks)
    known = write_shard([xorb])
    yield known
    part = struct.pack("<32sIIII", xorb.hash, 0, 27000, 0, 3)
    proof = range_hash([chunk.hash for chunk in chunks]) + bytes(16)
    file = struct.pack("<32sIIII", xorb.hash, 3 << 30, 1, 0, 0) + part + proof + bytes(48)
    yield known[:_HEADER_BYTES] + file + _END + known[_HEADER_BYTES + 48 :]


if __name__ == "__main__":
    fuzz(read, seeds())
