"""Where the chunks of known xorbs are: in runs as they came, later inside the whole files made of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select

from nomoat.share.errors import RefusedError
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.blob_records import BlobRecords
from nomoat.share.registry.claims import Claims
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.schema import xet_chunks, xet_segments, xet_sent, xet_xorbs
from nomoat.share.xet.hashes import Chunk, chunk_hash, from_text, to_text
from nomoat.share.xet.runs import InRun, Run, Runs

__all__ = ["KnownXorb", "Place", "Xorbs"]

_ROW = struct.Struct("<32sI")
_READ_BYTES = 1 << 20
_MOST_BESIDE = 512  # about 32 GB of a file


@dataclass(frozen=True)
class Place:
    """Chunks `start` to `end` of a xorb lie in the blob `digest` from `offset` on."""

    start: int
    end: int
    digest: str
    offset: int


@dataclass(frozen=True)
class KnownXorb:
    """A xorb whose chunks were once sent, and what holds them now: blobs, or the run in which all of it came."""

    hash: bytes
    chunks: tuple[Chunk, ...]
    places: tuple[Place, ...]
    in_run: InRun | None = None

    def size_of(self, start: int, end: int) -> int:
        """Bytes of chunks `start` to `end`."""
        return sum(chunk.size_bytes for chunk in self.chunks[start:end])


class Xorbs:
    """The xorbs of a registry."""

    def __init__(self, database: Database, blobs: BlobRecords, claims: Claims, runs: Runs) -> None:
        self._database, self._blobs, self._claims, self._runs = database, blobs, claims, runs

    def add(self, user_id: int, hash: bytes, chunks: list[Chunk], place: InRun) -> bool:
        """Remember a xorb that somebody sent; returns whether it was new."""
        keys = {"xorb": to_text(hash), "user_id": user_id}
        sent = {**keys, "run": place.run, "offset_bytes": place.offset, "size_bytes": place.size_bytes,
                "created_ms": now_ms()}  # fmt: skip
        with self._database.write() as connection:
            new = self.know(connection, hash, chunks)
            connection.execute(delete(xet_sent).filter_by(**keys))
            connection.execute(insert(xet_sent).values(sent))
        return new

    def know(self, connection: Connection, hash: bytes, chunks: Sequence[Chunk]) -> bool:
        """Remember the chunks of a xorb; returns whether it was new."""
        table = b"".join(_ROW.pack(*chunk) for chunk in chunks)
        row = {"hash": to_text(hash), "chunks": table, "created_ms": now_ms()}
        return bool(connection.execute(self._database.insert_missing(xet_xorbs).values(row)).rowcount)

    def find(self, who: Identity, hash: bytes, held: dict[str, bool] | None = None) -> KnownXorb | None:
        """The xorb with the places that `who` may use, or None where there is no such xorb or place.

        `held` says which blobs that are, as far as it was asked before.
        """
        with self._database.read() as connection:
            row = connection.execute(select(xet_xorbs).where(xet_xorbs.c.hash == to_text(hash))).first()
            if row is None:
                return None
            chunks = tuple(Chunk(*each) for each in _ROW.iter_unpack(row.chunks))
            places, in_run = _places(connection, hash), _in_run(connection, hash, who.user_id)
        held = {} if held is None else held
        for digest in {place.digest for place in places} - held.keys():
            held[digest] = self._claims.held(who, digest) is not None
        usable = tuple(place for place in places if held[place.digest])
        if in_run is not None and not self._runs.holds(in_run):
            in_run = None
        return KnownXorb(hash, chunks, usable, in_run) if usable or in_run else None

    def with_chunk(self, who: Identity, chunk: bytes) -> list[KnownXorb]:
        """The xorb with this chunk, and the others of a file that has it; those of which `who` may use everything.

        Clients ask for few chunks. Who has one of a file most often has the rest of it, too.
        """
        with self._database.read() as connection:
            text = connection.scalar(select(xet_chunks.c.xorb).where(xet_chunks.c.hash == to_text(chunk)))
        held: dict[str, bool] = {}
        xorb = self.find(who, from_text(text), held) if text else None
        if xorb is None or not _covers(xorb, 0, len(xorb.chunks)):
            return []
        beside = [self.find(who, hash, held) for hash in self._beside(xorb)]
        return [xorb, *(each for each in beside if each is not None and _covers(each, 0, len(each.chunks)))]

    def _beside(self, xorb: KnownXorb) -> list[bytes]:
        """Other xorbs of the file in which most of this one lies."""
        if not xorb.places:
            return []
        digest = max(xorb.places, key=lambda place: place.end - place.start).digest
        query = select(xet_segments.c.xorb).where(xet_segments.c.digest == digest)
        with self._database.read() as connection:
            found = connection.scalars(query.order_by(xet_segments.c.offset_bytes).limit(_MOST_BESIDE))
            return [from_text(text) for text in dict.fromkeys(found) if text != to_text(xorb.hash)]

    def read(self, xorb: KnownXorb, start: int, end: int) -> Iterator[bytes]:
        """The content of chunks `start` to `end`. Raises `RefusedError` where some are no longer here."""
        if xorb.in_run is not None:
            yield from self._read_run(xorb, xorb.in_run, start, end)
            return
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

    def release(self, who: Identity, run: Run) -> None:
        """Delete a taken run if whole files have all that is in it; else garbage collection does, after its grace."""
        for hash in run.xorbs:
            xorb = self.find(who, hash)
            if xorb is not None and not _covers(replace(xorb, in_run=None), 0, len(xorb.chunks)):
                return
        with self._database.write() as connection:
            connection.execute(delete(xet_sent).where(xet_sent.c.run == run.path.name))
        run.path.unlink(missing_ok=True)

    def _read_run(self, xorb: KnownXorb, place: InRun, start: int, end: int) -> Iterator[bytes]:
        """Verified chunk by chunk, against the hashes by which the xorb is known."""
        try:
            with self._runs.path(place.run).open("rb") as handle:
                handle.seek(place.offset + xorb.size_of(0, start))
                for chunk in xorb.chunks[start:end]:
                    content = handle.read(chunk.size_bytes)
                    if chunk_hash(content) != chunk.hash:
                        raise RefusedError(f"the xorb {to_text(xorb.hash)} was damaged", "send it again")
                    yield content
        except FileNotFoundError as error:
            raise RefusedError(f"the xorb {to_text(xorb.hash)} is no longer here", "send it again") from error

    def _bytes(self, digest: str, offset: int, size: int) -> Iterator[bytes]:
        with self._blobs.open(digest) as reader:
            reader.seek(offset)
            while size > 0:
                part = reader.read(min(size, _READ_BYTES))
                if not part:
                    raise RefusedError(f"{digest} is shorter than it was", "send the file again")
                size -= len(part)
                yield part


def _in_run(connection: Connection, hash: bytes, user_id: int | None) -> InRun | None:
    where = (xet_sent.c.xorb == to_text(hash), xet_sent.c.user_id == user_id)
    row = connection.execute(select(xet_sent).where(*where)).first()
    return InRun(row.run, row.offset_bytes, row.size_bytes) if row else None


def _places(connection: Connection, hash: bytes) -> list[Place]:
    rows = connection.execute(select(xet_segments).where(xet_segments.c.xorb == to_text(hash)))
    return [Place(row.first_chunk, row.end_chunk, row.digest, row.offset_bytes) for row in rows]


def _covers(xorb: KnownXorb, start: int, end: int) -> bool:
    if xorb.in_run is not None:
        return True
    at = start
    while at < end:
        reached = max((place.end for place in xorb.places if place.start <= at < place.end), default=at)
        if reached == at:
            return False
        at = reached
    return True
