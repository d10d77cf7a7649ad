"""Xorbs and shards on their way in: every hash is computed again, and files become whole blobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, select

from nomoat.share.blobs.store import BlobInfo
from nomoat.share.errors import RefusedError
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.schema import blobs, repo_blobs, xet_files, xet_segments
from nomoat.share.xet.chunk_index import index_of
from nomoat.share.xet.hashes import Chunk, file_hash, is_asked_for, range_hash, to_text, xorb_hash
from nomoat.share.xet.runs import RUNS_FOLDER, Run, Runs
from nomoat.share.xet.scopes import end_scope
from nomoat.share.xet.shard import FilePart, Shard, ShardFile, read_shard
from nomoat.share.xet.xorb import MOST_CHUNKS, MOST_XORB_BYTES, Xorb
from nomoat.share.xet.xorbs import KnownXorb, Place, Xorbs

__all__ = ["Intake"]

_LEAST_INDEXED_BYTES, _MOST_INDEXED = 1 << 20, 8


class Intake:
    """Takes what clients of Xet send. There is one for a registry: it knows the runs that are still written to."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._runs = Runs(registry.config.root / RUNS_FOLDER)
        self.xorbs = Xorbs(registry.database, registry.blobs, registry.claims, self._runs)

    def take_xorb(self, who: Identity, repo_id: int, hash: bytes, xorb: Xorb) -> bool:
        """Keep a xorb until a shard says which files it is a part of; returns whether it was new.

        It survives the end of the process, not that of the machine: only what was made a file does.
        """
        place = self._runs.append((who.user_id, repo_id), hash, xorb)
        return self.xorbs.add(who.user_id, hash, xorb.chunks, place)

    def take_shard(self, who: Identity, repo_id: int, data: bytes) -> int:
        """Make the files of a shard; returns how many. Raises `RefusedError` for the first that is not as it says."""
        shard = read_shard(data)
        known = self._known(who, shard)
        run = self._runs.take((who.user_id, repo_id))
        try:
            for file in shard.files:
                self._take_file(who, file, known, run)
        finally:
            if run is not None:
                run.close()
        if run is not None:
            self.xorbs.release(who, run)
        return len(shard.files)

    def index_files(self, repo_id: int) -> int:
        """Give chunks to the newest large files of a repository that came otherwise; returns how many files."""
        with self._registry.database.read() as connection:
            wanted = [digest for (digest,) in connection.execute(_without_chunks(repo_id))]
        for digest in wanted:
            self._index(digest)
        return len(wanted)

    def _index(self, digest: str) -> None:
        """The file as xorbs that nobody sent: they lie in it."""
        offset = 0
        for chunks in _as_xorbs(index_of(self._registry, digest)):
            hash = xorb_hash(chunks)
            with self._registry.database.write() as connection:
                self.xorbs.know(connection, hash, chunks)
                self.xorbs.place(connection, hash, Place(0, len(chunks), digest, offset))
                for chunk in _offered(chunks, first=offset == 0):
                    self.xorbs.offer(connection, chunk, hash)
            offset += sum(chunk.size_bytes for chunk in chunks)

    def _known(self, who: Identity, shard: Shard) -> dict[bytes, KnownXorb]:
        """The xorbs that the shard speaks of. All of them must be here, with the chunks that it says."""
        known: dict[bytes, KnownXorb] = {}
        for hash in {part.xorb for file in shard.files for part in file.parts} | {
            xorb.hash for xorb in shard.xorbs
        }:
            found = self.xorbs.find(who, hash)
            if found is None:
                with self._registry.database.write() as connection:
                    end_scope(connection, who.user_id)
                raise RefusedError(f"the xorb {to_text(hash)} was never sent",
                                   "send it before the shard, or push once more if it was sent long ago")  # fmt: skip
            known[hash] = found
        for xorb in shard.xorbs:
            if xorb.chunks != known[xorb.hash].chunks:
                raise RefusedError(f"the xorb {to_text(xorb.hash)} has other chunks", "send the shard again")
        return known

    def _take_file(
        self, who: Identity, file: ShardFile, known: dict[bytes, KnownXorb], run: Run | None
    ) -> None:
        chunks: list[Chunk] = []
        for part in file.parts:
            chunks += _chunks(known[part.xorb], part)
        if file_hash(chunks) != file.hash:
            raise RefusedError(
                f"the chunks are not those of the file {to_text(file.hash)}", "send the shard again"
            )
        info = self._registry.claims.held(who, file.digest) if file.digest else None
        if info is None:
            is_run = run is not None and run.xorbs == _whole_xorbs(file, known)
            info = self._adopted(file, run) if run is not None and is_run else self._whole(file, known)
            self._registry.claims.note_sent(who.user_id, info)
        self._remember(file, info, known)

    def _adopted(self, file: ShardFile, run: Run) -> BlobInfo:
        """The run is the file, and was digested when it was written."""
        digest, sums = run.flush()
        if file.digest not in {None, digest}:
            raise RefusedError(f"the bytes are {digest}, but {file.digest} was announced", "send it again")
        return self._registry.blobs.adopt(run.path, digest, sums)

    def _whole(self, file: ShardFile, known: dict[bytes, KnownXorb]) -> BlobInfo:
        size = sum(part.size_bytes for part in file.parts)
        with self._registry.blobs.incoming() as (incoming, finish):
            for part in file.parts:
                for content in self.xorbs.read(known[part.xorb], part.start, part.end):
                    incoming.write(content)
            return finish(file.digest, size)

    def _remember(self, file: ShardFile, info: BlobInfo, known: dict[bytes, KnownXorb]) -> None:
        """Where the chunks are now, and those by which other clients may find them."""
        database, offset = self._registry.database, 0
        with database.write() as connection:
            row = {"hash": to_text(file.hash), "digest": info.digest}
            connection.execute(database.insert_missing(xet_files).values(row))
            for place, part in enumerate(file.parts):
                self.xorbs.place(connection, part.xorb, Place(part.start, part.end, info.digest, offset))
                offset += part.size_bytes
                for chunk in _offered(known[part.xorb].chunks[part.start : part.end], first=place == 0):
                    self.xorbs.offer(connection, chunk, part.xorb)


