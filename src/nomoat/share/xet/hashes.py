"""Xet's hashes: keyed BLAKE3 of chunks, a tree over them for xorbs and files. All are 32 bytes.

Source: the Xet protocol specification, "Hashing". A keyed hash cannot be mistaken for one with another meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import blake3

from nomoat.base.errors import InputError

__all__ = [
    "Chunk",
    "chunk_hash",
    "file_hash",
    "from_text",
    "is_asked_for",
    "range_hash",
    "to_text",
    "xorb_hash",
]

_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_NO_SALT = bytes(32)
_BRANCHES = 4  # children of a node, on average; at least 2, at most 9
_ASKED_EVERY = 1024
_TEXT = re.compile(r"[0-9a-f]{64}")


class Chunk(NamedTuple):
    """A chunk, or a node of the tree over them: its hash and how many bytes of content it stands for."""

    hash: bytes
    size_bytes: int


def chunk_hash(content: bytes | memoryview) -> bytes:
    """Hash of a chunk's content."""
    return blake3.blake3(content, key=_CHUNK_KEY).digest()


def xorb_hash(chunks: Sequence[Chunk]) -> bytes:
    """Hash of a xorb by its chunks; 32 zeros for none."""
    if not chunks:
        return _NO_SALT
    level = list(chunks)
    while len(level) > 1:
        level = _merged(level)
    return level[0].hash


def file_hash(chunks: Sequence[Chunk]) -> bytes:
    """Hash of a file by its chunks; 32 zeros for an empty one."""
    return blake3.blake3(xorb_hash(chunks), key=_NO_SALT).digest() if chunks else _NO_SALT


def range_hash(hashes: Sequence[bytes]) -> bytes:
    """By which a client shows that it has the chunks of a part of a file."""
    return blake3.blake3(b"".join(hashes), key=_RANGE_KEY).digest()


def is_asked_for(hash: bytes) -> bool:
    """Whether clients ask a server for this chunk: for one of 1,024."""
    return int.from_bytes(hash[24:], "little") % _ASKED_EVERY == 0


def to_text(hash: bytes) -> str:
    """A hash as the protocol writes it: four little-endian numbers of 64 bits, each in hexadecimal."""
    return "".join(hash[at : at + 8][::-1].hex() for at in range(0, 32, 8))


def from_text(text: str) -> bytes:
    """The hash that `text` writes. Raises `InputError`."""
    if not _TEXT.fullmatch(text):
        raise InputError(f"{text[:80]!r} is no hash", "a hash is 64 hexadecimal digits")
    return b"".join(bytes.fromhex(text[at : at + 16])[::-1] for at in range(0, 64, 16))


def _merged(level: list[Chunk]) -> list[Chunk]:
    """The nodes above a level."""
    above, start = [], 0
    while start < len(level):
        end = start + _cut(level[start : start + 2 * _BRANCHES + 1])
        above.append(_node(level[start:end]))
        start = end
    return above


def _cut(nodes: list[Chunk]) -> int:
    """How many of the next nodes get one parent: up to the first, from the third on, whose hash says so."""
    for place, node in enumerate(nodes[2:], 2):
        if int.from_bytes(node.hash[24:], "little") % _BRANCHES == 0:
            return place + 1
    return len(nodes)


def _node(children: list[Chunk]) -> Chunk:
    text = "".join(f"{to_text(child.hash)} : {child.size_bytes}\n" for child in children)
    return Chunk(
        blake3.blake3(text.encode(), key=_NODE_KEY).digest(), sum(child.size_bytes for child in children)
    )
