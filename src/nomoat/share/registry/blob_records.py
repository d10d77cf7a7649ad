"""What the registry knows of each blob: that it is there, since when, and what inspection found in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, delete, func, select, update

from nomoat.base.errors import NotFoundError, OverloadedError
from nomoat.share.blobs.store import BlobInfo, BlobStore, Incoming
from nomoat.share.errors import DamagedBlobError, RefusedError, TakenDownError
from nomoat.share.names import check_digest
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.schema import blobs, repo_blobs, repos, tombstones, users
from nomoat.share.xet.scopes import end_all_scopes

__all__ = ["BlobRecords"]

_AT_ONCE = 500  # digests asked for in one statement


class BlobRecords:
    """Blobs with their records: a blob without one is garbage, a record without a blob is never made."""

    def __init__(self, database: Database, store: BlobStore, default_quota_bytes: int | None = None) -> None:
        self._database, self.store, self._default_quota = database, store, default_quota_bytes

    @contextmanager
    def incoming(self) -> Iterator[tuple[Incoming, Callable[..., BlobInfo]]]:
        """`(incoming, finish)`: write to the first; `finish(digest, size_bytes)` keeps and records it."""
        with self.store.incoming() as incoming:

            def finish(digest: str | None = None, size_bytes: int | None = None) -> BlobInfo:
                info = incoming.finish(digest, size_bytes)
                self.record(info)
                return info

            yield incoming, finish

    def adopt(self, path: Path, digest: str, sums: bytes) -> BlobInfo:
        """Keep and record a file that is on the disk already (see `BlobStore.adopt`)."""
        info = self.store.adopt(path, digest, sums)
        self.record(info)
        return info

    def add(self, content: bytes) -> BlobInfo:
        """Store a small content at once."""
        with self.incoming() as (incoming, finish):
            incoming.write(content)
            return finish()

    @contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        """A seekable reader that verifies what it reads; a blob that turns out damaged, or gone, is marked.

        Raises `NotFoundError`; reading raises `DamagedBlobError`.
        """
        began = now_ms()
        try:
            reader = self.store.open(digest)
        except (NotFoundError, DamagedBlobError):
            self.mark_damaged(digest, began)
            raise
        with reader:
            try:
                yield reader
            except DamagedBlobError:
                self.mark_damaged(digest, began)
                raise

    def record(self, info: BlobInfo) -> None:
        """The blob is there, from now on for at least the grace period of garbage collection.

        Raises `OverloadedError` where that took the blob in this very moment.
        """
        row = {"digest": info.digest, "size_bytes": info.size_bytes, "created_ms": now_ms()}
        with self._database.write() as connection:
            if not connection.execute(self._database.insert_missing(blobs).values(row)).rowcount:
                connection.execute(
                    update(blobs)
                    .where(blobs.c.digest == info.digest)
                    .values(created_ms=now_ms(), damaged=False)
                )
            try:
                self.store.open(info.digest).close()  # its checksums could be missing, too
            except (NotFoundError, DamagedBlobError) as error:
                raise OverloadedError(
                    f"{info.digest} was cleared away while it was written", "send it again"
                ) from error

    def known(self, digest: str) -> BlobInfo | None:
        """The blob of that digest where it is recorded and there, and not known to be damaged.

        So whoever sends a file again, of which the hub has a damaged one, is asked for its bytes.
        """
        whole = (blobs.c.digest == check_digest(digest), ~blobs.c.damaged)
        with self._database.read() as connection:
            recorded = connection.scalar(select(blobs.c.digest).where(*whole))
        return self.store.info(digest) if recorded else None

    def require(self, connection: Connection, digest: str, size_bytes: int) -> None:
        """Raise `RefusedError` where no blob of that digest and size is recorded; keep it from garbage collection."""
        _require_not_buried(connection, digest)
        where = (blobs.c.digest == check_digest(digest), blobs.c.size_bytes == size_bytes)
        if not connection.execute(update(blobs).where(*where).values(created_ms=now_ms())).rowcount:
            raise RefusedError(
                f"{digest} ({size_bytes:,} bytes) was never sent", "upload the file before the commit"
            )

    def facts(self, digest: str) -> dict[str, Any] | None:
        """What inspection found; None where it was not inspected."""
        with self._database.read() as connection:
            return connection.scalar(select(blobs.c.facts).where(blobs.c.digest == digest))

    def facts_of(self, digests: Collection[str]) -> dict[str, dict[str, Any]]:
        """What inspection found in each of `digests`; those that were not inspected are left out."""
        found: dict[str, dict[str, Any]] = {}
        wanted = list(digests)
        with self._database.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                rows = connection.execute(
                    select(blobs.c.digest, blobs.c.facts).where(blobs.c.digest.in_(part))
                )
                found |= {row.digest: row.facts for row in rows if row.facts}
        return found

    def set_facts(self, digest: str, facts: dict[str, Any]) -> None:
        """Keep what inspection found."""
        with self._database.write() as connection:
            connection.execute(update(blobs).where(blobs.c.digest == digest).values(facts=facts))

    def mark_damaged(self, digest: str, read_ms: int) -> None:
        """Its bytes, of which reading began at `read_ms` (Unix time, milliseconds), are not those that were stored.

        Whoever sends them is asked for them from now on, clients of Xet included, which remember what they sent.
        What was sent again since `read_ms` is not marked: it took the place of what was read.
        """
        whole = (blobs.c.digest == digest, ~blobs.c.damaged, blobs.c.created_ms <= read_ms)
        with self._database.write() as connection:
            if connection.execute(update(blobs).where(*whole).values(damaged=True)).rowcount:
                end_all_scopes(connection)

    def damaged_among(self, digests: Collection[str]) -> set[str]:
        """Those of `digests` that are known to be damaged."""
        found: set[str] = set()
        wanted = list(digests)
        with self._database.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                part = blobs.c.digest.in_(wanted[start : start + _AT_ONCE])
                found.update(connection.scalars(select(blobs.c.digest).where(part, blobs.c.damaged)))
        return found

    def quota_left(self, connection: Connection, owner_id: int) -> int | None:
        """Bytes that an account may still store, all versions counted, each content once; None without a limit."""
        own = connection.scalar(select(users.c.quota_bytes).where(users.c.id == owner_id))
        quota = self._default_quota if own is None else own
        if quota is None:
            return None
        own_blobs = select(repo_blobs.c.digest).join(repos, repos.c.id == repo_blobs.c.repo_id)
        held = own_blobs.where(repos.c.owner_id == owner_id)
        used = connection.scalar(select(func.sum(blobs.c.size_bytes)).where(blobs.c.digest.in_(held))) or 0
        return quota - int(used)


def _require_not_buried(connection: Connection, digest: str) -> None:
    """A blob that went with its only repository comes back with a new one; one that was taken down itself does not."""
    where = tombstones.c.target == digest
    signed = select(tombstones.c.reason).where(where, tombstones.c.signature != "").limit(1)
    reason = connection.scalar(signed)
    if reason is not None:
        raise TakenDownError(
            f"{digest} was taken down: {reason}", "leave this file out, or ask the hub's admin"
        )
    connection.execute(delete(tombstones).where(where))