def _without_chunks(repo_id: int) -> Select[Any]:
    known = select(xet_segments.c.digest).where(xet_segments.c.digest == blobs.c.digest).exists()
    query = select(blobs.c.digest).join(repo_blobs, repo_blobs.c.digest == blobs.c.digest)
    query = query.where(repo_blobs.c.repo_id == repo_id, blobs.c.size_bytes >= _LEAST_INDEXED_BYTES, ~known)
    return query.order_by(blobs.c.created_ms.desc()).limit(_MOST_INDEXED)


def _as_xorbs(chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    start, size = 0, 0
    for place, chunk in enumerate(chunks):
        if size + chunk.size_bytes > MOST_XORB_BYTES or place - start == MOST_CHUNKS:
            yield chunks[start:place]
            start, size = place, 0
        size += chunk.size_bytes
    yield chunks[start:]


def _chunks(xorb: KnownXorb, part: FilePart) -> Sequence[Chunk]:
    """The chunks of a part, which must be as the shard says."""
    chunks = xorb.chunks[part.start : part.end]
    if not 0 <= part.start < part.end <= len(xorb.chunks):
        raise RefusedError(
            f"the xorb {to_text(xorb.hash)} has no chunks {part.start} to {part.end}", "send it again"
        )
    if sum(chunk.size_bytes for chunk in chunks) != part.size_bytes:
        raise RefusedError("a part of a file has another size than its chunks", "send the shard again")
    if range_hash([chunk.hash for chunk in chunks]) != part.proof:
        raise RefusedError("a part of a file is not proven by its chunks", "send the shard again")
    return chunks


def _whole_xorbs(file: ShardFile, known: dict[bytes, KnownXorb]) -> list[bytes] | None:
    """The xorbs that the file is made of, one behind the other; None where it has only a part of one."""
    whole = all(part.start == 0 and part.end == len(known[part.xorb].chunks) for part in file.parts)
    return [part.xorb for part in file.parts] if whole else None


def _offered(chunks: Sequence[Chunk], *, first: bool) -> list[bytes]:
    """Clients ask for the first chunk of a file, and for one of 1,024."""
    asked = [chunk.hash for chunk in chunks if is_asked_for(chunk.hash)]
    return [chunks[0].hash, *asked] if first else asked
