"""Xorbs, as clients of Xet send them."""

from __future__ import annotations

from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["nomoat"]):
    from nomoat.share.xet.hashes import Chunk, chunk_hash, xorb_hash
    from nomoat.share.xet.xorb import read_xorb

import lz4.frame
from harness import fuzz


def read(data: bytes) -> None:
    """The first 32 bytes are the hash in its address."""
    xorb = read_xorb(data[32:], data[:32])
    assert [chunk.size_bytes for chunk in xorb.chunks] == [len(piece) for piece in xorb.pieces]


def seeds() -> Iterator[bytes]:
    """Chunks packed in each of the ways."""
    parts = (b"plain" * 9, 0), (b"packed" * 500, 1), (bytes(range(256)) * 4, 2)
    for some in (parts, parts[:1], parts[1:2], parts[2:]):
        chunks = [Chunk(chunk_hash(_content(content, scheme)), len(content)) for content, scheme in some]
        yield xorb_hash(chunks) + b"".join(_packed(content, scheme) for content, scheme in some)


def _content(content: bytes, scheme: int) -> bytes:
    """What a chunk unpacks to: `content` itself, or where it is grouped, the text whose grouping it is."""
    if scheme != 2:
        return content
    found, at = bytearray(len(content)), 0
    for place in range(4):
        count = len(found[place::4])
        found[place::4] = content[at : at + count]
        at += count
    return bytes(found)


def _packed(content: bytes, scheme: int) -> bytes:
    body = lz4.frame.compress(content) if scheme else content
    head = b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + len(content).to_bytes(3, "little")
    return head + body


if __name__ == "__main__":
    fuzz(read, seeds())
