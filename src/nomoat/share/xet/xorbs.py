"""Where the chunks of known xorbs are: unpacked as they came, later inside the whole files made of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from nomoat.share.blobs.store import BlobInfo, BlobStore
from nomoat.share.errors import RefusedError
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.claims import Claims
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.schema import xet_chunks, xet_segments, xet_xorbs
from nomoat.share.xet.hashes import Chunk, from_text, to_text

__all__ = ["KnownXorb", "Place", "Xorbs"]

_ROW = struct.Struct("<32sI")
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """Chunks `start` to `end` of a xorb lie in the blob `digest` from `offset` on."""

    start: int
    end: int
    digest: str
    offset: int


@dataclass(frozen=True)
class KnownXorb:
    """A xorb whose chunks were once sent, and the blobs that hold them now."""

    hash: bytes
    chunks: tuple[Chunk, ...]
    places: tuple[Place, ...]

    def size_of(self, start: int, end: int) -> int:
        """Bytes of chunks `start` to `end`."""
        return sum(chunk.size_bytes for chunk in self.chunks[start:end])


class Xorbs:
    """The xorbs of a registry."""

    def __init__(self, database: Database, store: BlobStore, claims: Claims) -> None:
        self._database, self._store, self._claims = database, store, claims

    def add(self, hash: bytes, chunks: list[Chunk], content: BlobInfo) -> bool:
        """Remember a xorb whose unpacked content is a blob now; returns whether it was new."""
        table = b"".join(_ROW.pack(*chunk) for chunk in chunks)
        row = {"hash": to_text(hash), "chunks": table, "digest": content.digest, "created_ms": now_ms()}
        with self._database.write() as connection:
            known = connection.scalar(select(xet_xorbs.c.digest).where(xet_xorbs.c.hash == row["hash"]))
            connection.execute(delete(xet_xorbs).where(xet_xorbs.c.hash == row["hash"]))
            connection.execute(insert(xet_xorbs).values(row))
        return known is None

    def find(self, who: Identity, hash: bytes) -> KnownXorb | None:
        """The xorb with the places that `who` may use, or None where there is no such xorb or place."""
        with self._database.read() as connection:
            row = connection.execute(select(xet_xorbs).where(xet_xorbs.c.hash == to_text(hash))).first()
            if row is None:
                return None
            chunks = tuple(Chunk(*each) for each in _ROW.iter_unpack(row.chunks))
            places = [Place(0, len(chunks), row.digest, 0), *_places(connection, hash)]
        held = {digest: self._claims.held(who, digest) for digest in {place.digest for place in places}}
        usable = tuple(place for place in places if held[place.digest] is not None)
        return KnownXorb(hash, chunks, usable) if usable else None

    def with_chunk(self, who: Identity, chunk: bytes) -> KnownXorb | None:
        """A xorb with this chunk, all of which `who` may use."""
        with self._database.read() as connection:
            text = connection.scalar(select(xet_chunks.c.xorb).where(xet_chunks.c.hash == to_text(chunk)))
        xorb = self.find(who, from_text(text)) if text else None
        return xorb if xorb is not None and _covers(xorb, 0, len(xorb.chunks)) else None

    def read(self, xorb: KnownXorb, start: int, end: int) -> Iterator[bytes]:
        """The content of chunks `start` to `end`. Raises `RefusedError` where some are no longer here."""
        at = start
        while at < end:
            place = max((place for place in xorb.places if place.start <= at < place.end),
                        key=lambda place: place.end, default=None)  # fmt: skip
            if place is None:
                raise RefusedError(
                    f"chunk {at} of the xorb {to_text(xorb.hash)} is no longer here", "send it again"
                )
            last = min(end, place.end)
            yield from self._bytes(
                place.digest, place.offset + xorb.size_of(place.start, at), xorb.size_of(at, last)
            )
            at = last

    def place(self, connection: Connection, hash: bytes, place: Place) -> None:
        """Remember that a whole file holds a part of the xorb."""
        row = {"xorb": to_text(hash), "first_chunk": place.start, "end_chunk": place.end, "digest": place.digest,
               "offset_bytes": place.offset}  # fmt: skip
        connection.execute(self._database.insert_missing(xet_segments).values(row))

    def offer(self, connection: Connection, chunk: bytes, xorb: bytes) -> None:
        """Let clients find the xorb by this chunk."""
        row = {"hash": to_text(chunk), "xorb": to_text(xorb)}
        connection.execute(delete(xet_chunks).where(xet_chunks.c.hash == row["hash"]))
        connection.execute(insert(xet_chunks).values(row))

    def _bytes(self, digest: str, offset: int, size: int) -> Iterator[bytes]:
        with self._store.open(digest) as reader:
            reader.seek(offset)
            while size > 0:
                part = reader.read(min(size, _READ_BYTES))
                if not part:
                    raise RefusedError(f"{digest} is shorter than it was", "send the file again")
                size -= len(part)
                yield part


def _places(connection: Connection, hash: bytes) -> list[Place]:
    rows = connection.execute(select(xet_segments).where(xet_segments.c.xorb == to_text(hash)))
    return [Place(row.first_chunk, row.end_chunk, row.digest, row.offset_bytes) for row in rows]


def _covers(xorb: KnownXorb, start: int, end: int) -> bool:
    at = start
    while at < end:
        reached = max((place.end for place in xorb.places if place.start <= at < place.end), default=at)
        if reached == at:
            return False
        at = reached
    return True
